"""Frozen features without training: identity and pca with k-means, beside scikit-learn's own k-means.

Each seed is one whole run of the pipeline in this process, without its report, then scikit-learn's KMeans
with as many restarts on the features as they are and at length 1; turn by turn, so that both meet the same
machine.

    python benchmarks/features.py features.npz --results benchmarks/results/features.json
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import machine, save
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

from deepclust.core import Place
from deepclust.core.run.pipeline import run
from deepclust.core.run.plan import request_from
from deepclust.plugins.clustering.metric import accuracy

RESTARTS = 20
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("identity", {}),
    "identity, normalize=none": ("identity", {"normalize": "none"}),
    "pca": ("pca", {}),
}


def ours(path: Path, encoder: str, settings: dict[str, Any], seed: int, k: int) -> tuple[float, float]:
    """Accuracy and seconds of a whole run."""
    asked = {"encoder": encoder, "clusterer": "kmeans", "data": str(path), "clusters": k, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        request = request_from({"run": asked, "encoder": settings}, {"evaluators": ["clustering"]})
        outcome = run(request, Place(path.parent), Path(folder) / "run", quiet=True)
        seconds = time.perf_counter() - start
    return float(outcome.summary["evaluators"]["clustering"]["accuracy"]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path, help=".npz with x (N, D) and y (N,)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    before = machine()
    with np.load(args.path) as file:
        x, y = file["x"].astype(np.float32), file["y"]
    k = len(np.unique(y))
    theirs = {"scikit-learn, as they are": x, "scikit-learn, length 1": normalize(x)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*OURS, *theirs)}
    ours(args.path, "identity", {}, 0, k)  # what is imported once
    for seed in range(args.seeds):
        for name, (encoder, settings) in OURS.items():
            found[name].append(ours(args.path, encoder, settings, seed, k))
        for name, rows in theirs.items():
            start = time.perf_counter()
            labels = KMeans(k, n_init=RESTARTS, random_state=seed).fit_predict(rows)
            seconds = time.perf_counter() - start
            found[name].append((accuracy(y, labels), seconds))
    rows_ = {
        name: {
            "accuracy": round(statistics.fmean(a for a, _ in pairs), 4),
            "deviation": round(statistics.stdev([a for a, _ in pairs]), 4),
            "each": [round(a, 4) for a, _ in pairs],
            "seconds, median": round(statistics.median(s for _, s in pairs), 2),
        }
        for name, pairs in found.items()
    }
    for name, row in rows_.items():
        print(f"{name:28} {row}", flush=True)
    result = {
        "command": "python benchmarks/features.py " + " ".join(Path(a).name for a in sys.argv[1:]),
        "machine": {**before, "threads": torch.get_num_threads()},
        "samples": len(x), "values": x.shape[1], "clusters": k, "seeds": args.seeds, "restarts": RESTARTS,
        "rows": rows_,
    }  # fmt: skip
    save(result, args.results)


if __name__ == "__main__":
    main()
