"""The model of a run, opened where it is to be used, and whether it is what was trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..contract.registry import Registry
from ..data.data import Data
from ..engine import checkpoint
from ..errors import BrokenPlugin
from ..toolbox.inference import evaluating
from ..words import counted, in_one_line
from . import bundle as bundles
from . import device as devices
from . import scores as scored
from .boundary import source
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

    def compare(kind: str, what: str, most: float, ask: Callable[[Bundle], Tensor], near: float) -> Tensor:
        who = source(made.record, kind)
        held = ", ".join((made.encoder if kind == "encoder" else made.clusterer).state_dict()) or "nothing"
        first = ask(made)
        if int(_off(first, ask(made), near).sum()) > most * len(first):
            raise BrokenPlugin(f"{who} gives other {what} each time it is asked.")
        try:
            count = int(_off(first, ask(opened), near).sum())
        except Exception as error:
            raise BrokenPlugin(
                f"{who} fails once it is saved and opened again ({in_one_line(error)}): its state_dict, "
                f"which holds {held}, lacks what it needs."
            ) from error
        if count > most * len(first):
            raise BrokenPlugin(
                f"{who} gives other {what} for {count} of {counted(len(first), 'sample')} once it is "
                f"saved and opened again: its state_dict, which holds {held}, lacks what they depend on. "
                "Labels and codes are written; the model is not fit to predict."
            )
        return first

    try:
        with evaluating(made.encoder, made.clusterer, opened.encoder, opened.clusterer):
            z = compare("encoder", "codes", 0.0, lambda bundle: bundle.encoder(x), NEAR)
            compare("clusterer", "labels", OTHERS, lambda bundle: bundle.clusterer.predict(z), 0.0)
    finally:
        checkpoint.set_rng_state(before)


def _off(first: Tensor, again: Tensor, near: float) -> Tensor:
    """Which of the codes (B, D) or labels (B,) are others, codes by more than ``near`` of their deviation."""
    if not near:
        return first != again
    limit: Tensor = near * first.std(dim=0).norm().clamp_min(1e-12)
    return (first - again).abs().amax(dim=1) > limit
