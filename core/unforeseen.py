"""Errors as sentences: those for the user, and those that nobody foresaw, whose traceback goes to a file."""

from __future__ import annotations

import shlex
import sys
import tempfile
import traceback

from .errors import DeepclustError, PluginFailed
from .words import in_one_line


def sentence_of(error: Exception) -> str:
    """What users are told of an error; the traceback of one that was no request's goes to a file."""
    if isinstance(error, PluginFailed):
        return f"{error} {_keep(error)}."
    if isinstance(error, DeepclustError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    whose = "".join(f"{note}: " for note in getattr(error, "__notes__", ())[-1:])  # of boundary.called
    return (
        f"what nobody foresaw, {whose}{in_one_line(error)} (in '{place.filename}', line {place.lineno}). "
        f"{_keep(error)}; `deepclust --debug COMMAND` shows it. It is a fault of deepclust or of a plugin, "
        "not of the request."
    )


def _keep(error: Exception) -> str:
    """Write the traceback to a file of its own; says where."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="deepclust-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write(shlex.join(["deepclust", *sys.argv[1:]]) + "\n")
            traceback.print_exception(error, file=log)
    except OSError:
        return "The traceback could not be kept"
    return f"The traceback is in '{log.name}'"
