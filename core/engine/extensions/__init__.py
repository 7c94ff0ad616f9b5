"""Extensions that come with the engine."""

from .average import Average
from .extension import EDITOR, READER, SNAPSHOT, WRITER, Extension
from .learning_rate import LearningRate, cosine, steps
from .log import Log
from .progress import ConsoleProgress
from .snapshot import BestSnapshot, Snapshot

__all__ = [
    "EDITOR",
    "READER",
    "SNAPSHOT",
    "WRITER",
    "Average",
    "BestSnapshot",
    "ConsoleProgress",
    "Extension",
    "LearningRate",
    "Log",
    "Snapshot",
    "cosine",
    "steps",
]
