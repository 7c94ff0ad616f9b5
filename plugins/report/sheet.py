"""Which samples the report shows of each cluster, and what it says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from ...core import NOISE, HasNeighbours, Result
from ...core.toolbox.neighbour import nearest
from ...core.words import shortened
from .column import Columns
from .picture import Pictures, Thumbnails
from .summary import Confusion, class_name
from .text import number

MOST_EXAMPLES = 1200  # of prototypes and doubtful members together, which bounds the page
SETS_APART = 5  # columns for each cluster
TEXT = 240  # characters of a sample's text
ROWS_FOR = 10  # clusters whose members' neighbours are shown


@dataclass(frozen=True)
class Example:
    """A sample as the page shows it.

    text: what the user's items say of it. about: name, cluster, confidence, second choice, class. mark:
    what is odd about it, or nothing.
    """

    name: str
    about: str
    caption: str
    picture: str | None = None
    mark: str = ""
    confidence: str = ""
    second: int = 0
    true: str = ""
    values: Sequence[str] = ()
    text: str = ""


@dataclass(frozen=True)
class Section:
    """What the page says of one cluster, or of noise, whose examples are those nearest to a cluster.

    columns: (name, its mean, mean of all, difference) of each. fields: the columns whose cells are shown of
    its members.
    """

    cluster: int
    size: int
    share: float
    confidence: float
    colour: str
    majority: str | None = None
    majority_share: float | None = None
    prototypes: Sequence[Example] = ()
    doubtful: Sequence[Example] = ()
    columns: Sequence[tuple[str, str, str, str]] = ()
    fields: Sequence[str] = ()


@dataclass(frozen=True)
class NeighbourRow:
    """A sample and those nearest to it."""

    kind: str
    query: Example
    neighbours: Sequence[Example] = field(default_factory=list)


class Sheet:
    """The examples of a result.

    chosen: for each cluster the indices of its prototypes and of its doubtful members.
    """

    def __init__(
        self,
        result: Result,
        pictures: Pictures | Thumbnails,
        columns: Columns | None,
        confusion: Confusion | None,
        prototypes: int,
        doubtful: int,
    ) -> None:
        self.result, self.pictures, self.columns, self.confusion = result, pictures, columns, confusion
        self.sizes = result.sizes()
        self.filled: list[int] = np.flatnonzero(self.sizes).tolist()
        fits = min(1.0, MOST_EXAMPLES / max(1, (prototypes + doubtful) * len(self.filled)))
        self.prototypes, self.doubtful = max(1, int(prototypes * fits)), int(doubtful * fits)
        self.shortened = fits < 1
        self.chosen = {k: result.examples(k, self.prototypes, self.doubtful) for k in self.filled}

    def section(self, cluster: int, colour: str) -> Section:
        """What there is to say and to show of a cluster that has members."""
        result, truth = self.result, self.result.truth
        majority = self.confusion.majority(cluster) if self.confusion else None
        apart = self.columns.distinguishing(cluster, SETS_APART) if self.columns else np.array([], np.int64)
        first, second = self.chosen[cluster]
        if self.pictures.there:
            self.pictures.make(np.concatenate([first, second]))
        size = int(self.sizes[cluster])
        return Section(
            cluster=cluster,
            size=size,
            share=size / len(result.labels),
            confidence=float(result.confidence[result.labels == cluster].mean()),
            colour=colour,
            majority=None if majority is None or truth is None else class_name(truth, majority[0]),
            majority_share=None if majority is None else majority[1],
            prototypes=self._examples(first, apart, doubtful=False),
            doubtful=self._examples(second, apart, doubtful=True),
            columns=self._apart(cluster, apart),
            fields=[self.columns.fields[j].name for j in apart.tolist()] if self.columns else (),
        )

    def noise(self, colour: str) -> Section | None:
        """What there is to say and to show of the samples in no cluster; None where there are none."""
        members = self.result.noise()
        if not len(members):
            return None
        shown = members[: self.prototypes + self.doubtful]
        if self.pictures.there:
            self.pictures.make(shown)
        return Section(
            cluster=NOISE,
            size=len(members),
            share=len(members) / len(self.result.labels),
            confidence=0.0,
            colour=colour,
            prototypes=self._examples(shown, np.array([], np.int64), doubtful=True),
        )

    def _examples(self, index: np.ndarray, apart: np.ndarray, *, doubtful: bool) -> list[Example]:
        cells = self.columns.cells(self.result.data, index, apart.tolist()) if self.columns else None
        made = []
        for row, i in enumerate(index.tolist()):
            confidence, second = float(self.result.confidence[i]), int(self.result.second[i])
            own = _named(int(self.result.labels[i]))
            caption = f"{own} or {second}" if doubtful else f"{confidence:.2f}"
            made.append(self.example(i, caption, cells[row] if cells else ()))
        return made

    def example(self, i: int, caption: str, values: Sequence[str] = ()) -> Example:
        """Sample ``i``; its picture must be made already."""
        result = self.result
        cluster, second = int(result.labels[i]), int(result.second[i])
        name = sample_name(self.result, i)
        about = [
            name,
            f"cluster {cluster}, confidence {result.confidence[i]:.3f}" if cluster != NOISE else "noise",
            f"second choice {second} ({result.second_confidence[i]:.3f})",
        ]
        mark = true = ""
        if result.truth is not None and (code := int(result.truth.labels[i])) >= 0:
            true = class_name(result.truth, code)
            about.append(f"class {true}")
            majority = self.confusion.majority(cluster) if self.confusion and cluster != NOISE else None
            mark = true if majority is not None and majority[0] != code else ""
        text = ""
        if result.items is not None and result.items.texts is not None:
            text = shortened(result.items.texts[i], TEXT)
            about.append(text)
        picture = self.pictures[i] if self.pictures.there else None
        confidence = f"{result.confidence[i]:.3f}"
        return Example(
            name,
            " \N{MIDDLE DOT} ".join(about),
            caption,
            picture,
            mark,
            confidence,
            second,
            true,
            values,
            text,
        )

    def _apart(self, cluster: int, apart: np.ndarray) -> list[tuple[str, str, str, str]]:
        if self.columns is None:
            return []
        columns, difference = self.columns, self.columns.difference(cluster)
        return [
            (
                columns.title(j),
                columns.words(j, float(columns.means[cluster, j])),
                columns.words(j, float(columns.mean[j])),
                f"{difference[j]:+.2f}",
            )
            for j in apart.tolist()
        ]

    @cached_property
    def queries(self) -> list[tuple[str, int]]:
        """A prototype and a random member of some clusters, and what each is."""
        rng = np.random.default_rng(self.result.seed)
        some = np.unique(np.linspace(0, len(self.filled) - 1, min(ROWS_FOR, len(self.filled))).round())
        asked: list[tuple[str, int]] = []
        for cluster in (self.filled[int(i)] for i in some):
            members = np.flatnonzero(self.result.labels == cluster)
            prototype = int(self.chosen[cluster][0][0])
            asked.append((f"prototype of {cluster}", prototype))
            others = members[members != prototype]
            if len(others):
                asked.append((f"random member of {cluster}", int(rng.choice(others))))
        return asked

    def nearest_rows(self, n: int) -> tuple[list[NeighbourRow], float]:
        """The queries with the ``n`` nearest codes, and the share of these that are in their cluster."""
        own = torch.tensor([i for _, i in self.queries])
        codes = torch.from_numpy(self.result.z)
        found = nearest(codes[own], codes, n, own=own)
        far = [[number(value) for value in row] for row in found.distance.tolist()]
        return self._rows(found.index.numpy(), far)

    def mined_rows(self, n: int) -> tuple[list[NeighbourRow], float] | None:
        """As ``nearest_rows``, of the neighbours that the clusterer learned from; None where it has none."""
        if not isinstance(self.result.clusterer, HasNeighbours):
            return None
        own = torch.tensor([i for _, i in self.queries])
        found = self.result.clusterer.neighbours.cpu()[own, :n].numpy()
        return self._rows(found, [[""] * found.shape[1]] * len(found))

    def _rows(
        self, near_to: np.ndarray, captions: Sequence[Sequence[str]]
    ) -> tuple[list[NeighbourRow], float]:
        asked, labels = self.queries, self.result.labels
        queries = np.array([i for _, i in asked])
        there = near_to >= 0
        if self.pictures.there:
            self.pictures.make(np.concatenate([queries, near_to[there]]))
        rows = []
        for (kind, query), index, caption in zip(asked, near_to, captions, strict=True):
            near = [
                self.example(i, said if labels[i] == labels[query] else f"in {_named(labels[i])}")
                for i, said in zip(index.tolist(), caption, strict=True)
                if i >= 0
            ]
            rows.append(NeighbourRow(kind, self.example(query, kind), near))
        return rows, float((labels[near_to] == labels[queries][:, None])[there].mean())


def _named(cluster: int) -> str:
    return "noise" if cluster == NOISE else str(cluster)


def sample_name(result: Result, i: int) -> str:
    """The sample's name, or its index."""
    return str(result.files[i]) if result.files is not None else f"sample {i}"
