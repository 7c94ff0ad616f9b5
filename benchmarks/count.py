"""Is `--clusters auto` honest? What it finds, and how sure it says it is, where the number is known.

Made and real data (`count_sets.py`), each over seeds. The known number is compared with the choice and
plays no part in it; where it is 1, no choice is right. Each choice is kept below --out, and the same
command goes on where it stopped.

    python benchmarks/count.py --mnist data/mnist --features data/features/cifar10_lite0.npz \\
        --results benchmarks/results/count-honest.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from count_sets import Set, other_sets, tuned_sets
from quality import machine, save

from deepclust.plugins.silhouette import certainty
from deepclust.plugins.silhouette.counter import CRITERION, choose_count

OUTCOMES = ("right and sure", "right and not sure", "wrong and sure", "wrong and not sure")


def measure(item: Set, seed: int, low: int, high: int, kept: Path) -> dict[str, Any]:
    """One choice and what it says of itself, from ``kept`` where it stands there."""
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    x = np.asarray(item.make(seed), dtype=np.float32)
    start = time.perf_counter()
    count = choose_count(x, low, high, seed, quiet=True)
    seconds = round(time.perf_counter() - start, 1)
    found = {
        "seed": seed,
        "samples": len(x),
        "dimensions": x.shape[1],
        "seconds": seconds,
        "n_clusters": count.n_clusters,
    }
    found |= {"sure": count.sentence, "alternatives": list(count.alternatives), **count.evidence}
    kept.write_text(json.dumps(found))
    return found


def compare(run: dict[str, Any], known: int) -> dict[str, Any]:
    """What came of one choice: without the numbers that were tried, with what each criterion says alone."""
    tried = run["tried"]
    row = next(t for t in tried if t["n_clusters"] == run["n_clusters"])
    winner = max(tried, key=lambda t: (t["chosen"], t["score"]))
    place = certainty.shown([t["gap"] for t in tried])
    shown = None if place is None else tried[place]["n_clusters"]
    right, sure = run["n_clusters"] == known, run["certainty"] != "not sure"
    return {
        **{name: run[name] for name in ("seed", "samples", "dimensions", "seconds", "n_clusters")},
        "outcome": f"{'right' if right else 'wrong'} and {'sure' if sure else 'not sure'}",
        "known is named": right or known in run["alternatives"],
        "silhouette alone": winner["n_clusters"],
        # How it was told before: most repetitions agree, the clusters come back, and there are clusters.
        "silhouette alone, sure": winner["chosen"] >= 16
        and winner["stability"] >= 0.7
        and winner["score"] - winner["reference"] >= 0.02
        and winner["n_clusters"] != tried[-1]["n_clusters"],
        "neighbour graph alone": shown,
        "score": row["score"],
        "gap": row["gap"],
        **{name: run[name] for name in ("certainty", "alternatives", "sure")},
    }


def tally(sets: dict[str, Any], degree: str | None = None) -> dict[str, int]:
    """How many runs came to each outcome; only those of one degree of certainty, where it is named."""
    runs = [r for item in sets.values() for r in item["runs"] if degree in (None, r["certainty"])]
    return {name: sum(r["outcome"] == name for r in runs) for name in OUTCOMES}


def summarise(sets: dict[str, Any]) -> dict[str, Any]:
    """The outcomes of some sets, those without clusters apart, beside those of the silhouette alone."""
    parts = {"with clusters": {n: s for n, s in sets.items() if s["known"] > 1}}
    parts["without clusters"] = {n: s for n, s in sets.items() if s["known"] == 1}
    summary: dict[str, Any] = {}
    for name, part in parts.items():
        pairs = [(r, s["known"]) for s in part.values() for r in s["runs"]]
        alone = dict.fromkeys(OUTCOMES, 0)
        for r, known in pairs:
            right, sure = r["silhouette alone"] == known, r["silhouette alone, sure"]
            alone[f"{'right' if right else 'wrong'} and {'sure' if sure else 'not sure'}"] += 1
        summary[name] = {
            "sets": len(part),
            "runs": len(pairs),
            **tally(part),
            "known is chosen or named": sum(r["known is named"] for r, _ in pairs),
            "by degree": {d: tally(part, d) for d in ("sure", "fairly sure", "not sure")},
            "silhouette alone": alone,
            "neighbour graph alone": {
                "right": sum(r["neighbour graph alone"] == known for r, known in pairs),
                "wrong": sum(r["neighbour graph alone"] not in (known, None) for r, known in pairs),
                "shows no number": sum(r["neighbour graph alone"] is None for r, _ in pairs),
            },
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--low", type=int, default=2)
    parser.add_argument("--high", type=int, default=30)
    parser.add_argument("--only", default="", help="regular expression: sets by their names")
    parser.add_argument("--mnist", type=Path, help="folder of MNIST's gz files; left out without it")
    parser.add_argument("--features", type=Path, help="npz file of CIFAR-10's features; left out without it")
    parser.add_argument("--out", type=Path, default=Path("runs/count"), help="folder of the runs")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    sets = {**tuned_sets(), **other_sets(args.out, args.mnist, args.features)}
    summary: dict[str, Any] = {
        "command": "python benchmarks/count.py " + " ".join(sys.argv[1:]),
        "criterion": CRITERION,
        "thresholds": {name: value for name, value in vars(certainty).items() if name.isupper()},
        "thresholds were chosen on": [name for name, item in sets.items() if item.tuned],
        "machine": machine(),
        "versions": {name: version(name) for name in ("deepclust", "numpy", "scikit-learn", "torch")},
        "tried": [args.low, args.high],
        "summary": {},
        "sets": {},
    }
    done: dict[bool, dict[str, Any]] = {True: {}, False: {}}
    for name, item in sets.items():
        if not re.search(args.only, name):
            continue
        stem = re.sub(r"\W+", "-", name)
        runs = [
            compare(measure(item, seed, args.low, args.high, args.out / f"{stem}-{seed}.json"), item.known)
            for seed in range(args.seeds)
        ]
        done[item.tuned][name] = {"known": item.known, "runs": runs}
        print(f"{name} (known: {item.known if item.known > 1 else 'none'})")
        for r in runs:
            print(f"    {r['outcome']}: {r['sure']}", flush=True)
        for tuned, title in ((True, "chosen on"), (False, "not chosen on")):
            summary["summary"][f"sets that thresholds were {title}"] = summarise(done[tuned])
        summary["sets"] = {**done[True], **done[False]}
        save(summary, args.results)
    print(json.dumps(summary["summary"], indent=2))


if __name__ == "__main__":
    main()
