"""Freed memory is kept for the next step.

On Linux the C library gives large blocks back at once and the system fills them with zeros anew, page by
page, which is up to four tenths of a training step's time.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**30  # bytes of a block, and of free memory at the end of the heap, that are kept
USUAL = 2**25  # what glibc's own thresholds grow to, and the most that old versions take


def keep_memory() -> None:
    """From now on freed blocks of up to 1 GiB stay with this process."""
    _set(LARGEST)


def return_memory() -> None:
    """As before ``keep_memory`` again; what is free goes back to the system."""
    libc = _set(USUAL)
    if libc is not None:
        libc.malloc_trim(0)


def _set(threshold: int) -> Any:
    """The C library with this threshold for own mappings and for trimming; None where it has none such."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):  # musl
        return None
    libc.mallopt(M_MMAP_THRESHOLD, threshold) or libc.mallopt(M_MMAP_THRESHOLD, min(threshold, USUAL))
    libc.mallopt(M_TRIM_THRESHOLD, threshold)
    return libc
