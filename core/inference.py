"""What a model says of all samples: batched, in eval mode, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .data import Data
from .interfaces import Clusterer, Encoder

BATCH_VALUES = 4 * 2**20  # input values in one forward pass, unless a batch size is given


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; each module is put back into its own mode afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def embed(
    encoder: Encoder,
    data: Data,
    *,
    batch_size: int | None = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor:
    """The codes of all samples, float32 on the device, in the data's order.  # (N, D)"""
    size = batch_size or min(4096, max(1, BATCH_VALUES // data.x[0].numel()))
    z: Tensor | None = None
    with evaluating(encoder), autocast():
        for start in range(0, len(data), size):
            part = encoder(data.slice(start, start + size))
            if z is None:
                z = torch.empty((len(data), part.shape[1]), device=part.device)
            z[start : start + len(part)] = part
    assert z is not None, "Data.check refuses empty data"
    return z


def assign(clusterer: Clusterer, z: Tensor, *, batch_size: int = 65536) -> tuple[Tensor, Tensor]:
    """Labels (N,) int64 and confidences (N,), the largest soft assignment, on z's device."""
    labels = torch.empty(len(z), dtype=torch.int64, device=z.device)
    confidence = torch.empty(len(z), device=z.device)
    with evaluating(clusterer):
        for start in range(0, len(z), batch_size):
            part = z[start : start + batch_size]
            labels[start : start + len(part)] = clusterer.predict(part)
            confidence[start : start + len(part)] = clusterer(part).amax(dim=1)
    return labels, confidence
