"""What a GPU must show, the most telling first, in the minutes there are; the same command goes on.

Each check is a command with a limit of its own. One that is stopped, by its limit or by the end of --minutes,
gets Ctrl-C and time to write a snapshot; one that has ended well is not done again. What each said is in
OUT/NAME.log; the list with the device, seconds and exit codes is --results/gpu-checks.json.

    python benchmarks/gpu.py --data DATA --minutes 10 --results benchmarks/results

DATA holds MNIST/raw/ as torchvision reads it and cifar10.npz with 'x' (60000, 32, 32, 3) of bytes and 'y'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from quality import save

GRACE = 20  # seconds to write a snapshot in
QUALITY = (
    "{python} benchmarks/quality.py --device cuda --out {out}/runs/{name} --results {results}/{name}-gpu.json"
)
CIFAR10 = f"{QUALITY} --data {{data}}/cifar10.npz --seeds 1"
MNIST = f"{QUALITY} --data mnist --data-root {{data}}"
RUN = "{python} -m deepclust run -q --device cuda --evaluator clustering --out {out}/runs"
BITS = ("labels.csv", "model.safetensors")

# name, limit in seconds, command
CHECKS: tuple[tuple[str, int, str], ...] = (
    ("cuda-tests", 60, "{python} -m pytest -q -k cuda"),
    (
        "same-bits",
        90,
        f"rm -rf {{out}}/runs/bits? && {RUN}/bits1 && {RUN}/bits2 && "
        + " && ".join(f"cmp {{out}}/runs/bits1/{name} {{out}}/runs/bits2/{name}" for name in BITS),
    ),
    ("mnist-dec", 120, f"{MNIST} --seeds 1"),
    ("mnist-dec-float32", 120, f"{MNIST} --seeds 1 --precision float32"),
    ("kmeans", 90, "{python} benchmarks/kmeans_speed.py --device cuda --results {results}/kmeans-gpu.json"),
    (
        "augmentation",
        90,
        "{python} benchmarks/augmentation_speed.py --device cuda --results {results}/augmentation-gpu.json",
    ),
    ("suite", 300, "{python} -m pytest -q -n 12 --maxfail 30"),
    ("mnist-default", 120, f"{MNIST} --encoder umap --clusterer kmeans --seeds 3"),
    ("cifar10-simclr-scan", 330, f"{CIFAR10} --recipe simclr-scan-cifar10"),
    (
        "cifar10-simclr-scan-use",
        60,
        "{python} benchmarks/utilisation.py {out}/runs/cifar10-simclr-scan/seed0 --device cuda "
        "--results {results}/cifar10-simclr-scan-use.json",
    ),
    (
        "neighbours",
        120,
        "{python} benchmarks/neighbours.py {out}/runs/cifar10-simclr-scan/seed0/embedding.npy --device cuda "
        "--results {results}/neighbours-gpu.json",
    ),
    ("mnist-idec", 120, f"{MNIST} --seeds 1 --clusterer idec"),
    (
        "cifar10-resnet",
        480,
        f"{CIFAR10} --recipe resnet-classifier --evaluator svm",
    ),
    ("decode", 300, "{python} benchmarks/decode_speed.py --results {results}/decode-gpu.json"),
    ("mnist-dec-paper", 580, f"{MNIST} --seeds 1 "
     "-s encoder.preset=paper -s clusterer.preset=paper"),
    ("cifar10-scan", 3600, f"{QUALITY} --recipe scan-cifar10 --data-root {{data}} --seeds 1"),
)  # fmt: skip


def check(command: str, log: Path, limit: float) -> int | None:
    """The exit code of a shell command that writes to ``log``; none where its time was over."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, shell=True, stdout=out, stderr=out, start_new_session=True)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            pass
        for signum in (signal.SIGINT, signal.SIGKILL):
            os.killpg(process.pid, signum)
            try:
                process.wait(GRACE)
                break
            except subprocess.TimeoutExpired:
                pass
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the runs and logs")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", help="names of checks, with commas between; by default all")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; nothing was run.")
    deadline = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    state = args.out / "gpu-checks.json"
    done = json.loads(state.read_text())["checks"] if state.exists() else {}
    for name, limit, command in CHECKS:
        left = deadline - time.monotonic() - GRACE
        if (args.only and name not in args.only.split(",")) or done.get(name, {}).get("exit code") == 0:
            continue
        if left < GRACE:
            break
        text = command.format(
            python=sys.executable, data=args.data, out=args.out, results=args.results, name=name
        )
        start = time.perf_counter()
        code = check(text, args.out / f"{name}.log", min(limit, left))
        done[name] = {"exit code": code, "seconds": round(time.perf_counter() - start, 1), "command": text}
        print(name, done[name]["exit code"], done[name]["seconds"], flush=True)
        summary = {
            "command": "python benchmarks/gpu.py " + " ".join(sys.argv[1:]),
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "checks": done,
        }
        save(summary, state)
        save(summary, args.results / "gpu-checks.json")


if __name__ == "__main__":
    main()
