"""A small comparison by the command: its data, what it is asked, and the tables that it wrote."""

import csv
from pathlib import Path

import numpy as np

from made_command import deepclust

TINY = [
    "--evaluator", "clustering", "--clusters", "3", "--device", "cpu", "--precision", "float32",
    "-s", "sdae.layer_epochs=1", "-s", "encoder.epochs=2", "-s", "encoder.hidden=8",
    "-s", "encoder.latent_dim=2", "-s", "encoder.batch_size=16", "-s", "kmeans.n_init=1",
    "-s", "dec.epochs=2", "-s", "dec.batch_size=16",
]  # fmt: skip
ALONE = [a.replace("sdae.", "encoder.") for a in TINY]  # the same for `deepclust run`


def write_data(path: Path, *, truth: bool = True) -> None:
    labels = np.arange(60) % 3
    noise = np.random.default_rng(3).normal(size=(60, 5))
    x = (np.eye(3, 5)[labels] + 0.4 * noise).astype(np.float32)
    np.savez(path, **({"x": x, "y": labels} if truth else {"x": x}))


def compared(out, *more, data="good.npz", code=0):
    arguments = ["--data", data, "--clusterer", "kmeans,dec", "--seeds", "0,1,4", *TINY, "--out", out, *more]
    return deepclust("compare", *arguments, code=code)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
