"""A text file of rows and columns: its header, its numbers, and where in it something is wrong."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ...core import InvalidData

DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Sheet:
    """A table in a file. header: its columns' names. decimal_comma: whether 1,5 is a number."""

    path: Path
    delimiter: str
    header: tuple[str, ...]
    decimal_comma: bool = False


def open_sheet(path: Path, *, decimal_comma: bool = False) -> Sheet:
    """The table at ``path``, its delimiter found in the header: the one that is there most often.

    Raises InvalidData for what cannot be read, is empty, or has no header of distinct names.
    """
    with _opened(path) as file:
        first = next(_lines(file), "")
        if not first.strip():
            raise InvalidData(f"'{path}' is empty, or its first line is; a table with a header is needed.")
        delimiter = _delimiter(first, "\t" if path.suffix.lower() == ".tsv" else ",")
        file.seek(0)
        header = tuple(name.strip() for name in next(csv.reader(_lines(file), delimiter=delimiter)))
    if _is_data(header, decimal_comma):
        shown = ", ".join(header[:4]) + (", ..." if len(header) > 4 else "")
        raise InvalidData(f"'{path}' begins with numbers ({shown}); its first line must name the columns.")
    for name in header:
        if name and header.count(name) > 1:
            places = [str(i + 1) for i, other in enumerate(header) if other == name]
            raise InvalidData(f"'{path}': the columns {' and '.join(places)} are both named '{name}'.")
    return Sheet(path, delimiter, header, decimal_comma)


def read(sheet: Sheet, numbers: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, list[list[str]]]:
    """The columns ``numbers`` as (N, D) float64, and the columns ``texts``, a list of cells each.

    NumPy's parser reads the file; only where that fails the rows are looked at one by one.
    Raises InvalidData with line and column of the first cell that is no finite number, or with the
    line of the first row whose cells are too few or too many.
    """
    kept: dict[str, list[str]] = {name: [] for name in texts}
    converters: dict[int, Callable[[str], float]] = {}
    for i, name in enumerate(sheet.header):
        value = _nothing
        if name in numbers:
            value = _value_with_comma if sheet.decimal_comma else float
        if name in kept:
            converters[i] = _keeping(kept[name], value)
        elif value is not float:
            converters[i] = value
    try:
        with _opened(sheet.path) as file, warnings.catch_warnings():
            next(csv.reader(_lines(file), delimiter=sheet.delimiter))  # the header, also of several lines
            warnings.simplefilter("ignore", UserWarning)  # of no rows
            rows = np.loadtxt(
                file, np.float64, comments=None, delimiter=sheet.delimiter, quotechar='"',
                converters=converters, ndmin=2, encoding="utf-8",
            )  # fmt: skip
    except ValueError as error:
        raise _fault(sheet, numbers, str(error)) from error
    if not rows.size:
        raise InvalidData(f"'{sheet.path}' has a header but no rows.")
    if rows.shape[1] != len(sheet.header):
        raise _fault(sheet, numbers, f"{rows.shape[1]} cells in each row")
    if list(numbers) != list(sheet.header):
        rows = rows[:, [sheet.header.index(name) for name in numbers]]
    if not np.isfinite(rows).all():
        raise _fault(sheet, numbers, "values that are not finite")
    return rows, [kept[name] for name in texts]


def _is_data(header: Sequence[str], decimal_comma: bool) -> bool:
    """Whether a first line holds numbers, and not years or such as the columns' names."""
    numbers = all(_number(name, decimal_comma) is not None for name in header)
    return numbers and not (all(map(str.isdigit, header)) and len({*header}) == len(header))


def _keeping(cells: list[str], value: Callable[[str], float]) -> Callable[[str], float]:
    def keep(cell: str) -> float:
        cells.append(cell)
        return value(cell)

    return keep


def _nothing(cell: str) -> float:
    return 0.0


def _value_with_comma(cell: str) -> float:
    number = _number(cell, True)
    if number is None:
        raise ValueError(cell)
    return number


def _number(cell: str, decimal_comma: bool) -> float | None:
    """A cell's number, as NumPy's parser takes it; None where it is none."""
    if "_" in cell:  # Python's own float takes them
        return None
    try:
        return float(cell.replace(",", ".") if decimal_comma else cell)
    except ValueError:
        return None


def _fault(sheet: Sheet, numbers: Sequence[str], reason: str) -> InvalidData:
    """The error that names the first fault of the file."""
    wanted = [(sheet.header.index(name), name) for name in numbers]
    width = len(sheet.header)
    with _opened(sheet.path) as file:
        for line, row in _rows(file, sheet):
            if len(row) != width:
                return InvalidData(
                    f"'{sheet.path}', line {line}: {len(row)} cells, but the header names {width} columns"
                    f"{_comma_advice(row)}."
                )
            for i, name in wanted:
                number = _number(row[i], sheet.decimal_comma)
                if number is None or not math.isfinite(number):
                    return InvalidData(
                        f"'{sheet.path}', line {line}, column '{name}': {_advice(row[i].strip(), name)}."
                    )
    return InvalidData(f"'{sheet.path}' cannot be read as a table: {reason}.")


def _comma_advice(row: Sequence[str]) -> str:
    if not row[-1].strip():
        return "; the row ends in a delimiter"
    return "; put cells that hold the delimiter in double quotes"


def _advice(cell: str, name: str) -> str:
    leave = "leave the column out (-s data.columns=... names those to use)"
    if not cell:
        return f"the cell is empty; fill missing values, or {leave}"
    shown = cell if len(cell) <= 40 else cell[:37] + "..."
    number = _number(cell, False)
    if number is not None or cell.lower() in ("na", "n/a", "null", "none", "-", "?"):
        return f"'{shown}' is no finite number; fill missing values, or {leave}"
    if _number(cell, True) is not None:
        return f"'{shown}' is written with a decimal comma; -s data.decimal=comma reads these"
    return (
        f"'{shown}' is no number; if the column names rows or classes, say so with -s data.id={name} or "
        f"-s data.labels={name}, else {leave}"
    )


def _rows(file: IO[str], sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with the line that it begins in; blank lines are none."""
    reader = csv.reader(_lines(file), delimiter=sheet.delimiter)
    next(reader)
    line = reader.line_num + 1
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + 1


def _delimiter(header: str, usual: str) -> str:
    outside = "".join(header.split('"')[::2])  # what stands in no quotes
    return max((usual, *DELIMITERS), key=outside.count)


def _lines(file: IO[str]) -> Iterator[str]:
    """Line by line without reading ahead, so that another reader can go on behind them."""
    return iter(file.readline, "")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise InvalidData(f"'{path}' cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        with path.open("rb") as raw:
            wide = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16" if wide else f"not UTF-8 (byte 0x{error.object[error.start]:02x}: {error.reason})"
        raise InvalidData(f"'{path}' is {found}; save it as UTF-8.") from error
    except csv.Error as error:
        raise InvalidData(f"'{path}' cannot be read as a table: {error}.") from error
