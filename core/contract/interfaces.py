"""What a component is: the classes that plugins implement, and the abilities some of them have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ..data.data import Data, Size, Truth
from ..data.preparation import Preparation
from ..data.training_range import fitted

if TYPE_CHECKING:
    from ..run.run import Run


class Encoder(nn.Module, ABC):
    """Maps samples to a latent space; B batch, N samples, D latent, K clusters.

    ``Config`` is a frozen dataclass made of ``deepclust.core.setting`` fields.
    """

    Config: ClassVar[type[Any]]
    latent_dim: int

    def __init__(self, config: Any, shape: Size) -> None:
        super().__init__()

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """Settings for such samples where nobody gives them; by default the Config's own."""
        return {}

    def check(self, data: Data) -> None:  # noqa: B027 - most have nothing to refuse
        """Raise DeepclustError for what ``fit`` would refuse; called before anything is written."""

    @abstractmethod
    def fit(self, data: Data, run: Run) -> Self:
        """Train on ``data`` through ``run.learn(stage, loss, self, data, self.config)`` or ``run.train``.

        It is called again where a run goes on: stages are then taken from their snapshots, and what else is
        not to be done again goes into ``run.once``.
        """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Samples as ``Data.batch`` gives them (B, *shape) to codes (B, D)."""


class Clusterer(nn.Module, ABC):
    """Sorts codes into clusters, and may refine the encoder while it learns to.

    ``needs`` lists the abilities (protocols of this module) that its encoder must have.
    ``unsupervised_loss`` is, after ``fit``, the loss on samples held back by which an epoch was chosen,
    less being better; None where nothing is chosen so.
    """

    Config: ClassVar[type[Any]]
    needs: ClassVar[tuple[type[Any], ...]] = ()
    unsupervised_loss: float | None = None

    def __init__(self, config: Any, n_clusters: int) -> None:
        super().__init__()
        self.n_clusters = n_clusters

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """Settings for such samples where nobody gives them; by default the Config's own."""
        return {}

    def check(self, encoder: Encoder, data: Data) -> None:  # noqa: B027 - most have nothing to refuse
        """Raise DeepclustError for what ``fit`` would refuse; called before anything is trained."""

    @abstractmethod
    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Learn the clusters of ``encoder``'s codes of ``data``."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, D) to soft assignments (B, K), rows that sum to 1."""

    def predict(self, z: Tensor) -> Tensor:
        """Codes (B, D) to labels (B,) int64 in [0, K): the largest soft assignment."""
        labels: Tensor = self(z).argmax(dim=1)
        return labels


@dataclass(frozen=True)
class Result:
    """What evaluators look at, for the N samples that were scored.

    z: (N, D) codes. labels: (N,) clusters. confidence: (N,) the largest soft assignment.
    second: (N,) the second choice, and its soft assignment in second_confidence: (N,).
    distance: (N,) from the sample's code to its cluster's centre in centers: (K, D); second_distance:
    (N,) to the centre of its second choice, where it is known.
    truth: None where there is none. files: a name for each sample, where there are any, of the kind
    that ``key`` says. folder: where figures and tables go. record: what run.json holds.
    scores: what the evaluators before this one gave, by their names.
    test: the same for the samples that no fit has seen, where the data set keeps a test split apart.
    """

    z: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    second: np.ndarray
    second_confidence: np.ndarray
    distance: np.ndarray
    centers: np.ndarray
    n_clusters: int
    truth: Truth | None
    data: Data
    encoder: Encoder
    clusterer: Clusterer
    folder: Path
    seed: int
    files: Sequence[str] | None = None
    key: str = "file"
    quiet: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test: Result | None = None
    second_distance: np.ndarray | None = None


Score = float | str | Sequence[Any]


class Evaluator(ABC):
    """Scores a result; it may also write figures and tables into ``result.folder``."""

    Config: ClassVar[type[Any]]

    def __init__(self, config: Any) -> None:
        self.config = config

    def seconds(self, n_samples: int) -> float:
        """About how many seconds of a core ``evaluate`` takes, to tell users beforehand."""
        return 0.0

    @abstractmethod
    def evaluate(self, result: Result) -> Mapping[str, Score]:
        """Scores by name, in the order in which they are shown; counts may be lists, matrices lists of
        lists."""


@dataclass(frozen=True)
class Place:
    """Where data sets are looked for, and how they are loaded.

    root: the folder of data sets by name. download: whether what is missing there may be fetched.
    cache: the folder of decoded images, None for the usual one. quiet: without progress.
    """

    root: Path
    download: bool = False
    cache: Path | None = None
    quiet: bool = False


class Dataset(ABC):
    """Loads samples and, where there are any, their true classes."""

    Config: ClassVar[type[Any]]
    n_clusters: ClassVar[int | None] = None  # the number of clusters where the user names none

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def load(self, place: Place) -> Data:
        """The data on the CPU.

        Raises InvalidData where they are missing, with the files expected and how to get them.
        """

    def load_like(self, place: Place, preparation: Preparation) -> Data:
        """New data, made as ``preparation`` says that a model's data were.

        Raises InvalidData where these are no such data. This default takes what ``load`` gives where
        shape and type are right, standardises the rows of a model that was trained on such, and notes
        values that are far from those in training.
        """
        return fitted(self.load(place), preparation)


@runtime_checkable
class Decodes(Protocol):
    """The ability to map codes back to samples: reconstructions, denoised pictures, IDEC."""

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, D) to samples (B, *shape) on the scale of ``Data.batch``."""
        ...


@runtime_checkable
class Augments(Protocol):
    """The ability to distort samples without changing what they show."""

    def augment(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to samples of the same shape, drawn anew at each call."""
        ...


@runtime_checkable
class Views(Protocol):
    """The ability to show samples as an encoder saw them that learned to give views of one near codes."""

    def view(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to a view of each, drawn anew at each call, as ``forward`` takes them."""
        ...


@runtime_checkable
class Corrupts(Protocol):
    """The ability to put on samples the noise that the encoder has learned to take off."""

    def corrupt(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) with noise, on the same scale, drawn anew at each call."""
        ...


@runtime_checkable
class Generates(Protocol):
    """The ability to make new samples."""

    def generate(self, count: int, generator: torch.Generator) -> Tensor:
        """New samples (count, *shape) on the scale of ``Data.batch``; ``generator`` is the CPU's."""
        ...


@runtime_checkable
class FindsAnomalies(Protocol):
    """The ability to say how unlike the training data samples are."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to scores (B,), larger for stranger ones."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """The ability to name the true classes, of an encoder that learned from labels."""

    def classify(self, z: Tensor) -> Tensor:
        """Codes (B, D) to the classes' logits (B, classes), in the order of the training data's Truth."""
        ...


@runtime_checkable
class HasCenters(Protocol):
    """The ability to name one point of the latent space for each cluster."""

    centers: Tensor  # (K, D)


@runtime_checkable
class HasNeighbours(Protocol):
    """The ability to name, after ``fit``, the neighbours of each training sample that it learned from."""

    neighbours: Tensor  # (N, k) int64 places in the training data, the nearest first; -1 where there is none


ABILITIES: dict[type[Any], str] = {
    Decodes: "decode(z)",
    Augments: "augment(x)",
    Views: "view(x)",
    Corrupts: "corrupt(x)",
    Generates: "generate(count, generator)",
    FindsAnomalies: "anomaly_score(x)",
    Classifies: "classify(z)",
    HasCenters: "centers",
    HasNeighbours: "neighbours",
}


def has_ability(component: type[Any], ability: type[Any]) -> bool:
    """Whether a class has an ability: each of its methods, or the annotated attribute."""
    names = [n for n in vars(ability) if not n.startswith("_")] + list(
        getattr(ability, "__annotations__", {})
    )
    return all(
        hasattr(component, n) or any(n in getattr(c, "__annotations__", {}) for c in component.__mro__)
        for n in names
    )
