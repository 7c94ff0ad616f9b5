"""A named promise of a class: what a plugin offers before anything heavy is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

KINDS = ("encoder", "clusterer", "evaluator", "dataset", "counter")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FORM = "use lower case letters and digits, words joined by hyphens"
_ENDING = re.compile(r"\.[^A-Z/\\]+")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Recipe:
    """A run as settings alone: a TOML file as ``--config`` takes it, run by name.

    name: as a component's. path: the file; its table ``recipe`` may hold ``summary`` and ``source``.

    Raises ValueError for a name of another form.
    """

    name: str
    path: Path

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"recipe name {self.name!r}: {_FORM}")


@dataclass(frozen=True)
class Component:
    """A component as a plugin offers it; the class behind it is imported only when a run asks for it.

    name: lower case letters and digits, words joined by hyphens.
    target: ``"package.module:Class"``.
    summary: one line for ``deepclust list``.
    paper: where the method is published, for ``deepclust info``.
    supervised: True for what learns from labels; runs with an encoder that does say so in their results.
    reads: for a data set, the endings of the files that it reads, lower case with their dot, ``"/"`` for
    folders; its Config has a setting ``path``. Others may read the same, see ``Dataset.sniff``.

    Raises ValueError for a name, target or ending of another form.
    """

    name: str
    target: str
    summary: str
    paper: str = ""
    supervised: bool = False
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"component name {self.name!r}: {_FORM}")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"component {self.name}: target {self.target!r} is not 'module:Class'")
        for ending in (self.reads,) if isinstance(self.reads, str) else self.reads:
            if isinstance(self.reads, str) or not (ending == "/" or _ENDING.fullmatch(ending)):
                raise ValueError(
                    f"component {self.name}: reads is a tuple of endings in lower case such as ('.csv',), "
                    f"'/' for folders, not {self.reads!r}"
                )
