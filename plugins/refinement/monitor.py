"""The health of clusters while they are refined: sizes, certainty, and how many samples still move."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ...core.contract.interfaces import Clusterer, Encoder
from ...core.data.data import Data
from ...core.engine.extensions import WRITER, Extension
from ...core.engine.reporter import report
from ...core.engine.trainer import Trainer
from ...core.toolbox.inference import evaluating

WATCHED = 2048  # samples that are looked at during training
CHUNK = 512  # samples in one forward pass


def moved(before: Tensor, after: Tensor, n_clusters: int) -> float:
    """The share of samples in another cluster than before, under the best matching.  # (N,) twice"""
    from scipy.optimize import linear_sum_assignment

    pairs = torch.bincount(before * n_clusters + after, minlength=n_clusters**2)
    counts = pairs.view(n_clusters, n_clusters).cpu().numpy()
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return 1 - float(counts[rows, columns].sum()) / len(before)


class Monitor(Extension):
    """Reports the health of a clusterer's assignment of some samples after each epoch.

    At most ``WATCHED`` samples, evenly spaced, clean and in eval mode. churn: the share of them whose
    cluster is another than an epoch ago, the clusters matched with those of then: their numbers
    may change, as where another of scan's heads counts.
    """

    trigger = (1, "epoch")
    priority = WRITER

    def __init__(
        self,
        encoder: Encoder,
        clusterer: Clusterer,
        data: Data,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.encoder, self.clusterer, self.data, self.autocast = encoder, clusterer, data, autocast
        watched = min(WATCHED, len(data))
        self.indices = torch.linspace(0, len(data) - 1, watched, device=data.device).round().long()
        self.before: Tensor | None = None

    def initialize(self, trainer: Trainer) -> None:
        if self.before is None:
            self.before = self._look()[0]

    def __call__(self, trainer: Trainer) -> None:
        labels, confidence = self._look()
        assert self.before is not None
        n_clusters = self.clusterer.n_clusters
        share = torch.zeros(n_clusters, device=labels.device)
        share = share.index_add_(0, labels, torch.ones_like(confidence)) / len(labels)
        report(
            {
                "health/effective_clusters": (-torch.xlogy(share, share).sum()).exp(),
                "health/smallest_cluster": share.min(),
                "health/confidence": confidence.mean(),
                "health/churn": moved(self.before, labels, n_clusters),
            }
        )
        self.before = labels

    def _look(self) -> tuple[Tensor, Tensor]:
        with evaluating(self.encoder, self.clusterer), self.autocast():
            parts = [
                self.clusterer(self.encoder(self.data.batch(i))) for i in torch.split(self.indices, CHUNK)
            ]
        confidence, labels = torch.cat(parts).max(dim=1)
        return labels, confidence

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state["before"]
