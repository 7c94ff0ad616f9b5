"""The clustering evaluator: which scores a result gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from sklearn.metrics import (
    adjusted_rand_score,
    davies_bouldin_score,
    normalized_mutual_info_score,
    silhouette_score,
)

from ...core import NOISE, Evaluator, HasNeighbours, Result, Score, setting
from ...core.toolbox.health import measure
from ...core.toolbox.neighbour import nearest
from . import metric

ASKED = 2000  # samples whose neighbours are looked at


@dataclass(frozen=True)
class ClusteringConfig:
    silhouette_samples: int = setting(
        5000, "samples that the silhouette is computed on; 0: leave it out", low=0
    )
    neighbours: int = setting(
        20, "nearest codes by cosine whose classes are compared with a sample's; 0: none", low=0
    )


class Clustering(Evaluator):
    """Accuracy, purity, NMI and ARI where the truth is known; compactness and sizes in any case.

    Samples whose class is unknown (-1) are left out of the scores that need it, and counted.
    Noise counts as wrong in the accuracy and as a group of its own in NMI, ARI and purity; where there is any
    the same are given ``without_noise`` as well, with the share of noise.
    Silhouette and Davies-Bouldin are of the codes of samples in clusters; they are left out where fewer than
    two clusters have samples. Held-out samples have their own accuracy and so on, matched among themselves,
    named ``test_``.
    """

    Config: ClassVar[type[ClusteringConfig]] = ClusteringConfig

    def evaluate(self, result: Result) -> Mapping[str, Score]:
        """Scores by name, in the order in which they are shown."""
        scores: dict[str, Score] = dict(_against_truth(result))
        for name, purity in (
            ("mined_purity", _mined_purity(result)),
            ("neighbour_purity", self._neighbour_purity(result)),
        ):
            if purity is not None:
                scores[name] = purity
        if result.test is not None:
            scores.update((f"test_{name}", value) for name, value in _against_truth(result.test).items())
        scores.update(self._compactness(result))
        sizes, placed = result.sizes(), result.labels != NOISE
        health = measure(result.labels[placed], result.confidence[placed], result.n_clusters)
        scores["effective_clusters"] = health.effective
        if not placed.all():
            scores["noise_share"] = float(1 - placed.mean())
        scores["cluster_sizes"] = sizes.tolist()
        scores["mean_confidence"] = health.confidence
        return scores

    def _neighbour_purity(self, result: Result) -> float | None:
        """How often a nearest code has the sample's class, of at most ``ASKED`` samples; None without any.

        The neighbours are those that SCAN would mine of these codes (Van Gansbeke et al. 2020, section 2.2).
        """
        truth, n = result.truth, self.config.neighbours
        if truth is None or not n:
            return None
        known = np.flatnonzero(truth.labels != -1)
        asked = np.random.default_rng(result.seed).permutation(known)[:ASKED]
        unit = torch.nn.functional.normalize(torch.from_numpy(result.z), dim=1)
        own = torch.from_numpy(asked)
        return _agreement(truth.labels, asked, nearest(unit[own], unit, n, own=own).index.numpy())

    def _compactness(self, result: Result) -> dict[str, float]:
        placed = result.labels != NOISE
        z = result.z if placed.all() else result.z[placed]  # a copy of many codes may not fit
        labels = result.labels[placed]
        found, n = len(np.unique(labels)), len(labels)
        if not 2 <= found < n:
            return {}
        scores: dict[str, float] = {}
        size = min(self.config.silhouette_samples, n)
        chosen = np.random.default_rng(result.seed).permutation(n)[:size]
        if 2 <= len(np.unique(labels[chosen])) < size:
            scores["silhouette"] = float(silhouette_score(z[chosen], labels[chosen]))
            scores["silhouette_samples"] = size
        scores["davies_bouldin"] = float(davies_bouldin_score(z, labels))
        return scores


def _mined_purity(result: Result) -> float | None:
    """How often a neighbour that the clusterer learned from has the sample's class; None without any."""
    if result.truth is None or not isinstance(result.clusterer, HasNeighbours):
        return None
    known = np.flatnonzero(result.truth.labels != -1)
    return _agreement(result.truth.labels, known, result.clusterer.neighbours.cpu().numpy()[known])


def _agreement(classes: np.ndarray, asked: np.ndarray, neighbours: np.ndarray) -> float | None:
    """The share of neighbours (Q, n), of known class, that have the class of the sample asked (Q,)."""
    near = np.where(neighbours >= 0, classes[neighbours], -1)
    met = near != -1
    return float((near == classes[asked][:, None])[met].mean()) if met.any() else None


def _against_truth(result: Result) -> dict[str, float]:
    """The scores that need classes; none where there are none."""
    if result.truth is None:
        return {}
    scores: dict[str, float] = {}
    known = result.truth.labels != -1
    truth, labels = result.truth.labels[known], result.labels[known]
    if len(truth):
        scores["accuracy"] = metric.accuracy(truth, labels)
        scores["nmi"] = float(normalized_mutual_info_score(truth, labels))
        scores["ari"] = float(adjusted_rand_score(truth, labels))
        scores["purity"] = metric.purity(truth, labels)
        placed = labels != NOISE
        if not placed.all() and placed.any():
            truth, labels = truth[placed], labels[placed]
            scores["accuracy_without_noise"] = metric.accuracy(truth, labels)
            scores["nmi_without_noise"] = float(normalized_mutual_info_score(truth, labels))
            scores["ari_without_noise"] = float(adjusted_rand_score(truth, labels))
    if not known.all():
        scores["samples_without_truth"] = int((~known).sum())
    return scores
