"""How long a training goes where nobody says, and how large its batches are."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .inference import evaluating

MOST_FLOPS = 2.5e13  # of a stage: two to six minutes on two CPU cores
BACKWARD = 3  # forward and backward pass take so many times the forward one
LARGEST_SHARE = 4  # a batch holds at most a quarter of the samples, so that an epoch is some steps
SMALLEST = 16  # samples that it may hold in any case


def batch_size(asked: int, n_samples: int, *, even: bool = False) -> int:
    """The samples in a batch: as asked, or fewer where they are a large share of all.

    even: fewer still, so that the last batch of an epoch has about as many as the others.
    """
    most = min(asked, max(SMALLEST, -(-n_samples // LARGEST_SHARE)))
    return -(-n_samples // -(-n_samples // most)) if even else most


def sample_flops(model: nn.Module, x: torch.Tensor) -> float:
    """The operations in products of one sample's way through a model, at least 1.  x: (B, ...)"""
    with evaluating(model), FlopCounterMode(display=False) as counter:
        model(x)
    return max(1.0, float(counter.get_total_flops()) / len(x))


def affordable_steps(model: nn.Module, x: torch.Tensor, batch: int, passes: float = 1) -> int:
    """The steps that take ``MOST_FLOPS`` in products: a function of the network, not of the machine.

    x: (B, ...) samples to count on. batch: samples in a step, each of which takes ``passes`` through the
    model, 2 for an autoencoder of which ``model(x)`` is the encoder.
    """
    return max(1, int(MOST_FLOPS / (BACKWARD * passes * sample_flops(model, x) * batch)))


def whole_epochs(usual: int, per_epoch: int, least: int, most: int) -> int:
    """``usual`` epochs of ``per_epoch`` steps, so many more that they are ``least`` steps, but no more than
    ``most``; at least one epoch."""
    steps = min(max(usual * per_epoch, least), most)
    return max(1, round(steps / per_epoch))
