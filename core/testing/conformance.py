"""Checks that hold for every component of a kind, on tiny data. Each raises AssertionError."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contract import config as configs
from ..contract.abilities import Decodes
from ..contract.interfaces import Encoder, Result, Storage
from ..contract.registry import Registry, installed
from ..data.data import Data, Size, truth_of
from ..engine.checkpoint import seed_everything
from ..run.run import Run
from ..toolbox.inference import assign, embed

SAMPLES, CLASSES = 60, 3


def tiny_data(shape: Size = (1, 8, 8)) -> Data:
    """Three separated groups of 20 samples in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % CLASSES
    centers = torch.rand(CLASSES, *shape, generator=generator)
    noise = 0.02 * torch.randn(SAMPLES, *shape, generator=generator)
    x = (centers[labels] + noise).clamp(0, 1)
    return Data(x, "tiny data for checks", revealed=truth_of(labels.numpy()))


def check_encoder(
    name: str, folder: Path, *, shape: Size = (1, 8, 8), registry: Registry | None = None, **settings: Any
) -> None:
    """Fit, embed, decode where it can, save and load, refit: shapes, finiteness, equal bits."""
    data = tiny_data(shape)
    registry = registry or installed()
    cls, entry = registry.load("encoder", name), registry.find("encoder", name)
    seen = data if entry.component.supervised else data.seal()

    def fitted(where: str) -> Encoder:
        run = Run(folder / where, epochs_scale=0.05, quiet=True, registry=registry)
        seed_everything(run.seed_for("weights"))
        encoder: Encoder = cls(configs.build(cls.Config, settings, "encoder", registry), shape)
        assert encoder.fit(seen, run) is encoder, "fit returns self"
        return encoder

    encoder = fitted("first")
    z = embed(encoder, data)
    assert z.shape == (SAMPLES, encoder.latent_dim), f"codes are (N, latent_dim), not {tuple(z.shape)}"
    assert z.dtype == torch.float32
    assert torch.isfinite(z).all(), "codes are finite"
    assert torch.allclose(embed(encoder, data, batch_size=7), z, atol=1e-4), (
        "in eval mode a code does not depend on the batch it is in"
    )
    assert torch.equal(embed(fitted("second"), data), z), "the same seed gives the same bits"
    again = cls(configs.build(cls.Config, settings, "encoder", registry), shape)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(embed(again, data), z), "state_dict keeps everything that forward needs"
    if isinstance(encoder, Decodes):
        with torch.no_grad():
            assert encoder.decode(z[:5]).shape == (5, *shape), "decode gives samples"


def check_clusterer(
    name: str, folder: Path, *, encoder: str = "sdae", registry: Registry | None = None, **settings: Any
) -> None:
    """Fit on an encoder's codes: rows that sum to 1, labels in range, save and load, equal bits."""
    data = tiny_data().seal()
    registry = registry or installed()
    cls = registry.load("clusterer", name)
    encoder_class = registry.load("encoder", encoder)

    def fitted(where: str) -> tuple[Any, Any]:
        run = Run(folder / where, epochs_scale=0.05, quiet=True, registry=registry)
        seed_everything(run.seed_for("weights"))
        made = encoder_class(configs.build(encoder_class.Config, {}, "encoder", registry), data.shape)
        made.fit(data, run.child("encoder"))
        clusterer = cls(configs.build(cls.Config, settings, "clusterer", registry), CLASSES, made.latent_dim)
        assert clusterer.fit(made, data, run.child("clusterer")) is clusterer, "fit returns self"
        return made, clusterer

    made, clusterer = fitted("first")
    z = embed(made, data)
    with torch.no_grad():
        q = clusterer(z)
    k = clusterer.n_clusters
    assert k == CLASSES or cls.finds_n_clusters, f"n_clusters is {k} after fit, but {CLASSES} were asked for"
    assert q.shape == (SAMPLES, k), f"soft assignments are (B, K), not {tuple(q.shape)}"
    assert torch.allclose(q.sum(1), torch.ones(SAMPLES), atol=1e-4), "rows sum to 1"
    found = assign(clusterer, z)  # which raises for labels and soft assignments that none may give
    sure = found.confidence[found.labels >= 0]
    assert 0 < float(sure.min()) <= float(sure.max()) <= 1 + 1e-5
    again_encoder, again = fitted("second")
    assert np.array_equal(assign(again, embed(again_encoder, data)).labels, found.labels), (
        "same seed, same labels"
    )


def check_evaluator(name: str, folder: Path, *, registry: Registry | None = None, **settings: Any) -> None:
    """Evaluate labelled and unlabelled results: finite numbers by name, no complaint without truth."""
    data = tiny_data()
    registry = registry or installed()
    cls = registry.load("evaluator", name)
    encoder_class, clusterer_class = registry.load("encoder", "sdae"), registry.load("clusterer", "kmeans")
    run = Run(folder, epochs_scale=0.05, quiet=True, registry=registry)
    encoder = encoder_class(configs.build(encoder_class.Config, {}, "encoder", registry), data.shape)
    encoder.fit(data.seal(), run.child("encoder"))
    clusterer = clusterer_class(
        configs.build(clusterer_class.Config, {}, "clusterer", registry), CLASSES, encoder.latent_dim
    )
    clusterer.fit(encoder, data.seal(), run.child("clusterer"))
    z = embed(encoder, data)
    where = assign(clusterer, z)
    for truth in (data.truth, None):
        result = Result(
            **vars(where), z=z.numpy(), truth=truth, data=data.seal(), encoder=encoder,
            clusterer=clusterer, folder=folder, seed=0, quiet=True,
        )  # fmt: skip
        for key, value in cls(configs.build(cls.Config, settings, name, registry)).evaluate(result).items():
            known = value is not None and not isinstance(value, str)
            assert not known or np.isfinite(value).all(), f"score {key} is finite"


def check_dataset(name: str, storage: Storage, *, registry: Registry | None = None, **settings: Any) -> None:
    """Load: at least two samples, uint8, float16 or float32, finite, as many classes, equal bits twice."""
    registry = registry or installed()
    cls = registry.load("dataset", name)
    first, second = (cls(configs.build(cls.Config, settings, name, registry)).load(storage) for _ in range(2))
    first.check(2)
    assert first.x.dtype in (
        torch.uint8,
        torch.float16,
        torch.float32,
        *([torch.float64] if first.raw else []),
    )
    assert math.prod(first.shape) > 0
    assert first.fingerprint() == second.fingerprint(), "loading twice gives the same data"
    assert first.truth is None or len(first.truth.labels) == len(first)
