"""Our torch k-means beside scikit-learn's: seconds a whole fit, turn by turn in one run, medians.

Gaussian blobs, float32; the same number of restarts and iterations at most, each from its own greedy
k-means++. On a GPU scikit-learn's time is still that of the CPU beside it.

    python benchmarks/kmeans_speed.py --device cpu --results benchmarks/results/kmeans-cpu.json
    python benchmarks/kmeans_speed.py --grid --results benchmarks/results/kmeans-grid.json

--grid measures many sizes with fewer restarts, from which the rule of clusterer.implementation=auto was made.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from quality import machine, save
from sklearn.cluster import KMeans

from deepclust.core.run.device import choose_device, describe
from deepclust.plugins.kmeans.lloyd import kmeans

WORK = 5e10  # products of a fit of the grid, about
PROBLEMS = ((70_000, 10, 10, 20), (70_000, 10, 100, 5), (60_000, 512, 10, 5), (60_000, 512, 100, 2))


def grid() -> list[tuple[int, int, int, int]]:
    """Samples, columns, clusters, restarts: from 2 to 20 restarts, as many as take seconds."""
    sizes = [
        (n, dim, k)
        for n in (2000, 20_000, 100_000)
        for dim in (2, 10, 32, 64, 128, 512)
        for k in (10, 30, 100)
        if n * dim <= 3e7
    ]
    return [(n, dim, k, int(min(20, max(2, WORK / (2 * 30 * n * dim * k))))) for n, dim, k in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    device = choose_device(args.device)
    before, rows, iterations = machine(), [], 30 if args.grid else 50
    for n, dim, k, restarts in grid() if args.grid else PROBLEMS:
        generator = torch.Generator().manual_seed(0)
        centers = torch.randn(k, dim, generator=generator) * (0.5 if args.grid else 1)
        x = centers[torch.randint(k, (n,), generator=generator)]
        x = x + torch.randn(n, dim, generator=generator)
        there, seconds, inertias = x.to(device), {"ours": [], "scikit-learn": []}, {}
        kmeans(there[:1000], k, n_init=2, max_iter=2)  # warm-up
        for repeat in range(args.repeats):
            start = time.perf_counter()
            result = kmeans(there, k, n_init=restarts, max_iter=iterations, seed=repeat)  # ends with a wait
            seconds["ours"].append(time.perf_counter() - start)
            inertias["ours"] = result.inertia
            start = time.perf_counter()
            fitted = KMeans(k, n_init=restarts, max_iter=iterations, random_state=repeat).fit(x.numpy())
            seconds["scikit-learn"].append(time.perf_counter() - start)
            inertias["scikit-learn"] = float(fitted.inertia_)
        medians = {name: round(statistics.median(s), 3) for name, s in seconds.items()}
        ratio = round(medians["scikit-learn"] / medians["ours"], 2)
        row = {"n": n, "dim": dim, "k": k, "restarts": restarts, "seconds": medians, "times faster": ratio,
               "inertia ratio": round(inertias["ours"] / inertias["scikit-learn"], 5)}  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    result = {
        "command": "python benchmarks/kmeans_speed.py " + " ".join(sys.argv[1:]),
        "machine": {**before, "device": describe(device)},
        "torch": torch.__version__,
        "rows": rows,
    }
    save(result, args.results)


if __name__ == "__main__":
    main()
