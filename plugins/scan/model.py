"""SCAN: heads on an encoder's codes that learn to give neighbours the same cluster, then themselves."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict
from typing import Self

import torch
from torch import Tensor, nn

from ...core import Data, Encoder, Run, embed
from ...core.engine import Batch, checkpoint, report
from ...core.engine.checkpoint import seed_everything
from ...core.engine.extensions import BestSnapshot
from ...core.toolbox.length import affordable_steps
from ..refinement.baseline import Baseline, Given, baseline_of
from ..refinement.guard import Guard, Start, Worse, check_start
from ..refinement.monitor import Monitor
from ..refinement.referee import Referee
from .choice import HeldOut
from .heads import Heads
from .label import label_again
from .loss import entropy, inconsistency
from .mining import HELD_NEIGHBOURS, Mined, mine
from .prior import choose_prior, is_uneven
from .sample import Cached, Indices, Tuned, View, draw_codes
from .view import choose_view

SOMEWHAT = 0.95  # of the clusters: where fewer would be as uneven, a prior may be what was wrong


class SCAN(Heads):
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

    neighbours: Tensor  # (N, k), of each sample of ``fit``; -1 where there is none

    def check(self, encoder: Encoder, data: Data) -> None:
        """Raise InvalidSetting for a view that these data or this encoder cannot have."""
        self._views(encoder, data)

    def _views(self, encoder: Encoder, data: Data) -> tuple[View | None, View | None]:
        """What samples are seen through in the stages ``scan`` and ``label``."""
        c = self.config
        view = choose_view(c.view, encoder, data, c.flip, "clusterer.view")
        if c.label_epochs == 0:
            return view, None
        named = "clusterer.label_view"
        return view, choose_view(c.label_view, encoder, data, c.flip, named, strong=True)

    def fit(self, encoder: Encoder, data: Data, run: Run) -> Self:
        """Mine neighbours, train the heads in a stage ``scan``, then in a stage ``label`` on what is certain.

        Raises as ``check``.
        """
        c = self.config
        view, label_view = self._views(encoder, data)
        z = embed(encoder, data, autocast=run.autocast)
        fewest = 2 * HELD_NEIGHBOURS * self.n_clusters  # else their neighbours are of other clusters
        held_out = (c.held_out, run.seed_for("held-out"), fewest)
        mined = Mined(**run.once("neighbours", lambda: asdict(mine(z, c.neighbours, *held_out))))
        self.neighbours = mined.table()
        referee = Referee(encoder, data, run.autocast)
        still, coded = Given(None, (z.shape[1],)), Data(z, "codes", data.device)  # the encoder as it came
        baseline = baseline_of(still, coded, self.n_clusters, run, referee)
        check_start(baseline.labels, self.n_clusters, run, "scan")
        self.prior = choose_prior(c.prior, baseline, run)
        seed_everything(run.seed_for("weights"))
        start = self.begin(z, baseline)
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
            start=Start(baseline.labels[referee.indices], weights),
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
        most = 10**6
        if c.tune_encoder:
            models["encoder"] = encoder
            most = affordable_steps(encoder, data.slice(0, 2), c.batch_size, passes=2)
        indices = Indices(torch.arange(len(mined.train), device=data.device), data.device)
        held_out = HeldOut(self, encoder, data, mined, run.autocast)
        best = BestSnapshot(HeldOut.key, restore=True)
        trainer = run.learn(
            "scan", lambda batch: self.loss(codes, mined, batch), models, indices, c, usual=50, most=most,
            extensions=[held_out, best, guard, Monitor(encoder, self, data, run.autocast)],
        )  # fmt: skip
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
        loss: Tensor = (apart - self.config.entropy * used).sum()
        return loss
