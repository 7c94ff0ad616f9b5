"""What scores.json says of a run, its summary: scores by evaluator, notices, whether it is healthy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SCORES = "scores.json"
EVALUATORS = "evaluators"  # the entry with the scores, by the evaluators' names
BESIDE = ("protocol", "health", "seconds", "resumed", "clusterer")  # the other entries
LISTS = {"health": "reasons", "protocol": "notices"}  # sentences, by the entry that has them
FAILED = "failed"  # in place of an evaluator's scores: why there are none


def health(reasons: Iterable[str]) -> dict[str, Any]:
    """The entry ``health``: what makes the result unhealthy, nothing where it is fine."""
    found = list(reasons)
    return {"healthy": not found, "reasons": found}


def reasons(summary: Mapping[str, Any]) -> list[str]:
    """Why a result is not healthy; none of one that is, or that an older version wrote."""
    return list(summary.get("health", {}).get("reasons", []))


def read(path: Path) -> dict[str, Any]:
    """The summary in a file; raises OSError where it is not there, ValueError where it holds none.

    Older versions wrote the scores beside the other entries, and NaN where null stands now.
    """
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    if not isinstance(found, dict):
        raise ValueError("it holds no scores by name")
    if EVALUATORS not in found:
        beside = {key: value for key, value in found.items() if key in BESIDE}
        found = {EVALUATORS: {k: v for k, v in found.items() if k not in BESIDE}, **beside}
    own = found[EVALUATORS]
    wrong = {key for key in (EVALUATORS, *BESIDE) if not isinstance(found.get(key, {}), dict)} - {"resumed"}
    wrong |= {key for key, value in own.items() if not isinstance(value, dict)} if not wrong else set()
    wrong |= {key for key, part in LISTS.items() if not isinstance(_part(found, key, part, []), list)}
    for part in ("encoder", "clusterer"):
        wrong |= set() if isinstance(_part(found, "seconds", part), (int, float)) else {"seconds"}
    if wrong:
        raise ValueError(f"its '{min(wrong)}' is not as a run writes it")
    return found


def _part(summary: Mapping[str, Any], key: str, part: str, default: Any = None) -> Any:
    entry = summary.get(key, {})
    return entry.get(part, default) if isinstance(entry, dict) else None


def reasons_of(run: Path) -> list[str]:
    """Why the result in a run's folder is not healthy, as far as its scores are there to say it."""
    try:
        return reasons(read(run / SCORES))
    except (OSError, ValueError):  # a model's file alone, or scores that were lost
        return []


def notices(summary: Mapping[str, Any]) -> list[str]:
    """All that the user must not miss, ``reasons`` among them."""
    return list(summary.get("protocol", {}).get("notices", []))


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """The notices that leave the result healthy."""
    ill = reasons(summary)
    return [text for text in notices(summary) if text not in ill]


def parts(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and scores of a clusterer that chose by one, and of each evaluator, in their order."""
    own = [("clusterer", summary["clusterer"])] if "clusterer" in summary else []
    return [*own, *summary.get(EVALUATORS, {}).items()]


def has_failed(values: Mapping[str, Any]) -> bool:
    """Whether what stands in place of an evaluator's scores says that it failed."""
    return set(values) == {FAILED} and isinstance(values[FAILED], str)
