"""A folder of images as samples: their size and channels, what is left out, their classes."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from ...core import (
    Data,
    Dataset,
    InvalidData,
    InvalidSetting,
    Mapped,
    Place,
    Preparation,
    Truth,
    setting,
    tensor_over,
    truth_of,
)
from . import cache, decoding
from .index import DECODED
from .listing import Listing, list_images, shown

SAMPLED = 256  # files that are looked at for their size and channels
LARGEST_AS_IS = 128  # the longest side that images keep when nobody names a size
USUAL_SIZE = (64, 64)
LARGEST = 4096


@dataclass(frozen=True)
class ImagesConfig:
    path: str = setting("", "the folder; --data PATH sets it")
    image_size: int | str = setting(
        "auto",
        "N, HxW, or auto: the images' own where a sample of 256 agrees on one of at most 128, else 64",
    )
    channels: Literal["auto", 1, 3] = setting("auto", "1: grey, 3: RGB, auto: grey where a sample of 256 is")
    labels: Literal["none", "folders"] = setting(
        "none", "true classes, for scores alone; folders: the first folder of each image's path"
    )
    max_skipped: float = setting(0.1, "share of the images that may be unreadable", low=0, high=1)


class Images(Dataset):
    """Images in a folder and the folders below it, (N, C, H, W) uint8 in the order of their names.

    Decoded once into a memory-mapped file in the cache.
    """

    Config: ClassVar[type[ImagesConfig]] = ImagesConfig

    def load(self, place: Place) -> Data:
        """The images at the size and with the channels that the settings say."""
        size = _size(self.config.image_size)
        root, listing = self._list(place)
        channels = None if self.config.channels == "auto" else self.config.channels
        if size is None or channels is None:
            step = max(1, len(listing.names) / SAMPLED)
            sample = sorted({int(i * step) for i in range(min(SAMPLED, len(listing.names)))})
            heads = [h for i in sample if (h := decoding.look(root / listing.names[i])) is not None]
            size = size or _common_size({(height, width) for _, height, width in heads})
            channels = channels or (1 if heads and all(grey for grey, _, _ in heads) else 3)
        return self._open(place, root, listing, (channels, *size))

    def load_like(self, place: Place, preparation: Preparation) -> Data:
        """The images at the size and with the channels of a model's, whatever the settings say."""
        shape = preparation.shape
        root, listing = self._list(place)
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
        return self._open(place, root, listing, (shape[0], shape[1], shape[2]))

    def _list(self, place: Place) -> tuple[Path, Listing]:
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
        if others and not place.quiet:
            print(f"  ignored in '{shown(str(root))}': {others}", file=sys.stderr)
        return root, listing

    def _open(self, place: Place, root: Path, listing: Listing, shape: decoding.Shape) -> Data:
        with cache.opened(root, listing, shape, place.cache, quiet=place.quiet) as (index, pixels):
            decoded = index.states == DECODED
            n, where = int(decoded.sum()), f"'{shown(str(root))}'"
            skipped = [(shown(index.names[i]), index.reasons[i]) for i in np.flatnonzero(~decoded).tolist()]
            _check_skipped(skipped, len(decoded), self.config.max_skipped, where)
            array = np.memmap(pixels, np.uint8, "r", shape=(n, *shape))
            mapped, x = Mapped(array), tensor_over(array)
        files = [shown(name) for name, good in zip(index.names, decoded.tolist(), strict=True) if good]
        kind = "grey" if shape[0] == 1 else "RGB"
        lost = f", {len(skipped)} unreadable left out" if skipped else ""
        return Data(
            x,
            f"{shown(root.name) or root}, {n} {kind} images of {shape[1]}x{shape[2]}{lost}",
            files=files,
            root=root,
            skipped=skipped,
            mapped=mapped,
            revealed=_classes(files, where) if self.config.labels == "folders" else None,
        )


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
        f"{len(skipped)} of {total} images in {where} cannot be read ({len(skipped) / total:.0%}, where "
        f"{allowed:.0%} may be left out): {first}{'; ...' if len(skipped) > 3 else ''}. "
        f"Repair or remove them{more}."
    )


def _classes(files: Sequence[str], where: str) -> Truth:
    """The first folder of each path; files that are in none have no class."""
    folders = [name.partition("/")[0] if "/" in name else None for name in files]
    names = sorted({folder for folder in folders if folder is not None})
    if not names:
        raise InvalidData(
            f"labels were asked for from folders, but all images lie directly in {where}; put each "
            "class into a folder of its own, or leave --labels out."
        )
    codes = {name: code for code, name in enumerate(names)}
    return truth_of(np.array([-1 if f is None else codes[f] for f in folders]), names)
