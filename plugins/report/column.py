"""Which columns of a table set a cluster apart from all samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import torch

from ...core import Data
from .text import number

CHUNK_VALUES = 2**22
ZERO = 1e-6


class Columns(NamedTuple):
    """The columns of D values, in the units that the user gave.

    names: (D,). mean, std: (D,) of all samples. means: (K, D) of the clusters, NaN for empty ones.
    offset, scale: (D,) from the samples' values to the user's units: value * scale + offset.
    dates: the columns whose units are days since 1970.
    """

    names: Sequence[str]
    mean: np.ndarray
    std: np.ndarray
    means: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    dates: frozenset[int] = frozenset()

    def words(self, column: int, value: float) -> str:
        """A value of a column in the user's units, or a date."""
        if column in self.dates and math.isfinite(value):
            with contextlib.suppress(OverflowError):  # beyond the year 9999
                return (date(1970, 1, 1) + timedelta(days=round(value))).isoformat()
        return number(value)

    def difference(self, cluster: int) -> np.ndarray:
        """How many standard deviations of all samples the cluster's mean is off theirs; 0 for constants."""
        off = self.means[cluster] - self.mean
        out: np.ndarray = np.divide(off, self.std, out=np.zeros_like(off), where=self.std > 0)
        return out

    def distinguishing(self, cluster: int, n: int) -> np.ndarray:
        """The ``n`` columns that differ most, the most first."""
        return np.argsort(-np.abs(self.difference(cluster)), kind="stable")[:n]

    def values(self, data: Data, index: np.ndarray) -> np.ndarray:
        """The samples at ``index`` (B,) in the user's units.  # (B, D)"""
        if data.raw:
            given: np.ndarray = data.given(torch.from_numpy(index)).cpu().numpy().astype(np.float64)
            return given
        rows = data.batch(torch.from_numpy(index)).cpu().numpy().astype(np.float64)
        return _cleared(rows * self.scale + self.offset, self.std)


def describe_columns(data: Data, labels: np.ndarray, n_clusters: int) -> Columns:
    """Means of each column, in one pass over the rows (N, D)."""
    dim = data.shape[0]
    sums = torch.zeros(n_clusters, dim, dtype=torch.float64)
    squares = torch.zeros(dim, dtype=torch.float64)
    where = torch.from_numpy(labels)
    step = max(1, CHUNK_VALUES // dim)
    first = data.slice(0, 1)[0].cpu().double()  # taken off, so that squares of large values keep their digits
    for start in range(0, len(data), step):
        rows = data.slice(start, start + step).cpu().double() - first
        sums.index_add_(0, where[start : start + step], rows)
        squares += rows.square().sum(dim=0)
    counts = np.bincount(labels, minlength=n_clusters)[:, None]
    mean = sums.sum(dim=0).numpy() / len(data)
    std = np.sqrt(np.maximum(squares.numpy() / len(data) - mean**2, 0))
    means = np.divide(sums.numpy(), counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    made = data.preparation
    names = made.columns or tuple(f"column {i}" for i in range(dim))
    scale = np.ones(dim) if made.std is None else np.asarray(made.std, dtype=np.float64)
    offset = np.zeros(dim) if made.mean is None else np.asarray(made.mean, dtype=np.float64)
    if made.dtype == "uint8":
        scale, offset = scale * 255, offset * 255
    base = first.numpy()
    std = std * scale
    shown = _cleared((mean + base) * scale + offset, std)
    encoding = made.encoding or {}
    dates = frozenset(j for j, name in enumerate(names) if encoding.get(name, {}).get("kind") == "date")
    means = _cleared((means + base) * scale + offset, std)
    return Columns(names, shown, std, means, offset, scale, dates)


def _cleared(values: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Values (..., D) with 0 in place of what rounding leaves of it, in columns of deviations std (D,)."""
    cleared: np.ndarray = np.where(np.abs(values) < ZERO * std, 0.0, values)
    return cleared
