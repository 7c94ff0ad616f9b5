"""What every operation starts from: pixels as float32, and one draw for each sample."""

from __future__ import annotations

import hashlib

import torch
from torch import Generator, Tensor

from ...core.errors import InvalidData


def as_float(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as float32 in 0..1: uint8 over 255, other floats cast; float32 is returned itself.

    Raises InvalidData for another shape or type.
    """
    if x.ndim != 4:
        raise InvalidData(f"images to augment have the shape {tuple(x.shape)}; give (B, C, H, W)")
    if x.dtype == torch.uint8:
        return x.float().mul_(1 / 255)
    if not x.is_floating_point():
        raise InvalidData(f"images to augment have the type {x.dtype}; give uint8, or floats in 0..1")
    return x.float()


def uniform(x: Tensor, low: float, high: float, *shape: int, generator: Generator | None = None) -> Tensor:
    """(B, *shape) values, uniform in low..high, on x's device.

    They come from the generator, wherever it lives, or else from the global one of x's device.
    """
    device = x.device if generator is None else generator.device
    values = torch.rand(len(x), *shape, device=device, generator=generator)
    return values.mul_(high - low).add_(low).to(x.device, non_blocking=True)


def normal(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Standard normal values in x's shape, drawn as `uniform` draws."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, device=device, generator=generator).to(x.device, non_blocking=True)


def on_host(generator: Generator | None) -> Generator | None:
    """The generator of choices that the host must know, such as which samples to take: never a wait.

    None is the global one of the CPU; one that lives on a GPU hands over its state, which the host keeps.
    """
    if generator is None or generator.device.type == "cpu":
        return generator
    seed = hashlib.sha256(generator.get_state().numpy().tobytes()).digest()
    torch.rand(1, device=generator.device, generator=generator)  # its next state is another one
    return Generator().manual_seed(int.from_bytes(seed[:7], "little"))


def each(values: Tensor) -> Tensor:
    """(B,) values shaped to act on (B, C, H, W)."""
    return values.view(-1, 1, 1, 1)


def select(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new images in the samples where `chosen` (B,) is true, the old ones elsewhere, bit for bit.

    A lerp is exact at weights 0 and 1, and several times as fast as torch.where on a CPU.
    """
    return torch.lerp(old, new.expand_as(old), each(chosen).float())
