"""Samples from a .npy or .npz file."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from ...core import (
    Data,
    Dataset,
    InvalidData,
    Mapped,
    Preparation,
    Storage,
    arrange,
    kept_type,
    setting,
    tensor_over,
    truth_of,
)
from ...core.data.scaling import check_integers, scaled
from ...core.data.training_range import fitted
from ...core.toolbox.items import give_items
from ...core.words import counted
from .sparse import is_sparse, read_sparse
from .split import check_leave_out, hold_out

SAMPLES = ("x", "X", "data", "images")
LABELS = ("y", "Y", "labels", "target")
UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class ArrayConfig:
    path: str = setting("", "the file; --data PATH sets it")
    x: str | None = setting(None, "name of the samples in a .npz; none: x, X, data or images")
    y: str | None = setting(
        None, "name of the labels in a .npz; none: y, Y, labels or target", inherited=False
    )
    split: Literal["all", "train", "test", "train-test"] = setting(
        "all",
        "where a .npz holds x_train and x_test: which to take; train-test: train on the one, "
        "score the other as well",
        inherited=False,
    )
    leave_out: str | None = setting(
        None,
        "class that train-test trains without, the strange one for the evaluator 'anomaly'",
        inherited=False,
    )
    labels: str | None = setting(None, "a .npy file with the labels, for scores alone", inherited=False)
    items: str | None = setting(
        None, "a table with id, text and path of an image of each sample (--items)", inherited=False
    )
    channels: Literal["auto", "first", "last"] = setting(
        "auto", "where image channels are; auto: last where that axis is 1, 3 or 4 long"
    )
    scale: Literal["auto", "standard", "none"] = setting(
        "auto",
        "auto: columns centred and divided by one deviation, or each by its own where units differ; images "
        "from 0 to 1; standard: each column by its own; none: as they are",
        training=True,
    )


class Array(Dataset):
    """Rows (N, D) or images (N, H, W), (N, H, W, C), (N, C, H, W) from NumPy's files.

    uint8 and float16 stay as they are, other images become float32, other rows float32 or float64,
    whichever holds their values; a .npy of these is memory-mapped, a sparse matrix of SciPy's made dense.
    Object arrays are never unpickled.
    """

    Config: ClassVar[type[ArrayConfig]] = ArrayConfig

    def load(self, storage: Storage) -> Data:
        """The samples, with the truth where the file or ``labels`` has it, on the scale that fits them."""
        return scaled(self._open(), self.config.scale)

    def load_like(self, storage: Storage, preparation: Preparation) -> Data:
        """The samples on the scale of ``preparation``, whatever the settings say."""
        return fitted(self._open(), preparation)

    def _open(self) -> Data:
        """The samples as they are in the file."""
        path = Path(self.config.path)
        check_leave_out(self.config.leave_out, self.config.split)
        if not self.config.path:
            raise InvalidData("the data set 'array' needs a file: give its path as --data.")
        if path.is_dir():
            raise InvalidData(f"'{path}' is a folder; a .npy or .npz file is needed.")
        if path.suffix not in (".npy", ".npz"):
            raise InvalidData(f"'{path}' ends in '{path.suffix}'; a .npy or .npz file is needed.")
        part, first = "", 0
        if path.suffix == ".npy":
            x, y = self._read(path), None
        else:
            x, y, part, first = self._from_archive(path)
        if self.config.labels is not None:
            y = self._read(Path(self.config.labels))
        pixels = _tensor(x, str(path), self.config.channels)
        if y is not None and y.shape[:1] != x.shape[:1]:
            count = counted(len(y), "label") if y.ndim else "no list of labels"
            raise InvalidData(
                f"'{path}': there {'is' if len(x) == 1 else 'are'} {counted(len(x), 'sample')} but {count}."
            )
        truth = None if y is None else truth_of(y)
        mapped = None
        if isinstance(x, np.memmap) and x.dtype == kept_type(x):  # else it was copied
            mapped = Mapped(x, lambda rows: arrange(torch.from_numpy(rows), self.config.channels))
        data = Data(pixels, f"{path.name}, {part}{counted(len(x), 'sample')}", revealed=truth, mapped=mapped)
        data = give_items(data, self.config.items)
        if self.config.split != "train-test":
            return data
        if not first:
            raise InvalidData(
                f"data.split=train-test takes a .npz with x_train and x_test, which '{path}' is not."
            )
        return hold_out(data, first, self.config.leave_out)

    def _read(self, path: Path) -> np.ndarray:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("it is an archive, whose name must end in '.npz'")
        except UNREADABLE as error:
            raise InvalidData(_unreadable(path, error)) from error
        return array

    def _from_archive(self, path: Path) -> tuple[np.ndarray, np.ndarray | None, str, int]:
        """Samples, labels, the words for the split, and how many stand before the test split; 0: no parts."""
        c = self.config
        try:
            archive = np.load(path, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array, whose name must end in '.npy'")
            with archive:
                names = list(archive.files)
                if c.x is None and is_sparse(names):
                    return *read_sparse(path), 0
                wanted, part = _choose(names, c.x, SAMPLES, c.split)
                if wanted is None:
                    asked = f"'{c.x}'" if c.x else "x (or x_train and x_test)"
                    raise InvalidData(
                        f"'{path}' holds {', '.join(names) or 'nothing'}, not {asked}; "
                        "name the samples with -s data.x=NAME."
                    )
                labels, _ = _choose(names, c.y, LABELS, c.split)
                if c.y and labels is None:
                    raise InvalidData(f"'{path}' holds {', '.join(names)}, no '{c.y}'.")
                parts = [archive[n] for n in wanted]
                x, first = _join(parts, wanted, path, one_scale=True), len(parts[0]) if len(parts) > 1 else 0
                y = _join([archive[n] for n in labels], labels, path) if labels else None
        except InvalidData:
            raise
        except UNREADABLE as error:
            raise InvalidData(_unreadable(path, error)) from error
        return x, y, part, first


def _choose(
    names: list[str], asked: str | None, usual: tuple[str, ...], split: str
) -> tuple[list[str] | None, str]:
    """The arrays that hold samples or labels, and the words for the split."""
    for name in (asked,) if asked else usual:
        if name in names:
            return [name], ""
        parts = [f"{name}_{s}" for s in ("train", "test") if split in ("all", "train-test", s)]
        if all(part in names for part in parts):
            return parts, "train and test, " if len(parts) > 1 else f"split {split}, "
    if usual is SAMPLES and asked is None and len(names) == 1:
        return names, ""
    return None, ""


def _join(arrays: list[np.ndarray], names: list[str], path: Path, *, one_scale: bool = False) -> np.ndarray:
    """The arrays of a file one after the other; raises InvalidData for those that are not alike."""
    if len({a.shape[1:] if a.ndim else None for a in arrays}) > 1:
        shapes = " and ".join(f"{n} has shape {a.shape}" for n, a in zip(names, arrays, strict=True))
        raise InvalidData(
            f"'{path}': {shapes}, which do not go together; save both with samples of one shape, or take one "
            "of them with -s data.split=train or test."
        )
    if len({a.dtype == np.uint8 for a in arrays}) > 1 and one_scale:
        types = " and ".join(f"{n} is {a.dtype}" for n, a in zip(names, arrays, strict=True))
        raise InvalidData(
            f"'{path}': {types}, but bytes are on another scale than other numbers; save both "
            "in one type, on one scale."
        )
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _unreadable(path: Path, error: Exception) -> str:
    if "pickled" in str(error):  # what NumPy says of any file that does not begin as its own do
        return f"'{path}' is not in NumPy's format, and pickles are never read because they can run code."
    if "object" in str(error).lower():
        return (
            f"'{path}' holds Python objects, which are never unpickled because that can run code; "
            "save numbers: numpy.save(path, array.astype('float32'))."
        )
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return f"'{path}' cannot be read as NumPy data: {reason}"


def _tensor(x: np.ndarray, path: str, channels: str) -> torch.Tensor:
    """(N, D) rows or (N, C, H, W) images, uint8, float16, float32 or float64."""
    if x.dtype.kind not in "biuf":
        raise InvalidData(f"'{path}' holds values of type {x.dtype}; numbers are needed.")
    if x.ndim not in (2, 3, 4):
        raise InvalidData(f"'{path}' has shape {x.shape}; (N, D) rows or (N, H, W[, C]) images are needed.")
    check_integers(x, f"'{path}'")
    x = x.astype(kept_type(x), copy=False)
    if not x.flags.writeable and not isinstance(x, np.memmap):
        x = x.copy()
    return arrange(tensor_over(x), channels)
