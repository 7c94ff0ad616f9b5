"""The tables of a run or a prediction: which sample is in which cluster, and the ones to look at."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.assignment import NOISE, Assignment
from ..data.data import Data, Truth
from ..files import replacing
from ..words import shortened

LABELS, EMBEDDING, SKIPPED, EXAMPLES = "labels.csv", "embedding.npy", "skipped.csv", "examples.csv"
TEST_LABELS, CLUSTERS = "labels-test.csv", "clusters.csv"
TEXT = 120  # characters of a sample's text
NEIGHBOURS = "neighbours.npy"  # of a clusterer that learned from some, (N, k)
SHOWN = 16  # examples of each kind for a cluster


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Replace a CSV file (UTF-8)."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        text.detach()


def write_labels(path: Path, data: Data, where: Assignment, truth: Truth | None = None) -> None:
    """A row for each sample: its name or index, cluster (-1: noise), confidence, distance to the cluster's
    centre (none of noise), second choice, true class where known, and text where there are any."""
    keys = data.files if data.files is not None else range(len(where.labels))
    columns: list[Iterable[Any]] = [
        keys,
        where.labels.tolist(),
        (f"{value:.6f}" for value in where.confidence.tolist()),
        ("" if math.isnan(value) else f"{value:.6g}" for value in where.distance.tolist()),
        where.second.tolist(),
    ]
    header = [_key(data), "cluster", "confidence", "distance", "second"]
    if truth is not None:
        header.append("truth")
        columns.append(truth.names[code] if code >= 0 else "" for code in truth.labels.tolist())
    if data.items is not None and data.items.texts is not None:
        header.append("text")
        columns.append(shortened(text, TEXT) for text in data.items.texts)
    write_table(path, header, zip(*columns, strict=True))


def read_labels(path: Path) -> np.ndarray:
    """The clusters (N,) that ``write_labels`` wrote; raises OSError or ValueError where there are none."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        try:
            if next(rows)[1] != "cluster":
                raise ValueError("it has no column 'cluster'")
            return np.fromiter((int(row[1]) for row in rows), dtype=np.int64)
        except (StopIteration, IndexError, csv.Error) as error:
            raise ValueError(f"it is no table of labels ({error})") from error


def write_examples(path: Path, data: Data, where: Assignment) -> None:
    """Prototypes and doubtful members of each cluster, at most ``SHOWN`` of each, none of them both; and of
    noise those nearest to a cluster."""

    def rows() -> Iterator[list[Any]]:
        groups: list[tuple[int | str, str, np.ndarray]] = []
        for k in range(where.n_clusters):
            prototypes, doubtful = where.examples(k, SHOWN, SHOWN)
            groups += [(k, "prototype", prototypes), (k, "doubtful", doubtful)]
        groups.append(("noise", "noise", where.noise()[:SHOWN]))
        for cluster, kind, members in groups:
            for rank, i in enumerate(members.tolist()):
                name = data.files[i] if data.files is not None else i
                yield [cluster, kind, rank, name, f"{where.confidence[i]:.6f}", where.second[i]]

    write_table(path, ["cluster", "kind", "rank", _key(data), "confidence", "second"], rows())


def write_clusters(path: Path, data: Data, where: Assignment, truth: Truth | None) -> None:
    """A row for each cluster, and for noise where there is any: its size, share of all, mean confidence, most
    confident member, and, where classes are known, the most frequent one and its share of the members whose
    class is known."""

    def row(name: int | str, members: np.ndarray) -> list[Any]:
        cells: list[Any] = [name, len(members), f"{len(members) / len(where.labels):.6f}"]
        if len(members) and name != "noise":
            first = members[0]
            confidence = where.confidence[members].mean()
            cells += [f"{confidence:.6f}", first if data.files is None else data.files[first]]
        else:
            cells += ["", ""]
        if truth is not None:
            counts = np.bincount(truth.labels[members][truth.labels[members] >= 0], minlength=1)
            most, known = int(counts.argmax()), counts.sum()
            cells += [truth.names[most], f"{counts[most] / known:.6f}"] if known else ["", ""]
        return cells

    groups: list[tuple[int | str, np.ndarray]] = [(k, where.prototypes(k)) for k in range(where.n_clusters)]
    groups += [("noise", where.noise())] if NOISE in where.labels else []
    rows = [row(*group) for group in groups]
    header = ["cluster", "samples", "share", "confidence", "prototype"]
    write_table(path, header + (["majority", "majority_share"] if truth is not None else []), rows)


def _key(data: Data) -> str:
    """What the samples' names are called."""
    return data.key if data.files is not None else "index"
