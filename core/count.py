"""How many clusters the codes of a data set have, found without labels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .console import phase
from .data import Data
from .files import write_json
from .inference import embed
from .interfaces import Encoder
from .run import Run

COUNT = "clusters.json"


@dataclass(frozen=True)
class Count:
    """The number of clusters that was chosen, and what speaks for it."""

    n_clusters: int
    sure: str
    tried: list[dict[str, float]]


def settle(encoder: Encoder, data: Data, low: int, high: int, run: Run) -> int:
    """The number of clusters of ``encoder``'s codes, from ``low`` to ``high``; kept in the run's folder."""
    path: Path = run.folder / COUNT
    if path.exists():
        return int(json.loads(path.read_text(encoding="utf-8"))["n_clusters"])
    with phase("counting the clusters"):
        z = embed(encoder, data, autocast=run.autocast).cpu().numpy()
        chosen = choose_count(z, low, high, run.seed_for("count"), quiet=run.quiet)
    write_json(path, asdict(chosen))
    return chosen.n_clusters


def choose_count(z: np.ndarray, low: int, high: int, seed: int, *, quiet: bool = False) -> Count:
    """The number of clusters of codes z (N, D)."""
    raise NotImplementedError
