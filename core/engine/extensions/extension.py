"""What an extension is: something a trainer calls when a trigger says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..trigger import When

if TYPE_CHECKING:
    from ..trainer import Trainer

WRITER, EDITOR, READER, SNAPSHOT = 0, 10, 20, 30  # writers report, editors change, readers look


class Extension:
    """An extension with the defaults that most want; override what is needed.

    Writers and editors run inside the step, so that what they ``report`` counts as the step's;
    then the step's values enter ``trainer.means``; then readers run, and snapshots last.
    """

    trigger: When = (1, "iteration")
    priority: int = READER
    on_interrupt: bool = False  # whether it is called after the step that Ctrl-C ends, whatever its trigger
    grows: bool = False  # whether a call looks at all samples, so that it takes longer the more there are

    @property
    def name(self) -> str:
        """The name under which the trainer keeps it."""
        return type(self).__name__

    def initialize(self, trainer: Trainer) -> None:
        """Called before the first step of a training or of its resumption (after the state is loaded)."""

    def __call__(self, trainer: Trainer) -> None:
        """Called after each step at which the trigger is true."""

    def finish(self, trainer: Trainer) -> None:
        """Called once, when a stop has ended the training."""

    def close(self, trainer: Trainer) -> None:
        """Called in any case, also after an error."""

    def settle(self, trainer: Trainer) -> object:
        """Called when the training is over, also of a resumed run that finds it finished; true where it has
        taken back what was trained."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a resumption needs: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back ``state_dict``'s values."""


class _Function(Extension):
    def __init__(self, function: Callable[[Trainer], object]) -> None:
        self.function = function

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __call__(self, trainer: Trainer) -> None:
        self.function(trainer)


def as_extension(extension: Any) -> Extension:
    """An extension as it is, a plain function of the trainer wrapped in one."""
    return extension if isinstance(extension, Extension) else _Function(extension)
