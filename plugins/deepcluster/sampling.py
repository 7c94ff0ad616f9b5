"""Batches in which all clusters are equally frequent."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...core import Data
from ...core.engine import Batches


class UniformBatches(Batches):
    """Shuffled batches whose epochs hold each cluster that is not empty equally often.

    Caron et al. 2018, section 3.3: against parametrisations that give the large clusters to all samples.

    labels: gives the clusters (N,) int64 when an epoch begins.
    """

    def __init__(self, data: Data, size: int, seed: int, labels: Callable[[], Tensor]) -> None:
        super().__init__(data, size, seed)
        self.labels = labels

    def order(self, generator: torch.Generator) -> Tensor:
        """N indices of samples: clusters are there equally often up to one, and so are those of each."""
        labels = self.labels().cpu()
        sizes = torch.bincount(labels)
        members = torch.split(labels.argsort(stable=True), sizes.tolist())
        present = [m for m in members if len(m)]
        share, rest = divmod(len(labels), len(present))
        more = set(torch.randperm(len(present), generator=generator)[:rest].tolist())
        drawn = [draw(m, share + (i in more), generator) for i, m in enumerate(present)]
        indices = torch.cat(drawn)
        return indices[torch.randperm(len(indices), generator=generator)]


def draw(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of ``indices`` (M,): whole permutations of all, and a part of one more."""
    times = -(-count // len(indices))
    rounds = [indices[torch.randperm(len(indices), generator=generator)] for _ in range(times)]
    return torch.cat(rounds)[:count]
