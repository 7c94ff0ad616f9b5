"""No refinement makes things worse unseen: it is watched, stopped early, taken back or undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.contract.interfaces import Clusterer, Encoder
from ...core.data.data import Data
from ...core.engine import Trainer, checkpoint, report
from ...core.engine.extensions import WRITER, Extension
from ...core.engine.trigger import When
from ...core.toolbox.inference import evaluating
from .monitor import moved
from .referee import Agreement, Referee, embed_at, lost_clusters

if TYPE_CHECKING:
    from ...core.run.run import Run

KEPT = "kept.pt"  # the file in a stage's folder with the best state so far
FALL = 0.05  # of the agreement, in both spaces, that counts as worse at the end
FAINT = 0.1  # agreement at the start of a space that is too little to fall, and has no say beside the other
HELD = 0.5  # share of the start's agreement; no refinement came back from below it in both spaces

Weights = Mapping[str, Mapping[str, Tensor]]  # states by the names of the models


@dataclass(frozen=True)
class Start:
    """What a refinement is compared with, and what it can be taken back to.

    labels: (M,) int64 of the referee's indices. weights: that give them, to go back to; None where no
    weights of these models do.
    """

    labels: Tensor
    weights: Weights | None


@dataclass(frozen=True)
class Worse:
    """What was wrong with a refinement, and what was done.

    lost: of ``clusters``, those that held samples at the start. ended: the iteration at which it ended,
    ``early`` where it was stopped for this. kept: the iteration it was taken back to, 0 for the start,
    None where there was none. ill: what is left is worse than the start, too. churn: the share of samples
    that had left their cluster of the start when first looked at, at the iteration ``looked``.
    """

    clusters: int
    lost: int
    start: Agreement
    end: Agreement
    ended: int
    early: bool
    kept: int | None
    ill: bool
    churn: float
    looked: int

    def say(self, what: str, start: str) -> str:
        """A sentence: what was refined, from which start."""
        if self.lost:
            fault = f"lost {self.lost} of {self.clusters} clusters"
        else:
            a, b = self.start, self.end
            fault = (
                f"parted neighbours (beyond chance, {a.input:.2f} of a sample's neighbours in the input were "
                f"in its cluster before and {b.input:.2f} after, of those in the codes {a.codes:.2f} and "
                f"{b.codes:.2f})"
            )
        if self.kept is None:
            return f"{what} {fault}, and there was nothing better to go back to."
        stopped = f"stopped after {self.ended} iterations and " if self.early else ""
        if self.kept:
            return (
                f"{what} {fault}: it was {stopped}taken back to iteration {self.kept}, the best until then."
            )
        return f"{what} {fault}: it was {stopped}undone, and the clusters are those of {start}."


class Guard(Extension):
    """Keeps the best state of a refinement, which is put back where it ended worse than its start.

    Worse: clusters are lost, or the referee's agreement fell by more than ``FALL`` in both spaces, one in
    which the start had less than ``FAINT`` left aside. Best:
    the greatest agreement, a mean of both, of states that lost none; the start is one of them.
    ``stop`` is a trigger for ``Run.train``: clusters are lost, or less than ``HELD`` of the agreement is
    left in both spaces. ``worse`` is, after ``Run.train``, what was found and done; None where all is well.

    start: None for the models as they are when the training begins.
    """

    priority = WRITER

    def __init__(
        self,
        referee: Referee,
        encoder: Encoder,
        clusterer: Clusterer,
        data: Data,
        run: Run,
        *,
        start: Start | None = None,
        trigger: When = (1, "epoch"),
    ) -> None:
        self.referee, self.encoder, self.clusterer = referee, encoder, clusterer
        self.data, self.run, self.trigger = data, run, trigger
        self.stop = Stop(self)
        self.start = start
        self.best = float("-inf")
        self.kept: int | None = None
        self.churn, self.looked = 0.0, 0
        self.tripped = False
        self.worse: Worse | None = None

    def initialize(self, trainer: Trainer) -> None:
        if self.start is None:
            self.start = Start(self.look(), _weights(trainer))
        if self.kept is None and self.start.weights is not None:
            self._keep(trainer, self.referee.judge(self.start.labels), self.start.weights, 0)

    def __call__(self, trainer: Trainer) -> None:
        labels = self.look()
        before, now, lost = self._judge(labels)
        report(
            {
                "health/neighbours_input": now.input,
                "health/neighbours_codes": now.codes,
                "health/lost_clusters": lost,
            }
        )
        if not self.looked:
            assert self.start is not None
            self.churn = moved(self.start.labels, labels, self.clusterer.n_clusters)
            self.looked = trainer.iteration
        self.tripped = lost > 0 or _fell(before, now, lambda start: HELD * start)
        if not lost and now.mean > self.best:
            self._keep(trainer, now, _weights(trainer), trainer.iteration)

    def settle(self, trainer: Trainer) -> Worse | None:
        """Judge the models as all extensions left them, and put the best state back where they are worse.

        ``Run.train`` calls it, also of a training that was finished before: it finds the same.
        """
        before, now, lost = self._judge(self.look())
        fell = _fell(before, now, lambda start: start - FALL)
        early = trainer.stop_reason == str(self.stop)
        if not (lost or fell or early):
            return None
        if self.kept is not None:
            state = checkpoint.load(_path(trainer), self.data.device)
            for name, model in trainer.updater.models.items():
                model.load_state_dict(state["models"][name])
        assert self.start is not None
        self.worse = Worse(
            clusters=int((self.start.labels.bincount() > 0).sum()),
            lost=lost,
            start=before,
            end=now,
            ended=trainer.iteration,
            early=early,
            kept=self.kept,
            ill=self.best < before.mean - FALL,
            churn=self.churn,
            looked=self.looked,
        )
        return self.worse

    def _judge(self, labels: Tensor) -> tuple[Agreement, Agreement, int]:
        """The agreement at the start and of ``labels``, and the clusters lost."""
        assert self.start is not None
        lost = lost_clusters(self.start.labels, labels, self.clusterer.n_clusters)
        return self.referee.judge(self.start.labels), self.referee.judge(labels), lost

    def look(self) -> Tensor:
        """The labels of the referee's indices now.  # (M,)"""
        with evaluating(self.encoder, self.clusterer):
            z = embed_at(self.encoder, self.data, self.referee.indices, self.run.autocast)
            return self.clusterer.predict(z)

    def _keep(self, trainer: Trainer, agreement: Agreement, weights: Weights, iteration: int) -> None:
        self.best, self.kept = agreement.mean, iteration
        trainer.out.mkdir(parents=True, exist_ok=True)
        checkpoint.save({"models": weights}, _path(trainer))

    def state_dict(self) -> dict[str, Any]:
        assert self.start is not None
        kept = {"best": self.best, "kept": self.kept, "tripped": self.tripped}
        return {"labels": self.start.labels, "churn": self.churn, "looked": self.looked, **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start = Start(state["labels"], None)
        self.best, self.kept, self.tripped = state["best"], state["kept"], state["tripped"]
        self.churn, self.looked = state["churn"], state["looked"]


class Stop:
    """True once a guard has seen what no refinement comes back from."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def __call__(self, trainer: Trainer) -> bool:
        return self.guard.tripped

    def __str__(self) -> str:
        return "clusters were lost or neighbours parted"


def check_start(labels: Tensor, n_clusters: int, run: Run, what: str) -> None:
    """Say of the labels (N,) that a refinement starts from where they leave clusters empty."""
    used = int((labels[labels >= 0].bincount() > 0).sum())
    if used < n_clusters:
        run.notice(
            f"{what} began with {n_clusters - used} of {n_clusters} clusters empty: the codes fall into no "
            f"more than {used}. Ask for --clusters {max(2, used)}, or take another encoder.",
            ill=True,
        )


def _fell(before: Agreement, now: Agreement, least: Callable[[float], float]) -> bool:
    """Whether less is left than ``least`` of the start's agreement, in every space that has a say."""
    both = ((before.input, now.input), (before.codes, now.codes))
    heard = [left < least(start) for start, left in both if start >= FAINT]
    return bool(heard) and all(heard)


def _weights(trainer: Trainer) -> Weights:
    return {name: model.state_dict() for name, model in trainer.updater.models.items()}


def _path(trainer: Trainer) -> Path:
    return trainer.out / KEPT
