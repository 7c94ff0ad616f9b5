"""The nearest codes of codes: exact, in blocks, on the codes' device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .timetable import squared

BUDGET = 256 * 2**20  # bytes of distances held at a time
COLUMNS = 65536  # most codes that a block compares with
GROUP = 32  # columns of a block of which the largest is looked at first
SPARE = 8  # candidates more than asked for, among which float64 decides
RANKED = 2**20  # values that are ranked at a time: what fits a cache


@dataclass(frozen=True)
class Neighbours:
    """For each of Q codes the n nearest, the nearest first.

    index: (Q, n) int64. distance: (Q, n) float32, Euclidean.
    """

    index: Tensor
    distance: Tensor


@squared()
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
    index = torch.empty((len(asked), n), dtype=torch.int64, device=among.device)
    distance = torch.empty((len(asked), n), device=among.device)
    lot = max(1, budget // (64 * kept))  # candidates are 12 bytes each
    rows = max(1, min(RANKED, budget // 24) // (kept * among.shape[1]))
    for first in range(0, len(asked), lot):
        found = _candidates(asked[first : first + lot], among, kept, budget // 2)
        for start in range(0, len(found), rows):
            here = slice(first + start, first + start + len(found[start : start + rows]))
            index[here], distance[here] = _rank(
                asked[here], among, found[start : start + rows], None if own is None else own[here], n
            )
    return Neighbours(index, distance)


def _candidates(asked: Tensor, among: Tensor, kept: int, budget: int) -> Tensor:
    """The indices of the ``kept`` codes that seem nearest to each of ``asked``.  # (Q, kept)"""
    center = among.mean(dim=0)  # products of centred codes lose less
    columns = math.ceil(len(among) / math.ceil(len(among) / COLUMNS))
    rows = max(1, min(budget // (4 * columns + 16 * GROUP * kept), len(asked)))
    near = torch.full((len(asked), kept), -torch.inf, device=among.device)
    index = torch.zeros((len(asked), kept), dtype=torch.int64, device=among.device)
    space = torch.empty(rows * columns, device=among.device)  # once: new pages cost as much as the products
    for first in range(0, len(among), columns):
        block = (among[first : first + columns] - center).float()
        base = -0.5 * block.square().sum(dim=1)
        for start in range(0, len(asked), rows):
            here = slice(start, start + rows)
            part = (asked[here] - center).float()
            closeness = space[: len(part) * len(block)].view(len(part), len(block))
            torch.addmm(base, part, block.T, out=closeness)
            values, places = _largest(closeness, min(kept, len(block)))
            values, order = torch.cat([near[here], values], dim=1).topk(kept, dim=1)
            near[here] = values
            index[here] = torch.cat([index[here], places + first], dim=1).gather(1, order)
    return index


def _largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and where they are, as ``topk``.  # (R, C) to (R, k) twice

    They are among the k groups of columns with the largest maxima: most columns are passed over once.
    """
    columns = x.shape[1]
    groups = columns // GROUP
    if groups < 4 * k:
        found = x.topk(k, dim=1)
        return found.values, found.indices
    whole = groups * GROUP
    grouped = x[:, :whole].view(len(x), GROUP, groups)  # a group is every so many columns
    chosen = grouped.amax(dim=1).topk(k, dim=1).indices[:, None]  # (R, 1, k)
    places = chosen + groups * torch.arange(GROUP, device=x.device)[:, None]  # (R, GROUP, k)
    rest = torch.arange(whole, columns, device=x.device).expand(len(x), -1)
    places = torch.cat([places.flatten(1), rest], dim=1)
    values, order = x.gather(1, places).topk(k, dim=1)
    return values, places.gather(1, order)


def _rank(asked: Tensor, among: Tensor, found: Tensor, own: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    """The n nearest of the candidates ``found`` (R, M), and their distances."""
    found = found.sort(dim=1).values  # so that the first of equally near ones stands first
    distance = (among[found].double() - asked[:, None].double()).norm(dim=2)
    if own is not None:
        distance = distance.masked_fill(found == own[:, None], torch.inf)
    distance, order = distance.sort(dim=1, stable=True)
    return found.gather(1, order)[:, :n], distance[:, :n].float()
