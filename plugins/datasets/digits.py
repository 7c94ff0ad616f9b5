"""scikit-learn's bundled digits: the data set that every machine has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...core import Data, Dataset, Storage, truth_of


@dataclass(frozen=True)
class DigitsConfig:
    pass


class Digits(Dataset):
    """1,797 handwritten digits of 8x8 in 17 grey values (Alpaydin & Kaynak 1998, UCI), from 0 to 1."""

    Config: ClassVar[type[DigitsConfig]] = DigitsConfig
    n_clusters: ClassVar[int | None] = 10

    def load(self, storage: Storage) -> Data:
        """All samples, (1797, 1, 8, 8) float32."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        x = torch.from_numpy(bunch.images).to(torch.float32).div_(16).unsqueeze(1)
        return Data(x, "digits, all 1797 samples", revealed=truth_of(bunch.target))
