"""The variational autoencoder: its network, whose size follows from settings, its bound, its training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import Data, Encoder, InvalidSetting, Run, Size, Standardise, Training, setting
from ...core.engine import Batch, Trainer, report
from ...core.engine.extensions import EDITOR, BestSnapshot, Extension
from ..views import random_affine

LOG_VARIANCE = (-14.0, 7.0)  # of the posterior: keeps strange samples' scores finite
FIRST_LOG_VARIANCE = -4.0  # at the start: from the prior's variance the code often never comes into use
LEAST_VARIANCE = 1e-4  # that is learned, in mean squares of the data: it cannot shrink to nothing
FOLLOWING = 0.05  # share of a batch's error in the learned variance
LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class VAEConfig(Training):
    filters: tuple[int, ...] = setting(
        (16, 32), "images: widths of the 3x3 convolutions, each halving the sides; empty: none", low=1
    )
    hidden: tuple[int, ...] = setting(
        (256, 256), "widths of the dense layers between samples or maps and the code, and back", low=1
    )
    latent_dim: int = setting(10, "dimensions of the code; 2 for a map of the data", low=1)
    output: Literal["sigmoid", "linear"] | None = setting(
        None, "sigmoid for data from 0 to 1, or linear; none: sigmoid for images, linear for rows"
    )
    loss: Literal["bce", "mse"] | None = setting(
        None, "likelihood: bce Bernoulli, mse Gaussian; none: bce with sigmoid, mse with linear output"
    )
    variance: float | None = setting(
        None, "variance of the Gaussian likelihood on the data's scale; none: learned", low=1e-12
    )
    beta: float = setting(1.0, "weight of the divergence from the prior", low=0)
    warmup: float = setting(
        0.0, "share of the training over which that weight rises from 0 to beta", low=0, high=1
    )
    score_draws: int = setting(
        0, "draws of the code in an anomaly score; 0: its mean instead of draws", low=0
    )
    shift: float = setting(0.0, "images: shift samples at random by up to this share of a side",
                           low=0, high=0.5)  # fmt: skip
    rotation: float = setting(0.0, "images: turn samples at random by up to this many degrees",
                              low=0, high=180)  # fmt: skip
    epochs: int | None = setting(None, "epochs; none: 20, at least least_steps, at most some minutes", low=1)
    least_steps: int = setting(1000, "fewest steps, if epochs is none", low=1)
    batch_size: int = setting(128, "samples in a batch", low=1)
    keep_best: bool = setting(True, "end with the weights of the epoch whose training loss was least")


class Posterior(NamedTuple):
    """A diagonal normal distribution of codes for each sample, each (B, D)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """One draw for each sample, through which gradients flow (section 2.4).  # (B, D)"""
        return self.at(torch.randn_like(self.mean))

    def at(self, noise: Tensor) -> Tensor:
        """The codes that standard normal ``noise`` stands for."""
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def kl(self) -> Tensor:
        """The divergence from the standard normal prior in nats (appendix B).  # (B,)"""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(1)


class VAE(Encoder):
    """Variational autoencoder (Kingma & Welling 2014); the code is the posterior's mean.

    Encoder: for images (C, H, W) a 3x3 convolution of stride 2 and ReLU for each width of ``filters``,
    sides that are odd rounded up; then, and for rows alone, a dense layer and ReLU for each width of
    ``hidden``, and one layer each to mean and log-variance. Decoder: the same backwards, with 4x4
    transposed convolutions of stride 2, cropped to the size that the encoder's map had.

    Raises InvalidSetting for a Bernoulli likelihood of a linear output.
    """

    Config: ClassVar[type[VAEConfig]] = VAEConfig
    variance: Tensor  # (), of the Gaussian likelihood

    def __init__(self, config: VAEConfig, shape: Size) -> None:
        super().__init__(config, shape)
        self.config, self.shape, self.latent_dim = config, shape, config.latent_dim
        images = len(shape) == 3
        self.output = config.output or ("sigmoid" if images else "linear")
        self.likelihood = config.loss or ("bce" if self.output == "sigmoid" else "mse")
        if self.likelihood == "bce" and self.output == "linear":
            raise InvalidSetting("encoder.loss=bce needs probabilities, that is encoder.output=sigmoid.")
        filters = config.filters if images else ()
        self.sizes = [tuple(math.ceil(s / 2**i) for s in shape[1:]) for i in range(len(filters) + 1)]
        self.map = (filters[-1], *self.sizes[-1]) if filters else shape  # beside the dense layers
        channels, dense = [*shape[:1], *filters], [math.prod(self.map), *config.hidden]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(channels))
        self.flat = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dense))
        self.mean = nn.Linear(dense[-1], config.latent_dim)
        self.log_variance = nn.Linear(dense[-1], config.latent_dim)
        self.wide = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([config.latent_dim, *dense[::-1]]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(channels[::-1]))
        self.inputs = Standardise(shape)
        self.register_buffer("variance", torch.tensor(config.variance or 1.0))
        for layer in (m for m in self.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)):
            if isinstance(layer, nn.ConvTranspose2d):  # a value of its output has 2x2 of its 4x4 weights
                nn.init.normal_(layer.weight, std=math.sqrt(2 / (4 * layer.in_channels)))
            else:
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, FIRST_LOG_VARIANCE)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of samples (B, *shape): the means of their posteriors."""
        return self.posterior(x).mean

    def posterior(self, x: Tensor) -> Posterior:
        """q(z|x) of samples (B, *shape)."""
        h = self.inputs(x)
        if self.down:
            h = h.to(memory_format=torch.channels_last)  # faster on CPUs
        for layer in self.down:
            h = F.relu(layer(h))
        h = h.flatten(1)
        for layer in self.flat:
            h = F.relu(layer(h))
        with torch.autocast(h.device.type, enabled=False):  # in full precision for clusterer and bound
            h = h.float()
            return Posterior(self.mean(h), self.log_variance(h).clamp(*LOG_VARIANCE))

    def decode(self, z: Tensor) -> Tensor:
        """Samples (B, *shape) on the data's own scale from codes (B, D): the likelihood's means."""
        y = self._decode(z)
        return y.sigmoid() if self.output == "sigmoid" else self.inputs.inverse(y)

    def generate(self, count: int, generator: torch.Generator) -> Tensor:
        """Samples (count, *shape) decoded from draws of the prior, which ``generator`` makes on the CPU."""
        z = torch.randn(count, self.latent_dim, generator=generator)
        with torch.no_grad():
            return self.decode(z.to(self.variance.device))

    def augment(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) shifted and turned at random, as far as the settings say."""
        return random_affine(x, self.config.shift, self.config.rotation) if len(self.shape) == 3 else x

    def _decode(self, z: Tensor) -> Tensor:
        """What the output's function is applied to: logits, or standardised samples."""
        h, last = z, len(self.wide) + len(self.up) - 1
        for i, layer in enumerate(self.wide):
            h = layer(h) if i == last else F.relu(layer(h))
        h = h.unflatten(1, self.map)  # type: ignore[no-untyped-call]
        if self.up:
            h = h.to(memory_format=torch.channels_last)
        for i, layer in enumerate(self.up):
            height, width = self.sizes[-2 - i]
            h = layer(h)[:, :, :height, :width]
            h = h if len(self.wide) + i == last else F.relu(h)
        return h

    def reconstruction(self, x: Tensor, z: Tensor, *, learn: bool = False) -> Tensor:
        """-log p(x|z) in nats of samples (B, *shape) given codes (B, D).  # (B,)

        Grey values from 0 to 1 count as probabilities under the Bernoulli likelihood. learn: whether a
        variance that is not stated follows the mean squared error, which is where the Gaussian
        likelihood is greatest (Rybkin et al. 2021, section 3.2).
        """
        y = self._decode(z).float()
        if self.likelihood == "bce":
            return F.binary_cross_entropy_with_logits(y, x, reduction="none").flatten(1).sum(1)
        if self.output == "sigmoid":
            y = y.sigmoid()
        else:
            y, x = self.inputs.inverse(y), self.inputs.inverse(self.inputs(x))  # no value further out
        error = (y - x).square().flatten(1)
        if learn and self.config.variance is None:
            least = LEAST_VARIANCE * self.inputs.deviation.square().mean()
            self.variance.lerp_(torch.maximum(error.detach().mean(), least), FOLLOWING)
        variance = self.variance.clone()  # the buffer changes at the next batch
        return 0.5 * (error / variance + variance.log() + LOG_2PI).sum(1)

    @torch.no_grad()
    def anomaly_score(self, x: Tensor) -> Tensor:
        """The negative evidence lower bound in nats of samples (B, *shape).  # (B,)

        The expectation over codes is taken at the posterior's mean, or over ``score_draws`` draws whose
        noise is the same for every sample and at every call (An & Cho 2015).
        """
        posterior = self.posterior(x)
        draws = self.config.score_draws
        if not draws:
            return self.reconstruction(x, posterior.mean) + posterior.kl()
        noise = torch.randn(draws, self.latent_dim, generator=torch.Generator().manual_seed(0))
        total = torch.zeros(len(x), device=x.device)
        for row in noise.to(x.device):
            total += self.reconstruction(x, posterior.at(row))
        bound: Tensor = total / draws + posterior.kl()
        return bound

    def fit(self, data: Data, run: Run) -> Self:
        """Maximise the evidence lower bound of the samples; stage ``reconstruct``.

        Raises InvalidData for a sigmoid output and values outside 0 to 1.
        """
        c = self.config
        if self.output == "sigmoid":
            data.check_range("a sigmoid output gives 0 to 1; say -s encoder.output=linear.")
        self.inputs.fit(data)
        if self.likelihood == "mse":
            self.variance.fill_(c.variance or float(self.inputs.deviation.square().mean()))
        warmup = WarmUp(c.warmup)
        extensions: list[Extension] = [warmup] if c.warmup else []
        if c.keep_best:  # a loss whose weight still rises is no measure
            extensions.append(BestSnapshot("bound" if c.warmup else "loss", restore=True))
        run.learn(
            "reconstruct", lambda batch: self.loss(batch, warmup.share), self, data, c, usual=20, passes=2,
            extensions=extensions, falling=not c.warmup,
        )  # fmt: skip
        return self

    def loss(self, batch: Batch, share: float = 1.0) -> Tensor:
        """The negative bound in nats, a mean over samples, with one draw of the code for each (eq. 10).

        share: of ``beta``, the divergence's weight (Higgins et al. 2017), during the warm-up.
        """
        x = self.augment(batch.x)
        posterior = self.posterior(x)
        reconstruction = self.reconstruction(x, posterior.sample(), learn=True).mean()
        kl = posterior.kl().mean()
        report({"reconstruction": reconstruction, "kl": kl})
        if self.config.warmup:
            report({"bound": reconstruction + self.config.beta * kl})
        loss: Tensor = reconstruction + share * self.config.beta * kl
        return loss


class WarmUp(Extension):
    """Lets ``share`` rise evenly from 0 to 1 over the first ``part`` of a training."""

    priority = EDITOR

    def __init__(self, part: float) -> None:
        self.part, self.share = part, 1.0

    def initialize(self, trainer: Trainer) -> None:
        self(trainer)

    def __call__(self, trainer: Trainer) -> None:
        total, epoch = trainer.total_iterations, trainer.updater.epoch_length
        assert total is not None, "run.learn gives a length"
        self.share = min(1.0, trainer.iteration / (self.part * (total // epoch) * epoch))
