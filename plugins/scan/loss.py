"""What SCAN minimises, in float32 from logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def inconsistency(a: Tensor, b: Tensor) -> Tensor:
    """-log <softmax(a), softmax(b)>, a mean over the samples.  # (B, ..., K) twice, to (...)

    The first term of eq. 2 (Van Gansbeke et al. 2020), from logits of samples and of their neighbours;
    as a log-sum-exp, so that it is finite where the two have nothing in common.
    """
    together = torch.log_softmax(a.float(), dim=-1) + torch.log_softmax(b.float(), dim=-1)
    return -together.logsumexp(dim=-1).mean(dim=0)


def entropy(a: Tensor, prior: Tensor | None = None) -> Tensor:
    """The entropy in nats of the mean assignment.  # (B, ..., K) logits, to (...)

    The second term of eq. 2; it is largest, log K, where all clusters are used equally. With a prior (K,)
    of shares above 0: log K less the divergence KL(mean assignment || prior), the same where the prior is
    even, and largest where all clusters are used as it says.
    """
    share = torch.log_softmax(a.float(), dim=-1).logsumexp(dim=0) - torch.tensor(float(len(a))).log()
    used = -(share.exp() * share).sum(dim=-1)
    if prior is None:
        return used
    return used + (share.exp() * (prior * len(prior)).log()).sum(dim=-1)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
    """Cross-entropy of the chosen samples, every cluster among them with the same weight in all.

    logits: (B, K). labels: (B,) int64. chosen: (B,) bool. 0 where none is chosen (section 3).
    """
    counts = torch.zeros(logits.shape[1], device=logits.device).index_add_(0, labels, chosen.float())
    weight = chosen / counts.clamp_min(1)[labels]  # (B,), sums to the number of clusters present
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    return (weight * losses).sum() / weight.sum().clamp_min(1)
