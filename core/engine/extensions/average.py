"""The moving average of weights, which models end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .extension import EDITOR, Extension

if TYPE_CHECKING:
    from ..trainer import Trainer


class Average(Extension):
    """Keeps an exponential moving average of all parameters, and puts it into the models at the end.

    decay: the share of the old average that stays at each step; the first steps take less, so that the
    beginning does not stay (as in Tarvainen & Valpola 2017, whose ramp is min(decay, 1 - 1/(step + 1))).
    Buffers, such as BatchNorm's statistics, are those of the last step.
    """

    priority = EDITOR

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._average: dict[str, Tensor] = {}

    def initialize(self, trainer: Trainer) -> None:
        if not self._average:
            self._average = {key: p.detach().clone() for key, p in _parameters(trainer).items()}

    @torch.no_grad()
    def __call__(self, trainer: Trainer) -> None:
        step = trainer.iteration
        decay = min(self.decay, 1 - 1 / (step + 1))
        for key, p in _parameters(trainer).items():
            self._average[key].lerp_(p, 1 - decay)

    @torch.no_grad()
    def finish(self, trainer: Trainer) -> None:
        for key, p in _parameters(trainer).items():
            p.copy_(self._average[key])

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average = dict(state["average"])


def _parameters(trainer: Trainer) -> dict[str, nn.Parameter]:
    models = trainer.updater.models
    return {f"{name}/{key}": p for name, model in models.items() for key, p in model.named_parameters()}
