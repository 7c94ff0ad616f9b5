"""The core: interfaces, registry, configuration, data, runs, the training engine.

Everything here is loaded on first use: a plugin's light half imports ``Component`` and ``hookimpl``
without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .augmentation import Augmentation, Sometimes, random_affine, scan_strong_view, simclr_view
    from .component import Component, Recipe
    from .config import setting
    from .console import progress
    from .data import Data, Size, Truth, arrange, kept_type, tensor_over, truth_of
    from .errors import DeepclustError, InvalidData, InvalidSetting
    from .hooks import hookimpl
    from .inference import assign, embed, evaluating
    from .interfaces import (
        Augments,
        Classifies,
        Clusterer,
        Corrupts,
        Dataset,
        Decodes,
        Encoder,
        Evaluator,
        FindsAnomalies,
        Generates,
        HasCenters,
        HasNeighbours,
        Place,
        Result,
        Score,
        Views,
        has_ability,
    )
    from .mapped import Mapped
    from .preparation import Preparation
    from .run import Run
    from .standardise import Standardise

_WHERE = {
    "Component": "component",
    "setting": "config",
    "Data": "data",
    "Size": "data",
    "Standardise": "standardise",
    "Truth": "data",
    "arrange": "data",
    "kept_type": "data",
    "tensor_over": "data",
    "truth_of": "data",
    "DeepclustError": "errors",
    "InvalidData": "errors",
    "InvalidSetting": "errors",
    "has_ability": "interfaces",
    "hookimpl": "hooks",
    "Augmentation": "augmentation",
    "random_affine": "augmentation",
    "scan_strong_view": "augmentation",
    "simclr_view": "augmentation",
    "Sometimes": "augmentation",
    "assign": "inference",
    "embed": "inference",
    "evaluating": "inference",
    "Augments": "interfaces",
    "Classifies": "interfaces",
    "Clusterer": "interfaces",
    "Dataset": "interfaces",
    "Decodes": "interfaces",
    "Encoder": "interfaces",
    "Evaluator": "interfaces",
    "Corrupts": "interfaces",
    "FindsAnomalies": "interfaces",
    "Generates": "interfaces",
    "HasCenters": "interfaces",
    "HasNeighbours": "interfaces",
    "Mapped": "mapped",
    "Place": "interfaces",
    "Preparation": "preparation",
    "Recipe": "component",
    "progress": "console",
    "Result": "interfaces",
    "Score": "interfaces",
    "Run": "run",
    "Views": "interfaces",
}

__all__ = [
    "Augmentation",
    "Augments",
    "Classifies",
    "Clusterer",
    "Component",
    "Corrupts",
    "Data",
    "Dataset",
    "Decodes",
    "DeepclustError",
    "Encoder",
    "Evaluator",
    "FindsAnomalies",
    "Generates",
    "HasCenters",
    "HasNeighbours",
    "InvalidData",
    "InvalidSetting",
    "Mapped",
    "Place",
    "Preparation",
    "Recipe",
    "Result",
    "Run",
    "Score",
    "Size",
    "Sometimes",
    "Standardise",
    "Truth",
    "Views",
    "arrange",
    "assign",
    "embed",
    "evaluating",
    "has_ability",
    "hookimpl",
    "kept_type",
    "progress",
    "random_affine",
    "scan_strong_view",
    "setting",
    "simclr_view",
    "tensor_over",
    "truth_of",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
