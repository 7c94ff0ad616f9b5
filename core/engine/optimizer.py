"""Optimisers by name, in their fused form where the device has one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

OptimizerName = Literal["adam", "adamw", "sgd"]


def make_optimizer(
    name: OptimizerName,
    parameters: Iterable[nn.Parameter],
    lr: float,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> Optimizer:
    """An optimiser over the parameters that want gradients; ``momentum`` is SGD's alone."""
    wanted = [p for p in parameters if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in wanted)
    if name == "sgd":
        return SGD(wanted, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
    if name == "adamw":
        return AdamW(wanted, lr=lr, weight_decay=weight_decay, fused=fused)
    if name == "adam":
        return Adam(wanted, lr=lr, weight_decay=weight_decay, fused=fused)
    raise ValueError(f"optimiser {name!r}: there is adam, adamw and sgd")
