"""The views of published methods, as ready augmentations."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .colour import random_greyscale, random_jitter
from .geometry import random_affine, random_cutout, random_flip
from .policy import Augmentation, Operation, Sometimes
from .randaugment import MOST, SCAN, rand_augment
from .resampling import random_blur, random_crop, random_window


def simclr_view(
    size: tuple[int, int] | None = None, blur: float = 0.5, dtype: torch.dtype = torch.float32
) -> Augmentation:
    """Crop 0.2..1, flip, colour jitter, grey and blur with probability `blur` (Chen et al., 2020, app. A).

    Jitter of 0.4, 0.4, 0.4, 0.1 at p = 0.8 and the crop's least area 0.2 are the numbers for small images
    that SCAN and CC use. size: that of the views, (H, W); without one, that of the images.
    """
    return random_view(crop=0.2, flip=True, jitter=0.4, grey=0.2, blur=blur, size=size, dtype=dtype)


def random_view(
    *,
    shift: float = 0.0,
    rotation: float = 0.0,
    zoom: float = 0.0,
    crop: float = 1.0,
    flip: bool = False,
    jitter: float = 0.0,
    grey: float = 0.0,
    blur: float = 0.0,
    size: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Augmentation:
    """The distortions that are asked for, in SimCLR's order, of images with any number of channels.

    shift: up to this share of a side. rotation: up to this many degrees. zoom: larger or smaller by up to
    this share. crop: of at least this share of the area, 1: none. flip: left and right in half of them.
    jitter: brightness, contrast and saturation by up to this, hue up to a quarter of it, in 4 of 5.
    grey, blur: the shares without colour and blurred. size: that of the crops.
    """
    operations: list[Operation] = []
    if shift or rotation or zoom:
        scale = (1 - zoom, 1 + zoom)
        operations.append(partial(random_affine, shift=shift, rotation=rotation, scale=scale))
    if crop < 1:
        operations.append(partial(random_crop, scale=(crop, 1.0), size=size))
    if flip:
        operations.append(random_flip)
    if jitter:
        much: dict[str, Any] = dict.fromkeys(("brightness", "contrast", "saturation"), jitter)
        operations.append(Sometimes(0.8, partial(random_jitter, **much, hue=jitter / 4)))
    if grey:
        operations.append(partial(random_greyscale, p=grey))
    if blur:
        operations.append(Sometimes(blur, random_blur))
    return Augmentation(tuple(operations), dtype)


def scan_strong_view(
    size: tuple[int, int] | None = None,
    cutout: int = 16,
    flip: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Augmentation:
    """Flip, a window of size (H, W) if given, four operations of RandAugment, a square cut out.

    The strong view of self-labelling (Van Gansbeke et al., 2020, section 3), with the ranges of its authors:
    any magnitude; the square's side from 1 pixel to `cutout`. Theirs takes nearest pixels, ours are bilinear.
    """
    strong = partial(rand_augment, operations=4, magnitude=(0.0, MOST), ranges=SCAN)
    square = partial(random_cutout, size=(1, cutout))
    first: list[Operation] = [random_flip] if flip else []
    if size is not None:
        first.append(partial(random_window, size=size))
    return Augmentation((*first, strong, square), dtype)
