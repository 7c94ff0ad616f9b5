"""What a model says of all samples: batched, in eval mode, without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..contract.abilities import HasCenters
from ..contract.assignment import NOISE, Assignment
from ..contract.interfaces import Clusterer, Encoder
from ..data.data import Data
from ..errors import BrokenPlugin
from ..words import counted

BATCH_VALUES = 4 * 2**20  # input values in one forward pass, unless a batch size is given
ROWS = 1e-3  # what soft assignments may sum to beside 1


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


def assign(
    clusterer: Clusterer, z: Tensor, centers: Tensor | None = None, *, batch_size: int = 65536, who: str = ""
) -> Assignment:
    """Where codes z (N, D) belong; on the CPU.

    centers: (K, D) to measure distances to; by default as ``centers_of`` finds them. who: what the clusterer
    is called in errors. Raises BrokenPlugin where it says what no clusterer may.
    """
    parts, own = [], _own_centers(clusterer, z)
    with evaluating(clusterer):
        for rows in torch.split(z, batch_size):
            # of copies, as a plugin may work in place
            labels, q = clusterer.predict(rows.clone()), clusterer(rows.clone())  # (B,), (B, K)
            check_answer(clusterer, labels, q, len(rows), who or type(clusterer).__name__)
            confidence = q.amax(dim=1).masked_fill(labels == NOISE, 0)
            second_confidence, second = _but(q, labels, -1).max(dim=1)  # below any soft assignment
            if own is not None and (none := (second_confidence == 0).nonzero()[:, 0]).numel():
                second[none] = _but(torch.cdist(rows[none], own), labels[none], torch.inf).argmin(dim=1)
            parts.append((labels, confidence, second, second_confidence.clamp_min(0)))  # -1 of one cluster
    labels, confidence, second, second_confidence = (torch.cat(column) for column in zip(*parts, strict=True))
    if centers is None:
        centers = own if own is not None else centers_of(clusterer, z, labels)
    columns = {
        "labels": labels, "confidence": confidence, "second": second, "second_confidence": second_confidence,
        "distance": distances(z, labels, centers), "second_distance": distances(z, second, centers),
        "centers": centers,
    }  # fmt: skip
    return Assignment(**{name: column.cpu().numpy() for name, column in columns.items()})


def _but(values: Tensor, labels: Tensor, filled: float) -> Tensor:
    """``values`` (B, K) with ``filled`` in each row's own cluster, noise having none."""
    own = labels.clamp_min(0)[:, None]
    kept = values.gather(1, own)
    return values.scatter(1, own, torch.where(labels[:, None] == NOISE, kept, filled))


def check_answer(clusterer: Clusterer, labels: Tensor, q: Tensor, count: int, who: str) -> None:
    """Raise BrokenPlugin for labels or soft assignments q of ``count`` codes that no clusterer may give."""
    k = clusterer.n_clusters
    if q.shape != (count, k) or not q.is_floating_point():
        raise BrokenPlugin(
            f"{who} gives soft assignments of shape {tuple(q.shape)} and type {_type(q)} for "
            f"{counted(count, 'code')} and {counted(k, 'cluster')}; they must be ({count}, {k}), float32."
        )
    if labels.shape != (count,) or labels.dtype != torch.int64:
        raise BrokenPlugin(
            f"{who} gives labels of shape {tuple(labels.shape)} and type {_type(labels)} for "
            f"{counted(count, 'code')}; they must be ({count},), int64."
        )
    off = (q.sum(dim=1) - 1).abs()  # NaN and infinite ones fail
    if bad := int((~(off <= ROWS) | (q < 0).any(dim=1)).sum()):
        raise BrokenPlugin(
            f"{who} gives {bad:,} of {counted(count, 'code')} soft assignments that are not finite, are "
            "negative, or do not sum to 1."
        )
    least = NOISE if clusterer.noise else 0
    if count and not least <= int(labels.min()) <= int(labels.max()) < k:
        noise = "" if clusterer.noise else "; -1 for noise is for classes that say noise = True"
        raise BrokenPlugin(
            f"{who} gives labels from {int(labels.min())} to {int(labels.max())}, which must be from {least} "
            f"to {k - 1}{noise}."
        )


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def centers_of(clusterer: Clusterer, z: Tensor, labels: Tensor) -> Tensor:
    """A point of the latent space for each cluster: its centre, else the mean of its codes.  # (K, D)

    A cluster that has neither gets NaN.
    """
    if (own := _own_centers(clusterer, z)) is not None:
        return own
    sums = torch.zeros(clusterer.n_clusters, z.shape[1], dtype=torch.float64, device=z.device)
    placed = labels != NOISE
    sums.index_add_(0, labels[placed], z[placed].double())
    counts = torch.bincount(labels[placed], minlength=clusterer.n_clusters)
    return (sums / counts[:, None]).to(z)


def _own_centers(clusterer: Clusterer, z: Tensor) -> Tensor | None:
    """The clusterer's centres, where it has some in the space of the codes.  # (K, D)"""
    if not isinstance(clusterer, HasCenters):
        return None
    centers = clusterer.centers.detach()
    return centers.to(z) if centers.shape == (clusterer.n_clusters, z.shape[1]) else None


def distances(z: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """The Euclidean distance of each code to its cluster's centre, NaN of noise.  # (N,)"""
    far = [
        (rows - centers[own.clamp_min(0)]).norm(dim=1).masked_fill(own == NOISE, torch.nan)
        for rows, own in zip(torch.split(z, 65536), torch.split(labels, 65536), strict=True)
    ]
    return torch.cat(far)
