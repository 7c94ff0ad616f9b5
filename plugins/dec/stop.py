"""When clusters count as found: hardly a label changes any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...core.engine import Trainer


class LabelChange:
    """A stop with state: true once fewer than ``tol`` of the labels change between two looks.

    Whoever refreshes the labels calls ``look``; the first look never stops (Xie et al. 2016, 3.3).
    """

    def __init__(self, tol: float) -> None:
        self.tol = tol
        self.change = 1.0
        self._labels: Tensor | None = None

    def look(self, labels: Tensor) -> float:
        """The share of ``labels`` (N,) that changed since the last look, 1 at the first."""
        if self._labels is not None:
            self.change = float((labels != self._labels).float().mean())
        self._labels = labels.clone()
        return self.change

    def __call__(self, trainer: Trainer) -> bool:
        return self.change < self.tol

    def __str__(self) -> str:
        return f"{self.change:.3%} of the labels changed (less than {self.tol:.3%})"

    def state_dict(self) -> dict[str, Any]:
        """The last labels and the last change."""
        labels = torch.empty(0) if self._labels is None else self._labels
        return {"change": self.change, "labels": labels}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``'s look."""
        self.change = state["change"]
        self._labels = state["labels"] if len(state["labels"]) else None
