"""Many embeddings in half precision on the disk: identity + kmeans beside MiniBatchKMeans and faiss.

Made data, a mixture of K Gaussians of equal size, written in pieces to DIR and removed afterwards. Each
contestant is a process of its own: minutes from start to labels (ours with scores and report), the largest
resident memory, and the adjusted Rand index against the mixture. faiss-cpu takes part where it is installed.

    python benchmarks/embeddings.py DIR --samples 1000000 --results benchmarks/results/embeddings.json
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from quality import machine, save
from sklearn.metrics import adjusted_rand_score

PIECE = 20_000  # rows made at a time
APART = 0.35  # deviation of a value of the centres, where that of a value within a Gaussian is 1


def make(folder: Path, n: int, dim: int, k: int) -> tuple[Path, np.ndarray]:
    """The file of the embeddings, and the Gaussian that each is of."""
    rng = np.random.default_rng(0)
    centers = (APART * rng.normal(size=(k, dim))).astype(np.float32)
    truth, path = rng.integers(0, k, n), folder / "embeddings.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, dim))
    for start in range(0, n, PIECE):
        own = truth[start : start + PIECE]
        rows[start : start + PIECE] = centers[own] + rng.standard_normal((len(own), dim), np.float32)
    rows.flush()
    return path, truth


def minibatch(path: Path, k: int) -> np.ndarray:
    """scikit-learn's, a part at a time in float32, its defaults otherwise."""
    from sklearn.cluster import MiniBatchKMeans

    x = np.load(path, mmap_mode="r")
    return MiniBatchKMeans(k, random_state=0).fit_predict(x.astype(np.float32))


def faiss_kmeans(path: Path, k: int) -> np.ndarray:
    """faiss with all samples, 25 iterations as by its default, one start."""
    import faiss

    x = np.load(path, mmap_mode="r").astype(np.float32)
    found = faiss.Kmeans(x.shape[1], k, niter=25, nredo=1, seed=1, max_points_per_centroid=len(x))
    found.train(x)
    return found.index.search(x, 1)[1][:, 0]


OTHERS = {"MiniBatchKMeans": minibatch, "faiss": faiss_kmeans}


def measured(command: list[str]) -> dict[str, Any]:
    """Seconds and largest resident memory of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(code) not in (0, 3):
        raise SystemExit(f"failed: {' '.join(command)}")
    return {
        "minutes": round((time.perf_counter() - start) / 60, 2),
        "GiB at most": round(used.ru_maxrss * 1024 / 2**30, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--only", help="carry one contestant out in this process")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    if args.only:
        labels = OTHERS[args.only](args.folder / "embeddings.npy", args.clusters)
        np.save(args.folder / "labels.npy", labels)
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    before = machine()
    path, truth = make(args.folder, args.samples, args.dim, args.clusters)
    out, rows = args.folder / "run", {}
    command = [sys.executable, "-m", "deepclust", "run", "--data", str(path), "--encoder", "identity"]
    command += ["--clusterer", "kmeans", "--clusters", str(args.clusters), "--out", str(out), "--overwrite"]
    rows["identity + kmeans"] = measured(command)
    record, scores = (json.loads((out / f"{name}.json").read_text()) for name in ("run", "scores"))
    labels = np.loadtxt(out / "labels.csv", np.int64, delimiter=",", skiprows=1, usecols=1)
    rows["identity + kmeans"] |= {
        "ARI": round(adjusted_rand_score(truth, labels), 4),
        "seconds of the parts": scores["seconds"],
        "settings": record["request"]["clusterer"]["settings"],
    }
    print("identity + kmeans", rows["identity + kmeans"], flush=True)
    for name in OTHERS:
        if name == "faiss" and importlib.util.find_spec("faiss") is None:
            continue
        here = [sys.executable, __file__, str(args.folder), "--clusters", str(args.clusters), "--only", name]
        rows[name] = measured(here)
        found = np.load(args.folder / "labels.npy")
        rows[name]["ARI"] = round(adjusted_rand_score(truth, found), 4)
        print(name, rows[name], flush=True)
    path.unlink()
    (args.folder / "labels.npy").unlink(missing_ok=True)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    result = {
        "command": f"python benchmarks/embeddings.py DIR --samples {args.samples} --clusters {args.clusters}",
        "machine": {**before, "threads": threads},
        "samples": args.samples, "values": args.dim, "clusters": args.clusters, "rows": rows,
    }  # fmt: skip
    save(result, args.results)


if __name__ == "__main__":
    main()
