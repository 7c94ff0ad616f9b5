"""One image file to pixels of a given size: whatever Pillow reads, of any mode. Imports no torch."""

from __future__ import annotations

import io
import re
import struct
import warnings
from pathlib import Path

import PIL
from PIL import ExifTags, Image

VERSION = f"1, Pillow {PIL.__version__}"  # what is decoded by another one is not used again
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
DIGEST_BYTES = 16  # files are known by BLAKE2 of their bytes
ON_THEIR_SIDE = (5, 6, 7, 8)

Shape = tuple[int, int, int]  # channels (1 grey, 3 RGB), height, width

_formats: list[str] = []


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


def look(path: Path) -> tuple[bool, int, int] | None:
    """Whether a file is grey, its height and its width as it is shown; None where it cannot be read."""
    try:
        with quietly(), Image.open(path, formats=formats()) as image:
            width, height = image.size
            if image.format != "TIFF" and _orientation(image) in ON_THEIR_SIDE:  # Pillow turns TIFF itself
                width, height = height, width
            return image.mode in GREY_MODES or image.mode.startswith("I;16"), height, width
    except Exception:  # the decoders of Pillow meet broken files with any of them
        return None


def decode(content: bytes, shape: Shape) -> bytes:
    """The pixels of a file's first frame, C*H*W bytes.

    Turned as EXIF says; what is transparent on white; 16 bits scaled to 8; then the largest centred
    part of the wanted proportions, scaled with a triangle filter over all of its pixels.
    Raises whatever Pillow does for files that are broken, cut, or too large to be an honest image. Call
    it within ``quietly``.
    """
    channels, height, width = shape
    with Image.open(io.BytesIO(content), formats=formats()) as opened:
        side = 2 * max(height, width)
        if min(opened.size) >= 2 * side:
            opened.draft(None, (side, side))  # a JPEG in an eighth, a quarter or half of its size
        opened.load()
        orientation = _orientation(opened)
        image = _in_bytes(opened, "L" if channels == 1 else "RGB")
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


def _in_bytes(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode L or RGB, 8 bits a channel."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _scaled(image)
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")  # from which every mode has a way to grey
    return image if image.mode == mode else image.convert(mode)


def _scaled(image: Image.Image) -> Image.Image:
    """Numbers of more than 8 bits as grey values.

    16 bits, or whole numbers that fit in them, by 1/257; fractions from 0 to 1 by 255, from 0 to 255
    as they are; others from the smallest to the largest.
    """
    import numpy as np

    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite")
    low, high = values.min(), values.max()
    if image.mode != "F" and low >= 0 and high <= 65535:
        values = values / 257
    elif image.mode == "F" and low >= 0 and high <= 1:
        values = values * 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / (high - low)) if high > low else values * 0
    return Image.fromarray(np.rint(values).astype(np.uint8))
