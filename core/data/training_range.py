"""Whether new data lie where the training data did: another unit or scale changes labels in silence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..errors import InvalidData
from .data import Data
from .preparation import Preparation

SHRUNK = 20  # times that a range is narrower than in training, from which the scale is another
LEAST = 10  # samples that must be so


def fitted(data: Data, preparation: Preparation) -> Data:
    """New data as ``preparation`` says, with a notice where their values are far from those in training.

    Raises InvalidData where shape or type are others.
    """
    dtype = data.preparation.dtype
    lowest = highest = 0.0
    if preparation.dtype == "uint8" != dtype and data.shape == preparation.shape:
        lowest, highest = data.extremes()
        if not math.isfinite(lowest + highest):
            data.check_finite()
    preparation.check(data.shape, dtype, lowest if lowest < 0 else highest, data.description)
    if dtype == "uint8" and preparation.bytes_too and preparation.source is not None:
        low, high = preparation.source
        raise InvalidData(
            f"{data.description}: bytes are given in an array, but the run was trained on image files, whose "
            f"values from {low:g} to {high:g} became black to white; give the images as files."
        )
    made = data.prepared_as(preparation)
    found = compare(data, preparation)
    return made if found is None else replace(made, notices=(*made.notices, found))


def compare(data: Data, preparation: Preparation) -> str | None:
    """What is far outside the training range of samples as the user gave them, in a sentence.

    Far is more than the width of the range beyond its end. None where nothing is, or the range is not
    known.
    """
    if preparation.seen is None or len(data) == 0:
        return None
    low, high = np.array(preparation.seen, np.float64).T  # (1,) for all values, or (D,)
    own = len(low) > 1
    wide = np.where(high > low, high - low, preparation.std or 1.0) if own else high - low
    far = np.zeros(len(low), np.int64)
    lowest, highest = np.full(len(low), np.inf), np.full(len(low), -np.inf)
    for _, rows in data.pieces():
        x = rows.cpu().numpy().reshape(-1, len(low))
        far += ((x < low - wide) | (x > high + wide)).sum(axis=0)
        lowest, highest = np.minimum(lowest, x.min(axis=0)), np.maximum(highest, x.max(axis=0))
    narrow = (highest - lowest) * SHRUNK < wide
    if far.any():
        i, total = int(far.argmax()), len(data) * data.x[0].numel() // len(low)
        share = f"{far[i] / total:.0%}" if far[i] >= 0.01 * total else "less than 1%"
        what = f"{far[i]:,} of {total:,} values ({share}){_of(i, preparation)}"
        if others := int((far > 0).sum()) - 1:
            what += f" and some of {others:,} other {'column' if others == 1 else 'columns'}"
        what += " far outside the training range"
    elif len(data) >= LEAST and narrow.mean() > 0.5:
        i = int(np.where(narrow, wide, 0).argmax())
        what = f"the values{_of(i, preparation)} far closer together than in training"
    else:
        return None
    return (
        f"{data.description}: {what}: there they went from {low[i]:g} to {high[i]:g}, here from "
        f"{lowest[i]:g} to {highest[i]:g}. Are they {'in the same unit' if own else 'on the same scale'}?"
    )


def _of(column: int, preparation: Preparation) -> str:
    """The name of a column that has a range of its own."""
    if preparation.seen is None or len(preparation.seen) == 1:
        return ""
    if preparation.columns is None:
        return f" of column {column} (counted from 0)"
    return f" of column '{preparation.columns[column]}'"
