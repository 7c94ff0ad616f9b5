"""The fuzzy graph of neighbours: which samples belong together, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.toolbox.neighbour import nearest

STEPS = 64  # of the bisection: more than float64 can tell
FLOOR = 1e-3  # least bandwidth, in mean distances


@dataclass(frozen=True)
class Graph:
    """Undirected edges. head, tail: (E,) int64, head < tail, sorted. weight: (E,) float64 in (0, 1]."""

    head: Tensor
    tail: Tensor
    weight: Tensor


def fuzzy_graph(x: Tensor, n_neighbours: int) -> Graph:
    """The graph of samples x (N, D), N at least 2 (McInnes et al. 2018, algorithms 2 and 3).

    Each has its ``n_neighbours`` nearest others, or all where there are fewer.
    """
    found = nearest(x, x, n_neighbours, own=torch.arange(len(x), device=x.device))
    return symmetrise(found.index, memberships(found.distance.double()))


def memberships(distance: Tensor) -> Tensor:
    """How much each of k neighbours belongs to a sample, from rising distances.  # (N, k) to (N, k)

    ``exp(-(d - rho) / sigma)``, 1 up to rho, the distance of the nearest that is no duplicate; sigma
    is such that a row sums to log2(k) (section 3.1), as far as ties at rho and a least sigma permit.
    """
    there = distance.masked_fill(distance == 0, torch.inf)
    rho = there.amin(dim=1, keepdim=True)
    beyond = (distance - rho.masked_fill(rho.isinf(), 0)).clamp_min(0)  # (N, k)
    sigma = _bandwidths(beyond)
    mean = distance.mean(dim=1, keepdim=True)
    least = FLOOR * torch.where(mean > 0, mean, distance.mean())
    return torch.exp(-beyond / torch.maximum(sigma, least).clamp_min(torch.finfo(distance.dtype).tiny))


def _bandwidths(beyond: Tensor) -> Tensor:
    """sigma (N, 1) at which exp(-beyond / sigma), (N, k), sums to log2(k); by bisection.

    Where no sigma does, as too many are 0, it is near 0.
    """
    target = math.log2(beyond.shape[1])
    low = torch.zeros_like(beyond[:, :1])
    # exp(-t) >= 1 - t: at this sigma the sum is k - mean(beyond) k / sigma >= target
    high = beyond.sum(dim=1, keepdim=True) / max(beyond.shape[1] - target, 1.0) + 1e-300
    for _ in range(STEPS):
        middle = (low + high) / 2
        enough = torch.exp(-beyond / middle).sum(dim=1, keepdim=True) >= target
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def symmetrise(index: Tensor, weight: Tensor) -> Graph:
    """w + w' - w w' of the memberships (N, k) of neighbours ``index`` (N, k): the fuzzy union."""
    n, k = index.shape
    own = torch.arange(n, device=index.device).repeat_interleave(k)
    other, weight = index.flatten(), weight.flatten()
    kept = weight > 0
    own, other, weight = own[kept], other[kept], weight[kept]
    key, order = (torch.minimum(own, other) * n + torch.maximum(own, other)).sort(stable=True)
    apart = 1 - weight[order]
    again = key[1:] == key[:-1]  # a pair stands once, or twice where each is a neighbour of the other
    apart[:-1] *= torch.where(again, apart[1:], 1.0)
    first = torch.cat([again.new_ones(1), ~again])
    pair = key[first]
    return Graph(pair // n, pair % n, 1 - apart[first])
