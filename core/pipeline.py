"""A run from beginning to end: load, encoder.fit, clusterer.fit, evaluate, write."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import device as devices
from . import folder as folders
from .data import Data
from .engine import checkpoint
from .errors import InvalidData
from .files import write_json, write_text, write_with
from .inference import assign, embed
from .interfaces import Clusterer, Encoder, Place, Result
from .plan import Plan, Request, resolve
from .registry import Registry, installed
from .run import Run

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its folder, its scores, and whether it stood there finished already."""

    folder: Path
    scores: dict[str, Any]
    was_finished: bool = False


def run(
    request: Request,
    place: Place,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    snapshot_seconds: float = 30.0,
    registry: Registry | None = None,
) -> Outcome:
    """Carry a request out in ``out`` (by default a folder named after it), or go on where it stopped.

    Raises DeepclustError, before anything is written, for whatever is wrong with the request.
    """
    registry = registry or installed()
    device = devices.choose_device(request.device)
    plan = resolve(request, registry)

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    data = plan.data.cls(plan.data.config).load(place)
    n_clusters = _count(plan, data)
    data.check(n_clusters)
    folder = out or Path("runs") / _default_name(plan, n_clusters)
    precision = devices.choose_precision(request.precision, device)
    record = _record(plan, data, n_clusters, device, precision)
    with folders.locked(folder):
        earlier = folders.prepare(folder, record, overwrite=overwrite)
        if earlier is not None and earlier.get("status") == "finished":
            with contextlib.suppress(OSError, ValueError):  # gone or broken: they are written again
                scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
                return Outcome(folder, scores, was_finished=True)
        say(f"{data.description}, {n_clusters} clusters, on {devices.describe(device)}, {precision}")
        say(f"  going on in '{folder}'" if earlier else f"  writing to '{folder}'")
        devices.prepare(device)
        work = Run(
            folder, request.seed, device, precision, request.epochs_scale, snapshot_seconds,
            quiet, registry=registry,
        )  # fmt: skip
        try:
            scores = _carry_out(plan, data.to(device), n_clusters, work)
            scores["resumed"] = earlier is not None
            write_json(folder / "scores.json", scores)
            memory = {"peak_memory_bytes": _peak_memory()}
            write_json(folder / folders.RECORD, {**record, "status": "finished", **memory})
        except OSError as error:
            raise folders.cannot_write(folder, error) from error
    return Outcome(folder, scores)


def _carry_out(plan: Plan, data: Data, n_clusters: int, work: Run) -> dict[str, Any]:
    start = time.perf_counter()
    supervised = plan.encoder.entry.component.supervised
    hidden = data.seal()

    run_encoder = work.child("encoder")
    checkpoint.seed_everything(run_encoder.seed_for("weights"))
    encoder: Encoder = plan.encoder.cls(plan.encoder.config, data.shape).to(work.device)
    encoder.fit(data if supervised else hidden, run_encoder)
    encoded = time.perf_counter()

    run_clusterer = work.child("clusterer")
    checkpoint.seed_everything(run_clusterer.seed_for("weights"))
    clusterer: Clusterer = plan.clusterer.cls(plan.clusterer.config, n_clusters).to(work.device)
    clusterer.fit(encoder, hidden, run_clusterer)
    clustered = time.perf_counter()

    z = embed(encoder, hidden)
    labels, confidence = assign(clusterer, z)
    result = Result(
        z=z.cpu().numpy(),
        labels=labels.cpu().numpy(),
        confidence=confidence.cpu().numpy(),
        n_clusters=n_clusters,
        truth=data.truth,
        data=hidden,
        encoder=encoder,
        clusterer=clusterer,
        folder=work.folder,
        seed=work.seed,
    )
    write_text(work.folder / "labels.csv", _labels_csv(result, data.files))
    _save_weights(work.folder / WEIGHTS, encoder, clusterer)
    scores: dict[str, Any] = {
        "protocol": {
            "trained on": data.description,
            "scored on": f"the same {len(data)} samples",
            "labels used in training": supervised,
            "seed": work.seed,
        }
    }
    for chosen in plan.evaluators:
        evaluated = chosen.cls(chosen.config).evaluate(result)
        scores[chosen.entry.component.name] = {k: _plain(v) for k, v in evaluated.items()}
    scores["seconds"] = {
        "encoder": round(encoded - start, 3),
        "clusterer": round(clustered - encoded, 3),
        "results": round(time.perf_counter() - clustered, 3),
    }
    return scores


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, list)) else float(value)


def _count(plan: Plan, data: Data) -> int:
    n_clusters: int | None = plan.request.clusters or plan.data.cls.n_clusters
    if n_clusters is None:
        raise InvalidData(f"how many clusters has {data.description}? Say it with --clusters.")
    return n_clusters


def _default_name(plan: Plan, n_clusters: int) -> str:
    request = plan.request
    name = Path(request.data).stem or "data"
    return f"{name}-{request.encoder}-{request.clusterer}-k{n_clusters}-seed{request.seed}"


def _record(plan: Plan, data: Data, n_clusters: int, device: torch.device, precision: str) -> dict[str, Any]:
    request = plan.request
    chosen = (plan.data, plan.encoder, plan.clusterer, *plan.evaluators)
    return {
        "status": "running",
        "request": {
            "encoder": plan.encoder.record(),
            "clusterer": plan.clusterer.record(),
            "evaluators": [c.record() for c in plan.evaluators],
            "clusters": n_clusters,
            "seed": request.seed,
            "device": device.type,
            "precision": precision,
            "epochs_scale": request.epochs_scale,
        },
        "data": {
            **plan.data.record(),
            "description": data.description,
            "samples": len(data),
            "shape": list(data.shape),
            "type": str(data.x.dtype).removeprefix("torch."),
            "fingerprint": data.fingerprint(),
        },
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


def _labels_csv(result: Result, files: Sequence[str] | None) -> str:
    """A row for each sample: its file or index, cluster, confidence, and true class where known."""
    truth = result.truth
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["file" if files is not None else "index", "cluster", "confidence"]
    writer.writerow(header + (["truth"] if truth is not None else []))
    keys = files if files is not None else range(len(result.labels))
    for i, (key, label, confidence) in enumerate(
        zip(keys, result.labels.tolist(), result.confidence.tolist(), strict=True)
    ):
        row = [key, label, f"{confidence:.6f}"]
        if truth is not None:
            code = truth.labels[i]
            row.append(truth.names[code] if code >= 0 else "")
        writer.writerow(row)
    return text.getvalue()


def _save_weights(path: Path, encoder: Encoder, clusterer: Clusterer) -> None:
    from safetensors.torch import save_file

    tensors = {
        f"{part}.{name}": value.detach().cpu().contiguous().clone()
        for part, model in (("encoder", encoder), ("clusterer", clusterer))
        for name, value in model.state_dict().items()
    }
    write_with(path, lambda temporary: save_file(tensors, temporary))


def _peak_memory() -> int | None:
    """The largest resident memory of this process so far, in bytes; None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
