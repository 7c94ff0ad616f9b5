"""Samples as codes: projected on principal axes where asked for, and normalised."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...core import Data, Encoder, InvalidData, InvalidSetting, Run, Size, setting
from ...core.engine import checkpoint
from ...core.words import counted
from .principal import WIDEST, moments, principal_axes

EMBEDDING = 64  # values from which on rows are taken for embeddings, whose lengths say little
COMPONENTS = 50
KEPT = "components.pt"  # in the encoder's folder
TINY = 1e-6  # of the largest deviation: what rounding leaves of none
Normalize = Literal["none", "l2", "standard"]
NORMALIZE = (
    "none: codes as they are; l2: all of length 1, so that angles count; standard: each value to mean 0 and "
    "deviation 1"
)


@dataclass(frozen=True)
class IdentityConfig:
    normalize: Normalize = setting("none", f"{NORMALIZE}; l2 by default for rows of 64 values and more")
    pca: int | None = setting(None, "principal components that samples are projected on first", low=1)


@dataclass(frozen=True)
class PCAConfig:
    components: int = setting(
        COMPONENTS, "dimensions of the code; fewer by default of narrower samples", low=1
    )
    normalize: Normalize = setting("none", f"{NORMALIZE}, which whitens")


class Identity(Encoder):
    """Codes without any training: the flattened samples, or their principal components, normalised.

    Rows come from ``Data.batch`` centred, so that l2 compares directions from the mean. ``decode`` gives
    codes of length 1 the samples' usual length back.
    """

    Config: ClassVar[type[Any]] = IdentityConfig
    mean: Tensor  # (D,) of the samples
    axes: Tensor  # (D, C), or (D, 0) where samples are not projected
    shift: Tensor  # (C,)
    scale: Tensor  # (C,)
    length: Tensor  # (), the root of the mean square of the codes' lengths before l2
    share: Tensor  # (), of the samples' variance that the components hold

    def __init__(self, config: Any, shape: Size) -> None:
        super().__init__(config, shape)
        self.shape, self.normalize, self.count = shape, config.normalize, self._count(config)
        width = math.prod(shape)
        if self.count is not None and self.count > width:
            raise InvalidSetting(
                f"{self._name()} is {self.count}, but the samples have {width:,} values: no more components "
                "than that."
            )
        if self.count is not None and width > WIDEST:
            raise InvalidData(
                f"{self._name()}: principal components take samples of at most {WIDEST:,} values, and these "
                f"have {width:,}; make images smaller (--image-size) or take another encoder."
            )
        self.latent_dim = self.count or width
        projected = width if self.count else 0
        self.register_buffer("mean", torch.zeros(projected))
        self.register_buffer("axes", torch.zeros(projected, self.count or 0))
        scaled = self.latent_dim if self.normalize == "standard" else 0
        self.register_buffer("shift", torch.zeros(scaled))
        self.register_buffer("scale", torch.ones(scaled))
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("share", torch.ones(()))

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """l2 for rows that look like embeddings."""
        return {"normalize": "l2"} if len(shape) == 1 and shape[0] >= EMBEDDING else {}

    def check(self, data: Data) -> None:
        """Raise InvalidData for more components than samples can have."""
        if self.count is not None and self.count >= len(data):
            raise InvalidData(
                f"{self._name()} is {self.count}, but {len(data)} samples have at most {len(data) - 1} "
                "components that differ from 0; set it lower."
            )

    @torch.no_grad()
    def fit(self, data: Data, run: Run) -> Self:
        """Find axes and scale, or read them where an earlier start of the run kept them."""
        path = run.folder / KEPT
        if path.exists():
            self.load_state_dict(checkpoint.load(path))
        elif self.count is not None or self.normalize != "none":
            self._measure(data)
            run.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.save({name: value.cpu() for name, value in self.state_dict().items()}, path)
        if made := self._made():
            run.remarks.append(f"encoder: {made}")
            if not run.quiet:
                print(f"  {run.remarks[-1]}", file=sys.stderr)
        return self

    def _measure(self, data: Data) -> None:
        """Axes and scale of the samples."""
        onto = None
        if self.count is not None:
            mean, axes, share = principal_axes(data, self.count)
            onto = mean, axes
            self.mean.copy_(mean)
            self.axes.copy_(axes)
            self.share.fill_(share)
        if self.normalize != "none":
            shift, scale = moments(data, onto)
            if self.normalize == "standard":
                self.shift.copy_(shift)
                self.scale.copy_(torch.where(scale > TINY * scale.max(), scale, 1.0))
            self.length.copy_((scale.square() + shift.square()).sum().sqrt())

    def _made(self) -> str:
        """What becomes of samples, in words; empty where they stay as they are."""
        parts = []
        if self.count is not None:
            parts.append(
                f"{counted(self.count, 'principal component')} ({float(self.share):.0%} of the variance)"
            )
        if self.normalize != "none":
            parts.append({"l2": "codes of length 1", "standard": "each value to deviation 1"}[self.normalize])
        return ", ".join(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to codes (B, D), in float32 also under autocast."""
        z = x.flatten(1)
        if self.count is not None:
            with _exact(z):
                z = (z - self.mean) @ self.axes
        if self.normalize == "standard":
            z = (z - self.shift) / self.scale
        elif self.normalize == "l2":
            z = z / z.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, D) to samples (B, *shape): what the components hold of them."""
        if self.normalize == "standard":
            z = z * self.scale + self.shift
        elif self.normalize == "l2":
            z = z * self.length
        if self.count is not None:
            with _exact(z):
                z = z @ self.axes.T + self.mean
        return z.reshape(-1, *self.shape)

    def _count(self, config: Any) -> int | None:
        """How many components, None for all values as they are."""
        count: int | None = config.pca
        return count

    def _name(self) -> str:
        """The setting that says so."""
        return "encoder.pca"


class PCA(Identity):
    """The principal components of the flattened samples, of exact covariances."""

    Config: ClassVar[type[Any]] = PCAConfig

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """As many components as such samples have, 50 at most; l2 for rows that look like embeddings."""
        count = max(1, min(COMPONENTS, math.prod(shape), n_samples - 1))
        return {**super().defaults(shape, n_samples), "components": count}

    def _count(self, config: Any) -> int | None:
        count: int = config.components
        return count

    def _name(self) -> str:
        return "encoder.components"


def _exact(z: Tensor) -> Any:
    """Keep reduced precision out of a product; a graph for export has none."""
    if torch.compiler.is_exporting():
        return nullcontext()
    return torch.autocast(z.device.type, enabled=False)
