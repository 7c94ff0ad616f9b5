"""A part within a component: another component, named and set up by one setting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import Registry


@dataclass(frozen=True)
class Part:
    """Another component, as the value of a setting.

    kind, name: such as ``"encoder"`` and ``"cae"``. cls: its class. config: its settings, an instance of
    ``cls.Config``. Without a class it is a name alone: one of the setting's own, or that of a component
    whose config was made by hand; ``known`` looks that one up among what is installed.
    """

    kind: str
    name: str
    cls: type[Any] | None = dataclasses.field(default=None, repr=False)
    config: Any = None

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def of(kind: str, name: str, settings: Mapping[str, Any], registry: Registry | None = None) -> Part:
        """A component with ``settings`` of ``registry``, by default of what is installed.

        Raises UnknownName, BrokenPlugin, or InvalidSetting for settings that it does not have.
        """
        from .registry import installed

        return (registry or installed()).part(kind, name, settings)

    def known(self) -> Part:
        """This part with class and config; raises UnknownName or BrokenPlugin where there is none."""
        return self if self.cls is not None else Part.of(self.kind, self.name, {})

    def make(self, *arguments: Any) -> Any:
        """The component; ``arguments`` are what its constructor takes after the config."""
        known = self.known()
        assert known.cls is not None
        return known.cls(known.config, *arguments)


def part(kind: str, default: str, help: str, *, own: Sequence[str] = ()) -> Any:
    """A field of a component's ``Config``, of type ``Part``: another component with settings of its own.

    kind: ``"encoder"``, ``"clusterer"``. default: its name where nobody says another. own: other names,
    which have no settings: what they stand for the component makes itself.

    Users say ``-s encoder.backbone=cae -s encoder.backbone.width=32``, in a file ``backbone = "cae"`` or
    ``backbone = {name = "cae", width = 32}``. Name and settings are checked when the config is built,
    before anything is trained.
    """
    return dataclasses.field(
        default=Part(kind, default), metadata={"help": help, "kind": kind, "own": tuple(own)}
    )
