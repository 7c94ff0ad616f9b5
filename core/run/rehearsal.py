"""A run rehearsed on a few samples with a few steps of each stage: how long will it take?"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import words
from ..contract.interfaces import Clusterer, Encoder, Evaluator
from ..data.data import Data, Truth
from ..engine import Batch, Batches, Trainer, Updater, checkpoint
from ..engine.extensions import Extension
from ..engine.extensions.extension import as_extension
from ..engine.trigger import Interval, Limit, When, stops_of, trigger_of
from ..engine.updater import Samples
from ..errors import TrainingFailed
from ..toolbox.inference import embed
from ..toolbox.length import BACKWARD, batch_size, sample_flops
from ..toolbox.timetable import LISTENING, LONGEST, Stage, Timetable
from .run import Run

FEWEST, MOST = 64, 2048  # samples that a rehearsal takes
PASS_FLOPS = 2e10  # of a pass over them, and of the forward and backward pass of a step
SMALLEST = 16  # samples in a step
STEPS, SECONDS = (3, 9), 0.3  # of a stage: the first step warms up
SOON = 10.0  # seconds of a run, below which nothing is said of them
LOOKED_AT = 2048  # codes that are looked at after the encoder's training


def rehearse(
    make: Callable[[], Encoder],
    clusterer: tuple[type[Any], Any],
    n_clusters: int,
    evaluators: Mapping[str, Evaluator],
    data: Data,
    work: Run,
    *,
    supervised: bool = False,
) -> Timetable | None:
    """How long the run will take: all of it on at most ``MOST`` evenly spaced samples, with a few steps of
    each stage. It leaves nothing behind. None where anything fails.

    make: gives the encoder as it begins. clusterer: class and config. supervised: whether the encoder
    learns from labels. data: on the device.
    """
    states = checkpoint.rng_state()
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="deepclust-") as folder:
            warnings.simplefilter("ignore")
            flops = sample_flops(make(), data.slice(0, 2))
            fewest = min(len(data), max(FEWEST, 2 * n_clusters))
            most = max(fewest, min(len(data), MOST, int(PASS_FLOPS / flops)))
            table = None
            for count in (fewest, most):  # the first to warm up: what is imported or allocated once
                run = Rehearsal(
                    Path(folder) / str(count), work.seed, work.device, work.precision, work.epochs_scale,
                    quiet=True, registry=work.registry, whole=len(data), count=count,
                    largest=max(SMALLEST, int(PASS_FLOPS / (BACKWARD * flops))), diary=Diary(work.device),
                )  # fmt: skip
                table = run.measure(make(), clusterer, n_clusters, evaluators, data, supervised)
                if table.total < SOON:
                    break
            return table
    except (Exception, SystemExit):  # whatever it is, the run itself will say it
        return None
    finally:
        checkpoint.set_rng_state(states)


def lines(table: Timetable | None, minutes: float | None, scale: float, *, counted: bool) -> list[str]:
    """What users are told of it: how long it takes, unless that is soon, and what ``minutes`` came to.

    scale: what lengths are multiplied by. counted: whether the number of clusters is found as well.
    """
    time = ""
    if table is not None and (table.total >= SOON or minutes is not None):
        time = str(table) + (", and the search for the number of clusters" if counted else "")
    if minutes is None:
        return [time] if time else []
    time_given = words.counted(minutes, "minute", "g")
    fitted = f"all lengths times {scale:g} for {time_given} (--epochs-scale {scale:g} does the same)"
    if table is None:
        return [fitted]
    if table.scale == LONGEST:
        fitted += ", the most"
    elif table.total > 60 * minutes:
        fitted += ", though it takes longer"
    return [f"{fitted}: {time}"]


@dataclass
class Diary:
    """The stages as they were rehearsed, and the clock.

    doubtful: stages that may be left out. quadratic: seconds since the last stage of comparing all samples
    with all. fixed: those that are the same for more samples.
    """

    device: torch.device
    stages: list[Stage] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    quadratic: float = 0.0
    fixed: float = 0.0
    since: float = 0.0

    def now(self) -> float:
        """The time, once the device has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def begin(self) -> None:
        """From now on time counts."""
        self.quadratic, self.fixed, self.since = 0.0, 0.0, self.now()

    def passed(self, growth: float) -> float:
        """What has happened since then takes so long with ``growth`` times the samples."""
        seconds, squared, fixed = self.now() - self.since, self.quadratic, self.fixed
        return (seconds - squared - fixed) * growth + squared * growth**2 + fixed


class FewBatches(Batches):
    """Batches as of ``whole`` samples by their number and size, but of those that are there, in order, and
    at most ``largest``."""

    def __init__(self, data: Any, size: int, seed: int, whole: int, largest: int) -> None:
        super().__init__(data, size, seed)
        self.n_samples = whole
        self.taken = min(size, largest, len(data))

    @property
    def growth(self) -> float:
        """How many times as large the whole's batches are on average."""
        return self.n_samples / len(self) / self.taken

    def __getitem__(self, i: int) -> Batch:
        index = (torch.arange(self.taken) + i * self.taken) % len(self.data)
        return Batch(self.data.batch(index.to(self.data.x.device)), index.to(self.data.device))


@dataclass(frozen=True)
class Rehearsal(Run):
    """A run whose stages end after a few steps, and which keeps how long the whole would take.

    whole: samples of the run. count: those of the rehearsal. largest: most samples in a step.
    """

    whole: int = 0
    count: int = 1
    largest: int = SMALLEST
    diary: Diary = field(default_factory=lambda: Diary(torch.device("cpu")))

    @property
    def growth(self) -> float:
        """How many times as many samples the run has."""
        return self.whole / self.count

    def measure(
        self,
        encoder: Encoder,
        clusterer: tuple[type[Any], Any],
        n_clusters: int,
        evaluators: Mapping[str, Evaluator],
        data: Data,
        supervised: bool,
    ) -> Timetable:
        """Rehearse the whole on ``count`` of the samples."""
        few, labelled = _few(data, self.count, supervised)
        start, spent = time.perf_counter(), time.process_time()
        token = LISTENING.set(self.diary)
        try:
            self.diary.begin()
            encoder.fit(labelled, self.child("encoder"))
            rest = {"encoder": self.diary.passed(self.growth)}
            checkpoint.seed_everything(self.seed_for("clusterer"))
            made: Clusterer = clusterer[0](clusterer[1], n_clusters, encoder.latent_dim)
            made.to(self.device)
            self.diary.begin()
            made.fit(encoder, few, self.child("clusterer"))
            rest["clusterer"] = self.diary.passed(self.growth)
        finally:
            LISTENING.reset(token)
        self.diary.begin()
        embed(encoder, few)
        sample = self.diary.passed(1) / self.count
        rest["encoder"] += sample * min(self.whole, LOOKED_AT)
        samples = self.whole + (len(data.test) if data.test is not None else 0)
        spent = time.process_time() - spent
        wait = max(1.0, (time.perf_counter() - start) / spent) if spent > 0 else 1.0
        scored = sum(evaluator.seconds(self.whole) for evaluator in evaluators.values())
        rest["results"] = sample * samples + wait * scored
        return Timetable(tuple(self.diary.stages), rest)  # the steps are at this run's scale already

    def batches(
        self,
        data: Samples,
        size: int,
        stage: str,
        *,
        even: bool = False,
        kind: Callable[[Any, int, int], Batches] = Batches,
    ) -> Batches:
        whole = round(len(data) * self.growth)
        seed = self.seed_for(f"{stage}/batches")
        return FewBatches(data, batch_size(size, whole, even=even), seed, whole, self.largest)

    def epoch(self, batches: Batches) -> int:
        if isinstance(batches, FewBatches):
            return len(batches)
        return max(len(batches), math.ceil(len(batches.data) * self.growth / batches.size))

    def leaves_out(self, stage: str, why: bool) -> bool:
        self.diary.doubtful.append(self.name_of(stage))
        return False

    def notice(self, text: str, *, ill: bool = False) -> None:
        """Nothing is said in a rehearsal."""

    def train(
        self,
        stage: str,
        updater: Updater,
        stop: When | Sequence[When],
        extensions: Sequence[Any] = (),
        *,
        falling: bool = True,
        called: Mapping[str, str] | None = None,
    ) -> Trainer:
        """A few steps, and one call of each extension that has its turn now and then."""
        diary = self.diary
        before = diary.passed(self.growth)
        checkpoint.seed_everything(self.seed_for(stage))
        name = self.name_of(stage)
        stops = stops_of(stop).values()
        limits = [s for s in stops if isinstance(s, Limit)]
        if not limits:
            raise TrainingFailed(f"{name}: nothing says how long it goes at most.")
        epoch = self.epoch(updater.batches)
        ends_early = len(limits) < len(stops) or name in diary.doubtful
        lengths = [(s.period * epoch, epoch) if s.unit == "epoch" else (s.period, 1) for s in limits]
        steps, least = min(lengths)
        watch = Enough(diary)
        # nothing else ends it, and none before it was measured
        trainer = Trainer(updater, [watch, *limits], self.folder / stage, name)
        watched = [Watched(as_extension(e), diary) for e in extensions]
        for extension in watched:
            extension.join(trainer, epoch)
        trainer.run()
        step = (watch.seconds - sum(e.seconds for e in watched)) / max(1, watch.steps)
        batches = updater.batches
        step *= batches.growth if isinstance(batches, FewBatches) else 1.0
        for extension in watched:
            growth = self.growth if extension.inner.grows else 1.0
            before += growth * extension.first_seconds
            step += growth * extension.seconds / extension.period
        diary.stages.append(Stage(name, before, step, steps, least, ends_early))
        diary.begin()
        return trainer


class Enough:
    """A stop after a few steps, which measures all but the first."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.start = diary.now()
        self.seconds, self.steps = 0.0, 0

    def __call__(self, trainer: Trainer) -> bool:
        if trainer.iteration == 1:
            self.start = self.diary.now()
            return False
        self.seconds, self.steps = self.diary.now() - self.start, trainer.iteration - 1
        least, most = STEPS
        return trainer.iteration >= most or (trainer.iteration >= least and self.seconds > SECONDS)


class Watched(Extension):
    """An extension that is called once where its turn comes every ``period`` steps, and measured."""

    def __init__(self, inner: Extension, diary: Diary) -> None:
        self.inner, self.diary = inner, diary
        self.seconds = self.first_seconds = 0.0
        self.period = 1

    def join(self, trainer: Trainer, epoch: int) -> None:
        """Become the trainer's; ``epoch`` steps are one of the whole."""
        trigger = trigger_of(self.inner.trigger)
        if isinstance(trigger, Interval):
            self.period = trigger.period * (epoch if trigger.unit == "epoch" else 1)
        if self.period > 1:
            trigger = _second
        trainer.extend(self, name=self.inner.name, trigger=trigger, priority=self.inner.priority)

    def initialize(self, trainer: Trainer) -> None:
        start = self.diary.now()
        self.inner.initialize(trainer)
        self.first_seconds = self.diary.now() - start

    def __call__(self, trainer: Trainer) -> None:
        if self.period == 1:  # a part of each step
            self.inner(trainer)
            return
        start = self.diary.now()
        self.inner(trainer)
        self.seconds += self.diary.now() - start

    def finish(self, trainer: Trainer) -> None:
        self.inner.finish(trainer)

    def close(self, trainer: Trainer) -> None:
        self.inner.close(trainer)


def _second(trainer: Trainer) -> bool:
    return trainer.iteration == 2


def _few(data: Data, count: int, labelled: bool) -> tuple[Data, Data]:
    """``count`` evenly spaced samples: without labels, and with them where an encoder learns from these."""
    indices = torch.linspace(0, len(data) - 1, count, dtype=torch.float64).round().long()
    x: Tensor = (
        data.x.index_select(0, indices.to(data.x.device))
        if data.mapped is None
        else data.mapped.take(indices.tolist())
    )
    few = replace(data.seal(), x=x, mapped=None, filled={})
    truth = data.truth if labelled else None
    if truth is None:
        return few, few
    labels = np.asarray(truth.labels)[indices.numpy()]
    return few, replace(few, revealed=Truth(labels, truth.names), sealed=False)
