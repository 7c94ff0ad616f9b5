"""The log: one JSON line for each interval, with the means of what was reported in it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ...errors import TrainingFailed
from ..checkpoint import SNAPSHOT_NAME
from .extension import READER, Extension

if TYPE_CHECKING:
    from ..trainer import Trainer

LOG_NAME = "log.jsonl"


class Log(Extension):
    """Writes ``log.jsonl``: iteration, epoch, seconds, learning rates, means of the reported values.

    Raises TrainingFailed at the first line whose values are not finite. A resumed training cuts the
    file back to what its snapshot knew, so that no line stands twice.
    """

    trigger = (1, "epoch")
    priority = READER  # after the step's values were counted

    def __init__(self) -> None:
        self._bytes = 0
        self._last = -1

    def initialize(self, trainer: Trainer) -> None:
        trainer.out.mkdir(parents=True, exist_ok=True)
        with (trainer.out / LOG_NAME).open("ab") as file:
            file.truncate(self._bytes)

    def __call__(self, trainer: Trainer) -> None:
        means = trainer.means.read()
        trainer.means.clear()
        line: dict[str, Any] = {
            "iteration": trainer.iteration,
            "epoch": round(trainer.iteration / trainer.updater.epoch_length, 3),
            "seconds": round(trainer.seconds, 3),
        }
        for name, optimizer in trainer.updater.optimizers.items():
            line[f"{name}/lr" if name else "lr"] = float(optimizer.param_groups[0]["lr"])
        line.update(means)
        trainer.line, self._last = line, trainer.iteration
        bad = [key for key, value in means.items() if not math.isfinite(value)]
        if not bad:
            with (trainer.out / LOG_NAME).open("ab") as file:
                self._bytes += file.write((json.dumps(line) + "\n").encode())
            return
        raise TrainingFailed(not_finite(trainer, bad[0], f"is {means[bad[0]]}"))

    def finish(self, trainer: Trainer) -> None:
        if self._last != trainer.iteration:
            self(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"bytes": self._bytes, "last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._bytes, self._last = state["bytes"], state["last"]


def not_finite(trainer: Trainer, what: str, how: str) -> str:
    """The message of a training that went wrong: where, what, the last good snapshot, what to do."""
    path = trainer.out / SNAPSHOT_NAME
    last = f"the last good snapshot is '{path}'" if path.exists() else "there is no snapshot yet"
    return (
        f"{trainer.name}: {what} {how} at iteration {trainer.iteration}; {last}. "
        "Try a smaller learning rate or float32 precision."
    )
