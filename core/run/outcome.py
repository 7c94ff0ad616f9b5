"""What a run came to, and how the command line shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..console import tell
from ..data.data import Data
from ..words import one_line
from . import scores as scored


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    folder: where it is. summary: what its scores.json holds. data: its samples; labels: (N,) their
    clusters, of n_clusters. was_finished: whether it stood there finished already; evaluated: the
    evaluators that were run on it then.
    """

    folder: Path
    summary: dict[str, Any]
    data: Data
    labels: np.ndarray
    n_clusters: int
    was_finished: bool = False
    evaluated: tuple[str, ...] = ()

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """The scores by evaluator."""
        found: dict[str, dict[str, Any]] = self.summary[scored.EVALUATORS]
        return found


def show_outcome(outcome: Outcome, quiet: bool) -> None:
    """Print the scores, what must not be missed, and where everything is; the notices alone where quiet."""
    from rich.console import Console
    from rich.table import Table

    summary = outcome.summary
    said = scored.remarks(summary), scored.reasons(summary)
    if quiet:
        tell(*said, quiet=True)
        return
    table = Table(show_header=False, box=None)
    for _, values in scored.parts(summary):
        for name, value in values.items():
            if isinstance(value, list) and value and isinstance(value[0], list):
                continue  # matrices are in scores.json
            table.add_row(one_line(name.replace("_", " ")), shown(value))
    console = Console(highlight=False, markup=False)
    if outcome.evaluated:
        names = ", ".join(outcome.evaluated)
        console.print(f"The run was finished, nothing was trained. Evaluated: {names}", soft_wrap=True)
    elif outcome.was_finished:
        console.print("This run was finished already; --overwrite runs it again.")
    console.print(table)
    if summary.get("protocol", {}).get("labels used in training"):
        console.print("The encoder learned from the labels: no clustering without labels.")
    tell(*said)
    console.print(f"Labels, scores and model are in {outcome.folder}", soft_wrap=True)
    report = outcome.folder / "report.html"
    if report.exists():
        console.print(f"Open {report} to look at the clusters", soft_wrap=True)


def shown(value: Any) -> str:
    """A score on one line: ``-`` for what is not known or not finite."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return f"[{', '.join('-' if item is None else repr(item) for item in value)}]"
    return one_line(str(value))
