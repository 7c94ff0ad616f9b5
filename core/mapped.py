"""Reading a memory-mapped file without keeping it: pages are handed back to the system as they are used."""

from __future__ import annotations

import mmap

import numpy as np

RESIDENT_BYTES = 256 * 2**20  # of a map at once in this process; the system's own file cache keeps the rest
FAULT_BYTES = 64 * 1024  # what Linux maps around one touched page


class Mapped:
    """Counts what is read of a map and unmaps its pages now and then; what they hold stays readable."""

    def __init__(self, array: np.memmap) -> None:
        self._map: mmap.mmap = array._mmap  # type: ignore[attr-defined]
        self._resident = 0

    def touched(self, places: int, nbytes: int) -> None:
        """Say that ``nbytes`` were read at ``places`` places."""
        self._resident += max(nbytes, places * FAULT_BYTES)
        if self._resident > RESIDENT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._resident = 0
