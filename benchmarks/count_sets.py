"""Data whose number of clusters is known: made, and real ones that hold classes."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA

from deepclust import UnhealthyResult

Make = Callable[[int], np.ndarray]


class Set(NamedTuple):
    """known: the number of clusters, 1 for none. tuned: whether a threshold was chosen on it."""

    known: int
    make: Make
    tuned: bool = False


def centres(k: int, apart: float, dim: int, rng: np.random.Generator) -> np.ndarray:
    """k points, at least ``apart`` from each other, in the smallest box in which they are found."""
    side = apart
    while True:
        found: list[np.ndarray] = []
        for _ in range(2000):
            point = rng.uniform(-side, side, dim)
            if all(np.linalg.norm(point - other) >= apart for other in found):
                found.append(point)
            if len(found) == k:
                return np.array(found)
        side *= 1.1


def blobs(k: int, apart: float, dim: int = 10, n: int = 2000, sizes: Sequence[int] = ()) -> Make:
    """k Gaussians of deviation 1 whose centres lie at least ``apart``."""
    return lambda seed: datasets.make_blobs(
        sizes or n, centers=centres(k, apart, dim, np.random.default_rng(seed)), random_state=seed
    )[0]


def boxed(k: int, std: float) -> Make:
    """k Gaussians in 10 dimensions, centres uniform in a box of side 10."""
    return lambda seed: datasets.make_blobs(
        2000, 10, centers=k, cluster_std=std, center_box=(-5, 5), random_state=seed
    )[0]


def unequal(k: int) -> Make:
    """k Gaussians in 5 dimensions whose sizes and spreads differ, centres uniform in a box of side 10."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        sizes = (rng.dirichlet(np.full(k, 2.0)) * 1800 + 20).astype(int)
        centers, spreads = rng.uniform(-5, 5, (k, 5)), rng.uniform(0.4, 1.2, k)
        return datasets.make_blobs(sizes, 5, centers=centers, cluster_std=spreads, random_state=seed)[0]

    return make


def stretched(k: int, apart: float, dim: int, *, alike: bool) -> Make:
    """k Gaussians stretched by up to five times, all in the same directions or each in its own."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        parts, turn = [], None
        for centre in centres(k, apart, dim, rng):
            if turn is None or not alike:
                turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0] * rng.uniform(0.35, 1.75, dim)
            parts.append(centre + rng.standard_normal((2000 // k, dim)) @ turn.T)
        return np.concatenate(parts)

    return make


def shaped(k: int, apart: float, dim: int, name: str, **how: float) -> Make:
    """k clusters of numpy's distribution ``name``."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return np.concatenate(
            [c + getattr(rng, name)(size=(2000 // k, dim), **how) for c in centres(k, apart, dim, rng)]
        )

    return make


def noisy(k: int, apart: float, dim: int, share: float) -> Make:
    """k Gaussians, and a share of the samples uniform over all of them."""

    def make(seed: int) -> np.ndarray:
        x = blobs(k, apart, dim, int(2000 * (1 - share)))(seed)
        low, high = x.min(axis=0) - 1, x.max(axis=0) + 1
        return np.concatenate([x, np.random.default_rng(seed).uniform(low, high, (2000 - len(x), dim))])

    return make


def columns(k: int, apart: float, dim: int, more: int) -> Make:
    """k Gaussians, standardised, beside ``more`` columns of noise."""

    def make(seed: int) -> np.ndarray:
        x = standard(blobs(k, apart, dim)(seed))
        return np.concatenate([x, np.random.default_rng(seed).standard_normal((len(x), more))], axis=1)

    return make


def draw(name: str, *shape: int, **how: float) -> Make:
    """Independent draws of numpy's distribution ``name``: no clusters."""
    return lambda seed: getattr(np.random.default_rng(seed), name)(size=shape, **how)


def curve(place: Callable[[np.ndarray], Sequence[np.ndarray]], noise: float = 0.05) -> Make:
    """1,500 points along a curve of a parameter from 0 to 1."""

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        x = np.stack(place(rng.uniform(0, 1, 1500)), axis=1)
        return x + noise * rng.standard_normal(x.shape)

    return make


def spirals(seed: int) -> np.ndarray:
    """Two spirals that turn around each other."""
    arm = curve(lambda t: ((1 + 4 * t) * np.cos(7 * t), (1 + 4 * t) * np.sin(7 * t)), 0.1)
    return np.concatenate([arm(seed)[:900], -arm(seed + 1000)[:900]])


def ringed(seed: int) -> np.ndarray:
    """A blob with a ring around it."""
    ring = curve(lambda t: (6 * np.cos(2 * np.pi * t), 6 * np.sin(2 * np.pi * t)), 0.5)(seed)
    return np.concatenate([ring[:1200], np.random.default_rng(seed + 1000).standard_normal((600, 2))])


def standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def codes(x: np.ndarray) -> np.ndarray:
    """At most 50 principal components of the input."""
    x = np.asarray(x, dtype=np.float64)
    return PCA(min(50, *x.shape), random_state=0).fit_transform(x)


def table(load: Callable[[], Any]) -> Make:
    """The principal components of one of scikit-learn's tables, standardised."""
    return lambda seed: codes(standard(load().data))


def digits(seed: int) -> np.ndarray:
    return datasets.load_digits().data / 16


def mnist(folder: Path, n: int) -> Make:
    """n of MNIST's training images as rows, others for each seed."""

    def make(seed: int) -> np.ndarray:
        with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
            x = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
        return x[np.random.default_rng(seed).permutation(len(x))[:n]] / 255

    return make


def sdae(name: str, make: Make, out: Path) -> Make:
    """The codes of sdae trained on that data, with three tenths of its training."""

    def encode(seed: int) -> np.ndarray:
        folder, data = out / f"{name}-sdae-seed{seed}", out / f"{name}-seed{seed}.npy"
        np.save(data, make(seed).astype(np.float32))
        command = [sys.executable, "-m", "deepclust.cli", "run", "--data", str(data), "--encoder", "sdae"]
        command += ["--clusterer", "kmeans", "--clusters", "10", "--evaluator", "clustering", "-q"]
        command += ["--epochs-scale", "0.3", "--seed", str(seed), "--out", str(folder)]
        if (code := subprocess.run(command).returncode) not in (0, UnhealthyResult.exit_code):
            raise SystemExit(f"seed {seed} failed with exit code {code}: {' '.join(command)}")
        return np.load(folder / "embedding.npy")

    return encode


def tuned_sets() -> dict[str, Set]:
    """Made data that the thresholds were chosen on."""
    found = {f"{k} blobs, 8 apart": Set(k, blobs(k, 8)) for k in (2, 3, 8, 20)}
    found |= {f"{k} blobs, 4.5 apart": Set(k, blobs(k, 4.5)) for k in (3, 8, 20)}
    found |= {f"{k} blobs in a plane, 4 apart": Set(k, blobs(k, 4, 2)) for k in (2, 5)}
    found |= {f"{k} blobs in a plane, 2.5 apart": Set(k, blobs(k, 2.5, 2)) for k in (3, 5)}
    found |= {f"{k} blobs in a box, wide": Set(k, boxed(k, 2.5)) for k in (5, 10)}
    found |= {f"{k} blobs in a box, unequal": Set(k, unequal(k)) for k in (5, 10)}
    found["5 blobs, 1,500 to 75 samples"] = Set(5, blobs(5, 7, sizes=(1500, 300, 100, 75, 75)))
    found["6 blobs, stretched alike"] = Set(6, stretched(6, 6, 10, alike=True))
    found["two moons"] = Set(2, lambda seed: datasets.make_moons(1500, noise=0.06, random_state=seed)[0])
    found["two rings"] = Set(
        2, lambda seed: datasets.make_circles(1500, noise=0.04, factor=0.4, random_state=seed)[0]
    )
    found["5 blobs and 30 % noise"] = Set(5, noisy(5, 7, 5, 0.3))
    found["5 blobs and 45 columns of noise"] = Set(5, columns(5, 6, 5, 45))
    found["one Gaussian, 10 dimensions"] = Set(1, draw("standard_normal", 2000, 10))
    found["uniform square"] = Set(1, draw("uniform", 2000, 2))
    found["uniform cube, 3 dimensions"] = Set(1, draw("uniform", 2000, 3))
    found["log-normal (0.5), 6 dimensions"] = Set(1, draw("lognormal", 2000, 6, sigma=0.5))
    found["exponential, plane"] = Set(1, draw("exponential", 2000, 2))
    found["a circle"] = Set(1, curve(lambda t: (np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)), 0.08))
    found["an arc"] = Set(1, curve(lambda t: (np.cos(np.pi * t), 2 * np.sin(np.pi * t))))
    return {name: item._replace(tuned=True) for name, item in found.items()}


def other_sets(out: Path, mnist_folder: Path | None, features: Path | None) -> dict[str, Set]:
    """Data that no threshold was chosen on: made, and real."""
    found = {f"{k} blobs, 20 dimensions, 6 apart": Set(k, blobs(k, 6, 20)) for k in (2, 3, 8, 20)}
    found |= {f"{k} blobs, 5 dimensions, 4 apart": Set(k, blobs(k, 4, 5)) for k in (4, 12)}
    found["3 blobs in a plane, 3 apart"] = Set(3, blobs(3, 3, 2))
    found["6 blobs, 1,000 to 50 samples"] = Set(6, blobs(6, 7, 8, sizes=(1000, 400, 250, 150, 150, 50)))
    found["4 blobs, each stretched its way"] = Set(4, stretched(4, 7, 8, alike=False))
    found["5 clusters of Student's t"] = Set(5, shaped(5, 12, 5, "standard_t", df=3))
    found["6 boxes"] = Set(6, shaped(6, 6, 3, "uniform", low=-2, high=2))
    found["7 exponential clusters"] = Set(7, shaped(7, 6, 4, "exponential"))
    found["a ring around a blob"] = Set(2, ringed)
    found["two spirals"] = Set(2, spirals)
    found["4 blobs and 50 % noise"] = Set(4, noisy(4, 7, 4, 0.5))
    found["4 blobs and 30 columns of noise"] = Set(4, columns(4, 6, 4, 30))
    found["one Gaussian, 20 dimensions"] = Set(1, draw("standard_normal", 2000, 20))
    found["one Gaussian, plane"] = Set(1, draw("standard_normal", 2000, 2))
    found["uniform cube, 5 dimensions"] = Set(1, draw("uniform", 2000, 5))
    found["gamma (2), 4 dimensions"] = Set(1, draw("gamma", 2000, 4, shape=2.0))
    found["Student's t (3), 5 dimensions"] = Set(1, draw("standard_t", 2000, 5, df=3))
    found["an S in space"] = Set(
        1, lambda seed: datasets.make_s_curve(2000, noise=0.05, random_state=seed)[0]
    )
    found["iris, PCA"] = Set(3, table(datasets.load_iris))
    found["wine, PCA"] = Set(3, table(datasets.load_wine))
    found["breast cancer, PCA"] = Set(2, table(datasets.load_breast_cancer))
    found["digits, PCA"] = Set(10, lambda seed: codes(digits(seed)))
    found["digits, sdae"] = Set(10, sdae("digits", digits, out))
    found["8 blobs, sdae"] = Set(8, sdae("blobs", blobs(8, 6, 20), out))
    if mnist_folder is not None:
        few, many = mnist(mnist_folder, 2000), mnist(mnist_folder, 10000)
        found["MNIST, 2,000, PCA"] = Set(10, lambda seed: codes(few(seed)))
        found["MNIST, 10,000, PCA"] = Set(10, lambda seed: codes(many(seed)))
        found["MNIST, 2,000, sdae"] = Set(10, sdae("mnist", few, out))
    if features is not None:
        found["CIFAR-10, frozen features, PCA"] = Set(10, lambda seed: codes(np.load(features)["x"]))
    return found
