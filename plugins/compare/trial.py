"""One run of a comparison as it stands on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...core.run import scores as scored
from ...core.run.folder import RECORD
from ...core.run.results import LABELS, read_labels
from ...core.run.spent import logged_seconds
from ...core.words import one_line

OWN = (  # columns of the tables that no evaluator fills
    "encoder", "clusterer", "seed", "state", "healthy", "reason", "notices", "clusters", "stability",
    "seconds", "encoder_seconds", "clusterer_seconds",
)  # fmt: skip
FINISHED, FAILED, OPEN = "finished", "failed", "not run yet"
Pair = tuple[str, str]  # an encoder's and a clusterer's name


@dataclass(frozen=True)
class Trial:
    """What a run of a comparison came to.

    state: finished, failed or not run yet. scores: every number of scores.json by its name, and the
    seconds. labels: (N,) the clusters, where it is finished. notices: what its user must not miss,
    ills: those of them for which its result is not healthy.
    """

    pair: Pair
    seed: int
    folder: Path
    state: str = OPEN
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    labels: np.ndarray | None = None
    notices: tuple[str, ...] = ()
    ills: tuple[str, ...] = ()

    @property
    def healthy(self) -> str:
        """``true`` or ``false``, as results.csv has it; empty where the run is not finished."""
        return "" if self.state != FINISHED else "false" if self.ills else "true"


def read_trial(pair: Pair, seed: int, folder: Path, encoder_folder: Path, reason: str = "") -> Trial:
    """The run in ``folder``, whose encoder's stages are in ``encoder_folder``.

    reason: why it failed, where it did.
    """
    if reason:
        return Trial(pair, seed, folder, FAILED, one_line(reason))
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        summary = scored.read(folder / scored.SCORES)
        if record["status"] != FINISHED:
            return Trial(pair, seed, folder)
        labels = read_labels(folder / LABELS) if (folder / LABELS).exists() else None
        asked = record["request"]["clusters"]
        counted = {} if isinstance(asked, int) else {"clusters": record["n_clusters"]}
    except (OSError, ValueError, KeyError, TypeError):  # not there or not whole: the run writes them
        return Trial(pair, seed, folder)
    return Trial(
        pair, seed, folder, FINISHED,
        scores={**counted, **_numbers(summary), **_seconds(summary, folder, encoder_folder)}, labels=labels,
        notices=tuple(scored.notices(summary)), ills=tuple(scored.reasons(summary)),
    )  # fmt: skip


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of all evaluators; one whose name stands already gets its evaluator's before it."""
    found: dict[str, float] = {}
    for part, values in scored.parts(summary):
        for name, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                found[f"{part}.{name}" if name in found or name in OWN else name] = value
    return found


def _seconds(summary: Mapping[str, Any], folder: Path, encoder_folder: Path) -> dict[str, float]:
    """How long encoder and clusterer took; where a run was cut, what their training logs add up to.

    The encoder's are of this run alone: ``tabulate`` knows which run trained it.
    """
    spent = summary["seconds"]
    clusterer = spent["clusterer"] + spent.get("number of clusters", 0.0)
    return {
        "encoder_seconds": max(spent["encoder"], logged_seconds(encoder_folder)),
        "clusterer_seconds": max(clusterer, logged_seconds(folder / "clusterer")),
    }
