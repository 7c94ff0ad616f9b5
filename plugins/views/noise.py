"""Noise: Gaussian, and salt and pepper."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from .draws import as_float, each, normal, uniform


def gaussian_noise(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Noise (B, C, H, W) times sigma (B,) added, within 0..1."""
    return torch.addcmul(as_float(x), noise, each(sigma)).clamp_(0, 1)


def random_gaussian_noise(
    x: Tensor, sigma: tuple[float, float] = (0.0, 0.1), generator: Generator | None = None
) -> Tensor:
    """Gaussian noise in each pixel and channel, its deviation uniform in the range for each sample."""
    return gaussian_noise(x, normal(x, generator), uniform(x, *sigma, generator=generator))


def salt_and_pepper(x: Tensor, place: Tensor, share: Tensor) -> Tensor:
    """Pixels where place (B, 1, H, W) is below share / 2 become 0, from 1 - share / 2 on 1, share (B,)."""
    x, half = as_float(x), each(share) / 2
    return x.masked_fill(place < half, 0.0).masked_fill_(place >= 1 - half, 1.0)


def random_salt_and_pepper(
    x: Tensor, share: tuple[float, float] = (0.0, 0.1), generator: Generator | None = None
) -> Tensor:
    """A share of whole pixels, uniform in the range for each sample, set to 0 or 1 in equal parts."""
    place = uniform(x, 0.0, 1.0, 1, *x.shape[-2:], generator=generator)
    return salt_and_pepper(x, place, uniform(x, *share, generator=generator))
