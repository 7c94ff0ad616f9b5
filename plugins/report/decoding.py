"""What the encoder's decoder makes of samples: reconstructions, and denoised ones."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...core import Data, Decodes, Encoder, evaluating

MASKED = 0.2  # share of the values that are set to 0


class Decoded(NamedTuple):
    """Samples (B, *shape) on the CPU: as they are, through the code and back, masked, and masked through
    the code and back."""

    original: Tensor
    reconstruction: Tensor
    noisy: Tensor
    denoised: Tensor

    def error(self, made: Tensor) -> float:
        """The mean squared error of ``made`` (B, *shape) against the originals."""
        return float((made - self.original).double().square().mean())

    def variance(self) -> float:
        """The error of a decoder that gives the mean of these samples for each of them."""
        return float(self.original.double().var(dim=0, correction=0).mean())


def decode_samples(encoder: Encoder, data: Data, index: np.ndarray, seed: int) -> Decoded | None:
    """The samples at ``index`` (B,) through the encoder and back; None where it does not decode."""
    if not isinstance(encoder, Decodes):
        return None
    x = data.batch(torch.from_numpy(index))
    weight = next(chain(encoder.parameters(), encoder.buffers()), None)
    if weight is not None:
        x = x.to(weight.device)
    kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) >= MASKED
    noisy = x * kept.to(x.device)
    with evaluating(encoder):
        made = [x, encoder.decode(encoder(x)), noisy, encoder.decode(encoder(noisy))]
    return Decoded(*(part.float().cpu() for part in made))
