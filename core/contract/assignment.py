"""Which cluster each sample is in, how surely, and what is nearest beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOISE = -1  # the label of a sample that is in no cluster


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Where N samples belong; K clusters, D values of a code.

    labels: (N,) int64, the clusters, ``NOISE`` for none. confidence: (N,) the largest soft assignment, 0 of
    noise. second: (N,) the cluster with the largest one beside the label's, of none but zeros that of the
    nearest centre; second_confidence: (N,) it. distance: (N,) Euclidean, from the code to its cluster's
    centre in centers: (K, D), NaN of noise. second_distance: (N,) to the centre of the second.
    """

    labels: np.ndarray
    confidence: np.ndarray
    second: np.ndarray
    second_confidence: np.ndarray
    distance: np.ndarray
    second_distance: np.ndarray
    centers: np.ndarray

    @property
    def n_clusters(self) -> int:
        """K, clusters without samples among them."""
        return len(self.centers)

    def sizes(self) -> np.ndarray:
        """The samples in each cluster.  # (K,)"""
        return np.bincount(self.labels[self.labels != NOISE], minlength=self.n_clusters)

    def noise(self) -> np.ndarray:
        """The indices of noise, the nearest to a cluster first."""
        members = np.flatnonzero(self.labels == NOISE)
        return members[np.lexsort((members, -self.second_confidence[members]))]

    def prototypes(self, cluster: int) -> np.ndarray:
        """The indices of a cluster's members, the most confident first, of equal ones the nearest."""
        members = np.flatnonzero(self.labels == cluster)
        return members[np.lexsort((members, self.distance[members], -self.confidence[members]))]

    def doubtful(self, cluster: int) -> np.ndarray:
        """The indices of a cluster's members, those nearest to their second choice first.

        Where soft assignments do not tell, as of k-means on groups far apart, the distances do: the
        greater that to the centre is for that to the second choice's.
        """
        members = np.flatnonzero(self.labels == cluster)
        margin = self.confidence[members] - self.second_confidence[members]
        other = self.second_distance[members]
        ratio = np.divide(self.distance[members], other, out=np.zeros(other.shape), where=other > 0)
        return members[np.lexsort((members, -ratio, margin))]

    def examples(self, cluster: int, prototypes: int, doubtful: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many prototypes and doubtful members of a cluster, none of them both.

        Where there are too few members for all, they are shared in that proportion.
        """
        order = self.prototypes(cluster)
        if len(order) < prototypes + doubtful:
            prototypes = max(1, round(len(order) * prototypes / (prototypes + doubtful)))
        first = order[:prototypes]
        unsure = self.doubtful(cluster)
        return first, unsure[~np.isin(unsure, first)][:doubtful]
