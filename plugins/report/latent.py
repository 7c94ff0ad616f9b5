"""What a decoder makes of codes that no sample has: a grid of two-dimensional ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...core import Decodes, Encoder, evaluating
from .decoding import on_its_device
from .picture import Pictures

STEPS = 20  # codes along each axis
SHARE = 0.01  # of the codes beyond each end of the grid
SIDE = 48  # pixels of a decoded sample's longer side at most
LINE = 110  # the grey of a line of one pixel right of and below each


@dataclass(frozen=True)
class Grid:
    """Decoded codes in one picture; a row of it is one value of the second dimension, the largest on top.

    pixels: (H, W) or (H, W, 3) uint8. x, y: (STEPS,) values of the two dimensions, rising.
    """

    pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray


def decode_grid(encoder: Encoder, z: np.ndarray, pictures: Pictures) -> Grid | None:
    """Decoded codes between the 1 % and 99 % quantiles of the codes z (N, D) on each axis.

    None where codes have other than two dimensions or are all equal on an axis, where the encoder does
    not decode, and where samples are no pictures. Kingma & Welling 2014, figure 4.
    """
    if z.shape[1] != 2 or not pictures.there or not isinstance(encoder, Decodes):
        return None
    low, high = np.quantile(z.astype(np.float64), [SHARE, 1 - SHARE], axis=0)
    if not (high > low).all():
        return None
    x, y = (np.linspace(low[i], high[i], STEPS) for i in (0, 1))
    with evaluating(encoder):
        rows = []
        for value in y[::-1]:
            codes = np.column_stack([x, np.full(STEPS, value)]).astype(np.float32)
            made = encoder.decode(on_its_device(encoder, torch.from_numpy(codes)))
            rows.append(np.concatenate([_framed(pictures.pixels(one, SIDE)) for one in made], axis=1))
    return Grid(np.concatenate(rows), x, y)


def _framed(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, [(0, 1), (0, 1), (0, 0)][: pixels.ndim], constant_values=LINE)
