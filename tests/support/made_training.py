"""A training without a command: its run, a batch for its loss, the lines of its log."""

import json
from pathlib import Path

import torch

from deepclust.core import Data, Encoder, Run
from deepclust.core.engine import Batch


def quiet(folder: Path, **more) -> Run:
    """A run that prints nothing and takes no snapshot unless asked."""
    return Run(folder, quiet=True, **{"snapshot_seconds": 1e9, **more})


def fit(model: Encoder, data: Data, folder: Path, **more) -> Encoder:
    return model.fit(data, quiet(folder, **more))


def batch_of(x: torch.Tensor) -> Batch:
    return Batch(x, torch.arange(len(x)))


def log_of(stage: Path) -> list[dict]:
    """The log in the folder of a stage."""
    return [json.loads(line) for line in (stage / "log.jsonl").read_text().splitlines()]
