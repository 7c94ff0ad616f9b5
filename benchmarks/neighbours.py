"""Nearest neighbours of a run's codes by cosine: seconds and recall beside scikit-learn's exact search.

Both find the same number of neighbours of every code among all, itself left out, in one process, turn by
turn; medians. Recall is the share of scikit-learn's neighbours that ours are, and of float64's on some codes.

    python benchmarks/neighbours.py runs/mnist/embedding.npy --results benchmarks/results/neighbours.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from quality import machine, save
from sklearn.neighbors import NearestNeighbors

from deepclust.core.run.device import choose_device, describe, prepare
from deepclust.core.toolbox.neighbour import BUDGET, nearest

CHECKED = 500  # codes whose neighbours are found in float64


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of the expected (Q, n) that was found."""
    return float(np.mean([np.isin(e, f).mean() for f, e in zip(found, expected, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("codes", type=Path, help="embedding.npy of a run, (N, D)")
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--samples", type=int, default=0, help="the first so many; 0: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    before = machine()
    device = choose_device(args.device)
    prepare(device)
    z = np.load(args.codes)[: args.samples or None].astype(np.float32)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    codes = torch.from_numpy(unit).to(device)
    own = torch.arange(len(unit), device=device)
    times: dict[str, list[float]] = {"deepclust": [], "scikit-learn": []}
    for _ in range(args.repeats):
        start = time.perf_counter()
        ours = nearest(codes, codes, args.neighbours, own=own).index.cpu().numpy()
        times["deepclust"].append(time.perf_counter() - start)
        start = time.perf_counter()
        search = NearestNeighbors(n_neighbors=args.neighbours, algorithm="brute").fit(unit)
        theirs = search.kneighbors(return_distance=False)
        times["scikit-learn"].append(time.perf_counter() - start)
    some = np.random.default_rng(0).choice(len(unit), min(CHECKED, len(unit)), replace=False)
    exact = unit.astype(np.float64)
    far = (exact**2).sum(axis=1) - 2 * exact[some] @ exact.T  # but for a constant of each code
    far[np.arange(len(some)), some] = np.inf
    expected = np.argsort(far, axis=1, kind="stable")[:, : args.neighbours]
    seconds = {name: round(statistics.median(values), 3) for name, values in times.items()}
    summary: dict[str, Any] = {
        "command": "python benchmarks/neighbours.py " + " ".join(sys.argv[1:]),
        "machine": {**before, "device": describe(device)},
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
        "codes": list(unit.shape),
        "neighbours": args.neighbours,
        "MiB held beside codes and result": BUDGET // 2**20,
        "seconds": seconds,
        "ratio": round(seconds["deepclust"] / seconds["scikit-learn"], 3),
        "recall of scikit-learn's": round(recall(ours, theirs), 6),
        f"recall of float64's, {len(some)} codes": round(recall(ours[some], expected), 6),
        f"scikit-learn's recall of float64's, {len(some)} codes": round(recall(theirs[some], expected), 6),
    }
    print(json.dumps(summary, indent=2))
    save(summary, args.results)


if __name__ == "__main__":
    main()
