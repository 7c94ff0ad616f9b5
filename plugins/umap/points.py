"""The samples as points among which neighbours are looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...core import Data

BLOCK_VALUES = 4 * 2**20  # values read at a time
PRODUCTS = 2**40  # of an exact search, above which samples are projected first: about 20 s of a core
COMPONENTS = 100  # principal components that they are projected on
ROUNDS = 4  # of the search for these


def points(data: Data, see: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """All samples as ``see`` makes them of some, (B, *shape) to (B, D); float32 on the device.  # (N, D)

    Where N^2 D is above ``PRODUCTS``, their ``COMPONENTS`` principal components: nearly the same
    neighbours, as what is left out varies little.
    """
    width = data.x[0].numel()
    axes = None
    if width > COMPONENTS and len(data) ** 2 * width > PRODUCTS:
        axes, width = _principal_axes(data, see, seed), COMPONENTS
    found = torch.empty(len(data), width, device=data.device)
    start = 0
    for rows in _seen(data, see):
        found[start : start + len(rows)] = rows if axes is None else rows @ axes
        start += len(rows)
    return found


def _principal_axes(data: Data, see: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """An orthonormal basis (D, COMPONENTS) of where the samples vary most.

    By subspace iteration from random directions (Halko, Martinsson & Tropp 2011, algorithm 4.4), with as
    many passes over the samples as rounds.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(data.x[0].numel(), COMPONENTS, generator=generator).to(data.device)
    for _ in range(ROUNDS):
        turned = torch.zeros_like(axes)
        for rows in _seen(data, see):
            turned += rows.T @ (rows @ axes)
        axes = torch.linalg.qr(turned).Q
    return axes


def _seen(data: Data, see: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """All samples in order, some at a time.  # (B, D)"""
    count = max(1, BLOCK_VALUES // data.x[0].numel())
    return (see(data.slice(i, i + count)) for i in range(0, len(data), count))
