"""A file of rows and columns: its header, its numbers, and where in it something is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from ...core import InvalidData
from ...core.data.scaling import ROUNDING, alike, lost_digits
from ...core.words import counted
from .number import MISSING, PLAIN, Notation, readings
from .source import Source, open_source

EXACT = 2.0**53  # up to here float64 has all integers
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Sheet:
    """A table in a file.

    header: its columns' names. notation: how its numbers are written. source: what reads a file that is no
    text of rows and columns.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...]
    notation: Notation = PLAIN
    source: Source | None = None

    def at(self, line: int) -> str:
        """Where a row is in the file, for messages: its line, of Parquet its number."""
        return f"'{self.path}', {'line' if self.source is None else self.source.unit} {line}"

    def shown(self, column: int) -> str:
        """What a column is called in messages."""
        return f"'{self.header[column]}'" if self.header[column] else f"{column + 1}, which has no name"


def open_sheet(path: Path) -> Sheet:
    """The table at ``path``, its delimiter found in the header: the one that is there most often.

    Raises InvalidData for what cannot be read, is empty, or has no header of distinct names.
    """
    if (source := open_source(path)) is not None:
        header = tuple(name.strip() for name in source.header)
        _check_names(path, header)
        return Sheet(path, ",", header, source=source)
    _check_text(path)
    with _opened(path) as file:
        hinted = _hint(file)
        first = next(_lines(file), "")
        if not first.strip():
            raise InvalidData(f"'{path}' is empty, or its first line is; a table with a header is needed.")
        delimiter = hinted or _delimiter(
            first, "\t" if path.name.lower().endswith((".tsv", ".tsv.gz")) else ","
        )
        file.seek(0)
        _hint(file)
        header = tuple(name.strip() for name in next(csv.reader(_lines(file), delimiter=delimiter)))
    if _is_data(header):
        shown = ", ".join(header[:4]) + (", ..." if len(header) > 4 else "")
        raise InvalidData(f"'{path}' begins with numbers ({shown}); its first line must name the columns.")
    _check_names(path, header)
    return Sheet(path, delimiter, header)


def _check_names(path: Path, header: Sequence[str]) -> None:
    """Raise InvalidData where two columns have one name."""
    for name in header:
        if name and header.count(name) > 1:
            places = [str(i + 1) for i, other in enumerate(header) if other == name]
            raise InvalidData(f"'{path}': the columns {' and '.join(places)} are both named '{name}'.")


def read_numbers(
    sheet: Sheet, numbers: Sequence[int], texts: Sequence[int]
) -> tuple[np.ndarray, list[list[str]]] | None:
    """As ``read``, of numbers as NumPy's parser takes them; NaN where a cell says so.

    None where a cell is none, or a row has another number of cells.
    """
    try:
        rows, cells = _parse(sheet, numbers, texts, plain=True)
    except ValueError:
        return None
    return (rows, cells) if rows.size and not np.isinf(rows).any() else None


def read(
    sheet: Sheet, numbers: Sequence[int], texts: Sequence[int], *, gaps: bool = True
) -> tuple[np.ndarray, list[list[str]]]:
    """The columns ``numbers`` as (N, D) float64, and the columns ``texts``, a list of cells each.

    gaps: whether cells of ``numbers`` may be missing; they become NaN.
    Raises InvalidData with line and column of the first cell that is no finite number, or with the
    line of the first row whose cells are too few or too many.
    """
    rows: np.ndarray | None = None
    if sheet.notation == PLAIN:
        with suppress(ValueError):
            rows, cells = _parse(sheet, numbers, texts, plain=True)
    if rows is None:
        try:
            rows, cells = _parse(sheet, numbers, texts, plain=False)
        except ValueError as error:
            raise _fault(sheet, numbers, gaps, str(error)) from error
    if not rows.size and not any(cells):
        raise InvalidData(f"'{sheet.path}' has a header but no rows.")
    if np.isinf(rows).any() or (not gaps and np.isnan(rows).any()):
        raise _fault(sheet, numbers, gaps, "values that are not finite")
    return rows, cells


def check_digits(sheet: Sheet, numbers: Sequence[int], rows: np.ndarray) -> None:
    """Raise InvalidData where integers of columns ``numbers`` differ in the file, not in ``rows`` (N, D)."""
    for j, i in enumerate(numbers):
        values = rows[:, j][np.isfinite(rows[:, j])]
        if (
            not len(values)
            or np.abs(values).min() < EXACT
            or np.ptp(values) > ROUNDING * np.abs(values).max()
        ):
            continue
        cells = {int(row[i]) for _, row in walk(sheet) if row[i].strip().removeprefix("-").isdecimal()}
        if cells and alike(min(cells), max(cells)):
            raise InvalidData(
                lost_digits(f"'{sheet.path}'", f"column {sheet.shown(i)}", min(cells), max(cells))
            )


def walk(sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header as texts, each with the line that it begins in.

    Raises InvalidData for a row whose cells are too few or too many.
    """
    width = len(sheet.header)
    if sheet.source is not None:
        yield from sheet.source.rows()
        return
    with _opened(sheet.path) as file:
        for line, row in _rows(file, sheet):
            if len(row) != width:
                raise InvalidData(
                    f"'{sheet.path}', line {line}: {counted(len(row), 'cell')}, but the header names "
                    f"{counted(width, 'column')}{_comma_advice(row)}."
                )
            yield line, row


def _parse(
    sheet: Sheet, numbers: Sequence[int], texts: Sequence[int], *, plain: bool
) -> tuple[np.ndarray, list[list[str]]]:
    """As ``read``. plain: by NumPy's own parser. Raises ValueError for a cell or row that is none."""
    if sheet.source is not None:
        return _take(sheet, sheet.source, numbers, float if plain else _value(sheet.notation), texts)
    kept: dict[int, list[str]] = {i: [] for i in texts}
    wanted = frozenset(numbers)
    converters: dict[int | str, Callable[[str], float]] = {}
    for i in range(len(sheet.header)):
        value: Callable[[str], float] = _nothing
        if i in wanted:
            value = float if plain else _value(sheet.notation)
        if i in kept:
            converters[i] = _keeping(kept[i], value)
        elif value is not float:
            converters[i] = value
    with _opened(sheet.path) as file, warnings.catch_warnings():
        _hint(file)
        next(csv.reader(_lines(file), delimiter=sheet.delimiter))  # the header, also of several lines
        warnings.simplefilter("ignore", UserWarning)  # of no rows
        rows = np.loadtxt(
            file, np.float64, comments=None, delimiter=sheet.delimiter, quotechar='"',
            converters=converters, ndmin=2, encoding="utf-8",
        )  # fmt: skip
    if rows.size and rows.shape[1] != len(sheet.header):
        raise ValueError(f"{counted(rows.shape[1], 'cell')} in each row")
    if rows.size and list(numbers) != list(range(rows.shape[1])):
        rows = rows[:, list(numbers)]
    return rows, list(kept.values())


def _take(
    sheet: Sheet, source: Source, numbers: Sequence[int], value: Callable[[str], float], texts: Sequence[int]
) -> tuple[np.ndarray, list[list[str]]]:
    """As ``_parse``, of a table whose cells have types: numbers as they are, others by ``value``."""
    rows = np.empty((len(source), len(numbers)))
    for j, i in enumerate(numbers):
        column = source.numbers(i)
        rows[:, j] = column if column is not None else [value(cell) for cell in source.texts(i)]
    return rows, [source.texts(i) for i in texts]


def _is_data(header: Sequence[str]) -> bool:
    """Whether a first line holds numbers, and not years or such as the columns' names."""
    numbers = all(readings(name) for name in header)
    return numbers and not (all(map(str.isdigit, header)) and len({*header}) == len(header))


def _keeping(cells: list[str], value: Callable[[str], float]) -> Callable[[str], float]:
    def keep(cell: str) -> float:
        cells.append(cell)
        return value(cell)

    return keep


def _nothing(cell: str) -> float:
    return 0.0


def _value(notation: Notation) -> Callable[[str], float]:
    def value(cell: str) -> float:
        number = notation.number(cell)
        if number is None:
            if cell.strip().lower() not in MISSING:
                raise ValueError(cell)
            return math.nan
        return number

    return value


def _fault(sheet: Sheet, numbers: Sequence[int], gaps: bool, reason: str) -> InvalidData:
    """The error that names the first fault of the file."""
    try:
        for line, row in walk(sheet):
            for i in numbers:
                cell = row[i].strip()
                number = sheet.notation.number(cell)
                if gaps and cell.lower() in MISSING:
                    continue
                if number is None or not math.isfinite(number):
                    return InvalidData(
                        f"{sheet.at(line)}, column {sheet.shown(i)}: {_advice(cell, sheet, i)}."
                    )
    except InvalidData as error:
        return error
    return InvalidData(f"'{sheet.path}' cannot be read as a table: {reason}.")


def _comma_advice(row: Sequence[str]) -> str:
    if not row[-1].strip():
        return "; the row ends in a delimiter"
    return "; put cells that hold the delimiter in double quotes"


def _advice(cell: str, sheet: Sheet, column: int) -> str:
    name = sheet.header[column]
    leave = "leave the column out (-s data.columns=... names those to use)"
    if not cell:
        return f"the cell is empty; fill missing values, or {leave}"
    shown = cell if len(cell) <= 40 else cell[:37] + "..."
    if cell.lower() in MISSING or sheet.notation.number(cell) is not None:
        return f"'{shown}' is no finite number; fill missing values, or {leave}"
    if readings(cell):
        return (
            f"'{shown}' is not written as numbers are in this table ({sheet.notation.example()}); "
            "-s data.decimal=... and -s data.thousands=... say how all are"
        )
    return (
        f"'{shown}' is no number; leave the cell empty if the value is not known; if the column names rows, "
        f"classes or categories, say so with -s data.id={name}, -s data.labels={name} or "
        f"-s data.categories={name}, else {leave}"
    )


def _rows(file: IO[str], sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header, each with the line that it begins in; blank lines are none."""
    before = 2 if _hint(file) else 1
    reader = csv.reader(_lines(file), delimiter=sheet.delimiter)
    next(reader)
    line = reader.line_num + before
    for row in reader:
        if row:
            yield line, row
        line = reader.line_num + before


def _hint(file: IO[str]) -> str:
    """The delimiter that a first line such as ``sep=;``, Excel's hint, names, which is then read; else
    empty, and the file stays at its beginning."""
    first = file.readline()
    if found := re.fullmatch(r'"?sep=(.)"?\r?\n?', first, re.IGNORECASE):
        return found[1]
    file.seek(0)
    return ""


def _check_text(path: Path) -> None:
    """Raise InvalidData for a file of Excel or the like, whatever its name ends in."""
    with suppress(OSError), path.open("rb") as file:
        begins = file.read(8)
        if begins.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
            raise InvalidData(
                f"'{path}' is no text but a workbook (.xlsx, .ods or .xls) or an archive; open it and save "
                "its sheet as CSV (UTF-8)."
            )


def _delimiter(header: str, usual: str) -> str:
    outside = "".join(header.split('"')[::2])  # what stands in no quotes
    return max((usual, *DELIMITERS), key=outside.count)


def _lines(file: IO[str]) -> Iterator[str]:
    """Line by line without reading ahead, so that another reader can go on behind them."""
    return iter(file.readline, "")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open("rb") as raw:
            packed = path.name.lower().endswith(".gz")
            data = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if packed else raw)
            with io.TextIOWrapper(data, encoding="utf-8-sig", newline="") as file:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidData(f"'{path}' cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        with path.open("rb") as raw:
            wide = raw.read(2) in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16" if wide else f"not UTF-8 (byte 0x{error.object[error.start]:02x}: {error.reason})"
        raise InvalidData(f"'{path}' is {found}; save it as UTF-8.") from error
    except csv.Error as error:
        raise InvalidData(f"'{path}' cannot be read as a table: {error}.") from error
