"""The model of a run, opened where it is to be used, and whether it is what was trained."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from ..contract.registry import Registry, installed
from ..data.data import Data
from ..engine import checkpoint
from ..errors import BrokenPlugin
from ..toolbox.inference import evaluating
from ..words import counted
from . import bundle as bundles
from . import device as devices
from . import scores as scored
from .bundle import Bundle

CHECKED = 256  # samples
NEAR = 1e-3  # of the codes' deviation: weights in other places of memory may round otherwise
OTHERS = 0.02  # share of the labels


def open_model(path: Path, device: str = "auto", registry: Registry | None = None) -> Bundle:
    """The model of a run on a device that computes as it did for the run.

    Lines on standard error say which versions have changed since, and what made the run's result unhealthy.
    Raises as ``bundle.load``.
    """
    chosen = devices.choose_device(device)
    bundle = bundles.load(path, chosen, registry)
    devices.prepare(chosen)
    if changed := bundle.other_versions(registry):
        print(f"  '{path}' was made with {'; '.join(changed)}", file=sys.stderr)
    for reason in scored.reasons_of(path):
        print(f"Note: the result of '{path}' is unhealthy: {reason}", file=sys.stderr)
    return bundle


def check_kept(path: Path, made: Bundle, data: Data, registry: Registry | None = None) -> None:
    """Raise BrokenPlugin where the model in ``path``, opened again, is not the one that was trained.

    That is where it gives other codes, or from these other labels, of some samples of ``data``: then
    a part's ``state_dict`` lacks something that they depend on.
    """
    index = torch.linspace(0, len(data) - 1, min(CHECKED, len(data)), dtype=torch.float64).long()
    x, before = data.batch(index), checkpoint.rng_state()
    opened = bundles.load(path, made.centers.device, registry)
    try:
        with evaluating(made.encoder, made.clusterer, opened.encoder, opened.clusterer):
            z, again = made.encoder(x), opened.encoder(x)
            off = (z - again).abs().amax(dim=1) > NEAR * z.std(dim=0).norm().clamp_min(1e-12)
            _check(off, 0.0, "encoder", "codes", made, registry)
            off = made.clusterer.predict(z) != opened.clusterer.predict(z)
            _check(off, OTHERS, "clusterer", "labels", made, registry)
    finally:
        checkpoint.set_rng_state(before)


def _check(off: Tensor, most: float, kind: str, what: str, made: Bundle, registry: Registry | None) -> None:
    """off: (B,), which samples have others."""
    if (count := int(off.sum())) <= most * len(off):
        return
    name = made.record[kind]["name"]
    entry = (registry or installed()).find(kind, name)
    model = made.encoder if kind == "encoder" else made.clusterer
    held = ", ".join(model.state_dict()) or "nothing"
    raise BrokenPlugin(
        f"{kind} '{name}' ({entry.distribution} {entry.version}) gives other {what} for {count} of "
        f"{counted(len(off), 'sample')} once it is saved and opened again: its state_dict, which holds "
        f"{held}, lacks what they depend on. Labels and codes are written; the model is not fit to predict."
    )
