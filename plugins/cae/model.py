"""The convolutional autoencoder: its network, whose size follows from settings, and its training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import (
    Data,
    Encoder,
    InvalidData,
    InvalidSetting,
    Run,
    Size,
    Standardise,
    Training,
    embed,
    setting,
)
from ...core.engine import Batch
from ...core.engine.extensions import BestSnapshot
from ..views import random_affine
from .noise import NoiseName, add_noise

MEAN_SAMPLES = 1024  # enough to know the channels' means and the codes' scale
MEAN_BATCH = 64


@dataclass(frozen=True)
class CAEConfig(Training):
    filters: tuple[int, ...] = setting(
        (16, 32, 64), "widths of the 3x3 convolutions, each pooled by 2", low=1
    )
    bridge: Literal["dense", "gap"] = setting(
        "dense", "from maps to code: dense through the hidden layer, or global average pooling"
    )
    hidden: int = setting(128, "width of the dense bridge's hidden layer", low=1)
    latent_dim: int = setting(10, "dimensions of the code", low=1)
    decoder: tuple[int, ...] = setting(
        (), "widths that the decoder's 3x3 convolutions start from, each doubling the sides; "
        "empty: the mirrored filters", low=1,
    )  # fmt: skip
    output: Literal["sigmoid", "linear"] = setting("sigmoid", "sigmoid for data from 0 to 1, or linear")
    loss: Literal["mse", "bce"] = setting("mse", "mean squared error, or binary cross-entropy")
    noise: NoiseName = setting("none", "noise on the samples that are to be reconstructed without it")
    noise_amount: float = setting(
        0.2,
        "gaussian: standard deviation (linear output: in deviations of the data); "
        "mask: share set to 0 (linear output: to the mean)",
        low=0,
        high=1,
    )
    shift: float = setting(0.0, "shift samples at random by up to this share of a side", low=0, high=0.5)
    rotation: float = setting(0.0, "turn samples at random by up to this many degrees", low=0, high=180)
    restore: bool = setting(False, "learn samples as they were before they were shifted and turned")
    epochs: int | None = setting(None, "epochs; none: 20, at least least_steps, at most some minutes", low=1)
    least_steps: int = setting(580, "fewest steps, if epochs is none", low=1)
    batch_size: int = setting(64, "samples in a batch", low=1)
    keep_best: bool = setting(True, "end with the weights of the epoch whose training loss was least")
    code_scale: float | None = setting(
        5.0, "root of the codes' total variance after training; none: as trained", low=0
    )

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {},
        "tutorial": {
            "filters": (16, 8, 8),
            "hidden": 128,
            "latent_dim": 10,
            "shift": 0.0,
            "rotation": 0.0,
            "epochs": 20,
            "batch_size": 32,
            "lr": 1e-3,
            "schedule": "constant",
            "code_scale": None,
        },
        "denoise": {
            "filters": (16, 32, 64, 128),
            "bridge": "gap",
            "decoder": (32, 32, 16),
            "loss": "bce",
            "noise": "gaussian",
            "noise_amount": 0.5,
            "shift": 0.0,
            "rotation": 0.0,
            "epochs": 30,
            "batch_size": 256,
            "lr": 1e-3,
        },
    }


class CAE(Encoder):
    """Convolutional autoencoder for images (C, H, W) of any size (Masci et al. 2011; Guo et al. 2017).

    Encoder: for each width of ``filters`` a 3x3 convolution, ReLU and 2x2 max-pooling; sides that are
    odd are rounded up. Then a dense layer with ReLU and one to the code, or the maps' means and one.

    Decoder: one dense layer with ReLU from the code to a map, then for each width of ``decoder``
    nearest up-sampling by 2, cropped to the size that pooling came from, and a 3x3 convolution with
    ReLU from that width to the next; the last gives the channels and no ReLU. The first map has the
    sides that as many poolings would leave. Where ``decoder`` is empty it is the last filter, then the
    filters backwards without the first: 16, 8, 8 gives 8, 8, 8, so convolutions 8-8, 8-8 and 8-C.

    Raises InvalidData for samples that are no images, InvalidSetting for BCE on a linear output.
    """

    Config: ClassVar[type[CAEConfig]] = CAEConfig

    def __init__(self, config: CAEConfig, shape: Size) -> None:
        super().__init__(config, shape)
        if len(shape) != 3:
            raise InvalidData(
                f"the encoder 'cae' needs images (C, H, W), but a sample has shape {tuple(shape)}; "
                "the encoder 'sdae' takes samples of any shape."
            )
        if not config.filters:
            raise InvalidSetting("encoder.filters is empty, but 'cae' needs at least one convolution.")
        if config.loss == "bce" and config.output == "linear":
            raise InvalidSetting("encoder.loss=bce needs probabilities, that is encoder.output=sigmoid.")
        self.config, self.latent_dim = config, config.latent_dim
        channels, *sides = shape
        down = [channels, *config.filters]
        up = list(config.decoder or (config.filters[-1], *config.filters[:0:-1]))
        self.sizes = [tuple(math.ceil(s / 2**i) for s in sides) for i in range(len(up) + 1)]  # by poolings
        self.start = (up[0], *self.sizes[-1])  # the decoder's first map
        self.encoders = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(down))
        self.decoders = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise([*up, channels]))
        width = config.filters[-1]
        if config.bridge == "dense":
            flat = width * math.prod(math.ceil(s / 2 ** len(config.filters)) for s in sides)
            self.hidden = nn.Linear(flat, config.hidden)
            width = config.hidden
        self.code = nn.Linear(width, config.latent_dim)
        self.spread = nn.Linear(config.latent_dim, math.prod(self.start))
        self.inputs = Standardise(shape)
        for layer in (m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of samples (B, C, H, W)."""
        return self._encode(self.inputs(x))

    def decode(self, z: Tensor) -> Tensor:
        """Samples (B, C, H, W) on the data's own scale from codes (B, D)."""
        y = self._decode(z)
        return y.sigmoid() if self.config.output == "sigmoid" else self.inputs.inverse(y)

    def augment(self, x: Tensor) -> Tensor:
        """Samples (B, C, H, W) shifted and turned at random, as far as the settings say."""
        return random_affine(x, self.config.shift, self.config.rotation)

    def corrupt(self, x: Tensor) -> Tensor:
        """Samples (B, C, H, W) with the noise of the settings, on their own scale, drawn anew at each call.

        Noise ``"none"``, which nothing is trained to take off, gives the samples as they are.
        """
        c = self.config
        if c.noise == "none":  # multiplying and dividing would change some bits
            return x
        if c.output == "sigmoid":
            return add_noise(x, c.noise, c.noise_amount, clip=True)
        return self.inputs.inverse(add_noise(self.inputs(x), c.noise, c.noise_amount, clip=False))

    def _encode(self, h: Tensor) -> Tensor:
        h = h.to(memory_format=torch.channels_last)  # 1.5 to 2 times faster on CPUs
        for layer in self.encoders:
            h = F.relu(F.max_pool2d(layer(h), 2, ceil_mode=True))  # in this order a quarter of the work
        h = F.relu(self.hidden(h.flatten(1))) if self.config.bridge == "dense" else h.mean((2, 3))
        with torch.autocast(h.device.type, enabled=False):  # in full precision for the clusterer
            code: Tensor = self.code(h.float())
        return code

    def _decode(self, z: Tensor) -> Tensor:
        """What the output's function is applied to: logits, or standardised samples."""
        h: Tensor = F.relu(self.spread(z)).unflatten(1, self.start)  # type: ignore[no-untyped-call]
        h = h.to(memory_format=torch.channels_last)
        for i, layer in enumerate(self.decoders):
            h = layer(F.interpolate(h, self.sizes[-2 - i]))  # the nearest of sides rounded up is a crop
            if i < len(self.decoders) - 1:
                h = F.relu(h)
        return h

    def fit(self, data: Data, run: Run) -> Self:
        """Learn to reconstruct the samples, without the noise that was put on them; stage ``reconstruct``.

        Raises InvalidData for a sigmoid output and values outside 0 to 1.
        """
        c = self.config
        if c.output == "sigmoid":
            data.check_range("a sigmoid output gives 0 to 1; say -s encoder.output=linear.")
        self.inputs.fit(data)
        self._begin(data)
        best = [BestSnapshot("loss", restore=True)] if c.keep_best else []
        run.learn("reconstruct", self.loss, self, data, c, usual=20, passes=2, extensions=best)
        if c.code_scale is not None:
            self._rescale_code(c.code_scale, embed(self, data, autocast=run.autocast))
        return self

    def loss(self, batch: Batch) -> Tensor:
        """How far reconstructions of noisy samples are from the samples, a mean over all values."""
        c = self.config
        seen = self.augment(batch.x)
        x = batch.x if c.restore else seen
        y = self._decode(self(self.corrupt(seen))).float()
        if c.loss == "bce":
            return F.binary_cross_entropy_with_logits(y, x)
        return F.mse_loss(y.sigmoid(), x) if c.output == "sigmoid" else F.mse_loss(y, self.inputs(x))

    @torch.no_grad()
    def _begin(self, data: Data) -> None:
        """Let codes begin with mean square 1 and reconstructions near the channels' means.

        Pooling makes maps larger from layer to layer, and the first steps on large codes kill the decoder's
        units. On dark images, such as MNIST's, a sigmoid that begins at 1/2 runs to 0 everywhere and stays.
        """
        index = torch.linspace(0, len(data) - 1, min(MEAN_SAMPLES, len(data))).long()
        x, last = data.batch(index), self.decoders[-1]
        z = torch.cat([self(part) for part in x.split(MEAN_BATCH)])  # type: ignore[no-untyped-call]
        self.code.weight.div_(z.square().mean().sqrt().clamp_min(1e-6))
        x = x if self.config.output == "sigmoid" else self.inputs(x)
        mean, bias = x.mean(dim=(0, 2, 3)), last.get_parameter("bias")
        bias.copy_(mean.clamp(0.01, 0.99).logit() if self.config.output == "sigmoid" else mean)
        last.get_parameter("weight").mul_(0.1)

    @torch.no_grad()
    def _rescale_code(self, scale: float, z: Tensor) -> None:
        """Give the codes (N, D) the total variance scale^2; the decoder is changed to match."""
        factor = scale / z.var(0, correction=0).sum().sqrt().clamp_min(1e-6)
        self.code.weight.mul_(factor)
        self.code.bias.mul_(factor)
        self.spread.weight.div_(factor)
