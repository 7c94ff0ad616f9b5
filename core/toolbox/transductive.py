"""Clusterings that name only the samples they were given, such as scikit-learn's without ``predict``."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ..contract.assignment import NOISE
from ..contract.interfaces import Clusterer, Encoder
from ..data.data import Data
from ..errors import BrokenPlugin, TrainingFailed
from .inference import embed

CHUNK = 2**24  # distances in memory at a time


class Transductive(Clusterer):
    """A clusterer whose subclass names the clusters of codes; new codes go where the nearest of those are.

    ``by`` says what new codes are held against: the ``members`` of clusters, all of which are kept in the
    model (N * D values), or the ``centers``, the means of the clusters' codes. With members the training
    samples keep their labels, noise is what has noise nearest, and clusters may have any form; with centers
    some training samples may change, which the run says.

    Example::

        class Ward(Transductive):
            def labels_of(self, z, seed):
                return AgglomerativeClustering(self.n_clusters).fit_predict(z)

        class Density(Transductive):
            finds_n_clusters = noise = True

            def labels_of(self, z, seed):
                return HDBSCAN(min_cluster_size=20).fit_predict(z)
    """

    by: ClassVar[Literal["members", "centers"]] = "members"
    points: Tensor  # (M, D), the members or the centres
    groups: Tensor  # (M,) int64, their clusters
    scale: Tensor  # (), the mean squared distance within clusters

    def __init__(self, config: Any, n_clusters: int, latent_dim: int) -> None:
        super().__init__(config, n_clusters, latent_dim)
        self.config = config
        self.register_buffer("points", torch.zeros(n_clusters, latent_dim))
        self.register_buffer("groups", torch.arange(n_clusters))
        self.register_buffer("scale", torch.ones(()))

    @abstractmethod
    def labels_of(self, z: np.ndarray, seed: int) -> np.ndarray:
        """Codes z (N, D) float32 to labels (N,) of integers from 0; -1 for noise where ``noise`` says so."""

    def fit(self, encoder: Encoder, data: Data, run: Any) -> Self:
        """Name the clusters of ``encoder``'s codes, and keep what new codes are held against.

        Raises BrokenPlugin for labels that are none, TrainingFailed where all is noise.
        """
        z = embed(encoder, data, autocast=run.autocast)
        found = self.labels_of(z.cpu().numpy().copy(), run.seed_for("labels"))
        labels = torch.from_numpy(self._check(found, len(z))).to(z.device)
        self.n_clusters = max(self.n_clusters, int(labels.max()) + 1)
        if self.finds_n_clusters:
            self.n_clusters = int(labels.max()) + 1
        placed = labels != NOISE
        if not placed.any():
            raise TrainingFailed(
                f"{type(self).__name__} calls all {len(z):,} samples noise; ask for less dense groups."
            )
        own = labels[placed]
        sums = torch.zeros(self.n_clusters, z.shape[1], dtype=torch.float64, device=z.device)
        sums.index_add_(0, own, z[placed].double())
        counts = own.bincount(minlength=self.n_clusters)
        means = (sums / counts[:, None]).to(z)
        spread = (z[placed] - means[own]).square().sum(1).mean()
        self.scale = spread.clamp_min(1e-12)
        filled = counts.nonzero()[:, 0]
        self.points, self.groups = (z, labels) if self.by == "members" else (means[filled], filled)
        if (moved := float((self.predict(z) != labels).float().mean())) > 0:
            run.notice(
                f"{moved:.1%} of the samples are nearer to another cluster's "
                f"{'centre' if self.by == 'centers' else 'member'} and go there."
            )
        return self

    def _check(self, labels: np.ndarray, count: int) -> np.ndarray:
        """The labels as int64; raises BrokenPlugin where they are no such."""
        labels = np.asarray(labels)
        who = type(self).__name__
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise BrokenPlugin(
                f"{who}.labels_of gives an array of shape {labels.shape} and type {labels.dtype} for "
                f"{count:,} codes; it must be ({count},) of integers."
            )
        least = NOISE if self.noise else 0
        if labels.min() < least:
            noise = "" if self.noise else "; -1 for noise is for classes that say noise = True"
            raise BrokenPlugin(
                f"{who}.labels_of gives the label {labels.min()}; they begin at {least}{noise}."
            )
        return labels.astype(np.int64)

    def _nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances (B, K) of codes to the nearest point of each cluster, infinite where it has none,
        and to noise (B,)."""
        near, noise = [], []
        groups = torch.where(self.groups == NOISE, self.n_clusters, self.groups)
        size = max(1, CHUNK // max(1, len(self.points)))
        whole = torch.compiler.is_exporting()  # a graph holds any number of samples, but no loop over them
        for rows in [z.float()] if whole else torch.split(z.float(), size):
            far = torch.cdist(rows, self.points, compute_mode="donot_use_mm_for_euclid_dist").square()
            found = far.new_full((rows.shape[0], self.n_clusters + 1), torch.inf)
            found.scatter_reduce_(1, groups.expand(rows.shape[0], -1), far, "amin")
            near.append(found[:, :-1])
            noise.append(found[:, -1])
        return torch.cat(near), torch.cat(noise)

    def forward(self, z: Tensor) -> Tensor:
        """Student's t of the distance to each cluster's nearest point, in the clusters' mean spread.

        (van der Maaten & Hinton 2008, eq. 4, with clusters in place of points.)
        """
        near, _ = self._nearest(z)
        q = 1 / (1 + near / self.scale)
        return q / q.sum(dim=1, keepdim=True)

    def predict(self, z: Tensor) -> Tensor:
        """The cluster of the nearest point, or noise."""
        near, noise = self._nearest(z)
        best, labels = near.min(dim=1)
        return labels.masked_fill(noise < best, NOISE)
