"""SCAN's settings and presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...core import Training, setting
from ...core.engine import OptimizerName
from ...core.run.training import ScheduleName
from .prior import PriorName
from .view import ViewName

StartName = Literal["kmeans", "random"]

TUNED: Mapping[str, Any] = {
    "neighbours": 20, "start": "random", "heads": 1, "tune_encoder": True, "least_steps": 650, "lr": 1e-4,
}  # fmt: skip


@dataclass(frozen=True)
class SCANConfig(Training):
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
    lr: float = setting(3e-3, "initial learning rate", low=0)
    schedule: ScheduleName = setting(
        "constant", "learning rate of both stages: cosine to 0, a tenth every 20 000 iterations, or constant"
    )
    weight_decay: float = setting(1e-4, "weight decay of both stages", low=0)
    label_epochs: int | None = setting(
        0, "epochs of self-labelling, 0 to leave it out; none: 200, at most some minutes", low=0
    )
    label_view: ViewName = setting(
        "auto", "distortion that confident samples are learned through; auto: strong for images"
    )
    threshold: float = setting(0.9, "confidence from which on a sample is learned from", low=0, high=1)
    label_batch_size: int = setting(1000, "samples in a batch of self-labelling", low=2)
    label_lr: float = setting(1e-4, "initial learning rate of self-labelling", low=0)
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
