"""run.once: what is no stage is done once, whenever a run is stopped; and an encoder of a few lines."""

import io
import json
import random

import numpy as np
import pytest
import torch

from deepclust.core import Data, Run, Storage
from deepclust.core.contract.registry import installed
from deepclust.core.engine import Updater, checkpoint
from deepclust.core.errors import DeepclustError
from deepclust.core.run.pipeline import run as carry_out
from deepclust.core.run.plan import request_from
from deepclust.core.run.rehearsal import rehearse
from made_command import deepclust

VALUE = {
    "codes": torch.arange(6.0).reshape(2, 3), "labels": [torch.tensor([1, 2]), (3, "four", None)],
    "share": 0.1, "sure": True, 5: {"empty": []},
}  # fmt: skip


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def test_it_is_done_once_and_gives_the_same_again(tmp_path):
    calls = []

    def work():
        calls.append(1)
        return VALUE

    first, second = (Run(tmp_path).child("clusterer").once("start", work) for _ in range(2))
    assert calls == [1]
    assert equal(first, VALUE)
    assert equal(second, VALUE)
    assert [p.name for p in (tmp_path / "clusterer").iterdir()] == ["start.pt"]
    assert Run(tmp_path).child("encoder").once("start", lambda: 3) == 3  # of another part
    assert Run(tmp_path).once("nothing", lambda: None) is None
    assert Run(tmp_path).once("nothing", work) is None


def test_what_it_gives_does_not_change_with_what_it_was_made_of(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    kept = Run(tmp_path).once("weight", lambda: [weight, (2 * weight)[:1]])
    with torch.no_grad():
        weight.zero_()
    for found in (kept, Run(tmp_path).once("weight", list)):
        assert equal(found, [torch.ones(3), torch.full((1,), 2.0)])
        assert not any(tensor.requires_grad for tensor in found)
    large = torch.zeros(10**6)
    Run(tmp_path).once("part", lambda: large[:2])
    assert (tmp_path / "part.pt").stat().st_size < 10**4


def test_random_numbers_are_the_same_whether_it_is_done_or_was(tmp_path):
    def draws():
        return [torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()]

    def drawn(folder, start):
        checkpoint.seed_everything(start)
        return Run(folder, seed=7).once("draws", draws), draws()

    (first, after), (second, later), (third, _) = (
        drawn(tmp_path / folder, start) for folder, start in (("a", 1), ("a", 1), ("b", 2))
    )
    checkpoint.seed_everything(1)
    assert after == later == draws()
    assert first == second == third  # from a seed of its own


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.zeros(3), "ndarray"), ([1, np.float64(2.0)], "float64"), ({"a": {1, 2}}, "set"),
        (io.StringIO(), "StringIO"), (torch.nn.Linear(1, 1), "Linear"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_said_at_once(tmp_path, value, name):
    with pytest.raises(TypeError, match=f"a {name} cannot be kept: give tensors, numbers, text"):
        Run(tmp_path).once("start", lambda: value)
    assert list(tmp_path.iterdir()) == []


def test_work_that_fails_is_done_again(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path).once("start", fail)
    assert Run(tmp_path).once("start", lambda: 4) == 4


def test_a_damaged_file_is_a_sentence(tmp_path):
    run = Run(tmp_path)
    run.once("start", lambda: VALUE)
    path = tmp_path / "start.pt"
    good = path.read_bytes()
    for bad in (b"", good[: len(good) // 2], good[:200] + bytes([good[200] ^ 1]) + good[201:]):
        path.write_bytes(bad)
        with pytest.raises(DeepclustError, match=r"start.pt' is damaged \(.*\); delete it to have that done"):
            run.once("start", lambda: VALUE)
    path.unlink()
    assert equal(run.once("start", lambda: VALUE), VALUE)


HOOK = """
@hookimpl
def deepclust_encoders():
    yield Component("brief", "MODULE.model:Brief", "a few lines")
"""
BRIEF = """
import os
from dataclasses import dataclass
from pathlib import Path
import torch
from torch import nn
from deepclust.core import Encoder, Training, setting

@dataclass(frozen=True)
class BriefConfig(Training):
    latent_dim: int = setting(4, "dimensions of the code", low=1)
    batch_size: int = setting(32, "samples in a batch", low=1)

class Brief(Encoder):
    Config = BriefConfig
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.config, self.latent_dim = config, config.latent_dim
        self.down = nn.Sequential(nn.Flatten(), nn.Linear(shape[0], self.latent_dim), nn.Dropout(0.1))
        self.up = nn.Linear(self.latent_dim, shape[0])
        self.register_buffer("middle", torch.zeros(shape[0]))
    def forward(self, x):
        return self.down(x - self.middle)
    def loss(self, batch):
        return (self.up(self(batch.x)) + self.middle - batch.x).square().mean()
    def fit(self, data, run):
        self.middle.copy_(run.once("middle", lambda: self.find_middle(data)))
        run.learn("train", self.loss, self, data, self.config, usual=30)
        return self
    def find_middle(self, data):
        with Path(os.environ["COUNTED"]).open("a") as file:
            file.write("x")
        return data.slice(0, len(data)).mean(0) + 0.01 * torch.randn(len(self.middle))
"""


@pytest.fixture
def brief(install, tmp_path, monkeypatch):
    """A third party's encoder; how often it did what it does once is the length of the file ``counted``."""
    install("deepclust-brief", HOOK, model=BRIEF)
    installed.cache_clear()
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    x = np.random.default_rng(0).normal(size=(100, 6)) + 5 * (np.arange(100) % 2)[:, None]
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    return tmp_path


def asked(folder, clusterer, settings):
    given = {
        "data": str(folder / "x.npy"), "encoder": "brief", "clusterer": clusterer, "clusters": 2,
        "device": "cpu", "precision": "float32", "evaluators": ["clustering"], "settings": settings,
    }  # fmt: skip
    return request_from({}, given)


def finished(folder, name, *given):
    carry_out(asked(folder, *given), Storage(folder), folder / name, quiet=True, snapshot_seconds=0)
    return [(folder / name / file).read_bytes() for file in ("labels.csv", "model.safetensors")]


@pytest.mark.parametrize("clusterer", ["kmeans", "dec", "deepcluster", "scan"])
def test_an_encoder_of_a_few_lines_goes_on_to_the_same_result(brief, monkeypatch, clusterer):
    """However often it is stopped, in the encoder and in the clusterer."""
    update, left = Updater.update, [0]

    def until(self):
        if not left[0]:
            raise SystemError
        left[0] -= 1
        update(self)

    settings = {"encoder": {"epochs": 6}}
    if clusterer != "kmeans":
        settings["clusterer"] = {"epochs": 6, "batch_size": 32}
    if clusterer == "dec":
        settings["clusterer"]["tol"] = 0.0
    whole = finished(brief, "whole", clusterer, settings)
    assert (brief / "counted").read_text() == "x"
    calls, kmeans = [], installed().load("clusterer", "kmeans")
    fit = kmeans.fit

    def counted(self, encoder, data, run):
        calls.append(run.part)
        return fit(self, encoder, data, run)

    monkeypatch.setattr(kmeans, "fit", counted)
    monkeypatch.setattr(Updater, "update", until)
    stops = 0
    for _ in range(30):
        left[0] = 5
        try:
            cut = finished(brief, "cut", clusterer, settings)
            break
        except SystemError:
            stops += 1
    assert stops >= (4 if clusterer == "kmeans" else 8)
    assert (brief / "counted").read_text() == "xx"
    assert cut == whole
    made = [
        part for part in calls if part.startswith("clusterer/")
    ]  # what the clusterer asks of k-means, once
    assert len(made) == {"kmeans": 0, "dec": 1, "deepcluster": 21, "scan": 20}[clusterer]


def test_it_is_rehearsed_and_shown(brief):
    said = deepclust("info", "brief").output
    assert said.index("latent_dim") < said.index("batch_size") < said.index("optimizer") < said.index("clip")
    registry = installed()
    x = torch.from_numpy(np.load(brief / "x.npy"))
    kmeans = registry.load("clusterer", "kmeans")
    table = rehearse(
        lambda: registry.make("encoder", "brief", (6,), settings={"least_steps": 1}),
        (kmeans, kmeans.Config()), 2, {}, Data(x, "rows"), Run(brief / "run", quiet=True),
    )  # fmt: skip
    assert [(stage.name, stage.steps) for stage in table.stages] == [("encoder/train", 30 * 4)]
    assert not (brief / "run").exists()
    out = brief / "said"
    deepclust(
        "run", "--data", brief / "x.npy", "--encoder", "brief", "--clusterer", "kmeans", "--clusters", 2,
        "-s", "encoder.clip=0.1", "-s", "encoder.schedule=constant", "--epochs-scale", 0.1, "--out", out,
    )  # fmt: skip
    settings = json.loads((out / "run.json").read_text())["request"]["encoder"]["settings"]
    assert (settings["clip"], settings["schedule"], settings["batch_size"]) == (0.1, "constant", 32)
