"""What some encoders and clusterers can do beyond their interface, as small protocols to ask for it by.

A class has an ability where it has the methods or attributes; ``Clusterer.needs`` lists those that an encoder
must have, and ``isinstance(encoder, Decodes)`` asks one.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Decodes(Protocol):
    """The ability to map codes back to samples: reconstructions, denoised pictures, IDEC."""

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, D) to samples (B, *shape) on the scale of ``Data.batch``."""
        ...


@runtime_checkable
class Augments(Protocol):
    """The ability to distort samples without changing what they show."""

    def augment(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to samples of the same shape, drawn anew at each call."""
        ...


@runtime_checkable
class Views(Protocol):
    """The ability to make the views of samples that an encoder was trained by.

    Of an encoder that learned by contrast, such as SimCLR, two views of one sample have near codes;
    clusterers that learn from codes of views, such as SCAN, draw theirs here.
    """

    def view(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to a distorted view of each, of the same shape, drawn anew at each call."""
        ...


@runtime_checkable
class Corrupts(Protocol):
    """The ability to put on samples the noise that the encoder has learned to take off."""

    def corrupt(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) with noise, on the same scale, drawn anew at each call."""
        ...


@runtime_checkable
class Generates(Protocol):
    """The ability to make new samples."""

    def generate(self, count: int, generator: torch.Generator) -> Tensor:
        """New samples (count, *shape) on the scale of ``Data.batch``; ``generator`` is the CPU's."""
        ...


@runtime_checkable
class FindsAnomalies(Protocol):
    """The ability to say how unlike the training data samples are."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) to scores (B,), larger for stranger ones."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """The ability to name the true classes, of an encoder that learned from labels."""

    def classify(self, z: Tensor) -> Tensor:
        """Codes (B, D) to the classes' logits (B, classes), in the order of the training data's Truth."""
        ...


@runtime_checkable
class HasCenters(Protocol):
    """The ability to name one point of the latent space for each cluster."""

    centers: Tensor  # (K, D)


@runtime_checkable
class HasNeighbours(Protocol):
    """The ability to name, after ``fit``, the neighbours of each training sample that it learned from."""

    neighbours: Tensor  # (N, k) int64, indices into the training data, the nearest first; -1: there is none


ABILITIES: dict[type[Any], str] = {
    Decodes: "decode(z)",
    Augments: "augment(x)",
    Views: "view(x)",
    Corrupts: "corrupt(x)",
    Generates: "generate(count, generator)",
    FindsAnomalies: "anomaly_score(x)",
    Classifies: "classify(z)",
    HasCenters: "centers",
    HasNeighbours: "neighbours",
}


def has_ability(component: type[Any], ability: type[Any]) -> bool:
    """Whether a class has an ability: each of its methods, or the annotated attribute."""
    names = [n for n in vars(ability) if not n.startswith("_")] + list(
        getattr(ability, "__annotations__", {})
    )
    return all(
        hasattr(component, n) or any(n in getattr(c, "__annotations__", {}) for c in component.__mro__)
        for n in names
    )
