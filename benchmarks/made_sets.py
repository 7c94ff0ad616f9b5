"""The data sets that the defaults are held against: real ones and made ones, written as users have them.

Each is a function of a seed alone. Those of MNIST, CIFAR-10 and frozen features take paths to them.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn import datasets


@dataclass(frozen=True)
class Sources:
    """Where the sets lie that no package ships; None leaves those out.

    mnist: a folder of the four idx gz files. cifar10: a folder of ``test.webp``, ``train_0.webp`` (lossless
    sheets of 100 x 100 tiles) and ``labels.npz``. features: a .npz file with ``x`` and ``y``.
    """

    mnist: Path | None = None
    cifar10: Path | None = None
    features: Path | None = None


@dataclass(frozen=True)
class MadeSet:
    """A data set on disk: what ``--data`` and its options are, samples (N, d) as numbers, and true classes.

    beyond: whether there is structure that k-means on the input cannot see (known from how it was made).
    """

    arguments: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    beyond: bool = False


def save(folder: Path, x: np.ndarray, y: np.ndarray, beyond: bool = False) -> MadeSet:
    """An array file of samples and labels."""
    path = folder / "data.npz"
    np.savez(path, x=x, y=y)
    return MadeSet(
        ("--data", str(path), "--clusters", str(len(np.unique(y)))), x.reshape(len(x), -1), y, beyond
    )


def idx(path: Path) -> np.ndarray:
    """The images (N, 28, 28) or labels (N,) of one of MNIST's files."""
    raw = gzip.decompress(path.read_bytes())
    if raw[3] == 1:
        return np.frombuffer(raw, np.uint8, offset=8).astype(np.int64)
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)


def mnist(source: Path, count: int, rows: bool = False) -> Callable[[Path], MadeSet]:
    def make(folder: Path) -> MadeSet:
        parts = [(f"{p}-images-idx3-ubyte.gz", f"{p}-labels-idx1-ubyte.gz") for p in ("train", "t10k")]
        x = np.concatenate([idx(source / a) for a, _ in parts])
        y = np.concatenate([idx(source / b) for _, b in parts])
        chosen = np.random.default_rng(0).permutation(len(x))[:count] if count < len(x) else np.arange(len(x))
        x, y = x[chosen], y[chosen]
        return save(folder, (x.reshape(len(x), -1) / 255).astype(np.float32) if rows else x, y, True)

    return make


def photos(source: Path, size: int, each: int, classes: int) -> Callable[[Path], MadeSet]:
    """JPEG files in a folder for each class, as users keep photographs."""

    def make(folder: Path) -> MadeSet:
        labels = np.load(source / "labels.npz")
        pixels, y = [], []
        for sheet in ("test", "train_0"):
            image = np.asarray(Image.open(source / f"{sheet}.webp").convert("RGB"))
            pixels.append(image.reshape(100, 32, 100, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3))
            y.append(labels[sheet])
        x, truth = np.concatenate(pixels), np.concatenate(y)
        chosen = np.concatenate([np.flatnonzero(truth == c)[:each] for c in range(classes)])
        root = folder / "photos"
        for i in chosen:
            path = root / f"{truth[i]}" / f"{i:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[i]).resize((size, size), Image.Resampling.BICUBIC).save(path, quality=92)
        arguments = ("--data", str(root), "--labels", "folders", "--clusters", str(classes))
        return MadeSet(arguments, x[chosen].reshape(len(chosen), -1), truth[chosen], True)

    return make


def features(source: Path) -> Callable[[Path], MadeSet]:
    def make(folder: Path) -> MadeSet:
        with np.load(source) as kept:
            return save(folder, kept["x"].astype(np.float32), kept["y"])

    return make


def rows(make: Callable[[np.random.Generator], tuple[np.ndarray, Any]], beyond: bool = False) -> Any:
    def write(folder: Path) -> MadeSet:
        x, y = make(np.random.default_rng(0))
        return save(folder, np.asarray(x, np.float32), np.asarray(y), beyond)

    return write


def blobs(n: Any, d: int, k: int, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian groups with centres drawn from a cube of side 20."""
    draw = np.random.default_rng(seed)
    sizes = np.full(k, n // k) if np.isscalar(n) else np.asarray(n)
    centres = draw.uniform(-10, 10, (k, d))
    y = np.repeat(np.arange(k), sizes)
    return centres[y] + draw.normal(0, spread, (len(y), d)), y


def _long_tail(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return blobs((1000 * 0.6 ** np.arange(8)).astype(int), 10, 8, 2.0)


def _moons(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_moons(1500, noise=0.06, random_state=0)


def _noise_columns(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(1200, 6, 6, 1.5)
    return np.hstack([x, g.normal(0, 3, (len(x), 20))]), y


def _constant_and_duplicate(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(1000, 6, 5, 2.0)
    return np.hstack([x, x[:, :2], np.full((len(x), 3), 7.0)]), y


def _duplicates(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(200, 8, 4, 2.0)
    return np.repeat(x, 6, axis=0), np.repeat(y, 6)


def _wide(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_blobs(100, 20000, centers=4, cluster_std=12, center_box=(-3, 3), random_state=0)


def _absurd(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(600, 8, 4)
    x[0, 0] = 1e20
    return x, y


def _offset(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(600, 8, 4)
    return x + 1e6, y


def _units(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(600, 8, 4)
    return x * np.array([1] * 7 + [5000.0]) + np.array([0] * 7 + [1e5]), y


def _curved(g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Five closed curves in 16 dimensions, of which some cross in any two."""
    t, y = g.uniform(0, 2 * np.pi, 3000), g.integers(0, 5, 3000)
    base = g.normal(size=(5, 4, 16))
    waves = np.stack([np.cos(t), np.sin(t), np.cos(2 * t), np.sin(2 * t)], axis=1)
    return np.einsum("nk,nkd->nd", waves, base[y]) + g.normal(0, 0.1, (3000, 16)) + g.normal(size=(5, 16))[
        y
    ], y


def _of(loader: Callable[..., Any]) -> Any:
    return rows(lambda g: loader(return_X_y=True))


def _digits(folder: Path) -> MadeSet:
    bundled = datasets.load_digits()
    return save(folder, (bundled.images * 15).astype(np.uint8), bundled.target, True)


def all_sets(sources: Sources) -> dict[str, Callable[[Path], MadeSet]]:
    """Every set by its name, in the order of the table; a set that was used to choose a default says so."""
    found: dict[str, Callable[[Path], MadeSet]] = {
        "digits": _digits,
        "wine": _of(datasets.load_wine),
        "breast-cancer": _of(datasets.load_breast_cancer),
        "iris": _of(datasets.load_iris),
        "blobs": rows(lambda g: blobs(2000, 10, 5, 3.0)),
        "imbalanced": rows(lambda g: blobs([1000, 50, 1000, 50], 8, 4, 2.0), True),
        "long-tail": rows(_long_tail, True),
        "moons": rows(_moons, True),
        "curves": rows(_curved, True),
        "two": rows(lambda g: blobs(500, 5, 2, 3.0)),
        "fifty": rows(lambda g: blobs(5000, 16, 50, 2.0)),
        "noise-columns": rows(_noise_columns),
        "constant-columns": rows(_constant_and_duplicate),
        "duplicates": rows(_duplicates),
        "sixty": rows(lambda g: blobs(60, 6, 3, 2.0)),
        "hundred-thousand": rows(lambda g: blobs(100_000, 16, 10, 4.0)),
        "wide": rows(_wide),
        "absurd": rows(_absurd),
        "offset": rows(_offset),
        "units": rows(_units),
    }
    if sources.features:
        found["features"] = features(sources.features)
    if sources.mnist:
        found["mnist-2000"] = mnist(sources.mnist, 2000)
        found["mnist-rows-10000"] = mnist(sources.mnist, 10_000, rows=True)
        found["mnist"] = mnist(sources.mnist, 70_000)
    if sources.cifar10:
        for size in (32, 64, 96):
            found[f"photos-{size}-600"] = photos(sources.cifar10, size, 100, 6)
        for size in (32, 64, 96):
            found[f"photos-{size}-10000"] = photos(sources.cifar10, size, 1000, 10)
    return found
