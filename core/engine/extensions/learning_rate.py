"""Learning-rate schedules: factors on the optimisers' own rates, pure functions of the counter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from .extension import EDITOR, Extension

if TYPE_CHECKING:
    from ..trainer import Trainer

Factor = Callable[[int, int | None], float]


class LearningRate(Extension):
    """Multiplies each optimiser's initial learning rate by ``factor(iteration, total_iterations)``."""

    priority = EDITOR

    def __init__(self, factor: Factor) -> None:
        self.factor = factor

    def initialize(self, trainer: Trainer) -> None:
        if trainer.iteration == 0:  # a resumed optimiser brings its rate along
            self(trainer)

    def __call__(self, trainer: Trainer) -> None:
        factor = self.factor(trainer.iteration, trainer.total_iterations)
        for optimizer in trainer.updater.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])


def cosine(warmup: int = 0) -> Factor:
    """Linear warm-up for ``warmup`` iterations, then half a cosine to 0 (Loshchilov & Hutter 2017, eq. 5)."""

    def factor(iteration: int, total: int | None) -> float:
        if total is None:
            raise ValueError("a cosine schedule needs a training with a limit")
        if iteration < warmup:
            return (iteration + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (iteration - warmup) / max(1, total - warmup))))

    return factor


def steps(every: int, gamma: float = 0.1) -> Factor:
    """Times ``gamma`` after each ``every`` iterations."""
    return lambda iteration, total: gamma ** (iteration // every)
