"""Which samples the 2-D map shows, and where on it they lie."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ...core import Data, Run, embed

FEW = 5  # points that need no method: their two main axes are enough
PERPLEXITY, NEIGHBOURS = 30, 15  # what the authors of t-SNE and UMAP suggest, less for fewer points


@dataclass(frozen=True)
class Map:
    """Positions on the map; method: how they were found, in words.

    index: (S,) the samples shown. points: (S, 2) theirs. centers: (K, 2), NaN where a cluster has none.
    axes: names of the axes that are the codes' own values, ``""`` for one that is not; None where
    neither is.
    """

    index: np.ndarray
    points: np.ndarray
    centers: np.ndarray
    method: str
    axes: tuple[str, str] | None = None


def make_map(
    z: np.ndarray, centers: np.ndarray, method: Literal["tsne", "umap"], samples: int, seed: int
) -> Map:
    """A map of at most ``samples`` of the codes z (N, D), drawn at random, with the centers (K, D).

    Codes of one or two dimensions are shown as they are. t-SNE has one thread, so that the same seed gives
    the same map (a sum over threads has no fixed order).
    """
    rng = np.random.default_rng(seed)
    index = np.arange(len(z))
    if len(z) > samples:
        index = np.sort(rng.choice(len(z), samples, replace=False))
    there = np.isfinite(centers).all(axis=1)
    names = None
    codes = np.concatenate([z[index], centers[there]]).astype(np.float64)
    if codes.shape[1] == 2:
        names = ("first dimension of the code", "second")
        points, how = codes, "The codes themselves, which have two dimensions"
    elif codes.shape[1] == 1:
        names = ("code", "")
        height = rng.uniform(-1, 1, len(codes))
        height[len(index) :] = 0
        points, how = np.column_stack([codes[:, 0], height]), "The code from left to right, height at random"
    else:
        points, how = _reduce(codes, method, seed % 2**32, rng)
    placed = np.full((len(centers), 2), np.nan)
    placed[there] = points[len(index) :]
    return Map(index, points[: len(index)], placed, how, names)


def _reduce(
    codes: np.ndarray, method: Literal["tsne", "umap"], seed: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Points (S, 2) for codes (S, D), and how they were found."""
    axes = _main_axes(codes)
    if len(codes) < FEW:
        return axes, "the two main axes of the codes"
    start = (axes + rng.normal(size=axes.shape) * 1e-2) * 1e-4  # equal codes must be able to part
    if method == "umap":
        return _umap(codes, seed), "parametric UMAP (Sainburg, McInnes & Gentner 2021)"
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    tsne = TSNE(
        perplexity=perplexity, init=start.astype(np.float32), learning_rate="auto", angle=0.7,
        random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1):
        points: np.ndarray = tsne.fit_transform(codes.astype(np.float32))
    return points.astype(np.float64), f"t-SNE (van der Maaten & Hinton 2008), perplexity {perplexity:.3g}"


def _main_axes(codes: np.ndarray) -> np.ndarray:
    """The codes (S, D) on their two main axes, the first with deviation 1.  # (S, 2)"""
    centred = codes - codes.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    turned = np.zeros((len(codes), 2))
    turned[:, : len(axes[:2])] = centred @ axes[:2].T
    scale = turned[:, 0].std()
    return turned / scale if scale > 1e-12 else turned


def _umap(codes: np.ndarray, seed: int) -> np.ndarray:
    """By the ``umap`` encoder, which is trained on the codes for it, on the CPU."""
    settings: dict[str, Any] = {"latent_dim": 2, "min_dist": 0.1, "n_neighbours": NEIGHBOURS, "steps": 1000}
    data = Data(torch.from_numpy(codes.astype(np.float32)), "codes")
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        run = Run(Path(folder), seed=seed, quiet=True, snapshot_seconds=math.inf)
        encoder = run.make("encoder", "umap", data.shape, **settings).fit(data, run)
        points: np.ndarray = embed(encoder, data).numpy()
    return points.astype(np.float64)
