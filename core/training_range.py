"""Whether new data lie where the training data did: another unit or scale changes labels in silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .data import Data
from .preparation import Preparation

SHRUNK = 20  # times that a range is narrower than in training, from which the scale is another
LEAST = 10  # samples that must be so


def prepared_like(data: Data, preparation: Preparation) -> Data:
    """New data as ``preparation`` says, with a notice where their values are far from those in training."""
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
    low, high = np.array(preparation.seen, np.float64).T  # (1,) or (D,)
    own = len(low) > 1
    wide = high - low
    if own:
        wide = np.where(wide > 0, wide, preparation.std)
    far = np.zeros(len(low), np.int64)
    lowest, highest = np.full(len(low), np.inf), np.full(len(low), -np.inf)
    for _, rows in data.pieces():
        x = rows.cpu().numpy().reshape(-1, len(low))
        far += ((x < low - wide) | (x > high + wide)).sum(axis=0)
        lowest, highest = np.minimum(lowest, x.min(axis=0)), np.maximum(highest, x.max(axis=0))
    total = len(data) * data.x[0].numel() // len(low)
    if far.any():
        i = int(far.argmax())
        here = f"there they went from {low[i]:g} to {high[i]:g}, here from {lowest[i]:g} to {highest[i]:g}"
        share = f"{far[i]:,} of {total:,} values ({_share(far[i], total)})"
        if not own:
            return f"{share} are far outside the training range: {here}. Are they on the same scale?"
        name = f"'{preparation.columns[i]}'" if preparation.columns else f"{i} (counted from 0)"
        others = int((far > 0).sum()) - 1
        more = f" (and values of {others:,} more {'column' if others == 1 else 'columns'})" if others else ""
        return (
            f"{share} of column {name}{more} are far outside the training range: {here}. "
            "Are they in the same unit?"
        )
    narrow = (highest - lowest) * SHRUNK < wide
    if len(data) >= LEAST and narrow.mean() > 0.5:
        i = int(np.where(narrow, wide, 0).argmax())
        where = f" in column {preparation.columns[i] if preparation.columns else i}" if own else ""
        return (
            f"the values are far closer together than in training: there they went from {low[i]:g} to "
            f"{high[i]:g}, here from {lowest[i]:g} to {highest[i]:g}{where}. Are they on the same scale?"
        )
    return None


def _share(part: int, total: int) -> str:
    return f"{part / total:.0%}" if part >= 0.01 * total else "less than 1%"
