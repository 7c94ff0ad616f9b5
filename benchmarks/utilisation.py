"""How much of a card's matrix peak the stages of a finished run used, and how long each took.

The peak is the most floating point operations a second that square products of matrices reach on the
device in the run's precision, a median of several. A stage's work: the operations of one pass of the encoder
over a sample, counted by torch, times the passes that the stage makes for each sample of an epoch (a backward
pass counts as two; heads and losses, which are small, are left out). Its time is the median time of an epoch
in the run's log, with all that the run does in it: views, held-out samples, health, snapshots.

    python benchmarks/utilisation.py runs/gpu-scan/seed0 --device cuda --results benchmarks/results/use.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from quality import machine, save
from torch.utils.flop_counter import FlopCounterMode

from deepclust.core import Encoder
from deepclust.core.run.bundle import load
from deepclust.core.run.device import choose_device, describe, prepare

# forward passes over a sample in an epoch, a backward pass counting as two
PASSES = {
    "encoder/contrast": 2 * 3,  # two views
    "clusterer/scan": 2 * 3,  # a sample and a neighbour
    "clusterer/label": 1 + 3,  # the weak view without gradient, the strong one with
}
SIZES = {"cuda": 8192, "cpu": 2048, "mps": 2048}
TIMES, SAMPLES = 7, 64


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of products of square matrices."""
    n = SIZES[device.type]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    rates = []
    for _ in range(TIMES + 3):
        wait(device)
        start = time.perf_counter()
        a @ b
        wait(device)
        rates.append(2 * n**3 / (time.perf_counter() - start))
    return statistics.median(rates[3:])


def work(encoder: Encoder, shape: tuple[int, ...], device: torch.device) -> float:
    """Floating point operations of one forward pass over one sample."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        encoder.eval()(torch.rand(SAMPLES, *shape, device=device))
    return counted.get_total_flops() / SAMPLES


def stages(run: Path) -> dict[str, dict[str, float]]:
    """Of each stage that went through the encoder: epochs, seconds, and the median seconds of an epoch."""
    record = json.loads((run / "run.json").read_text())["request"]
    frozen = not record["clusterer"]["settings"].get("tune_encoder", True)
    found = {}
    for name in PASSES:
        log = run / name / "log.jsonl"
        if not log.exists() or (name == "clusterer/scan" and frozen):
            continue
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        times = [(b["seconds"] - a["seconds"]) / (b["epoch"] - a["epoch"]) for a, b in pairwise(lines)]
        if times:
            last = lines[-1]
            found[name] = {
                "epochs": last["epoch"],
                "seconds": last["seconds"],
                "seconds of an epoch": round(statistics.median(times), 4),
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--device", default="auto", help="the device that the run was on")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if not (args.run / "scores.json").exists():
        raise SystemExit(f"'{args.run}' holds no finished run: give a folder with run.json and scores.json.")
    record = json.loads((args.run / "run.json").read_text())
    device = choose_device(args.device)
    if record["machine"]["device"] != describe(device):
        raise SystemExit(
            f"'{args.run}' was made on '{record['machine']['device']}', and this is '{describe(device)}'."
        )
    prepare(device)
    precision = record["request"]["precision"]
    most = peak(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    encoder = load(args.run, device).encoder
    once = work(encoder, tuple(record["data"]["shape"]), device)
    n = record["data"]["samples"]
    measured = stages(args.run)
    if not measured:
        raise SystemExit(f"no stage of '{args.run}' is one of: {', '.join(PASSES)}.")
    for name, stage in measured.items():
        held = 1 - record["request"]["clusterer"]["settings"]["held_out"] if name == "clusterer/scan" else 1.0
        done = PASSES[name] * once * n * held / stage["seconds of an epoch"]
        stage["share of the peak"] = round(done / most, 4)
    summary: dict[str, Any] = {
        "command": "python benchmarks/utilisation.py " + " ".join(sys.argv[1:]),
        "machine": {**machine(), "device": describe(device)},
        "torch": torch.__version__,
        "precision": precision,
        "peak, teraflops a second": round(most / 1e12, 3),
        "megaflops of a sample": round(once / 1e6, 3),
        "samples": n,
        "stages": measured,
    }
    print(json.dumps(summary, indent=2))
    save(summary, args.results)


if __name__ == "__main__":
    main()
