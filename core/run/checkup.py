"""What is ill after a stage of training, from what was measured: the cause, and what to do about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.abilities import Decodes
from ..contract.assignment import NOISE
from ..contract.interfaces import Clusterer, Encoder
from ..data.data import Data
from ..engine import Trainer, Updater
from ..engine.checkpoint import rng_state, set_rng_state
from ..engine.extensions.log import LOG_NAME
from ..errors import BrokenPlugin, TrainingFailed
from ..toolbox.health import measure
from ..toolbox.inference import evaluating

LOOKED_AT = 2048  # samples whose codes are looked at
IDLE = 0.9  # share of a layer's units without a gradient from which on it is said
RISE = 0.1  # of the first epoch's loss, by which the last one's may be above it
FLAT = 1e-6  # variance of the codes, as a share of their mean square, below which they are all the same
LARGEST = 1e15  # of a code: its square, summed over many, is far from overflowing still
LINE = 1e-4  # variance of the codes beside their first axis, as a share of all of it
TIGHT = 0.01  # variance within two groups, as a share of all of it, below which they are tight
MUCH, MOST = 0.5, 0.9  # shares of noise from which on it is said, and from which on it is ill
LEFT = 0.5  # share of the effective clusters that the codes came with, below which clusters were lost


@dataclass(frozen=True)
class Finding:
    """text: what is ill and why, with figures, and what to do. ill: whether the result is not to be used."""

    text: str
    ill: bool = False


def look_at_stage(trainer: Trainer, *, falling: bool = True) -> list[Finding]:
    """Units that never act, and a loss that ended above its start.

    falling: whether the loss is of one target all along, so that it should have fallen.
    """
    found = look_at_units(trainer.updater, trainer.name)
    if falling:
        found += look_at_loss(trainer.out / LOG_NAME, trainer.name)
    return found


def look_at_units(updater: Updater, stage: str) -> list[Finding]:
    """Layers nearly all of whose units have no gradient from a batch: whatever they are shown, they are
    silent, and nothing teaches them any more.

    The models and the random generators are left as they were.
    """
    models = nn.ModuleList(updater.models.values())
    buffers = {name: value.clone() for name, value in models.named_buffers()}
    states = rng_state()
    try:
        with torch.enable_grad(), updater.autocast():
            loss = updater.loss(updater.batches[0])
        learned = {n: p for n, p in models.named_parameters() if p.requires_grad}
        given = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
    finally:
        set_rng_state(states)
        with torch.no_grad():
            for name, value in models.named_buffers():
                if name in buffers:
                    value.copy_(buffers[name])
    gradients = {n: g for n, g in zip(learned, given, strict=True) if g is not None}
    if not any(bool((g != 0).any()) for g in gradients.values()):
        return []  # a loss that nothing changes says nothing of units
    silent = {}
    for name, gradient in gradients.items():
        if gradient.ndim > 1:
            idle = (gradient.flatten(1) == 0).all(dim=1)
            bias = gradients.get(name.removesuffix("weight") + "bias")
            if bias is not None and bias.shape == idle.shape:
                idle &= bias == 0  # else only what the unit is shown is 0: the layer before is silent
            silent[name.removesuffix(".weight").partition(".")[2]] = float(idle.float().mean())
    most = max(silent.values(), default=0.0)
    if most < IDLE:
        return []
    layers = [layer for layer, share in silent.items() if share == most]  # no gradient passes a silent one
    where = f"layer {layers[0]}" if len(layers) == 1 else f"one of the layers {', '.join(layers)}"
    return [
        Finding(
            f"{stage}: {most:.0%} of the units of {where} never act any more, so what they could tell "
            "is lost; train with a lower learning rate, or bring the samples to mean 0."
        )
    ]


def look_at_loss(log: Path, stage: str) -> list[Finding]:
    """A last epoch whose loss is above the first one's."""
    try:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
    except (OSError, ValueError):
        return []
    if len(losses) < 2 or losses[-1] - losses[0] <= RISE * abs(losses[0]):
        return []
    best = int(np.argmin(losses))
    return [
        Finding(
            f"{stage}: the loss ended at {losses[-1]:.4g}, above its first epoch's {losses[0]:.4g} (least "
            f"{losses[best]:.4g}, in epoch {best + 1} of {len(losses)}): it was not learned but spoiled; "
            "lower the learning rate."
        )
    ]


def look_at_codes(encoder: Encoder, data: Data, part: str, autocast: Any) -> tuple[list[Finding], Tensor]:
    """Codes without spread or on a line, and reconstructions no better than the mean; the codes looked at.

    part: the encoder's name, for messages. At most ``LOOKED_AT`` evenly spaced samples are looked at.
    Raises TrainingFailed for codes that are not finite, which nothing can cluster.
    """
    index = torch.linspace(0, len(data) - 1, min(LOOKED_AT, len(data))).long()
    z, error, spread = [], 0.0, 0.0
    with evaluating(encoder):
        parts = [data.batch(i.to(data.x.device)) for i in torch.split(index, 256)]
        mean = torch.cat([x.flatten(1).sum(0, keepdim=True) for x in parts]).sum(0) / len(index)
        for x in parts:
            with autocast():
                codes = encoder(x)
                if isinstance(encoder, Decodes):
                    error += float((encoder.decode(codes).float() - x).square().sum())
            spread += float((x.flatten(1) - mean).square().sum())
            z.append(codes.float())
    codes = torch.cat(z)
    found = [*_spread(codes.double().cpu(), spread, part)]
    if not found and isinstance(encoder, Decodes) and error > spread > 0:
        found.append(
            Finding(
                f"{part} reconstructs samples no better than their mean does (error {error / spread:.2f} of "
                "theirs), so its codes say little of them; train it longer (encoder.epochs), or take another "
                "encoder."
            )
        )
    return found, codes


def _spread(z: Tensor, samples: float, part: str) -> list[Finding]:
    """z: (n, D) float64. samples: how much the samples themselves differ."""
    bad = int((~torch.isfinite(z)).any(dim=1).sum())
    if bad:
        raise TrainingFailed(
            f"{part} gives codes that are not finite for {bad} of {len(z)} samples: train it anew with a "
            "lower learning rate (encoder.lr), or with --precision float32."
        )
    largest = float(z.abs().max())
    if largest > LARGEST:
        raise TrainingFailed(
            f"{part} gives codes as large as {largest:.0e}, which nothing can cluster: it has "
            "diverged; train it anew with a lower learning rate (encoder.lr)."
        )
    centred = z - z.mean(dim=0)
    total = float(centred.square().sum())
    if samples == 0:
        return [Finding(f"all {len(z)} samples that were looked at are the same.", ill=True)]
    if total <= FLAT * float(z.square().sum()):
        return [
            Finding(
                f"{part} gives all samples the same code (they differ by {total / len(z):.1g} in the mean "
                "square), though the samples differ: it has collapsed; lower the learning rate (encoder.lr), "
                "train longer (encoder.epochs), or take another encoder.",
                ill=True,
            )
        ]
    if z.shape[1] > 1 and len(z) > 2:
        along = _along_a_line(centred)
        if along >= 1 - LINE and not _are_two(centred):
            return [
                Finding(
                    f"{part} puts all codes on one line ({along:.2%} of their variance), "
                    "where clusters can only lie side by side; lower the learning rate (encoder.lr), train "
                    "longer (encoder.epochs), or take another encoder.",
                    ill=True,
                )
            ]
    return []


def _along_a_line(centred: Tensor) -> float:
    """The share of the variance of codes (n, D) of mean 0 that lies in one direction."""
    axes = torch.linalg.eigvalsh(centred.T @ centred).clamp_min(0)
    return float(axes[-1] / axes.sum()) if float(axes.sum()) > 0 else 0.0


def _are_two(centred: Tensor) -> bool:
    """Whether codes (n, D) on a line are two tight groups, which always lie on one, parted by the widest gap
    along it, that are no line by themselves."""
    place = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    ordered = place.sort().values
    after = int(ordered.diff().argmax())
    left = place <= ordered[after]
    means = torch.stack([centred[~left].mean(dim=0), centred[left].mean(dim=0)])
    within = centred - means[left.long()]
    left_over = float(within.square().sum() / centred.square().sum())
    return left_over <= TIGHT and _along_a_line(within) < 1 - LINE


def effective_clusters(z: Tensor, n_clusters: int, seed: int) -> float:
    """How many clusters of equal size those of k-means on codes z (n, D) would be."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

    codes = z.cpu().numpy()
    most = min(n_clusters, len(np.unique(codes, axis=0)))
    if most < 2 or not np.isfinite(codes).all():
        return 1.0
    with threadpool_limits(1):  # more add in an order that differs from run to run
        labels = KMeans(most, n_init=3, random_state=seed % 2**32).fit_predict(codes)
    return measure(labels, np.ones(len(labels)), n_clusters).effective


def found_clusters(clusterer: Clusterer, name: str) -> int:
    """The number of clusters after ``fit``.

    Raises TrainingFailed where it is none, BrokenPlugin where it is no number.
    """
    n_clusters = clusterer.n_clusters
    if type(n_clusters) is not int:
        raise BrokenPlugin(
            f"{name} says after its fit that n_clusters is {n_clusters!r}; it must be an int: say int(...)."
        )
    if n_clusters < 1:
        raise TrainingFailed(
            f"{name} found no cluster, or its fit did not set n_clusters; see its settings with "
            f"`deepclust info {name}`."
        )
    return n_clusters


def look_at_clusters(
    labels: np.ndarray, n_clusters: int, before: float, codes_ill: bool, clusterer: str
) -> list[Finding]:
    """Clusters that are empty, or as good as lost beside those of k-means on the codes before.

    labels: (N,), -1 where a sample is in none. before: ``effective_clusters`` of the codes that the
    clusterer was given. codes_ill: whether these are ill themselves. clusterer: its name.
    """
    placed = labels[labels != NOISE]
    if not len(placed):
        return [Finding(f"{clusterer} put no sample into any cluster.", ill=True)]
    noise = 1 - len(placed) / len(labels)
    if noise > MUCH:
        return [
            Finding(
                f"{clusterer} left {noise:.0%} of the samples out of all clusters, as noise: its settings "
                f"(`deepclust info {clusterer}`) ask for denser groups than there are.",
                ill=noise > MOST,
            )
        ]
    if n_clusters == 1:
        return [Finding(f"{clusterer} found one cluster, with all samples that are no noise.", ill=True)]
    after = measure(placed, np.ones(len(placed)), n_clusters)
    lost = after.effective < LEFT * before
    if not after.empty and not lost:
        return []
    verb = "is" if after.empty == 1 else "are"
    what = (
        f"{after.empty} of {n_clusters} clusters {verb} empty"
        if after.empty
        else f"{n_clusters} clusters are as uneven as {after.effective:.1f} of equal size"
    )
    if codes_ill:
        why = "because the codes are ill: mend these first"
    elif lost:
        why = (
            f"though k-means finds {before:.1f} of equal size in the codes that {clusterer} was given: "
            f"{clusterer} lost them; lower clusterer.lr, or take --clusterer kmeans"
        )
    else:
        why = (
            f"and the codes themselves hold {before:.1f} of equal size: there may be fewer groups than were "
            "asked for; give fewer with --clusters, or let --clusters auto find out"
        )
    return [Finding(f"{what}, {why}.", ill=True)]
