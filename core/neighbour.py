"""The nearest codes of codes: exact, in blocks, on the codes' device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BUDGET = 256 * 2**20  # bytes of distances held at a time
COLUMNS = 65536  # codes that a block compares with
SPARE = 8  # candidates more than asked for, among which float64 decides


@dataclass(frozen=True)
class Neighbours:
    """For each of Q codes the n nearest, the nearest first.

    index: (Q, n) int64. distance: (Q, n) float32, Euclidean.
    """

    index: Tensor
    distance: Tensor


@torch.no_grad()
def nearest(
    asked: Tensor, among: Tensor, n: int, *, own: Tensor | None = None, budget: int = BUDGET
) -> Neighbours:
    """The ``n`` codes of ``among`` (N, D) that are nearest to each of ``asked`` (Q, D).

    own: (Q,) the place of each in ``among``, which is left out. budget: bytes that the comparison takes
    beside codes and result. Candidates come from float32 products and are ranked by differences in
    float64; of equally near ones the first counts as nearer. Fewer than n are given where N is smaller.
    Codes of length 1 give the order of cosine similarity.
    """
    n = min(n, len(among) - (own is not None))
    kept = min(n + SPARE + (own is not None), len(among))
    center = among.mean(dim=0)  # products of centred codes lose less
    columns = min(COLUMNS, len(among))
    rows = max(1, budget // (12 * columns))
    exact = max(1, budget // (24 * kept * among.shape[1]))
    index = torch.empty((len(asked), n), dtype=torch.int64, device=among.device)
    distance = torch.empty((len(asked), n), device=among.device)
    for start in range(0, len(asked), rows):
        part = asked[start : start + rows]
        found = _candidates((part - center).float(), among, center, kept, columns)
        for i in range(0, len(part), exact):
            here = slice(start + i, start + i + len(part[i : i + exact]))
            ranked = _rank(asked[here], among, found[i : i + exact], None if own is None else own[here], n)
            index[here], distance[here] = ranked
    return Neighbours(index, distance)


def _candidates(part: Tensor, among: Tensor, center: Tensor, kept: int, columns: int) -> Tensor:
    """The indices of the ``kept`` codes that seem nearest to each of ``part``.  # (R, kept)"""
    near = torch.empty((len(part), 0), device=part.device)
    index = torch.empty((len(part), 0), dtype=torch.int64, device=part.device)
    for start in range(0, len(among), columns):
        block = (among[start : start + columns] - center).float()
        closeness = torch.addmm(-0.5 * block.square().sum(dim=1), part, block.T)  # (R, C)
        values, places = closeness.topk(min(kept, len(block)), dim=1)
        near = torch.cat([near, values], dim=1)
        index = torch.cat([index, places + start], dim=1)
        if near.shape[1] > kept:
            near, order = near.topk(kept, dim=1)
            index = index.gather(1, order)
    return index


def _rank(asked: Tensor, among: Tensor, found: Tensor, own: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    """The n nearest of the candidates ``found`` (R, M), and their distances."""
    found = found.sort(dim=1).values  # so that the first of equally near ones stands first
    distance = (among[found].double() - asked[:, None].double()).norm(dim=2)
    if own is not None:
        distance = distance.masked_fill(found == own[:, None], torch.inf)
    distance, order = distance.sort(dim=1, stable=True)
    return found.gather(1, order)[:, :n], distance[:, :n].float()
