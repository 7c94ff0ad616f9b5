"""NT-Xent, the normalised temperature-scaled cross-entropy of contrastive learning, on one device or many."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.1, *, chunk: int = 0) -> tuple[Tensor, Tensor]:
    """NT-Xent of the views a and b, (B, D) each: row i of one is the positive of row i of the other.

    Each of the 2B views is told from the other 2B - 1 by the cosines of their embeddings (Chen et al.
    2020, eq. 1). chunk: hold at most so many rows of the (2B, 2B) similarities at a time and compute them
    again for the gradient; 0: all of them, kept. They are float32 at least, also under autocast.

    In a process group of W the views of all are told apart, B samples from each process: the means over
    the processes of the loss, and of the parameters' gradients, are those of one process on all of them.

    Returns the mean loss () and the share () of views to which their positive is the nearest.
    """
    with torch.autocast(a.device.type, enabled=False):
        precise = torch.promote_types(a.dtype, torch.float32)
        a, b = F.normalize(a.to(precise), dim=1), F.normalize(b.to(precise), dim=1)
        all_a, all_b = gather(a), gather(b)
        views = torch.cat((all_a, all_b))  # (2WB, D)
        own, half = _rank() * len(a), len(all_a)  # where the own rows begin in either half
        step = min(chunk or len(a), len(a))
        losses, hits = [], []
        for rows, place, positive in ((a, own, half + own), (b, half + own, own)):
            for i in range(0, len(a), step):
                given = (rows[i : i + step] / temperature, views, place + i, positive + i)
                loss, hit = (
                    checkpoint(_compare, *given, use_reentrant=False, preserve_rng_state=False)
                    if chunk
                    else _compare(*given)
                )
                losses.append(loss)
                hits.append(hit)
        return torch.cat(losses).mean(), torch.cat(hits).to(precise).mean()


def _compare(rows: Tensor, views: Tensor, place: int, positive: int) -> tuple[Tensor, Tensor]:
    """Losses (R,) of rows (R, D) among views (V, D), and whether each is nearest to its positive (R,).

    Row i is view ``place + i``, which it is not compared with, and its positive is ``positive + i``.
    """
    logits = rows @ views.T  # (R, V)
    logits.diagonal(place).fill_(-torch.inf)
    near = (rows * views[positive : positive + len(rows)]).sum(1)
    target = torch.arange(positive, positive + len(rows), device=rows.device)
    return logits.logsumexp(1) - near, logits.argmax(1) == target


def gather(x: Tensor) -> Tensor:
    """The rows x (B, D) of every process, (WB, D) in the order of the ranks, with their gradients.

    All processes give as many rows. Where there is no process group, x itself.
    """
    return _Gather.apply(x) if _size() > 1 else x  # type: ignore[no-any-return, no-untyped-call]


class _Gather(torch.autograd.Function):
    """Concatenation over the processes; a row's gradient is the sum of those that all of them have for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(_size())[_rank()]


def _size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _size() > 1 else 0
