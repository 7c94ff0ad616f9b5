"""Random distortions of images: batched, one draw for each sample, on the device.

Functions without `random_` take the numbers of each sample, (B,) unless they say otherwise; `random_`
functions draw them, from a generator or the global one of x's device, and apply. All take (B, C, H, W),
uint8 or floats in 0..1, and return float32 in 0..1. Definitions are those of torchvision.transforms.v2
for floats; where its uint8 rounds between steps, ours does not.

    Augmentation((random_flip, Sometimes(0.5, random_blur), partial(random_affine, shift=0.1, rotation=10.0)))
"""

from .colour import random_greyscale, random_jitter
from .geometry import random_affine, random_cutout, random_flip
from .noise import random_gaussian_noise, random_salt_and_pepper
from .policy import Augmentation, Operation, Sometimes
from .randaugment import rand_augment
from .resampling import random_blur, random_crop, random_window
from .views import random_view, scan_strong_view, simclr_view

__all__ = [
    "Augmentation",
    "Operation",
    "Sometimes",
    "rand_augment",
    "random_affine",
    "random_blur",
    "random_crop",
    "random_cutout",
    "random_flip",
    "random_gaussian_noise",
    "random_greyscale",
    "random_jitter",
    "random_salt_and_pepper",
    "random_view",
    "random_window",
    "scan_strong_view",
    "simclr_view",
]
