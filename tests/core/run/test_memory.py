"""Too little memory is said in a sentence, and what was trained is gone on with."""

import json

import numpy as np
import pytest

from deepclust.core.run.memory import enough
from made_command import deepclust

HUNGRY = """
import os
from dataclasses import dataclass
import torch
from torch import nn
from deepclust.core import Encoder, setting
from deepclust.core.engine import Updater, make_optimizer

@dataclass(frozen=True)
class HungryConfig:
    batch_size: int = setting(16, "samples in a batch", low=1)

class Hungry(Encoder):
    Config = HungryConfig
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.config, self.map, self.latent_dim = config, nn.Linear(shape[0], 2), 2
    def forward(self, x):
        return self.map(x)
    def fit(self, data, run):
        self.steps, fails = 0, os.environ.get("HUNGRY", "")
        if fails == "before":
            raise MemoryError("Unable to allocate 7.45 GiB")
        def loss(batch):
            self.steps += 1
            if self.steps == 20 and "rehearsal" not in type(run).__module__:
                if fails == "device":
                    text = "CUDA out of memory. Tried to allocate 2.00 GiB. "
                    raise torch.OutOfMemoryError(text + "x" * 200)
                if fails == "processor":
                    torch.empty(10**15)
                if fails == "other":
                    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return self(batch.x).square().mean()
        batches = run.batches(data, self.config.batch_size, "train")
        updater = Updater(batches, self, make_optimizer("adam", self.parameters(), 1e-3), loss)
        run.train("train", updater, (30, "iteration"))
        return self
"""
OFFER = """
@hookimpl
def deepclust_encoders():
    yield Component("hungry", "MODULE.model:Hungry", "needs memory")
"""
RUN = (
    "run", "--data", "x.npy", "--clusters", 2, "--encoder", "hungry", "--clusterer", "kmeans", "--evaluator",
    "clustering", "--device", "cpu", "--precision", "float32", "--out", "run", "--snapshot-seconds", 0, "-q",
)  # fmt: skip


@pytest.fixture
def hungry(install, tmp_path, monkeypatch):
    """An encoder that fails as the environment variable HUNGRY says; returns its setter."""
    from deepclust.core.contract.registry import installed

    install("deepclust-hungry", OFFER, model=HUNGRY)
    installed.cache_clear()
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32))
    yield lambda fails: monkeypatch.setenv("HUNGRY", fails)
    installed.cache_clear()


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (
            "device",
            "encoder/train: there is too little memory (CUDA out of memory. Tried to allocate 2.00 GiB.",
        ),
        ("processor", "encoder/train: there is too little memory ("),
    ],
)
def test_a_stage_without_memory_is_one_sentence_and_goes_on(hungry, tmp_path, fails, says):
    hungry(fails)
    result = deepclust(*RUN, code=1)
    line = result.output.splitlines()[-1]
    assert line.startswith(f"Error: {says}")
    assert "its batches have 16 samples: set a smaller -s encoder.batch_size, in another --out" in line
    assert line.endswith("which goes on from its snapshot in 'run/encoder/train'.")
    assert "Traceback" not in result.output
    hungry("")
    deepclust(*RUN)
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["resumed"] is True


def test_a_part_without_memory_outside_its_stages_is_one_sentence(hungry):
    hungry("before")
    result = deepclust(*RUN, code=1)
    start = "Error: the run in 'run': there is too little memory (Unable to allocate 7.45 GiB); what was"
    assert result.output.splitlines()[-1].startswith(start)


def test_other_errors_stay_what_they_are(hungry):
    hungry("other")
    with pytest.raises(AssertionError, match="RuntimeError.*mat1 and mat2"):  # the traceback of a bug
        deepclust(*RUN)
    with pytest.raises(RuntimeError, match="shapes"), enough("this", lambda: "that"):
        raise RuntimeError("shapes cannot be multiplied")


def test_data_that_fit_into_no_memory(hungry, monkeypatch):
    def fail(data, scale):
        raise MemoryError

    monkeypatch.setattr("deepclust.plugins.datasets.array.scaled", fail)
    result = deepclust(*RUN, code=2)
    says = "reading the data: there is too little memory (MemoryError); take fewer or smaller samples"
    assert says in result.output
