"""What a component is: the classes that plugins implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from ..data.data import Data, Size, Truth
from ..data.items import Items
from ..data.preparation import Preparation
from ..data.training_range import fitted
from .assignment import Assignment

if TYPE_CHECKING:
    from ..run.run import Run


@dataclass(frozen=True)
class NoSettings:
    """The ``Config`` of a component that declares none."""


class Encoder(nn.Module, ABC):
    """Maps samples to a latent space; B batch, N samples, D latent, K clusters.

    ``Config`` is a frozen dataclass made of ``deepclust.core.setting`` fields; without one there are no
    settings. A class that learns from labels and that no plugin offers says ``supervised = True``.
    """

    Config: ClassVar[type[Any]] = NoSettings
    latent_dim: int

    def __init__(self, config: Any, shape: Size) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """Settings for such samples where nobody gives them; by default the Config's own."""
        return {}

    @classmethod
    def uses_labels(cls, config: Any) -> bool:
        """Whether ``fit`` learns from labels with such settings, of an encoder whose record says that it may.

        Where it does not, labels are hidden from it, and the run does not say that it learned from them.
        """
        return True

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

    Parameters
    ----------
    config :
        An instance of ``Config``.
    n_clusters : int
        K, as asked for. A class with ``finds_n_clusters`` is given 0 where nobody asked for a number; its
        ``fit`` sets ``self.n_clusters`` to what it found, with which the saved model is made again.
    latent_dim : int
        D, the dimensions of the codes, so that weights and centres have their shape from the beginning.

    Attributes
    ----------
    needs : the abilities (``core.contract.abilities``) that its encoder must have.
    finds_n_clusters : whether it finds K itself, so that ``--clusters`` may be left out.
    noise : whether it may leave samples out of all clusters, with the label -1.
    unsupervised_loss : after ``fit``, the loss on samples held back by which an epoch was chosen, less being
        better; None where nothing is chosen so.

    Example::

        class Nearest(Clusterer):
            Config = NearestConfig

            def __init__(self, config, n_clusters, latent_dim):
                super().__init__(config, n_clusters, latent_dim)
                self.register_buffer("centers", torch.zeros(n_clusters, latent_dim))

            def fit(self, encoder, data, run):
                self.centers.copy_(embed(encoder, data)[: self.n_clusters])
                return self

            def forward(self, z):
                return torch.softmax(-torch.cdist(z, self.centers), dim=1)
    """

    Config: ClassVar[type[Any]] = NoSettings
    needs: ClassVar[tuple[type[Any], ...]] = ()
    finds_n_clusters: ClassVar[bool] = False
    noise: ClassVar[bool] = False
    unsupervised_loss: float | None = None

    def __init__(self, config: Any, n_clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.config, self.n_clusters = config, n_clusters

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """Settings for such samples where nobody gives them; by default the Config's own."""
        return {}

    def check(self, encoder: Encoder, data: Data) -> None:  # noqa: B027 - most have nothing to refuse
        """Raise DeepclustError for what ``fit`` would refuse; called before anything is trained."""

    @abstractmethod
    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Learn the clusters of ``encoder``'s codes, as ``core.embed(encoder, data)`` gives them (N, D)."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, D) to soft assignments (B, K), finite, not negative, in rows that sum to 1."""

    def predict(self, z: Tensor) -> Tensor:
        """Codes (B, D) to labels (B,) int64 in [0, K), or -1 for noise; here the largest soft assignment."""
        labels: Tensor = self(z).argmax(dim=1)
        return labels


@dataclass(frozen=True, kw_only=True)
class Result(Assignment):
    """What evaluators look at, for the N samples that were scored: where they are assigned, and

    z: (N, D) their codes.
    truth: None where there is none. files: a name for each sample, where there are any, of the kind
    that ``key`` says. items: a text and a picture of each, where the user gave any. folder: where figures
    and tables go. record: what run.json holds.
    scores: what the evaluators before this one gave, by their names.
    protocol: which samples trained and which are scored, with what knowledge of labels, and the notices.
    health: whether the result is healthy, and the reasons where it is not.
    test: the same for the samples that no fit has seen, where the data set keeps a test split apart.
    """

    z: np.ndarray
    truth: Truth | None
    data: Data
    encoder: Encoder
    clusterer: Clusterer
    folder: Path
    seed: int
    files: Sequence[str] | None = None
    key: str = "file"
    items: Items | None = None
    quiet: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    test: Result | None = None


@dataclass(frozen=True)
class Count:
    """A number of clusters that was found.

    n_clusters: it. sure: whether to rely on it. sentence: how sure it is, and what speaks for it.
    alternatives: other numbers that come into question, the best first. evidence: plain JSON values, which
    ``clusters.json`` keeps beside these; the report draws ``tried``, for each number of clusters its
    ``n_clusters`` and ``score``, and shows ``criterion``, a text.
    """

    n_clusters: int
    sure: bool
    sentence: str
    alternatives: Sequence[int] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Counter(ABC):
    """Finds out how many clusters codes have, for ``--clusters auto`` and ``--clusters NAME:2-30``."""

    Config: ClassVar[type[Any]] = NoSettings

    def __init__(self, config: Any) -> None:
        self.config = config

    def check(self, n_samples: int, low: int, high: int) -> None:  # noqa: B027 - may take any
        """Raise InvalidData where so few samples cannot tell; called before anything is trained."""

    @abstractmethod
    def count(self, z: np.ndarray, low: int, high: int, seed: int, *, quiet: bool = False) -> Count:
        """The number of clusters of codes z (N, D), from ``low`` to ``high``: of them and the seed alone.

        Raises TrainingFailed or InvalidData where it cannot be told.
        """


Score = float | str | Sequence[Any] | None


class Evaluator(ABC):
    """Scores a result; it may also write figures and tables into ``result.folder``.

    It is a function of the result: it runs at a run's end, or on the finished run whenever it is asked for.
    ``last``: whether it runs after all others and again whenever others did, as a report on them does.
    """

    Config: ClassVar[type[Any]] = NoSettings
    last: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config = config

    def seconds(self, n_samples: int) -> float:
        """About how many seconds of a core ``evaluate`` takes, to tell users beforehand."""
        return 0.0

    @abstractmethod
    def evaluate(self, result: Result) -> Mapping[str, Score]:
        """Scores by name, in the order in which they are shown; counts may be lists, matrices lists of
        lists. What is not known is None; numbers that are not finite are kept as None."""


@dataclass(frozen=True)
class Storage:
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

    Config: ClassVar[type[Any]] = NoSettings
    n_clusters: ClassVar[int | None] = None  # the number of clusters where the user names none

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def sniff(cls, path: Path) -> bool:
        """Whether ``path``, of an ending that this data set reads or a folder, is likely one of its own.

        Asked only where other data sets read such paths too. It is cheap: it looks at names and first
        bytes, never at all of a folder or file. By default every such path is.
        """
        return True

    @classmethod
    def cells(cls, path: Path) -> Mapping[str, Sequence[str]] | None:
        """The columns of the table at ``path`` as texts, such as ids and captions for ``--items``.

        None, as by default, of a data set that reads no tables.
        """
        return None

    @abstractmethod
    def load(self, storage: Storage) -> Data:
        """The data on the CPU.

        Raises InvalidData where they are missing, with the files expected and how to get them.
        """

    def load_like(self, storage: Storage, preparation: Preparation) -> Data:
        """New data, made as ``preparation`` says that a model's data were.

        ``config`` has the settings that the model's data were read with, where it is this data set that read
        them, and the user's over them; ``preparation.extra`` is what ``load`` kept there.
        Raises InvalidData where these are no such data. This default takes what ``load`` gives where
        shape and type are right, standardises the rows of a model that was trained on such, and notes
        values that are far from those in training.
        """
        return fitted(self.load(storage), preparation)
