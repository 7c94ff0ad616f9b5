"""What scores.json says of a run: the scores of its evaluators, its notices, and whether it is healthy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SCORES = "scores.json"
RESERVED = ("protocol", "health", "seconds", "resumed")  # what stands there and is of no evaluator


def health(reasons: Iterable[str]) -> dict[str, Any]:
    """The entry ``health``: what makes the result unhealthy, nothing where it is fine."""
    found = list(reasons)
    return {"healthy": not found, "reasons": found}


def reasons(scores: Mapping[str, Any]) -> list[str]:
    """Why a result is not healthy; none of one that is, or that an older version wrote."""
    return list(scores.get("health", {}).get("reasons", []))


def reasons_of(run: Path) -> list[str]:
    """Why the result in a run's folder is not healthy, as far as its scores are there to say it."""
    try:
        found: dict[str, Any] = json.loads((run / SCORES).read_text(encoding="utf-8"))
        return reasons(found)
    except (OSError, ValueError):  # a model's file alone, or scores that were lost
        return []


def notices(scores: Mapping[str, Any]) -> list[str]:
    """All that the user must not miss, ``reasons`` among them."""
    return list(scores.get("protocol", {}).get("notices", []))


def remarks(scores: Mapping[str, Any]) -> list[str]:
    """The notices that leave the result healthy."""
    ill = reasons(scores)
    return [text for text in notices(scores) if text not in ill]


def by_evaluator(scores: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The scores of each evaluator, and of a clusterer that chose by one, in their order."""
    return {name: values for name, values in scores.items() if name not in RESERVED}
