"""The choice of head and epoch without labels: SCAN's loss on samples that were held back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core import Data, Encoder, evaluating
from ...core.engine import Trainer, report
from ...core.engine.extensions import WRITER, Extension
from .heads import Heads
from .loss import entropy, inconsistency
from .mining import Mined

CHUNK = 1024  # samples in one forward pass


class HeldOut(Extension):
    """Reports the least loss among the heads on the samples held back, and lets that head count.

    Samples and all their neighbours as they are, without distortions, after each epoch.
    """

    key: ClassVar[str] = "held_out/loss"
    trigger = (1, "epoch")
    priority = WRITER
    grows = True

    def __init__(
        self,
        clusterer: Heads,
        encoder: Encoder,
        data: Data,
        mined: Mined,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.clusterer, self.encoder, self.data, self.autocast = clusterer, encoder, data, autocast
        self.held, rank = mined.held, torch.full((len(data),), -1, device=mined.held.device)
        rank[mined.held] = torch.arange(len(mined.held), device=mined.held.device)
        self.neighbours = rank[mined.held_neighbours]  # (H, l), among those held back

    def __call__(self, trainer: Trainer) -> None:
        losses, apart, used = self._losses()
        least = losses.argmin()
        self.clusterer.chosen.copy_(least)
        report(
            {self.key: losses[least], "held_out/inconsistency": apart[least], "held_out/entropy": used[least]}
        )

    def loss(self) -> float:
        """The loss of the head that counts now."""
        return float(self._losses()[0][self.clusterer.chosen])

    def _losses(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each head: the loss, and inconsistency and entropy that it is made of.  # (heads,) each"""
        clusterer = self.clusterer
        with evaluating(self.encoder, clusterer), self.autocast():
            parts = self.held.split(CHUNK)  # type: ignore[no-untyped-call]
            logits = torch.cat([self._logits(part) for part in parts])  # (H, heads, K)
        apart = torch.stack([inconsistency(logits, logits[near]) for near in self.neighbours.T]).mean(dim=0)
        used = entropy(logits, clusterer.prior)
        return apart - clusterer.config.entropy * used, apart, used

    def _logits(self, indices: Tensor) -> Tensor:
        return self.clusterer.logits(self.encoder(self.data.batch(indices)))
