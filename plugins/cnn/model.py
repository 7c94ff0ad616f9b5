"""The convolutional classifier: its network, and what it learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import Data, Run, Size, setting
from ...core.run.training import ScheduleName
from ..classifier.supervised import Classifier, ClassifierConfig, Head, labelled

KERNEL = 2


@dataclass(frozen=True)
class CNNConfig(ClassifierConfig):
    filters: tuple[int, ...] = setting((32, 32), "filters of each block of two convolutions", low=1)
    hidden: int = setting(512, "width of the hidden layer, which is the code", low=1)
    dropout: float = setting(0.2, "share of values dropped after each block", low=0, high=0.9)
    grid: int = setting(16, "most places a side that the hidden layer sees; larger maps are pooled", low=1)
    schedule: ScheduleName = setting(
        "constant", "learning rate: cosine to 0, a tenth every 20 000 iterations, or constant"
    )

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tutorial": {"epochs": 20}}


class CNN(Classifier):
    """Blocks of two 2x2 convolutions, a dense layer whose output is the code, and the classes.

    Convolutions have no padding where that leaves something of the image, else they keep its size.
    """

    Config: ClassVar[type[CNNConfig]] = CNNConfig
    name = "cnn"

    def __init__(self, config: CNNConfig, shape: Size) -> None:
        super().__init__(config, shape)
        channels, *sides = shape
        keeps_size = min(_sides(sides, len(config.filters))) < 1
        layers: list[nn.Module] = []
        for filters in config.filters:
            for into in (channels, filters):
                if keeps_size:
                    layers.append(nn.ZeroPad2d((0, KERNEL - 1, 0, KERNEL - 1)))
                layers += [nn.Conv2d(into, filters, KERNEL), nn.ReLU()]
            layers += [nn.MaxPool2d(2, ceil_mode=keeps_size), nn.Dropout(config.dropout)]
            channels = filters
        if keeps_size:
            sides = [-(-side // 2 ** len(config.filters)) for side in sides]
        else:
            sides = _sides(sides, len(config.filters))
        pooled = [-(-side // config.grid) for side in sides]  # the last pooling's factors, 1 for small maps
        if max(pooled) > 1:
            layers.append(nn.MaxPool2d(tuple(pooled)))
            sides = [side // factor for side, factor in zip(sides, pooled, strict=True)]
        self.blocks = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * sides[0] * sides[1], config.hidden)
        self.latent_dim = config.hidden
        self.head = Head(config.hidden)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W): the hidden layer's output, not below 0."""
        h = self.blocks(self.inputs(x).contiguous(memory_format=torch.channels_last)).flatten(1)
        with torch.autocast(h.device.type, enabled=False):  # the code in full precision for the clusterer
            return F.relu(self.hidden(h.float()))

    def fit(self, data: Data, run: Run) -> Self:
        """Learn the classes of the labelled samples, in a stage ``train``.

        Raises InvalidData where there are no labels.
        """
        c: CNNConfig = self.config
        if c.epochs == 0:
            self.inputs.fit(data)
            return self
        known = labelled(data, self.name)
        self.head.resize(known.n_classes)
        self.learn_classes(known, run)
        return self


def _sides(sides: list[int], n_blocks: int) -> list[int]:
    """What is left of the sides after blocks without padding; 0 or less: nothing."""
    for _ in range(n_blocks):
        sides = [(side - 2 * (KERNEL - 1)) // 2 for side in sides]
    return sides
