"""A table's rows as samples: which columns, and on which scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from ...core import (
    Data,
    Dataset,
    InvalidData,
    InvalidSetting,
    Place,
    Preparation,
    Truth,
    setting,
)
from ...core.errors import unknown
from ...core.scaling import measure
from ...core.training_range import compare
from .sheet import Sheet, open_sheet, read

ROWS = 65536  # standardised in one go


@dataclass(frozen=True)
class TableConfig:
    path: str = setting("", "the file; --data PATH sets it")
    id: str | None = setting(None, "column that names the rows, as labels.csv then does")
    labels: str | None = setting(None, "column with the true classes, for scores alone (--labels)")
    columns: tuple[str, ...] = setting((), "columns to cluster by, in this order; none: all the others")
    scale: Literal["auto", "standard", "none"] = setting(
        "auto",
        "auto: columns centred and divided by one deviation, or each by its own where units differ; "
        "standard: each by its own; none: as they are",
    )
    decimal: Literal["point", "comma"] = setting("point", "how fractions are written: 1.5 or 1,5")


class Table(Dataset):
    """Rows (N, D) of a text file whose first line names its columns; UTF-8.

    Cells are parted by the comma, semicolon, tab or bar that the header has most of, and may be
    quoted. Statistics and standardised values are computed in float64.
    """

    Config: ClassVar[type[TableConfig]] = TableConfig

    def load(self, place: Place) -> Data:
        """The rows, with the truth where ``labels`` names a column of it."""
        sheet = self._open()
        names = self._numeric(sheet)
        rows, ids, labels = self._read(sheet, names)
        found = measure(Data(torch.from_numpy(rows), f"'{sheet.path}'"), self.config.scale, names)
        data = self._data(sheet, rows, ids, found.preparation)
        data = replace(data, said=found.said, notices=found.notices)
        return data if labels is None else replace(data, revealed=_truth(labels))

    def load_like(self, place: Place, preparation: Preparation) -> Data:
        """The columns that ``preparation`` names, standardised as it says; others are ignored.

        For a model of rows without names: all numeric columns, where they are as many.
        """
        sheet = self._open()
        if preparation.columns is not None:
            self._known(sheet, preparation.columns)
            names: Sequence[str] = preparation.columns
        else:
            names = self._numeric(sheet)
            preparation.check((len(names),), "float32", 0.0, sheet.path.name)
        rows, ids, _ = self._read(sheet, names)
        strange = compare(Data(torch.from_numpy(rows), sheet.path.name), preparation)
        data = self._data(sheet, rows, ids, preparation)
        return data if strange is None else replace(data, notices=(strange,))

    def _open(self) -> Sheet:
        c = self.config
        if not c.path:
            raise InvalidData("the data set 'table' needs a file: give its path as --data.")
        sheet = open_sheet(Path(c.path), decimal_comma=c.decimal == "comma")
        self._known(sheet, [name for name in (c.id, c.labels) if name is not None])
        return sheet

    def _known(self, sheet: Sheet, names: Sequence[str]) -> None:
        for name in names:
            if name not in sheet.header:
                raise unknown(f"column in '{sheet.path.name}'", name, filter(None, sheet.header))

    def _numeric(self, sheet: Sheet) -> Sequence[str]:
        """The columns to cluster by."""
        c = self.config
        self._known(sheet, c.columns)
        for name in c.columns:
            if name in (c.id, c.labels):
                what = "id" if name == c.id else "labels"
                raise InvalidSetting(f"data.columns names '{name}', which is data.{what}; say it once.")
            if c.columns.count(name) > 1:
                raise InvalidSetting(f"data.columns names '{name}' twice.")
        names = c.columns or tuple(name for name in sheet.header if name not in (c.id, c.labels))
        if "" in names:
            raise InvalidData(
                f"'{sheet.path}': column {sheet.header.index('') + 1} has no name; name it in the header "
                "(pandas writes its index so, unless told index=False), or name those to use with "
                "-s data.columns=..."
            )
        if not names:
            raise InvalidData(f"'{sheet.path}' has no column of numbers beside id and labels.")
        return names

    def _read(
        self, sheet: Sheet, names: Sequence[str]
    ) -> tuple[np.ndarray, list[str] | None, list[str] | None]:
        """Numbers (N, D), ids and labels."""
        c = self.config
        texts = [name for name in dict.fromkeys((c.id, c.labels)) if name is not None]
        rows, cells = read(sheet, names, texts)
        found = dict(zip(texts, cells, strict=True))
        return rows, found.get(c.id or ""), found.get(c.labels or "")

    def _data(self, sheet: Sheet, rows: np.ndarray, ids: list[str] | None, preparation: Preparation) -> Data:
        x = np.empty(rows.shape, np.float32)
        with np.errstate(over="ignore"):  # Data.check_finite names what becomes infinite
            for start in range(0, len(rows), ROWS):
                x[start : start + ROWS] = preparation.standardise(rows[start : start + ROWS])
        return Data(
            torch.from_numpy(x),
            f"{sheet.path.name}, {len(x)} rows of {x.shape[1]} columns",
            files=ids,
            key=self.config.id or "file",
            prepared=preparation,
        )


def _truth(cells: list[str]) -> Truth:
    """Whole numbers or texts as classes; an empty cell is unknown, and so is the number -1."""
    known = {cell: cell.strip() for cell in {*cells} if cell.strip()}
    values: dict[str, int | str] = {}
    try:
        values.update({cell: int(text) for cell, text in known.items()})
    except ValueError:
        values.update(known)
    ids = sorted({*values.values()} - {-1})  # type: ignore[type-var]  # all of one type
    codes = {value: code for code, value in enumerate(ids)}
    own = {cell: codes.get(value, -1) for cell, value in values.items()}
    labels = np.fromiter((own.get(cell, -1) for cell in cells), np.int64, len(cells))
    return Truth(labels, tuple(map(str, ids)))
