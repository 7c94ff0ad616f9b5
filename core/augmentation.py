"""Random distortions of images: batched, one draw for each sample, on the device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_affine(x: Tensor, shift: float, rotation: float) -> Tensor:
    """Each image (B, C, H, W) shifted and turned about its middle, bilinear, zeros from outside.

    shift: the most a side, as a share of the side. rotation: the most either way, in degrees. Both
    uniform; from the global generator of x's device.
    """
    n, device = len(x), x.device
    angle = (torch.rand(n, device=device) * 2 - 1) * math.radians(rotation)
    moved = (torch.rand(n, 2, device=device) * 2 - 1) * 2 * shift
    height, width = x.shape[-2:]
    cos, sin = angle.cos(), angle.sin()
    rows = (cos, -sin * height / width, moved[:, 0], sin * width / height, cos, moved[:, 1])
    theta = torch.stack(rows, 1).view(n, 2, 3)
    with torch.autocast(device.type, enabled=False):
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
