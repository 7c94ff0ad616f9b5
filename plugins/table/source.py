"""Tables whose cells have types of their own, Parquet and JSON lines, as texts and as numbers."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core import InvalidData
from ...core.words import counted

LISTS = "holds lists"
BATCH = 8192  # rows of a Parquet file looked at in one go
PARQUET, LINES = (".parquet",), (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")


class Source(ABC):
    """A table that is no text of rows and columns.

    header: the columns whose cells are single values. unit: what a row is called. vectors: the columns whose
    cells are lists of numbers. nested: other columns, and why they are left out.
    """

    header: tuple[str, ...]
    unit: str
    vectors: tuple[str, ...] = ()
    nested: Mapping[str, str] = {}

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows as texts, an empty one where there is no value, each with its line or number."""

    @abstractmethod
    def texts(self, column: int) -> list[str]:
        """A column as texts."""

    @abstractmethod
    def numbers(self, column: int) -> np.ndarray | None:
        """A column of numbers as float64, NaN where there is none; None where its cells are no numbers."""

    @abstractmethod
    def matrix(self, name: str) -> np.ndarray:
        """A column of lists as (N, D), in the type that the file has them in, float32 at most.

        Raises InvalidData with the row of the first list that is missing or of another length.
        """


def open_source(path: Path) -> Source | None:
    """The table at ``path`` where its name ends as these do; raises InvalidData where it cannot be read."""
    name = path.name.lower()
    if name.endswith(PARQUET):
        return Parquet(path)
    return JSONLines(path) if name.endswith(LINES) else None


def text(value: Any) -> str:
    """A cell as a table of text has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else repr(float(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Parquet(Source):
    """A Parquet file, read some rows at a time by pyarrow."""

    unit = "row"

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError as error:
            raise InvalidData(
                f"'{path}' is read by pyarrow, which is not installed: pip install 'deepclust[parquet]', or "
                "save the table as CSV."
            ) from error
        self.path, self._arrow = path, arrow
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:  # arrow's own errors are of these
            reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
            raise InvalidData(f"'{path}' cannot be read as Parquet: {reason}.") from error
        types = arrow.types
        header, vectors, nested = [], [], {}
        for field in self._file.schema_arrow:
            kind = field.type
            if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
                inner = kind.value_type
                if types.is_integer(inner) or types.is_floating(inner):
                    vectors.append(field.name)
                else:
                    nested[field.name] = LISTS
            elif types.is_nested(kind):
                nested[field.name] = "holds values in values"
            else:
                header.append(field.name)
        self.header, self.vectors, self.nested = tuple(header), tuple(vectors), nested

    def __len__(self) -> int:
        count: int = self._file.metadata.num_rows
        return count

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        at = 1
        for batch in self._batches(self.header):
            columns = [[text(value) for value in column.to_pylist()] for column in batch.columns]
            yield from enumerate(map(list, zip(*columns, strict=True)), at)
            at += len(batch)

    def texts(self, column: int) -> list[str]:
        return [
            text(value)
            for batch in self._batches([self.header[column]])
            for value in batch.column(0).to_pylist()
        ]

    def numbers(self, column: int) -> np.ndarray | None:
        name, types = self.header[column], self._arrow.types
        kind = self._file.schema_arrow.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
            return None
        made, at = np.empty(len(self)), 0
        for batch in self._batches([name]):
            values = batch.column(0).cast(self._arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
            made[at : at + len(values)] = values
            at += len(values)
        return made

    def matrix(self, name: str) -> np.ndarray:
        made: np.ndarray | None = None
        at = 0
        for batch in self._batches([name]):
            column = batch.column(0)
            if column.null_count:
                missing = at + column.is_null().to_pylist().index(True)
                raise InvalidData(f"'{self.path}', row {missing + 1}: there is no list in column '{name}'.")
            values, lengths = column.flatten(), _lengths(self._arrow, column)
            if made is None:
                kind = values.type.to_pandas_dtype()
                kind = kind if np.can_cast(kind, np.float32, "safe") else np.float32
                made = np.empty((len(self), int(lengths[0]) if len(lengths) else 0), kind)
            if (wrong := np.flatnonzero(lengths != made.shape[1])).size:
                raise _length(
                    self.path, f"row {at + wrong[0] + 1}", name, int(lengths[wrong[0]]), made.shape[1]
                )
            found = values.to_numpy(zero_copy_only=False)
            if values.null_count and made.dtype.kind != "f":
                raise InvalidData(
                    f"'{self.path}': lists of column '{name}' have empty values; fill them first."
                )
            with np.errstate(over="ignore"):  # Data.check_finite names what becomes infinite
                made[at : at + len(column)] = found.reshape(len(column), -1)
            at += len(column)
        return np.empty((0, 0), np.float32) if made is None else made

    def _batches(self, names: Sequence[str]) -> Iterator[Any]:
        try:
            yield from self._file.iter_batches(BATCH, columns=list(names))
        except (OSError, ValueError) as error:
            if isinstance(error, InvalidData):
                raise
            raise InvalidData(f"'{self.path}' cannot be read as Parquet: {error}") from error


def _lengths(arrow: Any, column: Any) -> np.ndarray:
    """How long the lists of a column are.  # (N,)"""
    if arrow.types.is_fixed_size_list(column.type):
        return np.full(len(column), column.type.list_size)
    return np.diff(column.offsets.to_numpy())


class JSONLines(Source):
    """A file of JSON objects, one a line; all of it is kept, lists of numbers as arrays."""

    unit = "line"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: dict[str, list[str]] = {}
        self._plain: dict[str, bool] = {}  # whether all values are numbers or none
        self._lists: dict[str, list[np.ndarray | None]] = {}
        self._at: list[int] = []  # the line of each row
        other: dict[str, str] = {}
        for line, found in _objects(path):
            n = len(self._at)
            self._at.append(line)
            for name, value in found.items():
                if isinstance(value, dict):
                    other[name] = "holds values in values"
                elif isinstance(value, list):
                    if (numbers := _numbers(value)) is None:
                        other[name] = LISTS
                    else:
                        column = self._lists.setdefault(name, [])
                        column += [None] * (n - len(column)) + [numbers]
                else:
                    texts = self._texts.setdefault(name, [])
                    texts += [""] * (n - len(texts)) + [text(value)]
                    number = value is None or (isinstance(value, (int, float)) and value is not True)
                    self._plain[name] = self._plain.get(name, True) and number and value is not False
        for texts in self._texts.values():
            texts += [""] * (len(self) - len(texts))
        self.nested = {**other, **{name: LISTS for name in self._lists if name in self._texts}}
        self.header = tuple(name for name in self._texts if name not in self.nested)
        self.vectors = tuple(name for name in self._lists if name not in self.nested)

    def __len__(self) -> int:
        return len(self._at)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        columns = [self._texts[name] for name in self.header]
        return zip(self._at, map(list, zip(*columns, strict=True)), strict=True)

    def texts(self, column: int) -> list[str]:
        return self._texts[self.header[column]]

    def numbers(self, column: int) -> np.ndarray | None:
        name = self.header[column]
        if not self._plain[name]:
            return None
        return np.array([float(cell) if cell else math.nan for cell in self._texts[name]], np.float64)

    def matrix(self, name: str) -> np.ndarray:
        column = self._lists[name]
        column += [None] * (len(self) - len(column))
        width = next(len(values) for values in column if values is not None)
        for line, values in zip(self._at, column, strict=True):
            if values is None:
                raise InvalidData(f"'{self.path}', line {line}: there is no list '{name}'.")
            if len(values) != width:
                raise _length(self.path, f"line {line}", name, len(values), width)
        return np.stack([values for values in column if values is not None])


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, each with its line; blank lines are none."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:
            for line, row in enumerate(file, 1):
                if not row.strip():
                    continue
                try:
                    found = json.loads(row)
                except (ValueError, RecursionError) as error:
                    raise InvalidData(f"'{path}', line {line}: it is no JSON ({error}).") from error
                if not isinstance(found, dict):
                    raise InvalidData(
                        f"'{path}', line {line}: it is no object; each line must be one, such as "
                        '{"id": "a", "size": 3}.'
                    )
                yield line, found
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidData(f"'{path}' cannot be read: {reason}.") from error
    except UnicodeDecodeError as error:
        raise InvalidData(f"'{path}' is not UTF-8 ({error.reason}); save it as UTF-8.") from error


def _numbers(values: list[Any]) -> np.ndarray | None:
    """A list of numbers, float32; None for any other."""
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def _length(path: Path, where: str, name: str, found: int, wanted: int) -> InvalidData:
    return InvalidData(
        f"'{path}', {where}: the list of column '{name}' has {counted(found, 'number')}, the first one "
        f"{counted(wanted, 'number')}; all must be of one length."
    )
