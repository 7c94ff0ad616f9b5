"""Principal components: the heavy half, imported only when a run asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepclust.core import Encoder, setting


@dataclass(frozen=True)
class PCAConfig:
    latent_dim: int = setting(10, "number of components", low=1)


class PCA(Encoder):
    """The leading principal components of the flattened samples, by a singular value decomposition."""

    Config = PCAConfig

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim, self.shape = config.latent_dim, shape
        width = torch.Size(shape).numel()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.zeros(width, config.latent_dim))

    def fit(self, data, run):
        x = data.slice(0, len(data)).flatten(1)
        self.mean.copy_(x.mean(0))
        _, _, components = torch.linalg.svd(x - self.mean, full_matrices=False)
        self.components.copy_(components[: self.latent_dim].T)
        return self

    def forward(self, x):
        return (x.flatten(1) - self.mean) @ self.components  # (B, D)

    def decode(self, z):
        return (z @ self.components.T + self.mean).unflatten(1, self.shape)
