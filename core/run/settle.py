"""The number of clusters of a run that leaves it to its codes, kept in its folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..console import phase
from ..contract.interfaces import Count, Counter, Encoder
from ..data.data import Data
from ..files import write_json
from ..toolbox.inference import embed
from .run import Run

COUNT = "clusters.json"
NAMED = 3  # other numbers in a notice, at most


def settle(counter: Counter, encoder: Encoder, data: Data, low: int, high: int, run: Run) -> int:
    """The number of clusters of ``encoder``'s codes, from ``low`` to ``high``.

    One that is not sure is a notice of the run. Raises what ``counter`` does.
    """
    path = run.folder / COUNT
    found = _read(path, low, high)
    if found is None:
        with phase("counting the clusters"):
            z = embed(encoder, data, autocast=run.autocast).cpu().numpy()
            found = counter.count(z, low, high, run.seed_for("count"), quiet=run.quiet)
        kept = {"n_clusters": found.n_clusters, "sure": found.sentence, "certain": found.sure}
        kept |= {"alternatives": list(found.alternatives), "range": [low, high], **found.evidence}
        write_json(path, kept)
    if not run.quiet:
        print(f"  {found.sentence}", file=sys.stderr)
    if not found.sure:
        run.child("clusterer").notice(f"{found.sentence} {_advice(found.alternatives)}")
    return found.n_clusters


def _advice(alternatives: Sequence[int]) -> str:
    """What to do about a number that is not sure. alternatives: other numbers, the nearest first."""
    if not alternatives:
        return "Look at the members; --clusters K says the number that you need."
    options = " or ".join(f"--clusters {k}" for k in alternatives[:NAMED])
    return f"Compare the members with those of {options}, or say the number that you need."


def _read(path: Path, low: int, high: int) -> Count | None:
    """The count that is kept at ``path``; None where there is none of this range that can be read."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        count = Count(kept["n_clusters"], kept["certain"], kept["sure"], kept["alternatives"])
        right = kept["range"] == [low, high] and type(count.n_clusters) is int
        right = right and type(count.sure) is bool and isinstance(count.sentence, str)
        return count if right and low <= count.n_clusters <= high else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
