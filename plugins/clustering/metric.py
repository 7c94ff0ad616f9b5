"""Scores of labels against the truth: matching by counts, for any ids and any numbers of clusters."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def contingency(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How often each class met each cluster: counts (classes, clusters), ids in sorted order.

    truth, labels: (N,) integers or texts of any values, gaps and negative ones included.
    """
    truth, labels = np.asarray(truth), np.asarray(labels)
    if truth.shape != labels.shape or truth.ndim != 1 or len(truth) == 0:
        raise ValueError(
            f"truth has shape {truth.shape} and labels {labels.shape}: "
            "two equally long, non-empty lists are needed"
        )
    classes, rows = np.unique(truth, return_inverse=True)
    clusters, columns = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(classes), len(clusters)), dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def accuracy(truth: np.ndarray, labels: np.ndarray) -> float:
    """The share of samples right under the best one-to-one matching of clusters to classes.

    Kuhn's assignment on counts (Xie et al. 2016, eq. 10). Where there are more clusters than
    classes, the samples of unmatched clusters count as wrong; label -1 (noise) never matches.
    """
    labels = np.asarray(labels)
    counts = contingency(truth, labels)
    if labels.dtype.kind in "iu":
        counts = counts[:, np.unique(labels) != -1]
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


def purity(truth: np.ndarray, labels: np.ndarray) -> float:
    """The share of samples that belong to their cluster's most frequent class (many-to-one)."""
    counts = contingency(truth, labels)
    return float(counts.max(axis=0).sum() / counts.sum())
