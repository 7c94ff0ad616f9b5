"""A folder of small images through our cache beside torchvision's ImageFolder: images a second, and memory.

100,000 generated images of 32x32, half of them PNG and half JPEG, in ten class folders. In one run, turn by
turn, medians:

- ours: the first pass, which decodes into an empty cache; the second start, which finds it there; an epoch
  of shuffled batches of 256 from it
- torchvision: ImageFolder with resize, centre crop and pil_to_tensor, DataLoader with two workers, which are
  kept: the first and the second epoch of shuffled batches of 256

Both end with float32 batches from 0 to 1. Then a whole `deepclust run` on fewer and on all of the images,
each in a process of its own with an empty cache, for its peak memory.

    python benchmarks/decode_speed.py --results benchmarks/results/decode-cpu.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from quality import machine, save
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize
from torchvision.transforms.functional import pil_to_tensor

from deepclust import UnhealthyResult
from deepclust.core import Data, Storage
from deepclust.plugins.images.folder import Images, ImagesConfig

SIDE, CLASSES, BATCH = 32, 10, 256


def make_images(folder: Path, n: int) -> Path:
    """n smooth random images around the means of their classes, the same at each call."""
    rng = np.random.default_rng(0)
    means = rng.integers(0, 128, (CLASSES, 8, 8, 3), dtype=np.uint8)
    for c in range(CLASSES):
        (folder / f"class{c}").mkdir(parents=True)
    for i in range(n):
        coarse = means[i % CLASSES] + rng.integers(0, 128, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(folder / f"class{i % CLASSES}" / f"{i:06}.{('png', 'jpg')[i // CLASSES % 2]}")
    return folder


def seconds(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def load(folder: Path, cache: Path) -> Data:
    return Images(ImagesConfig(path=str(folder))).load(Storage(folder, cache=cache, quiet=True))


def our_epoch(data: Data, seed: int) -> None:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    for index in order.split(BATCH):
        batch = data.batch(index)
        assert batch.dtype == torch.float32


def their_epoch(loader: DataLoader[object]) -> None:
    for batch, _ in loader:
        batch = batch.to(torch.float32).div_(255)
        assert batch.shape[1:] == (3, SIDE, SIDE)


def measure(folder: Path, n: int, repeats: int) -> dict[str, object]:
    """Seconds of each part, turn by turn."""
    parts: dict[str, list[float]] = {}
    cache = folder.parent / "cache"
    transform = Compose([Resize(SIDE), CenterCrop(SIDE), pil_to_tensor])
    for repeat in range(repeats):
        loader: DataLoader[object] = DataLoader(
            ImageFolder(str(folder), transform), BATCH, shuffle=True, num_workers=2, persistent_workers=True
        )
        shutil.rmtree(cache, ignore_errors=True)
        turn = {
            "torchvision first epoch": seconds(lambda loader=loader: their_epoch(loader)),
            "ours first pass": seconds(lambda: load(folder, cache)),
            "torchvision second epoch": seconds(lambda loader=loader: their_epoch(loader)),
            "ours second start": seconds(lambda: load(folder, cache)),
        }
        del loader
        data = load(folder, cache)
        turn["ours epoch"] = seconds(lambda data=data, seed=repeat: our_epoch(data, seed))
        print({name: round(value, 2) for name, value in turn.items()}, flush=True)
        for name, value in turn.items():
            parts.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in parts.items()}
    return {
        "seconds": {name: [round(v, 3) for v in values] for name, values in parts.items()},
        "images a second, medians": {
            name: round(n / s) for name, s in medians.items() if name != "ours second start"
        },
        "seconds of the second start, median": round(medians["ours second start"], 3),
        "times faster, first pass": round(medians["torchvision first epoch"] / medians["ours first pass"], 2),
        "times faster, second epoch": round(medians["torchvision second epoch"] / medians["ours epoch"], 2),
    }


def peak_memory(folder: Path) -> dict[str, object]:
    """What a whole run on the folder takes at its peak, as run.json says; a run with an empty cache."""
    out, cache = folder.parent / "run", folder.parent / "run-cache"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(cache, ignore_errors=True)
    options = f"--encoder sdae --clusterer kmeans --clusters {CLASSES} --device cpu"
    options += " --epochs-scale 0.001"
    command = [sys.executable, "-m", "deepclust.cli", "run", "-q", "--data", str(folder), *options.split()]
    start = time.perf_counter()
    done = subprocess.run([*command, "--out", str(out), "--cache", str(cache)])
    if done.returncode not in (0, UnhealthyResult.exit_code):
        raise SystemExit(f"the run failed with exit code {done.returncode}: {' '.join(command)}")
    record = json.loads((out / "run.json").read_text())
    row = {
        "images": record["data"]["samples"],
        "options": options,
        "peak MB": round(record["peak_memory_bytes"] / 1e6),
        "pixels MB": round(record["data"]["samples"] * np.prod(record["data"]["shape"]) / 1e6),
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--fewer", type=int, default=20_000, help="images of the smaller memory run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as work:
        folder = make_images(Path(work) / "all" / "images", args.images)
        speed = measure(folder, args.images, args.repeats)
        fewer = make_images(Path(work) / "fewer" / "images", args.fewer)
        memory = [peak_memory(fewer), peak_memory(folder)]
    result = {
        "command": "python benchmarks/decode_speed.py " + " ".join(sys.argv[1:]),
        "machine": before,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "images": f"{args.images} of {SIDE}x{SIDE} RGB, half PNG, half JPEG, {CLASSES} folders",
        **speed,
        "memory of a whole run": memory,
    }
    print(json.dumps(result, indent=2))
    save(result, args.results)


if __name__ == "__main__":
    main()
