"""What the encoder's decoder makes of samples: reconstructions, and denoised ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ...core import Corrupts, Data, Decodes, Encoder, evaluating

MASKED = 0.2  # share of the values that are set to 0 where the encoder has no noise of its own
BATCH_VALUES = 2**22  # in one forward pass


@dataclass(frozen=True)
class Decoded:
    """Samples (B, *shape) on the CPU: as they are, through the code and back, with noise, and those
    through the code and back.

    own_noise: whether the noise is what the encoder has learned to take off, else a share is masked.
    """

    original: Tensor
    reconstruction: Tensor
    noisy: Tensor
    denoised: Tensor
    own_noise: bool

    def error(self, made: Tensor) -> float:
        """The mean squared error of ``made`` (B, *shape) against the originals."""
        return float((made - self.original).double().square().mean())

    def variance(self) -> float:
        """The error of a decoder that gives the mean of these samples for each of them."""
        return float(self.original.double().var(dim=0, correction=0).mean())

    def psnr(self, made: Tensor) -> float | None:
        """Peak signal-to-noise ratio of ``made`` (B, *shape) against the originals, in dB.

        10 log10(peak^2 / error) with peak = 1 and the error a mean over all values of all samples. None
        where the originals leave 0 to 1, and where there is no error.
        """
        error = self.error(made)
        inside = bool(self.original.min() >= 0) and bool(self.original.max() <= 1)
        return -10 * math.log10(error) if inside and error > 0 else None


def decode_samples(encoder: Encoder, data: Data, index: np.ndarray, seed: int) -> Decoded | None:
    """The samples at ``index`` (B,) through the encoder and back; None where it does not decode."""
    if not isinstance(encoder, Decodes):
        return None
    x = on_its_device(encoder, data.batch(torch.from_numpy(index)))
    with evaluating(encoder):
        noisy, own_noise = _add_noise(encoder, x, seed)
        rows = max(1, BATCH_VALUES // math.prod(data.shape))
        made = [
            torch.cat([encoder.decode(encoder(part)).float().cpu() for part in torch.split(samples, rows)])
            for samples in (x, noisy)
        ]
    return Decoded(x.float().cpu(), made[0], noisy.float().cpu(), made[1], own_noise)


def on_its_device(encoder: Encoder, x: Tensor) -> Tensor:
    """A tensor where the encoder's weights are."""
    weight = next(chain(encoder.parameters(), encoder.buffers()), None)
    return x if weight is None else x.to(weight.device)


def _add_noise(encoder: Encoder, x: Tensor, seed: int) -> tuple[Tensor, bool]:
    """Samples with the encoder's own noise, else masked; and which of the two."""
    if isinstance(encoder, Corrupts):
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            torch.manual_seed(seed)
            noisy = encoder.corrupt(x)
        if not torch.equal(noisy, x):
            return noisy, True
    kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) >= MASKED
    return x * kept.to(x.device), False
