"""One experiment on disk: seed, device, precision, and a folder for each stage."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..contract.part import Part
from ..engine import Batch, Batches, Trainer, Updater, checkpoint
from ..engine.extensions import ConsoleProgress, Extension, Log, Snapshot
from ..engine.trigger import When
from ..engine.updater import Samples
from ..files import write_json
from ..toolbox.length import batch_size, whole_epochs
from ..toolbox.timetable import AIM, LONGEST, Timetable
from ..words import counted
from . import stage as stages
from .checkup import Finding, look_at_stage
from .memory import enough
from .training import Optimization, length_of, schedule_of, updater_of

T = TypeVar("T")

if TYPE_CHECKING:
    from ..contract.registry import Registry

NOTICES = "notices.json"
CHECKUP = "checkup.json"  # in a stage's folder, what was found ill after it


@dataclass(frozen=True)
class Notice:
    """text: a sentence that the user must not miss. ill: whether the result is not healthy for it."""

    text: str
    ill: bool = False


def read_notices(folder: Path) -> list[Notice]:
    """What ``Run.notice`` kept in a folder."""
    path = folder / NOTICES
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [Notice(**kept) for kept in found]


def gather_notices(part: Path) -> list[Notice]:
    """What a part of a run kept, after what the components that it made kept in folders of theirs."""
    kept = sorted(part.rglob(NOTICES), key=lambda path: (-len(path.parts), path))
    return [notice for path in kept for notice in read_notices(path.parent)]


@dataclass(frozen=True)
class Run:
    """What ``fit`` is given: where to train, from which seed, how precisely, and at what length.

    folder: of this part of the run. part: its name, such as ``"encoder"``. epochs_scale: what
    ``scaled`` multiplies lengths by. snapshot_seconds: the least time between two snapshots.
    registry: where components come from, and plugins that extend its trainings; without one, as in a run
    that is made by hand, components are those that are installed, and nothing extends the trainings.
    timetable: how long it will take, where that was measured. remarks: lines that were said of lengths.
    """

    folder: Path
    seed: int = 0
    device: torch.device = torch.device("cpu")
    precision: str = "float32"
    epochs_scale: float = 1.0
    snapshot_seconds: float = 30.0
    quiet: bool = False
    part: str = ""
    registry: Registry | None = None
    timetable: Timetable | None = field(default=None, compare=False)
    remarks: list[str] = field(default_factory=list, compare=False)

    def child(self, part: str) -> Run:
        """The same run one folder down: what belongs to ``part``."""
        return replace(self, folder=self.folder / part, part=self.name_of(part))

    def name_of(self, stage: str) -> str:
        """How users know a stage of this part."""
        return f"{self.part}/{stage}" if self.part else stage

    def seed_for(self, stage: str) -> int:
        """A seed for a stage: a function of the run's seed and the stage's name alone."""
        digest = hashlib.blake2b(f"{self.seed}/{self.part}/{stage}".encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "big") >> 1

    def scaled(self, length: int) -> int:
        """A number of epochs or iterations at this run's scale, at least 1."""
        return max(1, round(length * self.epochs_scale))

    def length(
        self, epochs: int | None, batches: Batches, *, usual: int, least: int, most: int
    ) -> tuple[int, Literal["epoch"]]:
        """How long to train on ``batches``, at this run's scale: ``epochs``, or, where these are None,
        ``usual`` epochs in at least ``least`` and at most ``most`` steps, to the nearest epoch.

        What makes a network learn are steps: 20 epochs of 100 samples are few, of a million many.
        """
        if epochs is not None:
            return (self.scaled(epochs), "epoch")
        epochs = whole_epochs(usual, self.epoch(batches), least, most)
        if self.scaled(epochs) < usual and self.epochs_scale >= 1:
            self._remark(self.scaled(epochs), usual)
        return (self.scaled(epochs), "epoch")

    def epoch(self, batches: Batches) -> int:
        """The steps in an epoch of ``batches``."""
        return len(batches)

    def _remark(self, epochs: int, usual: int) -> None:
        """Say what was cut, and what would lift it; once for each part."""
        if any(remark.startswith(f"{self.part}: ") for remark in self.remarks):
            return
        more = "--minutes trains longer"
        if self.timetable is not None:
            longer = min(usual / epochs, LONGEST / self.epochs_scale)
            minutes = math.ceil(self.timetable.total * longer / AIM / 60 / 5) * 5
            more = f"--minutes {minutes} trains longer"
        self.remarks.append(
            f"{self.part}: {counted(epochs, 'epoch')} where {usual} are usual, so that it takes minutes; "
            f"{more}"
        )
        if not self.quiet:
            print(f"  {self.remarks[-1]}", file=sys.stderr)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which models compute: bf16 autocast or none."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def batches(
        self,
        data: Samples,
        size: int,
        stage: str,
        *,
        even: bool = False,
        kind: Callable[[Any, int, int], Batches] = Batches,
    ) -> Batches:
        """Shuffled batches for a stage, of ``size`` samples or a quarter of them all.

        even: of somewhat fewer, so that an epoch's last batch is not much smaller than the others.
        kind: makes other batches of data, size and seed.
        """
        return kind(data, batch_size(size, len(data), even=even), self.seed_for(f"{stage}/batches"))

    def make(self, kind: str, name: str, *arguments: Any, **settings: Any) -> Any:
        """Another component by its name, made with its config from ``settings`` and ``arguments``.

        Raises UnknownName or BrokenPlugin where there is none.
        """
        made = Part.of(kind, name, settings, self.registry).make(*arguments)
        return made.to(self.device) if isinstance(made, torch.nn.Module) else made

    def notice(self, text: str, *, ill: bool = False) -> None:
        """Keep a sentence that the user must not miss: the run shows it at its end and in scores.json.

        ill: the result is not healthy for this reason, which the run says in red and in its exit code.
        """
        before, new = read_notices(self.folder), Notice(text, ill)
        if new not in before:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / NOTICES, [asdict(notice) for notice in (*before, new)])

    def once(self, name: str, work: Callable[[], T]) -> T:
        """What ``work()`` gives: kept in this part's folder, so that a run that goes on does not do it again.

        name: of its file, which nothing else of this part has. ``work`` gives tensors, numbers, text, None,
        or lists, tuples and dicts of them; tensors come as copies on the device, without gradient. It draws
        from a seed of its own, and the random generators are left as they were.
        Raises TypeError for other values, DeepclustError where the file is damaged.
        """
        path = self.folder / f"{name}.pt"
        if path.exists():
            found: T = checkpoint.load(path, self.device, remedy="delete it to have that done again")
            return found
        states = checkpoint.rng_state()
        checkpoint.seed_everything(self.seed_for(name))
        try:
            made: T = checkpoint.plain(work(), self.device)
        finally:
            checkpoint.set_rng_state(states)
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(made, path)
        return made

    def leaves_out(self, stage: str, why: bool) -> bool:
        """Whether a stage is left out for a reason that only training can give; a rehearsal, which cannot
        know it yet, trains it all the same."""
        return why

    def learn(
        self,
        stage: str,
        loss: Callable[[Batch], Tensor],
        models: nn.Module | Mapping[str, nn.Module],
        data: Samples | Batches,
        config: Optimization,
        *,
        usual: int = 20,
        most: int | None = None,
        passes: float = 1,
        length: When | None = None,
        stops: Sequence[When] = (),
        optimizer: Optimizer | None = None,
        extensions: Sequence[Any] = (),
        falling: bool = True,
        called: Mapping[str, str] | None = None,
    ) -> Trainer:
        """Train a stage as ``config`` says: in its batches, with its optimiser and schedule, for its epochs.

        loss: batch -> 0-d tensor. models: one, or several by name, all of which learn what wants gradients.
        data: samples, or batches of them that are ready. config: a ``Training``; beside ready batches and
        a ``length`` an ``Optimization`` does.

        usual: epochs where config.epochs is none. most: steps that they may come to, by default what some
        minutes afford where a step takes each sample ``passes`` times through the first model. length:
        such as ``(500, "iteration")``, in place of epochs. stops: what may end it earlier. optimizer: in
        place of the config's. The rest, and what is done beside it: as ``train``.
        """
        updater = updater_of(self, stage, loss, models, data, config, optimizer)
        end = length or length_of(self, updater, data, config, usual=usual, most=most, passes=passes)
        acting = [*extensions, *schedule_of(config)]
        return self.train(stage, updater, [end, *stops], acting, falling=falling, called=called)

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
        """Train a stage to its stop, from its snapshot where there is one; then look whether it is well.

        Where an extension takes it back, as it is settled, the models are as they were before.

        stage: the name of its folder. extensions: beyond log, progress and snapshot, which every
        stage has; each with its own trigger. falling: whether the loss is of one target all along, so that
        it is ill if it ends above its start. called: plainer names for what is reported, on the console.
        """
        name = self.name_of(stage)
        trainer = Trainer(updater, stop, self.folder / stage, name)
        if not self.quiet:
            later = None if self.timetable is None else self.timetable.after(name)
            trainer.extend(ConsoleProgress(later, called))
        trainer.extend(Log())
        trainer.extend(Snapshot(self.snapshot_seconds))
        for extension in extensions:
            trainer.extend(extension)
        for failure in self.registry.extend_trainer(trainer) if self.registry is not None else ():
            self.notice(f"{failure.who} did not extend the training: {failure.reason}. All else went on.")
        checkpoint.seed_everything(self.seed_for(stage))  # whatever plugins drew
        with enough(name, lambda: self._less_memory(trainer)):
            trainer.resume()
            for gone in trainer.without:
                self.notice(f"{name} went on without the extension {gone}, which is not there any more.")
            trainer.run()
        stages.keep(trainer)
        taken_back = [e.settle(trainer) for e in extensions if isinstance(e, Extension)]
        if not any(taken_back):  # else what was trained is gone
            self.say(self._look(trainer, falling))
        return trainer

    def _less_memory(self, trainer: Trainer) -> str:
        """What to do where a stage needs more memory than there is."""
        there = (trainer.out / checkpoint.SNAPSHOT_NAME).exists()
        goes_on = f"goes on from its snapshot in '{trainer.out}'" if there else "begins this stage again"
        part = self.part.split("/")[0] or "encoder"
        return (
            f"its batches have {counted(trainer.updater.batches.size, 'sample')}: set a smaller "
            f"-s {part}.batch_size, in another --out, or free memory and give the same command again, which "
            f"{goes_on}."
        )

    def _look(self, trainer: Trainer, falling: bool) -> list[Finding]:
        """What is ill, looked at once: a resumed run that finds the stage finished takes no step for it."""
        path = trainer.out / CHECKUP
        if path.exists():
            return [Finding(**found) for found in json.loads(path.read_text(encoding="utf-8"))]
        findings = look_at_stage(trainer, falling=falling)
        write_json(path, [asdict(found) for found in findings])
        return findings

    def say(self, findings: Sequence[Finding]) -> None:
        """Keep what was found ill as notices."""
        for finding in findings:
            self.notice(finding.text, ill=finding.ill)
