"""deepclust: any encoder with any clusterer, by name. Importing it does not import torch."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.errors import DeepclustWarning, UnhealthyResult
    from .core.run.outcome import Outcome
    from .core.run.pipeline import run
    from .core.run.plan import Request
    from .plugins.estimator.estimator import DeepClustering

__version__ = version("deepclust")
__all__ = [
    "DeepClustering",
    "DeepclustWarning",
    "Outcome",
    "Request",
    "UnhealthyResult",
    "__version__",
    "run",
]

_WHERE = {
    "DeepClustering": "plugins.estimator.estimator",
    "DeepclustWarning": "core.errors",
    "UnhealthyResult": "core.errors",
    "Outcome": "core.run.outcome",
    "run": "core.run.pipeline",
    "Request": "core.run.plan",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
