"""On which scale samples are seen: of rows each column centred, with one deviation for all or its own for
each; of images that are neither bytes nor from 0 to 1 what most of their values lie between.

docs/defaults.md says what the rule and its numbers rest on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch

from ..errors import InvalidData
from .data import Data
from .preparation import Preparation
from .training_range import compare

Scale = Literal["auto", "standard", "none"]

SAMPLE_ROWS = 65_536  # rows that the statistics rest on, evenly spaced
SAMPLE_VALUES = 2**22  # of them at most, but never fewer than LEAST_ROWS rows
LEAST_ROWS = 64
BLOCK_VALUES = 2**21  # looked at in float64 in one go
TRIM = 100  # one value in so many is left out at each end of a column, to find its middle
FAR = 10.0  # deviations of the middle beyond which a value has no say, and beyond which all count as that
ABSURD = 100.0  # deviations beyond which a value is named
SPARSE = 0.9  # share of equal values from which a column is constant but for the others
RARE = 3.0  # deviations at which the farthest of these others stands at most
UNITS = 20.0  # ratio of two columns' ranges from which their units differ
NARROW = 0.05  # share of the columns whose narrow ranges say nothing of the others' units
ROUNDING = 1e-12  # of a float64 value: columns that differ less are constant
SMALL = 1e-150  # range below which squares become 0
DUST = 1e-13  # of the widest range: what rounding leaves of a constant


@dataclass(frozen=True)
class Measured:
    """What new rows must be scaled with, and the sentences that say so: see ``Data``."""

    preparation: Preparation
    said: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class Columns(NamedTuple):
    """Each (D,), of the values that are not absurd, bytes as 0 to 1.

    sparse: whether nearly all values are equal. constant: whether all are, up to rounding.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sparse: np.ndarray
    constant: np.ndarray


def scaled(data: Data, scale: Scale = "auto") -> Data:
    """``data`` whose batches are on the scale that the training samples ask for; see ``measure``.

    Samples stay as they are in memory or file; what their preparation keeps in ``extra`` stays there.
    """
    if len(data) == 0 or data.x[0].numel() == 0:
        return data  # Data.check refuses them
    if len(data.shape) != 1:
        if data.x.dtype == torch.uint8:
            return data
        found = _measure_images(data, scale)
    else:
        found = measure(data, scale)
    made, test, notices = replace(found.preparation, extra=data.preparation.extra), None, found.notices
    if data.test is not None:
        test, elsewhere = data.test.prepared_as(made), compare(data.test, made)
        notices = notices if elsewhere is None else (*notices, elsewhere)
    return replace(
        data.prepared_as(made), test=test, said=(*data.said, *found.said), notices=(*data.notices, *notices)
    )


def measure(data: Data, scale: Scale = "auto", names: Sequence[str] | None = None) -> Measured:
    """How the rows (N, D) of ``data``, as ``Data.given`` has them, are to be scaled.

    auto: every column less its mean; all divided by one deviation, the root of the mean of their
    variances, or each by its own where the columns' ranges differ more than ``UNITS``-fold. standard: each
    by its own. none: as they are. names: those of the columns.

    Raises InvalidData for values that are too large or too small to be told apart in it.
    """
    dim = data.shape[0]
    columns = _columns(data)
    if scale == "none":
        _check_single(data, names)
    _check_size(data, columns, names)
    ratio = _ratio(columns)
    own = scale == "standard" or (scale == "auto" and ratio > UNITS)
    made = Preparation(
        (dim,), data.preparation.dtype, None if names is None else tuple(names),
        seen=None if data.x.dtype == torch.uint8 else _seen(columns, ratio),
    )  # fmt: skip
    if scale == "none":
        return Measured(made)
    far = np.maximum(columns.high - columns.mean, columns.mean - columns.low)
    if own:
        std = np.where(columns.sparse, np.maximum(columns.std, far / RARE), columns.std)
        std = np.where(columns.constant | (std == 0), 1.0, std)
    else:
        variance = np.where(columns.constant, 0.0, columns.std**2).mean()
        std = np.full(dim, math.sqrt(variance) if variance > 0 else 1.0)
    made = replace(made, mean=tuple(columns.mean.tolist()), std=tuple(std.tolist()), limit=_limit(far / std))
    count, absurd = _clipped(data, made)
    notice = () if absurd is None else (absurd.sentence(made, names),)
    return Measured(made, (_say(made, ratio, scale, count),), notice)


def _measure_images(data: Data, scale: Scale) -> Measured:
    """How images that are no bytes are to be scaled: 0 to 1 is what their values lie between, absurd ones
    apart, where that is not within 0 to 1 already."""
    low, high = seen = _range(data)
    made = replace(data.preparation, seen=(seen,))
    least, most = data.extremes()
    if scale == "none" or (least >= 0 and most <= 1) or high <= low:
        return Measured(made)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    made = replace(made, source=(low, high))
    beyond, absurd = 0, 0
    for _, rows in data.pieces():
        rows = rows.float()  # float16 would round the ends
        beyond += int(((rows < low) | (rows > high)).sum())
        absurd += int(((rows < low - (high - low)) | (rows > high + (high - low))).sum())
    said = f"images: values from {low:g} to {high:g} became 0 to 1"
    if beyond:
        said += f"; {beyond:,} beyond {'counts' if beyond == 1 else 'count'} as the end"
    what = "1 value is" if absurd == 1 else f"{absurd:,} values are"
    notice = (
        f"{what} far outside {low:g} to {high:g}, where nearly all lie, and "
        f"{'counts' if absurd == 1 else 'count'} as the end of it: they go from {least:g} to {most:g}."
    )
    return Measured(made, (said,), (notice,) if absurd else ())


def _seen(columns: Columns, ratio: float) -> tuple[tuple[float, float], ...]:
    """One range for all columns, or one for each where their units or their places differ."""
    low, high = columns.low, columns.high
    whole = float(low.min()), float(high.max())
    if ratio > UNITS or whole[1] - whole[0] > UNITS * float((high - low).max()):
        return tuple(zip(low.tolist(), high.tolist(), strict=True))
    return (whole,)


def _limit(far: np.ndarray) -> float:
    """Twice as far as values are that are not absurd (D,), but at most ``FAR`` where they are nearer."""
    farthest = float(far.max())
    limit = max(min(2 * farthest, FAR), farthest) if farthest > 0 else FAR
    return math.ceil(limit * 10) / 10


def _sample(data: Data) -> torch.Tensor:
    """Evenly spaced samples as they were given."""
    values = data.x[0].numel()
    count = min(len(data), SAMPLE_ROWS, max(LEAST_ROWS, SAMPLE_VALUES // values))
    index = torch.linspace(0, len(data) - 1, count, dtype=torch.float64).round().long()
    return data.given(index)


def _columns(data: Data) -> Columns:
    sample = _sample(data)
    single = sample.dtype in (torch.float16, torch.float32)
    width = max(1, BLOCK_VALUES // len(sample))
    parts = [_describe(_doubles(some.T), single) for some in torch.split(sample, width, dim=1)]
    return Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _range(data: Data) -> tuple[float, float]:
    """The lowest and the highest value of images, as those of one column."""
    sample = _sample(data).reshape(-1)
    found = _describe(_doubles(sample[None, :: max(1, len(sample) // BLOCK_VALUES)]), single=True)
    return float(found.low[0]), float(found.high[0])


def _doubles(x: torch.Tensor) -> np.ndarray:
    """Float64, bytes as 0 to 1; what is not finite, which ``Data.check`` refuses, counts as 0."""
    values: np.ndarray = x.cpu().numpy().astype(np.float64, order="C")
    if x.dtype == torch.uint8:
        values /= 255
    return np.where(np.isfinite(values), values, 0.0)


def _describe(x: np.ndarray, single: bool) -> Columns:
    """x: (D, n) float64, a row for each column. single: whether these were float32 or less."""
    n = x.shape[1]
    cut = min(max(1, n // TRIM), (n - 1) // 8)
    ordered = np.partition(x, (cut, n // 2, n - 1 - cut), axis=1)
    middle, median = ordered[:, cut : n - cut], ordered[:, n // 2]
    with np.errstate(over="ignore", invalid="ignore"):  # _check_size names what is too large
        center, width = middle.mean(axis=1), middle.std(axis=1)
        sparse = (x == median[:, None]).mean(axis=1) >= SPARSE
        center[sparse] = median[sparse]
        width[sparse] = _usual_distance(x[sparse] - median[sparse, None])
        off = x - center[:, None]
        sane = np.abs(off) <= FAR * width[:, None]
        off[~sane] = 0
        count = np.maximum(sane.sum(axis=1), 1)
        shift = off.sum(axis=1) / count
        low, high = center + off.min(axis=1), center + off.max(axis=1)
        std = np.sqrt(np.where(sane, (off - shift[:, None]) ** 2, 0).sum(axis=1) / count)
        rounding = np.abs(center) * (2.0**-22 if single else ROUNDING)
        lost = ~np.isfinite(width)
        tiny = (width == 0) & ~sparse & (middle.min(axis=1) < middle.max(axis=1))  # whose squares are 0
        for i in np.flatnonzero(lost | tiny):
            low[i], high[i] = x[i].min(), x[i].max()
        std[lost] = np.inf
        constant = ~lost & ~(high - low > rounding)
        mean = np.where(constant, median, center + shift)
    low, high = np.where(constant, median, low), np.where(constant, median, high)
    return Columns(mean, std, low, high, sparse, constant)


def _usual_distance(off: np.ndarray) -> np.ndarray:
    """The median of the distances that are not 0, 0 for fewer than three of them.  # (D, n) to (D,)"""
    distance = np.sort(np.abs(off), axis=1)
    n, others = off.shape[1], (distance > 0).sum(axis=1)
    place = np.minimum(n - (others + 1) // 2, n - 1)
    found = np.take_along_axis(distance, place[:, None], axis=1)[:, 0]
    return np.where(others >= 3, found, 0.0)


def _check_size(data: Data, columns: Columns, names: Sequence[str] | None) -> None:
    wrong = ~(np.isfinite(columns.mean) & np.isfinite(columns.std))
    if wrong.any():
        i = int(wrong.argmax())
        largest = max(abs(columns.low[i]), abs(columns.high[i]))
        raise InvalidData(
            f"{data.description}: the values of {_name(i, names)}, up to {largest:g}, are too large to be "
            "standardised; give them in a larger unit."
        )
    widest = float((columns.high - columns.low).max())
    if 0 < widest < SMALL:
        raise InvalidData(
            f"{data.description}: the values of a column are at most {widest:g} apart, which is too little "
            "to be standardised; give them in a smaller unit."
        )


def _check_single(data: Data, names: Sequence[str] | None) -> None:
    """Raise InvalidData for values that are finite, but not as float32."""
    if data.x.dtype != torch.float64:
        return
    largest = torch.finfo(torch.float32).max
    for start, rows in data.pieces():
        wrong = (rows.abs() > largest) & rows.isfinite()
        if wrong.any():
            row, column = wrong.nonzero()[0].tolist()
            raise InvalidData(
                f"{data.description}: {float(rows[row, column]):g} in sample {start + row}, "
                f"{_name(column, names)}{'' if names else ' (counted from 0)'}, is too large for float32, "
                "as which data.scale=none leaves the values; leave that setting out, or give them in a "
                "larger unit."
            )


def check_integers(x: np.ndarray, where: str) -> None:
    """Raise InvalidData for a column of rows (N, D) whose integers differ, but not as float64."""
    if x.ndim != 2 or not x.size or x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return
    for i, (low, high) in enumerate(zip(x.min(axis=0).tolist(), x.max(axis=0).tolist(), strict=True)):
        if alike(low, high):
            raise InvalidData(lost_digits(where, _name(i, None), low, high))


def alike(low: int, high: int) -> bool:
    """Whether integers from ``low`` to ``high`` differ, but count as constant in float64."""
    return low < high and high - low <= ROUNDING * max(abs(low), abs(high))


def lost_digits(where: str, column: str, low: int, high: int) -> str:
    """What is said of integers that are ``alike``."""
    return (
        f"{where}: the integers of {column}, from {low} to {high}, are too large to be told apart: they "
        "differ in their last digits alone; leave the column out if they are ids, else subtract the smallest."
    )


def _ratio(columns: Columns) -> float:
    """How many times the widest range of a column is a narrow one.

    Constant columns have no say; those that are nearly so, such as the pixels of an edge, only where
    they are wide.
    """
    ranges = columns.high - columns.low
    live = ~columns.constant & (ranges > DUST * ranges.max())
    dense = np.sort(ranges[live & ~columns.sparse])
    return float(ranges.max() / dense[int(NARROW * (len(dense) - 1))]) if len(dense) else 1.0


class _Absurd(NamedTuple):
    """How many values there are, in how many columns, and the first of them: sample, column, value."""

    number: int
    columns: int
    sample: int
    column: int
    value: float

    def sentence(self, made: Preparation, names: Sequence[str] | None) -> str:
        one, limit = self.number == 1, f"{made.limit:g}"
        what = "1 value is" if one else f"{self.number:,} values in {_counted(self.columns)} are"
        where = f"sample {self.sample:,}, {_name(self.column, names)}"
        return (
            f"{what} more than {ABSURD:g} deviations off and {'counts' if one else 'count'} as {limit}: "
            f"{'' if one else 'the first is '}{self.value:g} in {where}"
            f"{'' if names else ' (counted from 0)'}."
        )


def _clipped(data: Data, made: Preparation) -> tuple[int, _Absurd | None]:
    """How many values are beyond the limit, and those that are absurd, in one pass over the rows."""
    assert made.mean is not None
    assert made.std is not None
    assert made.limit is not None
    mean, std = np.asarray(made.mean), np.asarray(made.std)
    unit = 255.0 if data.x.dtype == torch.uint8 else 1.0
    if data.x.dtype == torch.uint8 and np.maximum(mean, 1 - mean).max() <= made.limit * std.min():
        return 0, None

    def bounds(deviations: float) -> tuple[np.ndarray, np.ndarray]:
        return (mean - deviations * std) * unit, (mean + deviations * std) * unit

    (low, high), (lowest, highest) = bounds(made.limit), bounds(max(ABSURD, made.limit))
    beyond, counts, first = 0, np.zeros(len(mean), np.int64), None
    for start, rows in data.pieces():
        x = rows.numpy()
        outside = (x < low) | (x > high)
        if not outside.any():
            continue
        beyond += int(outside.sum())
        absurd = (x < lowest) | (x > highest)
        if first is None and absurd.any():
            row, column = (int(i) for i in np.argwhere(absurd)[0])
            first = start + row, column, float(x[row, column])
        counts += absurd.sum(axis=0)
    if first is None:
        return beyond, None
    return beyond, _Absurd(int(counts.sum()), int((counts > 0).sum()), *first)


def _say(made: Preparation, ratio: float, scale: Scale, clipped: int) -> str:
    assert made.std is not None
    dim, std = made.shape[0], set(made.std)
    alike = "their ranges are alike" if ratio < 1.05 else f"their ranges differ {_times(ratio)}-fold"
    if scale == "standard":
        what = "each to mean 0 and deviation 1"
    elif ratio > UNITS:
        what = f"each to mean 0 and deviation 1, because {alike}"
    elif dim == 1:
        what = f"centred, divided by {std.pop():.3g}"
    else:
        what = f"centred, all divided by {std.pop():.3g} ({alike})"
    if clipped:
        value, counts = ("value", "counts") if clipped == 1 else ("values", "count")
        what += f"; {clipped:,} {value} beyond {made.limit:g} deviations {counts} as that"
    bytes_ = " of bytes as 0 to 1" if made.dtype == "uint8" else ""
    return f"{_counted(dim)}{bytes_}: {what}"


def _times(ratio: float) -> str:
    """Two digits: 1.4, 27, 5,000."""
    if ratio < 9.95:
        return f"{ratio:.1f}"
    step: float = 10.0 ** (math.floor(math.log10(ratio)) - 1)
    return f"{round(ratio / step) * step:,.0f}"


def _counted(columns: int) -> str:
    return f"{columns:,} {'column' if columns == 1 else 'columns'}"


def _name(column: int, names: Sequence[str] | None) -> str:
    return f"column {column}" if names is None else f"column '{names[column]}'"
