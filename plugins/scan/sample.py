"""Where the codes that SCAN learns from come from: the encoder in training, or cached draws."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core import Data, Encoder, evaluating

View = Callable[[Tensor], Tensor]
CACHE_BYTES = 2 * 2**30  # codes kept of a frozen encoder
CHUNK_VALUES = 4 * 2**20  # input values in one forward pass


@dataclass(frozen=True)
class Indices:
    """Samples by their indices in the data alone: what batches of them are cut from."""

    x: Tensor  # (M,) int64
    device: torch.device

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Tensor:
        """The indices at ``index`` (B,).  # (B,)"""
        return self.x[index]


class Tuned:
    """Codes of samples seen anew at each step, with gradients into the encoder."""

    def __init__(self, encoder: Encoder, data: Data, view: View | None) -> None:
        self.encoder, self.data, self.view = encoder, data, view

    def __call__(self, indices: Tensor) -> Tensor:
        """Codes (B, D) of the samples at ``indices`` (B,), distorted."""
        x = self.data.batch(indices)
        z: Tensor = self.encoder(x if self.view is None else self.view(x))
        return z


@dataclass(frozen=True)
class Cached:
    """Codes of a frozen encoder: of each sample as it is, or of some distortions that were drawn once.

    z: (V, N, D), V draws of each sample.
    """

    z: Tensor

    def __call__(self, indices: Tensor) -> Tensor:
        """Codes (B, D) of the samples at ``indices`` (B,), of one draw each."""
        draw = torch.randint(len(self.z), indices.shape, device=indices.device)
        return self.z[draw, indices]


def draw_codes(
    encoder: Encoder,
    data: Data,
    view: View,
    draws: int,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Tensor:
    """Codes of ``draws`` distortions of each sample, of fewer where they would take too much memory.

    Returns (V, N, D).
    """
    draws = min(draws, max(1, CACHE_BYTES // (4 * len(data) * encoder.latent_dim)))
    size = max(1, CHUNK_VALUES // data.x[0].numel())
    z = torch.empty((draws, len(data), encoder.latent_dim), device=data.device)
    with evaluating(encoder), autocast():
        for codes in z:
            for start in range(0, len(data), size):
                x = view(data.slice(start, start + size))
                codes[start : start + len(x)] = encoder(x)
    return z
