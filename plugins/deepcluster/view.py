"""Views of images: what is distorted before the network is asked for the clean image's cluster."""

from __future__ import annotations

from functools import partial

from ...core import Augmentation, Data, InvalidData, InvalidSetting, Sometimes
from ...core.augmentation import Operation, random_crop, random_flip, random_greyscale, random_jitter


def view(crop: float, flip: bool, jitter: float, grey: float) -> Augmentation | None:
    """The distortions asked for, or None where nothing is.

    crop: the least share of an image's area that a crop keeps; 1: no crop. flip: left and right exchanged
    in half of the images. jitter: brightness, contrast and saturation up to this, hue up to a quarter of
    it, in 4 of 5 images (Chen et al. 2020, appendix A). grey: the share of images without colour.
    """
    operations: list[Operation] = []
    if crop < 1:
        operations.append(partial(random_crop, scale=(crop, 1.0)))
    if flip:
        operations.append(random_flip)
    if jitter:
        strengths = {"brightness": jitter, "contrast": jitter, "saturation": jitter, "hue": jitter / 4}
        operations.append(Sometimes(0.8, partial(random_jitter, **strengths)))
    if grey:
        operations.append(partial(random_greyscale, p=grey))
    return Augmentation(tuple(operations)) if operations else None


def check_images(data: Data) -> None:
    """Raise InvalidSetting for samples that have no views, InvalidData for values that no image has."""
    if len(data.shape) != 3:
        raise InvalidSetting(
            "clusterer.crop, flip, jitter and grey make views of images (C, H, W), but a sample has shape "
            f"{data.shape}; leave them at 1, false, 0 and 0."
        )
    if data.x.is_floating_point():
        low, high = (float(v) for v in data.x.aminmax())
        if low < 0 or high > 1:
            raise InvalidData(
                f"{data.description}: the values go from {low:g} to {high:g}, but clusterer.crop, flip, "
                "jitter and grey take images from 0 to 1; leave them at 1, false, 0 and 0."
            )
