"""What a model says of all samples: batched, in eval mode, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..contract.interfaces import Clusterer, Encoder, HasCenters
from ..data.data import Data

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
    advance: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """The codes of all samples, float32 on the device, in the data's order.  # (N, D)

    advance: is told how many more are done.
    """
    size = batch_size or min(4096, max(1, BATCH_VALUES // data.x[0].numel()))
    z: Tensor | None = None
    with evaluating(encoder), autocast():
        for start in range(0, len(data), size):
            part = encoder(data.slice(start, start + size))
            if z is None:
                z = torch.empty((len(data), part.shape[1]), device=part.device)
            z[start : start + len(part)] = part
            advance(len(part))
    assert z is not None, "Data.check refuses empty data"
    return z


class Assignment(NamedTuple):
    """Where samples belong, each (N,) on the codes' device.

    labels: the clusters. confidence: the largest soft assignment. second: the cluster with the
    largest one beside the label's, of none but zeros that of the nearest centre; second_confidence: it.
    """

    labels: Tensor
    confidence: Tensor
    second: Tensor
    second_confidence: Tensor


def assign(clusterer: Clusterer, z: Tensor, *, batch_size: int = 65536) -> Assignment:
    """The clusters of codes z (N, D)."""
    parts, centers = [], _own_centers(clusterer, z)
    with evaluating(clusterer):
        for rows in torch.split(z, batch_size):
            labels, q = clusterer.predict(rows), clusterer(rows)  # (B,), (B, K)
            confidence = q.amax(dim=1)
            others = q.scatter(1, labels[:, None], -1)  # below any soft assignment
            second_confidence, second = others.max(dim=1)
            if centers is not None and (none := (second_confidence == 0).nonzero()[:, 0]).numel():
                far = torch.cdist(rows[none], centers).scatter(1, labels[none, None], torch.inf)
                second[none] = far.argmin(dim=1)
            parts.append(Assignment(labels, confidence, second, second_confidence))
    return Assignment(*(torch.cat(column) for column in zip(*parts, strict=True)))


def centers_of(clusterer: Clusterer, z: Tensor, labels: Tensor) -> Tensor:
    """A point of the latent space for each cluster: its centre, else the mean of its codes.  # (K, D)

    A cluster that has neither gets NaN.
    """
    if (own := _own_centers(clusterer, z)) is not None:
        return own
    sums = torch.zeros(clusterer.n_clusters, z.shape[1], dtype=torch.float64, device=z.device)
    sums.index_add_(0, labels, z.double())
    counts = torch.bincount(labels, minlength=clusterer.n_clusters)
    return (sums / counts[:, None]).to(z)


def _own_centers(clusterer: Clusterer, z: Tensor) -> Tensor | None:
    """The clusterer's centres, where it has some in the space of the codes.  # (K, D)"""
    if not isinstance(clusterer, HasCenters):
        return None
    centers = clusterer.centers.detach()
    return centers.to(z) if centers.shape == (clusterer.n_clusters, z.shape[1]) else None


def distances(z: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """The Euclidean distance of each code to its cluster's centre.  # (N,)"""
    return torch.cat(
        [
            (rows - centers[own]).norm(dim=1)
            for rows, own in zip(torch.split(z, 65536), torch.split(labels, 65536), strict=True)
        ]
    )
