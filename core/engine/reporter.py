"""What a training step observed: values reported from anywhere in it, and their means on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

import torch
from torch import Tensor, nn

Observation = dict[str, Tensor | float]
_current: ContextVar[tuple[Observation, Mapping[int, str]] | None] = ContextVar("observation", default=None)


@contextlib.contextmanager
def observing(observation: Observation, names: Mapping[int, str]) -> Iterator[None]:
    """Collect what ``report`` is given into ``observation``; ``names`` maps id(observer) to a prefix."""
    token = _current.set((observation, names))
    try:
        yield
    finally:
        _current.reset(token)


def report(values: Mapping[str, Tensor | float], observer: nn.Module | None = None) -> None:
    """Report values of this training step, ``report({"loss": loss}, self)``; outside one, nothing.

    Keys get the observer's name in the updater as a prefix where it has one. Tensors (0-d) stay on
    their device: reporting never waits for it.
    """
    current = _current.get()
    if current is None:
        return
    observation, names = current
    prefix = names.get(id(observer), "") if observer is not None else ""
    for key, value in values.items():
        name = f"{prefix}/{key}" if prefix else key
        observation[name] = value.detach() if isinstance(value, Tensor) else value


class Means:
    """Running means by name, kept on the device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, observation: Observation) -> None:
        """Count one step's values."""
        for name, value in observation.items():
            if name in self._sums:
                self._sums[name] += value
                self._counts[name] += 1
            else:
                tensor = value if isinstance(value, Tensor) else torch.tensor(value)
                precise = torch.float32 if tensor.device.type == "mps" else torch.float64
                self._sums[name] = tensor.to(precise, copy=True)
                self._counts[name] = 1

    def read(self) -> dict[str, float]:
        """The means so far: the one place that waits for the device, once for each device."""
        return {name: float(total) / self._counts[name] for name, total in self._on_cpu().items()}

    def clear(self) -> None:
        """Forget everything."""
        self._sums, self._counts = {}, {}

    def _on_cpu(self) -> dict[str, float]:
        groups: dict[torch.device, list[str]] = {}
        for name, total in self._sums.items():
            groups.setdefault(total.device, []).append(name)
        values: dict[str, float] = {}
        for names in groups.values():
            stacked = torch.stack([self._sums[n] for n in names]).tolist()
            values.update(zip(names, stacked, strict=True))
        return {name: values[name] for name in self._sums}

    def state_dict(self) -> dict[str, tuple[float, int]]:
        """Sum and count by name; float64 sums go through Python floats without loss."""
        return {name: (total, self._counts[name]) for name, total in self._on_cpu().items()}

    def load_state_dict(self, state: Mapping[str, tuple[float, int]], device: torch.device) -> None:
        """Go on from ``state_dict``'s sums."""
        precise = torch.float32 if device.type == "mps" else torch.float64
        self._sums = {n: torch.tensor(s, dtype=precise, device=device) for n, (s, _) in state.items()}
        self._counts = {n: c for n, (_, c) in state.items()}
