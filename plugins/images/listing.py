"""Which files of a folder are images, by their endings, their contents unseen. Imports no torch."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Collection
from contextlib import suppress
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

import numpy as np


class Listing(NamedTuple):
    """The N images of a folder.

    names: paths below the folder with slashes, sorted. sizes: (N,) bytes. times: (N,) of the last change
    of the file or, where the system tells, of its name or rights, in nanoseconds. others: how many other
    files there are, by ending. taken: when this was so, in nanoseconds.
    """

    names: list[str]
    sizes: np.ndarray
    times: np.ndarray
    others: Counter[str]
    taken: int


def list_images(root: Path, endings: Collection[str]) -> Listing:
    """The files below ``root`` with these endings, in any case; nothing whose name begins with a dot.

    A link to a folder is followed unless that folder was read already. Raises OSError for a folder that
    cannot be read.
    """
    taken = time.time_ns()
    found: list[tuple[str, int, int]] = []
    others: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    folders = deque([""])  # links at its end, so that a folder goes by its own name
    while folders:
        below = folders.popleft()
        folder = os.stat(root / below)
        if (folder.st_dev, folder.st_ino) in seen:
            continue
        seen.add((folder.st_dev, folder.st_ino))
        with os.scandir(root / below) as entries:
            here = sorted(entries, key=lambda entry: entry.name, reverse=True)
        links = []
        for entry in here:
            name = f"{below}{entry.name}"
            if entry.name.startswith("."):
                continue
            try:
                stat: os.stat_result | None = entry.stat()
            except OSError:  # a link to nothing, or to itself, is a file that cannot be read
                stat = None
            if stat is not None and S_ISDIR(stat.st_mode):
                if entry.is_symlink():
                    links.append(f"{name}/")
                else:
                    folders.appendleft(f"{name}/")
                continue
            ending = os.path.splitext(entry.name)[1].lower()
            if ending not in endings:
                others[ending] += 1
            elif stat is None:
                found.append((name, 0, 0))
            elif S_ISREG(stat.st_mode):  # not a pipe, which would be waited for
                found.append((name, stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)))
        folders.extend(reversed(links))
    found.sort()
    names, sizes, times = zip(*found, strict=True) if found else ((), (), ())
    return Listing(list(names), np.array(sizes, np.int64), np.array(times, np.int64), others, taken)


def any_image(root: Path, endings: Collection[str], most: int = 10_000) -> bool:
    """Whether one of the first ``most`` files and folders in ``root`` and below has one of these endings."""
    folders, left = deque([os.fspath(root)]), most
    while folders and left > 0:
        with suppress(OSError), os.scandir(folders.popleft()) as entries:
            for entry in islice(entries, left):
                left -= 1
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in endings:
                    return True
    return False


def shown(name: str) -> str:
    """A name that any file can hold: what is no Unicode in it is escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
