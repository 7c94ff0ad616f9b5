"""Logits drawn by a seed."""

import torch


def logits(*shape: int, scale: float = 1.0, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
