"""The training loop: an updater, a stop, and extensions that act when their triggers say so."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import DeepclustError
from ..words import one_line
from . import checkpoint
from .checkpoint import SNAPSHOT_NAME
from .extensions.extension import READER, Extension, as_extension
from .extensions.from_plugin import FromPlugin, Owner
from .reporter import Means, Observation, observing
from .trigger import Limit, Trigger, When, reason_of, stops_of, trigger_of
from .updater import Updater

FORMAT = 2  # of snapshots; the first had stops by their place


class Trainer:
    """Runs an updater until a stop, calling extensions on the way (Chainer's words; Tokui et al. 2019).

    stop: ``(20, "epoch")``, a trigger, or several of which the first ends the training; so does any
    extension that calls ``trainer.stop(reason)``.
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
        self.stops: Mapping[str, Trigger] = MappingProxyType(stops_of(stop))
        self.out = Path(out)
        self.name = name or self.out.name
        self.means = Means()
        self.line: dict[str, float] = {}  # the last line that Log made of the means
        self.finished = False
        self.stop_reason = ""  # what ended it, or is to end it after the step in hand
        self.without: list[str] = []  # of a resumed training, the extensions of plugins that are gone
        self._owner: Owner | None = None  # whose extensions are being added
        self._left: dict[str, tuple[Owner, dict[str, Any]]] = {}  # what they had kept
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
        limits = [s.iterations(self) for s in self.stops.values() if isinstance(s, Limit)]
        return min(limits) if limits else None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all resumptions."""
        if self.finished:
            return self._seconds_before
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
        own = name or adapted.name
        key = own if self._owner is None else f"{self._owner.plugin}:{own}"
        if key in self._extensions:
            raise ValueError(f"the trainer already has an extension named {key!r}")
        when = trigger_of(trigger if trigger is not None else adapted.trigger)
        rank = adapted.priority if priority is None else priority
        if self._owner is not None:
            adapted = FromPlugin(adapted, own, when, self._owner, self)
            when = adapted.due
        self._extensions[key] = (adapted, when, rank)

    @contextmanager
    def adding_for(self, plugin: str, distribution: str, version: str) -> Iterator[None]:
        """What is added within is a plugin's: its name stands before each extension's and in their errors.

        Where anything is raised within, nothing of it stays.
        """
        before, reason = dict(self._extensions), self.stop_reason
        self._owner = Owner(plugin, distribution, version)
        try:
            yield
        except BaseException:
            self._extensions, self.stop_reason = before, reason
            raise
        finally:
            self._owner = None

    def stop(self, reason: str) -> None:
        """End the training after the step in hand; the first reason that is given is kept and shown.

        Raises ValueError where the reason says nothing.
        """
        said = one_line(reason)
        if not said:
            raise ValueError("trainer.stop needs a reason in words")
        self.stop_reason = self.stop_reason or said

    @property
    def owners(self) -> dict[str, Owner]:
        """The plugins whose extensions had a part in this training, by these extensions' names."""
        left = {key: owner for key, (owner, _) in self._left.items()}
        there = {key: e.owner for key, (e, _, _) in self._extensions.items() if isinstance(e, FromPlugin)}
        return {**left, **there}

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
            self._seconds_before = self.seconds
            self.finished = True
            for extension, _ in ordered:
                extension.finish(self)
            if self.interrupted:  # at the very end: not lost, as the caller may go on
                raise KeyboardInterrupt(self._position())
        finally:
            with ExitStack() as closing:  # all of them, also where one raises
                for extension, _ in reversed(ordered):
                    closing.callback(extension.close, self)

    def _position(self) -> str:
        """Where training stands, for one who interrupted it."""
        total = self.total_iterations
        return f"{self.name}, at iteration {self.iteration}" + (f" of at most {total}" if total else "")

    def _stopped(self) -> bool:
        if not self.iteration:
            return False
        if not self.stop_reason:
            reasons = (reason_of(name, stop) for name, stop in self.stops.items() if stop(self))
            self.stop_reason = next(reasons, "")
        return bool(self.stop_reason)

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
            "stops": {n: s.state_dict() for n, s in self.stops.items() if hasattr(s, "state_dict")},
            "extensions": {
                **{name: kept for name, (_, kept) in self._left.items()},
                **{name: e.state_dict() for name, (e, _, _) in self._extensions.items()},
            },
            "owners": {name: tuple(owner) for name, owner in self.owners.items()},
            "rng": checkpoint.rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``'s moment, random generators included.

        Stops and extensions take back what was kept under their names. What a plugin kept that is gone, or
        another of its name, stays as it is, and ``without`` names it.
        """
        self.finished = state["finished"]
        self.stop_reason = state["stop_reason"] or self.stop_reason
        self._seconds_before = state["seconds"]
        self._started = time.monotonic()
        self.updater.load_state_dict(state["updater"])
        self.means.load_state_dict(state["means"], self.updater.device)
        if state["format"] == FORMAT:  # else it is finished, and nothing of this is asked again
            self._load_added(state)
        checkpoint.set_rng_state(state["rng"])

    def _load_added(self, state: dict[str, Any]) -> None:
        """The states of stops and extensions."""
        for name, stop in self.stops.items():
            if name in state["stops"] and hasattr(stop, "load_state_dict"):
                stop.load_state_dict(state["stops"][name])
        there = self.owners
        owners = {name: Owner(*owner) for name, owner in state["owners"].items()}
        for name, owner in owners.items():
            if name not in there or there[name].distribution != owner.distribution:
                self._left[name] = (owner, state["extensions"][name])
                if not self.finished:
                    self.without.append(f"'{name.removeprefix(owner.plugin + ':')}' of {owner}")
        for name, (extension, _, _) in self._extensions.items():
            if name in state["extensions"] and name not in self._left:
                extension.load_state_dict(state["extensions"][name])

    def resume(self) -> bool:
        """Load the snapshot in ``out`` where there is one; says whether there was.

        Raises DeepclustError for an unfinished one of another version of deepclust.
        """
        for left in self.out.glob(f".{SNAPSHOT_NAME}.*"):  # by a kill in the middle of a write
            left.unlink()
        path = self.out / SNAPSHOT_NAME
        if not path.exists():
            return False
        state = checkpoint.load(path, self.updater.device)
        if state["format"] > FORMAT or not (state["format"] == FORMAT or state["finished"]):
            raise DeepclustError(
                f"the snapshot '{path}' is of another version of deepclust (form {state['format']}, this "
                f"one's is {FORMAT}), whose unfinished trainings do not go on here: go on with that version, "
                "or delete it to train this stage again."
            )
        self.load_state_dict(state)
        return True
