"""The training loop: an updater, a stop, and extensions that act when their triggers say so."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import checkpoint
from .checkpoint import SNAPSHOT_NAME
from .extensions.extension import READER, Extension, as_extension
from .reporter import Means, Observation, observing
from .trigger import Limit, Trigger, When, limit_of, trigger_of
from .updater import Updater

FORMAT = 1


class Trainer:
    """Runs an updater until a stop, calling extensions on the way (Chainer's words; Tokui et al. 2019).

    stop: ``(20, "epoch")``, a trigger, or several of which the first ends the training.
    out: the folder of this training; extensions write there.
    name: how users know this training.

    Example::

        trainer = Trainer(updater, stop=(20, "epoch"), out=path)
        trainer.extend(Log())
        trainer.extend(Snapshot(), trigger=(1, "epoch"))
        trainer.run()
    """

    def __init__(self, updater: Updater, stop: When | Sequence[When], out: Path, name: str = "") -> None:
        self.updater = updater
        single = callable(stop) or (isinstance(stop, tuple) and isinstance(stop[0], int))
        stops: Sequence[Any] = [stop] if single else stop  # type: ignore[assignment,list-item]
        self.stops: list[Trigger] = [limit_of(s) for s in stops]
        self.out = Path(out)
        self.name = name or self.out.name
        self.means = Means()
        self.line: dict[str, float] = {}  # the last line that Log made of the means
        self.finished = False
        self.stop_reason = ""
        self._extensions: dict[str, tuple[Extension, Trigger, int]] = {}
        self.interrupted = False
        self._seconds_before = 0.0
        self._started = time.monotonic()

    @property
    def iteration(self) -> int:
        """Steps taken so far, over all resumptions."""
        return self.updater.iteration

    @property
    def epoch(self) -> int:
        """Whole epochs done so far."""
        return self.iteration // self.updater.epoch_length

    @property
    def total_iterations(self) -> int | None:
        """The most iterations this training may take; None where no stop is a limit."""
        limits = [s.iterations(self) for s in self.stops if isinstance(s, Limit)]
        return min(limits) if limits else None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all resumptions."""
        return self._seconds_before + time.monotonic() - self._started

    def extend(
        self,
        extension: Any,
        *,
        name: str | None = None,
        trigger: When | None = None,
        priority: int | None = None,
    ) -> None:
        """Add an extension, or a plain function of the trainer.

        Writers run before editors, editors before readers, snapshots last; within one priority the
        order of addition holds. Raises ValueError for a name that is taken.
        """
        adapted = as_extension(extension)
        key = name or adapted.name
        if key in self._extensions:
            raise ValueError(f"the trainer already has an extension named {key!r}")
        when = trigger_of(trigger if trigger is not None else adapted.trigger)
        rank = adapted.priority if priority is None else priority
        self._extensions[key] = (adapted, when, rank)

    def run(self) -> None:
        """Train until a stop; returns at once where a finished snapshot was loaded.

        On Ctrl-C the step in hand is finished and a snapshot written, then KeyboardInterrupt raised.
        """
        if self.finished:
            return
        self._started = time.monotonic()
        self.interrupted = False
        ranked = sorted(self._extensions.values(), key=lambda item: item[2])
        ordered = [(extension, trigger) for extension, trigger, _ in ranked]
        writers = [(e, trigger) for e, trigger, rank in ranked if rank < READER]
        readers = [(e, trigger) for e, trigger, rank in ranked if rank >= READER]
        names = {id(m): n for n, m in self.updater.models.items()}
        try:
            with self._finish_step_on_interrupt():
                for extension, _ in ordered:
                    extension.initialize(self)
                while not self._stopped():
                    observation: Observation = {}
                    with observing(observation, names):
                        self.updater.update()
                        self._call(writers)
                    self.means.add(observation)
                    asked = self.interrupted  # later than this counts for the next step: its snapshot
                    self._call(readers)
                    if asked:
                        raise KeyboardInterrupt(self._position())
            self.finished = True
            for extension, _ in ordered:
                extension.finish(self)
            if self.interrupted:  # at the very end: not lost, as the caller may go on
                raise KeyboardInterrupt(self._position())
        finally:
            for extension, _ in ordered:
                extension.close(self)

    def _position(self) -> str:
        """Where training stands, for one who interrupted it."""
        total = self.total_iterations
        return f"{self.name}, at iteration {self.iteration}" + (f" of at most {total}" if total else "")

    def _stopped(self) -> bool:
        for stop in self.stops:
            if self.iteration and stop(self):
                self.stop_reason = str(stop)
                return True
        return False

    def _call(self, extensions: list[tuple[Extension, Trigger]]) -> None:
        for extension, trigger in extensions:
            if trigger(self) or (self.interrupted and extension.on_interrupt):
                extension(self)

    @contextmanager
    def _finish_step_on_interrupt(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(signum: int, frame: object) -> None:
            if self.interrupted:  # the second Ctrl-C does not wait
                raise KeyboardInterrupt
            self.interrupted = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of this training depends on."""
        return {
            "format": FORMAT,
            "finished": self.finished,
            "stop_reason": self.stop_reason,
            "seconds": self.seconds,
            "updater": self.updater.state_dict(),
            "means": self.means.state_dict(),
            "stops": [s.state_dict() if hasattr(s, "state_dict") else {} for s in self.stops],
            "extensions": {n: e.state_dict() for n, (e, _, _) in self._extensions.items()},
            "rng": checkpoint.rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``'s moment, random generators included."""
        self.finished = state["finished"]
        self.stop_reason = state["stop_reason"]
        self._seconds_before = state["seconds"]
        self._started = time.monotonic()
        self.updater.load_state_dict(state["updater"])
        self.means.load_state_dict(state["means"], self.updater.device)
        for stop, saved in zip(self.stops, state["stops"], strict=True):
            if saved:
                stop.load_state_dict(saved)  # type: ignore[attr-defined]
        for name, (extension, _, _) in self._extensions.items():
            if name in state["extensions"]:
                extension.load_state_dict(state["extensions"][name])
        checkpoint.set_rng_state(state["rng"])

    def resume(self) -> bool:
        """Load the snapshot in ``out`` where there is one; says whether there was."""
        for left in self.out.glob(f".{SNAPSHOT_NAME}.*"):  # by a kill in the middle of a write
            left.unlink()
        path = self.out / SNAPSHOT_NAME
        if not path.exists():
            return False
        self.load_state_dict(checkpoint.load(path, self.updater.device))
        return True
