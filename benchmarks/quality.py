"""Quality and cost of one encoder and clusterer over seeds: mean, deviation, seconds, memory.

Each seed is one `deepclust run` in a process of its own, resumable: when --minutes are over the
run in hand is stopped, and the same command goes on with it. Results are printed and, with
--results, written as JSON with the machine, the command and the protocol.

    python benchmarks/quality.py --data digits --seeds 10 --results benchmarks/results/digits.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deepclust import UnhealthyResult
from deepclust.core.run import scores as scored

SCORES = (
    "accuracy", "nmi", "ari", "purity", "mined_purity", "neighbour_purity", "silhouette",
    "test_accuracy", "test_nmi", "test_ari",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor and cores, and the GPU where torch sees one."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return {"processor": name, "cores": os.cpu_count(), "load at start": os.getloadavg()[0]}


def save(summary: dict[str, Any], path: Path | None) -> None:
    """Write what was measured as JSON, where a file was named for it."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary, indent=2) + "\n")


def run_seed(args: argparse.Namespace, rest: list[str], seed: int, deadline: float) -> bool:
    """One seed to its end or to the deadline; says whether it is finished."""
    out = args.out / f"seed{seed}"
    command = [sys.executable, "-m", "deepclust.cli", "run", "--seed", str(seed), "--out", str(out)]
    command += ["--evaluator", "clustering"]  # the time of a run is without its pictures
    for name in ("recipe", "data", "encoder", "clusterer"):
        if value := getattr(args, name):
            command += [f"--{name}", value]
    command += rest
    env = {**os.environ}
    if args.threads:
        env["OMP_NUM_THREADS"] = str(args.threads)
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it writes a snapshot first
        process.wait()
        return False
    if code not in (0, UnhealthyResult.exit_code):
        raise SystemExit(f"seed {seed} failed with exit code {code}: {' '.join(command)}")
    record = out / "process.json"
    if not record.exists():
        record.write_text(json.dumps({"process_seconds": round(time.perf_counter() - start, 2)}))
    return True


def collect(out: Path) -> dict[str, Any]:
    """What one finished run has to say."""
    summary = scored.read(out / scored.SCORES)
    record = json.loads((out / "run.json").read_text())
    stages = {}
    for log in sorted(out.glob("*/**/log.jsonl")):
        last = json.loads(log.read_text().splitlines()[-1])
        stages[str(log.parent.relative_to(out))] = {
            "iterations": last["iteration"],
            "epochs": last["epoch"],
            "seconds": last["seconds"],
            "ms per step": round(1000 * last["seconds"] / last["iteration"], 3),
        }
    return {
        "seed": summary["protocol"]["seed"],
        **{name: summary["evaluators"]["clustering"].get(name) for name in SCORES},
        **{f"{part} {name}": value for part, name, value in others(summary)},
        "training seconds": round(sum(s["seconds"] for s in stages.values()), 2),
        **json.loads((out / "process.json").read_text()),
        "resumed": summary["resumed"],
        "peak memory MiB": round(record["peak_memory_bytes"] / 2**20),
        "stages": stages,
    }


def others(summary: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """The shares and losses that evaluators beside ``clustering`` gave: part, name, value."""
    for part, values in scored.parts(summary):
        if part != "clustering":
            yield from ((part, name, value) for name, value in values.items() if isinstance(value, float))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", help="a run by name, in place of --data, --encoder and --clusterer")
    parser.add_argument("--data", help="by default digits")
    parser.add_argument("--encoder", help="by default sdae")
    parser.add_argument("--clusterer", help="by default dec")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--results", type=Path, help="JSON file to write")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=0, help="threads of a run; 0: torch's choice")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long, to be resumed")
    args, rest = parser.parse_known_args()
    if not args.recipe:
        args.data, args.encoder = args.data or "digits", args.encoder or "sdae"
        args.clusterer = args.clusterer or "dec"
    args.out = args.out or Path("runs/quality") / (
        args.recipe or f"{Path(args.data).stem}-{args.encoder}-{args.clusterer}"
    )
    deadline = time.monotonic() + 60 * args.minutes
    before = machine()
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(lambda seed: run_seed(args, rest, seed, deadline), range(args.seeds)))
    runs = [collect(args.out / f"seed{seed}") for seed in range(args.seeds) if done[seed]]
    if not runs:
        raise SystemExit("no run is finished yet; the same command goes on")
    record = json.loads((args.out / f"seed{runs[0]['seed']}" / "run.json").read_text())
    protocol = scored.read(args.out / f"seed{runs[0]['seed']}" / scored.SCORES)["protocol"]
    kept = ("trained on", "scored on", "labels used in training")
    summary: dict[str, Any] = {
        "command": "python benchmarks/quality.py " + " ".join(sys.argv[1:]),
        "protocol": {k: v for k, v in protocol.items() if k in kept},
        "machine": {**before, **record["machine"], "runs at a time": args.jobs},
        "versions": record["versions"],
        "settings": record["request"],
        "seeds": len(runs),
    }
    more = [name for name in runs[0] if " " in name and isinstance(runs[0][name], float)]
    for name in dict.fromkeys((*SCORES, *more, "training seconds", "process_seconds", "peak memory MiB")):
        values = [r[name] for r in runs if r.get(name) is not None]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            summary[name] = {"mean": round(statistics.mean(values), 4), "deviation": round(deviation, 4)}
    summary["runs"] = runs
    shown = {k: v for k, v in summary.items() if k not in ("runs", "settings")}
    print(json.dumps(shown, indent=2))
    for r in runs:
        print({k: v for k, v in r.items() if k != "stages"})
    if not all(done):
        print(f"{len(runs)} of {args.seeds} runs are finished; the same command goes on.")
    save(summary, args.results)


if __name__ == "__main__":
    main()
