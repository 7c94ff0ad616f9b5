"""The table that says what samples are, read by the data set that reads such files."""

from __future__ import annotations

import os
from pathlib import Path

from ..contract.registry import Registry, installed
from ..data.data import Data
from ..data.items import with_items
from ..errors import InvalidData, InvalidSetting


def give_items(data: Data, asked: str | None, registry: Registry | None = None) -> Data:
    """``data`` with the ids, texts and pictures of the table at the path ``asked``; as they are for None.

    Raises InvalidData where nothing reads it as a table, and as ``with_items`` does.
    """
    if asked is None:
        return data
    path = Path(os.path.expanduser(asked))
    if not path.is_file():
        raise InvalidData(f"the file of items '{asked}' does not exist (looked in '{Path.cwd()}').")
    registry = registry or installed()
    for entry in registry.readers(path):
        columns = registry.load("dataset", entry.component.name).cells(path)
        if columns is not None:
            return with_items(data, columns, path)
    raise InvalidSetting(
        f"nothing installed reads '{asked}' as a table of items; give a .csv, .parquet or .jsonl file."
    )
