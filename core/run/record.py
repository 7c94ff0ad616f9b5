"""What run.json holds: what was asked for, of which data, with which versions, on which machine."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from ..data.data import Data
from . import device as devices
from .plan import COUNTER, Plan

FOUND = "found"  # of clusters that the clusterer counts


def record_of(
    plan: Plan, data: Data, asked: int | tuple[int, int], device: torch.device, precision: str
) -> dict[str, Any]:
    """What run.json holds while the run goes on."""
    request = plan.request
    chosen = [c for c in (plan.data, plan.encoder, plan.clusterer, *plan.evaluators) if c is not None]
    return {
        "status": "running",
        "request": {
            "encoder": plan.encoder.record(),
            "clusterer": plan.clusterer.record(),
            "evaluators": [c.record() for c in plan.evaluators],
            "clusters": (asked or FOUND) if isinstance(asked, int) else _range(plan, asked),
            "seed": request.seed,
            "device": device.type,
            "precision": precision,
            "epochs_scale": request.epochs_scale,
            **({} if request.minutes is None else {"minutes": request.minutes}),
        },
        "data": {
            **(plan.data.record() if plan.data is not None else {"name": request.data}),
            "description": data.description,
            "samples": len(data),
            "shape": list(data.shape),
            "type": str(data.x.dtype).removeprefix("torch."),
            "fingerprint": data.fingerprint(),
            **({} if data.test is None else {"test": _test_record(data.test)}),
        },
        "preparation": data.preparation.record(),
        "versions": {
            "deepclust": version("deepclust"),
            "plugins": {c.entry.component.name: f"{c.entry.distribution} {c.entry.version}" for c in chosen},
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "device": devices.describe(device),
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
        },
        "command": sys.argv[1:],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _range(plan: Plan, asked: tuple[int, int]) -> str:
    name = "auto" if plan.counter == COUNTER else plan.counter
    return f"{name}:{asked[0]}-{asked[1]}"


def _test_record(test: Data) -> dict[str, Any]:
    return {"description": test.description, "samples": len(test), "fingerprint": test.fingerprint()}
