"""SCAN: heads on an encoder's codes that learn to give neighbours the same cluster, then themselves."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ...core import Clusterer, Data, Encoder, Run, embed, setting
from ...core.baseline import Baseline, Given, baseline_of
from ...core.engine import Batch, OptimizerName, Updater, checkpoint, make_optimizer, report
from ...core.engine.checkpoint import seed_everything
from ...core.engine.extensions import BestSnapshot
from ...core.guard import Guard, Start, Worse, check_start
from ...core.health import Monitor
from ...core.length import affordable_steps
from ...core.referee import Referee
from .choice import HeldOut
from .label import label_again
from .loss import entropy, inconsistency
from .mining import HELD_NEIGHBOURS, Mined, mine
from .prior import PriorName, choose_prior, is_uneven
from .sample import Cached, Places, Tuned, View, draw_codes
from .view import ViewName, choose_view

StartName = Literal["kmeans", "random"]
SOMEWHAT = 0.95  # of the clusters: where fewer would be as uneven, a prior may be what was wrong


TUNED: Mapping[str, Any] = {
    "neighbours": 20, "start": "random", "heads": 1, "tune_encoder": True, "least_steps": 650, "lr": 1e-4,
}  # fmt: skip


@dataclass(frozen=True)
class SCANConfig:
    neighbours: int = setting(10, "nearest samples that should share a sample's cluster", low=1)
    start: StartName = setting(
        "kmeans", "how training begins: kmeans: one head, from k-means' clusters of the codes; random: heads"
    )
    heads: int = setting(
        5, "heads from random starts, side by side; the one of the least held-out loss stays", low=1
    )
    entropy: float = setting(5.0, "weight of the term that uses all clusters", low=0)
    prior: PriorName = setting(
        "auto",
        "sizes aimed at: uniform, or estimated by k-means on the codes, from whose clusters training then "
        "begins; auto: estimated where they are far from even",
    )
    view: ViewName = setting(
        "none",
        "distortion of samples and neighbours: none, the encoder's, strong; auto: the encoder's if any",
    )
    flip: bool = setting(True, "strong and weak views exchange left and right; not for digits and letters")
    tune_encoder: bool = setting(False, "train the encoder along with the heads")
    draws: int = setting(8, "distortions of each sample whose codes a frozen encoder gives once", low=1)
    held_out: float = setting(
        0.1,
        "share of the samples that train nothing and choose epoch and head, without labels; 0 of few samples",
        low=0,
        high=0.5,
    )
    epochs: int | None = setting(
        None,
        "most epochs; the one of the least held-out loss stays; none: 50, at least least_steps, at most "
        "some minutes",
        low=1,
    )
    least_steps: int = setting(800, "fewest steps of scan, if epochs is none", low=1)
    batch_size: int = setting(128, "samples in a batch", low=2)
    optimizer: OptimizerName = setting("adam", "optimiser of both stages")
    lr: float = setting(3e-3, "learning rate", low=0)
    weight_decay: float = setting(1e-4, "weight decay of both stages", low=0)
    momentum: float = setting(0.9, "momentum of sgd", low=0, high=1)
    label_epochs: int | None = setting(
        0, "epochs of self-labelling, 0 to leave it out; none: 200, at most some minutes", low=0
    )
    label_view: ViewName = setting(
        "auto", "distortion that confident samples are learned through; auto: strong for images"
    )
    threshold: float = setting(0.9, "confidence from which on a sample is learned from", low=0, high=1)
    label_batch_size: int = setting(1000, "samples in a batch of self-labelling", low=2)
    label_lr: float = setting(1e-4, "learning rate of self-labelling", low=0)
    average: float = setting(
        0.0, "self-labelling ends with a moving average of the weights of this decay; 0: none", low=0, high=1
    )

    # quick, the default: a frozen encoder and one dense layer on it; the others: Van Gansbeke et al. 2020,
    # supplement A, tuned with the encoder's own views and a lower threshold
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {},
        "tuned": {**TUNED, "view": "auto", "label_epochs": None},
        "paper": {**TUNED, "view": "strong", "threshold": 0.99, "epochs": 50, "label_epochs": 200},
    }


class SCAN(Clusterer):
    """Semantic clustering by adopting nearest neighbours (Van Gansbeke et al. 2020).

    Each head is a dense layer on the codes; it learns to give a sample and one of its nearest
    neighbours, drawn at each step, the same cluster with certainty (eq. 2, first term), and to use all
    clusters (second term). Neighbours are mined once, from the encoder as it came (section 2.2). The
    codes count as shifted and scaled to mean 0 and mean variance 1, so that one learning rate suits all
    encoders. Then samples that it is certain of teach encoder and head, seen through strong distortions
    (section 3).

    Where k-means' clusters of the codes are far from even, their sizes take the place of the uniform
    ones that the second term aims at (``entropy``). What ends worse than k-means is undone.
    """

    Config: ClassVar[type[SCANConfig]] = SCANConfig
    mean: Tensor  # (D,)
    factor: Tensor  # ()
    chosen: Tensor  # (), the head that counts
    neighbours: Tensor  # (N, k), of each sample of ``fit``; -1 where there is none
    prior: Tensor | None = None  # (K,), the shares of the clusters that are aimed at; None: even

    def __init__(self, config: SCANConfig, n_clusters: int) -> None:
        super().__init__(config, n_clusters)
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.heads * n_clusters, 0))
        self.bias = nn.Parameter(torch.empty(config.heads * n_clusters))
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def _begin(self, z: Tensor, baseline: Baseline) -> dict[str, Tensor]:
        """New heads, and the scale of codes z (N, D); the state that gives the baseline's clusters.

        Heads are uniform within 1/sqrt(D) of 0, or one, the baseline's, also where a prior is estimated.
        """
        self.mean = z.mean(dim=0)
        self.factor = z.var(dim=0, correction=0).mean().clamp_min(1e-12).rsqrt()
        weight, bias = baseline.layer(self.mean, self.factor)
        at_random = self.config.start == "random" and self.prior is None
        heads = self.config.heads if at_random else 1
        self.weight = nn.Parameter(weight.repeat(heads, 1))
        self.bias = nn.Parameter(bias.repeat(heads))
        state = deepcopy(self.state_dict())
        if at_random:
            bound = z.shape[1] ** -0.5
            self.weight.uniform_(-bound, bound)
            self.bias.uniform_(-bound, bound)
        return state

    def logits(self, z: Tensor) -> Tensor:
        """Codes (B, D) to each head's logits (B, heads, K)."""
        scores = nn.functional.linear((z - self.mean) * self.factor, self.weight, self.bias)
        h: Tensor = scores.unflatten(1, (-1, self.n_clusters))  # type: ignore[no-untyped-call]
        return h.float()

    def forward(self, z: Tensor) -> Tensor:
        """The chosen head's softmax."""
        return self.logits(z).index_select(1, self.chosen[None])[:, 0].softmax(dim=1)

    def check(self, encoder: Encoder, data: Data) -> None:
        """Raise InvalidSetting for a view that these data or this encoder cannot have."""
        self._views(encoder, data)

    def _views(self, encoder: Encoder, data: Data) -> tuple[View | None, View | None]:
        """What samples are seen through in the stages ``scan`` and ``label``."""
        c = self.config
        view = choose_view(c.view, encoder, data, c.flip, "clusterer.view")
        if c.label_epochs == 0:
            return view, None
        place = "clusterer.label_view"
        return view, choose_view(c.label_view, encoder, data, c.flip, place, strong=True)

    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Mine neighbours, train the heads in a stage ``scan``, then in a stage ``label`` on what is certain.

        Raises as ``check``.
        """
        c = self.config
        view, label_view = self._views(encoder, data)
        z = embed(encoder, data, autocast=run.autocast)
        fewest = 2 * HELD_NEIGHBOURS * self.n_clusters  # else their neighbours are of other clusters
        mined = mine(z, c.neighbours, c.held_out, run.seed_for("held-out"), fewest)
        self.neighbours = mined.table()
        referee = Referee(encoder, data, run.autocast)
        still, coded = Given(None, (z.shape[1],)), Data(z, "codes", data.device)  # the encoder as it came
        baseline = baseline_of(still, coded, self.n_clusters, run, referee)
        check_start(baseline.labels, self.n_clusters, run, "scan")
        self.prior = choose_prior(c.prior, baseline, run)
        seed_everything(run.seed_for("weights"))
        start = self._begin(z, baseline)
        codes: Tuned | Cached
        if c.tune_encoder:
            codes = Tuned(encoder, data, view)
        else:
            codes = Cached(
                z[None] if view is None else draw_codes(encoder, data, view, c.draws, run.autocast)
            )
        weights = {"clusterer": start}
        if c.tune_encoder:
            weights["encoder"] = deepcopy(encoder.state_dict())
        watched = (encoder, data) if c.tune_encoder else (still, coded)
        guard = Guard(
            referee, watched[0], self, watched[1], run,
            start=Start(baseline.labels[referee.places], weights),
        )  # fmt: skip
        undone = self._learn(codes, mined, *watched, run, guard, baseline)
        if c.label_epochs != 0 and not undone:
            label_again(self, encoder, data, label_view, run, referee)
        return self

    def _remedy(self, worse: Worse, baseline: Baseline, epochs: int, still_falling: bool) -> str:
        """What to change, by what the clusters were before and how the loss went."""
        c = self.config
        if self.prior is None and is_uneven(baseline, SOMEWHAT):
            return (
                f"Those are as uneven as {baseline.effective:.1f} of {self.n_clusters} would be, and scan "
                "aimed at even ones: -s clusterer.prior=estimated aims at their sizes."
            )
        if worse.lost:
            return f"Take -s clusterer.entropy={2 * c.entropy or 5:g}, which uses all, or fewer --clusters."
        if still_falling:
            return f"Its loss was still falling: take -s clusterer.epochs={2 * epochs}."
        return f"Take -s clusterer.lr={c.lr / 10:g}, or another -s clusterer.neighbours than {c.neighbours}."

    def _learn(
        self,
        codes: Tuned | Cached,
        mined: Mined,
        encoder: Encoder,
        data: Data,
        run: Run,
        guard: Guard,
        baseline: Baseline,
    ) -> bool:
        """Train the heads; whether that was undone."""
        c = self.config
        models: dict[str, nn.Module] = {"clusterer": self}
        parameters = [self.weight, self.bias]
        if c.tune_encoder:
            encoder.train()
            models["encoder"] = encoder
            parameters += encoder.parameters()
        places = Places(torch.arange(len(mined.train), device=data.device), data.device)
        batches = run.batches(places, c.batch_size, "scan")
        most = (
            affordable_steps(encoder, data.slice(0, 2), c.batch_size, passes=2) if c.tune_encoder else 10**6
        )
        length = run.length(c.epochs, batches, usual=50, least=c.least_steps, most=most)
        updater = Updater(
            batches, models,
            make_optimizer(c.optimizer, parameters, c.lr, momentum=c.momentum, weight_decay=c.weight_decay),
            lambda batch: self.loss(codes, mined, batch), autocast=run.autocast,
        )  # fmt: skip
        held_out = HeldOut(self, encoder, data, mined, run.autocast)
        best = BestSnapshot(HeldOut.key, restore=True)
        extensions = [held_out, best, guard, Monitor(encoder, self, data, run.autocast)]
        trainer = run.train("scan", updater, length, extensions)
        self.unsupervised_loss = best.best
        worse = guard.worse
        if worse is None:
            return False
        self.unsupervised_loss = held_out.loss()
        last = checkpoint.load(trainer.out / "best.pt")["iteration"] == trainer.iteration
        remedy = self._remedy(worse, baseline, trainer.epoch, last)
        run.notice(f"{worse.say('scan', 'k-means on the codes')} {remedy}")
        return worse.kept == 0

    def loss(self, codes: Tuned | Cached, mined: Mined, batch: Batch) -> Tensor:
        """The mean over the heads of inconsistency - weight * entropy, for samples and one neighbour each."""
        own = mined.neighbours[batch.x]  # (B, k)
        drawn = torch.randint(own.shape[1], (len(own), 1), device=own.device)
        a, b = self.logits(codes(torch.cat([mined.train[batch.x], own.gather(1, drawn)[:, 0]]))).chunk(2)
        apart, used = inconsistency(a, b), entropy(a, self.prior)  # (heads,)
        report({"inconsistency": apart.mean(), "entropy": used.mean()})
        return (apart - self.config.entropy * used).sum()
