"""One training step: which samples, which models, which loss, which optimisers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .reporter import report


class Samples(Protocol):
    """What batches are cut from."""

    @property
    def device(self) -> torch.device: ...

    @property
    def x(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Batch:
    """x: (B, *shape) on the device. index: (B,) int64 on the device, the samples' places in the data."""

    x: Tensor
    index: Tensor


class Batches:
    """An endless list of batches: ``batches[i]`` is a function of (seed, i) alone.

    Each epoch is a permutation of all samples; the last batch of an epoch holds the rest, and a
    rest of one sample joins the batch before it, so that batch statistics always exist.
    """

    def __init__(self, data: Samples, size: int, seed: int, *, shuffle: bool = True) -> None:
        self.data, self.size, self.seed, self.shuffle = data, size, seed, shuffle
        self.n_samples = len(data)  # in an epoch
        self._epoch = -1
        self._at_home = self._on_device = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(self.n_samples, self.size)
        return max(1, whole + (rest > 1 or (rest == 1 and self.size == 1)))

    def __getitem__(self, i: int) -> Batch:
        epoch, position = divmod(i, len(self))
        if epoch != self._epoch:
            self._permute(epoch)
        start = position * self.size
        stop = start + self.size if position < len(self) - 1 else len(self.data)
        return Batch(self.data.batch(self._at_home[start:stop]), self._on_device[start:stop])

    def order(self, generator: torch.Generator) -> Tensor:
        """The places of an epoch's samples, (N,) on the CPU; ``generator`` is the epoch's own."""
        n = len(self.data)
        return torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)

    def _permute(self, epoch: int) -> None:
        order = self.order(torch.Generator().manual_seed(mix(self.seed, epoch)))
        self._at_home = order.to(self.data.x.device)
        self._on_device = order.to(self.data.device)
        self._epoch = epoch


def mix(seed: int, epoch: int) -> int:
    """One 63-bit seed from two numbers (splitmix64's finaliser, Steele et al. 2014)."""
    z = (seed + 0x9E3779B97F4A7C15 * (epoch + 1)) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1


class Updater:
    """Takes training steps: a batch, its loss, the gradients, a step of each optimiser.

    model, optimizer: one, or several by name (then reports carry the model's name).
    loss: batch -> 0-d tensor; it may ``report`` more values.
    autocast: makes the context in which the loss is computed.
    clip: the largest norm of all gradients together, to which larger ones are scaled down; None for any.

    Subclass and override ``step`` for another kind of step.
    """

    def __init__(
        self,
        batches: Batches,
        model: nn.Module | Mapping[str, nn.Module],
        optimizer: Optimizer | Mapping[str, Optimizer],
        loss: Callable[[Batch], Tensor],
        *,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        clip: float | None = None,
    ) -> None:
        self.batches = batches
        self.models = {"": model} if isinstance(model, nn.Module) else dict(model)
        self.optimizers = {"": optimizer} if isinstance(optimizer, Optimizer) else dict(optimizer)
        self.loss = loss
        self.autocast, self.clip = autocast, clip
        self.iteration = 0

    @property
    def epoch_length(self) -> int:
        """Iterations in an epoch."""
        return len(self.batches)

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.batches.data.device

    def update(self) -> None:
        """Take one step and count it."""
        self.step(self.batches[self.iteration])
        self.iteration += 1

    def step(self, batch: Batch) -> None:
        """One step on one batch."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss(batch)
        report({"loss": loss})
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], self.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Counter, models and optimisers."""
        return {
            "iteration": self.iteration,
            "models": {name: m.state_dict() for name, m in self.models.items()},
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``'s place."""
        self.iteration = state["iteration"]
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
