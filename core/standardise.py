"""Inputs of mean 0 and deviation 1: what networks that train take, kept in the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .data import Data, Size

SAMPLES = 4096  # evenly spaced ones whose values are looked at
TRIMMED = 1e-3  # share of the values at either end that statistics leave out, unless they are bytes
LIMIT = 10.0  # deviations beyond which a value counts as this far out, unless they are bytes


class Standardise(nn.Module):
    """Samples (B, *shape) less their mean, divided by their deviation: of each channel of images, of each
    value of rows less its own mean, divided by one deviation.

    Thousands of inputs that are never negative let Adam kill nearly all units of a first layer with ReLU
    within a few steps; centred ones do not. Rows come from ``Data.batch`` on one scale already.
    Values that are no bytes are looked at without the outermost thousandth, so that an absurd one changes
    nothing else, and count as at most ten deviations.
    """

    mean: Tensor  # (C, 1, 1) of images, (D,) of rows
    deviation: Tensor  # (C, 1, 1) of images, () of rows
    limit: Tensor  # ()

    def __init__(self, shape: Size) -> None:
        super().__init__()
        self.images = len(shape) == 3
        form = (shape[0], 1, 1) if self.images else shape
        self.register_buffer("mean", torch.zeros(form))
        self.register_buffer("deviation", torch.ones(form if self.images else ()))
        self.register_buffer("limit", torch.tensor(torch.finfo(torch.float32).max))

    @torch.no_grad()
    def fit(self, data: Data, *, centre: bool = True) -> None:
        """Take mean and deviation from ``data``; without ``centre`` the mean stays 0, the root of the mean
        square is the deviation, (1/d)|x|^2 = 1 on average, and nothing is limited (Xie et al. 2016, 4.3)."""
        if not centre:
            self.deviation.fill_(max(data.mean_square(), 1e-12) ** 0.5)
            return
        index = torch.linspace(0, len(data) - 1, min(SAMPLES, len(data))).long()
        parts = torch.split(index, max(1, 2**24 // data.x[0].numel()))
        bytes_given = data.x.dtype == torch.uint8
        x = torch.cat([data.batch(i.to(data.x.device)) for i in parts])
        groups = x.transpose(0, 1).flatten(1) if self.images else x.T  # (C or D, values)
        if not bytes_given:
            groups = _inner(groups)
            self.limit.fill_(LIMIT)
        mean, variance = groups.double().mean(1), groups.double().var(1, correction=0)
        if not self.images:
            variance = variance.mean()
        deviation = variance.sqrt()
        self.mean.copy_(mean.view_as(self.mean))
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1).view_as(self.deviation))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised samples (B, *shape)."""
        return ((x - self.mean) / self.deviation).clamp(-self.limit, self.limit)

    def inverse(self, x: Tensor) -> Tensor:
        """Standardised samples (B, *shape) on the scale of ``Data.batch`` again."""
        return x * self.deviation + self.mean


def _inner(values: Tensor) -> Tensor:
    """Each row of values (G, V), in order, without its outermost ones."""
    cut = max(1, round(TRIMMED * values.shape[1])) if values.shape[1] > 2 else 0
    return values.sort(dim=1).values[:, cut : values.shape[1] - cut]
