"""UMAP: a network whose codes keep neighbours together and others apart."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ...core import (
    Data,
    Encoder,
    InvalidSetting,
    Optimization,
    Part,
    Run,
    Size,
    Standardise,
    embed,
    part,
    setting,
)
from ...core.engine import Batch, report
from ...core.engine.trigger import When
from ...core.toolbox.length import affordable_steps
from .edge import EdgeBatch, EdgeBatches
from .graph import Graph, fuzzy_graph
from .loss import cross_entropy, fit_curve
from .points import points

USUAL, LEAST, MOST = 12, 2000, 10_000  # draws an edge, steps: trustworthiness on MNIST gains nothing beyond


@dataclass(frozen=True)
class UMAPConfig(Optimization):
    n_neighbours: int = setting(15, "nearest samples that a sample should stay near to", low=1)
    min_dist: float = setting(
        0.0, "distance below which codes are near enough; 0 packs groups tightly, for clustering", low=0
    )
    spread: float = setting(1.0, "distance over which nearness fades", low=1e-3)
    latent_dim: int = setting(10, "dimensions of the code; 2 for a map", low=1)
    backbone: Part = part(
        "encoder",
        "mlp",
        "the network: mlp is dense layers on all values; or an encoder by name, such as cae for images; the "
        "settings of its own training have no effect",
        own=("mlp",),
    )
    hidden: tuple[int, ...] = setting((256, 256, 256), "mlp: widths of its hidden layers", low=1)
    steps: int | None = setting(
        None, "training steps; none: 12 times as many edges as samples have neighbours, in 2,000 to 10,000 "
        "steps, at most some minutes", low=1
    )  # fmt: skip
    batch_edges: int = setting(256, "pairs of neighbours in a step, drawn by their weight", low=2)
    noise: float = setting(
        0.5,
        "random moves of samples, in lengths of their edges, so that new samples find their place",
        low=0,
    )
    negatives: int = setting(5, "others that a sample is kept apart from, for each pair", low=1)
    lr: float = setting(3e-3, "initial learning rate", low=0)
    code_scale: float | None = setting(
        5.0, "root of the codes' total variance after training; none: as trained", low=0
    )


class UMAP(Encoder):
    """Parametric UMAP (Sainburg, McInnes & Gentner 2021) on exact neighbours.

    The fuzzy graph of the samples' nearest neighbours, as points with all their values, says which belong
    together (McInnes et al. 2018, section 3.1). A network learns codes from its edges: the two ends of an
    edge near each other, samples of different edges far apart. New samples go through the same network;
    that they find their place, samples are moved at random (which is ours, as vicinal risk asks for:
    Chapelle et al. 2001).

    Samples are centred value by value and divided by one deviation. A backbone is any encoder, whose own
    ``fit`` is never called, so no labels are needed for one that learns from labels; a dense layer takes
    its code to ``latent_dim`` values.

    Raises InvalidSetting for itself as backbone, and what the backbone raises.
    """

    Config: ClassVar[type[UMAPConfig]] = UMAPConfig
    code_scale: Tensor  # (), factor on the codes as trained

    def __init__(self, config: UMAPConfig, shape: Size) -> None:
        super().__init__(config, shape)
        if config.backbone.name == "umap":
            raise InvalidSetting("encoder.backbone is 'umap' itself; say mlp, or name another encoder.")
        if config.min_dist > config.spread:
            raise InvalidSetting(
                f"encoder.min_dist is {config.min_dist:g}, but it must be at most encoder.spread, which is "
                f"{config.spread:g}: codes are near enough before their nearness has faded."
            )
        self.config, self.latent_dim = config, config.latent_dim
        self.shape, self.inputs = shape, Standardise((math.prod(shape),))
        self.register_buffer("code_scale", torch.ones(()))
        if config.backbone.name == "mlp":
            self.backbone, width = _dense(math.prod(shape), config.hidden)
        else:
            encoder: Encoder = config.backbone.make(shape)
            self.backbone, width = encoder, encoder.latent_dim
        self.code = nn.Linear(width, config.latent_dim)
        self._curve = fit_curve(config.min_dist, config.spread)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of samples (B, *shape)."""
        return self._embed(x) * self.code_scale

    def _embed(self, x: Tensor) -> Tensor:
        """Codes as the loss takes them, in whose distances neighbours are about 1 apart."""
        h = self.backbone(self._see(x).unflatten(1, self.shape))  # type: ignore[no-untyped-call]
        with torch.autocast(h.device.type, enabled=False):  # in full precision for the clusterer
            code: Tensor = self.code(h.float())
        return code

    def _see(self, x: Tensor) -> Tensor:
        """Standardised samples (B, d) of samples (B, *shape)."""
        seen: Tensor = self.inputs(x.flatten(1))
        return seen

    def fit(self, data: Data, run: Run) -> Self:
        """Learn the codes in a stage ``embed``, of steps, not epochs; then scale them."""
        c = self.config
        self.inputs.fit(data)
        self.code_scale.fill_(1)
        batches = EdgeBatches(
            data, c.batch_edges, run.seed_for("embed/batches"),
            n_edges=len(data) * c.n_neighbours // 2,
            graph=lambda: Graph(**run.once("graph", lambda: asdict(self._graph(data, run)))),
        )  # fmt: skip
        most = min(MOST, affordable_steps(self, data.slice(0, 2), 2 * c.batch_edges))
        length: When
        if c.steps is not None:
            length = (run.scaled(c.steps), "iteration")
        else:
            length = run.length(None, batches, usual=USUAL, least=LEAST, most=most)
        called = {"pull": "neighbours apart", "push": "others near"}
        run.learn("embed", self.loss, self, batches, c, length=length, called=called)
        if c.code_scale is not None:
            z = embed(self, data, autocast=run.autocast)
            self.code_scale.copy_(c.code_scale / z.var(0, correction=0).sum().sqrt().clamp_min(1e-6))
        return self

    def _graph(self, data: Data, run: Run) -> Graph:
        """The fuzzy graph: a function of the data and the run's seed."""
        x = points(data, self._see, run.seed_for("projection"))
        return fuzzy_graph(x, self.config.n_neighbours)

    def loss(self, batch: Batch) -> Tensor:
        """The cross-entropy of the edges of an EdgeBatch and of as many times ``negatives`` other pairs."""
        assert isinstance(batch, EdgeBatch)
        x = moved(batch.x, batch.ends, self.config.noise) if self.config.noise else batch.x
        head, tail = self._embed(x)[batch.ends]
        pull, push = cross_entropy(head, tail, *self._curve)
        report({"pull": pull, "push": push})
        loss: Tensor = pull + self.config.negatives * push
        return loss


def moved(x: Tensor, ends: Tensor, amount: float) -> Tensor:
    """Samples (B, *shape), each moved at random by about ``amount`` times the length of its edges (2, E)."""
    length = (x[ends[0]] - x[ends[1]]).flatten(1).square().mean(dim=1).sqrt().repeat(2)
    total = x.new_zeros(2, len(x)).index_add_(
        1, ends.flatten(), torch.stack([length, length.new_ones(length.shape)])
    )
    mean = total[0] / total[1].clamp_min(1)
    return x + amount * mean.view(-1, *[1] * (x.dim() - 1)) * torch.randn_like(x)


def _dense(width: int, hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Dense layers with ReLU on flattened samples, and the last one's width."""
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise((width, *hidden)):
        layer = nn.Linear(a, b)
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.LayerNorm(b), nn.ReLU()]
    return nn.Sequential(*layers), (width, *hidden)[-1]
