"""When something happens: intervals and limits are pure functions of the counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..words import one_line

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


def trigger_of(when: When) -> Trigger:
    """An Interval for a pair such as ``(1, "epoch")``; a trigger stays what it is."""
    return Interval(*when) if isinstance(when, tuple) else when


def limit_of(when: When) -> Trigger:
    """A Limit for a pair such as ``(20, "epoch")``; a trigger stays what it is."""
    return Limit(*when) if isinstance(when, tuple) else when


def stops_of(stop: When | Sequence[When]) -> dict[str, Trigger]:
    """One or several stops by the name under which a snapshot keeps their state.

    It is what a limit says, and of others their class or function, numbered from the second of a name on.
    """
    single = callable(stop) or (isinstance(stop, tuple) and isinstance(stop[0], int))
    given: Sequence[Any] = [stop] if single else stop  # type: ignore[assignment,list-item]
    named: dict[str, Trigger] = {}
    for each in map(limit_of, given):
        first = str(each) if isinstance(each, Limit) else getattr(each, "__name__", type(each).__name__)
        number = 1
        while (name := first if number == 1 else f"{first} {number}") in named:
            number += 1
        named[name] = each
    return named


def reason_of(name: str, stop: Trigger) -> str:
    """Why a stop of that name ended the training: what it says of itself, where it says anything."""
    says = any("__str__" in vars(cls) for cls in type(stop).__mro__[:-1])  # else it is its address
    return (one_line(stop) if says else "") or name


def _checked(period: int, unit: Unit) -> tuple[int, Unit]:
    if unit not in ("iteration", "epoch") or period < 1:
        raise ValueError(f"({period}, {unit!r}): a positive number of 'iteration' or 'epoch' is needed")
    return period, unit
