"""A folder for each cluster with links to its members, or copies of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..console import progress
from ..contract.assignment import NOISE
from ..data.data import Data
from ..errors import DeepclustError, InvalidData, InvalidSetting, OccupiedFolder
from ..files import write_text
from ..words import counted

MARKER = ".deepclust-sorted.json"  # what was made here, so that nothing else is ever removed
PARTIAL = ".deepclust-partial"  # a copy that is being made
CLOCK_NS = 2 * 10**9  # the coarsest clock of a file system, FAT's
NAME_BYTES = 200  # of a name made from a path; file systems take 255


@dataclass
class Sorting:
    """Where samples go by their clusters. copy: files instead of links."""

    folder: Path
    copy: bool = False

    def check(self, data: Data) -> None:
        """Raise DeepclustError where ``data`` cannot be sorted into the folder; writes nothing."""
        files, own = _files(data)
        folder, root = Path(os.path.realpath(self.folder)), Path(os.path.realpath(own))
        if data.root is not None and (folder == root or root in folder.parents):
            raise OccupiedFolder(
                f"--sort-into '{self.folder}' lies in the data's own folder '{data.root}', where it would "
                "become data; choose a folder outside it."
            )
        try:
            occupied = any(folder.iterdir()) and not (folder / MARKER).exists()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _cannot(self.folder, error) from error
        if occupied:
            raise OccupiedFolder(
                f"--sort-into '{self.folder}' is not empty and was not made by --sort-into; "
                "choose another folder."
            )
        _read_marker(self.folder)

    def sort(self, data: Data, labels: np.ndarray, n_clusters: int, *, quiet: bool = False) -> None:
        """Make ``cluster-00``, ``cluster-01``, ... with a link for each file, labels (N,), and ``noise``
        where there is any.

        What an earlier call made there is removed first, unless it was changed since.
        Raises DeepclustError as ``check`` does, and where the folder cannot be written.
        """
        self.check(data)
        files, root = _files(data)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            earlier = _read_marker(self.folder)
            with contextlib.suppress(FileNotFoundError):
                (self.folder / PARTIAL).unlink()
            _remove(self.folder, earlier)
            self._make(root, files, labels, n_clusters, earlier["folders"], quiet)
        except OSError as error:
            raise _cannot(self.folder, error) from error

    def _make(
        self,
        root: Path,
        files: Sequence[str],
        labels: np.ndarray,
        n_clusters: int,
        ours: Sequence[str],
        quiet: bool,
    ) -> None:
        copy = self.copy or not _links_work(self.folder)
        if copy and not self.copy and not quiet:
            print(f"  '{self.folder}' takes no links: the files are copied", file=sys.stderr)
        root, folder = Path(os.path.realpath(root)), Path(os.path.realpath(self.folder))
        width = max(2, len(str(n_clusters - 1)))
        clusters = [f"cluster-{k:0{width}}" for k in range(n_clusters)]
        clusters += ["noise"] if (labels == NOISE).any() else []  # the last, as of label -1
        places = list(_places(folder, clusters, files, labels))
        made: dict[str, Any] = {}
        for place, file in zip(places, files, strict=True):
            source = _source(root, file)
            made[place] = _stamp(source) if copy else _target(source, folder / place)
        ours = [name for name in clusters if name in ours or not (folder / name).exists()]
        # before the files, so that what a kill leaves is known to be ours
        write_text(folder / MARKER, json.dumps({"folders": ours, "made": made}, indent=1))
        for name in clusters:
            (folder / name).mkdir(exist_ok=True)
        what = f"{'copying' if copy else 'linking'} into '{self.folder}'"
        with progress(what, len(files), "files", quiet=quiet) as advance:
            for place, file in zip(places, files, strict=True):
                if copy:
                    shutil.copy2(_source(root, file), folder / PARTIAL)
                    os.replace(folder / PARTIAL, folder / place)
                else:
                    os.symlink(made[place], folder / place)
                advance(1)


def asked_for(folder: Path | None, copy: bool) -> Sorting | None:
    """The sorting that a command's options ask for.

    Raises InvalidSetting for copies without a folder.
    """
    if folder is None:
        if copy:
            raise InvalidSetting("--copy says how --sort-into sorts; name the folder with --sort-into DIR.")
        return None
    return Sorting(Path(os.path.expanduser(folder)), copy)


def _files(data: Data) -> tuple[Sequence[str], Path]:
    """The file of each sample, and the folder that they are relative to; raises InvalidData without any."""
    if data.items is not None and data.items.paths is not None:
        without = sum(not path for path in data.items.paths)
        if without:
            raise InvalidData(
                f"--sort-into links files, and {counted(without, 'sample', ',')} of {len(data):,} "
                f"{'has' if without == 1 else 'have'} none among the items; leave it out."
            )
        return data.items.paths, data.items.root
    if data.files is None or data.root is None:
        raise InvalidData(
            f"--sort-into links files, and the data ({data.description}) are none; leave it out, or name "
            "them in a column `path` of --items FILE."
        )
    return data.files, data.root


def _places(folder: Path, clusters: Sequence[str], files: Sequence[str], labels: np.ndarray) -> Iterator[str]:
    """Where each file goes: its path with its folders' names joined by __, none twice."""
    taken = [
        {_folded(p.name) for p in (folder / name).iterdir()} if (folder / name).is_dir() else set()
        for name in clusters
    ]
    for file, label in zip(files, labels.tolist(), strict=True):
        flat = "__".join(part for part in PurePath(file).parts if part not in ("/", ".."))
        stem, ending = os.path.splitext(flat)
        if len(os.fsencode(flat)) > NAME_BYTES:
            digest = hashlib.blake2b(os.fsencode(flat), digest_size=8).hexdigest()
            ending = ending if len(os.fsencode(ending)) < 20 else ""
            stem = f"{digest}-{stem[-NAME_BYTES // 5 :]}"  # a character takes 4 bytes at most
        name, count = stem + ending, 1
        while _folded(name) in taken[label]:
            count += 1
            name = f"{stem}-{count}{ending}"
        taken[label].add(_folded(name))
        yield f"{clusters[label]}/{name}"


def _folded(name: str) -> str:
    """What names have in common that some file systems hold for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _source(root: Path, file: str) -> Path:
    r"""The path of a file by its name in tables, where a byte that is no UTF-8 is written as \udcff."""
    path = root / file
    if "\\udc" in file and not os.path.lexists(path):
        return root / re.sub(r"\\udc([89a-f][0-9a-f])", lambda m: chr(0xDC00 + int(m[1], 16)), file)
    return path


def _target(file: Path, link: Path) -> str:
    try:
        return os.path.relpath(file, link.parent)
    except ValueError:  # on another drive of Windows
        return str(file)


def _stamp(file: Path) -> list[int]:
    """What tells whether a copy is still what was copied: size, and time of change."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _links_work(folder: Path) -> bool:
    trial = folder / PARTIAL
    try:
        os.symlink("nowhere", trial)
    except (OSError, NotImplementedError):
        return False
    trial.unlink()
    return True


def _read_marker(folder: Path) -> dict[str, Any]:
    path = folder / MARKER
    try:
        marker: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(marker["folders"], list) and isinstance(marker["made"], dict)):
            raise ValueError("it is not a marker")
    except FileNotFoundError:
        return {"folders": [], "made": {}}
    except (ValueError, KeyError, TypeError) as error:
        raise OccupiedFolder(
            f"'{path}' is broken, so that it is not known what may be replaced in '{folder}'; "
            "choose another folder."
        ) from error
    return marker


def _remove(folder: Path, marker: Mapping[str, Any]) -> None:
    """Remove what an earlier call made and nobody has changed, and the folders that are empty then."""
    for place, was in marker["made"].items():
        path = folder / place
        if len(PurePath(place).parts) == 2 and ".." not in PurePath(place).parts and _is_ours(path, was):
            path.unlink()
    for name in marker["folders"]:
        if len(PurePath(name).parts) == 1 and name != "..":
            with contextlib.suppress(OSError):  # not empty, or gone
                (folder / name).rmdir()


def _is_ours(path: Path, was: object) -> bool:
    try:
        if path.is_symlink():
            return isinstance(was, str) and os.readlink(path) == was
        size, changed = _stamp(path)
        return isinstance(was, list) and was[0] == size and abs(was[1] - changed) <= CLOCK_NS
    except OSError:
        return False


def _cannot(folder: Path, error: OSError) -> DeepclustError:
    where = f" ({error.filename})" if error.filename else ""
    return DeepclustError(f"cannot sort into '{folder}': {error.strerror or error}{where}.")
