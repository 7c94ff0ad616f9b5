"""Decoding a chunk of files into the pixel file, in this process or in one that does nothing else.

As a process: the first line of standard input says what is decoded, each other one is a chunk; each is
answered with one line on standard output; it ends where its input ends. Imports no torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import zlib
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from . import decoding


class Answer(NamedTuple):
    """What became of one file: the checksum of its pixels, or the reason why there are none.

    digest: of its bytes in hexadecimal, None where that was not known.
    """

    digest: str | None
    checksum: int | None
    reason: str | None


def work(
    root: str,
    names: Sequence[str],
    rows: Sequence[int],
    shape: decoding.Shape,
    scale: decoding.Scale | None,
    pixels: BinaryIO,
) -> list[Answer]:
    """Decode files below ``root``, each into its row of the pixel file.

    Raises OSError where the pixel file cannot be written.
    """
    with decoding.quietly():
        return [
            _one(os.path.join(root, name), row, shape, scale, pixels)
            for name, row in zip(names, rows, strict=True)
        ]


def _one(
    path: str, row: int, shape: decoding.Shape, scale: decoding.Scale | None, pixels: BinaryIO
) -> Answer:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, MemoryError) as error:
        return Answer(None, None, unreadable(error))
    digest = hashlib.blake2b(content, digest_size=decoding.DIGEST_BYTES).hexdigest()
    if not content:
        return Answer(digest, None, "the file is empty")
    try:
        decoded = decoding.decode(content, shape, scale)
    except MemoryError:
        return Answer(None, None, "there was not enough memory to decode it")  # another time there may be
    except Exception as error:  # the decoders of Pillow meet broken files with any of them
        return Answer(digest, None, decoding.explain(error))
    pixels.seek(row * len(decoded))
    if pixels.write(decoded) != len(decoded):  # what the system does before it says that a disk is full
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return Answer(digest, zlib.crc32(decoded), None)


def unreadable(error: BaseException) -> str:
    """Why a file's bytes could not be had."""
    return getattr(error, "strerror", None) or type(error).__name__


def main() -> None:
    """Answer chunks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not get between the answers
    task = json.loads(sys.stdin.buffer.readline())
    shape, scale = tuple(task["shape"]), decoding.Scale(*task["scale"]) if task["scale"] else None
    with open(task["pixels"], "r+b", buffering=0) as pixels:
        _say(answers, "ready")
        for line in sys.stdin.buffer:
            chunk = json.loads(line)
            try:
                done = work(task["root"], chunk["names"], chunk["rows"], shape, scale, pixels)
            except OSError as error:
                _say(answers, {"errno": error.errno, "strerror": error.strerror})
                return
            _say(answers, done)


def _say(answers: BinaryIO, value: object) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # nobody listens any more
        os._exit(0)
