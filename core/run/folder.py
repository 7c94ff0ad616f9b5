"""The folder of a run: whose it is, whether it may be gone on with, and its record."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import DeepclustError, OccupiedFolder
from ..files import write_json

RECORD = "run.json"
LOCK = ".lock"
IDENTITY = ("request", "data")  # what makes two runs the same, evaluators apart


def prepare(
    folder: Path,
    record: Mapping[str, Any],
    *,
    overwrite: bool,
    defaults: Mapping[str, Any] | None = None,
    renew: Callable[[dict[str, Any]], dict[str, Any]] = lambda earlier: earlier,
) -> dict[str, Any] | None:
    """Make ``folder`` ready for the run that ``record`` describes.

    Returns the earlier record where the same run stands there already, finished or not; else writes
    ``record`` and returns None. ``overwrite`` removes an earlier run first. defaults: see ``differences``.
    ``renew`` gives a record of earlier versions the form that they have now.

    Raises OccupiedFolder where another run or anything else is there, naming the difference;
    DeepclustError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = read_record(folder)
        if earlier is not None and overwrite:
            _remove(folder)
            earlier = None
        if earlier is not None:
            earlier = renew(earlier)
            different = differences(earlier, record, defaults or {})
            if different:
                raise OccupiedFolder(
                    f"'{folder}' holds another run: {different}. "
                    "Choose another --out, or replace that run with --overwrite."
                )
            return earlier
        _check_free(folder)
        write_json(folder / RECORD, record)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return None


def _check_free(folder: Path) -> None:
    """Raise OccupiedFolder where anything but a run is there."""
    if not (folder / RECORD).exists() and any(p.name != LOCK for p in folder.iterdir()):
        raise OccupiedFolder(f"'{folder}' is not empty and holds no run of deepclust; choose another --out.")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of the run in ``folder``, None where there is none.

    Raises OccupiedFolder where it cannot be read.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or any(key not in record for key in IDENTITY):
            raise ValueError("it is not the record of a run")
    except ValueError as error:
        raise OccupiedFolder(f"'{path}' cannot be read: {error}; choose another --out.") from error
    return record


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two processes never train in it at once (not on Windows).

    Raises OccupiedFolder where another process holds it, or where anything but a run is there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / LOCK).exists():
            _check_free(folder)  # before the lock is written there
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OccupiedFolder(
                f"another process is working in '{folder}'; wait for it or choose another --out."
            ) from error
        yield


def cannot_write(folder: Path, error: OSError) -> DeepclustError:
    """The error for a folder that cannot be written: no permission, no space, a file in its place."""
    return DeepclustError(
        f"cannot write to '{folder}': {error.strerror or error}; choose another --out or make room there."
    )


def _remove(folder: Path) -> None:
    """Empty the folder of a run, its lock apart."""
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def differences(
    earlier: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> str:
    """What makes two records different runs, at most four things; empty for the same run.

    defaults: of the same form; what a setting counts as that an older version did not know. Evaluators are
    no part of a run: they are functions of what it came to.
    """
    before, after = ({k: record[k] for k in IDENTITY} for record in (earlier, now))
    flat_before, flat_after = dict(_flatten(before)), dict(_flatten(after))
    for flat in (flat_before, flat_after):
        flat.pop("request.evaluators", None)
    found, usual = [], dict(_flatten(defaults or {}))
    for key in sorted({*flat_before, *flat_after}):
        there, asked = flat_before.get(key, usual.get(key, "nothing")), flat_after.get(key, "nothing")
        if there != asked:
            name = key.replace(".settings.", ".").removeprefix("request.")
            found.append(f"{name} is {there} there and {asked} here")
    return "; ".join(found[:4])


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value
