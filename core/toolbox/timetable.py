"""How long a run takes in all, from a few measured steps, and which length fits a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

AIM = 0.9  # of a budget: estimates are rough
SHORTEST, LONGEST = 0.01, 4.0  # what a budget may multiply lengths by


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    name: such as ``encoder/finetune``. before: seconds from the end of the stage before to its first
    step. step: seconds of a step, with its share of what is done now and then. steps: how many there are.
    least: the fewest that any length comes to. open: whether it may end earlier, or be left out.
    """

    name: str
    before: float
    step: float
    steps: int
    least: int = 1
    open: bool = False

    @property
    def part(self) -> str:
        """What the stage belongs to: encoder or clusterer."""
        return self.name.partition("/")[0]

    def seconds(self, scale: float = 1.0) -> float:
        """How long it takes where lengths are multiplied by ``scale``."""
        return self.before + self.step * max(self.steps * scale, min(self.least, self.steps))


@dataclass(frozen=True)
class Timetable:
    """What is to come: the stages in their order, and what each part takes beside them, in seconds.

    rest: by part, in their order; encoder and clusterer after their last stage. scale: what the stages'
    lengths are multiplied by.
    """

    stages: tuple[Stage, ...]
    rest: Mapping[str, float]
    scale: float = 1.0

    def seconds(self) -> dict[str, float]:
        """How long each part takes."""
        found = dict(self.rest)
        for stage in self.stages:
            found[stage.part] += stage.seconds(self.scale)
        return found

    @property
    def total(self) -> float:
        """How long the whole takes."""
        return sum(self.seconds().values())

    def after(self, stage: str) -> float:
        """How long takes what comes after a stage."""
        names = [s.name for s in self.stages]
        if stage not in names:
            return 0.0
        place = names.index(stage)
        parts = list(self.rest)
        later = parts[parts.index(self.stages[place].part) :]
        return sum(s.seconds(self.scale) for s in self.stages[place + 1 :]) + sum(
            self.rest[part] for part in later
        )

    def fit(self, minutes: float) -> Timetable:
        """At the scale at which the whole takes so long, to two digits, from ``SHORTEST`` to ``LONGEST``."""
        low, high = SHORTEST, LONGEST
        for _ in range(40):
            middle = math.sqrt(low * high)
            if replace(self, scale=middle).total <= AIM * 60 * minutes:
                low = middle
            else:
                high = middle
        digit = 10.0 ** (math.floor(math.log10(low)) - 1)
        return replace(self, scale=float(f"{math.floor(low / digit + 1e-6) * digit:.2g}"))

    def __str__(self) -> str:
        """Such as ``about 4 minutes in all: encoder 3:10, clusterer 0:30, results 0:10``."""
        parts = ", ".join(f"{part} {clock(seconds)}" for part, seconds in self.seconds().items())
        about = "at most about" if any(stage.open for stage in self.stages) else "about"
        return f"{about} {in_words(self.total)} in all: {parts}"


def clock(seconds: float) -> str:
    """``3:10``, or ``1:03:10`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_words(seconds: float) -> str:
    """In the largest unit that fits, without digits that no estimate has."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


class Stopwatch(Protocol):
    """Who measures; ``quadratic`` counts seconds that grow with the square of the samples, ``fixed`` those
    that do not grow."""

    quadratic: float
    fixed: float

    def now(self) -> float: ...


LISTENING: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def squared() -> Iterator[None]:
    """Says of what is done inside that it compares all samples with all."""
    watch = LISTENING.get()
    start = watch.now() if watch is not None else 0.0
    yield
    if watch is not None:
        watch.quadratic += watch.now() - start


@contextmanager
def bounded() -> Iterator[None]:
    """Says of what is done inside that it takes as long for more samples."""
    watch = LISTENING.get()
    token = LISTENING.set(None)  # whatever is said inside
    start = watch.now() if watch is not None else 0.0
    yield
    LISTENING.reset(token)
    if watch is not None:
        watch.fixed += watch.now() - start
