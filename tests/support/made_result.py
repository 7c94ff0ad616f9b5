"""A run's result to report on, without a run: its groups, its encoder and its logs."""

import json

import numpy as np
import torch
from torch import nn

from deepclust.core import Data, Result, Truth


class Halves(nn.Module):
    """An encoder that keeps the first values, and decodes them with zeros behind."""

    def __init__(self, shape, latent_dim):
        super().__init__()
        self.shape, self.latent_dim = shape, latent_dim

    def forward(self, x):
        return x.flatten(1)[:, : self.latent_dim]

    def decode(self, z):
        size = int(np.prod(self.shape))
        return nn.functional.pad(z, (0, size - self.latent_dim)).unflatten(1, self.shape)


def make_result(folder, n=60, k=3, shape=(1, 6, 6), dim=4, truth="known", dtype="float32", **changes):
    """A result with groups that show; changes: fields of Result that are to be others."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    x = 0.5 + 0.3 * rng.normal(size=(k, *shape))[labels] + 0.05 * rng.normal(size=(n, *shape))
    x = np.clip(x, 0, 1)
    x = (x * 255).astype(np.uint8) if dtype == "uint8" else x.astype(np.float32)
    z = (3 * rng.normal(size=(k, dim))[labels] + rng.normal(size=(n, dim))).astype(np.float32)
    centers = np.stack([z[labels == c].mean(axis=0) for c in range(k)])
    confidence = rng.uniform(0.5, 1, n).astype(np.float32)
    codes = np.where(rng.random(n) < 0.8, (labels + 1) % k, rng.integers(0, k, n))
    made = {
        "z": z, "labels": labels, "confidence": confidence, "second": (labels + 1) % k,
        "second_confidence": (1 - confidence) * rng.random(n).astype(np.float32),
        "distance": np.linalg.norm(z - centers[labels], axis=1), "centers": centers,
        "second_distance": np.linalg.norm(z - centers[(labels + 1) % k], axis=1),
        "truth": Truth(codes, tuple(f"class {c}" for c in range(k))) if truth == "known" else truth,
        "data": Data(torch.from_numpy(x), f"{n} samples").seal(), "encoder": nn.Identity(),
        "clusterer": None, "folder": folder, "seed": 0, "quiet": True,
    }  # fmt: skip
    return Result(**{**made, **changes})


def write_logs(folder):
    for stage, loss in (("encoder/layer0", 1.0), ("encoder/finetune", 100.0), ("clusterer/refine", 0.0)):
        (folder / stage).mkdir(parents=True)
        lines = [
            {"iteration": 8 * i, "epoch": i, "seconds": 0.1, "lr": 0.1, "loss": loss / i**3, "change": 0.1}
            for i in range(1, 9)
        ]
        text = "\n".join(json.dumps(line) for line in lines)
        (folder / stage / "log.jsonl").write_text(text + '\n{"iteration": 72, "ep')
