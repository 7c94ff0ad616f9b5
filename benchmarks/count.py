"""What `--clusters auto` finds where the number of clusters is known, over seeds.

Made data (blobs, and data without clusters), standardised tables of scikit-learn, and the codes that
`deepclust run --clusterer kmeans` gives for the bundled digits and, with --data-root, for MNIST. The
known number is compared with the choice and plays no part in it.

    python benchmarks/count.py --seeds 5 --data-root data --results benchmarks/results/count-table.json
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from quality import machine, save
from sklearn import datasets

from deepclust import UnhealthyResult
from deepclust.core.count import CRITERION, choose_count

Make = Callable[[int], np.ndarray]


def blobs(k: int, std: float) -> Make:
    """k spherical Gaussians in 10 dimensions, centres uniform in a box of side 10."""
    return lambda seed: datasets.make_blobs(
        2000, 10, centers=k, cluster_std=std, center_box=(-5, 5), random_state=seed
    )[0]


def unequal(k: int) -> Make:
    """k spherical Gaussians in 5 dimensions whose sizes and spreads differ."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        sizes = (rng.dirichlet(np.full(k, 2.0)) * 1800 + 20).astype(int)
        centers, spreads = rng.uniform(-5, 5, (k, 5)), rng.uniform(0.4, 1.2, k)
        return datasets.make_blobs(sizes, 5, centers=centers, cluster_std=spreads, random_state=seed)[0]

    return make


def draw(name: str, *shape: int) -> Make:
    """Independent draws of numpy's distribution ``name``."""
    return lambda seed: getattr(np.random.default_rng(seed), name)(size=shape)


def table(load: Callable[[], Any]) -> Make:
    """The standardised rows of one of scikit-learn's tables, the same for each seed."""
    x = load().data
    return lambda seed: (x - x.mean(axis=0)) / x.std(axis=0)


def codes(data: str, out: Path, more: list[str]) -> Make:
    """The codes of sdae, trained from the seed."""

    def make(seed: int) -> np.ndarray:
        folder = out / f"{data}-seed{seed}"
        command = [sys.executable, "-m", "deepclust.cli", "run", "--data", data, "--encoder", "sdae"]
        command += ["--clusterer", "kmeans", "--evaluator", "clustering", "--seed", str(seed)]
        command += ["--out", str(folder), "-q", *more]
        code = subprocess.run(command).returncode
        if code not in (0, UnhealthyResult.exit_code):
            raise SystemExit(f"seed {seed} failed with exit code {code}: {' '.join(command)}")
        return np.load(folder / "embedding.npy")

    return make


def sets(out: Path, data_root: Path | None) -> dict[str, tuple[int, Make]]:
    """The data by their names, with the known number of clusters; 1 for none."""
    found: dict[str, tuple[int, Make]] = {}
    for k in (2, 5, 10, 20):
        found[f"{k} blobs, apart"] = (k, blobs(k, 1.0))
    for k in (5, 10, 20):
        found[f"{k} blobs, overlapping"] = (k, blobs(k, 2.5))
    for k in (5, 10, 20):
        found[f"{k} blobs, unequal"] = (k, unequal(k))
    found["one Gaussian, 10 dimensions"] = (1, draw("standard_normal", 2000, 10))
    found["uniform, 10 dimensions"] = (1, draw("uniform", 2000, 10))
    found["uniform square"] = (1, draw("uniform", 2000, 2))
    found["skewed (log-normal, sigma 1), 6 dimensions"] = (1, draw("lognormal", 2000, 6))
    found["iris, rows"] = (3, table(datasets.load_iris))
    found["wine, rows"] = (3, table(datasets.load_wine))
    found["breast cancer, rows"] = (2, table(datasets.load_breast_cancer))
    found["digits, codes of sdae"] = (10, codes("digits", out, []))
    if data_root is not None:
        more = ["--data-root", str(data_root), "--epochs-scale", "0.1"]
        found["MNIST, codes of sdae (--epochs-scale 0.1)"] = (10, codes("mnist", out, more))
    return found


def measure(make: Make, seed: int, low: int, high: int) -> dict[str, Any]:
    """One choice, and what it says of itself."""
    x = np.asarray(make(seed), dtype=np.float32)
    start = time.perf_counter()
    count = choose_count(x, low, high, seed, quiet=True)
    seconds = time.perf_counter() - start
    row = next(r for r in count.tried if r["n_clusters"] == count.n_clusters)
    return {
        "seed": seed,
        "samples": len(x),
        "dimensions": x.shape[1],
        "seconds": round(seconds, 1),
        **row,
        "won by": {int(r["n_clusters"]): r["chosen"] for r in count.tried if r["chosen"]},
        "sure": not count.doubts,
        "sentence": count.sure,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--low", type=int, default=2)
    parser.add_argument("--high", type=int, default=30)
    parser.add_argument("--only", default="", help="regular expression: sets by their names")
    parser.add_argument("--data-root", type=Path, help="folder of MNIST; left out without it")
    parser.add_argument("--out", type=Path, default=Path("runs/count"), help="folder of the runs")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    summary: dict[str, Any] = {
        "command": "python benchmarks/count.py " + " ".join(sys.argv[1:]),
        "criterion": CRITERION,
        "machine": machine(),
        "versions": {name: version(name) for name in ("deepclust", "numpy", "scikit-learn", "torch")},
        "tried": [args.low, args.high],
        "sets": {},
    }
    for name, (known, make) in sets(args.out, args.data_root).items():
        if not re.search(args.only, name):
            continue
        runs = [measure(make, seed, args.low, args.high) for seed in range(args.seeds)]
        summary["sets"][name] = {
            "known": known,
            "chosen": [r["n_clusters"] for r in runs],
            "sure": sum(r["sure"] for r in runs),
            "repetitions that chose it": [r["chosen"] for r in runs],
            "seconds": round(float(np.mean([r["seconds"] for r in runs])), 1),
            "runs": runs,
        }
        shown = {k: v for k, v in summary["sets"][name].items() if k != "runs"}
        print(f"{name}: {json.dumps(shown)}", flush=True)
        save(summary, args.results)


if __name__ == "__main__":
    main()
