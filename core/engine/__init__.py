"""The training engine: trainer, updater, triggers, reporter, extensions. It knows no interfaces."""

from .optimizer import OptimizerName, make_optimizer
from .reporter import report
from .trainer import Trainer
from .trigger import Interval, Limit
from .updater import Batch, Batches, Updater

__all__ = [
    "Batch",
    "Batches",
    "Interval",
    "Limit",
    "OptimizerName",
    "Trainer",
    "Updater",
    "make_optimizer",
    "report",
]
