"""A test split set apart from what is trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...core.data.data import Data, Truth
from ...core.errors import InvalidData, InvalidSetting, unknown
from ...core.words import counted


def hold_out(data: Data, first: int, leave_out: str | None = None) -> Data:
    """The samples before ``first`` to train on, with those from it on as ``test``.

    leave_out: the name of a class whose samples are not trained on; the test split keeps them.
    Raises InvalidData where a part is empty or there are no labels, UnknownName for no such class.
    """
    if not 0 < first < len(data):
        raise InvalidData(
            f"{data.description}: {first} to train on and {len(data) - first} to test are no two splits."
        )
    rows, others = np.arange(first), np.arange(first, len(data))
    kept = ""
    if leave_out is not None:
        truth = data.truth
        if truth is None:
            raise InvalidData(f"data.leave_out names a class, and there are no labels in {data.description}.")
        if leave_out not in truth.names:
            raise unknown("class", leave_out, truth.names)
        rows = rows[truth.labels[:first] != truth.names.index(leave_out)]
        if not len(rows):
            raise InvalidData(
                f"without class '{leave_out}' there is nothing to train on in {data.description}."
            )
        kept = f" without class '{leave_out}'"
    name = data.description.partition(",")[0]
    train = _take(data, rows, f"{name}, training split{kept}, {counted(len(rows), 'sample')}")
    return replace(train, test=_take(data, others, f"{name}, test split, {counted(len(others), 'sample')}"))


def check_leave_out(leave_out: str | None, split: str) -> None:
    """Raise InvalidSetting for a class that is to be left out where no split keeps it."""
    if leave_out is not None and split != "train-test":
        raise InvalidSetting(
            f"data.leave_out keeps class '{leave_out}' for the test split; say data.split=train-test too."
        )


def _take(data: Data, rows: np.ndarray, description: str) -> Data:
    truth = data.truth
    contiguous = len(rows) == rows[-1] - rows[0] + 1
    x = data.x[rows[0] : rows[-1] + 1] if contiguous else data.x[torch.from_numpy(rows)]
    return replace(
        data, x=x, description=description, mapped=None,
        files=None if data.files is None else [data.files[i] for i in rows.tolist()],
        items=None if data.items is None else data.items.take(rows.tolist()),
        revealed=None if truth is None else Truth(truth.labels[rows], truth.names),
    )  # fmt: skip
