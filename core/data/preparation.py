"""How a run's samples were made from what the user gave, so that new ones are made alike."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import BrokenPlugin, InvalidData
from ..words import counted, in_one_line

Size = tuple[int, ...]  # as in data.py, which imports this module


@dataclass(frozen=True)
class Preparation:
    """What new samples must match.

    shape: of one sample. dtype: ``"uint8"`` or ``"float32"``, which ``Data.batch`` scales differently.
    columns: the names of a sample's values, where they have any: a table's columns, in their order.
    mean, std: what each column was standardised with, where it was; of bytes as 0 to 1. limit:
    standardised values beyond it count as it. source: the values of images that became 0 and 255, of
    numbers in arrays 0 and 1, where they hold others. seen: the lowest and the highest value in training
    as the user gave them, absurd ones apart: one pair for all values, or one for each column where units
    differ.
    encoding: for each column of a table how its cells became values, as JSON; ``columns`` then names
    the values. None: all cells are numbers.
    extra: what a data set keeps for its own ``load_like``, as plain JSON values; it becomes what JSON makes
    of it, such as lists of tuples.

    Raises BrokenPlugin where ``extra`` holds anything else.
    """

    shape: Size
    dtype: str
    columns: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    limit: float | None = None
    bytes_too: bool = False  # source counts for files of bytes as well, which else stay as they are
    held: tuple[float, float] | None = None  # where 99.8 % of the values of training's image files lay
    source: tuple[float, float] | None = None
    seen: tuple[tuple[float, float], ...] | None = None
    encoding: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        try:
            made = json.loads(json.dumps(dict(self.extra or {}), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise BrokenPlugin(
                "a data set keeps in Preparation.extra what JSON cannot hold, which is finite numbers, text, "
                f"true, false, None, and lists and mappings of these: {in_one_line(error)}"
            ) from error
        object.__setattr__(self, "extra", made)

    def record(self) -> dict[str, Any]:
        """Plain JSON values: what ``from_record`` takes again."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Preparation:
        """The preparation that ``record`` wrote down."""
        return cls(**{key: _tuples(value) for key, value in record.items()})

    def standardise(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, D) less ``mean``, divided by ``std``, within ``limit``, computed in float64, as float32.

        As they are where there is no mean.
        """
        if self.mean is None or self.std is None:
            return rows
        scaled: np.ndarray = (rows - np.asarray(self.mean)) / np.asarray(self.std)
        if self.limit is not None:
            scaled = scaled.clip(-self.limit, self.limit)
        return scaled.astype(np.float32)

    def check(self, shape: Size, dtype: str, highest: float, description: str) -> None:
        """Raise InvalidData where samples of this shape and type are not what the model takes.

        highest: the largest value among them, or a negative one, which tell bytes from shares of 1.
        """
        if shape != self.shape:
            raise InvalidData(
                f"{description}: {_shown(shape)} are given, but the run was trained on {_shown(self.shape)}; "
                f"{_advice(self.shape, shape)}."
            )
        if dtype == "uint8" and self.dtype != "uint8":
            raise InvalidData(
                f"{description}: bytes are given, but the run was trained on numbers of type {self.dtype}; "
                "bring them to the same scale and save them with .astype('float32')."
            )
        if dtype != "uint8" and self.dtype == "uint8" and not 0 <= highest <= 1:
            way = "up" if highest > 0 else "down"
            raise InvalidData(
                f"{description}: numbers {way} to {highest:g} are given, but the run was trained on bytes, "
                "which it takes as 0 to 1; save them with .astype('uint8') or divide them by 255."
            )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _shown(shape: Size) -> str:
    if len(shape) == 3:
        channels = {1: "grey images", 3: "RGB images"}.get(
            shape[0], f"images of {counted(shape[0], 'channel')}"
        )
        return f"{channels} of {shape[1]}x{shape[2]}"
    return f"rows of {counted(shape[0], 'value')}" if len(shape) == 1 else f"samples of shape {shape}"


def _advice(wanted: Size, given: Size) -> str:
    if len(wanted) != len(given):
        return f"save them with shape (N, {', '.join(map(str, wanted))})"
    if len(wanted) == 3 and wanted[0] != given[0]:
        return f"convert them to {'grey' if wanted[0] == 1 else 'RGB' if wanted[0] == 3 else 'that many'}"
    return "resize them" if len(wanted) == 3 else "give the same columns"
