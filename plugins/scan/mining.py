"""Which samples are neighbours: of those that are trained on, and of those held back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.toolbox.neighbour import nearest

HELD_NEIGHBOURS = 5  # of a sample held back, among those held back


@dataclass(frozen=True)
class Mined:
    """Indices in the data: trained on (M,) with neighbours (M, k), held back (H,) with neighbours (H, l).

    Neighbours are of the same part. Where too few samples are there to hold some back, those trained
    on are looked at in their place.
    """

    train: Tensor
    neighbours: Tensor
    held: Tensor
    held_neighbours: Tensor

    def table(self) -> Tensor:
        """The neighbours of every sample, by its index; -1 behind those of samples held back.  # (N, k)"""
        n = 1 + int(torch.cat([self.train, self.held]).max())
        found = self.train.new_full((n, self.neighbours.shape[1]), -1)
        count = min(self.held_neighbours.shape[1], found.shape[1])
        found[self.held, :count] = self.held_neighbours[:, :count]
        found[self.train] = self.neighbours
        return found


def mine(z: Tensor, count: int, share: float, seed: int, fewest: int = 8) -> Mined:
    """The ``count`` nearest neighbours by cosine similarity of codes z (N, D), in each part.

    share: of the samples that is held back, drawn by ``seed``; none where that is less than
    ``fewest``. Section 2.2 (Van Gansbeke et al. 2020).
    """
    n = len(z)
    unit = F.normalize(z.float(), dim=1)
    held = round(share * n)
    if held < fewest or n - held < fewest:
        indices = torch.arange(n, device=z.device)
        found = _within(unit, indices, count)
        return Mined(indices, found, indices, found[:, :HELD_NEIGHBOURS])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(z.device)
    out, kept = order[:held].sort().values, order[held:].sort().values
    return Mined(kept, _within(unit, kept, count), out, _within(unit, out, HELD_NEIGHBOURS))


def _within(unit: Tensor, indices: Tensor, count: int) -> Tensor:
    """The indices of the nearest among ``indices`` (M,) to each of them, itself left out.  # (M, k)"""
    part = unit[indices]
    own = torch.arange(len(part), device=part.device)
    return indices[nearest(part, part, count, own=own).index]
