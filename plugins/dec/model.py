"""DEC and IDEC as clusterers: centres from a first clustering, then encoder and centres refined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...core import (
    Augments,
    Clusterer,
    Data,
    Decodes,
    Encoder,
    HasCenters,
    InvalidSetting,
    Part,
    Run,
    Training,
    embed,
    has_ability,
    part,
    setting,
)
from ...core.engine import Batch, OptimizerName, Trainer, report
from ...core.engine.extensions import WRITER, Extension
from ...core.engine.trigger import Unit
from ...core.toolbox.length import BACKWARD
from ..refinement.guard import Guard, Worse, check_start
from ..refinement.monitor import Monitor
from ..refinement.referee import Referee
from .kl import kl_loss, soft_assignment, target_distribution
from .stop import LabelChange

FAST = 0.3  # share of the samples in other clusters at the first refresh; on sound codes a tenth or less


@dataclass(frozen=True)
class DECConfig(Training):
    init: Part = part("clusterer", "kmeans", "clusterer that the centres come from")
    alpha: float = setting(1.0, "degrees of freedom of the Student t kernel", low=1e-3)
    refresh: int = setting(140, "iterations between refreshes of the target; at most an epoch", low=1)
    tol: float = setting(1e-3, "stop when a smaller share of the labels changes", low=0, high=1)
    epochs: int | None = setting(
        None, "most epochs; none: 40, at least least_steps, at most some minutes", low=1
    )
    least_steps: int = setting(320, "fewest steps that it may take, if epochs is none", low=1)
    augment: bool = setting(True, "train on the encoder's augmented samples, where it has any")
    optimizer: OptimizerName = setting("adam", "optimiser of encoder and centres")

    # Xie et al. 2016, section 4.3
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {},
        "paper": {
            "optimizer": "sgd",
            "lr": 0.01,
            "schedule": "constant",
            "epochs": 1000,
            "augment": False,
        },
    }


@dataclass(frozen=True)
class IDECConfig(DECConfig):
    gamma: float = setting(0.1, "weight of the clustering loss beside the reconstruction", low=0)

    # Guo et al. 2017, section 4.3, on MNIST
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {},
        "paper": {**DECConfig.PRESETS["paper"], "lr": 0.1, "momentum": 0.99},
    }


class DEC(Clusterer):
    """Deep embedded clustering (Xie et al. 2016): minimises KL(P||Q) over encoder and centres.

    P comes from all samples, by index, every ``refresh`` iterations (section 3.1.3); training stops
    when less than ``tol`` of the labels changes between two refreshes (section 3.3). Where it loses
    clusters or parts neighbours it is stopped and taken back to its best refresh, the start being one.
    """

    Config: ClassVar[type[Any]] = DECConfig

    def __init__(self, config: DECConfig, n_clusters: int, latent_dim: int) -> None:
        super().__init__(config, n_clusters, latent_dim)
        self.config = config
        self.centers = nn.Parameter(torch.zeros(n_clusters, latent_dim))

    def check(self, encoder: Encoder, data: Data) -> None:
        """Raise InvalidSetting for a first clusterer that gives no centres."""
        first = self.config.init.known().cls
        if first is None or not has_ability(first, HasCenters):
            raise InvalidSetting(
                f"clusterer.init is '{self.config.init}', which has no centers to start from (`centers: "
                "Tensor` in its class); 'kmeans' has."
            )

    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Refine ``encoder`` and the centres together."""
        c, name = self.config, type(self).__name__
        self.centers.data.copy_(run.once("centers", lambda: self._first_centers(encoder, data, run)))
        referee = Referee(encoder, data, run.autocast)
        target = Target(self, encoder, data, run)
        guard = Guard(referee, encoder, self, data, run, trigger=target.trigger)
        run.learn(
            "refine",
            lambda batch: self.loss(
                encoder, self._inputs(encoder, batch), target.p.index_select(0, batch.index)
            ),
            {"encoder": encoder, "clusterer": self}, data, c, usual=40,
            passes=1 + target.epoch / (BACKWARD * target.trigger[0]),  # refreshes are forward passes alone
            stops=[guard.stop, target.stop],
            extensions=[target, guard, Monitor(encoder, self, data, run.autocast)],
            falling=False,
        )  # fmt: skip
        if worse := guard.worse:
            said = worse.say(name, f"{c.init} on the codes")
            run.notice(f"{said} {self._remedy(worse)}", ill=worse.ill)
        return self

    def _first_centers(self, encoder: Encoder, data: Data, run: Run) -> Tensor:
        """Those of the clusterer ``init`` on the codes as they came.  # (K, D)"""
        c, name = self.config, type(self).__name__
        first = c.init.make(self.n_clusters, encoder.latent_dim).to(run.device)
        first.fit(encoder, data, run.child("init"))
        if first.n_clusters != self.n_clusters or first.noise:
            raise InvalidSetting(
                f"clusterer.init is '{c.init}', which finds clusters of its own ({first.n_clusters}) or "
                f"leaves samples out; take one that finds {self.n_clusters}, such as 'kmeans'."
            )
        with torch.no_grad():
            check_start(
                first.predict(embed(encoder, data, autocast=run.autocast)), self.n_clusters, run, name
            )
        centers: Tensor = first.centers
        return centers

    def _remedy(self, worse: Worse) -> str:
        """What to change, by how fast it went wrong."""
        seen = f"{worse.churn:.0%} of the samples had left their cluster after {worse.looked} iterations"
        if worse.churn > FAST:
            return f"{seen}: take -s clusterer.lr={self.config.lr / 10:g}."
        return f"{seen}, so that it came slowly: take fewer clusterer.epochs, or fewer --clusters."

    def _inputs(self, encoder: Encoder, batch: Batch) -> Batch:
        x = batch.x
        if self.config.augment and isinstance(encoder, Augments):
            x = encoder.augment(x)
        return replace(batch, x=x)

    def loss(self, encoder: Encoder, batch: Batch, p: Tensor) -> Tensor:
        """The loss of a batch whose rows of the target are ``p`` (B, K)."""
        return kl_loss(encoder(batch.x), self.centers, p, self.config.alpha)

    def forward(self, z: Tensor) -> Tensor:
        """q, the Student t assignment (eq. 1)."""
        return soft_assignment(z, self.centers, self.config.alpha)


class IDEC(DEC):
    """Improved DEC (Guo et al. 2017): the decoder stays and guards the codes' structure (eq. 8)."""

    Config: ClassVar[type[Any]] = IDECConfig
    config: IDECConfig
    needs = (Decodes,)
    _unit: float = 1.0  # mean square of the data, in which the reconstruction's error is counted

    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Refine ``encoder``, its decoder and the centres together."""
        self._unit = max(data.mean_square(), 1e-12)
        return super().fit(encoder, data, run)

    def loss(self, encoder: Encoder, batch: Batch, p: Tensor) -> Tensor:
        """Reconstruction + gamma KL(P||Q); the data count as scaled to mean square 1, as in the paper."""
        assert isinstance(encoder, Decodes)
        z = encoder(batch.x)
        error = (encoder.decode(z) - batch.x).float().square().mean() / self._unit
        kl = kl_loss(z, self.centers, p, self.config.alpha)
        report({"reconstruction": error, "kl": kl})
        return error + self.config.gamma * kl


class Target(Extension):
    """Refreshes P from the full set, in eval mode, and says how many labels changed."""

    priority = WRITER
    grows = True
    trigger: tuple[int, Unit]

    def __init__(self, clusterer: DEC, encoder: Encoder, data: Data, run: Run) -> None:
        self.clusterer, self.encoder, self.data, self.run = clusterer, encoder, data, run
        self.epoch = len(run.batches(data, clusterer.config.batch_size, "refine"))  # iterations
        self.trigger = (min(clusterer.config.refresh, self.epoch), "iteration")
        self.stop = LabelChange(clusterer.config.tol)
        self.p = torch.empty(0)

    def initialize(self, trainer: Trainer) -> None:
        if not len(self.p):
            self.refresh()

    def __call__(self, trainer: Trainer) -> None:
        report({"label_change": self.refresh()})

    def refresh(self) -> float:
        """Compute P anew; the share of labels that changed since the last time."""
        z = embed(self.encoder, self.data, autocast=self.run.autocast)
        with torch.no_grad():
            q = self.clusterer(z)
        self.p = target_distribution(q)
        return self.stop.look(q.argmax(dim=1))

    def state_dict(self) -> dict[str, Any]:
        return {"p": self.p}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.p = state["p"]
