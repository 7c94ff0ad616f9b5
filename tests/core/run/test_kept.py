"""A model that loses something when it is saved is found before anybody predicts with it."""

import numpy as np
import pytest
import torch

from deepclust.core import Data
from deepclust.core.errors import BrokenPlugin
from deepclust.core.run.bundle import load
from deepclust.core.run.opening import check_kept
from made_command import deepclust

HOOK = """
@hookimpl
def deepclust_encoders():
    yield Component("restless", "MODULE.model:Restless", "draws")
    yield Component("lost", "MODULE.model:Lost", "fails")
    yield Component("forgetful", "MODULE.model:Forgetful", "keeps its shift to itself")

@hookimpl
def deepclust_clusterers():
    yield Component("absent", "MODULE.model:Absent", "keeps its centres to itself")
"""
MODEL = """
from dataclasses import dataclass
import torch
from torch import nn
from deepclust.core import Clusterer, Encoder

@dataclass(frozen=True)
class Settings:
    by: float = 2.0

class Forgetful(Encoder):
    Config = Settings
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.config, self.latent_dim, self.shift = config, shape[0], 0.0
        self.kept = nn.Parameter(torch.ones(shape[0]))
    def fit(self, data, run):
        self.shift = self.config.by
        return self
    def forward(self, x):
        return x * self.kept + self.shift * x.abs()

class Restless(Forgetful):
    def forward(self, x):
        return x * self.kept + torch.randn_like(x)

class Lost(Forgetful):
    def fit(self, data, run):
        self.grown = 1.0
        return self
    def forward(self, x):
        return x * self.grown

class Absent(Clusterer):
    Config = Settings
    def __init__(self, config, n_clusters, latent_dim):
        super().__init__(config, n_clusters, latent_dim)
        self.own = None
    def fit(self, encoder, data, run):
        from deepclust.core import embed
        self.own = embed(encoder, data)[: self.n_clusters].clone()
        return self
    def forward(self, z):
        own = self.own if self.own is not None else z.new_zeros(self.n_clusters, z.shape[1])
        return (-torch.cdist(z, own)).softmax(dim=1)
"""


@pytest.fixture
def lossy(install):
    install("deepclust-lossy", HOOK, model=MODEL, version="3.1")


def run(path, *pair, code=0):
    x = np.random.default_rng(0).normal(size=(60, 4)) + 9 * (np.arange(60) % 3)[:, None]
    np.save(path / "x.npy", x)
    named = ["--encoder", pair[0], "--clusterer", pair[1], "--evaluator", "clustering"]
    given = ["--data", path / "x.npy", "--clusters", "3", "--epochs-scale", "0.02", "--out", path / "run"]
    return deepclust("run", *given, *named, code=code).output


def test_an_encoder_that_loses_its_state_is_named(tmp_path, lossy):
    said = run(tmp_path, "forgetful", "kmeans", code=2)
    assert "encoder 'forgetful' (deepclust-lossy 3.1) gives other codes for" in said
    assert "its state_dict, which holds kept, lacks what they depend on" in said
    assert (tmp_path / "run/labels.csv").exists()
    assert "is not finished" in deepclust("predict", tmp_path / "run", tmp_path / "x.npy", code=2).output


def test_one_that_draws_and_one_that_fails_are_named(tmp_path, lossy):
    said = run(tmp_path, "restless", "kmeans", code=2)
    assert "encoder 'restless' (deepclust-lossy 3.1) gives other codes each time it is asked." in said
    (tmp_path / "other").mkdir()
    said = run(tmp_path / "other", "lost", "kmeans", code=2)
    assert "encoder 'lost' (deepclust-lossy 3.1) fails once it is saved and opened again (" in said


def test_a_clusterer_without_state_is_named(tmp_path, lossy):
    said = run(tmp_path, "umap", "absent", code=2)
    assert "clusterer 'absent' (deepclust-lossy 3.1) gives other labels for" in said
    assert "which holds nothing, lacks" in said


def test_what_is_whole_passes_and_draws_nothing(tmp_path):
    run(tmp_path, "umap", "kmeans")
    opened = load(tmp_path / "run", torch.device("cpu"))
    data = Data(torch.randn(40, 4), "rows")
    state = torch.get_rng_state()
    check_kept(tmp_path / "run/model.safetensors", opened, data)
    assert torch.equal(torch.get_rng_state(), state)
    opened.encoder.code.bias.data += 5
    opened.encoder.code.weight.data *= 1.1
    with pytest.raises(BrokenPlugin, match="encoder 'umap'"):
        check_kept(tmp_path / "run/model.safetensors", opened, data)
