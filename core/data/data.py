"""The samples of a run: on the device, in memory or memory-mapped, with the truth set apart."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidData, LabelsHidden
from ..words import counted
from .items import Items
from .mapped import Mapped
from .preparation import Preparation

Size = tuple[int, ...]
CHUNK_BYTES = 8 * 2**20  # of samples looked at in one go
HASHED_BYTES = 2**30  # above this the fingerprint samples the data
KNOWN = 0.1  # share of samples without a class from which it is said
COMPARED, COMPARED_BYTES = 4096, 2**28  # samples among which copies are looked for, at most


@dataclass(frozen=True)
class Truth:
    """The true classes: ``labels`` (N,) int64 from 0, -1 where unknown; ``names`` of the classes."""

    labels: np.ndarray
    names: tuple[str, ...]

    @property
    def notices(self) -> tuple[str, ...]:
        """A sentence for the user where a tenth of the samples or more have no class."""
        unknown = int((self.labels < 0).sum())
        if not len(self.labels) or unknown < KNOWN * len(self.labels):
            return ()
        return (
            f"{unknown:,} of {len(self.labels):,} samples have no class (their label is -1 or empty), so the "
            "scores that compare with classes are of the others",
        )


@dataclass(frozen=True)
class Data:
    """Samples without labels.

    x: (N, *shape), uint8 (images, (C, H, W)), float16 or float32, where ``raw`` also float64; it may be
    memory-mapped. Take samples from ``batch`` and ``slice``, which bring them onto the networks' scale.
    device: where ``batch`` delivers.
    description: one line that names the data, their split included.
    files: a name for each sample, where there are any. key: what these names are, such as ``"file"``.
    root: the folder that ``files`` are relative to, where they are files.
    items: a text and a picture of each sample, where the user gave any.
    skipped: the (file, reason) of what could not be read.
    prepared: how the samples were made, where that takes more than their shape and type.
    raw: whether ``x`` is as the user gave it, so that ``batch`` scales it as ``prepared`` says.
    mapped: reads the rows where ``x`` is memory-mapped.
    test: samples that no fit sees, made in the same way, for scores alone.
    said: what was done to the samples, a line each, said before training. notices: sentences about them
    that the user must not miss, shown at the run's end as well.
    filled: by the value's position the samples (n,) of which it was not given, and filled.

    The truth is kept apart: ``truth`` raises LabelsHidden unless this object was made to reveal it.
    """

    x: Tensor
    description: str
    device: torch.device = torch.device("cpu")
    files: Sequence[str] | None = None
    key: str = "file"
    root: Path | None = None
    items: Items | None = None
    skipped: Sequence[tuple[str, str]] = ()
    prepared: Preparation | None = None
    raw: bool = False
    mapped: Mapped | None = None
    test: Data | None = None
    said: Sequence[str] = ()
    notices: Sequence[str] = ()
    filled: Mapping[int, np.ndarray] = field(default_factory=dict)
    revealed: Truth | None = None
    sealed: bool = False

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> Size:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def preparation(self) -> Preparation:
        """What new samples must match."""
        return self.prepared or Preparation(self.shape, "uint8" if self.x.dtype == torch.uint8 else "float32")

    def batch(self, index: Tensor) -> Tensor:
        """The samples at ``index`` (B,) as float32 on the device; bytes become 0 to 1.  # (B, *shape)

        Where the data are ``raw``, rows are standardised as ``Preparation.standardise`` does it, and images
        are between the ends of ``Preparation.source``, as 0 to 1.
        """
        return self._deliver(self.given(index))

    def slice(self, start: int, stop: int) -> Tensor:
        """The samples from ``start`` to ``stop`` as ``batch`` gives them."""
        return self._deliver(self._rows(start, stop))

    def given(self, index: Tensor) -> Tensor:
        """The samples at ``index`` (B,) as ``x`` holds them.  # (B, *shape)"""
        if self.mapped is not None:
            return self.mapped.take(index.tolist())
        return self.x.index_select(0, index.to(self.x.device))

    def pieces(self) -> Iterator[tuple[int, Tensor]]:
        """All samples as ``x`` holds them, some MiB at a time, each time with the place of the first."""
        for start, stop in self._chunks():
            yield start, self._rows(start, stop)

    def _rows(self, start: int, stop: int) -> Tensor:
        return self.x[start:stop] if self.mapped is None else self.mapped.slice(start, stop)

    def _deliver(self, rows: Tensor) -> Tensor:
        early = self.raw and self.device.type == "mps"  # which has no float64
        rows = rows if early else self._move(rows)
        if rows.dtype == torch.uint8:
            rows = rows.to(torch.float32).div_(255)
        if self.raw:
            rows = self._standardise(rows)
        elif rows.dtype == torch.float16:
            rows = rows.to(torch.float32)
        return self._move(rows) if early else rows

    def _move(self, rows: Tensor) -> Tensor:
        return rows if rows.device == self.device else rows.pin_memory().to(self.device, non_blocking=True)

    def _standardise(self, rows: Tensor) -> Tensor:
        mean, std, low, high = self._scale
        rows = rows.to(torch.float64).sub(mean).div_(std)
        return rows.clamp_(low, high).to(torch.float32)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor, float, float]:
        """What is taken away, what divides, and the ends of what is left."""
        made = self.preparation
        device = torch.device("cpu") if self.device.type == "mps" else self.device

        def double(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        if made.source is not None:
            return double(made.source[0]), double(made.source[1] - made.source[0]), 0.0, 1.0
        if made.mean is None or made.std is None:
            raise ValueError("raw data must say how they are prepared")
        limit = math.inf if made.limit is None else made.limit
        return double(made.mean), double(made.std), -limit, limit

    @property
    def truth(self) -> Truth | None:
        """The true classes, or None where the data have none.

        Raises LabelsHidden on the data that an unsupervised ``fit`` is given.
        """
        if self.sealed:
            raise LabelsHidden(
                "labels never reach an unsupervised fit: a component that learns from labels "
                "must say so in its Component record (supervised=True)."
            )
        return self.revealed

    def seal(self) -> Data:
        """What an unsupervised ``fit`` is given: no truth, no names or texts, which may tell it, no test."""
        return replace(
            self, revealed=None, files=None, root=None, items=None, skipped=(), test=None, sealed=True
        )

    def prepared_as(self, preparation: Preparation) -> Data:
        """Data that ``preparation`` fits, on the scale that it says."""
        windowed = preparation.source is not None and preparation.dtype != "uint8"  # as files are decoded
        raw = preparation.mean is not None or (windowed and self.x.dtype != torch.uint8)
        if raw or self.x.dtype != torch.float64:
            return replace(self, prepared=preparation, raw=raw)
        return replace(self, x=self.x.to(torch.float32), mapped=None, prepared=preparation, raw=False)

    def to(self, device: torch.device, budget: float = 0.5) -> Data:
        """The data for a device: moved there where they take at most ``budget`` of its free memory."""
        test = self.test.to(device, budget) if self.test is not None else None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if self.x.nbytes <= budget * free:
                return replace(self, x=self.x.to(device), device=device, mapped=None, test=test)
        return replace(self, device=device, test=test)

    def mean_square(self) -> float:
        """The mean square of all values, on the scale of ``batch``."""
        total = 0.0
        for start, stop in self._chunks():
            total += float(self.slice(start, stop).square().sum(dtype=torch.float64))
        return total / self.x.numel()

    def fingerprint(self) -> str:
        """BLAKE2 of shape, type, values and scale; above 1 GiB of 4 096 evenly spaced samples only."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{tuple(self.x.shape)} {self.x.dtype}".encode())
        if self.raw:
            made = self.preparation
            digest.update(f"{made.source or made.mean} {made.std} {made.limit}".encode())
        if self.x.nbytes > HASHED_BYTES:
            index = torch.linspace(0, len(self) - 1, 4096).long().clamp_(max=len(self) - 1)
            digest.update(self.x.index_select(0, index).contiguous().numpy().tobytes())
            return digest.hexdigest()
        for _, rows in self.pieces():
            digest.update(rows.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check(self, n_clusters: int) -> None:
        """Raise InvalidData for no samples, fewer distinct ones than ``n_clusters``, or values not finite."""
        if len(self) == 0 or self.x[0].numel() == 0:
            raise InvalidData(f"{self.description}: the data are empty, shape {tuple(self.x.shape)}.")
        if len(self) == 1:
            raise InvalidData(f"{self.description}: one sample is there, which is nothing to cluster.")
        if n_clusters < 2 or n_clusters > len(self):
            raise InvalidData(
                f"{counted(n_clusters, 'cluster')} {'was' if n_clusters == 1 else 'were'} asked for of "
                f"{len(self)} samples ({self.description}): "
                f"--clusters must be from 2 to {len(self)}."
            )
        self.check_finite()
        distinct = self._distinct(n_clusters)
        what = "row" if len(self.shape) == 1 else "image"
        if distinct == 1:
            raise InvalidData(
                f"{self.description}: the {len(self)} samples are copies of 1 distinct {what}: there is "
                "nothing to cluster."
            )
        if distinct < n_clusters:
            raise InvalidData(
                f"{n_clusters} clusters were asked for of {len(self)} samples ({self.description}), which "
                f"are copies of {distinct} distinct {what}s: --clusters must be at most {distinct}."
            )

    def _distinct(self, enough: int) -> int:
        """How many different samples there are, counted up to ``enough``."""
        seen: set[bytes] = set()
        for start, stop in self._chunks():
            for i in range(start, stop, enough):
                seen.update(_digests(self._rows(i, min(i + enough, stop))))
                if len(seen) >= enough:
                    return enough
        return len(seen)

    def remarks(self) -> list[str]:
        """Sentences that the user must not miss: ``notices``, and what the samples and classes show.

        Copies are looked for among all samples, or some thousands of them.
        """
        said = [*self.notices, *(self.revealed.notices if self.revealed is not None else ())]
        most = max(1, COMPARED_BYTES // (self.x[0].numel() * self.x.element_size()))
        n = min(len(self), COMPARED, most)
        distinct = len(
            {*_digests(self.given(torch.linspace(0, len(self) - 1, n, dtype=torch.float64).long()))}
        )
        if 2 * distinct < n:
            which = "" if n == len(self) else f" looked at, of {len(self):,},"
            said.append(
                f"{n - distinct:,} of the {n:,} samples{which} are copies of others; a copy counts as much "
                "as any sample in training and in scores"
            )
        return said

    def check_finite(self) -> None:
        """Raise InvalidData for values that are not finite, naming the first."""
        if self.test is not None:
            self.test.check_finite()
        if self.x.dtype == torch.uint8:
            return
        bad, first = 0, None
        for start, rows in self.pieces():
            wrong = ~torch.isfinite(rows)
            if count := int(wrong.sum()):
                if first is None:
                    first = wrong.nonzero()[0].tolist()
                    first[0] += start
                bad += count
        if first is not None:
            value = float(self.x[tuple(first)])
            raise InvalidData(
                f"{self.description}: {counted(bad, 'value')} {'is' if bad == 1 else 'are'} not finite, the "
                f"first is {value} in sample {first[0]} at position {tuple(first[1:])} (counted from 0); "
                "remove or fill these values first."
            )

    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest value, as ``x`` has them, NaN where one is; 0 of no samples."""
        ends = [torch.stack(rows.aminmax()) for _, rows in self.pieces() if rows.numel()]
        if not ends:
            return 0.0, 0.0
        low, high = torch.stack(ends).T
        return float(low.min()), float(high.max())

    def check_range(self, but: str) -> None:
        """Raise InvalidData for values outside 0 to 1, as ``batch`` delivers them.

        but: what takes no such values and what to do, the end of the sentence.
        """
        if self.x.dtype == torch.uint8 and not self.raw:
            return
        ranges = torch.stack([torch.stack(self.slice(*chunk).aminmax()) for chunk in self._chunks()])
        low, high = float(ranges[:, 0].min()), float(ranges[:, 1].max())
        if low < 0 or high > 1:
            raw = ", standardised (-s data.scale=none leaves them as they are)" if self.raw else ""
            raise InvalidData(f"{self.description}: the values go from {low:g} to {high:g}{raw}, but {but}")

    def _chunks(self) -> list[tuple[int, int]]:
        rows = max(1, CHUNK_BYTES // max(1, self.x[0].numel() * self.x.element_size()))
        return [(i, min(i + rows, len(self))) for i in range(0, len(self), rows)]


def truth_of(labels: np.ndarray, names: Sequence[str] | None = None) -> Truth:
    """A Truth from any ids: integers, text or floats that are whole numbers.

    The number -1 is a sample of unknown class, except where -1 and 1 are all there is: two classes.

    names: one for each class, in the order of the sorted ids.
    Raises InvalidData for labels that are not (N,) or cannot be ids.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.reshape(-1)
    if labels.ndim != 1 or labels.dtype.kind not in "iubfUS":
        raise InvalidData(
            f"the labels have shape {labels.shape} and type {labels.dtype}; "
            "one integer or one text for each sample is needed."
        )
    if labels.dtype.kind == "f":
        if not np.all(np.isfinite(labels) & (labels == np.round(labels))):
            raise InvalidData("the labels are no ids: classes must be whole numbers or texts.")
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    unlabelled = np.zeros(len(labels), bool)
    if labels.dtype.kind == "i" and not np.array_equal(np.unique(labels), (-1, 1)):
        unlabelled = labels == -1
    ids, codes = np.unique(labels[~unlabelled], return_inverse=True)
    full = np.full(len(labels), -1, dtype=np.int64)
    full[~unlabelled] = codes
    return Truth(full, tuple(names) if names is not None else tuple(str(i) for i in ids))


def _digests(rows: Tensor) -> list[bytes]:
    """For each of the samples (B, ...) bytes that equal ones share."""
    flat = rows.flatten(1).contiguous().cpu()
    if flat.dtype != torch.uint8:
        flat = flat + 0.0  # which makes -0.0 the same as 0.0
    return [hashlib.blake2b(row, digest_size=16).digest() for row in flat.numpy()]


def tensor_over(array: np.ndarray) -> Tensor:
    """A tensor over the same memory; nothing here writes to read-only arrays, which torch warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def kept_type(x: np.ndarray) -> type[np.generic]:
    """What samples are kept as: uint8, float16, float32, and float64 for rows whose values need it.

    Other images of more than bytes are float32.
    """
    if x.dtype == np.uint8:
        return np.uint8
    if x.dtype.kind == "f" and x.dtype.itemsize == 2:
        return np.float16
    return np.float32 if x.ndim != 2 or np.can_cast(x.dtype, np.float32, "safe") else np.float64


def arrange(x: Tensor, channels: str = "auto") -> Tensor:
    """Rows (N, D) as they are, images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W).

    channels: where the axis of channels is, ``"first"``, ``"last"``, or ``"auto"``: last where that
    axis is 1, 3 or 4 long.
    """
    if x.dim() == 3:
        return x.unsqueeze(1)
    if x.dim() == 4 and (channels == "last" or (channels == "auto" and x.shape[3] in (1, 3, 4))):
        return x.permute(0, 3, 1, 2)
    return x
