"""What is installed, shown to people and to programs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..contract import config as configs
from ..contract.registry import Failure, Plugin, RecipeEntry, Registry
from ..errors import DeepclustError
from ..words import one_line
from . import recipe as recipes
from .reader import kinds_of

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # where nobody can see how wide the terminal is


def as_json(registry: Registry, kind: str | None) -> dict[str, Any]:
    """The components of one kind (or all), and the plugins that could not be used, as plain values."""
    return {
        "components": [
            {
                "kind": e.kind,
                "name": e.component.name,
                "plugin": e.plugin,
                "distribution": e.distribution,
                "version": e.version,
                "summary": e.component.summary,
                "paper": e.component.paper,
                "supervised": e.component.supervised,
                "reads": list(e.component.reads),
            }
            for e in registry.entries(kind)
        ],
        "recipes": [
            {
                "name": e.recipe.name,
                "plugin": e.plugin,
                "distribution": e.distribution,
                "version": e.version,
                **_about(e),
            }
            for e in _recipes(registry, kind)
        ],
        "failures": [vars(f) for f in registry.failures],
    }


def show_components(registry: Registry, kind: str | None) -> None:
    """Print them as a table."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(box=None, header_style="bold")
    for column in ("kind", "name", "plugin", "version"):
        table.add_column(column, no_wrap=True)
    table.add_column("summary")
    for e in registry.entries(kind):
        summary = one_line(e.component.summary) + (" (learns from labels)" if e.component.supervised else "")
        summary += f" (reads {kinds_of(e)})" if e.component.reads else ""
        plugin = e.plugin if e.plugin == e.distribution else f"{e.plugin} ({e.distribution})"
        table.add_row(e.kind, e.component.name, plugin, e.version, summary)
    for r in _recipes(registry, kind):
        about = _about(r)
        source = f" ({about['source']})" if about["source"] else ""
        plugin = r.plugin if r.plugin == r.distribution else f"{r.plugin} ({r.distribution})"
        table.add_row("recipe", r.recipe.name, plugin, r.version, about["summary"] + source)
    console.print(table, highlight=False, markup=False)
    for f in registry.failures:
        _say(console, "broken", f)


def plugins_as_json(registry: Registry) -> dict[str, Any]:
    """Every plugin, and what could not be used of them, as plain values."""
    return {
        "plugins": [
            {**asdict(p), "reasons": [f.reason for f in _failures_of(registry, p)]} for p in registry.plugins
        ],
        "failures": [vars(f) for f in registry.failures],
    }


def show_plugins(registry: Registry) -> None:
    """Print every plugin as a table, then what is wrong with which and what their imports wrote."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(box=None, header_style="bold")
    for column in ("plugin", "distribution", "version", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("import", justify="right", no_wrap=True)
    table.add_column("hooks")
    for p in registry.plugins:
        time = "" if p.import_ms is None else f"{p.import_ms:,.1f} ms"
        hooks = ", ".join(name.removeprefix("deepclust_") for name in p.hooks)
        table.add_row(p.plugin, p.distribution, p.version, p.state, time, hooks)
    console.print(table, highlight=False, markup=False)
    sources = {(p.plugin, p.distribution): p.state for p in registry.plugins}
    for f in registry.failures:
        loaded = sources.get((f.plugin, f.distribution)) == "loaded"
        _say(console, "in part" if loaded else "broken", f)
    for p in registry.plugins:
        for remark in p.remarks:
            line = f"note: plugin '{p.plugin}' ({p.distribution} {p.version}): when imported it {remark}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _failures_of(registry: Registry, plugin: Plugin) -> list[Failure]:
    source = (plugin.plugin, plugin.distribution)
    return [f for f in registry.failures if (f.plugin, f.distribution) == source]


def _say(console: Console, state: str, failure: Failure) -> None:
    line = f"{state}: {failure.who}: {failure.reason}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _recipes(registry: Registry, kind: str | None) -> list[RecipeEntry]:
    return registry.recipes() if kind in (None, "recipe") else []


def _about(entry: RecipeEntry) -> dict[str, str]:
    """Summary and source of a recipe; a file that cannot be read says so in their place."""
    try:
        found = recipes.about(entry.recipe)
    except DeepclustError as error:
        return {"summary": one_line(error), "source": ""}
    return {key: one_line(found.get(key, "")) for key in ("summary", "source")}


def show_settings(registry: Registry, kind: str, name: str) -> None:
    """Print a component's settings, presets and paper."""
    from rich.console import Console
    from rich.table import Table

    entry = registry.find(kind, name)
    cls = registry.load(kind, name)
    part = {"encoder": "encoder", "clusterer": "clusterer", "dataset": "data"}.get(kind, entry.short)
    source = f"{entry.distribution} {entry.version}"
    print(f"{name}: {kind} of " + (f"plugin {entry.plugin} ({source})" if entry.plugin else source))
    if entry.component.summary:
        print(one_line(entry.component.summary))
    if entry.component.paper:
        print(f"Paper: {one_line(entry.component.paper)}")
    if entry.component.supervised:
        print("It learns from labels.")
    if entry.component.reads:
        print(f"It reads {kinds_of(entry)}; --data {name}:PATH has it read any path.")
    settings = configs.describe(cls.Config)
    if not settings:
        print("It has no settings.")
        return
    table = Table(box=None, header_style="bold")
    for column in (f"setting (-s {part}.KEY=VALUE)", "type", "default", "help"):
        table.add_column(column, overflow="fold")
    for s in settings:
        default = ",".join(map(str, s.default)) if isinstance(s.default, tuple) else str(s.default)
        cells = (s.name, s.type, default if s.default is not None else "none", s.help)
        table.add_row(*map(one_line, cells))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table, highlight=False, markup=False)
    for name, kind in configs.parts(cls.Config).items():
        print(
            f"-s {part}.{name}.KEY=VALUE: a setting of the {kind} that is named there, as `deepclust info` "
            "lists them."
        )
    for preset, values in configs.presets(cls.Config).items():
        shown = ", ".join(f"{k}={v}" for k, v in configs.flat(values).items()) or "the defaults"
        print(one_line(f"preset {preset} (-s {part}.preset={preset}): {shown}"))
