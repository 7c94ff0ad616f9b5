"""Operations put together: one after another, and each with a probability per sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from .draws import as_float, on_host


class Operation(Protocol):
    """Draws for each sample of (B, C, H, W) and applies; a partial of any random_ function is one."""

    def __call__(self, x: Tensor, *, generator: Generator | None) -> Tensor: ...


@dataclass(frozen=True)
class Sometimes:
    """The operation for each sample with probability p; the others come back bit for bit.

    Only the samples chosen are computed; the host chooses, so that nothing waits for the device.
    The operation must keep the size of the images.
    """

    p: float
    operation: Operation

    def __call__(self, x: Tensor, *, generator: Generator | None = None) -> Tensor:
        x = as_float(x)
        draws = torch.rand(len(x), generator=on_host(generator))
        chosen = (draws < self.p).nonzero()[:, 0]  # on the host
        if not len(chosen):
            return x
        if len(chosen) == len(x):
            return self.operation(x, generator=generator)
        index = chosen.to(x.device, non_blocking=True)
        return x.index_copy(0, index, self.operation(x.index_select(0, index), generator=generator))


@dataclass(frozen=True)
class Augmentation:
    """The operations in turn: (B, C, H, W), uint8 or floats in 0..1, to dtype in 0..1, on x's device.

    One draw for each sample, from the generator (on any device; best on the CPU or that of x) or else from
    the global ones of x's device and the CPU. The same seed and batch give the same pictures. x is not
    changed; nothing waits for the device.
    """

    operations: tuple[Operation, ...]
    dtype: torch.dtype = torch.float32

    def __call__(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        out = as_float(x)
        for operation in self.operations:
            out = operation(out, generator=generator)
        return out.clamp(0, 1).to(self.dtype)
