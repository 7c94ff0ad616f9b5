"""Decoded images on disk: a file of pixels for each folder and size, brought up to date when it is opened.

A cache is a folder with an index, a pixel file and a lock. While images are decoded there are a second index
and a second pixel file beside them; the index that is renamed into place at the end is what makes these
the cache, so that a kill at any moment leaves the old one or a part that is gone on with. Pixels
are checked against their checksums whenever they are used for another file than the one they stand in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...core import DeepclustError, InvalidData, progress
from .decoding import DIGEST_BYTES, Scale, Shape
from .index import BROKEN, DECODED, UNKNOWN, UNREADABLE, UNTRUSTED, Index
from .listing import Listing
from .pool import decode_all
from .survey import Survey
from .worker import unreadable

INDEX, PART, LOCK, PIXELS = "index.npz", "part.npz", "lock", "pixels-"
CLOCK_STEP = 2 * 10**9  # nanoseconds; file systems count in up to so much
SAVE_SECONDS, SAVE_SHARE = 5.0, 0.02  # between two writings of the part's index, and their share of the time
BLOCK_BYTES = 8 * 2**20


def default_place() -> Path:
    """Where caches are kept when nobody says: DEEPCLUST_CACHE, else the user's folder for caches."""
    if named := os.environ.get("DEEPCLUST_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "deepclust"


@contextlib.contextmanager
def opened(
    root: Path,
    listing: Listing,
    shape: Shape,
    scale: Scale | None,
    survey: Callable[[], Survey],
    place: Path | None,
    *,
    quiet: bool = False,
) -> Iterator[tuple[Index, Path]]:
    """The up-to-date index of a folder's images at a size, and its pixel file, held while they are looked at.

    scale: None for what the survey says, which is made only where the folder is new or has changed.
    Raises InvalidData where the disk has no room for them, DeepclustError where the cache cannot be written.
    """
    place = Path(os.path.expanduser(place or default_place())) / "images"
    key = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    values = "" if scale is None else f"-{scale.low}..{scale.high}{'-all' if scale.bytes_too else ''}"
    folder = place / f"{key}-{'x'.join(map(str, shape))}{values}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder / LOCK, quiet):
            index = _read(folder, INDEX, shape)
            if index is None or not index.holds(listing.names, listing.sizes, listing.times):
                index = _Update(folder, root, listing, shape, scale, survey(), quiet).run(index)
            _remove_but(folder, index.pixels)
            yield index, folder / index.pixels
    except OSError as error:
        raise DeepclustError(
            f"the cache of decoded images in '{folder}' cannot be written: {error.strerror or error}; "
            "make room there or name another folder with --cache or DEEPCLUST_CACHE."
        ) from error


@contextlib.contextmanager
def _held(lock: Path, quiet: bool) -> Iterator[None]:
    """One process at a time (not on Windows)."""
    with lock.open("w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not quiet:
                    print("  another process decodes these images; waiting for it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(folder: Path, name: str, shape: Shape) -> Index | None:
    """The index of that name where its pixel file is there and long enough."""
    index = Index.read(folder / name, shape)
    if index is None or Path(index.pixels).name != index.pixels:
        return None
    try:
        size = (folder / index.pixels).stat().st_size
    except OSError:
        return None
    return index if size >= (int(index.rows().max(initial=-1)) + 1) * prod(shape) else None


class _Update:
    """One bringing up to date: what is known is taken over, what is not is decoded."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        listing: Listing,
        shape: Shape,
        scale: Scale | None,
        survey: Survey,
        quiet: bool,
    ) -> None:
        self.folder, self.root, self.shape, self.quiet = folder, root, shape, quiet
        self.row_bytes = prod(shape)
        self.sizes = listing.sizes
        lately = listing.times > listing.taken - CLOCK_STEP
        self.index = Index.of(listing.names, listing.sizes, np.where(lately, UNTRUSTED, listing.times))
        self.index.survey, self.index.scale = survey, scale or survey.scale()
        self.sources: list[tuple[Path, Index]] = []
        self.known: dict[bytes, tuple[int, int]] = {}  # a digest's source and position

    def run(self, earlier: Index | None) -> Index:
        index, part = self.index, self._alike(_read(self.folder, PART, self.shape))
        earlier = self._alike(earlier)
        self.sources = [(self.folder / i.pixels, i) for i in (earlier, part) if i is not None]
        for _, source in self.sources:
            index.adopt(source)
        if not self.sources:
            self.sources = list(self._other_folders())
        self._identify()
        if earlier is not None and self._same_pixels(earlier):
            self._keep(earlier)
        elif part is not None and part.complete and self._same_pixels(part) and self._intact(part):
            self._keep(part)  # all that the last process did not come to was to rename the index
        else:
            self._fill(part)
        index.write(self.folder / INDEX, self.shape)
        return index

    def _alike(self, other: Index | None) -> Index | None:
        """None for what was decoded by another scale."""
        return other if other is not None and other.scale == self.index.scale else None

    def _other_folders(self) -> Iterator[tuple[Path, Index]]:
        """The caches of this size, where a folder that was moved or copied finds its pixels."""
        size = "x".join(map(str, self.shape))
        for folder in sorted(self.folder.parent.glob(f"*-{size}*")):
            index = self._alike(_read(folder, INDEX, self.shape)) if folder != self.folder else None
            if index is not None:
                yield folder / index.pixels, index

    def _identify(self) -> None:
        """See which of the files that are new or changed have contents that are known.

        Those whose size no known file has are new, and are read only once, to be decoded.
        """
        index, sizes = self.index, [np.empty(0, np.int64)]
        for k, (_, source) in enumerate(self.sources):
            for i in np.flatnonzero(np.isin(source.states, (DECODED, BROKEN))).tolist():
                self.known.setdefault(source.digests[i].tobytes(), (k, i))
            sizes.append(source.sizes)
        perhaps = (index.states == UNKNOWN) & np.isin(self.sizes, np.concatenate(sizes))
        todo = np.flatnonzero(perhaps | (index.states == UNREADABLE)).tolist()
        if not todo:
            return
        with (
            progress("comparing", len(todo), "images", quiet=self.quiet) as advance,
            ThreadPoolExecutor(8) as threads,
        ):
            for start in range(0, len(todo), 256):
                block = todo[start : start + 256]
                for i, found in zip(block, threads.map(self._digest, block), strict=True):
                    if isinstance(found, str):
                        index.set(i, UNREADABLE, reason=found)
                    elif found in self.known:
                        k, j = self.known[found]
                        source = self.sources[k][1]
                        index.set(i, source.states[j], found, source.reasons.get(j))
                    else:
                        index.set(i, UNKNOWN)
                advance(len(block))

    def _digest(self, i: int) -> bytes | str:
        """The digest of a file's bytes, or why there is none."""
        try:
            with (self.root / self.index.names[i]).open("rb") as file:
                return hashlib.file_digest(file, _blake).digest()
        except OSError as error:
            return unreadable(error)

    def _same_pixels(self, other: Index) -> bool:
        """Whether the pixel file would come out as it stands, because files were only touched or renamed."""
        here, there = self.index.states == DECODED, other.states == DECODED
        known = not (self.index.states == UNKNOWN).any()
        return known and np.array_equal(self.index.digests[here], other.digests[there])

    def _keep(self, other: Index) -> None:
        self.index.pixels, self.index.complete = other.pixels, True
        self.index.checksums[self.index.states == DECODED] = other.checksums[other.states == DECODED]

    def _intact(self, other: Index) -> bool:
        """Whether all pixels are as their checksums say."""
        checksums = other.checksums[other.states == DECODED].tolist()
        with (self.folder / other.pixels).open("rb") as file:
            return all(zlib.crc32(file.read(self.row_bytes)) == checksum for checksum in checksums)

    def _fill(self, part: Index | None) -> None:
        """Make the pixel file: rows that are known from where they stand, the others from the images."""
        index = self.index
        index.pixels = PIXELS + secrets.token_hex(4)
        if part is not None and part.names == index.names and not part.complete:
            index.pixels = part.pixels  # most rows are where they belong
        pixels = self.folder / index.pixels
        _remove_but(self.folder, PART, index.pixels, *(path.name for path, _ in self.sources))
        self._check_room(pixels)
        with pixels.open("ab") as file:
            file.truncate(len(index.names) * self.row_bytes)
        self._copy(pixels)
        self._save()
        complete = [path.name for path, source in self.sources if source.complete]
        _remove_but(self.folder, PART, index.pixels, *complete)
        try:
            self._decode(pixels)
        except BaseException:  # Ctrl-C above all: what was decoded is kept
            with contextlib.suppress(OSError):
                self._save()
            raise
        with pixels.open("r+b", buffering=0) as file:
            end = self._close_gaps(file)
            index.complete = True
            self._save()
            file.truncate(end)
            os.fsync(file.fileno())

    def _check_room(self, pixels: Path) -> None:
        """Raise InvalidData where the pixel file will not fit on the disk."""
        there = 0
        if pixels.exists():
            stat = pixels.stat()
            there = min(stat.st_size, getattr(stat, "st_blocks", 0) * 512)
        needed = len(self.index.names) * self.row_bytes - there
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InvalidData(
                f"decoding {len(self.index.names):,} images takes {needed:,} bytes in the cache "
                f"'{self.folder.parent}', where {free:,} are free; make room there, name another folder with "
                "--cache or DEEPCLUST_CACHE, or make the images smaller with --image-size."
            )

    def _copy(self, pixels: Path) -> None:
        """Copy the rows of known contents; what is not as its checksum says will be decoded again."""
        index, nbytes = self.index, self.row_bytes
        todo = np.flatnonzero(index.states == DECODED)
        if not len(todo):
            return
        rows = [source.rows() for _, source in self.sources]
        with (
            contextlib.ExitStack() as stack,
            progress("taking from the cache", len(todo), "images", quiet=self.quiet) as advance,
        ):
            files: list[BinaryIO | None] = []
            for path, _ in self.sources:
                try:
                    files.append(stack.enter_context(path.open("rb", buffering=0)))
                except OSError:  # another folder's cache, which may be replaced at any time
                    files.append(None)
            target = stack.enter_context(pixels.open("r+b"))
            for done, i in enumerate(todo.tolist(), 1):
                k, j = self.known[index.digests[i].tobytes()]
                path, source = self.sources[k]
                file, row = files[k], int(rows[k][j])
                content = b"" if file is None else _read_at(file, row * nbytes, nbytes)
                if len(content) != nbytes or zlib.crc32(content) != source.checksums[j]:
                    index.states[i] = UNKNOWN
                else:
                    index.checksums[i] = source.checksums[j]
                    if path != pixels or row != i:
                        target.seek(i * nbytes)
                        target.write(content)
                if done % 256 == 0 or done == len(todo):
                    advance((done - 1) % 256 + 1)

    def _decode(self, pixels: Path) -> None:
        """Decode what is left, and write down every few seconds how far it is."""
        index = self.index
        todo = np.flatnonzero(index.states == UNKNOWN).tolist()
        if not todo:
            return
        saved, pause = time.monotonic(), SAVE_SECONDS
        chunks = decode_all(self.root, index.names, self.sizes, todo, self.shape, index.scale, pixels)
        with (
            progress("decoding", len(todo), "images", quiet=self.quiet) as advance,
            contextlib.closing(chunks),
        ):
            for chunk, answers in chunks:
                for i, answer in zip(chunk, answers, strict=True):
                    digest = None if answer.digest is None else bytes.fromhex(answer.digest)
                    if answer.checksum is not None:
                        index.set(i, DECODED, digest)
                        index.checksums[i] = answer.checksum
                    else:
                        index.set(i, UNREADABLE if digest is None else BROKEN, digest, answer.reason)
                advance(len(chunk))
                if time.monotonic() - saved > pause:
                    start = time.monotonic()
                    self._save()
                    saved = time.monotonic()
                    pause = max(SAVE_SECONDS, (saved - start) / SAVE_SHARE)

    def _close_gaps(self, file: BinaryIO) -> int:
        """Move rows up to where nothing was decoded; where the last one ends."""
        decoded = self.index.states == DECODED
        if decoded.all():
            return len(decoded) * self.row_bytes
        end, block = int(np.argmin(decoded)), max(1, BLOCK_BYTES // self.row_bytes)
        for start in range(end, len(decoded), block):
            content = _read_at(file, start * self.row_bytes, block * self.row_bytes)
            rows = np.frombuffer(content, np.uint8).reshape(-1, self.row_bytes)
            kept = rows[decoded[start : start + block]]
            file.seek(end * self.row_bytes)
            file.write(kept.tobytes())
            end += len(kept)
        return end * self.row_bytes

    def _save(self) -> None:
        self.index.write(self.folder / PART, self.shape)


def _remove_but(folder: Path, *names: str) -> None:
    """Remove the pixel files that nothing speaks of any more, and what a killed process left."""
    for path in folder.iterdir():
        if path.name not in (INDEX, LOCK, *names):
            with contextlib.suppress(OSError):  # mapped by another process, on Windows
                path.unlink()


def _read_at(file: BinaryIO, position: int, nbytes: int) -> bytes:
    file.seek(position)
    return file.read(nbytes)


def _blake() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=DIGEST_BYTES)
