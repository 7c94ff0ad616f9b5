"""The file of a model: all that training knew comes back, and anything but tensors is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Clusterer, DeepclustError, Encoder, Preparation
from deepclust.core.data.data import Data
from deepclust.core.run import bundle


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Late(Encoder):
    """An encoder of which training knows more than its constructor."""

    def __init__(self, config=None, shape=(4,)):
        super().__init__(config, shape)
        self.latent_dim = 2
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("choice", None)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.inner = nn.Module()
        self.inner.basis = nn.Parameter(torch.zeros(2, 0))
        self.inner.register_parameter("bias", None)

    def fit(self, data, run):
        self.mean = data.slice(0, len(data)).mean(0)
        self.choice = torch.tensor([2, 0])
        self.count = torch.tensor(2.5, dtype=torch.float64)
        self.inner.basis = nn.Parameter(torch.randn(2, 4))
        self.inner.bias = nn.Parameter(torch.randn(2))
        return self

    def forward(self, x):
        return (
            (x - self.mean) @ self.inner.basis.T + x[:, self.choice] + self.inner.bias
        ) * self.count.float()


class Nearest(Clusterer):
    """A clusterer whose tensors are made in training."""

    def __init__(self, config=None, n_clusters=3, latent_dim=2):
        super().__init__(config, n_clusters, latent_dim)
        self.register_buffer("centers", torch.zeros(0, 0), persistent=True)

    def fit(self, encoder, data, run):
        self.centers = encoder(data.slice(0, self.n_clusters)).detach()
        return self

    def forward(self, z):
        return torch.softmax(-torch.cdist(z, self.centers), dim=1)


class Names:
    """A registry of the two."""

    def load(self, kind, name):
        class Config:
            pass

        import dataclasses

        cls = {"encoder": Late, "clusterer": Nearest}[kind]
        cls.Config = dataclasses.dataclass(frozen=True)(Config)
        return cls


def test_tensors_that_only_training_knew_are_kept():
    torch.manual_seed(0)
    data = Data(torch.randn(20, 4), "random rows")
    encoder = Late().fit(data, None)
    clusterer = Nearest().fit(encoder, data, None)
    record = {"encoder": {"name": "late", "settings": {}}, "clusterer": {"name": "nearest", "settings": {}},
              "n_clusters": 3}  # fmt: skip
    made = bundle.Bundle(encoder, clusterer, clusterer.centers, Preparation((4,), "float32"), record)
    made.save(Path("late.safetensors"))
    again = bundle.load(Path("late.safetensors"), torch.device("cpu"), Names())
    z, where = made.predict(data)
    z_again, where_again = again.predict(data)
    assert torch.equal(z, z_again)
    assert all(
        np.array_equal(a, b) for a, b in zip(vars(where).values(), vars(where_again).values(), strict=True)
    )
    assert again.encoder.count.dtype == torch.float64
    assert again.encoder.choice.dtype == torch.int64
    assert again.encoder.inner.basis.requires_grad
    assert again.preparation == made.preparation
    assert not again.encoder.training


def test_a_model_that_keeps_anything_but_tensors_is_refused():
    class Odd(Late):
        def get_extra_state(self):
            return {"words": 3}

    data = Data(torch.randn(9, 4), "rows")
    encoder = Odd().fit(data, None)
    clusterer = Nearest().fit(encoder, data, None)
    record = {"encoder": {"name": "odd"}, "clusterer": {"name": "nearest"}, "n_clusters": 3}
    made = bundle.Bundle(encoder, clusterer, clusterer.centers, Preparation((4,), "float32"), record)
    with pytest.raises(DeepclustError, match="encoder 'odd' has '_extra_state' in its state_dict, a dict"):
        made.save(Path("odd.safetensors"))
    assert not list(Path().iterdir())
