"""Heads on an encoder's codes, side by side, of which one counts."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core import Clusterer
from ..refinement.baseline import Baseline
from .config import SCANConfig


class Heads(Clusterer):
    """Dense layers from standardised codes (B, D) to the logits of K clusters each; one is chosen."""

    Config: ClassVar[type[SCANConfig]] = SCANConfig
    mean: Tensor  # (D,)
    factor: Tensor  # ()
    chosen: Tensor  # (), the head that counts
    prior: Tensor | None = None  # (K,), the shares of the clusters that are aimed at; None: even

    def __init__(self, config: SCANConfig, n_clusters: int, latent_dim: int) -> None:
        super().__init__(config, n_clusters, latent_dim)
        self.config = config
        self.weight = nn.Parameter(torch.zeros(config.heads * n_clusters, latent_dim))
        self.bias = nn.Parameter(torch.zeros(config.heads * n_clusters))
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def begin(self, z: Tensor, baseline: Baseline) -> dict[str, Tensor]:
        """New heads, and the scale of codes z (N, D); the state that gives the baseline's clusters.

        Heads are uniform within 1/sqrt(D) of 0, or one, the baseline's, also where a prior is estimated.
        """
        self.mean = z.mean(dim=0)
        self.factor = z.var(dim=0, correction=0).mean().clamp_min(1e-12).rsqrt()
        weight, bias = baseline.layer(self.mean, self.factor)
        at_random = self.config.start == "random" and self.prior is None
        heads = self.config.heads if at_random else 1
        self.weight = nn.Parameter(weight.repeat(heads, 1))
        self.bias = nn.Parameter(bias.repeat(heads))
        state = deepcopy(self.state_dict())
        if at_random:
            bound = z.shape[1] ** -0.5
            self.weight.uniform_(-bound, bound)
            self.bias.uniform_(-bound, bound)
        return state

    def logits(self, z: Tensor) -> Tensor:
        """Codes (B, D) to each head's logits (B, heads, K)."""
        scores = nn.functional.linear((z - self.mean) * self.factor, self.weight, self.bias)
        h: Tensor = scores.unflatten(1, (-1, self.n_clusters))  # type: ignore[no-untyped-call]
        return h.float()

    def forward(self, z: Tensor) -> Tensor:
        """The chosen head's softmax."""
        return self.logits(z).index_select(1, self.chosen[None])[:, 0].softmax(dim=1)
