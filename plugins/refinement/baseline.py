"""k-means on the codes that a clusterer was given: what it is compared with and can fall back on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from ...core.contract.interfaces import Encoder
from ...core.data.data import Data, Size
from ...core.toolbox.inference import embed
from .referee import Referee

if TYPE_CHECKING:
    from ...core.run.run import Run

RESTARTS = 20
NEARLY = 1.2  # times the least inertia
CLEARLY = 0.02  # of the agreement


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


class Given(Encoder):
    """An encoder of rows that are codes already."""

    def __init__(self, config: Any, shape: Size) -> None:
        super().__init__(config, shape)
        self.latent_dim = shape[0]

    def fit(self, data: Data, run: Run) -> Self:
        """Nothing is to be learned."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """The rows (B, D) themselves."""
        return x


def baseline_of(encoder: Encoder, data: Data, n_clusters: int, run: Run, referee: Referee) -> Baseline:
    """The baseline of ``encoder``'s codes, the best of ``RESTARTS``; made once, and kept in the run's folder.

    Best is the least inertia. As that may cut a large cluster up and leave small ones together, another
    counts that is ``NEARLY`` as good and, by the referee, ``CLEARLY`` parts fewer neighbours.
    """
    return Baseline(**run.once("baseline", lambda: asdict(_best(encoder, data, n_clusters, run, referee))))


def _best(encoder: Encoder, data: Data, n_clusters: int, run: Run, referee: Referee) -> Baseline:
    z = embed(encoder, data, autocast=run.autocast)
    found = [_restart(z, n_clusters, run.child(f"baseline{i}")) for i in range(RESTARTS)]
    least = min(found, key=lambda made: float(made.spread))
    agreement = {id(made): referee.judge(made.labels[referee.indices]).mean for made in found}
    good = [made for made in found if float(made.spread) <= NEARLY * float(least.spread)]
    best = max(good, key=lambda made: agreement[id(made)])
    if agreement[id(best)] <= agreement[id(least)] + CLEARLY:
        best = least
    return best


def _restart(z: Tensor, n_clusters: int, run: Run) -> Baseline:
    kmeans = run.make("clusterer", "kmeans", n_clusters, z.shape[1], n_init=1)
    kmeans.fit(Given(None, (z.shape[1],)), Data(z, "codes", device=z.device), run)
    with torch.no_grad():
        labels = kmeans.predict(z)
    spread = (z - kmeans.centers[labels]).square().sum(1).mean().clamp_min(1e-12)
    return Baseline(labels, kmeans.centers.clone(), spread)
