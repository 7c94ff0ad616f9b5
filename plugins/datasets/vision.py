"""The field's benchmark sets, read by torchvision from a folder, downloaded only when asked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ...core import Data, Dataset, InvalidData, Storage, setting, truth_of
from ...core.words import counted
from .split import check_leave_out, hold_out


@dataclass(frozen=True)
class VisionConfig:
    split: Literal["all", "train", "test", "train-test"] = setting(
        "all",
        "which samples: the training split, the test split, both in this order; "
        "train-test: train on the one, score the other as well",
        inherited=False,
    )
    leave_out: str | None = setting(
        None,
        "class that train-test trains without, the strange one for the evaluator 'anomaly'",
        inherited=False,
    )


class Vision(Dataset):
    """A data set of torchvision's: its class, the files it needs, its splits' names."""

    Config: ClassVar[type[VisionConfig]] = VisionConfig
    n_clusters: ClassVar[int | None] = 10
    torchvision_name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]  # below the root

    def load(self, storage: Storage) -> Data:
        """The samples as uint8 (N, C, H, W) with their classes."""
        self._check_files(storage)
        split = self.config.split
        check_leave_out(self.config.leave_out, split)
        splits = [split] if split in ("train", "test") else ["train", "test"]
        parts = [self._open(storage, part) for part in splits]
        pixels = [self._pixels(part) for part in parts]
        y = np.concatenate([np.asarray(getattr(p, "targets", getattr(p, "labels", None)))
                            for p in parts])  # fmt: skip
        kept = f"split {split}" if len(splits) == 1 else "train and test"
        names = getattr(parts[0], "classes", None)
        name = self.torchvision_name
        x = torch.cat(pixels)
        data = Data(x, f"{name}, {kept}, {counted(len(x), 'sample')}", revealed=truth_of(y, names))
        return hold_out(data, len(pixels[0]), self.config.leave_out) if split == "train-test" else data

    def _check_files(self, storage: Storage) -> None:
        missing = [name for name in self.files if not (storage.root / name).exists()]
        if missing and not storage.download:
            raise InvalidData(
                f"{self.torchvision_name} is not in the data root '{storage.root}': "
                f"{', '.join(missing)} missing there. Put the files there, name another folder "
                "with --data-root, or let torchvision fetch them with --download."
            )

    def _open(self, storage: Storage, split: str) -> Any:
        import torchvision.datasets as sets

        try:
            return getattr(sets, self.torchvision_name)(
                str(storage.root), download=storage.download, **self._split(split)
            )
        except Exception as error:  # its parsers meet files that are cut or of other content with any of them
            what = "downloaded" if storage.download else "read"
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InvalidData(
                f"{self.torchvision_name} could not be {what} in '{storage.root}': {reason}"
            ) from error

    def _split(self, split: str) -> dict[str, Any]:
        return {"train": split == "train"}

    def _pixels(self, part: Any) -> Tensor:
        """The images as uint8 (N, C, H, W)."""
        pixels = torch.as_tensor(part.data)
        return pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def _idx_files(folder: str) -> tuple[str, ...]:
    return tuple(
        f"{folder}/raw/{split}-{kind}"
        for split in ("train", "t10k")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )


class MNIST(Vision):
    """MNIST (LeCun et al. 1998)."""

    torchvision_name = "MNIST"
    files = _idx_files("MNIST")


class FashionMNIST(Vision):
    """Fashion-MNIST (Xiao et al. 2017)."""

    torchvision_name = "FashionMNIST"
    files = _idx_files("FashionMNIST")


class USPS(Vision):
    """USPS (Hull 1994)."""

    torchvision_name = "USPS"
    files = ("usps.bz2", "usps.t.bz2")


class CIFAR10(Vision):
    """CIFAR-10 (Krizhevsky 2009)."""

    torchvision_name = "CIFAR10"
    files = tuple(
        f"cifar-10-batches-py/{name}"
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
    )


class CIFAR100(Vision):
    """CIFAR-100 (Krizhevsky 2009), its 100 fine classes."""

    n_clusters = 100
    torchvision_name = "CIFAR100"
    files = tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))


class STL10(Vision):
    """STL-10 (Coates et al. 2011), the labelled images."""

    torchvision_name = "STL10"
    files = tuple(
        f"stl10_binary/{name}"
        for name in (
            "train_X.bin",
            "train_y.bin",
            "test_X.bin",
            "test_y.bin",
            "class_names.txt",
            "unlabeled_X.bin",  # never read, but torchvision wants all of the archive
        )
    )

    def _split(self, split: str) -> dict[str, Any]:
        return {"split": split}

    def _pixels(self, part: Any) -> Tensor:
        return torch.as_tensor(part.data)
