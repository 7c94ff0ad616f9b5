"""When something happens: intervals and limits are pure functions of the counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .trainer import Trainer

Unit = Literal["iteration", "epoch"]
Trigger = Callable[["Trainer"], bool]
When = tuple[int, Unit] | Trigger


class Interval:
    """True every ``period`` iterations or epochs."""

    def __init__(self, period: int, unit: Unit) -> None:
        self.period, self.unit = _checked(period, unit)

    def iterations(self, trainer: Trainer) -> int:
        """The interval in iterations."""
        return self.period * (trainer.updater.epoch_length if self.unit == "epoch" else 1)

    def __call__(self, trainer: Trainer) -> bool:
        return trainer.iteration % self.iterations(trainer) == 0


class Limit(Interval):
    """True from ``period`` iterations or epochs on: how long a training goes."""

    def __call__(self, trainer: Trainer) -> bool:
        return trainer.iteration >= self.iterations(trainer)

    def __str__(self) -> str:
        return f"{self.period} {self.unit}{'s' if self.period != 1 else ''}"


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


def trigger_of(when: When) -> Trigger:
    """An Interval for a pair such as ``(1, "epoch")``; a trigger stays what it is."""
    return Interval(*when) if isinstance(when, tuple) else when


def limit_of(when: When) -> Trigger:
    """A Limit for a pair such as ``(20, "epoch")``; a trigger stays what it is."""
    return Limit(*when) if isinstance(when, tuple) else when


def _checked(period: int, unit: Unit) -> tuple[int, Unit]:
    if unit not in ("iteration", "epoch") or period < 1:
        raise ValueError(f"({period}, {unit!r}): a positive number of 'iteration' or 'epoch' is needed")
    return period, unit
