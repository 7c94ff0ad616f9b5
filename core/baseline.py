"""k-means on the codes that a clusterer was given: what it is compared with and can fall back on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .data import Data
from .engine import checkpoint
from .inference import embed
from .interfaces import Encoder
from .run import Run

BASELINE = "baseline.pt"  # the file in a clusterer's folder


@dataclass(frozen=True)
class Baseline:
    """labels: (N,) int64. centers: (K, D). spread: (), the mean squared distance of a code to its centre."""

    labels: Tensor
    centers: Tensor
    spread: Tensor

    @property
    def shares(self) -> Tensor:
        """Of the samples in each cluster.  # (K,)"""
        return torch.bincount(self.labels, minlength=len(self.centers)).float() / len(self.labels)

    @property
    def effective(self) -> float:
        """exp of the entropy of the sizes: as many clusters of equal size would be as uneven."""
        shares = self.shares
        return float((-torch.xlogy(shares, shares).sum()).exp())

    def layer(self, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) of a dense layer on codes (z - mean) * factor with these clusters.

        Its softmax is that of -|z - c_k|^2 / ``spread``, and so largest for the nearest centre.
        """
        centred = self.centers - mean
        return 2 * centred / (factor * self.spread), -centred.square().sum(1) / self.spread


def baseline_of(encoder: Encoder, data: Data, n_clusters: int, run: Run, *, n_init: int = 10) -> Baseline:
    """The baseline of ``encoder``'s codes; it is kept in the run's folder, so that it is made once."""
    path = run.folder / BASELINE
    if path.exists():
        return Baseline(**checkpoint.load(path, data.device))
    kmeans = run.make("clusterer", "kmeans", n_clusters, n_init=n_init)
    kmeans.fit(encoder, data, run.child("baseline"))
    z = embed(encoder, data, autocast=run.autocast)
    with torch.no_grad():
        labels = kmeans.predict(z)
    spread = (z - kmeans.centers[labels]).square().sum(1).mean().clamp_min(1e-12)
    made = Baseline(labels, kmeans.centers.clone(), spread)
    run.folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(asdict(made), path)
    return made
