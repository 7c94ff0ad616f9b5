"""What rows stand for: a text and a picture of each sample, from a table beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidData
from ..words import counted

if TYPE_CHECKING:
    from .data import Data

# What columns are called, lower case, the first that is there.
IDS = ("id", "key", "uid", "uuid", "name")
TEXTS = ("text", "caption", "title", "sentence", "description", "abstract")
PATHS = ("path", "file", "filename", "image", "picture", "thumbnail")


@dataclass(frozen=True)
class Items:
    """For each sample its text, and the path of its image or thumbnail, empty where it has none.

    None: there are no such. root: the folder that paths are relative to.
    """

    texts: Sequence[str] | None
    paths: Sequence[str] | None
    root: Path

    def take(self, rows: Sequence[int]) -> Items:
        """Those of some samples."""

        def some(values: Sequence[str] | None) -> list[str] | None:
            return None if values is None else [values[i] for i in rows]

        return replace(self, texts=some(self.texts), paths=some(self.paths))


def with_items(data: Data, columns: Mapping[str, Sequence[str]], path: Path) -> Data:
    """``data`` whose samples have the ids, texts and paths of a table's ``columns``, read from ``path``.

    Raises InvalidData where the table has none of these columns or another number of rows, where an id is
    missing or there twice, and where a file is not there.
    """
    called = {name.lower(): name for name in reversed([*columns])}
    ids, texts, paths = (
        next((called[name] for name in names if name in called), None) for names in (IDS, TEXTS, PATHS)
    )
    if ids is None and texts is None and paths is None:
        raise InvalidData(
            f"'{path}' has the columns {', '.join(columns) or 'none'}; what it says of the samples must be "
            "in columns called id, text or path."
        )
    n = len(next(iter(columns.values())))
    if n != len(data):
        raise InvalidData(
            f"'{path}' has {counted(n, 'row', ',')}, but there {'is' if len(data) == 1 else 'are'} "
            f"{counted(len(data), 'sample', ',')} ({data.description}); give a row for each, in their order."
        )
    root = path.resolve().parent
    if paths is not None:
        _check_files(columns[paths], root, path)
    data = replace(
        data,
        items=Items(
            None if texts is None else columns[texts], None if paths is None else columns[paths], root
        ),
        said=(*data.said, f"{path.name}: {_said(ids, texts, paths)}"),
    )
    named = ids or (paths if paths is not None and all(columns[paths]) else None)
    if named is None:
        return data
    if ids is not None:
        _check_ids(columns[ids], path)
    return replace(data, files=list(columns[named]), key=named, root=None)


def _said(ids: str | None, texts: str | None, paths: str | None) -> str:
    """What was taken from which column."""
    taken = {"ids": ids, "texts": texts, "pictures": paths}
    return ", ".join(f"{what} in {name}" for what, name in taken.items() if name is not None)


def _check_ids(ids: Sequence[str], path: Path) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(ids, 1):
        if not name.strip():
            raise InvalidData(f"'{path}', row {row}: the id is empty.")
        if name in seen:
            raise InvalidData(f"'{path}': the rows {seen[name]} and {row} have the same id, '{name}'.")
        seen[name] = row


def _check_files(paths: Sequence[str], root: Path, table: Path) -> None:
    missing = [row for row, file in enumerate(paths, 1) if file and not (root / file).is_file()]
    if missing:
        count = counted(len(missing), "file", ",")
        raise InvalidData(
            f"'{table}': {count} of {len(paths):,} {'is' if len(missing) == 1 else 'are'} not there, first "
            f"'{root / paths[missing[0] - 1]}' (row {missing[0]}); leave the cell empty where there is none."
        )
