"""Samples as small pictures inside the page."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core import Data

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
        image = self._image(x, SIDE)
        file = io.BytesIO()
        kind = "png" if max(x.shape[1:]) <= PNG_SIDE else "jpeg"
        image.save(file, kind, **({"optimize": True} if kind == "png" else {"quality": 85}))
        return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

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
