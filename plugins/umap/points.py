"""The samples as points among which neighbours are looked for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...core import Data

BLOCK_VALUES = 4 * 2**20  # values read at a time
PRODUCTS = 2**40  # of an exact search, above which samples are projected first: about 20 s of a core
COMPONENTS = 100  # principal components that they are projected on
ROUNDS = 4  # of the search for these


def centre_and_scale(data: Data) -> tuple[Tensor, Tensor]:
    """The mean of each value, and one factor that gives centred samples mean square 1.  # (*shape) and ()

    The factor is 1 where all samples are equal.
    """
    total = torch.zeros(data.x[0].numel(), dtype=torch.float64, device=data.device)
    for rows in _blocks(data):
        total += rows.sum(dim=0, dtype=torch.float64)
    mean = (total / len(data)).float()
    square = torch.zeros((), dtype=torch.float64, device=data.device)
    for rows in _blocks(data):
        square += (rows - mean).double().square().sum()
    deviation = (square / data.x.numel()).sqrt()
    return mean.view(data.shape), torch.where(deviation > 0, 1 / deviation, 1.0).float()


def points(data: Data, mean: Tensor, scale: Tensor, seed: int) -> Tensor:
    """All samples as the network sees them, flattened, float32 on the device.  # (N, D)

    Where N^2 D is above ``PRODUCTS``, their ``COMPONENTS`` principal components: nearly the same
    neighbours, as what is left out varies little.
    """
    width = mean.numel()
    axes = None
    if width > COMPONENTS and len(data) ** 2 * width > PRODUCTS:
        axes, width = _principal_axes(data, mean, scale, seed), COMPONENTS
    found = torch.empty(len(data), width, device=data.device)
    start = 0
    for rows in _centred(data, mean, scale):
        found[start : start + len(rows)] = rows if axes is None else rows @ axes
        start += len(rows)
    return found


def _principal_axes(data: Data, mean: Tensor, scale: Tensor, seed: int) -> Tensor:
    """An orthonormal basis (D, COMPONENTS) of where the samples vary most.

    By subspace iteration from random directions (Halko, Martinsson & Tropp 2011, algorithm 4.4), with as
    many passes over the samples as rounds.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(mean.numel(), COMPONENTS, generator=generator).to(data.device)
    for _ in range(ROUNDS):
        turned = torch.zeros_like(axes)
        for rows in _centred(data, mean, scale):
            turned += rows.T @ (rows @ axes)
        axes = torch.linalg.qr(turned).Q
    return axes


def _centred(data: Data, mean: Tensor, scale: Tensor) -> Iterator[Tensor]:
    return ((rows - mean.flatten()) * scale for rows in _blocks(data))


def _blocks(data: Data) -> Iterator[Tensor]:
    """All samples in order, some at a time, flattened.  # (B, D)"""
    count = max(1, BLOCK_VALUES // data.x[0].numel())
    return (data.slice(i, i + count).flatten(1) for i in range(0, len(data), count))
