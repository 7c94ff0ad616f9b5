"""A judge of clusterings that needs no labels: do neighbours stay together, do clusters stay in use?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.contract.interfaces import Encoder
from ...core.data.data import Data
from ...core.toolbox.inference import evaluating
from ...core.toolbox.neighbour import nearest
from ...core.toolbox.timetable import bounded

Autocast = Callable[[], AbstractContextManager[Any]]

WATCHED = 2048  # samples that are looked at
NEIGHBOURS = 10
CHUNK = 512  # samples in one forward pass
DIRECTIONS = 256  # that larger samples are projected to
VALUES = 64 * 2**20  # input values of the samples watched, beyond which they are projected
LOST = 0.1  # a cluster is lost that keeps less than this share of its size


@dataclass(frozen=True)
class Agreement:
    """How far neighbours share a cluster: in the input, and in the codes that the clusterer came to.

    1: all do. 0: as many as chance has it. One cluster that has everything counts as 0.
    """

    input: float
    codes: float

    @property
    def mean(self) -> float:
        """Of both spaces."""
        return (self.input + self.codes) / 2


class Referee:
    """Judges labels by neighbourhoods that no refinement can shape.

    It is made before a refinement, from the samples and the encoder that the clusterer was given, never
    from refined codes, where any collapse looks perfect. ``indices`` (M,): the samples that it looks at,
    at most ``WATCHED``, evenly spaced; their neighbours are the ``NEIGHBOURS`` nearest of them.
    """

    @bounded()
    def __init__(self, encoder: Encoder, data: Data, autocast: Autocast = nullcontext) -> None:
        watched = min(WATCHED, len(data))
        self.indices = torch.linspace(0, len(data) - 1, watched, device=data.device).round().long()
        self.input = _neighbours(_flat(data, self.indices))  # (M, k), indices in ``indices``
        self.codes = _neighbours(embed_at(encoder, data, self.indices, autocast))  # (M, k)

    def judge(self, labels: Tensor) -> Agreement:
        """The agreement of labels (M,) int64 of ``indices``."""
        together = [shared(labels, near) for near in (self.input, self.codes)]
        return Agreement(*torch.stack(together).tolist())


def shared(labels: Tensor, neighbours: Tensor) -> Tensor:
    """The share of neighbours (M, k) with the label (M,) of the sample, corrected for chance, a 0-d tensor.

    (a - c) / (1 - c) of the share a and the sum of squared cluster sizes c, which chance gives; 0 where
    one cluster has everything.
    """
    same = (labels[neighbours] == labels[:, None]).double().mean()
    chance = (torch.bincount(labels).double() / len(labels)).square().sum()
    return torch.where(chance < 1, (same - chance) / (1 - chance).clamp_min(1e-12), 0.0)


def lost_clusters(before: Tensor, after: Tensor, n_clusters: int) -> int:
    """How many clusters of ``before`` (M,) keep less than ``LOST`` of their size in ``after`` (M,).

    Clusters are matched so that most samples stay in theirs, and of equal matchings so that sizes do.
    """
    from scipy.optimize import linear_sum_assignment

    pairs = torch.bincount(before * n_clusters + after, minlength=n_clusters**2)
    counts = pairs.view(n_clusters, n_clusters).cpu().numpy()
    was, now = counts.sum(axis=1), counts.sum(axis=0)
    by_size = np.minimum.outer(was, now) / (2 * n_clusters * len(before))  # less than one sample in all
    rows, columns = linear_sum_assignment(counts + by_size, maximize=True)
    return int((now[columns] < LOST * was[rows]).sum())


def embed_at(encoder: Encoder, data: Data, indices: Tensor, autocast: Autocast = nullcontext) -> Tensor:
    """The codes of the samples at ``indices`` (M,), float32, in eval mode.  # (M, D)"""
    with evaluating(encoder), autocast():
        return torch.cat([encoder(data.batch(part)) for part in torch.split(indices, CHUNK)]).float()


def _neighbours(x: Tensor) -> Tensor:
    """The nearest of x (M, D) to each of them, itself left out.  # (M, k)"""
    return nearest(x, x, NEIGHBOURS, own=torch.arange(len(x), device=x.device)).index


def _flat(data: Data, indices: Tensor) -> Tensor:
    """The samples at ``indices`` (M,) as rows, as they are or, where they are large, projected.

    A random projection keeps distances to about 1 / sqrt(DIRECTIONS / 2) of them (Johnson &
    Lindenstrauss 1984).
    """
    width = data.x[0].numel()
    if len(indices) * width <= VALUES:
        return data.batch(indices).flatten(1)
    draw = torch.Generator().manual_seed(0)
    directions = torch.randn((width, DIRECTIONS), generator=draw).to(data.device)
    return torch.cat([data.batch(part).flatten(1) @ directions for part in torch.split(indices, 128)])
