"""Seconds per epoch beside ClustPy's DEC: the same network, batch size and data, turn by turn in one run.

Needs clustpy in the same environment. Pretraining is of the whole autoencoder, in both; a clustering
epoch of deepclust includes its refreshes of the target from the full set every 140 iterations, which
ClustPy's DEC has not; one refresh is timed too, and the steps alone given beside. Medians.

    python benchmarks/peer_clustpy.py --data mnist --data-root DIR --results benchmarks/results/x.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import machine, save

from deepclust.core import Data, Run, Storage, embed
from deepclust.core.contract import config as configs
from deepclust.core.contract.registry import installed
from deepclust.core.run.device import choose_precision, prepare

HIDDEN, LATENT, BATCH = (500, 500, 2000), 10, 256


def ours(data: Data, precision: str, epochs: int, augment: bool) -> tuple[float, float, float]:
    """Seconds an epoch of pretraining, of clustering, and of clustering less its refreshes."""
    registry = installed()
    with tempfile.TemporaryDirectory() as folder:
        work = Run(Path(folder), device=data.device, precision=precision, quiet=True, snapshot_seconds=1e6)
        encoder_class, clusterer_class = registry.load("encoder", "sdae"), registry.load("clusterer", "dec")
        settings: dict[str, Any] = {"layer_epochs": 0, "epochs": epochs, "hidden": HIDDEN}
        if not augment:
            settings |= {"shift": 0.0, "rotation": 0.0, "finetune_noise": 0.0}
        encoder = encoder_class(configs.build(encoder_class.Config, settings, "encoder"), data.shape)
        encoder.fit(data, work.child("encoder"))
        settings = {"epochs": epochs, "tol": 0.0}
        clusterer = clusterer_class(configs.build(clusterer_class.Config, settings, "clusterer"), 10)
        clusterer.fit(encoder, data, work.child("clusterer"))
        logs = [Path(folder, part, "log.jsonl") for part in ("encoder/finetune", "clusterer/refine")]
        lines = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
        start = time.perf_counter()
        embed(encoder, data, autocast=work.autocast)
        refresh = time.perf_counter() - start
    pretraining, clustering = (line["seconds"] / epochs for line in lines)
    refreshes = (1 + lines[1]["iteration"] // clusterer.config.refresh) / epochs
    return pretraining, clustering, clustering - refreshes * refresh


def clustpys(x: np.ndarray, epochs: int) -> tuple[float, float, float]:
    """The same of ClustPy's, its k-means start taken off by timing a run without epochs."""
    from clustpy.deep import DEC
    from clustpy.deep.neural_networks import FeedforwardAutoencoder

    network = FeedforwardAutoencoder([x.shape[1], *HIDDEN, LATENT], activation_fn=torch.nn.ReLU)
    start = time.perf_counter()
    network.fit(n_epochs=epochs, optimizer_params={"lr": 1e-3}, batch_size=BATCH, data=x, patience=10**6)
    pretraining = time.perf_counter() - start
    seconds = []
    for n in (1, 1 + epochs):
        start = time.perf_counter()
        DEC(10, pretrain_epochs=0, clustering_epochs=n, neural_network=network, batch_size=BATCH,
            random_state=0).fit(x)  # fmt: skip
        seconds.append(time.perf_counter() - start)
    clustering = (seconds[1] - seconds[0]) / epochs
    return pretraining / epochs, clustering, clustering


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    device = torch.device("cpu")
    loader = installed().load("dataset", args.data)
    data = loader(loader.Config()).load(Storage(args.data_root)).seal()
    flat = np.concatenate([data.slice(i, i + 8192).flatten(1).numpy() for i in range(0, len(data), 8192)])
    before = machine()
    rows: dict[str, list[tuple[float, float, float]]] = {}
    default = torch.get_float32_matmul_precision()
    for _ in range(args.repeats):
        torch.set_float32_matmul_precision(default)
        torch.use_deterministic_algorithms(False)
        rows.setdefault("ClustPy DEC", []).append(clustpys(flat, args.epochs))
        prepare(device)
        best = choose_precision("auto", device)
        rows.setdefault(f"deepclust {best}", []).append(ours(data, best, args.epochs, False))
        rows.setdefault("deepclust float32", []).append(ours(data, "float32", args.epochs, False))
        rows.setdefault(f"deepclust {best}, as by default (distorted samples)", []).append(
            ours(data, best, args.epochs, True)
        )
        print({name: times[-1] for name, times in rows.items()}, flush=True)
    medians = {
        name: {
            "seconds a pretraining epoch": round(statistics.median(t[0] for t in times), 3),
            "seconds a clustering epoch": round(statistics.median(t[1] for t in times), 3),
            "seconds a clustering epoch, steps alone": round(statistics.median(t[2] for t in times), 3),
        }
        for name, times in rows.items()
    }
    peer = medians["ClustPy DEC"]
    for values in medians.values():
        values |= {f"{k.removeprefix('seconds a ')}, of ClustPy's": round(values[k] / peer[k], 3)
                   for k in list(peer)[:3]}  # fmt: skip
    result = {
        "command": "python benchmarks/peer_clustpy.py " + " ".join(sys.argv[1:]),
        "machine": {**before, "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "data": data.description,
        "network": [flat.shape[1], *HIDDEN, LATENT],
        "batch": BATCH,
        "epochs timed": args.epochs,
        "repeats": args.repeats,
        "medians": medians,
        "all": rows,
    }
    print(json.dumps(result["medians"], indent=2))
    save(result, args.results)


if __name__ == "__main__":
    main()
