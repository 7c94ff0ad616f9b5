"""Principal components of samples that may be larger than memory, exact and the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core import Data

BLOCK_VALUES = 4 * 2**20  # values read at a time
WIDEST = 8192  # values of a sample whose covariances still fit: 512 MiB


def moments(data: Data, onto: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each value of the flattened samples, float64, in two passes.  # (D,), (D,)

    onto: mean (D,) and axes (D, C) that the samples are projected on first.
    """

    def seen(start: int, stop: int) -> Tensor:
        rows = _rows(data, start, stop)
        return rows if onto is None else (rows - onto[0]) @ onto[1]

    spans = _spans(data)
    center = sum((seen(*span).sum(0) for span in spans), torch.zeros((), dtype=torch.float64)) / len(data)
    squares = sum(((seen(*span) - center).square_().sum(0) for span in spans), torch.zeros_like(center))
    return center, (squares / len(data)).sqrt()


def principal_axes(data: Data, count: int) -> tuple[Tensor, Tensor, float]:
    """Mean (D,) of the flattened samples, their ``count`` principal axes (D, count), and the share of the
    variance that these hold; float64 on the CPU or the samples' device.

    Eigenvectors of the covariances (D, D), which are summed over blocks of samples in float64; of each the
    entry that is farthest from 0 is positive.
    """
    mean, _ = moments(data)
    covariance = mean.new_zeros(len(mean), len(mean))
    for span in _spans(data):
        rows = _rows(data, *span).sub_(mean)
        covariance.addmm_(rows.T, rows)
    variances, vectors = torch.linalg.eigh(covariance)
    axes = vectors.flip(1)[:, :count]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    total = float(variances.clamp_min(0).sum())
    share = float(variances[-count:].clamp_min(0).sum()) / total if total > 0 else 1.0
    return mean, axes * torch.where(largest < 0, -1.0, 1.0), share


def _spans(data: Data) -> list[tuple[int, int]]:
    rows = max(1, BLOCK_VALUES // data.x[0].numel())
    return [(i, min(i + rows, len(data))) for i in range(0, len(data), rows)]


def _rows(data: Data, start: int, stop: int) -> Tensor:
    """Samples from ``start`` to ``stop`` as networks see them, flat, float64."""
    rows = data.slice(start, stop).flatten(1)
    return (rows.cpu() if rows.device.type == "mps" else rows).double()  # MPS has no float64
