"""A folder of images as samples: their size and channels, what is left out, their classes."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ...core import (
    Data,
    Dataset,
    InvalidData,
    InvalidSetting,
    Mapped,
    Preparation,
    Storage,
    setting,
    tensor_over,
)
from ...core.words import counted
from . import cache, decoding, remark
from .classes import classes, split_hint
from .decoding import Head, Scale
from .index import DECODED
from .listing import Listing, any_image, list_images, shown
from .survey import Survey, look_at, survey

LARGEST_AS_IS = 128  # the longest side that images keep when nobody names a size
USUAL_SIZE = (64, 64)
LARGEST = 4096


@dataclass(frozen=True)
class ImagesConfig:
    path: str = setting("", "the folder; --data PATH sets it")
    image_size: int | str = setting(
        "auto",
        "N, HxW, or auto: the images' own where a sample of 256 agrees on one of at most 128, else 64",
        training=True,
    )
    channels: Literal["auto", 1, 3] = setting(
        "auto", "1: grey, 3: RGB, auto: grey where a sample of 256 is", training=True
    )
    range: str = setting(
        "auto",
        "LOW..HIGH: the values that become black and white; auto: bytes stay, others go by a sample of 256",
        inherited=False,
    )
    labels: Literal["none", "folders", "parent"] = setting(
        "none",
        "true classes, for scores alone; folders: the first folder of each image's path, "
        "parent: the one that directly holds it",
        inherited=False,
    )
    max_skipped: float = setting(
        0.1, "share of the images that may be unreadable", low=0, high=1, inherited=False
    )


class Images(Dataset):
    """Images in a folder and the folders below it, (N, C, H, W) uint8 in the order of their names.

    Decoded once into a memory-mapped file in the cache.
    """

    Config: ClassVar[type[ImagesConfig]] = ImagesConfig

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether images are among the first files in the folder and below."""
        return any_image(path, decoding.endings())

    def load(self, storage: Storage) -> Data:
        """The images at the size, with the channels and on the scale that the settings say."""
        size, by_hand = _size(self.config.image_size), _range(self.config.range)
        root, listing = self._list(storage)
        heads = _looking(root, listing)
        channels = None if self.config.channels == "auto" else self.config.channels
        if size is None or channels is None:
            size = size or _common_size({(head.height, head.width) for head in heads().values()})
            grey = [head.grey for head in heads().values()]
            channels = channels or (1 if grey and all(grey) else 3)
        scale = None if by_hand is None else _for_all(by_hand, heads())
        data, scale, found = self._open(storage, root, listing, (channels, *size), scale, heads)
        said = remark.of_range(found, scale, said_by="as data.range says" if by_hand else "")
        notices = [
            *data.notices,
            *remark.of_levels(data.x.numpy(), found, scale, by_hand=by_hand is not None),
        ]
        if by_hand is not None:
            notices += remark.of_clipping(data.x.numpy(), found, scale)
        if scale is None:
            return replace(data, notices=notices)
        prepared = Preparation(
            data.shape,
            "uint8",
            source=(scale.low, scale.high),
            bytes_too=scale.bytes_too,
            held=found.bulk if found.quantiles else None,
        )
        return replace(data, said=said, notices=notices, prepared=prepared)

    def load_like(self, storage: Storage, preparation: Preparation) -> Data:
        """The images at the size, with the channels and on the scale of a model's.

        Of the settings only a range counts, for new files with values on another scale.
        """
        shape, by_hand = preparation.shape, _range(self.config.range)
        root, listing = self._list(storage)
        if len(shape) != 3 or shape[0] not in (1, 3) or preparation.mean is not None:
            raise InvalidData(
                f"'{shown(str(root))}' is a folder of images, but the run was trained on samples of shape "
                f"{shape}, which images cannot be made into; give data of the kind that it was trained on."
            )
        if preparation.dtype != "uint8":
            raise InvalidData(
                f"'{shown(str(root))}' is a folder of images, but the run was trained on numbers of type "
                f"{preparation.dtype}, whose scale images do not tell; save them on it as a .npy file."
            )
        heads, scale, said_by = _looking(root, listing), None, ""
        if by_hand is not None:
            scale, said_by = _for_all(by_hand, heads()), "as data.range says"
        elif preparation.source is not None:
            scale, said_by = Scale(*preparation.source, bytes_too=preparation.bytes_too), "as in training"
        data, scale, found = self._open(storage, root, listing, (shape[0], shape[1], shape[2]), scale, heads)
        notices = list(data.notices)
        if by_hand is None:
            notices += remark.of_training(found, scale, preparation.source, preparation.held)
        said = remark.of_range(found, scale, said_by=said_by)
        return replace(data, said=said, notices=notices, prepared=preparation)

    def _list(self, storage: Storage) -> tuple[Path, Listing]:
        if not self.config.path:
            raise InvalidData("the data set 'images' needs a folder: give its path as --data.")
        root = Path(self.config.path).expanduser().resolve()
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise InvalidData(f"'{shown(str(root))}' {what}; a folder of images is needed.")
        endings = decoding.endings()
        try:
            listing = list_images(root, endings)
        except OSError as error:
            where = shown(str(error.filename or root))
            raise InvalidData(f"the folder '{where}' cannot be read: {error.strerror}.") from error
        others = _counted(listing.others)
        if not listing.names:
            raise InvalidData(
                f"there are no images in '{shown(str(root))}' or below: {others or 'no files at all'}; "
                f"looked for .jpg, .png, .webp, .tif and {len(endings) - 4} other endings that Pillow reads."
            )
        if others and not storage.quiet:
            print(f"  ignored in '{shown(str(root))}': {others}", file=sys.stderr)
        return root, listing

    def _open(
        self,
        storage: Storage,
        root: Path,
        listing: Listing,
        shape: decoding.Shape,
        scale: Scale | None,
        heads: Callable[[], dict[str, Head]],
    ) -> tuple[Data, Scale | None, Survey]:
        """The images, the scale that they are on, and what a sample of the files holds."""

        def look() -> Survey:
            return survey(root, heads(), quiet=storage.quiet)

        with cache.opened(root, listing, shape, scale, look, storage.cache, quiet=storage.quiet) as (
            index,
            pixels,
        ):
            decoded = index.states == DECODED
            n, where = int(decoded.sum()), f"'{shown(str(root))}'"
            skipped = [(shown(index.names[i]), index.reasons[i]) for i in np.flatnonzero(~decoded).tolist()]
            _check_skipped(skipped, len(decoded), self.config.max_skipped, where)
            array = np.memmap(pixels, np.uint8, "r", shape=(n, *shape))
            mapped, x = Mapped(array), tensor_over(array)
        files = [shown(name) for name, good in zip(index.names, decoded.tolist(), strict=True) if good]
        labels = self.config.labels
        hint = split_hint(files) if labels == "folders" else None
        kind = "grey" if shape[0] == 1 else "RGB"
        lost = f", {len(skipped)} unreadable left out" if skipped else ""
        data = Data(
            x,
            f"{shown(root.name) or root}, {counted(n, f'{kind} image')} of {shape[1]}x{shape[2]}{lost}",
            files=files,
            root=root,
            skipped=skipped,
            mapped=mapped,
            notices=[hint] if hint else [],
            revealed=classes(files, labels, where) if labels != "none" else None,
        )
        return data, index.scale, index.survey


def _looking(root: Path, listing: Listing) -> Callable[[], dict[str, Head]]:
    """Looks at the heads of a sample of the files when it is first called."""
    return once(lambda: look_at(root, listing.names))


def _range(asked: str) -> tuple[float, float] | None:
    """(low, high), None for auto."""
    if asked == "auto":
        return None
    number = r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    found = re.fullmatch(rf"\s*{number}\s*\.\.\s*{number}\s*", asked)
    if found:
        low, high = float(found[1]), float(found[2])
        if low < high and math.isfinite(high - low) and math.isfinite(255 / (high - low)):
            return low, high
    raise InvalidSetting(
        f"data.range is '{asked}', but it must be auto or LOW..HIGH, the values that become black and white, "
        "the lower one first, such as 0..4095 or -1000..3000."
    )


def _for_all(values: tuple[float, float], heads: Mapping[str, Head]) -> Scale:
    """A range that was given by hand: for bytes, too, where all files hold such and it lies within them."""
    low, high = values
    return Scale(low, high, bytes_too=low >= 0 and high <= 255 and not any(h.kind for h in heads.values()))


def _size(asked: int | str) -> tuple[int, int] | None:
    """(height, width), None for auto."""
    if asked == "auto":
        return None
    found = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", str(asked))
    if not found or not all(1 <= int(side) <= LARGEST for side in found.groups() if side):
        raise InvalidSetting(
            f"data.image_size is '{asked}', but it must be auto, a side such as 64, or HEIGHTxWIDTH such as "
            f"48x64, each from 1 to {LARGEST}."
        )
    return int(found[1]), int(found[2] or found[1])


def _common_size(sizes: set[tuple[int, int]]) -> tuple[int, int]:
    if len(sizes) == 1 and max(size := next(iter(sizes))) <= LARGEST_AS_IS:
        return size
    return USUAL_SIZE


def _counted(others: Counter[str]) -> str:
    """Such as ``5 other files (.txt 3, .csv 2)``."""
    if not others:
        return ""
    common = ", ".join(
        f"{shown(ending) or 'without ending'} {count}" for ending, count in others.most_common(5)
    )
    total = others.total()
    return f"{total} other {'file' if total == 1 else 'files'} ({common}{', ...' if len(others) > 5 else ''})"


def _check_skipped(skipped: Sequence[tuple[str, str]], total: int, allowed: float, where: str) -> None:
    """Raise InvalidData where too many images, or all of them, cannot be read."""
    if len(skipped) <= allowed * total and len(skipped) < total:
        return
    first = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    share = math.ceil(100 * len(skipped) / total) / 100
    more = f", or leave them out with -s data.max_skipped={share:g}" if len(skipped) < total else ""
    raise InvalidData(
        f"{len(skipped)} of {counted(total, 'image')} in {where} cannot be read ({len(skipped) / total:.0%}, "
        f"where {allowed:.0%} may be left out): {first}{'; ...' if len(skipped) > 3 else ''}. "
        f"Repair or remove them{more}."
    )
