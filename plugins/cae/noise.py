"""Noise on samples for a denoising autoencoder to remove."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NoiseName = Literal["none", "gaussian", "mask"]


def add_noise(x: Tensor, kind: NoiseName, amount: float, *, clip: bool) -> Tensor:
    """``x`` with noise of a kind; of the same shape, drawn anew at each call.

    kind: ``"gaussian"`` adds N(0, amount^2), ``"mask"`` sets a share ``amount`` of the values to 0.
    clip: keep Gaussian noise within 0 and 1. Vincent et al. 2010, Stacked Denoising Autoencoders,
    section 3.3.
    """
    if kind == "none" or amount == 0:
        return x
    if kind == "mask":
        return x * (torch.rand_like(x) >= amount)
    noisy = x + amount * torch.randn_like(x)
    return noisy.clamp(0, 1) if clip else noisy
