"""What a run's folder says of its training: the log of each stage, and how the clusters were counted."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from ...core.engine.extensions.log import LOG_NAME
from ...core.run.settle import COUNT

NO_LOSS = ("iteration", "epoch", "seconds", "lr")

MEANING = {  # of what stages report, by its key; of one stage's alone after the stage's name
    "contrast/accuracy": "share of views most alike to their sample's other view; no accuracy of classes",
    "pull": "how far apart neighbours are, 0 at best",
    "push": "how near samples are that are no neighbours, 0 at best",
    "label_change": "share of samples whose cluster changed since the last look",
    "agreement": "share of samples of which the network says what it was taught",
    "certain": "share of samples sure enough to be learned from",
    "inconsistency": "how unlike the assignments of neighbours are, 0 at best",
    "entropy": "how evenly all clusters are used, more is more even",
    "health/effective_clusters": "clusters of equal size that would be as uneven",
    "health/smallest_cluster": "share of the samples in the smallest cluster",
    "health/confidence": "mean of the largest soft assignment",
    "health/churn": "share of samples whose cluster changed since the epoch before",
    "health/neighbours_input": "share of neighbours in the input that share a cluster, chance taken off",
    "health/neighbours_codes": "the same of neighbours in the codes as they were",
    "health/lost_clusters": "clusters that keep less than a tenth of their size",
}


class Stage(NamedTuple):
    """What a stage of training reported.

    name: its folder, such as ``encoder/layer0``. unit: ``"epoch"`` or ``"iteration"``.
    curves: by name the positions in that unit, and the values.
    """

    name: str
    unit: str
    curves: dict[str, tuple[list[float], list[float]]]

    def meanings(self) -> list[tuple[str, str]]:
        """The name and meaning of each curve that has one."""
        last = self.name.rpartition("/")[2]
        found = [(key, MEANING.get(f"{last}/{key}") or MEANING.get(key)) for key in self.curves]
        return [(key.rpartition("/")[2].replace("_", " "), said) for key, said in found if said]


def read_stages(folder: Path) -> list[Stage]:
    """The stages below ``folder``, in the order in which they ended; the encoder's first."""
    found = []
    for place, inner, files in os.walk(folder, followlinks=True):
        inner.sort()
        if LOG_NAME in files:
            path = Path(place) / LOG_NAME
            name = Path(place).relative_to(folder).as_posix()
            found.append((not name.startswith("encoder"), path.stat().st_mtime_ns, name, path))
    stages = [_stage(name, path) for *_, name, path in sorted(found)]
    return [stage for stage in stages if stage.curves]


def _stage(name: str, path: Path) -> Stage:
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # a line that a kill cut off
            continue
        if isinstance(line, dict):
            lines.append(line)
    unit = "epoch" if lines and lines[-1].get("epoch", 0) >= 1 else "iteration"
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        for key, value in line.items():
            if key in NO_LOSS or key.endswith("/lr") or not _is_number(value):
                continue
            x, y = curves.setdefault(key, ([], []))
            x.append(line.get(unit, len(x)))
            y.append(value)
    return Stage(name, unit, curves)


def read_count(folder: Path) -> dict[str, Any] | None:
    """How the number of clusters was found, as ``--clusters auto`` wrote it; None where it was given."""
    try:
        count = json.loads((folder / COUNT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(count, dict):
        return None
    tried = [t for t in count.get("tried", []) if isinstance(t, dict)]
    tried = [t for t in tried if _is_number(t.get("n_clusters")) and _is_number(t.get("score"))]
    return {**count, "tried": tried} if tried else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
