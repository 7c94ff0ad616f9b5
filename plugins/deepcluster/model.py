"""DeepCluster: a head, and the encoder with it, learn what k-means says of the codes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import (
    Augments,
    Clusterer,
    Data,
    Encoder,
    InvalidSetting,
    Run,
    Training,
    embed,
    evaluating,
    setting,
)
from ...core.engine import Batch, Batches, OptimizerName, report
from ...core.engine.checkpoint import seed_everything
from ...core.engine.extensions import Extension
from ...core.toolbox.length import affordable_steps
from ..refinement.baseline import Baseline, baseline_of
from ..refinement.guard import Guard, Start, Weights, Worse, check_start
from ..refinement.monitor import Monitor
from ..refinement.referee import Referee
from ..views import random_view
from .sampling import UniformBatches
from .teacher import Lesson, teach, whiten


@dataclass(frozen=True)
class DeepClusterConfig(Training):
    rounds: int = setting(1, "how often k-means clusters the codes and the network learns it", low=1)
    groups: int | None = setting(
        None, "clusters of k-means in all rounds but the last; none: as many as are asked for", low=2
    )
    temperature: float = setting(
        0.0,
        "learn softmax(-squared distance to the centres / (temperature * its mean)); 0: the nearest centre",
        low=0,
    )
    whiten: bool = setting(False, "k-means on the codes PCA-whitened and of length 1")
    n_init: int = setting(20, "restarts of k-means", low=1)
    uniform: bool = setting(True, "show the network all clusters equally often")
    hidden: tuple[int, ...] = setting((), "widths of the head's hidden layers; empty: one dense layer", low=1)
    tune_encoder: bool = setting(True, "train the encoder along with the head")
    augment: bool = setting(True, "learn from the encoder's augmented samples, where it has any")
    crop: float = setting(
        1.0, "views of images: crops of at least this share of the area; 1: none", low=0.01, high=1
    )
    flip: bool = setting(False, "views of images: left and right exchanged in half of them")
    jitter: float = setting(0.0, "views of images: how much brightness and colours change", low=0, high=1)
    grey: float = setting(0.0, "views of images: share without colour", low=0, high=1)
    epochs: int | None = setting(
        None, "epochs of a round; none: 30, at least least_steps, at most some minutes", low=1
    )
    least_steps: int = setting(450, "fewest steps of a round, if epochs is none", low=1)
    batch_size: int = setting(128, "samples in a batch", low=1)
    optimizer: OptimizerName = setting("adam", "optimiser of encoder and head")
    lr: float = setting(3e-3, "initial learning rate of a round", low=0)

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {},
        "photo": {"crop": 0.4, "flip": True, "jitter": 0.4, "grey": 0.2},
    }


class DeepCluster(Clusterer):
    """A network that learns k-means' assignments and sorts new samples by itself.

    In each round k-means clusters the encoder's codes; then a new head on the codes, and the encoder
    with it, learns by cross-entropy to tell the cluster of a clean sample from a distorted one. One
    round learns k-means once; more are Caron et al. 2018, Deep clustering for unsupervised learning of
    visual features, section 3.2. Rounds of ``groups`` clusters make codes only; labels are the last's.
    A round that ends worse than the best before it, or than k-means, is taken back, and none follows.
    """

    Config: ClassVar[type[DeepClusterConfig]] = DeepClusterConfig

    def __init__(self, config: DeepClusterConfig, n_clusters: int, latent_dim: int) -> None:
        super().__init__(config, n_clusters, latent_dim)
        self.config = config
        self.head = Head(latent_dim, config.hidden, n_clusters)

    @property
    def _distorts(self) -> bool:
        c = self.config
        return bool(c.crop < 1 or c.flip or c.jitter or c.grey)

    def check(self, encoder: Encoder, data: Data) -> None:
        """Raise InvalidSetting or InvalidData for views of samples that are no images from 0 to 1."""
        if self._distorts:
            check_images(data)

    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Train in a stage ``round0``, ``round1``, ... for each round.

        Raises as ``check``.
        """
        c = self.config
        self.check(encoder, data)
        self._view = None
        if self._distorts:
            self._view = random_view(crop=c.crop, flip=c.flip, jitter=c.jitter, grey=c.grey)
        referee = Referee(encoder, data, run.autocast)
        baseline = baseline_of(encoder, data, self.n_clusters, run, referee)
        check_start(baseline.labels, self.n_clusters, run, "deepcluster")
        start, came = self._begin(encoder, data, baseline, referee, run), "k-means on the codes"
        for i in range(c.rounds):
            last = i == c.rounds - 1
            clusters = self.n_clusters if last or c.groups is None else min(c.groups, len(data))
            if clusters != self.n_clusters:  # groups are no clusters: there is nothing to compare
                self._learn(f"round{i}", clusters, encoder, data, run, None)
                continue
            guard = Guard(referee, encoder, self, data, run, start=start)
            if worse := self._learn(f"round{i}", clusters, encoder, data, run, guard):
                said = worse.say(f"Round {i} of deepcluster", came)
                run.notice(f"{said} {self._remedy(worse)}", ill=worse.ill)
                break
            labels = guard.look()
            if referee.judge(labels).mean >= referee.judge(start.labels).mean:
                start, came = Start(labels, self._weights(encoder)), f"round {i}"
        return self

    def _begin(self, encoder: Encoder, data: Data, baseline: Baseline, referee: Referee, run: Run) -> Start:
        """The baseline, with the states that give its clusters where the head can: it has no hidden layer."""
        self.head = Head(encoder.latent_dim, self.config.hidden, self.n_clusters).to(data.device)
        self.head.fit_scale(embed(encoder, data, autocast=run.autocast))
        labels = baseline.labels[referee.indices]
        if self.config.hidden:
            return Start(labels, None)
        with torch.no_grad():
            weight, bias = baseline.layer(self.head.mean, self.head.factor)
            self.head.layers[0].get_parameter("weight").copy_(weight)
            self.head.layers[0].get_parameter("bias").copy_(bias)
        return Start(labels, self._weights(encoder))

    def _weights(self, encoder: Encoder) -> Weights:
        """What is trained, as it is now."""
        models: dict[str, nn.Module] = {"clusterer": self}
        if self.config.tune_encoder:
            models["encoder"] = encoder
        return {name: deepcopy(model.state_dict()) for name, model in models.items()}

    def _remedy(self, worse: Worse) -> str:
        """What to change, by what is set."""
        c = self.config
        if worse.lost and not c.uniform:
            return "Set -s clusterer.uniform=true, which shows all clusters equally often."
        if c.tune_encoder:
            return f"Take -s clusterer.lr={c.lr / 10:g}; clusterer.tune_encoder=false keeps the codes."
        return f"Take -s clusterer.lr={c.lr / 10:g}, or fewer --clusters."

    def _learn(
        self,
        stage: str,
        n_clusters: int,
        encoder: Encoder,
        data: Data,
        run: Run,
        guard: Guard | None,
    ) -> Worse | None:
        c = self.config
        seed_everything(run.seed_for(f"{stage}/head"))
        self.head = Head(encoder.latent_dim, c.hidden, n_clusters).to(data.device)
        scale, taught = run.child(stage).once(
            "lesson", lambda: self._teach(n_clusters, encoder, data, run.child(stage))
        )
        self.head.load_state_dict(scale, strict=False)
        lesson = Lesson(**taught)
        kind: Any = partial(UniformBatches, labels=lambda: lesson.labels) if c.uniform else Batches
        batches = run.batches(data, c.batch_size, stage, kind=kind)
        models: dict[str, nn.Module] = {"clusterer": self}
        if c.tune_encoder:
            models["encoder"] = encoder
        extensions: list[Extension] = []
        if guard is not None:
            extensions = [guard, Monitor(encoder, self, data, run.autocast)]
        run.learn(
            stage, lambda batch: self.loss(encoder, batch, lesson), models, batches, c, usual=30,
            most=affordable_steps(encoder, data.slice(0, 2), c.batch_size), extensions=extensions,
        )  # fmt: skip
        return None if guard is None else guard.worse

    def _teach(self, n_clusters: int, encoder: Encoder, data: Data, run: Run) -> tuple[Any, Any]:
        """The head's buffers, and the lesson, of the codes as they are now."""
        z = embed(encoder, data, autocast=run.autocast)
        self.head.fit_scale(z)
        lesson = teach(
            whiten(z) if self.config.whiten else z, n_clusters, run, temperature=self.config.temperature,
            settings={"n_init": self.config.n_init},
        )  # fmt: skip
        return dict(self.head.named_buffers()), lesson._asdict()

    def loss(self, encoder: Encoder, batch: Batch, lesson: Lesson) -> Tensor:
        """Cross-entropy between the lesson's rows of the batch and the head's on distorted samples."""
        x = self.distort(encoder, batch.x)
        if self.config.tune_encoder:
            z = encoder(x)
        else:
            with evaluating(encoder):
                z = encoder(x)
        scores, labels = self.head(z).float(), lesson.labels.index_select(0, batch.index)
        report({"agreement": (scores.argmax(1) == labels).float().mean()})
        if lesson.targets is None:
            return F.cross_entropy(scores, labels)
        return F.cross_entropy(scores, lesson.targets.index_select(0, batch.index))

    def distort(self, encoder: Encoder, x: Tensor) -> Tensor:
        """Samples (B, *shape) as the network is shown them."""
        if self.config.augment and isinstance(encoder, Augments):
            x = encoder.augment(x)
        return x if self._view is None else self._view(x)

    def forward(self, z: Tensor) -> Tensor:
        """The head's softmax."""
        return torch.softmax(self.head(z).float(), dim=1)


class Head(nn.Module):
    """Codes (B, D) to logits (B, K): dense layers with ReLU between, on codes of mean 0 and variance 1."""

    mean: Tensor  # (D,)
    factor: Tensor  # (), of codes that vary by 1 in the mean over dimensions

    def __init__(self, dimensions: int, hidden: tuple[int, ...], n_clusters: int) -> None:
        super().__init__()
        widths = [dimensions, *hidden, n_clusters]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("factor", torch.ones(()))

    @torch.no_grad()
    def fit_scale(self, z: Tensor) -> None:
        """Take mean and scale from codes z (N, D), so that one learning rate suits all encoders."""
        self.mean.copy_(z.mean(0))
        self.factor.copy_(z.var(0, correction=0).mean().clamp_min(1e-12).rsqrt())

    def forward(self, z: Tensor) -> Tensor:
        h: Tensor = self.layers[0]((z - self.mean) * self.factor)
        for layer in self.layers[1:]:
            h = layer(F.relu(h))
        return h


def check_images(data: Data) -> None:
    """Raise InvalidSetting for samples that have no views, InvalidData for values that no image has."""
    if len(data.shape) != 3:
        raise InvalidSetting(
            "clusterer.crop, flip, jitter and grey make views of images (C, H, W), but a sample has shape "
            f"{data.shape}; leave them at 1, false, 0 and 0."
        )
    data.check_range(
        "clusterer.crop, flip, jitter and grey take images from 0 to 1; leave them at 1, false, 0 and 0."
    )
