"""What makes neighbours near and others far: UMAP's cross-entropy, and the curve behind it."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 1e-3  # added to squared distances, so that the pull and push of equal codes are finite


def fit_curve(min_dist: float, spread: float) -> tuple[float, float]:
    """a and b of ``1 / (1 + a d^(2b))``: 1 up to min_dist, then ``exp(-(d - min_dist) / spread)``, nearly.

    By least squares at 300 distances up to 3 spreads (McInnes et al. 2018, definition 11).
    """
    from scipy.optimize import curve_fit

    d = np.linspace(0, 3 * spread, 300)
    wanted = np.where(d < min_dist, 1.0, np.exp(-(d - min_dist) / spread))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), d, wanted)
    return float(a), float(b)


def cross_entropy(head: Tensor, tail: Tensor, a: float, b: float) -> tuple[Tensor, Tensor]:
    """How far the ends of edges are apart, and how near they are to the ends of others.  # () and ()

    head, tail: codes (B, D) of the ends of B edges, B at least 2. With q = 1 / (1 + a d^(2b)) the first is
    the mean of -log q over the edges, the second that of -log(1 - q) over all pairs of a head and another
    edge's tail: the negatives of a batch are the batch itself (Sainburg et al. 2021, section 2.2), all of
    it, as the mean of all pairs is no dearer than one of a few and varies less. At least float32, also under
    autocast.
    """
    with torch.autocast(head.device.type, enabled=False):
        precise = torch.promote_types(head.dtype, torch.float32)
        head, tail = head.to(precise), tail.to(precise)
        pull = F.softplus(_log_odds((head - tail).square().sum(dim=1), a, b)).mean()
        push = F.softplus(-_log_odds(_square_distances(head, tail), a, b))  # (B, B)
        return pull, (push.sum() - push.diagonal().sum()) / (len(head) * (len(head) - 1))


def _log_odds(square: Tensor, a: float, b: float) -> Tensor:
    """log((1 - q) / q), which is log(a d^(2b)): no power is taken, nothing overflows."""
    return math.log(a) + b * torch.log(square + NEAR)


def _square_distances(x: Tensor, y: Tensor) -> Tensor:
    """Of each of x to each of y, (A, D) and (B, D); by a product in float64, which loses nothing near 0."""
    a, b = x.double(), y.double()
    square = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return square.clamp_min(0).to(x.dtype)
