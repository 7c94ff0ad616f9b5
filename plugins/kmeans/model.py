"""k-means as a clusterer: which implementation runs, and the clusters it leaves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ...core import Clusterer, Data, Encoder, Run, Size, embed, progress, setting
from . import lloyd

WIDE = 64  # values of a code from which on torch's implementation is the faster on a CPU as well
RESTARTS, MANY = 20, 100_000  # beyond so many samples there are as many fewer restarts


@dataclass(frozen=True)
class KMeansConfig:
    n_init: int = setting(
        RESTARTS,
        "restarts, of which the one with the least inertia is kept; fewer by default of more than 100,000 "
        "samples",
        low=1,
    )
    max_iter: int = setting(300, "most iterations of a restart", low=1)
    tol: float = setting(
        1e-4, "stop a restart when its centres move less, relative to the data's variance", low=0
    )
    implementation: Literal["auto", "sklearn", "torch"] = setting(
        "auto", "auto: scikit-learn's of codes of fewer than 64 values on the CPU, else torch's"
    )
    memory_mb: int = setting(256, "temporary memory of the torch implementation, in MiB", low=1)


class KMeans(Clusterer):
    """k-means on the codes; both implementations start from greedy k-means++ and run Lloyd's steps."""

    Config: ClassVar[type[KMeansConfig]] = KMeansConfig
    centers: Tensor  # (K, D)
    spread: Tensor  # (), within-cluster variance per dimension

    def __init__(self, config: KMeansConfig, n_clusters: int, latent_dim: int) -> None:
        super().__init__(config, n_clusters, latent_dim)
        self.config = config
        self.register_buffer("centers", torch.zeros(n_clusters, latent_dim))
        self.register_buffer("spread", torch.ones(()))

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """Fewer restarts of many samples, whose best start differs little from the others."""
        return {"n_init": max(1, RESTARTS * MANY // n_samples)} if n_samples > MANY else {}

    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Cluster ``encoder``'s codes of all samples; the encoder stays as it is."""
        z = embed(encoder, data, autocast=run.autocast)  # of no use afterwards
        found = self._cluster(z, run)
        self.centers = found.centers.to(z)
        self.spread = torch.tensor(max(found.inertia / z.numel(), 1e-12), device=z.device)
        filled = int((found.labels.bincount() > 0).sum())
        if filled < self.n_clusters:  # which happens where there are no more different points
            run.notice(_too_few(filled, self.n_clusters))
        return self

    def _cluster(self, z: Tensor, run: Run) -> lloyd.KMeansResult:
        c, seed = self.config, run.seed_for("kmeans")
        narrow = z.device.type == "cpu" and z.shape[1] < WIDE
        if c.implementation == "sklearn" or (c.implementation == "auto" and narrow):
            return self._cluster_by_sklearn(z.cpu().numpy(), seed, run.quiet)
        return lloyd.kmeans(
            z, self.n_clusters, n_init=c.n_init, max_iter=c.max_iter, tol=c.tol, seed=seed,
            memory_bytes=c.memory_mb * 2**20, overwrite=True,
        )  # fmt: skip

    def _cluster_by_sklearn(self, z: np.ndarray, seed: int, quiet: bool) -> lloyd.KMeansResult:
        """Restart by restart, each going on with the generator of the one before as scikit-learn's own do."""
        from sklearn.cluster import KMeans as ScikitKMeans
        from sklearn.exceptions import ConvergenceWarning

        c, best = self.config, None
        random = np.random.RandomState(seed % 2**32)
        with (
            progress("k-means", c.n_init, "restarts", quiet=quiet, least_seconds=5) as advance,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", ConvergenceWarning)  # of too few points: fit says it once
            for _ in range(c.n_init):
                fitted = ScikitKMeans(
                    self.n_clusters, n_init=1, max_iter=c.max_iter, tol=c.tol, random_state=random
                ).fit(z)
                if best is None or fitted.inertia_ < best.inertia_ * (1 - 1e-6):  # not by rounding alone
                    best = fitted
                advance(1)
        assert best is not None
        return lloyd.KMeansResult(
            torch.from_numpy(best.cluster_centers_), torch.from_numpy(best.labels_), float(best.inertia_),
            best.n_iter_,
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        """Posterior of equal spherical Gaussians at the centres, whose limit k-means is.

        Its variance is the inertia a sample and dimension (Bishop 2006, section 9.3.2).
        """
        distances = (z.square().sum(1, keepdim=True) - 2 * z @ self.centers.T
                     + self.centers.square().sum(1)).clamp_min(0)  # (B, K)  # fmt: skip
        return torch.softmax(-distances / (2 * self.spread), dim=1)

    def predict(self, z: Tensor) -> Tensor:
        """The nearest centre, the first of equally near ones."""
        if torch.compiler.is_exporting():  # in operations that a graph holds for any number of samples
            return (z.float()[:, None] - self.centers).square().sum(2).argmin(1)
        return lloyd.assign(z.float(), self.centers)[0]


def _too_few(points: int, n_clusters: int) -> str:
    if points == 1:
        return (
            f"k-means was to find {n_clusters} clusters in codes that are all equal: either the encoder has "
            "collapsed, or the samples are all the same."
        )
    return (
        f"k-means can tell no more than {points} different points apart in the codes, too few for "
        f"{n_clusters} clusters: ask for {points}, or see why so many samples are alike."
    )
