"""Encoders that learn from labels: a head for the classes, cross-entropy, and a validation share."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ...core.contract.config import setting
from ...core.contract.interfaces import Encoder
from ...core.data.data import Data, Size
from ...core.engine import Batch, Batches, Trainer, report
from ...core.engine.extensions import WRITER, BestSnapshot, Extension
from ...core.errors import InvalidData, InvalidSetting
from ...core.run.run import Run
from ...core.run.training import Training
from ...core.toolbox.inference import evaluating
from ...core.toolbox.standardise import Standardise
from ..views import random_affine


@dataclass(frozen=True)
class ClassifierConfig(Training):
    """The settings of all encoders that learn from labels."""

    shift: float = setting(
        0.0, "shift samples at random by up to this share of a side in training", low=0, high=0.5
    )
    rotation: float = setting(
        0.0, "turn samples at random by up to this many degrees in training", low=0, high=180
    )
    validation: float = setting(0.2, "share of the labelled samples held back to validate", low=0, high=0.5)
    keep_best: bool = setting(False, "end with the weights of the least validation loss")
    batch_size: int = setting(128, "samples in a batch", low=1)
    epochs: int | None = setting(
        None,
        "epochs, 0 to learn nothing, so that no labels are needed; none: 20, at least least_steps, at most "
        "some minutes",
        low=0,
    )
    least_steps: int = setting(300, "fewest steps, if epochs is none", low=1)


@dataclass(frozen=True)
class Labelled:
    """The samples of ``data`` at ``indices`` (M,), with their classes ``y`` (M,) int64 on the device."""

    data: Data
    indices: Tensor
    y: Tensor
    n_classes: int

    @property
    def device(self) -> torch.device:
        """Where ``batch`` delivers."""
        return self.data.device

    @property
    def x(self) -> Tensor:
        """The values of all of ``data``."""
        return self.data.x

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, index: Tensor) -> Tensor:
        """The samples at ``index`` (B,), counted among the M.  # (B, *shape)"""
        return self.data.batch(self.indices[index])

    def take(self, index: Tensor) -> Labelled:
        """Those at ``index`` (B,) of the M."""
        indices, y = index.to(self.indices.device), index.to(self.y.device)
        return replace(self, indices=self.indices[indices], y=self.y[y])

    def split(self, share: float, seed: int) -> tuple[Labelled, Labelled | None]:
        """What to train on, at least two samples, and a ``share`` of all that is held back, if any."""
        n = len(self)
        held = min(max(1, round(share * n)), n - 2) if share else 0
        if held < 1:
            return self, None
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return self.take(order[held:].sort().values), self.take(order[:held].sort().values)


def labelled(data: Data, name: str) -> Labelled:
    """The samples whose class is known; those labelled -1 are left out.

    name: of the encoder that asks. Raises InvalidData where there are no labels, or fewer than two
    classes among them.
    """
    truth = data.truth
    if truth is None or not (truth.labels >= 0).any():
        raise InvalidData(
            f"encoder '{name}' learns from labels, and there are none in {data.description}: give them as y "
            "in a .npz file or with --labels, or take an encoder that needs none, such as sdae."
        )
    indices = np.flatnonzero(truth.labels >= 0)
    y = truth.labels[indices]
    if len(np.unique(y)) < 2:
        raise InvalidData(
            f"encoder '{name}' learns to tell classes apart, and the labels of {data.description} name only "
            "one; label samples of at least two classes."
        )
    where = torch.from_numpy(indices).to(data.x.device)
    n_classes = max(len(truth.names), int(y.max()) + 1)
    return Labelled(data, where, torch.from_numpy(y).to(data.device), n_classes)


class Head(nn.Module):
    """A dense layer to the classes, whose number is known when it is trained or loaded; 0 before."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, features))
        self.bias = nn.Parameter(torch.empty(0))

    def resize(self, n_classes: int) -> None:
        """New weights for so many classes, uniform within 1/sqrt(features) of 0."""
        features, bound = self.weight.shape[1], 1 / math.sqrt(self.weight.shape[1])
        self.weight = nn.Parameter(self.weight.new_empty(n_classes, features).uniform_(-bound, bound))
        self.bias = nn.Parameter(self.bias.new_zeros(n_classes))

    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, D) to the classes' logits (B, classes)."""
        return F.linear(z, self.weight, self.bias)

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
        saved = state.get(f"{prefix}weight")
        if saved is not None and saved.ndim == 2 and saved.shape[0] != self.weight.shape[0]:
            self.resize(saved.shape[0])
        super()._load_from_state_dict(state, prefix, *others)


class Classifier(Encoder):
    """An encoder of images that is trained through a ``head`` on its codes.

    A subclass names itself in ``name``, sets ``latent_dim`` and ``head`` in ``__init__``, standardises
    samples through ``inputs`` in ``forward``, and calls ``learn_classes`` in ``fit``, which fits ``inputs``
    too unless ``learns_scale`` is off; its ``Config`` is a ``ClassifierConfig``.
    """

    name: ClassVar[str]
    head: Head

    def __init__(self, config: Any, shape: Size) -> None:
        super().__init__(config, shape)
        if len(shape) != 3:
            raise InvalidData(
                f"encoder '{self.name}' takes images (channels, height, width), and a sample of these data "
                f"has the shape {shape}; take an encoder of rows, such as sdae."
            )
        self.config, self.shape = config, shape
        self.inputs = Standardise(shape)
        self.learns_scale = True

    @classmethod
    def uses_labels(cls, config: Any) -> bool:
        """Whether it is trained at all."""
        return bool(config.epochs != 0)

    def check(self, data: Data) -> None:
        """Raise InvalidData where there are no labels to learn, InvalidSetting for ``keep_best`` without any
        share to choose by."""
        if self.config.epochs == 0:
            return
        labelled(data, self.name)
        if self.config.keep_best and not self.config.validation:
            raise InvalidSetting(
                "encoder.keep_best chooses by the validation loss: set encoder.validation above 0, say 0.1."
            )

    def logits(self, x: Tensor) -> Tensor:
        """The classes' logits (B, classes) of samples (B, *shape); no classes before training."""
        return self.classify(self(x))

    def classify(self, z: Tensor) -> Tensor:
        """The classes' logits (B, classes) of codes (B, D); no classes before training."""
        scores: Tensor = self.head(z)
        return scores

    def augment(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) shifted and turned at random, as far as the settings say."""
        return random_affine(x, self.config.shift, self.config.rotation)

    def learn_classes(self, known: Labelled, run: Run, optimizer: Optimizer | None = None) -> Trainer:
        """Train all of it with cross-entropy, in a stage ``train``, as the config says.

        The loss and accuracy of the samples held back to validate are reported after each epoch.
        optimizer: by default the config's.
        Raises InvalidSetting where there is no share to choose the best epoch by.
        """
        c: ClassifierConfig = self.config
        if c.keep_best and not c.validation:
            raise InvalidSetting(
                "encoder.keep_best chooses by the validation loss: set encoder.validation above 0, say 0.1."
            )
        seen, held = known.split(c.validation, run.seed_for("train/validation"))
        if self.learns_scale:
            self.inputs.fit(seen)

        def loss(batch: Batch) -> Tensor:
            scores, y = self.logits(self.augment(batch.x)), seen.y[batch.index]
            report({"accuracy": _accuracy(scores, y)})
            return F.cross_entropy(scores.float(), y)

        more: list[Extension] = []
        if held is not None:
            more.append(Validation(self, held, c.batch_size, run.autocast))
            if c.keep_best:
                more.append(BestSnapshot("validation/loss", restore=True))
        batches = run.batches(seen, c.batch_size, "train")
        return run.learn("train", loss, self, batches, c, usual=20, optimizer=optimizer, extensions=more)


class Validation(Extension):
    """Reports the loss and accuracy of a classifier on held-back samples, at the end of each epoch."""

    trigger = (1, "epoch")
    priority = WRITER
    grows = True

    def __init__(self, model: Classifier, held: Labelled, batch_size: int, autocast: Any) -> None:
        self.model, self.held, self.autocast = model, held, autocast
        self.batches = Batches(held, batch_size, 0, shuffle=False)

    def __call__(self, trainer: Trainer) -> None:
        context: AbstractContextManager[Any] = self.autocast()
        loss = accuracy = torch.zeros((), device=self.held.device)
        with evaluating(self.model), context:
            for i in range(len(self.batches)):
                batch = self.batches[i]
                scores, y = self.model.logits(batch.x), self.held.y[batch.index]
                loss = loss + F.cross_entropy(scores.float(), y, reduction="sum")
                accuracy = accuracy + _accuracy(scores, y) * len(y)
        n = len(self.held)
        report({"validation/loss": loss / n, "validation/accuracy": accuracy / n})


def _accuracy(scores: Tensor, y: Tensor) -> Tensor:
    return (scores.argmax(dim=1) == y).float().mean()
