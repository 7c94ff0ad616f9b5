"""The models of a run as they begin."""

from __future__ import annotations

import hashlib

import torch

from ..contract.interfaces import Clusterer, Encoder
from ..data.data import Data
from ..engine import checkpoint
from ..errors import BrokenPlugin, InvalidData
from ..words import one_line
from .boundary import called
from .plan import Plan
from .run import Run


def make_encoder(plan: Plan, data: Data, work: Run, start: Encoder | None) -> Encoder:
    """The encoder as it begins, with the weights of ``start``; it may refuse the shape of the samples."""
    checkpoint.seed_everything(work.child("encoder").seed_for("weights"))
    with called(plan.encoder.source, "its constructor"):
        encoder: Encoder = plan.encoder.cls(plan.encoder.config, data.shape)
    if type(getattr(encoder, "latent_dim", None)) is not int:
        raise BrokenPlugin(
            f"{plan.encoder.source} does not say how many values its codes have: its constructor must set "
            "self.latent_dim to an int."
        )
    if start is not None:
        try:
            encoder.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise InvalidData(
                f"the weights of the encoder that was given do not fit samples of shape {data.shape}: "
                f"{one_line(error)}"
            ) from error
    return encoder.to(work.device)


def digest_of(model: Encoder) -> str:
    """What tells weights from others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def make_clusterer(plan: Plan, n_clusters: int, encoder: Encoder) -> Clusterer:
    """The clusterer as it begins."""
    with called(plan.clusterer.source, "its constructor"):
        clusterer: Clusterer = plan.clusterer.cls(plan.clusterer.config, n_clusters, encoder.latent_dim)
    return clusterer
