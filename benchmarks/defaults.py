"""The defaults on at least twenty data sets, beside k-means on the input and on 50 principal components.

Each run is `deepclust run --data SET` with nothing else said but the number of clusters, in a process of its
own, three seeds a set. All of it is resumable: what the results file holds is not run again, and a run that
was stopped goes on.

    python benchmarks/defaults.py --mnist DIR --cifar10 DIR --features FILE --minutes 60
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from quality import machine, save
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from deepclust.core.run import scores as scored
from deepclust.plugins.clustering.metric import accuracy
from made_sets import MadeSet, Sources, all_sets

CLOSE, PHOTOS, BEYOND = 0.02, 0.05, 0.10  # what is asked for, see `verdict`


def baselines(made: MadeSet, seeds: int) -> dict[str, list[float]]:
    """Accuracy of k-means (10 restarts) for each seed, on the samples and on their principal components."""
    k, x = len(np.unique(made.y)), made.x.astype(np.float32)
    found: dict[str, list[float]] = {"k-means": [], "PCA 50 + k-means": []}
    for seed in range(seeds):
        axes = PCA(min(50, *x.shape), random_state=seed).fit_transform(x)
        for name, values in zip(found, (x, axes), strict=True):
            labels = KMeans(k, n_init=10, random_state=seed).fit_predict(values)
            found[name].append(round(accuracy(made.y, labels), 4))
    return found


def run_default(made: MadeSet, out: Path, seed: int, deadline: float) -> dict[str, Any] | None:
    """What one default run came to; None where the time was over first."""
    command = [sys.executable, "-m", "deepclust.cli", "run", *made.arguments, "--seed", str(seed)]
    command += ["--out", str(out), "--evaluator", "clustering"]
    start = time.perf_counter()
    with (out.parent / f"{out.name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
            return None
    seconds = round(time.perf_counter() - start, 1)
    if not (out / "scores.json").exists():
        return {"exit code": code, "seconds": seconds, "accuracy": 0.0, "notices": [], "lost": None}
    summary = scored.read(out / scored.SCORES)
    record = json.loads((out / "run.json").read_text())
    scores = summary["evaluators"]["clustering"]
    sizes = scores["cluster_sizes"]
    return {
        "exit code": code,
        "pair": "{} + {}".format(*(record["request"][p]["name"] for p in ("encoder", "clusterer"))),
        "accuracy": round(scores["accuracy"], 4),
        "seconds": seconds,
        "resumed": summary["resumed"],
        "lost": sizes.count(0),
        "smallest": min(sizes),
        "notices": scored.notices(summary),
        "healthy": summary.get("health", {}).get("healthy"),
    }


def verdict(name: str, row: dict[str, Any]) -> str:
    """What is missing; empty where nothing is."""
    better, got = max(row["k-means"], row["PCA 50 + k-means"]), row["default"]
    if any(r["lost"] != 0 and not r["notices"] for r in row["runs"]):
        return "a lost cluster and no notice"
    if name.startswith("photos") and got < better + PHOTOS:
        return f"not {PHOTOS} above"
    return f"more than {CLOSE} below" if got < better - CLOSE else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="folder of the four idx gz files")
    parser.add_argument("--cifar10", type=Path, help="folder of WebP sheets and labels.npz")
    parser.add_argument("--features", type=Path, help=".npz of frozen features, x and y")
    parser.add_argument("--sets", help="names, by commas; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/defaults"), help="folder of sets and runs")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/defaults.json"))
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long, to be resumed")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    sets = all_sets(Sources(args.mnist, args.cifar10, args.features))
    chosen = args.sets.split(",") if args.sets else list(sets)
    kept: dict[str, Any] = json.loads(args.results.read_text()) if args.results.exists() else {}
    table = kept.get("sets", {})
    for name in chosen:
        row = table.setdefault(name, {"runs": []})
        if len(row["runs"]) >= args.seeds:
            continue
        folder = args.work / name
        folder.mkdir(parents=True, exist_ok=True)
        made = sets[name](folder)
        row.update(
            samples=len(made.x), values=made.x.shape[1], clusters=len(np.unique(made.y)), beyond=made.beyond
        )
        if len(row.get("baselines", {}).get("k-means", ())) < args.seeds:
            row["baselines"] = baselines(made, args.seeds)
        for seed in range(len(row["runs"]), args.seeds):
            result = run_default(made, folder / f"seed{seed}", seed, deadline)
            if result is None:
                print(f"{name}: stopped in seed {seed}; the same command goes on")
                return
            row["runs"].append({"seed": seed, **result})
            for key, values in {**row["baselines"], "default": [r["accuracy"] for r in row["runs"]]}.items():
                row[key] = round(statistics.mean(values), 4)
                row[f"{key} deviation"] = round(statistics.stdev(values), 4) if len(values) > 1 else 0.0
            row["missing"] = verdict(name, row)
            record = {
                "command": "python benchmarks/defaults.py " + " ".join(sys.argv[1:]),
                "protocol": "trained on and scored on all samples; labels reach the scores alone",
                "machine": {
                    **machine(),
                    "platform": platform.platform(),
                    "threads": os.environ.get("OMP_NUM_THREADS"),
                },
                "summary": summary(table),
                "sets": table,
            }
            save(record, args.results)
        shutil.rmtree(folder, ignore_errors=True)
        print(line(name, row), flush=True)
    print(json.dumps(summary(table), indent=2))


def summary(table: dict[str, Any]) -> dict[str, Any]:
    """How many sets are as asked, and the mean gain where there is structure beyond k-means."""
    rows = {n: r for n, r in table.items() if "default" in r}
    gains = [r["default"] - max(r["k-means"], r["PCA 50 + k-means"]) for r in rows.values() if r["beyond"]]
    return {
        "sets": len(rows),
        "short": {n: r["missing"] for n, r in rows.items() if r["missing"]},
        "mean gain beyond k-means": round(statistics.mean(gains), 4) if gains else None,
        "asked": BEYOND,
    }


def line(name: str, row: dict[str, Any]) -> str:
    """One set in one line."""
    seconds = statistics.median(r["seconds"] for r in row["runs"])
    return (
        f"{name:18} {row['samples']:7,} x {row['values']:6,} k={row['clusters']:3} "
        f"{row['runs'][0].get('pair', ''):16} {row['default']:.3f}+-{row['default deviation']:.3f}  "
        f"k-means {row['k-means']:.3f}  PCA {row['PCA 50 + k-means']:.3f}  {seconds:6.1f} s  {row['missing']}"
    )


if __name__ == "__main__":
    main()
