"""Random views of images: the distortions that a configuration asks for, one after another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ...core import Augmentation, Sometimes, random_affine
from ...core.augmentation import (
    Operation,
    random_blur,
    random_crop,
    random_flip,
    random_greyscale,
    random_jitter,
)

if TYPE_CHECKING:
    from .model import SimCLRConfig

JITTERED = 0.8  # share of the views whose colours change


def view_of(c: SimCLRConfig) -> Augmentation:
    """One random view of images with any number of channels (Chen et al. 2020, appendix A and B.9).

    At strength 0.5 the changes of brightness, contrast, saturation and hue are the paper's for small
    images, 0.4, 0.4, 0.4 and 0.1. Images without three channels have no saturation, hue or grey.
    """
    operations: list[Operation] = []
    if c.shift or c.rotation or c.zoom:
        scale = (1 - c.zoom, 1 + c.zoom)
        operations.append(partial(random_affine, shift=c.shift, rotation=c.rotation, scale=scale))
    if c.crop < 1:
        operations.append(partial(random_crop, scale=(c.crop, 1.0)))
    if c.flip:
        operations.append(random_flip)
    if c.jitter:
        much = 0.8 * c.jitter
        jitter = partial(random_jitter, brightness=much, contrast=much, saturation=much, hue=0.2 * c.jitter)
        operations.append(Sometimes(JITTERED, jitter))
    if c.grey:
        operations.append(partial(random_greyscale, p=c.grey))
    if c.blur:
        operations.append(Sometimes(c.blur, random_blur))
    return Augmentation(tuple(operations))
