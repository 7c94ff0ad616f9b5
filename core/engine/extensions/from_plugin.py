"""An extension that a plugin added: its errors say whose they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...errors import PluginFailed
from ...words import in_one_line
from ..trigger import Trigger
from .extension import Extension

if TYPE_CHECKING:
    from ..trainer import Trainer


PLAIN = (type(None), bool, int, float, str)


class Owner(NamedTuple):
    """Who added an extension: the plugin's entry point, its distribution and version."""

    plugin: str
    distribution: str
    version: str

    @property
    def source(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"plugin '{self.plugin}' ({self.source})"


class FromPlugin(Extension):
    """Hands everything on to a plugin's extension, added under a name, and to its trigger.

    Raises PluginFailed for whatever these raise, too little memory apart, which the run itself explains.
    """

    def __init__(self, inner: Extension, name: str, trigger: Trigger, owner: Owner, trainer: Trainer) -> None:
        self.inner, self.called, self.when = inner, name, trigger
        self.owner, self.trainer = owner, trainer
        self.on_interrupt = inner.on_interrupt
        self.grows = inner.grows

    def due(self, trainer: Trainer) -> bool:
        """Whether the trigger says so."""
        with self._named():
            return self.when(trainer)

    def initialize(self, trainer: Trainer) -> None:
        with self._named():
            self.inner.initialize(trainer)

    def __call__(self, trainer: Trainer) -> None:
        with self._named():
            self.inner(trainer)

    def finish(self, trainer: Trainer) -> None:
        with self._named():
            self.inner.finish(trainer)

    def close(self, trainer: Trainer) -> None:
        with self._named():
            self.inner.close(trainer)

    def state_dict(self) -> dict[str, Any]:
        with self._named():
            state = self.inner.state_dict()
            if not isinstance(state, dict):
                raise TypeError(f"state_dict() gives a dict, not {type(state).__name__}")
            _check_plain(state, "state")
            return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with self._named():
            self.inner.load_state_dict(state)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            at = self.trainer.iteration
            raise PluginFailed(
                f"{self.trainer.name}: the extension '{self.called}' of {self.owner} failed at iteration "
                f"{at}: {in_one_line(error).removesuffix('.')}. Without the plugin "
                f"(DEEPCLUST_BLOCK={self.owner.plugin}) the same command goes on."
            ) from error


def _check_plain(value: Any, where: str) -> None:
    """Raise TypeError for what a snapshot would keep and could not be read with again."""
    if type(value) in (dict, OrderedDict):
        for key, inner in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(inner, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for number, inner in enumerate(value):
            _check_plain(inner, f"{where}[{number}]")
    elif type(value) not in PLAIN and not isinstance(value, Tensor):
        raise TypeError(
            f"its state_dict is to be a dict of tensors, numbers, text and lists, and {where} is a "
            f"{type(value).__name__}"
        )
