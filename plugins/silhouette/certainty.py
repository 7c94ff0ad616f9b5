"""How sure a number of clusters is, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.words import counted

UNSURE = "not sure"
TIE = 0.015  # of the score, below which another number is nearly as good
DEVIATIONS = 1.5  # of the difference over the repetitions, below which it is too
GAP = 1.8  # of the neighbour graph, below which it shows no number
CLEAR = 4.0  # of the neighbour graph, from which a number may be sure
MARGIN = 0.02  # of the score over that of data without clusters, below which there may be none
STABLE = 0.7  # adjusted Rand index, below which the clusters are not sure
EACH = 100  # samples for each cluster, below which two in one would not show


@dataclass(frozen=True)
class Certainty:
    """How sure a number of clusters is.

    degree: ``"sure"``, ``"fairly sure"`` or ``"not sure"``. alternatives: the other numbers that come
    into question, the nearest first. doubts: what speaks against the number, empty where nothing does.
    sentence: all of it, with figures.
    """

    degree: str
    alternatives: list[int]
    doubts: list[str]
    sentence: str


def shown(gaps: Sequence[float]) -> int | None:
    """The place of the number that the neighbour graph shows; None where it shows none."""
    place = max(range(len(gaps)), key=gaps.__getitem__)
    return place if gaps[place] >= GAP else None


def judge(
    rows: Sequence[dict[str, float]], best: int, repetitions: int, samples: int, high: int, distinct: int
) -> Certainty:
    """How sure the number of ``rows[best]`` is, from what was found of each number that was tried.

    samples: how many codes were looked at. high: the most that was asked for. distinct: how many
    different codes there are.
    """
    row, k = rows[best], int(rows[best]["n_clusters"])
    rivals = sorted((r for r in rows if r is not row and _near(r)), key=lambda r: r["lead"])
    alternatives = [int(r["n_clusters"]) for r in rivals]
    graph = shown([r["gap"] for r in rows])
    none = row["score"] - row["reference"] < MARGIN
    doubts = []
    if none:
        doubts.append("it scores hardly more than data without clusters, so there may be none")
    if rivals:
        doubts.append(_rivalry(rivals))
    if graph != best:
        doubts.append("the neighbour graph shows no number")
    if row["stability"] < STABLE:
        doubts.append("its clusters change from repetition to repetition")
    if len(rows) > 1 and best == len(rows) - 1 and k < distinct:
        doubts.append(
            f"it is the most that was tried, so try more, such as auto:2-{2 * k}"
            if k == high
            else "it is the most that so few samples allow"
        )
    if best == 0 and k > 2:
        doubts.append("it is the fewest that was tried, so try fewer, from auto:2")
    if samples < EACH * k and not doubts:
        each = counted(samples // k, "sample")
        doubts.append(
            f"{each} for each {'is' if samples < 2 * k else 'are'} too few to see whether one is two"
        )
    if doubts:
        said = doubts[:1] if none else doubts  # where there may be none, the rest is beside the point
        text = f"{k} clusters, {UNSURE}: {'; '.join(said)}"
        if rivals and graph == best and not none:
            text += f", but the neighbour graph shows {k}"
        return Certainty(UNSURE, alternatives, doubts, f"{text}.")
    others = [r for r in rows if r is not row]
    lead = min((r["lead"] for r in others), default=2.0)
    degree = "sure" if row["gap"] >= CLEAR and lead >= 2 * TIE else "fairly sure"
    text = f"{k} clusters, {degree}: {int(row['chosen'])} of {repetitions} repetitions chose it"
    if others:
        second = min(others, key=lambda r: r["lead"])
        text += f", the next best ({int(second['n_clusters'])}) scores {lead:.2f} less"
    return Certainty(degree, [], [], f"{text}, and the neighbour graph shows it too.")


def _near(row: dict[str, float]) -> bool:
    """Whether the chosen number leads this one by too little."""
    return row["lead"] < max(TIE, DEVIATIONS * row["lead_deviation"])


def _rivalry(rivals: Sequence[dict[str, float]]) -> str:
    """Which other numbers come into question, in words."""
    if rivals[0]["lead"] < -TIE:
        return f"the silhouette prefers {int(rivals[0]['n_clusters'])}"
    names = [str(n) for n in sorted(int(r["n_clusters"]) for r in rivals[:3])]
    if len(rivals) > 3:
        return f"{', '.join(names)} and {len(rivals) - 3} more are nearly as good"
    *first, last = names
    return f"{', '.join(first)} or {last} are nearly as good" if first else f"{last} is nearly as good"
