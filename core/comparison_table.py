"""The numbers of a comparison: what each run came to, and means, deviations and best ones of the pairs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine.extensions.log import LOG_NAME
from .folder import RECORD
from .results import LABELS, write_table

if TYPE_CHECKING:
    from rich.console import Console

RESULTS, TABLE = "results.csv", "table.csv"
HIGHER = (
    "accuracy",
    "nmi",
    "ari",
    "purity",
    "stability",
)  # where more is better; elsewhere nothing is marked
LOWER = ("seconds",)
CRITERION = "unsupervised_loss"  # by which a seed can be chosen without labels
BEST, CLOSE = "best", "close"  # marks; close: not distinguishable from the best
SIGNS = {BEST: "*", CLOSE: "~", "": "\u00a0"}  # in the terminal; rich cuts plain spaces off
FINISHED, FAILED, OPEN, IMPOSSIBLE = "finished", "failed", "not run yet", "impossible"
MAIN = ("accuracy", "nmi", "ari", "seconds")  # shown where there is truth
MAIN_WITHOUT_TRUTH = ("silhouette", "stability", "seconds")
Pair = tuple[str, str]  # an encoder's and a clusterer's name


@dataclass(frozen=True)
class Trial:
    """One run of a comparison as it stands on disk.

    state: finished, failed or not run yet. scores: every number of scores.json by its name, and the
    seconds. labels: (N,) the clusters, where it is finished. notices: what its user must not miss.
    """

    pair: Pair
    seed: int
    folder: Path
    state: str = OPEN
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    labels: np.ndarray | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A score of a pair over its n finished runs: mean, sample deviation (None for one run), mark."""

    mean: float
    deviation: float | None
    n: int
    mark: str = ""

    @property
    def standard_error(self) -> float | None:
        """The mean's standard error."""
        return None if self.deviation is None else self.deviation / math.sqrt(self.n)


@dataclass(frozen=True)
class Row:
    """A pair: its runs, their cells by column, and why it was not run."""

    pair: Pair
    trials: tuple[Trial, ...]
    cells: Mapping[str, Cell]
    impossible: str = ""

    @property
    def finished(self) -> int:
        """How many runs are finished."""
        return sum(t.state == FINISHED for t in self.trials)

    @property
    def state(self) -> str:
        """How the pair stands."""
        states = {t.state for t in self.trials}
        return next((s for s in (FAILED, OPEN) if s in states), FINISHED) if self.trials else IMPOSSIBLE

    @property
    def reasons(self) -> list[str]:
        """Why it is impossible, or why which of its runs failed."""
        failed = [f"seed {t.seed}: {t.reason}" for t in self.trials if t.state == FAILED]
        return [self.impossible] if self.impossible else failed

    @property
    def notices(self) -> list[str]:
        """The notices of its runs, each once, with the seeds whose it is."""
        seeds: dict[str, list[str]] = {}
        for t in self.trials:
            for text in t.notices:
                seeds.setdefault(text, []).append(str(t.seed))
        return [f"seed{'s' * (len(own) > 1)} {', '.join(own)}: {text}" for text, own in seeds.items()]

    @property
    def chosen(self) -> Trial | None:
        """The run of the least unsupervised loss; None where fewer than two runs have one."""
        there = [t for t in self.trials if CRITERION in t.scores]
        return min(there, key=lambda t: t.scores[CRITERION]) if len(there) > 1 else None


@dataclass(frozen=True)
class Table:
    """A comparison's rows, the names of their columns in order, and the encoders that learn from labels."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    supervised: tuple[str, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """All runs."""
        return [t for row in self.rows for t in row.trials]

    @property
    def main(self) -> list[str]:
        """The few columns that fit a terminal."""
        names = MAIN if "accuracy" in self.columns else MAIN_WITHOUT_TRUTH
        return [name for name in names if name in self.columns]

    def write(self, folder: Path) -> None:
        """Write results.csv, a row for each run, and table.csv, a row for each pair."""
        scores = [c for c in self.columns if c != "stability"]  # which no single run has
        write_table(
            folder / RESULTS,
            ["encoder", "clusterer", "seed", *scores, "state", "reason", "notices"],
            (
                [*t.pair, t.seed, *(t.scores.get(s, "") for s in scores)]
                + [t.state, t.reason, " ".join(t.notices)]
                for t in self.trials
            ),
        )
        header = [f"{c}_{part}" for c in self.columns for part in _parts(c)]
        write_table(
            folder / TABLE,
            ["encoder", "clusterer", "runs", "finished", *header, "state", "reason"],
            (
                [*row.pair, len(row.trials), row.finished]
                + [_value(row.cells.get(c), part) for c in self.columns for part in _parts(c)]
                + [row.state, "; ".join(row.reasons)]
                for row in self.rows
            ),
        )

    def show(self, console: Console) -> None:
        """Print the main columns, what was not run or failed, and what runs say must not be missed."""
        from rich.table import Table as RichTable

        shown = RichTable(box=None, header_style="bold", pad_edge=False)
        shown.add_column("pair", overflow="fold")
        shown.add_column("runs", justify="right", no_wrap=True)
        for column in self.main:
            shown.add_column(column + "  ", justify="right", no_wrap=True)
        for row in self.rows:
            if not row.impossible:
                cells = (_cell_text(column, row.cells.get(column)) for column in self.main)
                shown.add_row(" + ".join(row.pair), f"{row.finished}/{len(row.trials)}", *cells)
        console.print(shown, highlight=False, markup=False)
        for line in self.legend(self.main):
            console.print(line, highlight=False, markup=False)
        for row in self.rows:
            for reason in row.reasons:
                console.print(f"{row.state}: {' + '.join(row.pair)}: {reason}", highlight=False, markup=False)
            for notice in row.notices:
                console.print(f"Note: {' + '.join(row.pair)}, {notice}", highlight=False, markup=False)

    def legend(self, columns: Sequence[str], signs: Mapping[str, str] = SIGNS) -> list[str]:
        """What the columns and marks mean, a sentence or two for each."""
        lines = [f"{name} learns from labels: the others do not." for name in self.supervised]
        lines += [
            f"Mean ± sample deviation over the finished runs. {signs[BEST]} the best mean, "
            f"{signs[CLOSE]} within one standard error of it (not distinguishable)."
        ]
        lines += [text for row in self.rows if (text := _choice_text(row))]
        if "silhouette" in columns:
            lines.append(
                "silhouette and Davies-Bouldin are of each pair's own codes, which differ between encoders "
                "and which some clusterers change: they do not compare pairs, so none is marked."
            )
        if "stability" in columns:
            lines.append(
                "stability is the mean adjusted Rand index between the clusters of two seeds; it needs no "
                "truth, and is left out where a run put everything into one cluster."
            )
        if "seconds" in columns:
            lines.append(
                "seconds are of training; an encoder that pairs share was trained once and counts in each."
            )
        return lines


def _choice_text(row: Row) -> str:
    """How the choice of a seed without labels fared."""
    chosen = row.chosen
    if chosen is None:
        return ""
    text = f"{' + '.join(row.pair)}: seed {chosen.seed} has the least unsupervised loss"
    name = next((n for n in ("test_accuracy", "accuracy") if n in chosen.scores), None)
    if name is None:
        return f"{text}."
    scores = [t.scores[name] for t in row.trials if name in t.scores]
    return (
        f"{text}; its {name.replace('_', ' ')} is {chosen.scores[name]:.3f}, of all {len(scores)} seeds "
        f"{min(scores):.3f} to {max(scores):.3f}, mean {sum(scores) / len(scores):.3f}."
    )


def _parts(column: str) -> list[str]:
    return ["mean", "deviation", "n", *(["mark"] if column in HIGHER + LOWER else [])]


def _value(cell: Cell | None, part: str) -> Any:
    value = None if cell is None else getattr(cell, part)
    return "" if value is None else value


def _cell_text(column: str, cell: Cell | None) -> str:
    """A cell as narrow as a terminal needs it."""
    return (
        f"- {SIGNS['']}" if cell is None else f"{text_of(column, cell).replace(' ', '')} {SIGNS[cell.mark]}"
    )


def text_of(column: str, cell: Cell) -> str:
    """A cell as people read it, without its mark."""
    digits = 0 if cell.mean >= 100 else 1 if column.endswith("seconds") else 3
    deviation = "" if cell.deviation is None else f" ± {cell.deviation:.{digits}f}"
    return f"{cell.mean:.{digits}f}{deviation}"


def read_trial(pair: Pair, seed: int, folder: Path, encoder_folder: Path, reason: str = "") -> Trial:
    """The run in ``folder``, whose encoder's stages are in ``encoder_folder``.

    reason: why it failed, where it did.
    """
    if reason:
        return Trial(pair, seed, folder, FAILED, " ".join(reason.split()))
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        if record["status"] != FINISHED:
            return Trial(pair, seed, folder)
        labels = _read_labels(folder / LABELS) if (folder / LABELS).exists() else None
        asked = record["request"]["clusters"]
        counted = {} if isinstance(asked, int) else {"clusters": record["n_clusters"]}
    except (OSError, ValueError, KeyError):  # not there or not whole: the run writes them
        return Trial(pair, seed, folder)
    return Trial(
        pair, seed, folder, FINISHED,
        scores={**counted, **_numbers(scores), **_seconds(scores, folder, encoder_folder)}, labels=labels,
        notices=tuple(scores["protocol"].get("notices", ())),
    )  # fmt: skip


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of all evaluators; one whose name stands already gets its evaluator's before it."""
    found: dict[str, float] = {}
    for part, values in scores.items():
        if part in ("protocol", "seconds", "resumed"):
            continue
        for name, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                found[f"{part}.{name}" if name in found else name] = value
    return found


def _seconds(scores: Mapping[str, Any], folder: Path, encoder_folder: Path) -> dict[str, float]:
    """How long encoder and clusterer took; where a run was cut, what their training logs add up to.

    The encoder's are of this run alone: ``tabulate`` knows which run trained it.
    """
    spent = scores["seconds"]
    clusterer = spent["clusterer"] + spent.get("number of clusters", 0.0)
    return {
        "encoder_seconds": max(spent["encoder"], _logged_seconds(encoder_folder)),
        "clusterer_seconds": max(clusterer, _logged_seconds(folder / "clusterer")),
    }


def _logged_seconds(folder: Path) -> float:
    total = 0.0
    for log in sorted(folder.rglob(LOG_NAME)):
        lines = log.read_text(encoding="utf-8").splitlines()
        total += json.loads(lines[-1])["seconds"] if lines else 0.0
    return total


def _read_labels(path: Path) -> np.ndarray:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return np.fromiter((int(row[1]) for row in rows), dtype=np.int64)


def tabulate(
    trials: Sequence[Trial],
    impossible: Mapping[Pair, str],
    pairs: Iterable[Pair],
    supervised: Sequence[str] = (),
) -> Table:
    """The table of all ``pairs``, in their order.

    impossible: the reason, for the pairs that cannot work. supervised: encoders that learn from labels.
    """
    trained: dict[tuple[str, int], float] = {}  # a shared encoder's training: what its longest fit took
    for t in trials:
        if t.scores:
            key = t.pair[0], t.seed
            trained[key] = max(trained.get(key, 0.0), t.scores["encoder_seconds"])
    trials = [_with_encoder_seconds(t, trained[t.pair[0], t.seed]) if t.scores else t for t in trials]
    columns = _columns(trials)
    rows = []
    for pair in pairs:
        own = tuple(t for t in trials if t.pair == pair)
        cells = {c: cell for c in columns if (cell := _cell([t.scores[c] for t in own if c in t.scores]))}
        if stable := _stability([t.labels for t in own if t.labels is not None]):
            cells["stability"] = stable
        rows.append(Row(pair, own, cells, impossible.get(pair, "")))
    if any("stability" in row.cells for row in rows):
        columns.insert(columns.index("encoder_seconds"), "stability")
    for column in columns:
        rows = _marked(rows, column)
    return Table(tuple(rows), tuple(columns), tuple(supervised))


def _with_encoder_seconds(trial: Trial, seconds: float) -> Trial:
    total = round(seconds + trial.scores["clusterer_seconds"], 3)
    return replace(trial, scores={**trial.scores, "encoder_seconds": seconds, "seconds": total})


def _columns(trials: Sequence[Trial]) -> list[str]:
    """All score names, in the order in which runs have them; times stand last."""
    times = ["encoder_seconds", "clusterer_seconds", "seconds"]
    names = list(dict.fromkeys(name for t in trials for name in t.scores if name not in times))
    return names + times


def _cell(values: Sequence[float]) -> Cell | None:
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Cell(float(np.mean(values)), deviation, len(values))


def _stability(labels: Sequence[np.ndarray]) -> Cell | None:
    """The mean agreement of any two seeds; its parts are not independent, so it has no deviation."""
    from sklearn.metrics import adjusted_rand_score

    if len(labels) < 2 or any(len(np.unique(each)) < 2 for each in labels):
        return None
    agreements = [adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]
    return Cell(float(np.mean(agreements)), None, len(labels))


def _marked(rows: Sequence[Row], column: str) -> list[Row]:
    """The rows with the column's best mean marked, and those that cannot be told from it."""
    sign = 1 if column in HIGHER else -1 if column in LOWER else 0
    there = [row.cells[column] for row in rows if column in row.cells]
    if not sign or len(there) < 2:
        return list(rows)
    best = max(there, key=lambda cell: sign * cell.mean)
    near = best.standard_error or 0.0

    def marked(row: Row) -> Row:
        if column not in row.cells:
            return row
        cell = row.cells[column]
        mark = BEST if cell.mean == best.mean else CLOSE if abs(cell.mean - best.mean) <= near else ""
        return replace(row, cells={**row.cells, column: replace(cell, mark=mark)})

    return [marked(row) for row in rows]
