"""Decoding many files at once: worker processes that are told over pipes which files to decode.

Not multiprocessing: its children run the caller's main module again, or begin as copies of a process whose
threads torch has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from . import decoding
from .worker import Answer, work

CHUNK_FILES, CHUNK_BYTES = 64, 8 * 2**20  # whichever is reached first
AHEAD = 2  # chunks that a worker has in hand, so that it never waits
MOST_WORKERS = 16
FILES_A_SECOND, BYTES_A_SECOND = 4000, 20 * 2**20  # what one core decodes, roughly

Chunk = list[int]  # positions in the listing, which are the rows


def decode_all(
    root: Path,
    names: Sequence[str],
    sizes: np.ndarray,
    todo: Sequence[int],
    shape: decoding.Shape,
    scale: decoding.Scale | None,
    pixels: Path,
) -> Generator[tuple[Chunk, list[Answer]], None, None]:
    """Decode the files at the positions ``todo`` into the same rows of ``pixels``, chunk by chunk.

    What takes less than a second is done in this process. A file that a worker dies of is one that could
    not be read. Raises OSError where the pixel file cannot be written.
    """
    chunks = deque(_chunks(todo, sizes))
    seconds = len(todo) / FILES_A_SECOND + float(sizes[todo].sum()) / BYTES_A_SECOND
    count = min(_cores(), MOST_WORKERS, len(chunks))
    if seconds >= 1:
        task = {"root": str(root), "pixels": str(pixels), "shape": shape, "scale": scale}
        yield from _by_workers(count, task, chunks, names)
    with pixels.open("r+b", buffering=0) as file:  # also what is left where no worker could be started
        for chunk in chunks:
            yield chunk, work(str(root), [names[i] for i in chunk], chunk, shape, scale, file)


def _cores() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chunks(todo: Sequence[int], sizes: np.ndarray) -> Iterator[Chunk]:
    chunk: Chunk = []
    nbytes = 0
    for i in todo:
        chunk.append(i)
        nbytes += int(sizes[i])
        if len(chunk) == CHUNK_FILES or nbytes >= CHUNK_BYTES:
            yield chunk
            chunk, nbytes = [], 0
    if chunk:
        yield chunk


class _Worker:
    """A process, the thread that reads its answers, and the chunks that it has in hand."""

    def __init__(self, task: Mapping[str, object]) -> None:
        self.ready, self.chunks = False, deque[Chunk]()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the decoders' own warnings
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            start_new_session=os.name == "posix",  # a terminal's Ctrl-C goes to the process that asks
        )
        self._write(task)

    def listen(self, answers: queue.SimpleQueue[tuple[_Worker, bytes]]) -> None:
        """Put each line that it says into a queue, and an empty one when it has ended."""

        def read() -> None:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                if line.endswith(b"\n"):  # not the half of an answer
                    answers.put((self, line))
            self._process.wait()
            answers.put((self, b""))

        threading.Thread(target=read, daemon=True).start()

    def give(self, chunk: Chunk, names: Sequence[str]) -> None:
        self.chunks.append(chunk)
        self._write({"names": [names[i] for i in chunk], "rows": chunk})

    def _write(self, value: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died, which its reader says
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> int:
        """Stop it, in the middle of a chunk if need be; its exit status."""
        self._process.kill()  # where it has ended already this changes nothing
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what could not be written to it any more
                pipe.close()
        return status


def _by_workers(
    count: int, task: Mapping[str, object], chunks: deque[Chunk], names: Sequence[str]
) -> Iterator[tuple[Chunk, list[Answer]]]:
    """Takes chunks off until none is left, or until no worker can be started."""
    answers: queue.SimpleQueue[tuple[_Worker, bytes]] = queue.SimpleQueue()
    workers: list[_Worker] = []

    def start() -> None:
        with contextlib.suppress(OSError):  # no more processes: the others go on, or this one
            workers.append(_Worker(task))
            workers[-1].listen(answers)

    try:
        for _ in range(count if sys.executable else 0):
            start()
        while workers and (chunks or any(w.chunks for w in workers)):
            try:
                worker, line = answers.get(timeout=1)  # so that Windows hears Ctrl-C
            except queue.Empty:
                continue
            if not line:
                workers.remove(worker)
                yield from _after_death(worker, chunks)
                if worker.ready and chunks:
                    start()
                continue
            said = json.loads(line)
            if isinstance(said, dict):
                raise OSError(said["errno"], said["strerror"])
            if said == "ready":
                worker.ready = True
            else:
                yield worker.chunks.popleft(), [Answer(*a) for a in said]
            while chunks and len(worker.chunks) < AHEAD:
                worker.give(chunks.popleft(), names)
    finally:
        for worker in workers:
            worker.end()


def _after_death(worker: _Worker, chunks: deque[Chunk]) -> Iterator[tuple[Chunk, list[Answer]]]:
    """Put back what a worker had in hand, the chunk that it died of file by file."""
    status = worker.end()
    in_hand = worker.chunks.popleft() if worker.chunks else []
    chunks.extendleft(reversed(worker.chunks))
    if len(in_hand) == 1:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        yield in_hand, [Answer(None, None, f"the decoder crashed ({how})")]
    else:
        chunks.extendleft([i] for i in reversed(in_hand))
    worker.chunks.clear()
