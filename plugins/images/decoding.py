"""One image file to pixels of a given size: whatever Pillow reads, of any mode. Imports no torch."""

from __future__ import annotations

import io
import re
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import PIL
from PIL import ExifTags, Image

if TYPE_CHECKING:
    import numpy as np  # as it runs only where a file needs it

VERSION = f"2, Pillow {PIL.__version__}"  # what is decoded by another one is not used again
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}  # not decoded by Pillow itself
FIRST = ("JPEG", "PNG")  # tried first, because they are what most files are
GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WIDE = {"I": "32-bit", "F": "fractional"}  # modes of more than 8 bits a value, "I;16" and its kin apart
SAMPLED_SIDE = 128  # rows and columns of an image whose values are looked at
FAR, FAR_SHARE = 1e6, 0.1  # times as large as usual values, in a share of a file: it is on another scale
DIGEST_BYTES = 16  # files are known by BLAKE2 of their bytes
ON_THEIR_SIDE = (5, 6, 7, 8)

Shape = tuple[int, int, int]  # channels (1 grey, 3 RGB), height, width

_formats: list[str] = []


class Scale(NamedTuple):
    """The values of a folder's files that become black and white; those outside are clipped.

    It holds for files of more than 8 bits a value, and for all where ``bytes_too``.
    """

    low: float
    high: float
    bytes_too: bool = False


class Head(NamedTuple):
    """What the beginning of a file says: its size as it is shown; kind is empty for bytes."""

    grey: bool
    height: int
    width: int
    kind: str


def formats() -> list[str]:
    """The names of the formats that are read."""
    if not _formats:
        Image.init()
        _formats.extend([*FIRST, *sorted(set(Image.OPEN) - NO_PICTURES - set(FIRST))])
    return _formats


def endings() -> frozenset[str]:
    """The endings of the files that are read, in lower case with their dot."""
    known = set(formats())
    return frozenset(e.lower() for e, name in Image.registered_extensions().items() if name in known)


def look(path: Path) -> Head | None:
    """The head of a file; None where it cannot be read."""
    try:
        with quietly(), Image.open(path, formats=formats()) as image:
            width, height = image.size
            if image.format != "TIFF" and _orientation(image) in ON_THEIR_SIDE:  # Pillow turns TIFF itself
                width, height = height, width
            kind = _kind(image.mode)
            return Head(image.mode in GREY_MODES or bool(kind), height, width, kind)
    except Exception:  # the decoders of Pillow meet broken files with any of them
        return None


def wide_values(path: Path) -> np.ndarray | None:
    """At most 128 x 128 values, evenly spaced, of a file of more than 8 bits a value, as float64.

    None where it cannot be decoded.
    """
    try:
        with quietly(), Image.open(path, formats=formats()) as image:
            values = _numbers(image)
    except Exception:  # as above
        return None
    rows, columns = (-(-side // SAMPLED_SIDE) for side in values.shape)
    return values[::rows, ::columns].reshape(-1)


def decode(content: bytes, shape: Shape, scale: Scale | None = None) -> bytes:
    """The pixels of a file's first frame, C*H*W bytes.

    Turned as EXIF says; what is transparent on white; values brought to bytes by ``scale``; then the
    largest centred part of the wanted proportions, scaled with a triangle filter over all of its pixels.
    Raises ValueError for a file of more than 8 bits a value where there is no scale, and whatever Pillow
    does for files that are broken, cut, or too large to be an honest image. Call it within ``quietly``.
    """
    channels, height, width = shape
    with Image.open(io.BytesIO(content), formats=formats()) as opened:
        side = 2 * max(height, width)
        if min(opened.size) >= 2 * side:
            opened.draft(None, (side, side))  # a JPEG in an eighth, a quarter or half of its size
        opened.load()
        orientation = _orientation(opened)
        image = _in_bytes(opened, "L" if channels == 1 else "RGB", scale)
    turned = (height, width) if orientation in ON_THEIR_SIDE else (width, height)
    if image.size != turned:
        image = image.resize(turned, Image.Resampling.BILINEAR, _centred(image.size, turned), 2.0)
    if orientation in TURNS:
        image = image.transpose(TURNS[orientation])
    pixels = image.tobytes()
    return pixels if channels == 1 else pixels[0::3] + pixels[1::3] + pixels[2::3]


def explain(error: Exception) -> str:
    """One line of why a file could not be decoded, the same at each try."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "no image in a format that Pillow reads"
    if isinstance(error, Image.DecompressionBombError):
        return "so many pixels that it may be meant to fill the memory"
    text = re.sub(r"\b0x[0-9a-fA-F]{6,}", "...", " ".join(str(error).split()))
    if isinstance(error, (OSError, SyntaxError, ValueError)) and text and not isinstance(error, struct.error):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def quietly() -> warnings.catch_warnings[None]:
    """Without Pillow's warnings: a file is either decoded or named with the reason."""
    return warnings.catch_warnings(action="ignore")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none or EXIF is broken."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return found if found in TURNS else 1


def _centred(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred box of the proportions ``wanted``, both (width, height)."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = max(0.0, (size[0] - width) / 2), max(0.0, (size[1] - height) / 2)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _kind(mode: str) -> str:
    """What a mode's values are, empty for bytes."""
    return "16-bit" if mode.startswith("I;16") else WIDE.get(mode, "")


def _in_bytes(image: Image.Image, mode: str, scale: Scale | None) -> Image.Image:
    """The image in mode L or RGB, 8 bits a channel."""
    wide = bool(_kind(image.mode))
    if wide:
        image = _scaled(image, scale)
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")  # from which every mode has a way to grey
    image = image if image.mode == mode else image.convert(mode)
    if scale is not None and scale.bytes_too and not wide:
        step = 255 / (scale.high - scale.low)
        table = [round(min(max((value - scale.low) * step, 0), 255)) for value in range(256)]
        image = image.point(table * len(image.getbands()))
    return image


def _scaled(image: Image.Image, scale: Scale | None) -> Image.Image:
    """Numbers of more than 8 bits as grey values."""
    import numpy as np

    values = _numbers(image)
    if scale is None:
        raise ValueError(
            "values of more than 8 bits, where all files that were looked at have bytes; "
            "-s data.range=LOW..HIGH takes both, such as 0..65535"
        )
    usual = max(abs(scale.low), abs(scale.high))
    if is_far(values, usual):
        raise ValueError(
            f"values up to {np.abs(values).max():g}, where those of the other files go to about {usual:g}"
        )
    values = np.clip((values - scale.low) * (255 / (scale.high - scale.low)), 0, 255)
    return Image.fromarray(np.rint(values).astype(np.uint8))


def is_far(values: np.ndarray, usual: float) -> bool:
    """Whether a tenth of a file's values or more are a million times as large as usual ones, on no scale with
    them."""
    import numpy as np

    return bool((np.abs(values) > FAR * usual).mean() >= FAR_SHARE)


def _numbers(image: Image.Image) -> np.ndarray:
    """The values of an image of one channel, float64.  # (H, W)"""
    import numpy as np

    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite")
    return values
