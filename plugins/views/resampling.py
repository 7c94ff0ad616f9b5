"""Rows and columns mixed by a matrix for each sample: crops with a new size, and Gaussian blur.

Two batched products need no gather and give bilinear resampling with antialias. They have the precision of
float32 products: where TF32 or bfloat16 is allowed for those, pixels may be off by half a level of a byte.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from .draws import as_float, uniform


def _mix(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows (B, H', H) and columns (B, W', W) applied to (B, C, H, W)."""
    with torch.autocast(x.device.type, enabled=False):
        n, channels, height, width = x.shape
        across = torch.bmm(x.reshape(n, channels * height, width), columns.transpose(1, 2))
        wide = across.view(n, channels, height, columns.shape[1])
        return torch.matmul(rows.unsqueeze(1), wide)


def _resizing(start: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """(B, size, side): bilinear with antialias, within start..start + length (PIL's triangle filter)."""
    step = (length / size).view(-1, 1, 1)
    pixel = torch.arange(side, device=start.device) - start.view(-1, 1)
    inside = ((pixel >= 0) & (pixel < length.view(-1, 1))).float().unsqueeze(1)
    at = torch.arange(size, device=start.device).add(0.5).view(1, -1, 1) * step
    slope = step.clamp(min=1).reciprocal_()
    weight = (pixel.add_(0.5).unsqueeze(1) * slope - at * slope).abs_()
    weight = weight.neg_().add_(1).clamp_(min=0).mul_(inside)
    return weight.div_(weight.sum(2, keepdim=True))


def crop(x: Tensor, box: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """The box of each sample, (B, 4) whole pixels (top, left, height, width), at the size (H, W).

    Bilinear with antialias, as torchvision's resized_crop; without a size, at that of x.
    """
    x = as_float(x)
    height, width = x.shape[-2:]
    to_height, to_width = size or (height, width)
    top, left, tall, wide = box.float().unbind(1)
    rows, columns = _resizing(top, tall, height, to_height), _resizing(left, wide, width, to_width)
    return _mix(x, rows, columns)


def random_crop(
    x: Tensor,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    size: tuple[int, int] | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """A box of each image with a share of its area in `scale` and width / height in `ratio`, resized.

    As torchvision's RandomResizedCrop: the first of ten draws that fits, else the largest box in the
    middle within the ratios.
    """
    return crop(x, crop_boxes(x, scale, ratio, generator), size)


def crop_boxes(
    x: Tensor, scale: tuple[float, float], ratio: tuple[float, float], generator: Generator | None = None
) -> Tensor:
    """(B, 4) boxes as `random_crop` draws them."""
    height, width = x.shape[-2:]
    area = uniform(x, *scale, 10, generator=generator) * height * width
    aspect = uniform(x, math.log(ratio[0]), math.log(ratio[1]), 10, generator=generator).exp()
    wide, tall = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    first = fits.int().argmax(1, keepdim=True)
    found = fits.any(1)
    whole = width / height
    last_wide = round(height * ratio[1]) if whole > ratio[1] else width
    last_tall = round(width / ratio[0]) if whole < ratio[0] else height
    wide = wide.gather(1, first)[:, 0].masked_fill_(~found, last_wide)
    tall = tall.gather(1, first)[:, 0].masked_fill_(~found, last_tall)
    place = uniform(x, 0.0, 1.0, 2, generator=generator)
    top = (place[:, 0] * (height - tall + 1)).floor_().minimum(height - tall)
    left = (place[:, 1] * (width - wide + 1)).floor_().minimum(width - wide)
    top = torch.where(found, top, (height - tall).div(2, rounding_mode="floor"))
    left = torch.where(found, left, (width - wide).div(2, rounding_mode="floor"))
    return torch.stack((top, left, tall, wide), 1)


def random_window(x: Tensor, size: tuple[int, int], generator: Generator | None = None) -> Tensor:
    """A window of size (H, W), at most that of x, at a uniform place in each sample; pixels as they are."""
    free = [side - part for side, part in zip(x.shape[-2:], size, strict=True)]
    place = uniform(x, 0.0, 1.0, 2, generator=generator)
    start = [(place[:, axis] * (room + 1)).floor_().clamp_(max=room) for axis, room in enumerate(free)]
    sides = [torch.full_like(start[0], part) for part in size]
    return crop(x, torch.stack((*start, *sides), 1), size)


def _blurring(kernel: Tensor, side: int) -> Tensor:
    """(B, side, side): the kernel (B, K) at each place, what lies outside reflected at the edge pixel."""
    half = kernel.shape[1] // 2
    offset = torch.arange(-half, half + 1, device=kernel.device)
    source = torch.arange(side, device=kernel.device).view(1, -1) + offset.view(-1, 1)
    source = source.abs()
    source = torch.where(source > side - 1, 2 * (side - 1) - source, source)
    places = (source.unsqueeze(2) == torch.arange(side, device=kernel.device)).float()
    with torch.autocast(kernel.device.type, enabled=False):
        return (kernel @ places.flatten(1)).view(len(kernel), side, side)


def blur(x: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Gaussian blur, sigma (B,) in pixels, cut at an odd kernel_size, reflected at the edges.

    A kernel too large for an image is cut to the largest that its reflection can fill.
    """
    x = as_float(x)
    matrices = []
    for side in x.shape[-2:]:
        half = min(kernel_size // 2, side - 1)
        offset = torch.arange(-half, half + 1, device=x.device)
        kernel = torch.softmax(-0.5 * (offset / sigma.view(-1, 1)) ** 2, 1)
        matrices.append(_blurring(kernel, side))
    return _mix(x, matrices[0], matrices[1])


def random_blur(
    x: Tensor,
    sigma: tuple[float, float] = (0.1, 2.0),
    kernel_size: int | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Sigma uniform in the range; the kernel a tenth of the side, odd, at least 3 (SimCLR, appendix A)."""
    if kernel_size is None:
        kernel_size = max(3, int(0.1 * min(x.shape[-2:])) // 2 * 2 + 1)
    return blur(x, uniform(x, *sigma, generator=generator), kernel_size)
