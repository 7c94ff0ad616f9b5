"""Batches of edges, drawn in proportion to their weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...core import Data
from ...core.engine import Batch, Batches
from ...core.engine.updater import mix
from .graph import Graph

LOGGED = 50  # fewest steps of an epoch, which is the interval of the log


@dataclass(frozen=True)
class EdgeBatch(Batch):
    """x: the samples at the edges' ends, each once. ends: (2, B) int64 places in x."""

    ends: Tensor


class EdgeBatches(Batches):
    """Edges drawn with replacement in proportion to their weights; a function of (seed, i) as all batches.

    An epoch draws as many edges as samples have neighbours. graph: gives the edges when the first batch
    is asked for, so that a training that is finished does not look for them again.
    """

    def __init__(self, data: Data, size: int, seed: int, n_edges: int, graph: Callable[[], Graph]) -> None:
        super().__init__(data, size, seed)
        self.n_edges, self._graph = n_edges, graph

    def __len__(self) -> int:
        return max(LOGGED, -(-self.n_edges // self.size))

    @cached_property
    def _drawn_from(self) -> tuple[Tensor, Tensor]:
        """The edges' ends (2, E) and the sums of their weights up to each (E,), on the CPU."""
        graph = self._graph()
        return torch.stack([graph.head, graph.tail]).cpu(), graph.weight.cpu().cumsum(0)

    def __getitem__(self, i: int) -> EdgeBatch:
        ends, sums = self._drawn_from
        generator = torch.Generator().manual_seed(mix(self.seed, i))
        # one from each of B equal parts of the weights: the edges of a batch are spread over the data
        part = torch.randperm(self.size, generator=generator)
        place = (part + torch.rand(self.size, generator=generator, dtype=torch.float64)) / self.size
        drawn = torch.searchsorted(sums, place * sums[-1]).clamp_(max=len(sums) - 1)
        turned = torch.randint(2, (self.size,), generator=generator)  # else heads came first in the data
        both = ends[:, drawn]
        both = torch.where(turned.bool(), both.flip(0), both)  # (2, B)
        samples, where = torch.unique(both, return_inverse=True)
        return EdgeBatch(
            self.data.batch(samples.to(self.data.x.device)),
            samples.to(self.data.device),
            where.to(self.data.device),
        )
