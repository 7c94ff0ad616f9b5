"""Which columns of a table set a cluster apart from all samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import torch

from ...core import NOISE, Data
from .text import number, percent

CHUNK_VALUES = 2**22
ZERO = 1e-6
EMPTY = "(empty)"  # a cell that was not given, whatever it was filled with


class Field(NamedTuple):
    """A column as the user gave it: of one value, or of one for each of the ``texts`` of a category.

    kind: as in Preparation.encoding. start: the position of its first value. texts: of yes or no, those two.
    """

    name: str
    kind: str
    start: int
    texts: tuple[str, ...] = ()


class Columns(NamedTuple):
    """The columns of D values, in the units that the user gave.

    mean, std: (D,) of all samples. means: (K, D) of the clusters, NaN for empty ones.
    offset, scale: (D,) from the samples' values to the user's units: value * scale + offset.
    fields: (D,) what each value is of.
    """

    mean: np.ndarray
    std: np.ndarray
    means: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    fields: Sequence[Field]

    def title(self, column: int) -> str:
        """What a value is called: after its column, and one of a category after its text as well."""
        name, kind, start, texts = self.fields[column]
        return f"{name}: {texts[column - start]}" if kind == "category" else name

    def words(self, column: int, value: float) -> str:
        """A mean of a value in the user's units, as a date, or as the share of a category's text."""
        kind = self.fields[column].kind
        if kind == "category":
            return percent(round(value, 6))
        if kind == "date" and math.isfinite(value):
            with contextlib.suppress(OverflowError):  # beyond the year 9999
                return (date(1970, 1, 1) + timedelta(days=round(value))).isoformat()
        return number(value)

    def difference(self, cluster: int) -> np.ndarray:
        """How many standard deviations of all samples the cluster's mean is off theirs; 0 for constants."""
        off = self.means[cluster] - self.mean
        out: np.ndarray = np.divide(off, self.std, out=np.zeros_like(off), where=self.std > 0)
        return out

    def distinguishing(self, cluster: int, n: int) -> np.ndarray:
        """The ``n`` values that differ most, the most first; of each category one."""
        found: dict[int, int] = {}  # by the place of the column
        for j in np.argsort(-np.abs(self.difference(cluster)), kind="stable").tolist():
            if len(found) == n:
                break
            found.setdefault(self.fields[j].start, j)
        return np.array([*found.values()], np.int64)

    def cells(self, data: Data, index: np.ndarray, columns: Sequence[int]) -> list[list[str]]:
        """What the user gave of the samples at ``index`` in the columns of these values."""
        fields, rows = [self.fields[j] for j in columns], self.values(data, index)
        gaps = {f.start: np.isin(index, data.filled.get(f.start, ())) for f in fields}
        return [
            [EMPTY if gaps[f.start][i] else self._cell(f, row) for f in fields] for i, row in enumerate(rows)
        ]

    def _cell(self, field: Field, row: np.ndarray) -> str:
        """What the cell of a sample with the values ``row`` (D,) held."""
        value = float(row[field.start])
        if field.kind == "category":
            values = row[field.start : field.start + len(field.texts)]
            return field.texts[int(values.argmax())] if values.max() > 0.5 else EMPTY
        if field.kind == "boolean":
            return (field.texts[round(value)] if abs(value - 0.5) > 0.25 else "") or EMPTY
        return self.words(field.start, value)

    def values(self, data: Data, index: np.ndarray) -> np.ndarray:
        """The samples at ``index`` (B,) in the user's units.  # (B, D)"""
        if data.raw:
            given: np.ndarray = data.given(torch.from_numpy(index)).cpu().numpy().astype(np.float64)
            return given
        rows = data.batch(torch.from_numpy(index)).cpu().numpy().astype(np.float64)
        return _cleared(rows * self.scale + self.offset, self.std)


def describe_columns(data: Data, labels: np.ndarray, n_clusters: int) -> Columns:
    """Means of each column, of all rows (N, D) and of each cluster's, in one pass."""
    dim = data.shape[0]
    labels = np.where(labels == NOISE, n_clusters, labels)  # the last, which is left out in the end
    sums = torch.zeros(n_clusters + 1, dim, dtype=torch.float64)
    squares = torch.zeros(dim, dtype=torch.float64)
    where = torch.from_numpy(labels)
    step = max(1, CHUNK_VALUES // dim)
    first = data.slice(0, 1)[0].cpu().double()  # taken off, so that squares of large values keep their digits
    for start in range(0, len(data), step):
        rows = data.slice(start, start + step).cpu().double() - first
        sums.index_add_(0, where[start : start + step], rows)
        squares += rows.square().sum(dim=0)
    counts = np.bincount(labels, minlength=n_clusters)[:n_clusters, None]
    mean = sums.sum(dim=0).numpy() / len(data)
    sums = sums[:n_clusters]
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
    means = _cleared((means + base) * scale + offset, std)
    return Columns(shown, std, means, offset, scale, _fields(names, made.encoding or {}))


def _fields(names: Sequence[str], encoding: Mapping[str, Any]) -> list[Field]:
    """The column of each value (D,)."""
    fields: list[Field] = []
    for name, how in encoding.items():
        if how["kind"] != "name":
            texts = tuple(how.get("values", ()))
            width = len(texts) if how["kind"] == "category" else 1
            fields += [Field(name, how["kind"], len(fields), texts)] * width
    return fields or [Field(name, "number", j) for j, name in enumerate(names)]


def _cleared(values: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Values (..., D) with 0 in place of what rounding leaves of it, in columns of deviations std (D,)."""
    cleared: np.ndarray = np.where(np.abs(values) < ZERO * std, 0.0, values)
    return cleared
