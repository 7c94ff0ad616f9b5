"""The model of a run, opened where it is to be used."""

from __future__ import annotations

import sys
from pathlib import Path

from ..contract.registry import Registry
from . import bundle as bundles
from . import device as devices
from . import scores as scored
from .bundle import Bundle


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
