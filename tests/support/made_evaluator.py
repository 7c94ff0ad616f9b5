"""Evaluators of an outside package, for tests that install it, and small runs to be evaluated."""

import csv
import json
from pathlib import Path

import numpy as np

from made_command import deepclust

HOOK = """
@hookimpl
def deepclust_evaluators():
    yield Component("witness", "MODULE.model:Witness", "writes down what it sees")
    yield Component("flaky", "MODULE.model:Flaky", "fails at first")
    yield Component("seconds", "MODULE.model:Seconds", "is called as the run's own entry")
    yield Component("nothing", "MODULE.model:Nothing", "gives numbers that are none")
    yield Component("closing", "MODULE.model:Closing", "is last")
"""
MODEL = """
from dataclasses import dataclass
import json
import random
import numpy as np
import torch
from deepclust.core import Evaluator

@dataclass(frozen=True)
class Settings:
    level: int = 1

def truth_of(result):
    return None if result.truth is None else [result.truth.labels.tolist(), list(result.truth.names)]

def facts(result):
    far = [] if result.second_distance is None else result.second_distance.round(3).tolist()
    return {
        "labels": result.labels.tolist(), "second": result.second.tolist(), "far": far,
        "z": result.z.round(3).tolist(), "centers": result.centers.round(3).tolist(),
        "confidence": result.confidence.round(3).tolist(), "truth": truth_of(result),
        "files": None if result.files is None else list(result.files), "key": result.key,
        "n_clusters": result.n_clusters, "seed": result.seed, "shape": list(result.data.shape),
        "described": result.data.description, "sealed": result.data.sealed,
        "folder": result.folder.name, "loss": result.clusterer.unsupervised_loss,
    }

class Witness(Evaluator):
    Config = Settings
    def evaluate(self, result):
        record = result.record
        seen = {
            **facts(result), "test": None if result.test is None else facts(result.test),
            "scores": {name: sorted(values) for name, values in result.scores.items()},
            "protocol": dict(result.protocol), "health": dict(result.health),
            "request": {**record["request"], "evaluators": None}, "data": record["data"],
            "preparation": record["preparation"], "found": record["n_clusters"],
        }
        (result.folder / "witness.json").write_text(json.dumps(seen))
        return {"drawn": float(torch.rand(())), "numpy": np.random.random(), "python": random.random()}

class Flaky(Evaluator):
    Config = Settings
    def evaluate(self, result):
        mark = result.folder / "flaky.txt"
        if not mark.exists():
            mark.touch()
            raise RuntimeError("not today")
        return {"works": 1.0, "level": self.config.level}

class Seconds(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return {"encoder": 0.25, "seconds": 7.0}

class Nothing(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return {"lost": float("nan"), "endless": np.float32("inf"), "many": np.array([1.0, np.nan]),
                "said": "first line\\nsecond\\x1b[31m", "bro\\nken": 0.5}

class Closing(Evaluator):
    Config = Settings
    last = True
    def evaluate(self, result):
        return {"saw": ", ".join(result.scores)}
"""
TINY = [
    "--encoder", "sdae", "--clusterer", "kmeans", "--clusters", "3",
    "--device", "cpu", "--precision", "float32",
    "-s", "encoder.layer_epochs=1", "-s", "encoder.epochs=1", "-s", "encoder.hidden=8",
    "-s", "encoder.latent_dim=2", "-s", "clusterer.n_init=1",
]  # fmt: skip


def rows(path: Path, n: int = 60) -> Path:
    """Three groups of rows with their classes, as an .npz file."""
    y = np.arange(n) % 3
    x = np.random.default_rng(0).normal(size=(n, 4)) + 9 * np.eye(3, 4)[y]
    np.savez(path, x=x.astype(np.float32), y=y)
    return path


def named(*names: str) -> list[str]:
    return [word for name in names for word in ("--evaluator", name)]


def run(*arguments, code=0):
    return deepclust("run", *TINY, *arguments, code=code)


def summary_of(folder) -> dict:
    """What scores.json holds, which must be JSON as others read it."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((Path(folder) / "scores.json").read_text(), parse_constant=refuse)


def labels_in(path) -> list[int]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [int(row["cluster"]) for row in csv.DictReader(file)]


def trained(folder) -> dict[str, tuple[bytes, int]]:
    """What training and its results left: bytes and time of change of each file but scores and figures."""
    kept = [
        p for p in Path(folder).rglob("*") if p.suffix in (".pt", ".safetensors", ".csv", ".npy", ".jsonl")
    ]
    assert {path.name for path in kept} >= {"model.safetensors", "labels.csv"}
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in kept if not p.name.startswith("svm")}
