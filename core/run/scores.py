"""What scores.json says of a run: the scores of its evaluators, its notices, and whether it is healthy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SCORES = "scores.json"
LISTS = {"health": "reasons", "protocol": "notices"}  # sentences, by the entry that has them
RESERVED = ("protocol", "health", "seconds", "resumed")  # what stands there and is of no evaluator


def health(reasons: Iterable[str]) -> dict[str, Any]:
    """The entry ``health``: what makes the result unhealthy, nothing where it is fine."""
    found = list(reasons)
    return {"healthy": not found, "reasons": found}


def reasons(scores: Mapping[str, Any]) -> list[str]:
    """Why a result is not healthy; none of one that is, or that an older version wrote."""
    return list(scores.get("health", {}).get("reasons", []))


def read(path: Path) -> dict[str, Any]:
    """The scores in a file; raises OSError where it is not there, ValueError where it holds none."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it holds no scores by name")
    wrong = {key for key, value in found.items() if key != "resumed" and not isinstance(value, dict)}
    wrong |= {key for key, part in LISTS.items() if not isinstance(_part(found, key, part, []), list)}
    for part in ("encoder", "clusterer"):
        wrong |= set() if isinstance(_part(found, "seconds", part), (int, float)) else {"seconds"}
    if wrong:
        raise ValueError(f"its '{min(wrong)}' is not as a run writes it")
    return found


def _part(scores: Mapping[str, Any], key: str, part: str, default: Any = None) -> Any:
    entry = scores.get(key, {})
    return entry.get(part, default) if isinstance(entry, dict) else None


def reasons_of(run: Path) -> list[str]:
    """Why the result in a run's folder is not healthy, as far as its scores are there to say it."""
    try:
        return reasons(read(run / SCORES))
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
