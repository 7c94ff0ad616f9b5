"""What a cache of decoded images holds: for each file of a folder its state and where its pixels are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...core.files import replacing
from .decoding import DIGEST_BYTES, VERSION, Scale, Shape
from .survey import Survey

FORMAT = 2
UNKNOWN, DECODED, BROKEN, UNREADABLE = range(4)  # states; what is unreadable is tried again each time
UNTRUSTED = (
    -1
)  # the time of a file that was changed so lately that it may change again within the clock's step


@dataclass
class Index:
    """Columns over the N files of a listing, and the pixel file that they speak of.

    names: N. sizes, times: (N,), by which an unchanged file is known. states: (N,). digests: (N, 16) of the
    files' bytes. checksums: (N,) of the pixels. reasons: by position, of what is broken or unreadable.
    pixels: the name of the pixel file. complete: rows are the decoded files in their order; else each
    file's position is its row. scale, survey: by which they were decoded, and the sample that told it.
    """

    names: list[str]
    sizes: np.ndarray
    times: np.ndarray
    states: np.ndarray
    digests: np.ndarray
    checksums: np.ndarray
    reasons: dict[int, str]
    pixels: str = ""
    complete: bool = False
    scale: Scale | None = None
    survey: Survey = field(default_factory=lambda: Survey({}))

    @classmethod
    def of(cls, names: list[str], sizes: np.ndarray, times: np.ndarray) -> Index:
        """Files of which nothing is known yet."""
        n = len(names)
        return cls(
            names, sizes, times, np.zeros(n, np.uint8), np.zeros((n, DIGEST_BYTES), np.uint8),
            np.zeros(n, np.uint32), {},
        )  # fmt: skip

    def rows(self) -> np.ndarray:
        """Each file's row in the pixel file, -1 where it has none.  # (N,)"""
        decoded = self.states == DECODED
        rows = np.cumsum(decoded) - 1 if self.complete else np.arange(len(decoded))
        return np.where(decoded, rows, -1)

    def holds(self, names: Sequence[str], sizes: np.ndarray, times: np.ndarray) -> bool:
        """Whether this is all that is to be known of these files."""
        return (
            self.complete
            and self.names == names
            and np.array_equal(self.sizes, sizes)
            and np.array_equal(self.times, times)
            and not np.isin(self.states, (UNKNOWN, UNREADABLE)).any()
        )

    def adopt(self, other: Index) -> None:
        """Take over what ``other`` knows of the files that have not changed since."""
        where = {name: i for i, name in enumerate(other.names)} if other.names != self.names else None
        for i in np.flatnonzero(self.states == UNKNOWN).tolist():
            j = i if where is None else where.get(self.names[i], -1)
            same = j >= 0 and self.sizes[i] == other.sizes[j] and self.times[i] == other.times[j]
            if same and self.times[i] != UNTRUSTED:
                self.states[i], self.digests[i] = other.states[j], other.digests[j]
                if j in other.reasons:
                    self.reasons[i] = other.reasons[j]

    def set(self, i: int, state: int, digest: bytes | None = None, reason: str | None = None) -> None:
        """Write down what is known of the file at position ``i``."""
        self.states[i] = state
        if digest is not None:
            self.digests[i] = np.frombuffer(digest, np.uint8)
        self.reasons.pop(i, None)
        if reason is not None:
            self.reasons[i] = reason

    def write(self, path: Path, shape: Shape) -> None:
        """Replace the file at ``path``. Raises OSError."""
        about = {
            "format": FORMAT,
            "decoder": VERSION,
            "shape": shape,
            "pixels": self.pixels,
            "complete": self.complete,
            "scale": self.scale,
            "survey": dataclasses.asdict(self.survey),
            "reasons": [list(self.reasons), list(self.reasons.values())],
        }
        with replacing(path) as file:
            np.savez(
                file,
                about=_bytes(json.dumps(about)),
                names=_bytes("\0".join(self.names)),
                sizes=self.sizes,
                times=self.times,
                states=self.states,
                digests=self.digests,
                checksums=self.checksums,
            )

    @classmethod
    def read(cls, path: Path, shape: Shape) -> Index | None:
        """The index at ``path``; None where there is none, it is damaged, or of another decoder."""
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(_text(file["about"]))
                if (about["format"], about["decoder"], about["shape"]) != (FORMAT, VERSION, list(shape)):
                    return None
                index = cls(
                    _text(file["names"]).split("\0"),
                    sizes=file["sizes"],
                    times=file["times"],
                    states=file["states"],
                    digests=file["digests"],
                    checksums=file["checksums"],
                    reasons=dict(zip(*about["reasons"], strict=True)),
                    pixels=str(about["pixels"]),
                    complete=bool(about["complete"]),
                    scale=None if about["scale"] is None else Scale(*about["scale"]),
                    survey=Survey.from_record(about["survey"]),
                )
        except Exception:  # a zip file that is cut or overwritten fails in many ways
            return None
        columns = (index.sizes, index.times, index.states, index.digests, index.checksums)
        return index if all(len(column) == len(index.names) for column in columns) else None


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)


def _text(array: np.ndarray) -> str:
    return array.tobytes().decode("utf-8", "surrogatepass")
