"""The true classes of images, from the folders that they lie in. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ...core import InvalidData, Truth, truth_of

SPLITS = re.compile(
    r"(train|training|trn|val|valid|validation|dev|test|testing|tst|eval|evaluation|hold-?out|unlabell?ed)"
    r"([-_ ]?\d+)?",
    re.IGNORECASE,
)
SHOWN = 3  # names in a sentence


def classes(files: Sequence[str], which: str, where: str) -> Truth:
    """The first folder of each path, or where ``which`` is ``"parent"`` the one that holds the file.

    Files that are in none have no class. Raises InvalidData where that is so of all.
    """
    folders = [
        (path.split("/")[-1 if which == "parent" else 0] if path else None) for path in map(_path, files)
    ]
    names = sorted({folder for folder in folders if folder is not None})
    if not names:
        raise InvalidData(
            f"labels were asked for from folders, but all images lie directly in {where}; put each "
            "class into a folder of its own, or leave --labels out."
        )
    codes = {name: code for code, name in enumerate(names)}
    return truth_of(np.array([-1 if f is None else codes[f] for f in folders]), names)


def split_hint(files: Sequence[str]) -> str | None:
    """Of first folders that look like the splits of one data set rather than its classes.

    They do where all are called so, or where all hold the same folders, two or more.
    """
    below: dict[str, set[str]] = {}
    for path in {path for path in map(_path, files) if path}:
        first, _, rest = path.partition("/")
        below.setdefault(first, set()).update({rest.partition("/")[0]} - {""})
    if not below:
        return None
    inner = set.union(*below.values())
    if all(SPLITS.fullmatch(name) for name in below):
        why = "which look like the splits of a data set"
    elif len(below) > 1 and len(inner) > 1 and all(names == inner for names in below.values()):
        why = "which all hold the same folders"
    else:
        return None
    advice = (
        f"-s data.labels=parent takes the folder that directly holds each image ({_shown(inner)})"
        if inner
        else "where they are no classes, leave --labels out"
    )
    return f"--labels folders takes {_shown(below)} for the classes, {why}; {advice}."


def _path(file: str) -> str:
    """The folders of a file, empty where it is in none."""
    return file.rpartition("/")[0]


def _shown(names: Iterable[str]) -> str:
    """Such as ``'a', 'b', 'c' and 7 more``."""
    ordered = sorted(names)
    more = len(ordered) - SHOWN
    return ", ".join(f"'{name}'" for name in ordered[:SHOWN]) + (f" and {more} more" if more > 0 else "")
