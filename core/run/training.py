"""Settings that components which train share, and the batches, optimiser, schedule and length they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from ..contract.config import setting
from ..engine import Batches, OptimizerName, make_optimizer
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
    lr: float = setting(1e-3, "learning rate, the highest where it follows a schedule", low=0)
    schedule: ScheduleName = setting(
        "cosine", "learning rate: cosine to 0, a tenth every 20 000 iterations, or constant"
    )
    momentum: float = setting(0.9, "momentum of sgd", low=0, high=1)
    weight_decay: float = setting(0.0, "weight decay", low=0)
    clip: float | None = setting(
        None, "largest norm of a step's gradients, larger ones are scaled down to it; none: any", low=1e-6
    )


@dataclass(frozen=True)
class Training(Optimization):
    """``Optimization``, and how many samples are seen at a time, and how long."""

    batch_size: int = setting(256, "samples in a batch", low=1)
    epochs: int | None = setting(
        None, "epochs; none: what is usual, at least least_steps, at most some minutes", low=1
    )
    least_steps: int = setting(500, "fewest steps, if epochs is none", low=1)


def batches_of(run: Run, stage: str, data: Samples | Batches, config: Optimization) -> Batches:
    """``data`` themselves, or batches of them for a stage."""
    return data if isinstance(data, Batches) else run.batches(data, _whole(config).batch_size, stage)


def length_of(
    run: Run,
    batches: Batches,
    size: int | None,
    network: nn.Module,
    config: Optimization,
    *,
    usual: int,
    most: int | None,
    passes: float,
) -> tuple[int, Literal["epoch"]]:
    """The epochs of ``config``, or where it names none ``usual`` ones within its least and ``most`` steps.

    most: None for what ``affordable_steps`` says of ``network``. size: samples in its steps, None for as
    many as are asked for.
    """
    c, samples = _whole(config), batches.data
    if c.epochs is not None:
        return (run.scaled(c.epochs), "epoch")
    if most is None:
        x = samples.batch(torch.arange(min(2, len(samples)), device=samples.x.device))
        most = affordable_steps(network, x, size or c.batch_size, passes)
    return run.length(None, batches, usual=usual, least=c.least_steps, most=most)


def optimizer_of(config: Optimization, models: Sequence[nn.Module]) -> Optimizer:
    """The optimiser of ``config`` over what of ``models`` wants gradients."""
    return make_optimizer(
        config.optimizer, nn.ModuleList(models).parameters(), config.lr,
        momentum=config.momentum, weight_decay=config.weight_decay,
    )  # fmt: skip


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
