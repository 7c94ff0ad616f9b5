"""SimCLR: an encoder of any kind as backbone, a head that only training has, and how they learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import (
    Data,
    Decodes,
    Encoder,
    InvalidData,
    InvalidSetting,
    Part,
    Run,
    Size,
    Standardise,
    Training,
    evaluating,
    part,
    setting,
)
from ...core.engine import Batch, OptimizerName, report
from ..views import random_view
from .loss import nt_xent

SIDE = 32  # pixels at which a small network on a CPU looks at photographs
SMALL: Mapping[str, Any] = {
    "backbone": {"name": "cae", "filters": [32, 64, 128], "hidden": 256, "latent_dim": 128},
}


@dataclass(frozen=True)
class SimCLRConfig(Training):
    backbone: Part = part(
        "encoder",
        "resnet",
        "encoder of images whose output is the code; the settings of its own training have no effect",
    )
    side: int | None = setting(
        None, "shorter side that images are brought to for the network; none: as they are", low=4
    )
    standardise: bool = setting(
        True,
        "images of mean 0 and deviation 1 for the network; not for strokes on black, whose codes part then",
    )
    hidden: int = setting(512, "width of the projection head's hidden layer", low=1)
    projection: int = setting(128, "dimensions in which views are compared", low=2)
    temperature: float = setting(
        0.1, "of the loss: the lower, the more the nearest views matter; try 0.5 on small sets", low=1e-3
    )
    chunk: int = setting(0, "rows of the similarities held at a time, to save memory; 0: all", low=0)
    crop: float = setting(0.2, "least share of an image that a view shows; 1: all of it", low=0.01, high=1)
    flip: bool = setting(True, "exchange left and right in half of the views; not for digits and letters")
    jitter: float = setting(0.5, "strength of the changes of brightness and colour; 0: none", low=0, high=1)
    grey: float = setting(0.2, "share of the views without colour", low=0, high=1)
    blur: float = setting(0.0, "share of the views that are blurred; 0.5 for large photos", low=0, high=1)
    shift: float = setting(0.0, "shift views at random by up to this share of a side", low=0, high=0.5)
    rotation: float = setting(0.0, "turn views at random by up to this many degrees", low=0, high=180)
    zoom: float = setting(0.0, "enlarge or shrink views at random by up to this share", low=0, high=0.9)
    epochs: int | None = setting(None, "epochs; none: 100, at least least_steps, at most some minutes", low=1)
    least_steps: int = setting(800, "fewest steps, if epochs is none", low=1)
    batch_size: int = setting(256, "most samples in a batch, two views of each", low=2)
    optimizer: OptimizerName = setting("adamw", "optimiser")
    weight_decay: float = setting(1e-4, "weight decay", low=0)
    decoder_epochs: int = setting(
        0, "then epochs in which the backbone's decoder learns to invert the codes, for idec; 0: none", low=0
    )
    decoder_lr: float = setting(1e-3, "initial learning rate of the decoder's Adam", low=0)

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # digits and letters: what they show depends on the side and on where strokes are, not on colour
        "digits": {
            **SMALL,
            "standardise": False,
            "temperature": 0.5,
            "crop": 0.7,
            "flip": False,
            "jitter": 0.0,
            "grey": 0.0,
            "shift": 0.1,
            "rotation": 15.0,
            "zoom": 0.15,
        },
        # appendix B.9, with the crops and the optimiser of Van Gansbeke et al. 2020
        "paper": {"optimizer": "sgd", "lr": 0.4, "batch_size": 512, "epochs": 500},
        "tutorial": {"batch_size": 512, "epochs": 50},
        # the network of the paper at the length that its data allow
        "resnet": {},
    }


class SimCLR(Encoder):
    """Contrastive learning (Chen et al. 2020): two views of one image get near codes, others far ones.

    The code is the backbone's output; the projection head, a hidden layer with ReLU and one to where
    views are compared, has its use in training alone (section 4.2). The backbone's own ``fit`` is never
    called, so no labels are needed for one that learns from labels.

    ``view`` is what training sees, for a clusterer that compares views as well. There is no ``augment``:
    DEC, which would train on these views, sorted digits worse with them. ``decode`` is there where
    ``decoder_epochs`` trains a decoder that the backbone has.

    Raises InvalidData for samples that are no images, InvalidSetting for itself as backbone and for a
    decoder that the backbone has not, and what the backbone raises.
    """

    Config: ClassVar[type[SimCLRConfig]] = SimCLRConfig

    @classmethod
    def defaults(cls, shape: Size, n_samples: int) -> Mapping[str, Any]:
        """A small convolutional network at 32 pixels, which two CPU cores train in minutes; views of grey
        images as of digits, of colour images as of photographs."""
        if len(shape) != 3:
            return {}
        if shape[0] == 1:
            return SimCLRConfig.PRESETS["digits"]
        return {**SMALL, "side": SIDE if min(shape[1:]) > SIDE else None}

    decode: Callable[[Tensor], Tensor]  # codes (B, D) to images, only with ``decoder_epochs``

    def __init__(self, config: SimCLRConfig, shape: Size) -> None:
        super().__init__(config, shape)
        if len(shape) != 3:
            raise InvalidData(
                "encoder 'simclr' takes images (channels, height, width), and a sample of these data has the "
                f"shape {tuple(shape)}; take an encoder of rows, such as sdae."
            )
        if config.backbone.name == "simclr":
            raise InvalidSetting(
                "encoder.backbone is 'simclr' itself; name another encoder of images, such as resnet or cae."
            )
        self.config, self.size = config, shape[1:]
        if config.side is not None and config.side < min(self.size):
            factor = config.side / min(self.size)
            self.size = (round(self.size[0] * factor), round(self.size[1] * factor))
        self.backbone: Encoder = config.backbone.make((shape[0], *self.size))
        self.latent_dim = self.backbone.latent_dim
        if config.decoder_epochs:
            if not isinstance(self.backbone, Decodes):
                raise InvalidSetting(
                    f"encoder.decoder_epochs is {config.decoder_epochs}, but the backbone "
                    f"'{config.backbone}' has no decoder to train; say 0, or name one that has, such as cae."
                )
            self.decode = self._decode
            self._shown = shape[1:]
        self.inputs = Standardise(shape)
        self.head = nn.Sequential(
            nn.Linear(self.latent_dim, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.projection),
        )
        # at strength 0.5 the paper's changes for small images: 0.4, 0.4, 0.4, and 0.1 of hue
        self._draw_view = random_view(
            shift=config.shift, rotation=config.rotation, zoom=config.zoom, crop=config.crop,
            flip=config.flip, jitter=0.8 * config.jitter, grey=config.grey, blur=config.blur, size=self.size,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W), or of views of them at the network's size."""
        code: Tensor = self.backbone(self.inputs(self._shrink(x)))
        return code

    def view(self, x: Tensor) -> Tensor:
        """Random views of images (B, C, H, W) at the network's size, as the settings say."""
        return self._draw_view(x if self.config.crop < 1 else self._shrink(x))

    def _shrink(self, x: Tensor) -> Tensor:
        """Images at the network's size, each value the mean of what it stands for."""
        return x if x.shape[2:] == self.size else F.adaptive_avg_pool2d(x, self.size)

    def _decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, D)."""
        assert isinstance(self.backbone, Decodes)
        x = self.backbone.decode(z)
        return x if x.shape[2:] == self._shown else F.interpolate(x, self._shown, mode="bilinear")

    def fit(self, data: Data, run: Run) -> Self:
        """Learn to tell which two views show the same image, in a stage ``contrast``; then the decoder's.

        Raises InvalidData for values outside 0 to 1, of which there are no views.
        """
        c = self.config
        data.check_range(
            "the views of encoder 'simclr' are of images with values from 0 to 1; bring them there, or save "
            "them as bytes."
        )
        if c.standardise:
            self.inputs.fit(data)
        # even: a last batch of few views would have few negatives and poor statistics
        batches = run.batches(data, c.batch_size, "contrast", even=True)
        called = {"accuracy": "views that find their other"}
        run.learn("contrast", self.loss, self, batches, c, usual=100, passes=2, called=called)
        if c.decoder_epochs:
            self._fit_decoder(data, run)
        return self

    def _fit_decoder(self, data: Data, run: Run) -> None:
        """Learn to reconstruct images from their codes, which stay as they are, in a stage ``decoder``."""
        c = self.config

        def loss(batch: Batch) -> Tensor:
            with evaluating(self.backbone):  # without gradient: only the decoder learns
                z = self(batch.x)
            return F.mse_loss(self.decode(z).float(), batch.x)

        batches = run.batches(data, c.batch_size, "decoder", even=True)
        own = replace(c, epochs=c.decoder_epochs, optimizer="adam", lr=c.decoder_lr, weight_decay=0.0)
        run.learn("decoder", loss, self, batches, own)

    def loss(self, batch: Batch) -> Tensor:
        """NT-Xent of two views of each sample, all through the network at once."""
        c = self.config
        views = torch.cat((self.view(batch.x), self.view(batch.x)))  # (2B, *shape)
        a, b = self.head(self(views)).chunk(2)
        loss, accuracy = nt_xent(a, b, c.temperature, chunk=c.chunk)
        report({"accuracy": accuracy})
        return loss
