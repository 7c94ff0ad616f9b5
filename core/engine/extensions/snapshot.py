"""Snapshots: the whole state of a training, to resume from, and the best weights so far."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import TrainingFailed
from .. import checkpoint
from ..checkpoint import SNAPSHOT_NAME
from .extension import READER, SNAPSHOT, Extension
from .log import not_finite

if TYPE_CHECKING:
    from ..trainer import Trainer


class Snapshot(Extension):
    """Writes ``snapshot.pt`` at its trigger, at most every ``seconds``, and at the end.

    Raises TrainingFailed, leaving the last good snapshot, where a weight or a mean is not finite.
    """

    priority = SNAPSHOT
    on_interrupt = True

    def __init__(self, seconds: float = 0.0) -> None:
        self.every_seconds = seconds
        self._last = time.monotonic()

    def __call__(self, trainer: Trainer) -> None:
        if time.monotonic() - self._last >= self.every_seconds or trainer.interrupted:
            self._write(trainer)

    def finish(self, trainer: Trainer) -> None:
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        state = trainer.state_dict()
        for name in _not_finite_tensors(state["updater"]["models"]):
            raise TrainingFailed(not_finite(trainer, f"weight '{name}'", "is not finite"))
        for name, (total, _) in state["means"].items():
            if not math.isfinite(total):
                raise TrainingFailed(not_finite(trainer, name, f"is {total}"))
        trainer.out.mkdir(parents=True, exist_ok=True)
        checkpoint.save(state, trainer.out / SNAPSHOT_NAME)
        self._last = time.monotonic()


class BestSnapshot(Extension):
    """Keeps the weights of the log line at which a value was best, in ``best.pt``.

    key: a value of the log, ``"loss"`` say. mode: whether the least or the greatest is best.
    restore: put the best weights back into the models when the training ends.
    """

    trigger = (1, "epoch")
    priority = READER + 1  # after Log, before Snapshot

    def __init__(self, key: str = "loss", mode: str = "min", *, restore: bool = False) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode!r}: there is 'min' and 'max'")
        self.key, self.mode, self.restore = key, mode, restore
        self.best: float | None = None

    def __call__(self, trainer: Trainer) -> None:
        if trainer.line.get("iteration") != trainer.iteration or self.key not in trainer.line:
            return
        value = trainer.line[self.key]
        sign = 1 if self.mode == "min" else -1
        if self.best is None or sign * value < sign * self.best:
            self.best = value
            models = {n: m.state_dict() for n, m in trainer.updater.models.items()}
            checkpoint.save({"models": models, "iteration": trainer.iteration}, trainer.out / "best.pt")

    def finish(self, trainer: Trainer) -> None:
        self(trainer)
        if self.restore and self.best is not None:
            state = checkpoint.load(trainer.out / "best.pt", trainer.updater.device)
            for name, model in trainer.updater.models.items():
                model.load_state_dict(state["models"][name])

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]


def _not_finite_tensors(models: dict[str, dict[str, Tensor]]) -> Iterator[str]:
    named = [
        (f"{model}/{key}" if model else key, value)
        for model, weights in models.items()
        for key, value in weights.items()
        if value.is_floating_point()
    ]
    if named:
        finite = torch.stack([torch.isfinite(v).all() for _, v in named]).tolist()
        yield from (name for (name, _), good in zip(named, finite, strict=True) if not good)
