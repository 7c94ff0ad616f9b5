"""Samples as small pictures inside the page."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...core import Data
from ...core.data.items import Items
from ...core.words import counted

SIDE = 112  # pixels of the longer side at most: twice what the page shows, for fine screens
PNG_SIDE = 48  # up to here a PNG, which is exact; above a JPEG, which is smaller
LOOKED_AT = 256  # samples that tell the range of the values
BATCH_VALUES = 2**22


class Pictures:
    """Pictures of the samples of ``data``, each made once; samples of shape (C, H, W) have one.

    Values outside of 0 to 1 are scaled between their 0.5th and 99.5th percentiles, the same for all.
    notes: what was done to the values, in words.
    """

    def __init__(self, data: Data, seed: int) -> None:
        self.data = data
        self.there = len(data.shape) == 3
        self.notes: list[str] = []
        self.low, self.high = 0.0, 1.0
        self._made: dict[int, str] = {}
        if not self.there:
            return
        channels, height, width = data.shape
        self.pixelated = max(height, width) <= PNG_SIDE
        if channels not in (1, 3):
            self.notes.append(f"Pictures show the mean of the {channels} channels.")
        self._find_range(seed)

    def _find_range(self, seed: int) -> None:
        n = min(LOOKED_AT, max(1, BATCH_VALUES // math.prod(self.data.shape)), len(self.data))
        index = np.sort(np.random.default_rng(seed).choice(len(self.data), n, replace=False))
        x = self.data.batch(torch.from_numpy(index)).cpu().numpy()
        if x.min() >= -1e-3 and x.max() <= 1 + 1e-3:
            return
        self.low, self.high = (float(v) for v in np.percentile(x, [0.5, 99.5]))
        if self.high <= self.low:
            self.low, self.high = float(x.min()), max(float(x.max()), float(x.min()) + 1e-9)
        self.notes.append(f"Pictures show values from {self.low:.3g} (black) to {self.high:.3g} (white).")

    def make(self, index: np.ndarray) -> None:
        """Encode the samples at ``index``, those that are new, in batches of bounded size."""
        new = np.array(sorted(set(index.tolist()) - self._made.keys()), dtype=np.int64)
        step = max(1, BATCH_VALUES // math.prod(self.data.shape))
        for start in range(0, len(new), step):
            some = new[start : start + step]
            x = self.data.batch(torch.from_numpy(some))
            self._made.update(zip(some.tolist(), map(self.encode, x), strict=True))

    def __getitem__(self, index: int) -> str:
        return self._made[index]

    def __len__(self) -> int:
        return len(self._made)

    def encode(self, x: Tensor) -> str:
        """A sample (C, H, W) as a data URI."""
        return _uri(self._image(x, SIDE), exact=max(x.shape[1:]) <= PNG_SIDE)

    def pixels(self, x: Tensor, side: int) -> np.ndarray:
        """A sample (C, H, W) as bytes, its longer side at most ``side``.  # (h, w) or (h, w, 3)"""
        return np.asarray(self._image(x, side))

    def _image(self, x: Tensor, side: int) -> Image.Image:
        values = (x.float().cpu().numpy() - self.low) / (self.high - self.low)
        if len(values) not in (1, 3):
            values = values.mean(axis=0, keepdims=True)
        grey = np.nan_to_num(values * 255).round().clip(0, 255).astype(np.uint8)
        image = Image.fromarray(grey[0] if len(grey) == 1 else grey.transpose(1, 2, 0))
        longest = max(image.size)
        if longest <= side:
            return image
        width, height = (max(1, round(s * side / longest)) for s in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)


class Thumbnails:
    """Pictures of rows from the files that their items name, of those that can be read, each made once.

    As ``Pictures`` to those that show samples. notes: how many files could not be read.
    """

    there, pixelated = True, False

    def __init__(self, items: Items) -> None:
        self.items = items
        self._made: dict[int, str | None] = {}

    def make(self, index: np.ndarray) -> None:
        """Read the files of the samples at ``index``, those that are new."""
        for i in sorted({*index.tolist()} - self._made.keys()):
            self._made[i] = self._read(i)

    def __getitem__(self, index: int) -> str | None:
        return self._made[index]

    @property
    def notes(self) -> list[str]:
        """Sentences on what is not shown."""
        assert self.items.paths is not None
        lost = sum(uri is None and bool(self.items.paths[i]) for i, uri in self._made.items())
        return [f"{counted(lost, 'picture')} could not be read."] if lost else []

    def _read(self, i: int) -> str | None:
        assert self.items.paths is not None
        if not self.items.paths[i]:
            return None
        try:
            with Image.open(self.items.root / self.items.paths[i]) as file:
                file.draft("RGB", (2 * SIDE, 2 * SIDE))  # of a JPEG fewer pixels are decoded
                image = ImageOps.exif_transpose(file)
                image = image.convert("L" if image.mode in ("1", "L") else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # all that Pillow raises
            return None
        exact = max(image.size) <= PNG_SIDE
        image.thumbnail((SIDE, SIDE))
        return _uri(image, exact=exact)


def _uri(image: Image.Image, *, exact: bool) -> str:
    """A picture as a data URI."""
    file, kind = io.BytesIO(), "png" if exact else "jpeg"
    image.save(file, kind, **({"optimize": True} if exact else {"quality": 85}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
