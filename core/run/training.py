"""Settings that components which train share, and the batches, optimiser, schedule and length they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..contract.config import setting
from ..engine import Batch, Batches, OptimizerName, Updater, make_optimizer
from ..engine.extensions import LearningRate, cosine, steps
from ..engine.updater import Samples
from ..toolbox.length import affordable_steps

if TYPE_CHECKING:
    from .run import Run

ScheduleName = Literal["cosine", "steps", "constant"]
STEP = 20_000  # iterations after which the schedule "steps" takes a tenth


@dataclass(frozen=True)
class Optimization:
    """The settings of a training's steps, for the ``Config`` of a component that calls ``Run.learn``.

    A subclass gives a field anew to change its default, its limits or its help.
    """

    optimizer: OptimizerName = setting("adam", "optimiser")
    lr: float = setting(1e-3, "initial learning rate", low=0)
    schedule: ScheduleName = setting(
        "cosine", "learning rate: cosine to 0, a tenth every 20 000 iterations, or constant"
    )
    momentum: float = setting(0.9, "momentum of sgd", low=0, high=1)
    weight_decay: float = setting(0.0, "weight decay", low=0)
    clip: float | None = setting(None, "largest norm of all gradients in a step; none: any", low=1e-6)


@dataclass(frozen=True)
class Training(Optimization):
    """``Optimization``, and how many samples are seen at a time, and how long."""

    batch_size: int = setting(256, "samples in a batch", low=1)
    epochs: int | None = setting(
        None, "epochs; none: what is usual, at least least_steps, at most some minutes", low=1
    )
    least_steps: int = setting(500, "fewest steps, if epochs is none", low=1)


def updater_of(
    run: Run,
    stage: str,
    loss: Callable[[Batch], Tensor],
    models: nn.Module | Mapping[str, nn.Module],
    data: Samples | Batches,
    config: Optimization,
    optimizer: Optimizer | None,
) -> Updater:
    """The updater of ``Run.learn``, by default with the optimiser of ``config`` over what wants gradients.

    The models are put into training mode.
    """
    batches = data if isinstance(data, Batches) else run.batches(data, _whole(config).batch_size, stage)
    learning = nn.ModuleList([models] if isinstance(models, nn.Module) else models.values()).train()
    if optimizer is None:
        optimizer = make_optimizer(
            config.optimizer, learning.parameters(), config.lr,
            momentum=config.momentum, weight_decay=config.weight_decay,
        )  # fmt: skip
    return Updater(batches, models, optimizer, loss, autocast=run.autocast, clip=config.clip)


def length_of(
    run: Run,
    updater: Updater,
    data: Samples | Batches,
    config: Optimization,
    *,
    usual: int,
    most: int | None,
    passes: float,
) -> tuple[int, Literal["epoch"]]:
    """The epochs of ``config``, or where it names none ``usual`` ones within its least and ``most`` steps."""
    c, batches = _whole(config), updater.batches
    if c.epochs is not None:
        return (run.scaled(c.epochs), "epoch")
    if most is None:
        indices = torch.arange(min(2, len(batches.data)), device=batches.data.x.device)
        size = batches.size if batches is data else c.batch_size  # those made here count as asked for
        first = next(iter(updater.models.values()))
        most = affordable_steps(first, batches.data.batch(indices), size, passes)
    return run.length(None, batches, usual=usual, least=c.least_steps, most=most)


def schedule_of(config: Optimization) -> list[LearningRate]:
    """What changes the learning rate, if anything does."""
    factors = {"cosine": cosine(), "steps": steps(STEP)}
    return [LearningRate(factors[config.schedule])] if config.schedule in factors else []


def _whole(config: Optimization) -> Training:
    if not isinstance(config, Training):
        raise TypeError(
            f"{type(config).__name__} has no batch_size, epochs and least_steps: let it inherit Training, or "
            "give Run.learn batches that are ready and a length"
        )
    return config
