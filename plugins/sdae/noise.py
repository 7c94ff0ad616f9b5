"""Masking noise, at the cost of one random byte a value."""

from __future__ import annotations

import torch
from torch import Tensor


def mask(x: Tensor, share: float) -> Tensor:
    """``x`` with a share of its values set to 0 and the rest scaled so that the mean stays.

    The share is rounded to a 256th. torch's dropout draws a float for each value, which on a CPU
    costs more than the layer that follows. Vincent et al. 2010, section 3.3; Srivastava et al. 2014.
    """
    threshold = round(256 * share)
    if threshold == 0:
        return x
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
    bits = words.random_(-(2**63), None).view(torch.uint8)[: x.numel()].view(x.shape)
    return x * ((bits >= threshold).to(x.dtype) * (256 / (256 - threshold)))
