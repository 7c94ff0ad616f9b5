"""Which values the files of a folder hold, and which of them become black and white. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core import progress
from . import decoding
from .decoding import Head, Scale

SAMPLED = 256  # files that are looked at
POINTS = 1001  # quantiles that are kept: every tenth of a percent
WHOLE, FRACTIONAL = (255.0, 65535.0), (1.0, 255.0)  # what white usually is
LEAST_USED = 1 / 4  # of a usual scale; values that use less of it are spread over all grey levels
OVERSHOOT = 1 / 50  # of it, by which values may lie outside, such as fractions that peak at 1.001


@dataclass(frozen=True)
class Survey:
    """A sample of a folder's files.

    kinds: how many hold values of each kind, ``""`` for bytes. quantiles: 0, 0.1, ..., 100 % of the values
    of those that hold no bytes, each file with as many as the others of its size; empty where there are none.
    """

    kinds: dict[str, int]
    quantiles: tuple[float, ...] = ()

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Survey:
        """What ``dataclasses.asdict`` made, from JSON."""
        return cls(record["kinds"], tuple(record["quantiles"]))

    @property
    def n_looked(self) -> int:
        """How many files were looked at."""
        return sum(self.kinds.values())

    @property
    def n_bytes(self) -> int:
        """How many of them hold bytes."""
        return self.kinds.get("", 0)

    @property
    def bulk(self) -> tuple[float, float]:
        """Where all values lie but the lowest and the highest tenth of a percent."""
        return self.quantiles[1], self.quantiles[-2]

    def outside(self, low: float, high: float) -> float:
        """The share of the values that lie below ``low`` or above ``high``, to a tenth of a percent."""
        values = np.asarray(self.quantiles)
        return float(((values < low) | (values > high)).mean())

    def scale(self) -> Scale | None:
        """The values that become black and white, None where all files hold bytes.

        From 0 to 255 or 65535, or to 1 for fractions, where the bulk of the values lies there and uses at
        least a quarter of it; else the bulk itself, or where that is one value the lowest and the highest.
        """
        if not self.quantiles:
            return None
        low, high = self.bulk
        for white in FRACTIONAL if "fractional" in self.kinds else WHOLE:
            over = OVERSHOOT * white
            if -over <= low and high <= white + over and high - low >= LEAST_USED * white:
                return Scale(0.0, white)
        if low == high:
            low, high = self.quantiles[0], self.quantiles[-1]
        return Scale(low, high if high > low else low + max(1.0, abs(low)))


def look_at(root: Path, names: Sequence[str]) -> dict[str, Head]:
    """The heads of files, evenly spaced over ``names``, that can be read."""
    step = max(1, len(names) / SAMPLED)
    chosen = sorted({int(i * step) for i in range(min(SAMPLED, len(names)))})
    found = {names[i]: decoding.look(root / names[i]) for i in chosen}
    return {name: head for name, head in found.items() if head is not None}


def survey(root: Path, heads: dict[str, Head], *, quiet: bool = False) -> Survey:
    """What the files of these heads hold; only those of more than 8 bits a value are read."""
    kinds = dict(sorted(Counter(head.kind for head in heads.values()).items()))
    wide = [name for name, head in heads.items() if head.kind]
    if not wide:
        return Survey(kinds)
    found = []
    with progress("looking at values", len(wide), "images", quiet=quiet, least_seconds=2) as advance:
        for name in wide:
            values = decoding.wide_values(root / name)
            if values is not None:
                found.append(values)
            advance(1)
    found = _usual(found)
    return Survey(kinds, _quantiles(np.concatenate(found)) if found else ())


def _usual(found: list[np.ndarray]) -> list[np.ndarray]:
    """Without the files whose values are so far beyond most files' that ``decoding.decode`` refuses them."""
    if not found:
        return found
    usual = float(np.median([np.abs(values).max() for values in found]))
    return [values for values in found if not decoding.is_far(values, usual)] if usual else found


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    """Of those beside a point the one that is further from the middle, so that few values are all kept."""
    at = np.linspace(0, len(values) - 1, POINTS)
    places = np.where(np.arange(POINTS) <= POINTS // 2, np.floor(at), np.ceil(at)).astype(np.int64)
    return tuple(np.sort(values)[places].tolist())
