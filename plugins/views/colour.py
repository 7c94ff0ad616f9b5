"""Colour: brightness, contrast, saturation, hue, and grey, with a factor for each sample.

Images without three channels have no colour: their grey is the image itself, so that saturation, hue and
greyscale leave them as they are, and contrast pulls towards the mean of all channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from .draws import as_float, each, on_host, select, uniform


def grey(x: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of RGB by ITU-R 601-2; any other number of channels is returned as it is."""
    if x.shape[1] != 3:
        return x
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Pixels times factor (B,)."""
    return (as_float(x) * each(factor)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Pixels moved away from the mean of the sample's grey by factor (B,)."""
    x = as_float(x)
    factor = each(factor)
    rest = grey(x).mean((1, 2, 3), keepdim=True) * (1 - factor)
    return (x * factor).add_(rest).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Pixels moved away from their grey by factor (B,)."""
    x = as_float(x)
    return x if x.shape[1] != 3 else torch.lerp(grey(x), x, each(factor)).clamp_(0, 1)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """The hue of HSV moved by turn (B,), as a share of the whole circle; value and saturation stay."""
    x = as_float(x)
    if x.shape[1] != 3:
        return x
    red, green, blue = x.unbind(1)
    high, low = torch.maximum(green, blue), torch.minimum(green, blue)
    # which is the highest, as weights 0 and 1: on a CPU torch.where takes many times as long
    is_red = red.clone().ge_(high)
    high, low = torch.maximum(high, red), torch.minimum(low, red)
    is_blue = (1 - is_red).mul_(blue.clone().gt_(green))
    is_green = 1 - is_red - is_blue
    chroma = high.sub_(low)
    part = is_red.mul_(green - blue).addcmul_(is_green, blue - red).addcmul_(is_blue, red - green)
    part.div_(chroma.clamp(min=1e-12)).add_(is_green, alpha=2).add_(is_blue, alpha=4)
    at = part.div_(6).add_(turn.view(-1, 1, 1))  # in turns, any whole number of them off
    at.sub_(at.floor()).mul_(6)
    out = torch.empty_like(x)
    for channel, (middle, sign) in enumerate(((3.0, 1.0), (2.0, -1.0), (4.0, -1.0))):
        # the pure hue: red is |at - 3| - 1, green 2 - |at - 2|, blue 2 - |at - 4|, within 0..1
        pure = (at - middle).abs_()
        pure = pure.sub_(1) if sign > 0 else pure.neg_().add_(2)
        torch.addcmul(low, pure.clamp_(0, 1), chroma, out=out[:, channel])
    return out.clamp_(0, 1)


ADJUSTMENTS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness, contrast, saturation, hue)


def jitter(x: Tensor, factors: Sequence[Tensor | None], order: Sequence[int] = (0, 1, 2, 3)) -> Tensor:
    """Brightness, contrast, saturation and hue by their (B,) factors, in this order; None is left out."""
    x = as_float(x)
    for which in order:
        factor = factors[which]
        if factor is not None:
            x = ADJUSTMENTS[which](x, factor)
    return x


def random_jitter(
    x: Tensor,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """Factors uniform in 1 - v..1 + v (not below 0), the hue's turn in -v..v, for each sample.

    As torchvision's ColorJitter, but the order of the four is drawn once for the batch.
    """
    factors: list[Tensor | None] = []
    for most in (brightness, contrast, saturation):
        low, high = max(0.0, 1 - most), 1 + most
        factors.append(uniform(x, low, high, generator=generator) if most else None)
    factors.append(uniform(x, -hue, hue, generator=generator) if hue else None)
    return jitter(x, factors, torch.randperm(4, generator=on_host(generator)).tolist())


def greyscale(x: Tensor, chosen: Tensor) -> Tensor:
    """Grey in all channels, in the samples where `chosen` (B,) is true."""
    x = as_float(x)
    return select(chosen, grey(x), x)


def random_greyscale(x: Tensor, p: float = 0.2, generator: Generator | None = None) -> Tensor:
    """Grey in all channels, in each sample with probability p."""
    return greyscale(x, uniform(x, 0.0, 1.0, generator=generator) < p)
