"""The views that SCAN looks through: none, the encoder's own, or strong distortions."""

from __future__ import annotations

from functools import partial
from typing import Literal

from ...core import Augmentation, Augments, Data, Encoder, InvalidSetting
from ...core.augmentation import rand_augment, random_cutout, random_flip
from ...core.augmentation.randaugment import MOST, SCAN
from .sample import View

ViewName = Literal["auto", "none", "encoder", "strong"]


def choose_view(name: ViewName, encoder: Encoder, data: Data, flip: bool, setting: str) -> View | None:
    """The view of that name; auto: the encoder's, where it has one.

    setting: where the name was given, for messages.
    Raises InvalidSetting for a view that these data or this encoder cannot have.
    """
    if name == "none" or (name == "auto" and not isinstance(encoder, Augments)):
        return None
    if name == "strong":
        if len(data.shape) != 3:
            raise InvalidSetting(
                f"{setting}=strong distorts images, and a sample of these data has the shape {data.shape}; "
                f"say -s {setting}=none."
            )
        return strong_view(min(data.shape[1:]), flip)
    if not isinstance(encoder, Augments):
        raise InvalidSetting(
            f"{setting}=encoder takes the encoder's augment(x), which {type(encoder).__name__} has not; "
            f"say -s {setting}=none, or strong for images."
        )
    return encoder.augment


def strong_view(side: int, flip: bool) -> View:
    """Four operations of RandAugment at any magnitude and a square of up to half a side cut out.

    Van Gansbeke et al. 2020, section 3 and supplement; flip: left and right exchanged in half of them.
    """
    strong = partial(rand_augment, operations=4, magnitude=(0.0, MOST), ranges=SCAN)
    square = partial(random_cutout, size=(1, max(1, side // 2)))
    return Augmentation((random_flip, strong, square) if flip else (strong, square))


def weak_view(flip: bool) -> View:
    """The sample, or left and right exchanged in half of them."""
    return Augmentation((random_flip,) if flip else ())
