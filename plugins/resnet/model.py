"""The residual network: its stages, its training, and what it takes from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from ...core import Data, InvalidSetting, Run, Size, setting
from ..classifier.supervised import Classifier, ClassifierConfig, Head, labelled
from . import weights
from .network import BasicBlock, Bottleneck, convolution

SMALL = 64  # pixels of the shorter side, from which on the stem is the large one
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation, as torchvision trains


@dataclass(frozen=True)
class ResNetConfig(ClassifierConfig):
    blocks: tuple[int, ...] = setting((2, 2, 2, 2), "sub-blocks of each stage", low=1)
    width: int = setting(64, "filters of the first stage; they double with each later one", low=1)
    bottleneck: bool = setting(False, "sub-blocks of three convolutions instead of two")
    stem: Literal["auto", "large", "small"] = setting(
        "auto", "7x7 of stride 2 and pooling, or 3x3 of stride 1; auto: small below 64 pixels"
    )
    weights: str | None = setting(
        None, "start from a .pt, .pth or .safetensors file with torchvision's names, or from IMAGENET1K_V1"
    )
    normalize: Literal["auto", "imagenet", "data", "none"] = setting(
        "auto",
        "imagenet: its mean and deviation, as torchvision trains; data: the samples' own; "
        "auto: imagenet for RGB with given weights, else data",
    )
    zero_init: bool = setting(True, "each sub-block starts as its shortcut: its last normalisation at 0")
    validation: float = setting(0.0, "share of the labelled samples held back to validate", low=0, high=0.5)
    batch_size: int = setting(128, "samples in a batch", low=2)
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "SGD with Nesterov's momentum, or AdamW")
    lr: float | None = setting(  # type: ignore[assignment]  # none follows the batch
        None, "initial learning rate; none: 0.1 for each 256 of a batch, 0.001 for adamw", low=0
    )
    weight_decay: float = setting(5e-4, "weight decay of the convolutions and the head", low=0)

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "resnet18": {},
        "resnet34": {"blocks": (3, 4, 6, 3)},
        "resnet50": {"blocks": (3, 4, 6, 3), "bottleneck": True},
    }


class ResNet(Classifier):
    """Residual network; its code is the mean of the last maps over all places.

    He, Zhang, Ren & Sun 2016, Deep residual learning for image recognition, table 1. Names and sizes
    of the parameters are torchvision's, but for the head.
    """

    Config: ClassVar[type[ResNetConfig]] = ResNetConfig
    name = "resnet"

    def __init__(self, config: ResNetConfig, shape: Size) -> None:
        super().__init__(config, shape)
        if not config.blocks:
            raise InvalidSetting("encoder.blocks is empty; give at least one stage, such as 2,2,2,2.")
        channels = shape[0]
        if config.normalize == "imagenet" and channels != 3:
            raise InvalidSetting(
                f"encoder.normalize=imagenet takes images of 3 channels, and these have {channels}; "
                "set encoder.normalize=data."
            )
        auto = config.normalize == "auto" and config.weights is not None and channels == 3
        if auto or config.normalize == "imagenet":
            for kept, values in zip((self.inputs.mean, self.inputs.deviation), IMAGENET, strict=True):
                kept.copy_(torch.tensor(values).view(3, 1, 1))
        self.learns_scale = config.normalize == "data" or (config.normalize == "auto" and not auto)
        self.large = config.stem == "large" or (config.stem == "auto" and min(shape[1:]) >= SMALL)
        stem = (7, 2) if self.large else (3, 1)
        self.conv1 = convolution(channels, config.width, *stem)
        self.bn1 = nn.BatchNorm2d(config.width)
        block = Bottleneck if config.bottleneck else BasicBlock
        into, width = config.width, config.width
        self.stages: list[str] = []
        for i, count in enumerate(config.blocks):
            width = config.width * 2**i
            parts = []
            for j in range(count):
                parts.append(block(into, width, stride=2 if i and not j else 1))
                into = block.expansion * width
            self.stages.append(f"layer{i + 1}")
            self.add_module(self.stages[-1], nn.Sequential(*parts))
        self.latent_dim = into
        self.head = Head(into)
        self._initialise(config.zero_init)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _initialise(self, zero: bool) -> None:
        """He's initial weights; ``zero``: 0 for each sub-block's last gamma (Goyal et al. 2017, 5.1)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero and isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.last_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W)."""
        x = self.inputs(x).contiguous(memory_format=torch.channels_last)
        h = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            h = F.max_pool2d(h, 3, stride=2, padding=1)
        for stage in self.stages:
            h = self.get_submodule(stage)(h)
        return h.float().mean(dim=(2, 3))

    def check(self, data: Data) -> None:
        """Take the given weights. Raises as a Classifier, and InvalidSetting for weights that are not there
        or do not fit."""
        c: ResNetConfig = self.config
        if c.weights is not None:
            weights.fit_in(self, weights.read(c.weights, c.blocks, c.bottleneck), c.weights)
        super().check(data)

    def fit(self, data: Data, run: Run) -> Self:
        """Take the given weights, then learn the classes of the labelled samples, in a stage ``train``.

        Raises as ``check``.
        """
        c: ResNetConfig = self.config
        self.check(data)
        if c.epochs == 0:
            if self.learns_scale:
                self.inputs.fit(data)
            return self
        known = labelled(data, self.name)
        self.head.resize(known.n_classes)
        self.learn_classes(known, run, self._optimizer())
        return self

    def _optimizer(self) -> Optimizer:
        """Weight decay on what multiplies alone: not on normalisations and biases."""
        c: ResNetConfig = self.config
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters() if p.ndim > 1], "weight_decay": c.weight_decay},
            {"params": [p for p in self.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        fused = self.head.weight.device.type in ("cpu", "cuda")
        if c.optimizer == "sgd":
            lr = 0.1 * c.batch_size / 256 if c.lr is None else c.lr  # Goyal et al. 2017, 2.1
            return SGD(groups, lr, momentum=c.momentum, nesterov=c.momentum > 0, fused=fused)
        return AdamW(groups, 1e-3 if c.lr is None else c.lr, fused=fused)
