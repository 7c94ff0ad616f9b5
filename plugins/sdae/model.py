"""The stacked denoising autoencoder: its network, and its training layer by layer, then whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import Data, Encoder, Run, Size, Standardise, Training, embed, setting
from ...core.engine import Batch
from ...core.toolbox.length import affordable_steps
from ..views import random_affine
from .noise import mask

INIT_SAMPLES = 4096  # enough to know a layer's scale
USUAL_EPOCHS = 60  # of the whole stack
LAYER_PART = 3  # a layer is trained for a third of what the whole stack is
WIDE = 784  # values of a sample; more count as so many less each


@dataclass(frozen=True)
class SDAEConfig(Training):
    hidden: tuple[int, ...] = setting((500, 500, 2000), "widths of the hidden layers", low=1)
    latent_dim: int = setting(10, "dimensions of the code", low=1)
    noise: float = setting(0.2, "share of a layer's inputs and hidden units masked", low=0, high=0.9)
    shift: float = setting(
        0.06, "images only: shift samples at random by up to this share of a side", low=0, high=0.5
    )
    rotation: float = setting(
        10.0, "images only: turn samples at random by up to this many degrees", low=0, high=180
    )
    restore: bool = setting(
        False, "images only: the whole stack learns samples as they were before they were shifted and turned"
    )
    finetune_noise: float = setting(
        0.2, "share of the inputs masked while the whole stack trains", low=0, high=0.9
    )
    layer_epochs: int | None = setting(
        None,
        "epochs of pretraining for each layer, 0 to leave it out; none: 20, or a third of least_steps",
        low=0,
    )
    layer_iterations: int = setting(0, "iterations for each layer instead of epochs", low=0)
    epochs: int | None = setting(
        None,
        "epochs of the whole stack, 0 to leave it out; none: 60, at least least_steps, at most some minutes",
        low=0,
    )
    least_steps: int = setting(480, "fewest steps of the whole stack, if epochs is none", low=1)
    iterations: int = setting(0, "iterations of the whole stack instead of epochs", low=0)
    inputs: Literal["standard", "scaled"] = setting(
        "standard",
        "samples of mean 0 and deviation 1, strokes on black only scaled; or all only "
        "scaled to mean square 1, as in the paper",
    )
    weights: Literal["scaled", "normal"] = setting(
        "scaled", "initial weights: each layer's output scaled to variance 1, or N(0, 0.01^2)"
    )
    code_scale: float | None = setting(
        5.0, "root of the codes' total variance after training; none: as trained", low=0
    )

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {},
        "paper": {
            "layer_iterations": 50_000,
            "iterations": 100_000,
            "optimizer": "sgd",
            "lr": 0.1,
            "schedule": "steps",
            "inputs": "scaled",
            "weights": "normal",
            "code_scale": None,
            "finetune_noise": 0.0,
            "shift": 0.0,
            "rotation": 0.0,
        },
    }


class SDAE(Encoder):
    """Stacked denoising autoencoder (Vincent et al. 2010; Xie et al. 2016, section 3.2).

    Dense layers with ReLU, except at the code and at the reconstruction of the data. Samples are
    standardised and flattened; images that are mostly black, and with preset ``paper`` all samples, are only
    scaled, so that (1/d)|x|^2 = 1 on average (section 4.3).
    """

    Config: ClassVar[type[SDAEConfig]] = SDAEConfig

    def __init__(self, config: SDAEConfig, shape: Size) -> None:
        super().__init__(config, shape)
        self.config, self.shape = config, shape
        self.latent_dim = config.latent_dim
        widths = [math.prod(shape), *config.hidden, config.latent_dim]
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.encoders = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.decoders = nn.ModuleList(nn.Linear(b, a) for a, b in pairs)  # decoders[i] undoes encoders[i]
        self.inputs = Standardise(shape)
        for layer in [*self.encoders, *self.decoders]:
            if config.weights == "normal":
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.gain = min(1.0, WIDE / widths[0]) if config.inputs == "standard" else 1.0
        with torch.no_grad():
            self.encoders[0].get_parameter("weight").div_(self.gain)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of samples (B, *shape)."""
        return self._encode(self._see(x), len(self.encoders))

    def decode(self, z: Tensor) -> Tensor:
        """Samples (B, *shape) on the data's own scale from codes (B, D)."""
        y = self._decode(z).unflatten(1, self.shape)  # type: ignore[no-untyped-call]
        return self.inputs.inverse(y)

    def augment(self, x: Tensor) -> Tensor:
        """Samples (B, *shape) shifted and turned at random, as far as the settings say."""
        if len(self.shape) != 3:
            return x
        return random_affine(x, self.config.shift, self.config.rotation, padding="border")

    def _see(self, x: Tensor) -> Tensor:
        """Standardised samples (B, d) of samples (B, *shape)."""
        h: Tensor = self.inputs(x)
        return h.flatten(1)

    def _encode(self, h: Tensor, depth: int) -> Tensor:
        for i in range(depth):
            h = self._up(i, h)
        return h

    def _decode(self, h: Tensor) -> Tensor:
        for i in reversed(range(len(self.decoders))):
            h = self._down(i, h)
        return h

    def _up(self, i: int, h: Tensor) -> Tensor:
        if i == 0:
            h = h * self.gain
        if i == len(self.encoders) - 1:  # the code: linear, and in full precision for the clusterer
            with torch.autocast(h.device.type, enabled=False):
                code: Tensor = self.encoders[i](h.float())
            return code
        return F.relu(self.encoders[i](h))

    def _down(self, i: int, h: Tensor) -> Tensor:
        h = self.decoders[i](h)
        return F.relu(h) if i > 0 else h

    def fit(self, data: Data, run: Run) -> Self:
        """Pretrain each layer on the clean codes of the one before, then train the whole stack.

        Stages ``layer0``, ``layer1``, ... and ``finetune``.
        """
        c = self.config
        if c.inputs == "standard":
            self.inputs.fit(data)
            self.inputs.keep_black()
        else:
            self.inputs.deviation.fill_(max(data.mean_square(), 1e-12) ** 0.5)
        if c.layer_iterations or c.layer_epochs != 0:
            for i in range(len(self.encoders)):
                self._pretrain(i, data, run)
        if c.iterations or c.epochs != 0:
            self._train("finetune", self, self._loss, c.iterations, c.epochs, data, run)
        if c.code_scale is not None:
            self._rescale_code(c.code_scale, embed(self, data, autocast=run.autocast))
        return self

    def _pretrain(self, i: int, data: Data, run: Run) -> None:
        c = self.config
        pair = nn.ModuleList([self.encoders[i], self.decoders[i]])
        if c.weights == "scaled":
            self._scale_weights(i, data)

        def loss(batch: Batch) -> Tensor:
            with torch.no_grad():
                target = self._encode(self._see(self.augment(batch.x)), i)
                noisy = mask(target, c.noise)
            hidden = self._up(i, noisy)
            return _mean_square(self._down(i, mask(hidden, c.noise)) - target)

        self._train(f"layer{i}", pair, loss, c.layer_iterations, c.layer_epochs, data, run)

    def _loss(self, batch: Batch) -> Tensor:
        c = self.config
        seen = self._see(self.augment(batch.x))
        z = self._encode(mask(seen, c.finetune_noise), len(self.encoders))
        return _mean_square(self._decode(z) - (self._see(batch.x) if c.restore else seen))

    def _train(
        self,
        stage: str,
        model: nn.Module,
        loss: Any,
        iterations: int,
        epochs: int | None,
        data: Data,
        run: Run,
    ) -> None:
        c, part = self.config, 1 if model is self else LAYER_PART
        run.learn(
            stage, loss, model, data,
            replace(c, epochs=epochs, least_steps=-(-c.least_steps // part)),
            usual=USUAL_EPOCHS // part,
            most=affordable_steps(self, data.slice(0, 2), c.batch_size, passes=2) // part,
            length=(run.scaled(iterations), "iteration") if iterations else None,
        )  # fmt: skip

    @torch.no_grad()
    def _scale_weights(self, i: int, data: Data) -> None:
        """Start layer i with unit mean square of its output and its decoder near the mean of its input.

        Without this a narrow schedule learns little, as the codes shrink from layer to layer; in
        the spirit of Mishkin & Matas 2016, All you need is a good init.
        """
        index = (
            torch.linspace(0, len(data) - 1, min(len(data), INIT_SAMPLES)).long().clamp_(max=len(data) - 1)
        )
        target = self._encode(self._see(data.batch(index)), i)
        hidden = self._up(i, target)
        if i == len(self.encoders) - 1:
            hidden = hidden - hidden.mean(0)
        self.encoders[i].get_parameter("weight").div_(hidden.square().mean().sqrt().clamp_min(1e-6))
        self.decoders[i].get_parameter("bias").copy_(target.mean(0))
        self.decoders[i].get_parameter("weight").mul_(0.1)

    @torch.no_grad()
    def _rescale_code(self, scale: float, z: Tensor) -> None:
        """Give the codes (N, D) the total variance scale^2; the decoder is changed to match."""
        factor = scale / z.var(0, correction=0).sum().sqrt().clamp_min(1e-6)
        self.encoders[-1].get_parameter("weight").mul_(factor)
        self.encoders[-1].get_parameter("bias").mul_(factor)
        self.decoders[-1].get_parameter("weight").div_(factor)


def _mean_square(difference: Tensor) -> Tensor:
    return difference.float().square().mean()
