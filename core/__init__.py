"""The core: interfaces, registry, configuration, data, runs, the training engine.

Everything here is loaded on first use: a plugin's light half imports ``Component`` and ``hookimpl``
without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .console import progress
    from .contract.abilities import (
        Augments,
        Classifies,
        Corrupts,
        Decodes,
        FindsAnomalies,
        Generates,
        HasCenters,
        HasNeighbours,
        Views,
        has_ability,
    )
    from .contract.assignment import NOISE, Assignment
    from .contract.component import Component, Recipe
    from .contract.config import setting
    from .contract.hooks import hookimpl
    from .contract.interfaces import (
        Clusterer,
        Count,
        Counter,
        Dataset,
        Encoder,
        Evaluator,
        Result,
        Score,
        Storage,
    )
    from .contract.part import Part, part
    from .data.data import Data, Size, Truth, arrange, kept_type, tensor_over, truth_of
    from .data.mapped import Mapped
    from .data.preparation import Preparation
    from .errors import DeepclustError, InvalidData, InvalidSetting
    from .run.run import Run
    from .run.training import Optimization, Training
    from .toolbox.inference import assign, embed, evaluating
    from .toolbox.standardise import Standardise
    from .toolbox.transductive import Transductive

_WHERE = {
    "NOISE": "contract.assignment",
    "Assignment": "contract.assignment",
    "Component": "contract.component",
    "setting": "contract.config",
    "Data": "data.data",
    "Size": "data.data",
    "Standardise": "toolbox.standardise",
    "Truth": "data.data",
    "arrange": "data.data",
    "kept_type": "data.data",
    "tensor_over": "data.data",
    "truth_of": "data.data",
    "DeepclustError": "errors",
    "InvalidData": "errors",
    "InvalidSetting": "errors",
    "has_ability": "contract.abilities",
    "hookimpl": "contract.hooks",
    "assign": "toolbox.inference",
    "embed": "toolbox.inference",
    "evaluating": "toolbox.inference",
    "Augments": "contract.abilities",
    "Classifies": "contract.abilities",
    "Clusterer": "contract.interfaces",
    "Dataset": "contract.interfaces",
    "Decodes": "contract.abilities",
    "Encoder": "contract.interfaces",
    "Evaluator": "contract.interfaces",
    "Corrupts": "contract.abilities",
    "Count": "contract.interfaces",
    "Counter": "contract.interfaces",
    "FindsAnomalies": "contract.abilities",
    "Generates": "contract.abilities",
    "HasCenters": "contract.abilities",
    "HasNeighbours": "contract.abilities",
    "Mapped": "data.mapped",
    "Part": "contract.part",
    "part": "contract.part",
    "Storage": "contract.interfaces",
    "Preparation": "data.preparation",
    "Recipe": "contract.component",
    "progress": "console",
    "Result": "contract.interfaces",
    "Score": "contract.interfaces",
    "Optimization": "run.training",
    "Run": "run.run",
    "Training": "run.training",
    "Transductive": "toolbox.transductive",
    "Views": "contract.abilities",
}

__all__ = [
    "NOISE",
    "Assignment",
    "Augments",
    "Classifies",
    "Clusterer",
    "Component",
    "Corrupts",
    "Count",
    "Counter",
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
    "Optimization",
    "Part",
    "Preparation",
    "Recipe",
    "Result",
    "Run",
    "Score",
    "Size",
    "Standardise",
    "Storage",
    "Training",
    "Transductive",
    "Truth",
    "Views",
    "arrange",
    "assign",
    "embed",
    "evaluating",
    "has_ability",
    "hookimpl",
    "kept_type",
    "part",
    "progress",
    "setting",
    "tensor_over",
    "truth_of",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
