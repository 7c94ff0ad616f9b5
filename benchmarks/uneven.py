"""SCAN on classes of uneven sizes: what each prior comes to, beside k-means on the same codes.

    python benchmarks/uneven.py --seeds 2 --results benchmarks/results/uneven-scan.json

Digits in uneven numbers of several classes with simclr's codes, made rows with those of sdae, at half of
the usual lengths. Choosing is done by the runs themselves, without labels; accuracy is looked at here alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, make_blobs

from deepclust.core import Storage
from deepclust.core.run import pipeline
from deepclust.core.run.plan import Request

DIGITS = {  # the counts of classes
    "digits 176 of 295": {0: 176, 1: 30, 4: 30, 6: 30, 7: 29},
    "digits 180 of 300": {3: 180, 2: 30, 5: 30, 8: 30, 9: 30},
    "digits 150 of 210": {6: 150, 0: 20, 7: 20, 4: 20},
    "digits halving": {1: 170, 3: 85, 4: 42, 7: 21, 9: 11},
    "digits, ten sizes": dict(enumerate((178, 120, 80, 60, 50, 40, 30, 25, 20, 15))),
    "digits, even": {0: 60, 1: 60, 4: 60, 6: 60, 7: 60},
}
ROWS = {"blobs 1 to 20": ([400, 20, 20, 20], 8, 1.0), "blobs halving": ([400, 200, 100, 50, 25, 13], 10, 1.5)}


def sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Samples and classes by name."""
    digits, made = load_digits(), {}
    for name, counts in DIGITS.items():
        draw = np.random.default_rng(0)
        index = [draw.permutation(np.flatnonzero(digits.target == c))[:n] for c, n in counts.items()]
        index = draw.permutation(np.concatenate(index))
        made[name] = ((digits.images[index] * 15).astype(np.uint8), digits.target[index])
    for name, (sizes, dim, spread) in ROWS.items():
        x, y = make_blobs(sizes, dim, cluster_std=spread, center_box=(-4, 4), random_state=1)
        made[name] = (x.astype(np.float32), y)
    return made


def main() -> None:
    """Run them all and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--out", type=Path, help="where the runs are kept, to go on with them")
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp(prefix="uneven-"))
    found: dict[str, dict[str, list[float]]] = {}
    for name, (x, y) in sets().items():
        file = out / f"{name.replace(' ', '-')}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, x=x, y=y)
        found[name] = {}
        for way in ("kmeans", "uniform", "estimated", "auto"):
            for seed in range(args.seeds):
                images = x.ndim == 3
                clusterer = {} if way == "kmeans" else {"prior": way, "label_epochs": "0"}
                request = Request(
                    data=str(file), clusters=len(np.unique(y)), seed=seed, evaluators=("clustering",),
                    encoder="simclr" if images else "sdae", clusterer="scan" if clusterer else "kmeans",
                    epochs_scale=0.5, device="cpu", precision="float32",
                    settings={"encoder": {"preset": "digits"} if images else {}, "clusterer": clusterer},
                )  # fmt: skip
                scores = pipeline.run(
                    request, Storage(out), out / file.stem / f"{way}{seed}",
                    encoder_folder=out / file.stem / f"encoder{seed}", quiet=True,
                ).scores  # fmt: skip
                found[name].setdefault(way, []).append(round(scores["clustering"]["accuracy"], 4))
        print(f"{name:20}", *(f"{way} {np.mean(a):.3f}" for way, a in found[name].items()), flush=True)
        if args.results:
            args.results.parent.mkdir(parents=True, exist_ok=True)
            args.results.write_text(json.dumps({"accuracy by set, prior and seed": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
