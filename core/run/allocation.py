"""Freed memory is kept for the next step.

On Linux the C library gives large blocks back at once and the system fills them with zeros anew, page by
page, which is up to four tenths of a training step's time.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**30  # bytes of a block, and of free memory at the end of the heap, that are kept
USUAL = 2**25  # the most that old versions take


def keep_memory() -> None:
    """From now on freed blocks of up to 1 GiB stay with this process: for processes that are all ours.

    As the environment's ``MALLOC_MMAP_THRESHOLD_`` and ``MALLOC_TRIM_THRESHOLD_`` do from outside.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        return
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST) or libc.mallopt(M_MMAP_THRESHOLD, USUAL)
    libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
