"""Progress on the console: a bar with rate and time left, or one line at the end of each training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ...words import counted
from .extension import READER, Extension

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..trainer import Trainer


class ConsoleProgress(Extension):
    """A rich bar on standard error where that is a terminal; in any case one line at the end.

    later: seconds of what comes after this training; with them the bar shows what is left of the whole.
    """

    priority = READER

    def __init__(self, later: float | None = None) -> None:
        self.later = later
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def initialize(self, trainer: Trainer) -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[whole]}"),
            TextColumn("{task.fields[values]}"),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=4,
        )
        self._bar.start()
        self._task = self._bar.add_task(
            trainer.name, total=trainer.total_iterations, completed=trainer.iteration,
            rate="", whole="", values="",
        )  # fmt: skip
        self._first = trainer.iteration
        self._start = trainer.seconds

    def __call__(self, trainer: Trainer) -> None:
        if self._bar is not None and self._task is not None:
            seconds = trainer.seconds - self._start
            steps = (trainer.iteration - self._first) / seconds if seconds > 0 else 0.0
            rate = f"{steps:,.0f} it/s, {steps * trainer.updater.batches.size:,.0f} samples/s"
            self._bar.update(
                self._task, completed=trainer.iteration, rate=rate, whole=self._left(trainer, steps),
                values=_values(trainer.line),
            )  # fmt: skip

    def _left(self, trainer: Trainer, steps: float) -> str:
        """What is left of the whole, at so many steps a second."""
        total = trainer.total_iterations
        if self.later is None or total is None or steps == 0:
            return ""
        seconds = round((total - trainer.iteration) / steps + self.later)
        return f"about {seconds // 60}:{seconds % 60:02} left in all"

    def finish(self, trainer: Trainer) -> None:
        self._stop()
        print(
            f"  {trainer.name}: {counted(trainer.iteration, 'iteration')} ({trainer.stop_reason}), "
            f"{trainer.seconds:.1f} s{_values(trainer.line, ', ')}",
            file=sys.stderr,
        )

    def close(self, trainer: Trainer) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _values(line: dict[str, float], before: str = "") -> str:
    hidden = ("iteration", "epoch", "seconds")
    shown = [f"{k} {v:.4g}" for k, v in line.items() if k not in hidden and not k.startswith("health/")]
    return before + ", ".join(shown) if shown else ""
