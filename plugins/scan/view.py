"""The views that SCAN looks through: none, the encoder's own, or strong distortions."""

from __future__ import annotations

from typing import Literal

from ...core import Augments, Data, Encoder, InvalidSetting, Views
from ..views import Augmentation, random_flip, scan_strong_view
from .sample import View

ViewName = Literal["auto", "none", "encoder", "strong"]


def choose_view(
    name: ViewName, encoder: Encoder, data: Data, flip: bool, setting: str, *, strong: bool = False
) -> View | None:
    """The view of that name; auto: the encoder's where it has one, or, if ``strong``, strong for images.

    The encoder's are those that it learned to give near codes, or else how it augments.

    setting: where the name was given, for messages.
    Raises InvalidSetting for a view that these data or this encoder cannot have.
    """
    if name == "auto" and strong and len(data.shape) == 3:
        name = "strong"
    if name == "none":
        return None
    if name == "strong":
        if len(data.shape) != 3:
            raise InvalidSetting(
                f"{setting}=strong distorts images, and a sample of these data has the shape {data.shape}; "
                f"say -s {setting}=none."
            )
        return scan_strong_view(cutout=max(1, min(data.shape[1:]) // 2), flip=flip)
    if isinstance(encoder, Views):
        return encoder.view
    if isinstance(encoder, Augments):
        return encoder.augment
    if name == "auto":
        return None
    raise InvalidSetting(
        f"{setting}=encoder takes the encoder's view(x) or augment(x), and {type(encoder).__name__} has "
        f"neither; say -s {setting}=none, or strong for images."
    )


def weak_view(flip: bool) -> View:
    """The sample, or left and right exchanged in half of them."""
    return Augmentation((random_flip,) if flip else ())
