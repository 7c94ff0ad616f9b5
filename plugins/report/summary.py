"""What is known of each cluster: its size and majority class, and how clusters and classes meet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...core import NOISE, Truth


class Confusion(NamedTuple):
    """How often each class met each cluster, among the samples whose class is known.

    counts: (C, K). rows: (C,) the classes and columns: (K,) the clusters in an order in which those
    matched one to one (as many samples as possible right) stand on the diagonal, the others behind.
    matched: how many pairs there are on it.
    """

    counts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    matched: int

    def majority(self, cluster: int) -> tuple[int, float] | None:
        """The most frequent class and its share of the members of known class; None where there are none."""
        column = self.counts[:, cluster]
        total = int(column.sum())
        return (int(column.argmax()), float(column.max() / total)) if total else None

    def ordered(self) -> np.ndarray:
        """The counts in the order of rows and columns."""
        counts: np.ndarray = self.counts[np.ix_(self.rows, self.columns)]
        return counts

    def match(self) -> dict[int, int]:
        """The cluster of each matched class."""
        rows, columns = self.rows[: self.matched].tolist(), self.columns[: self.matched].tolist()
        return dict(zip(rows, columns, strict=True))


def confuse(truth: Truth | None, labels: np.ndarray, n_clusters: int) -> Confusion | None:
    """Classes against clusters, noise left out; None where no class is known."""
    if truth is None or not (known := (truth.labels >= 0) & (labels != NOISE)).any():
        return None
    n_classes = max(len(truth.names), int(truth.labels.max()) + 1)
    flat = truth.labels[known] * n_clusters + labels[known]
    counts = np.bincount(flat, minlength=n_classes * n_clusters).reshape(n_classes, n_clusters)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    met = counts[rows, columns] > 0  # a pair that never met is no match
    rows, columns = rows[met], columns[met]
    other_rows = np.setdiff1d(np.arange(n_classes), rows)
    other_columns = np.setdiff1d(np.arange(n_clusters), columns)
    position = np.argsort(np.concatenate([rows, other_rows]))
    others = other_columns[np.argsort(position[counts[:, other_columns].argmax(axis=0)], kind="stable")]
    return Confusion(counts, np.concatenate([rows, other_rows]), np.concatenate([columns, others]), len(rows))


def class_name(truth: Truth, code: int) -> str:
    """The name of a class, its number where it has none."""
    return truth.names[code] if code < len(truth.names) else str(code)
