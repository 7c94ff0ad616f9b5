"""Inputs of mean 0 and deviation 1: what networks that train take, kept in the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data.data import Size
from ..engine.updater import Samples

SAMPLES = 4096  # at most, evenly spaced, whose values are looked at
VALUES = 2**24  # at most
TRIMMED = 1e-3  # share of the values at either end without which the first look is taken
LIMIT = 10.0  # deviations beyond which a value counts as this far out, unless it is a byte


class Standardise(nn.Module):
    """Samples (B, *shape) less their mean, divided by their deviation: images of each channel, rows of
    each value its own mean, of all values one deviation.

    Thousands of inputs that are never negative let Adam kill nearly all units of a first layer with ReLU
    within a few steps; centred ones do not. Rows come from ``Data.batch`` on one scale already.
    Values that are no bytes count as at most ten deviations, so that an absurd one changes nothing else.
    """

    mean: Tensor  # (C, 1, 1) of images, (D,) of rows
    deviation: Tensor  # (C, 1, 1) of images, () of rows
    limit: Tensor  # (), in deviations

    def __init__(self, shape: Size) -> None:
        super().__init__()
        self.images = len(shape) == 3
        form = (shape[0], 1, 1) if self.images else shape
        self.register_buffer("mean", torch.zeros(form))
        self.register_buffer("deviation", torch.ones(form if self.images else ()))
        self.register_buffer("limit", torch.tensor(torch.finfo(torch.float32).max))

    @torch.no_grad()
    def fit(self, data: Samples) -> None:
        """Take mean, deviation and limit from ``data``."""
        values = self._look(data)
        mean, deviation = self._moments(values)
        if data.x.dtype != torch.uint8:
            mean, deviation = self._moments(self._limited(values))
            self.limit.fill_(LIMIT)
        self.mean.copy_(mean.view_as(self.mean))
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1).view_as(self.deviation))

    @torch.no_grad()
    def keep_black(self) -> None:
        """Divide only, by the root of the mean square, images whose mean is less than a deviation from 0 in
        each channel: most of their values are black then, and stay 0."""
        if self.images and bool((self.mean.abs() < self.deviation).all()):
            self.deviation.copy_((self.deviation.square() + self.mean.square()).sqrt())
            self.mean.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Standardised samples (B, *shape)."""
        return ((x - self.mean) / self.deviation).clamp(-self.limit, self.limit)

    def inverse(self, x: Tensor) -> Tensor:
        """Standardised samples (B, *shape) on the scale of ``Data.batch`` again."""
        return x * self.deviation + self.mean

    def _look(self, data: Samples) -> Tensor:
        """Values of some samples, each channel's or column's beside each other.  # (G, V)"""
        count = min(SAMPLES, len(data), max(1, VALUES // data.x[0].numel()))
        x = data.batch(torch.linspace(0, len(data) - 1, count, dtype=torch.float64).long())
        return x.transpose(0, 1).flatten(1) if self.images else x.flatten(1).T

    def _moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (G, 1) and deviation of values (G, V), the latter (G, 1) of channels, () of all columns."""
        exact = values.double()
        variance = exact.var(1, correction=0, keepdim=True)
        return exact.mean(1, keepdim=True), (variance if self.images else variance.mean()).sqrt()

    def _limited(self, values: Tensor) -> Tensor:
        """Values (G, V) within ``LIMIT`` of what mean and deviation are without the outermost ones."""
        cut = max(1, round(TRIMMED * values.shape[1]))
        if values.shape[1] <= 2 * cut:
            return values
        mean, deviation = self._moments(values.sort(dim=1).values[:, cut:-cut])
        reach = torch.where(deviation > 0, LIMIT * deviation, torch.inf)
        return values.double().clamp(mean - reach, mean + reach)
