"""Progress on the console: a bar with rate and time left, or one line at the end of each training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...console import flexible_bar, time_left
from ...words import counted
from .extension import READER, Extension

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..trainer import Trainer

BESIDE = 24  # characters of a line for a short bar, the time that is left, and what parts the columns


class ConsoleProgress(Extension):
    """A rich bar on standard error where that is a terminal; in any case one line at the end.

    later: seconds of what comes after this training; with them the bar shows what is left of the whole.
    called: plainer names for what is reported. Learning rates are in the log alone, and a short line shows
    the times rather than rate and values.
    """

    priority = READER

    def __init__(self, later: float | None = None, called: Mapping[str, str] | None = None) -> None:
        self.later, self.called = later, called or {}
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def initialize(self, trainer: Trainer) -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            flexible_bar(),
            TextColumn("{task.completed}/{task.total}"),
            time_left(),
            TextColumn("{task.fields[whole]}"),
            TextColumn("{task.fields[rate]}"),
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
            whole, values = self._left(trainer, steps), self._values(trainer.line)
            count = f"{trainer.iteration}/{trainer.total_iterations}"
            room = self._bar.console.width - len(trainer.name) - len(count) - len(whole) - BESIDE
            rate = rate if len(rate) <= room else ""
            values = values if len(rate) + len(values) <= room else ""
            self._bar.update(self._task, completed=trainer.iteration, rate=rate, whole=whole, values=values)

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
            f"{trainer.seconds:.1f} s{self._values(trainer.line, ', ')}",
            file=sys.stderr,
        )

    def close(self, trainer: Trainer) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _values(self, line: dict[str, float], before: str = "") -> str:
        hidden = ("iteration", "epoch", "seconds", "lr")
        shown = [
            f"{self.called.get(key, key)} {value:.4g}"
            for key, value in line.items()
            if key not in hidden and not key.startswith("health/") and not key.endswith("/lr")
        ]
        return before + ", ".join(shown) if shown else ""
