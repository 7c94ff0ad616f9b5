"""Self-labelling: what the clusterer is certain of teaches it, seen through strong distortions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from torch import Tensor

from ...core import Data, Encoder, Run, assign, embed, evaluating
from ...core.contract.assignment import Assignment
from ...core.engine import Batch, report
from ...core.engine.extensions import Average, Extension
from ..refinement.guard import Guard
from ..refinement.monitor import Monitor
from ..refinement.referee import Referee
from .heads import Heads
from .loss import balanced_cross_entropy
from .sample import View
from .view import weak_view

FEWEST = 0.05  # share of each cluster's samples that must be certain
ADVISED = 0.5  # the share that the threshold which the notice names lets in


def label_again(
    clusterer: Heads, encoder: Encoder, data: Data, view: View | None, run: Run, referee: Referee
) -> None:
    """Train encoder and chosen head in a stage ``label`` (Van Gansbeke et al. 2020, section 3).

    A sample whose largest assignment, seen weakly and in eval mode, is above the threshold is learned
    through ``view``; clusters weigh the same among those of a batch. Too few such samples in a cluster at
    the start: a notice, and nothing is trained. What is worse by the referee is taken back, with a notice.
    """
    c = clusterer.config
    certain = run.once(
        "certain",
        lambda: _certain_enough(
            assign(clusterer, embed(encoder, data, autocast=run.autocast)), clusterer, run
        ),
    )
    if run.leaves_out("label", not certain):
        return
    weak = weak_view(c.flip) if len(data.shape) == 3 else None

    def loss(batch: Batch) -> Tensor:
        with evaluating(encoder, clusterer):  # BatchNorm's statistics stay as they are
            q = clusterer(encoder(batch.x if weak is None else weak(batch.x)))
        confidence, labels = q.max(dim=1)
        chosen = confidence > c.threshold
        z = encoder(batch.x if view is None else view(batch.x))
        logits = clusterer.logits(z).index_select(1, clusterer.chosen[None])[:, 0]
        report({"certain": chosen.float().mean()})
        return balanced_cross_entropy(logits, labels, chosen)

    own = replace(c, batch_size=c.label_batch_size, epochs=c.label_epochs, least_steps=1, lr=c.label_lr)
    guard = Guard(referee, encoder, clusterer, data, run)
    extensions: list[Extension] = [guard, Monitor(encoder, clusterer, data, run.autocast)]
    if c.average:
        extensions.append(Average(c.average))
    # as if of two passes: one and a forward pass, and views of images as large as they came
    run.learn(
        "label", loss, {"encoder": encoder, "clusterer": clusterer}, data, own, usual=200, passes=2,
        stops=[guard.stop], extensions=extensions, falling=False,
    )  # fmt: skip
    if worse := guard.worse:
        run.notice(
            f"{worse.say('Self-labelling', 'scan')} A lower clusterer.threshold teaches more samples of "
            "each, another clusterer.label_view distorts less; clusterer.label_epochs=0 leaves the stage out."
        )


def _certain_enough(before: Assignment, clusterer: Heads, run: Run) -> bool:
    """Whether every cluster in use has its share of certain samples: one that has none is never taught."""
    threshold = clusterer.config.threshold
    short, reached = [], 1.0
    for cluster in np.unique(before.labels).tolist():
        confidence = before.confidence[before.labels == cluster]
        n, certain = len(confidence), int((confidence > threshold).sum())
        if certain < math.ceil(FEWEST * n):
            short.append((certain / n, f"{certain:,} of the {n:,} samples in cluster {cluster}"))
        reached = min(reached, float(np.sort(confidence)[-math.ceil(ADVISED * n)]))
    if not short:
        return True
    others = f", and of too few in {len(short) - 1} more" if len(short) > 1 else ""
    run.notice(
        f"scan is more certain than {threshold:g} of {min(short)[1]}{others}, and self-labelling needs "
        f"{FEWEST:.0%} of each: it was left out, and the clusters are those of scan. Take "
        f"-s clusterer.threshold={(math.ceil(1000 * reached) - 1) / 1000:g}, which lets in at least "
        f"{ADVISED:.0%} of each, or train longer (clusterer.epochs)."
    )
    return False
