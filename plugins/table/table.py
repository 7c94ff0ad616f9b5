"""A table's rows as samples: which columns, and on which scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from ...core import Data, Dataset, InvalidData, InvalidSetting, Preparation, Storage, Truth, setting, truth_of
from ...core.data.scaling import measure, scaled
from ...core.data.training_range import compare, fitted
from ...core.errors import unknown
from ...core.toolbox.items import give_items
from ...core.words import counted
from . import column, encoding, number
from .column import EMPTY, ROWS, Columns
from .encoding import Encoded
from .number import Notation
from .sheet import Sheet, check_digits, open_sheet, read, read_numbers, walk
from .vectors import VECTORS, read_vectors, vector_column

CHUNK = 65536  # rows standardised in one go
COUNTED = 10  # rows from which a column that counts them is told from chance
COUNTS = "counts the rows"
TEXTS_REACH = 2.0  # how far from 0 the values of texts are at most, see encoding.scales
CLASSES = ("class", "classes", "label", "labels", "target", "truth")  # what such a column tells, lower case


@dataclass(frozen=True)
class TableConfig:
    path: str = setting("", "the file; --data PATH sets it")
    id: str | None = setting(None, "column that names the rows, as labels.csv then does", inherited=False)
    labels: str | None = setting(
        None, "column with the true classes, for scores alone (--labels)", inherited=False
    )
    items: str | None = setting(
        None, "a table with id, text and path of an image of each row (--items)", inherited=False
    )
    columns: tuple[str, ...] = setting(
        (), "columns to cluster by, in this order; none: all that are of use", inherited=False
    )
    categories: tuple[str, ...] = setting(
        (), "columns whose cells are categories, whatever they look like", inherited=False
    )
    scale: Literal["auto", "standard", "none"] = setting(
        "auto",
        "auto: columns centred and divided by one deviation, or each by its own where units differ; "
        "standard: each by its own; none: as they are",
        training=True,
    )
    decimal: Literal["auto", "point", "comma"] = setting(
        "auto",
        "how fractions are written: 1.5 or 1,5; auto: as all numbers of the table make sense",
        inherited=False,
    )
    thousands: Literal["auto", "none", "point", "comma", "space", "apostrophe"] = setting(
        "auto", "what parts thousands; auto: as all numbers of the table make sense", inherited=False
    )


class Table(Dataset):
    """Rows (N, D) of a text file whose first line names its columns (UTF-8, also gzipped), of Parquet, or of
    JSON lines.

    Cells of text are parted by the comma, semicolon, tab or bar that the header has most of, and may be
    quoted. A column whose cells are lists of numbers is the samples, where there is one. Statistics and
    standardised values of the others are computed in float64.
    """

    Config: ClassVar[type[TableConfig]] = TableConfig

    @classmethod
    def cells(cls, path: Path) -> Mapping[str, Sequence[str]]:
        """All columns that have a name, as texts."""
        sheet = open_sheet(path)
        if sheet.source is not None:
            return {name: sheet.source.texts(i) for i, name in enumerate(sheet.header) if name}
        columns = list(zip(*(row for _, row in walk(sheet)), strict=True)) or [()] * len(sheet.header)
        return {name: cells for name, cells in zip(sheet.header, columns, strict=True) if name}

    def load(self, storage: Storage) -> Data:
        """The rows, with the truth where ``labels`` names a column of it."""
        return give_items(self._load(), self.config.items)

    def load_like(self, storage: Storage, preparation: Preparation) -> Data:
        """The columns that ``preparation`` names, made as it says; others are ignored.

        For a model of rows without names: all columns of numbers, where they are as many.
        """
        return give_items(self._load_like(preparation), self.config.items)

    def _load(self) -> Data:
        sheet = self._open()
        if (lists := vector_column(sheet, self.config.columns)) is not None:
            return scaled(self._vectors(sheet, lists), self.config.scale)
        columns, rows, texts = self._typed(sheet, self._wanted(sheet))
        sheet = columns.sheet
        check_digits(sheet, [i for i, how in columns.kinds.items() if how["kind"] == "number"], rows)
        kinds: dict[str, Mapping[str, Any]] = {sheet.header[i]: how for i, how in columns.kinds.items()}
        left = {sheet.header[i] or f"column {i + 1}": reason for i, reason in columns.left.items()}
        if sheet.source is not None and not self.config.columns:
            left |= sheet.source.nested
        left |= {name: f"may be the true classes: --labels {name}" for name in self._classes(sheet)}
        if not kinds:
            raise InvalidData(
                f"'{sheet.path}' has no column to cluster by; {encoding.left_out(left)}; "
                "-s data.columns=... names those to use."
            )
        names = self._row_names(columns)
        if names is not None:
            kinds = {names: {"kind": "name"}, **kinds}
            left.pop(names, None)
        encoded = encoding.encode(sheet, kinds, rows, texts)
        preparation, scaling, notices = self._preparation(encoded, sheet.path)
        data = self._data(sheet, encoded.rows, preparation, names, texts)
        said = encoding.describe(encoded, left)
        if sheet.notation != number.PLAIN:
            said.append(f"numbers are written as {sheet.notation.example()}")
        said += scaling
        labels = texts.get(self.config.labels)
        truth = None if labels is None else _truth(labels)
        notices = (*columns.notices, *notices)
        return replace(data, said=said, notices=notices, revealed=truth, filled=encoded.gaps)

    def _load_like(self, preparation: Preparation) -> Data:
        sheet, kept = self._open(), preparation.encoding
        lists: str | None = preparation.extra.get(VECTORS)
        if lists is not None and (sheet.source is None or lists not in sheet.source.vectors):
            there = () if sheet.source is None else sheet.source.vectors
            raise unknown(f"column of lists in '{sheet.path.name}'", lists, there)
        if lists is None and kept is None and preparation.columns is None:  # of an array
            lists = vector_column(sheet, self.config.columns)
        if lists is not None:
            return fitted(self._vectors(sheet, lists), preparation)
        if kept is not None:
            return self._load_as(sheet, preparation, kept)
        if preparation.columns is not None:
            self._known(sheet, preparation.columns)
            chosen = [sheet.header.index(name) for name in preparation.columns]
        else:
            columns, _, _ = self._typed(sheet, self._wanted(sheet))
            chosen = [i for i, how in columns.kinds.items() if how["kind"] == "number"]
            preparation.check((len(chosen),), "float32", 0.0, sheet.path.name)
        rows, texts = self._new(sheet, chosen, gaps=False)
        strange = compare(Data(torch.from_numpy(rows), sheet.path.name), preparation)
        data = self._data(sheet, rows, preparation, self.config.id, texts)
        return data if strange is None else replace(data, notices=(strange,))

    def _load_as(self, sheet: Sheet, preparation: Preparation, kept: encoding.Encoding) -> Data:
        """New rows whose cells become the values that those of the training became."""
        used = {name: how for name, how in kept.items() if how["kind"] != "name"}
        self._known(sheet, list(used))
        names = self.config.id or next((name for name in kept if name not in used), None)
        if names not in sheet.header:
            names = None
        numbers = [sheet.header.index(name) for name, how in used.items() if how["kind"] == "number"]
        others = [name for name, how in used.items() if how["kind"] != "number"]
        written = (how["written"] for how in used.values() if "written" in how)
        usual = Notation(*next(written, ()))
        rows, texts = self._new(sheet, numbers, [*others, *filter(None, [names])], usual=usual)
        encoded = encoding.encode(sheet, used, rows, texts)
        data = self._data(sheet, encoded.rows, preparation, names, texts)
        strange = compare(Data(torch.from_numpy(encoded.rows), sheet.path.name), preparation)
        return replace(data, notices=(*encoding.missed(encoded), *([strange] if strange else [])))

    def _vectors(self, sheet: Sheet, lists: str) -> Data:
        """The rows that a column of lists holds, as the file has them."""
        assert sheet.source is not None
        c = self.config
        truth = None if c.labels is None else _truth(sheet.source.texts(sheet.header.index(c.labels)))
        return read_vectors(sheet, lists, c.id, truth, c.labels)

    def _open(self) -> Sheet:
        c = self.config
        if not c.path:
            raise InvalidData("the data set 'table' needs a file: give its path as --data.")
        if c.decimal == c.thousands != "auto":
            raise InvalidSetting(f"data.decimal and data.thousands are both {c.decimal}; say which it is.")
        sheet = open_sheet(Path(c.path))
        self._known(sheet, [name for name in (c.id, c.labels, *c.categories) if name is not None])
        return sheet

    def _known(self, sheet: Sheet, names: Sequence[str]) -> None:
        for name in names:
            if name not in sheet.header:
                raise unknown(f"column in '{sheet.path.name}'", name, filter(None, sheet.header))

    def _wanted(self, sheet: Sheet) -> list[int]:
        """The columns that may be clustered by."""
        c = self.config
        self._known(sheet, c.columns)
        for key, chosen in (("columns", c.columns), ("categories", c.categories)):
            for name in chosen:
                if name in (c.id, c.labels):
                    what = "id" if name == c.id else "labels"
                    raise InvalidSetting(f"data.{key} names '{name}', which is data.{what}; say it once.")
                if chosen.count(name) > 1:
                    raise InvalidSetting(f"data.{key} names '{name}' twice.")
                if c.columns and name not in c.columns:
                    raise InvalidSetting(f"data.categories names '{name}', which data.columns does not.")
        if c.columns:
            return [sheet.header.index(name) for name in c.columns]
        apart = {c.id, c.labels, *self._classes(sheet)}
        wanted = [i for i, name in enumerate(sheet.header) if not name or name not in apart]
        if not wanted:
            raise InvalidData(f"'{sheet.path}' has no column to cluster by beside id and labels.")
        return wanted

    def _classes(self, sheet: Sheet) -> list[str]:
        """The columns that are left out for their names, lest the truth is clustered by."""
        c = self.config
        chosen = (c.id, c.labels, *c.categories)
        named = [name for name in sheet.header if name.lower() in CLASSES and name not in chosen]
        return [] if c.columns else named

    def _typed(self, sheet: Sheet, wanted: list[int]) -> tuple[Columns, np.ndarray, dict[str, list[str]]]:
        """What the columns are, the rows (N, D) of those of numbers, and the cells of the others."""
        c = self.config
        explicit = bool(c.columns)
        found = None
        if not c.categories and (explicit or not column.named_ids(sheet, wanted)):
            found = self._plain(sheet, wanted)
        if found is not None:
            rows, texts = found
            columns = Columns(sheet, {i: {"kind": "number"} for i in wanted})
        else:
            forced = [sheet.header.index(name) for name in c.categories]
            columns = column.survey(sheet, wanted, self._notations(), categories=forced, explicit=explicit)
            numbers = [i for i, how in columns.kinds.items() if how["kind"] == "number"]
            others = [i for i, how in columns.kinds.items() if how["kind"] != "number"]
            others += [i for i, reason in columns.left.items() if reason == ROWS]
            named = [sheet.header[i] for i in others if sheet.header[i]]
            rows, texts = self._read(columns.sheet, numbers, named)
        if not explicit:
            columns, rows = _without_counts(columns, rows, texts)
        for i in columns.kinds:
            if not sheet.header[i]:
                raise InvalidData(
                    f"'{sheet.path}': column {i + 1} has no name; name it in the header "
                    "(pandas writes its index so, unless told index=False), or name those to use with "
                    "-s data.columns=..."
                )
        return columns, rows, texts

    def _notations(self) -> int:
        return number.allowed(self.config.decimal, self.config.thousands)

    def _row_names(self, columns: Columns) -> str | None:
        """The column that names the rows: the user's, else the first left out because it does."""
        named: str | None = self.config.id
        if named is not None or self.config.columns:
            return named
        naming = [i for i, reason in columns.left.items() if reason in (ROWS, COUNTS)]
        return next((columns.sheet.header[i] for i in sorted(naming) if columns.sheet.header[i]), None)

    def _plain(
        self, sheet: Sheet, numbers: list[int], texts: Sequence[str] = ()
    ) -> tuple[np.ndarray, dict[str, list[str]]] | None:
        """As ``_read``; None where not all cells are numbers, or where it is not certain which."""
        if not self._notations() & 1:
            return None
        names = self._texts(texts)
        found = read_numbers(sheet, numbers, [sheet.header.index(name) for name in names])
        if found is None or np.isnan(found[0]).all(axis=0).any():
            return None
        if column.points_in_doubt(sheet, numbers, self._notations()):
            return None
        return found[0], dict(zip(names, found[1], strict=True))

    def _read(
        self, sheet: Sheet, numbers: list[int], texts: Sequence[str], *, gaps: bool = True
    ) -> tuple[np.ndarray, dict[str, list[str]]]:
        """Numbers (N, D), NaN where missing, and the cells of ``texts``, ids and labels."""
        names = self._texts(texts)
        rows, cells = read(sheet, numbers, [sheet.header.index(name) for name in names], gaps=gaps)
        return rows, dict(zip(names, cells, strict=True))

    def _new(
        self, sheet: Sheet, numbers: list[int], texts: Sequence[str] = (), *, gaps: bool = True,
        usual: Notation | None = None,
    ) -> tuple[np.ndarray, dict[str, list[str]]]:  # fmt: skip
        """As ``_read``, of a table whose notation is not known yet. usual: that of the training."""
        found = self._plain(sheet, numbers, texts)
        if found is not None and (gaps or not np.isnan(found[0]).any()):
            return found
        sheet = column.with_notation(sheet, numbers, self._notations(), usual)
        return self._read(sheet, numbers, texts, gaps=gaps)

    def _texts(self, more: Sequence[str]) -> list[str]:
        return [
            name for name in dict.fromkeys((*more, self.config.id, self.config.labels)) if name is not None
        ]

    def _preparation(self, encoded: Encoded, path: Path) -> tuple[Preparation, Sequence[str], Sequence[str]]:
        """How the values are brought to one scale, what is said of it, and notices: numbers as all rows
        are (``measure``), texts by fixed numbers."""
        names = encoding.names(encoded.encoding)
        scales = encoding.scales(encoded.encoding)
        own = np.flatnonzero(np.isnan(scales))
        fixed = np.flatnonzero(~np.isnan(scales))
        made = Preparation((len(names),), "float32", tuple(names), encoding=encoded.encoding)
        if len(own):
            numbers = Data(torch.from_numpy(np.ascontiguousarray(encoded.rows[:, own])), f"'{path}'")
            found = measure(numbers, self.config.scale, [names[i] for i in own])
            seen, said, notices = found.preparation.seen, found.said, found.notices
        else:
            seen, said, notices = None, (), ()
        if seen is not None and len(fixed):
            pairs = dict(zip(own.tolist(), seen if len(seen) > 1 else seen * len(own), strict=True))
            seen = tuple(pairs.get(i, (0.0, 1.0)) for i in range(len(names)))
        made = replace(made, seen=seen)
        if self.config.scale == "none":
            return made, said, notices
        mean = np.zeros(len(names))
        mean[fixed], limit = encoded.rows[:, fixed].mean(axis=0), TEXTS_REACH
        if len(own):
            mean[own], scales[own] = found.preparation.mean, found.preparation.std
            limit = max(limit, found.preparation.limit or 0.0)
        return (
            replace(made, mean=tuple(mean.tolist()), std=tuple(scales.tolist()), limit=limit),
            said,
            notices,
        )

    def _data(
        self, sheet: Sheet, rows: np.ndarray, preparation: Preparation, names: str | None,
        texts: Mapping[str, list[str]],
    ) -> Data:  # fmt: skip
        x: np.ndarray = np.empty(rows.shape, np.float32)
        with np.errstate(over="ignore"):  # Data.check_finite names what becomes infinite
            for start in range(0, len(rows), CHUNK):
                x[start : start + CHUNK] = preparation.standardise(rows[start : start + CHUNK])
        return Data(
            torch.from_numpy(x),
            f"{sheet.path.name}, {counted(len(x), 'row')} of {_size(preparation)}",
            files=None if names is None else texts[names],
            key=names or "file",
            prepared=preparation,
        )


def _size(preparation: Preparation) -> str:
    """How many columns of the file are used, and how many values they become where that differs."""
    (values,), encoding = preparation.shape, preparation.encoding
    used = values if encoding is None else sum(how["kind"] != "name" for how in encoding.values())
    shown = counted(used, "column")
    return shown if used == values else f"{shown} ({counted(values, 'value')})"


def _without_counts(
    columns: Columns, rows: np.ndarray, texts: dict[str, list[str]]
) -> tuple[Columns, np.ndarray]:
    """Without the columns of numbers that count the rows, or are mostly empty; ``texts`` gets the former."""
    header, n = columns.sheet.header, len(rows)
    numbers = [i for i, how in columns.kinds.items() if how["kind"] == "number"]
    left, used = dict(columns.left), []
    for j, i in enumerate(numbers):
        values = rows[:, j]
        first = values.min()
        if n >= COUNTED and first in (0, 1) and np.array_equal(np.sort(values), np.arange(first, first + n)):
            left[i] = COUNTS
            texts[header[i]] = [f"{value:.0f}" for value in values]
        elif 2 * np.isnan(values).sum() > n:
            left[i] = EMPTY
        else:
            used.append(j)
    if len(used) == len(numbers):
        return columns, rows
    kinds = {i: how for i, how in columns.kinds.items() if i not in left}
    return replace(columns, kinds=kinds, left=dict(sorted(left.items()))), rows[:, used]


def _truth(cells: list[str]) -> Truth:
    """Whole numbers or texts as classes; an empty cell is unknown, and so is -1 beside others than 1."""
    known = np.array([bool(cell.strip()) for cell in cells], bool)
    texts = [cell.strip() for cell in cells if cell.strip()]
    values: np.ndarray = np.array(texts, np.str_)
    with suppress(ValueError, OverflowError):
        values = np.array([int(text) for text in texts], np.int64)
    truth = truth_of(values)
    labels = np.full(len(cells), -1, np.int64)
    labels[known] = truth.labels
    return Truth(labels, truth.names)
