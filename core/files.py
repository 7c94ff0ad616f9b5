"""Writing a file so that a kill at any moment leaves the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import DeepclustError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes ``path``'s place once it is written, flushed and closed.

    Raises OSError as ``open`` and ``write`` do; ``path`` is then as it was.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file (UTF-8; parts of paths that are no Unicode are escaped)."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file, indented, with a line feed at its end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_with(path: Path, save: Callable[[Path], None]) -> None:
    """Replace a file by what ``save`` writes to the temporary path that it is given."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # safetensors writes for its owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raise DeepclustError where a file cannot be written to ``path``, or is there and must stay."""
    if path.is_dir():
        raise DeepclustError(f"'{path}' is a folder; name a file.")
    if not path.parent.is_dir():
        raise DeepclustError(f"there is no folder '{path.parent}' for '{path.name}'; make it first.")
    if path.exists() and not overwrite:
        raise DeepclustError(f"'{path}' is there already; name another file, or replace it with --overwrite.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be opened (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
