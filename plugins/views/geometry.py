"""Where pixels come from: flips, affine maps, squares cut out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .draws import as_float, select, uniform


def flip(x: Tensor, flipped: Tensor) -> Tensor:
    """Left and right exchanged in the samples where `flipped` (B,) is true."""
    x = as_float(x)
    return select(flipped, x.flip(-1), x)


def random_flip(x: Tensor, p: float = 0.5, generator: Generator | None = None) -> Tensor:
    """Left and right exchanged in each sample with probability p."""
    return flip(x, uniform(x, 0.0, 1.0, generator=generator) < p)


def random_affine(
    x: Tensor,
    shift: float,
    rotation: float,
    scale: tuple[float, float] = (1.0, 1.0),
    padding: str = "zeros",
    generator: Generator | None = None,
) -> Tensor:
    """Each image (B, C, H, W) shifted, turned about its middle and scaled, bilinear.

    shift: the most a side, as a share of the side. rotation: the most either way, in degrees. scale:
    the range of how many times as large things become. All uniform; from the generator, or the global one
    of x's device. Outside are zeros, or with padding "border" the nearest pixel. Where nothing can
    change, nothing is drawn.
    """
    if not shift and not rotation and scale == (1.0, 1.0):
        return as_float(x)
    n, device = len(x), x.device
    source = device if generator is None else generator.device
    angle = (torch.rand(n, device=source, generator=generator) * 2 - 1) * math.radians(rotation)
    moved = (torch.rand(n, 2, device=source, generator=generator) * 2 - 1) * 2 * shift
    angle, moved = angle.to(device, non_blocking=True), moved.to(device, non_blocking=True)
    height, width = x.shape[-2:]
    cos, sin = angle.cos(), angle.sin()
    if scale != (1.0, 1.0):
        size = uniform(x, *scale, generator=generator)
        cos, sin = cos / size, sin / size
    rows = (cos, -sin * height / width, moved[:, 0], sin * width / height, cos, moved[:, 1])
    return _sample(x, torch.stack(rows, 1).view(n, 2, 3), padding)


def affine(
    x: Tensor,
    angle: Tensor,
    translate: Tensor,
    scale: Tensor,
    shear: Tensor,
    corner: Tensor | None = None,
    padding: str = "zeros",
) -> Tensor:
    """torchvision's affine, bilinear, with the numbers of each sample.

    angle (B,) in degrees, clockwise; translate (B, 2), right and down, in pixels; scale (B,); shear (B, 2)
    in degrees. About the middle, or about the top left corner where `corner` (B,) is true.
    """
    height, width = x.shape[-2:]
    turn, tan = torch.deg2rad(angle), torch.deg2rad(shear).tan()
    cos, sin = turn.cos(), turn.sin()
    # forwards: turn @ [[1, 0], [-tan y, 1]] @ [[1, -tan x], [0, 1]] * scale; its determinant is scale ** 2
    a, c = cos + sin * tan[:, 1], sin - cos * tan[:, 1]
    b, d = -sin - a * tan[:, 0], cos - c * tan[:, 0]
    a, b, c, d = (v / scale for v in (d, -b, -c, a))
    right, down = translate[:, 0], translate[:, 1]
    to_right, to_down = -(a * right + b * down), -(c * right + d * down)
    if corner is not None:  # the fixed point, seen from the middle
        away = corner.to(x.device, torch.float32)
        px, py = -width / 2 * away, -height / 2 * away
        to_right, to_down = to_right + px - a * px - b * py, to_down + py - c * px - d * py
    rows = (a, b * height / width, to_right * 2 / width, c * width / height, d, to_down * 2 / height)
    return _sample(x, torch.stack(rows, 1).view(-1, 2, 3), padding)


def _sample(x: Tensor, theta: Tensor, padding: str) -> Tensor:
    x = as_float(x)
    with torch.autocast(x.device.type, enabled=False):
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode=padding, align_corners=False)


def cutout(x: Tensor, middle: Tensor, size: Tensor, fill: str = "zeros") -> Tensor:
    """A square of size (B,) pixels a side set to zero, or with fill "mean" to the means of its channels.

    middle (B, 2): row and column of the pixel at (size // 2, size // 2) of the square; what lies outside
    the image is lost (DeVries and Taylor, 2017).
    """
    x = as_float(x)
    size = size.view(-1, 1)
    inside = []
    for axis, side in enumerate(x.shape[-2:]):
        offset = torch.arange(side, device=x.device) - middle[:, axis : axis + 1]
        offset = offset + size.div(2, rounding_mode="floor")
        inside.append(((offset >= 0) & (offset < size)).float())
    cut = (inside[0].unsqueeze(2) * inside[1].unsqueeze(1)).unsqueeze(1)
    if fill == "mean":
        return torch.lerp(x, x.mean((2, 3), keepdim=True), cut)
    return x * (1 - cut)


def random_cutout(
    x: Tensor, size: tuple[int, int], fill: str = "zeros", generator: Generator | None = None
) -> Tensor:
    """One square of each sample cut out, its side uniform in the range, its middle over the pixels."""
    sides = uniform(x, size[0], size[1] + 1, generator=generator).floor_().clamp_(max=size[1])
    place = uniform(x, 0.0, 1.0, 2, generator=generator)
    middle = [(place[:, axis] * side).floor_().clamp_(max=side - 1) for axis, side in enumerate(x.shape[-2:])]
    return cutout(x, torch.stack(middle, 1), sides, fill)
