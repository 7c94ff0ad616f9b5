"""Which components are there: finds plugins, keeps broken ones from harming others, looks names up."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from ..errors import BrokenPlugin, unknown
from ..words import in_one_line, one_line
from . import config as configs
from . import hooks, reference
from .checking import check_class
from .component import KINDS, Component, Recipe
from .importing import FAULTS, harmless
from .part import Part

T = TypeVar("T")
Offered = TypeVar("Offered", "Entry", "RecipeEntry")
GROUP = "deepclust"
BLOCK = "DEEPCLUST_BLOCK"


@dataclass(frozen=True)
class Entry:
    """A component with where it comes from: the plugin (entry point), its distribution and version.

    Of one that no plugin offers, plugin is empty, distribution the file, and version a digest of it.
    """

    kind: str
    component: Component
    plugin: str
    distribution: str
    version: str

    @property
    def source(self) -> str:
        """Which component it is and where from: ``encoder 'sdae' (deepclust 0.1.0)``."""
        return f"{self.kind} '{self.short}' ({self.distribution} {self.version})"

    @property
    def short(self) -> str:
        """Its name where that has to be short; of a class that no plugin offers the class's."""
        return reference.short(self.component.name)


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe with where it comes from."""

    recipe: Recipe
    plugin: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be used, or a part of it, and why."""

    plugin: str
    distribution: str
    reason: str
    version: str = "?"

    @property
    def who(self) -> str:
        """The plugin with where it comes from, as far as there is one."""
        source = "" if self.distribution == "?" else f" ({self.distribution} {self.version})"
        return f"plugin '{self.plugin}'{source}"


@dataclass(frozen=True)
class Plugin:
    """An entry point of the group, and what came of it.

    state: ``"loaded"``, ``"blocked"`` or ``"broken"``. hooks: the names of those that it has.
    import_ms: how long its import took, None where it was not imported. remarks: what it wrote and set
    up while it was imported, in lines.
    """

    plugin: str
    distribution: str
    version: str
    state: str
    hooks: tuple[str, ...] = ()
    import_ms: float | None = None
    remarks: list[str] = field(default_factory=list)


class Registry:
    """The components that the installed plugins offer, each plugin loaded on its own.

    points: the entry points to load, by default those of the group ``deepclust``. A plugin whose
    entry point or distribution is named in the environment variable ``DEEPCLUST_BLOCK`` (separated
    by commas) is left out. A plugin that raises, has no hook or one without ``@hookimpl`` is kept in
    ``failures`` and offers nothing; so is a name to be left out that nothing has. What a plugin prints
    when it is imported is kept in ``plugins``, and comes on no standard output.
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self.failures: list[Failure] = []
        self.plugins: list[Plugin] = []
        self._entries: list[Entry] = []
        self._recipes: list[RecipeEntry] = []
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        blocked = {name.strip() for name in os.environ.get(BLOCK, "").split(",")}
        found = list(entry_points(group=GROUP) if points is None else points)
        for name in sorted(blocked - {""} - {n for p in found for n in (p.name, _source(p)[0])}):
            reason = f"{BLOCK} names it, but no plugin and no distribution of plugins is called so"
            self.failures.append(Failure(name, "?", reason))
        for point in sorted(found, key=lambda p: (p.name, _source(p))):
            if point.name in blocked or _source(point)[0] in blocked:
                self.plugins.append(Plugin(one_line(point.name), *_source(point), "blocked"))
            else:
                self.plugins.append(self._load(point))

    def _load(self, point: EntryPoint) -> Plugin:
        found = Plugin(one_line(point.name), *_source(point), "broken")
        source = (found.plugin, found.distribution, found.version)
        name = _key(found)
        try:
            with harmless(found.remarks):
                start = time.perf_counter()
                try:
                    plugin = point.load()
                finally:
                    found = replace(found, import_ms=round(1000 * (time.perf_counter() - start), 1))
                try:
                    self._manager.register(plugin, name)
                    self._manager.check_pending()
                    _check_marked(plugin)
                    offered = [
                        Entry(kind, component, *source)
                        for kind in KINDS
                        for component in self._offers(plugin, f"{kind}s", Component)
                    ]
                    recipes = [
                        RecipeEntry(recipe, *source) for recipe in self._offers(plugin, "recipes", Recipe)
                    ]
                except BaseException:
                    if self._manager.get_name(plugin) == name:
                        self._manager.unregister(plugin)
                    raise
        except FAULTS as error:
            self._failed(found, in_one_line(error))
            return found
        self._entries += offered
        self._recipes += recipes
        hooked = sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ())
        return replace(found, state="loaded", hooks=tuple(hooked))

    def _offers(self, plugin: object, what: str, wanted: type[T]) -> list[T]:
        caller = getattr(self._manager.hook, f"deepclust_{what}")
        offers: list[T] = []
        for impl in caller.get_hookimpls():
            if impl.plugin is plugin:
                offers += impl.function()
        for offer in offers:
            if not isinstance(offer, wanted):
                raise TypeError(f"deepclust_{what} yields {offer!r}, which is not a {wanted.__name__}")
        return offers

    def entries(self, kind: str | None = None) -> list[Entry]:
        """The components of one kind (or all), sorted by kind and name."""
        chosen = [e for e in self._entries if kind in (None, e.kind)]
        return sorted(chosen, key=lambda e: (KINDS.index(e.kind), e.component.name, e.plugin))

    def find(self, kind: str, name: str) -> Entry:
        """The one component of that kind and name, which may be a reference (``core.contract.reference``).

        Raises UnknownName with the nearest name, or BrokenPlugin where two plugins offer it.
        """
        if reference.is_reference(name):
            found = reference.find(name, kind)
            return Entry(kind, found.component, "", found.source, found.version)
        entries = [e for e in self._entries if e.kind == kind and e.component.name == name]
        if not entries:
            if error := reference.without_class(name, kind):
                raise error
            advice = "`deepclust list` shows what is installed."
            if self.failures:
                broken = ", ".join(f.plugin for f in self.failures)
                advice = f"Broken plugins: {broken}; `deepclust list` shows why."
            raise unknown(kind, name, {e.component.name for e in self.entries(kind)}, advice)
        return self._only(entries, f"{kind} '{name}' is offered by")

    def recipes(self) -> list[RecipeEntry]:
        """The recipes, sorted by name."""
        return sorted(self._recipes, key=lambda e: (e.recipe.name, e.plugin))

    def recipe(self, name: str) -> Recipe:
        """The one recipe of that name.

        Raises UnknownName with the nearest name, or BrokenPlugin where two plugins offer it.
        """
        found = [e for e in self._recipes if e.recipe.name == name]
        if not found:
            raise unknown("recipe", name, {e.recipe.name for e in self._recipes})
        return self._only(found, f"recipe '{name}' is offered by").recipe

    def readers(self, path: Path) -> list[Entry]:
        """The data sets that read folders, where ``path`` is one, or files whose names end as its does."""
        name, folder = path.name.lower(), path.is_dir()

        def claims(ending: str) -> bool:
            return folder if ending == "/" else not folder and name.endswith(ending)

        return [e for e in self.entries("dataset") if any(map(claims, e.component.reads))]

    def _only(self, entries: list[Offered], what: str) -> Offered:
        if len(entries) > 1:
            who = " and ".join(f"plugin '{e.plugin}' ({e.distribution} {e.version})" for e in entries)
            plugins: list[str] = [e.plugin for e in entries]
            distributions: list[str] = [e.distribution for e in entries]
            choices = plugins if len({*plugins}) == len(plugins) else distributions
            ways = " or ".join(f"{BLOCK}={choice}" for choice in dict.fromkeys(choices))
            raise BrokenPlugin(f"{what} {who}; leave one out by setting {ways}")
        return entries[0]

    def load(self, kind: str, name: str) -> type[Any]:
        """The class behind a component, imported now.

        Raises UnknownName or BrokenPlugin, the latter also where the import fails or what it
        brings is not of the kind.
        """
        if reference.is_reference(name):
            return check_class(reference.find(name, kind).cls, kind, f"{kind} '{name}'")
        entry = self.find(kind, name)
        module, _, attribute = entry.component.target.partition(":")
        try:
            with redirect_stdout(sys.stderr):
                loaded = getattr(import_module(module), attribute)
        except FAULTS as error:
            raise BrokenPlugin(
                f"{kind} '{name}' of plugin '{entry.plugin}' ({entry.distribution} {entry.version}) "
                f"cannot be imported: {in_one_line(error)}"
            ) from error
        who = f"{kind} '{name}' of plugin '{entry.plugin}': {entry.component.target}"
        return check_class(loaded, kind, who)

    def make(self, kind: str, name: str, *arguments: Any, settings: Mapping[str, Any], part: str = "") -> Any:
        """A component with its config from ``settings`` and then ``arguments``.

        part: the name that the settings go by, for messages; by default the component's.
        Raises UnknownName, BrokenPlugin, or InvalidSetting for settings that it does not have.
        """
        return self.part(kind, name, settings, part).make(*arguments)

    def part(self, kind: str, name: str, settings: Mapping[str, Any], part: str = "") -> Part:
        """A component's class and its config from ``settings``; else as ``make``."""
        cls = self.load(kind, name)
        config = configs.build(cls.Config, settings, part or reference.short(name), self)
        return Part(kind, self.find(kind, name).component.name, cls, config)

    def name_of(self, kind: str, cls: type[Any]) -> str:
        """The name by which ``find`` finds a class: a plugin's component, or a reference."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        names = [e.component.name for e in self.entries(kind) if e.component.target == target]
        return names[0] if names else reference.name_of(cls)

    def add_commands(self, cli: Any) -> None:
        """Let each plugin add commands to the click group.

        One that raises becomes a failure, and so does one that would replace a command; the first stays.
        """
        for plugin, add in self._acting("deepclust_add_commands"):
            before = dict(cli.commands)
            try:
                with harmless(plugin.remarks):
                    add(cli)
            except FAULTS as error:
                self._failed(plugin, in_one_line(error))
            for name in [n for n in before if cli.commands.get(n) is not before[n]]:
                cli.commands[name] = before[name]
                self._failed(plugin, f"there is a command '{name}' already, which it must not replace")

    def extend_trainer(self, trainer: Any) -> list[Failure]:
        """Let each plugin add extensions to a training; returns those that could not, of which nothing stays.

        That is where a plugin raises, or adds an extension under a name that is taken.
        """
        failed = []
        for plugin, extend in self._acting("deepclust_extend_trainer"):
            try:
                source = (plugin.plugin, plugin.distribution, plugin.version)
                with trainer.adding_for(*source), redirect_stdout(sys.stderr):
                    extend(trainer)
            except FAULTS as error:
                failed.append(Failure(plugin.plugin, plugin.distribution, in_one_line(error), plugin.version))
        return failed

    def _acting(self, hook: str) -> list[tuple[Plugin, Callable[[Any], object]]]:
        """The plugins that have a hook which acts instead of offering, with what they do; ours first."""
        known = {_key(p): p for p in self.plugins}
        impls = getattr(self._manager.hook, hook).get_hookimpls()
        impls.sort(key=lambda impl: not impl.plugin_name.startswith(f"{GROUP}:"))
        return [(known[impl.plugin_name], impl.function) for impl in impls]

    def _failed(self, plugin: Plugin, reason: str) -> None:
        self.failures.append(Failure(plugin.plugin, plugin.distribution, reason, plugin.version))


def _key(plugin: Plugin) -> str:
    """What pluggy knows it by: two distributions may name their entry points alike."""
    return f"{plugin.distribution}:{plugin.plugin}"


def _check_marked(plugin: object) -> None:
    """Raise TypeError for a function with a hook's name that is not marked as one, or where there is none."""
    hooked = {name for name in dir(hooks) if name.startswith("deepclust_")}
    there = [name for name in dir(plugin) if name in hooked]
    for name in there:
        if not hasattr(getattr(plugin, name), f"{hooks.PROJECT}_impl"):
            raise TypeError(f"{name} lacks @hookimpl above it, so it is never called")
    if not there:
        raise TypeError(f"it has none of the hooks, which are {', '.join(sorted(hooked))}")


def _source(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point belongs to."""
    if point.dist is None:
        return ("unknown", "?")
    return (one_line(point.dist.name), one_line(point.dist.version))


@cache
def installed() -> Registry:
    """The registry of this process: every plugin that is installed and not blocked."""
    return Registry()
