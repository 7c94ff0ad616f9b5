"""Tables of pixel values, and sharpness: what RandAugment has beside colour and geometry.

Solarize and autocontrast act on floats as they are; posterize and equalize on the 256 levels of bytes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import as_float, each


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Pixels at threshold (B,) and above are inverted."""
    x = as_float(x)
    return torch.where(x >= each(threshold), 1 - x, x)


def _levels(x: Tensor) -> Tensor:
    """Floats in 0..1 as whole levels 0..255; bytes over 255 come back as they were."""
    return (x * 255.999).clamp_(0, 255).to(torch.int64)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Of the eight bits of each pixel only the highest `bits` (B,), whole numbers in 0..8, are kept."""
    step = torch.exp2(8 - each(bits).float())
    level = _levels(as_float(x)).float()
    return level.div_(step).floor_().mul_(step).mul_(1 / 255)


def autocontrast(x: Tensor) -> Tensor:
    """Each channel of each sample stretched over 0..1; one of a single value stays."""
    x = as_float(x)
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = high <= low
    low, width = low.masked_fill(flat, 0.0), (high - low).masked_fill_(flat, 1.0)
    return x.sub(low).div_(width).clamp_(0, 1)


def equalize(x: Tensor) -> Tensor:
    """Each channel of each sample with a flat histogram of its 256 levels, as PIL's; a flat one stays."""
    x = as_float(x)
    level = _levels(x).flatten(2)
    counts = torch.zeros(*level.shape[:2], 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, level, torch.ones_like(level))
    total = counts.cumsum(2)
    top = counts.gather(2, level.amax(2, keepdim=True))
    step = (total[:, :, -1:] - top).div_(255, rounding_mode="floor")
    before = F.pad(total, (1, -1))
    table = (before + step // 2).div_(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    new = table.gather(2, level).view(x.shape).float().mul_(1 / 255)
    return torch.where(step.unsqueeze(3) == 0, x, new)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Pixels moved by factor (B,) away from a smooth 3 x 3 mean of weights 1 and 5 in the middle, over 13.

    As PIL's SMOOTH: the outermost pixels stay; images with a side below three stay whole.
    """
    x = as_float(x)
    if min(x.shape[-2:]) < 3:
        return x
    inner = x[:, :, 1:-1, 1:-1]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    smooth = rows[..., :-2] + rows[..., 1:-1]
    smooth.add_(rows[..., 2:]).add_(inner, alpha=4).mul_(1 / 13)
    out = x.clone()
    out[:, :, 1:-1, 1:-1] = torch.lerp(smooth, inner, each(factor))
    return out.clamp_(0, 1)
