"""Recipes: runs as settings alone, under what the user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import config as configs
from ..contract.component import Recipe
from ..contract.reference import short
from .plan import check_tables, evaluators_from

ABOUT = "recipe"  # the table that speaks of the recipe itself
NAMED = ("encoder", "clusterer", "data")  # parts whose component the table ``run`` names


def about(recipe: Recipe) -> dict[str, str]:
    """What a recipe says of itself: ``summary`` and ``source``, either may be missing.

    Raises DeepclustError where the file cannot be read.
    """
    table: dict[str, str] = configs.read_toml(recipe.path).get(ABOUT, {})
    return table


def apply(recipe: Recipe, tables: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration file's tables over a recipe's.

    options: the command line's values by name, None where not given. Settings of the recipe for a
    component that the user replaces by another, or for an evaluator that is left out, are dropped.

    Raises DeepclustError where the recipe cannot be read, InvalidSetting where it is no table of tables.
    """
    below = {k: v for k, v in configs.read_toml(recipe.path).items() if k != ABOUT}
    check_tables(below, f"the recipe '{recipe.name}'")
    check_tables(tables)
    given = {k: v for k, v in options.items() if v is not None}
    asked = {**below.get("run", {}), **tables.get("run", {}), **given}
    for part in NAMED:
        if asked.get(part) != below.get("run", {}).get(part):
            below.pop(part, None)
    in_files = [table.get("run", {}).get("evaluators") for table in (below, tables)]
    if asked.get("evaluators") is not None:
        evaluators = evaluators_from(*in_files, given.get("evaluators"))
        below = {p: t for p, t in below.items() if p in ("run", *NAMED, *map(short, evaluators))}
    merged = {p: configs.layered(below.get(p, {}), tables.get(p, {})) for p in {**below, **tables}}
    if None not in in_files:
        merged["run"]["evaluators"] = list(evaluators_from(*in_files))
    return merged
