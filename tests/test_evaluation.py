"""Evaluators of outside packages: what they may give, and that one that fails takes nothing from a run."""

import json

import numpy as np
import pytest

from made_command import deepclust

HOOK = """
@hookimpl
def deepclust_evaluators():
    yield Component("broken", "MODULE.model:Broken", "raises")
    yield Component("given", "MODULE.model:Given", "gives NumPy's numbers")
    yield Component("leaving", "MODULE.model:Leaving", "ends the process")
    yield Component("silent", "MODULE.model:Silent", "gives nothing")
    yield Component("odd", "MODULE.model:Odd", "gives what no score is")
"""
MODEL = """
from dataclasses import dataclass
import numpy as np
import torch
from deepclust.core import Evaluator, InvalidData

@dataclass(frozen=True)
class Settings:
    kind: str = "ValueError"

class Broken(Evaluator):
    Config = Settings
    def evaluate(self, result):
        raise {"ValueError": ValueError, "InvalidData": InvalidData}[self.config.kind]("the moon is full.")
    def __init__(self, config):
        super().__init__(config)
        self.config = config

class Given(Evaluator):
    Config = Settings
    def evaluate(self, result):
        both = [np.float64(1), "a"]
        return {"one": np.float32(0.5), "whole": np.int64(3), "many": np.arange(3), "both": both,
                "tensor": torch.tensor(2), "text": "so", "none": None}


class Leaving(Evaluator):
    Config = Settings
    def evaluate(self, result):
        raise SystemExit(3)

class Silent(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return None

class Odd(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return {"thing": object()}
"""


@pytest.fixture
def strange(install):
    install("deepclust-strange", HOOK, model=MODEL)


def run(path, *evaluators):
    np.save(path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)) + 9 * (np.arange(60) % 3)[:, None])
    named = [word for name in evaluators for word in ("--evaluator", name)]
    done = deepclust(
        "run", "--data", path / "x.npy", "--encoder", "sdae", "--clusterer", "kmeans", "--clusters", "3",
        "--epochs-scale", "0.02", "-s", "encoder.hidden=8", "--out", path / "run", *named,
    )  # fmt: skip
    return done.output, json.loads((path / "run/scores.json").read_text())


def test_an_evaluator_that_fails_is_named_and_leaves_all_else(tmp_path, strange):
    said, scores = run(tmp_path, "broken", "odd", "leaving", "silent", "clustering", "report")
    assert scores["leaving"] == {"failed": "SystemExit: 3"}
    assert scores["silent"] == {"failed": "TypeError: evaluate() gives scores by name, not NoneType"}
    assert scores["broken"] == {"failed": "ValueError: the moon is full."}
    assert scores["odd"] == {
        "failed": "TypeError: a score is a number, a text or a list of these, not object"
    }
    assert scores["clustering"]["silhouette"] > 0.3
    assert "the evaluator 'broken' failed: ValueError: the moon is full. All else is written." in said
    assert "the evaluator 'broken' failed" in " ".join(scores["protocol"]["notices"])
    assert "the moon is full" in (tmp_path / "run/report.html").read_text()
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"


def test_numpys_numbers_are_scores(tmp_path, strange):
    _, scores = run(tmp_path, "given")
    assert scores["given"] == {
        "one": 0.5, "whole": 3, "many": [0, 1, 2], "both": [1.0, "a"], "tensor": 2, "text": "so",
        "none": None,
    }  # fmt: skip
