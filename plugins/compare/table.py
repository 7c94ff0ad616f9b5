"""The numbers of a comparison: what each run came to, and means, deviations and best ones of the pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.console import tell
from ...core.run.results import write_table
from ...core.words import counted
from .trial import FAILED, FINISHED, OPEN, Pair, Trial

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
ILL = "!"  # before the means of a pair with unhealthy runs
SIGNS = {BEST: "*", CLOSE: "~", "": "\u00a0"}  # in the terminal; rich cuts plain spaces off
MAIN = ("accuracy", "nmi", "ari", "seconds")  # shown where there is truth
MAIN_WITHOUT_TRUTH = ("silhouette", "stability", "seconds")
IMPOSSIBLE = "impossible"


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
    def unhealthy(self) -> int:
        """How many runs are not healthy."""
        return sum(bool(t.ills) for t in self.trials)

    @property
    def remarks(self) -> list[str]:
        """The notices that leave its runs healthy, each once, with the seeds whose it is."""
        return _by_seed((t.seed, text) for t in self.trials for text in t.notices if text not in t.ills)

    @property
    def ills(self) -> list[str]:
        """Why runs are not healthy, in the same way."""
        return _by_seed((t.seed, text) for t in self.trials for text in t.ills)

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
    def verdict(self) -> str:
        """How many runs are not healthy, in words; empty where all are."""
        ill = sum(row.unhealthy for row in self.rows)
        runs = counted(len(self.trials), "run")
        return f"{ill} of {runs} {'is' if ill == 1 else 'are'} unhealthy." if ill else ""

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
            ["encoder", "clusterer", "seed", *scores, "state", "healthy", "reason", "notices"],
            (
                [*t.pair, t.seed, *(t.scores.get(s, "") for s in scores)]
                + [t.state, t.healthy, t.reason, " ".join(t.notices)]
                for t in self.trials
            ),
        )
        header = [f"{c}_{part}" for c in self.columns for part in _parts(c)]
        write_table(
            folder / TABLE,
            ["encoder", "clusterer", "runs", "finished", "unhealthy", *header, "state", "reason"],
            (
                [*row.pair, len(row.trials), row.finished, row.unhealthy]
                + [_value(row.cells.get(c), part) for c in self.columns for part in _parts(c)]
                + [row.state, "; ".join(row.reasons)]
                for row in self.rows
            ),
        )

    def show(self, console: Console) -> None:
        """Print the main columns, what they mean, and what was not run or failed."""
        from rich.table import Table as RichTable

        shown = RichTable(box=None, header_style="bold", pad_edge=False)
        shown.add_column("pair", overflow="fold")
        shown.add_column("runs", justify="right", no_wrap=True)
        for column in self.main:
            shown.add_column(column + "  ", justify="right", no_wrap=True)
        for row in self.rows:
            if not row.impossible:
                cells = (_cell_text(column, row) for column in self.main)
                shown.add_row(
                    " + ".join(row.pair), f"{row.finished}/{len(row.trials)}", *cells,
                    style="red" if row.unhealthy else None,
                )  # fmt: skip
        console.print(shown, highlight=False, markup=False)
        for line in self.legend(self.main):
            console.print(line, highlight=False, markup=False)
        for row in self.rows:
            for reason in row.reasons:
                console.print(f"{row.state}: {' + '.join(row.pair)}: {reason}", highlight=False, markup=False)

    def tell(self, *, quiet: bool = False) -> None:
        """Print what runs say must not be missed, as ``console.tell`` does, and how many are not healthy."""
        remarks = [f"{' + '.join(row.pair)}, {text}" for row in self.rows for text in row.remarks]
        ills = [f"{' + '.join(row.pair)}, {text}" for row in self.rows for text in row.ills]
        tell(remarks, ills, verdict=self.verdict, quiet=quiet)

    def legend(self, columns: Sequence[str], signs: Mapping[str, str] = SIGNS) -> list[str]:
        """What the columns and marks mean, a sentence or two for each."""
        lines = [f"{name} learns from labels: the others do not." for name in self.supervised]
        lines += [
            f"Mean ± sample deviation over the finished runs. {signs[BEST]} the best mean, "
            f"{signs[CLOSE]} within one standard error of it (not distinguishable)."
        ]
        if self.verdict:
            lines.append(f"{ILL} with unhealthy runs, which count in the mean and say little of the pair.")
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


def _by_seed(said: Iterable[tuple[int, str]]) -> list[str]:
    """Each text once, after the seeds that said it."""
    seeds: dict[str, list[str]] = {}
    for seed, text in said:
        seeds.setdefault(text, []).append(str(seed))
    return [f"seed{'s' * (len(own) > 1)} {', '.join(own)}: {text}" for text, own in seeds.items()]


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


def _cell_text(column: str, row: Row) -> str:
    """A cell as narrow as a terminal needs it."""
    cell = row.cells.get(column)
    if cell is None:
        return f"- {SIGNS['']}"
    return f"{ILL * (row.unhealthy > 0)}{text_of(column, cell).replace(' ', '')} {SIGNS[cell.mark]}"


def text_of(column: str, cell: Cell) -> str:
    """A cell as people read it, without its mark."""
    digits = 0 if cell.mean >= 100 else 1 if column.endswith("seconds") else 3
    deviation = "" if cell.deviation is None else f" ± {cell.deviation:.{digits}f}"
    return f"{cell.mean:.{digits}f}{deviation}"


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
