"""The views of published methods, as ready augmentations."""

from __future__ import annotations

from functools import partial

import torch

from .colour import random_greyscale, random_jitter
from .geometry import random_cutout, random_flip
from .policy import Augmentation, Sometimes
from .randaugment import MOST, SCAN, rand_augment
from .resampling import random_blur, random_crop, random_window


def simclr_view(
    size: tuple[int, int] | None = None, blur: float = 0.5, dtype: torch.dtype = torch.float32
) -> Augmentation:
    """Crop 0.2..1, flip, colour jitter, grey and blur with probability `blur` (Chen et al., 2020, app. A).

    Jitter of 0.4, 0.4, 0.4, 0.1 at p = 0.8 and the crop's least area 0.2 are the numbers for small images
    that SCAN and CC use. size: that of the views, (H, W); without one, that of the images.
    """
    jitter = partial(random_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    crop = partial(random_crop, scale=(0.2, 1.0), size=size)
    operations = (crop, random_flip, Sometimes(0.8, jitter), partial(random_greyscale, p=0.2))
    return Augmentation((*operations, Sometimes(blur, random_blur)) if blur else operations, dtype)


def scan_strong_view(
    size: tuple[int, int] | None = None, cutout: int = 16, dtype: torch.dtype = torch.float32
) -> Augmentation:
    """Flip, a window of size (H, W) if given, four operations of RandAugment, a square cut out.

    The strong view of self-labelling (Van Gansbeke et al., 2020, section 3), with the ranges of its authors:
    any magnitude; the square's side from 1 pixel to `cutout`. Theirs takes nearest pixels, ours are bilinear.
    """
    strong = partial(rand_augment, operations=4, magnitude=(0.0, MOST), ranges=SCAN)
    square = partial(random_cutout, size=(1, cutout))
    if size is None:
        return Augmentation((random_flip, strong, square), dtype)
    return Augmentation((random_flip, partial(random_window, size=size), strong, square), dtype)
