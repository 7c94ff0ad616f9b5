"""The `umap` encoder beside umap-learn's UMAP: trustworthiness, k-means on the codes, new samples, seconds.

Four fifths of each set are fitted, the others placed afterwards: by the network here, by umap-learn's
`transform` there. Both have 10 dimensions, 15 neighbours and a least distance of 0. Trustworthiness is
scikit-learn's with 15 neighbours, against the samples as both are given them; k-means (20 restarts) is fitted
on the seen samples' codes and assigns the new ones'. umap-learn needs a Python of its own:

    python -m venv peer && peer/bin/pip install umap-learn
    python benchmarks/umap_peer.py --peer peer/bin/python --mnist DIR --results umap-peer.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import machine, save
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.manifold import trustworthiness
from sklearn.preprocessing import StandardScaler

from deepclust.core import Data, Run, embed
from deepclust.core.contract.registry import installed
from deepclust.core.engine.checkpoint import seed_everything
from deepclust.core.run.device import choose_precision, prepare
from deepclust.plugins.clustering.metric import accuracy
from made_sets import mnist

TABLE = "mean and deviation over seeds"
WORKER = Path(__file__).with_name("umap_learn.py")


def ours(seen: np.ndarray, new: np.ndarray, seed: int, folder: Path) -> dict[str, Any]:
    device = torch.device("cpu")
    prepare(device)
    run = Run(folder, seed=seed, precision=choose_precision("auto", device), quiet=True, snapshot_seconds=1e6)
    start = time.perf_counter()
    seed_everything(run.seed_for("weights"))
    data = Data(torch.from_numpy(seen), "seen")
    encoder = installed().make("encoder", "umap", data.shape, settings={}).fit(data.seal(), run)
    codes = embed(encoder, data).numpy()
    middle = time.perf_counter()
    placed = embed(encoder, Data(torch.from_numpy(new), "new")).numpy()
    return {"seen": codes, "new": placed, "seconds": (middle - start, time.perf_counter() - middle)}


def peers(python: str, seen: np.ndarray, new: np.ndarray, seed: int, folder: Path) -> dict[str, Any]:
    given, made = folder / "given.npz", folder / "made.npz"
    np.savez(given, seen=seen, new=new)
    subprocess.run([python, str(WORKER), str(given), str(made), str(seed)], check=True)
    with np.load(made) as found:
        return {**found}


def scores(codes: dict[str, Any], seen: np.ndarray, new: np.ndarray, y: np.ndarray, z: np.ndarray) -> dict:
    """y, z: classes of the seen and of the new samples."""
    means = KMeans(len(np.unique(y)), n_init=20, random_state=0).fit(codes["seen"])
    found = {
        "trustworthiness": trustworthiness(seen, codes["seen"], n_neighbors=15),
        "accuracy": accuracy(y, means.labels_),
        "new trustworthiness": trustworthiness(new, codes["new"], n_neighbors=15),
        "new accuracy": accuracy(z, means.predict(codes["new"])),
        "fit seconds": codes["seconds"][0],
        "placing seconds": codes["seconds"][1],
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def sets(folder: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    chosen = {"digits": load_digits(return_X_y=True)}
    for name, load in (("wine", load_wine), ("breast cancer", load_breast_cancer)):
        x, y = load(return_X_y=True)
        chosen[name] = StandardScaler().fit_transform(x), y
    if folder:
        with tempfile.TemporaryDirectory() as work:
            made = mnist(folder, 10_000, rows=True)(Path(work))
        chosen["MNIST 10,000"] = made.x, made.y
    return {name: (x.astype(np.float32), y) for name, (x, y) in chosen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peer", required=True, help="a Python that has umap-learn")
    parser.add_argument("--mnist", type=Path, help="folder of the four idx gz files")
    parser.add_argument("--seeds", type=int, default=3, help="each with a split of its own")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    kept = json.loads(args.results.read_text()) if args.results and args.results.exists() else {}
    table: dict[str, Any] = kept.get(TABLE, {})
    for name, (x, y) in sets(args.mnist).items():
        if name in table:
            continue
        rows: dict[str, list[dict]] = {"deepclust": [], "umap-learn": []}
        for seed in range(args.seeds):
            order = np.random.default_rng(seed).permutation(len(x))
            a, b = np.split(order, [len(x) * 4 // 5])
            with tempfile.TemporaryDirectory() as work:
                both = ours(x[a], x[b], seed, Path(work)), peers(args.peer, x[a], x[b], seed, Path(work))
            for row, codes in zip(rows.values(), both, strict=True):
                row.append(scores(codes, x[a], x[b], y[a], y[b]))
        table[name] = {
            peer: {
                key: [round(f([r[key] for r in found]), 4) for f in (statistics.mean, statistics.stdev)]
                for key in found[0]
            }
            for peer, found in rows.items()
        }
        print(name, json.dumps(table[name], indent=1), flush=True)
        save({"command": __doc__.strip().splitlines()[-1].strip(), TABLE: table,
              "umap-learn": str(both[1]["version"]), "machine": machine()}, args.results)  # fmt: skip


if __name__ == "__main__":
    main()
