"""What a user can be told: errors that are one clear sentence and never a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DeepclustError(Exception):
    """An error whose text is for the user: what was asked, what there is, what to do."""

    exit_code = 2


class UnknownName(DeepclustError, ValueError):
    """A component, setting, part or data set that does not exist."""


class InvalidSetting(DeepclustError, ValueError):
    """A setting of the wrong type or outside its range."""


class InvalidData(DeepclustError, ValueError):
    """Data that cannot be clustered: missing, empty, not finite, of the wrong type or shape."""


class ImpossiblePair(DeepclustError):
    """An encoder and a clusterer that cannot work together."""


class BrokenPlugin(DeepclustError):
    """A plugin that cannot be loaded, or two that offer the same name."""


class OccupiedFolder(DeepclustError):
    """A run folder that belongs to another command, or is no run folder at all."""


class LabelsHidden(DeepclustError):
    """The truth was asked for where labels must not be seen."""


class TrainingFailed(DeepclustError):
    """Training that went wrong after it began, such as a loss that is not finite."""

    exit_code = 1


class PluginFailed(TrainingFailed):
    """A plugin's extension that raised while training; ``__cause__`` is what it raised."""


class DeepclustWarning(UserWarning):
    """A notice of a run, in Python: what the command line says at its end and nobody must miss."""


class UnhealthyResult(DeepclustWarning):
    """A notice for which the result is not healthy; ``deepclust run`` then ends with ``exit_code``."""

    exit_code = 3


def unknown(what: str, asked: str, there_is: Iterable[str], advice: str = "") -> UnknownName:
    """An UnknownName that says what was asked, the nearest name, what there is and what to do."""
    names = sorted(there_is)
    near = get_close_matches(asked, names, n=1, cutoff=0.5)
    text = f"there is no {what} '{asked}'"
    text += f"; did you mean '{near[0]}'?" if near else "."
    text += f" There is: {', '.join(names)}." if names else " There is none."
    return UnknownName(f"{text} {advice}".strip())
