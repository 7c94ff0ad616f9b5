"""The tables of a run or a prediction: which sample is in which cluster, and the ones to look at."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..contract.interfaces import Result
from ..data.data import Data, Truth
from ..files import replacing
from ..toolbox.inference import Assignment

LABELS, EMBEDDING, SKIPPED, EXAMPLES = "labels.csv", "embedding.npy", "skipped.csv", "examples.csv"
TEST_LABELS, CLUSTERS = "labels-test.csv", "clusters.csv"
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


class Placed(NamedTuple):
    """Where N samples belong, each (N,): as Assignment, and the distance to the cluster's centre.

    second_distance: that to the second choice's centre, where it was asked for.
    """

    labels: np.ndarray
    confidence: np.ndarray
    second: np.ndarray
    second_confidence: np.ndarray
    distance: np.ndarray
    second_distance: np.ndarray | None = None

    def prototypes(self, cluster: int) -> np.ndarray:
        """The indices of a cluster's members, the most confident first, of equal ones the nearest."""
        members = np.flatnonzero(self.labels == cluster)
        return members[np.lexsort((members, self.distance[members], -self.confidence[members]))]

    def doubtful(self, cluster: int) -> np.ndarray:
        """The indices of a cluster's members, those nearest to their second choice first.

        Where soft assignments do not tell, as of k-means on groups far apart, the distances do: the
        greater that to the centre is for that to the second choice's.
        """
        members = np.flatnonzero(self.labels == cluster)
        margin = self.confidence[members] - self.second_confidence[members]
        if self.second_distance is None:
            return members[np.lexsort((members, margin))]
        other = self.second_distance[members]
        ratio = np.divide(self.distance[members], other, out=np.zeros(other.shape), where=other > 0)
        return members[np.lexsort((members, -ratio, margin))]

    def examples(self, cluster: int, prototypes: int, doubtful: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many prototypes and doubtful members of a cluster, none of them both.

        Where there are too few members for all, they are shared in that proportion.
        """
        order = self.prototypes(cluster)
        if len(order) < prototypes + doubtful:
            prototypes = max(1, round(len(order) * prototypes / (prototypes + doubtful)))
        first = order[:prototypes]
        unsure = self.doubtful(cluster)
        return first, unsure[~np.isin(unsure, first)][:doubtful]


def placed(assignment: Assignment, distance: Tensor, second_distance: Tensor | None = None) -> Placed:
    """Tensors on any device as arrays."""
    found = Placed(*(part.cpu().numpy() for part in (*assignment, distance)))
    return found if second_distance is None else found._replace(second_distance=second_distance.cpu().numpy())


def placed_of(result: Result) -> Placed:
    """Where the samples of a result belong."""
    return Placed(*(getattr(result, name) for name in Placed._fields))


def write_labels(path: Path, data: Data, where: Placed, truth: Truth | None = None) -> None:
    """A row for each sample: its name or index, cluster, confidence, distance to the cluster's centre,
    second choice, and true class where known."""
    keys = data.files if data.files is not None else range(len(where.labels))
    columns: list[Iterable[Any]] = [
        keys,
        where.labels.tolist(),
        (f"{value:.6f}" for value in where.confidence.tolist()),
        (f"{value:.6g}" for value in where.distance.tolist()),
        where.second.tolist(),
    ]
    header = [_key(data), "cluster", "confidence", "distance", "second"]
    if truth is not None:
        header.append("truth")
        columns.append(truth.names[code] if code >= 0 else "" for code in truth.labels.tolist())
    write_table(path, header, zip(*columns, strict=True))


def read_labels(path: Path) -> np.ndarray:
    """The clusters (N,) in a table that ``write_labels`` wrote; raises OSError or ValueError for others."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return np.array([int(row["cluster"]) for row in csv.DictReader(file)], dtype=np.int64)
        except (KeyError, TypeError, csv.Error) as error:
            raise ValueError("it is no table of labels") from error


def write_examples(path: Path, data: Data, where: Placed, n_clusters: int) -> None:
    """Prototypes and doubtful members of each cluster, at most ``SHOWN`` of each; none is both."""

    def rows() -> Iterator[list[Any]]:
        for cluster in range(n_clusters):
            chosen = where.examples(cluster, SHOWN, SHOWN)
            for kind, members in zip(("prototype", "doubtful"), chosen, strict=True):
                for rank, i in enumerate(members.tolist()):
                    name = data.files[i] if data.files is not None else i
                    yield [cluster, kind, rank, name, f"{where.confidence[i]:.6f}", where.second[i]]

    write_table(path, ["cluster", "kind", "rank", _key(data), "confidence", "second"], rows())


def write_clusters(path: Path, data: Data, where: Placed, n_clusters: int, truth: Truth | None) -> None:
    """A row for each cluster: its size, share of all, mean confidence, most confident member, and, where
    classes are known, the most frequent one and its share of the members whose class is known."""

    def rows() -> Iterator[list[Any]]:
        for cluster in range(n_clusters):
            members = where.prototypes(cluster)
            row: list[Any] = [cluster, len(members), f"{len(members) / len(where.labels):.6f}"]
            if len(members):
                first = members[0]
                row += [
                    f"{where.confidence[members].mean():.6f}",
                    first if data.files is None else data.files[first],
                ]
            else:
                row += ["", ""]
            if truth is not None:
                counts = np.bincount(truth.labels[members][truth.labels[members] >= 0], minlength=1)
                most, known = int(counts.argmax()), counts.sum()
                row += [truth.names[most], f"{counts[most] / known:.6f}"] if known else ["", ""]
            yield row

    header = ["cluster", "samples", "share", "confidence", "prototype"]
    write_table(path, header + (["majority", "majority_share"] if truth is not None else []), rows())


def _key(data: Data) -> str:
    """What the samples' names are called."""
    return data.key if data.files is not None else "index"
