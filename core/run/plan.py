"""Which experiment was asked for: names and settings resolved to classes and configs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..contract import config as configs
from ..contract.reference import short
from ..contract.registry import Entry, Registry
from ..errors import DeepclustError, ImpossiblePair, InvalidSetting, unknown
from ..words import counted
from .reader import choose_data

if TYPE_CHECKING:
    from ..contract.interfaces import Encoder
    from ..data.data import Data

Precision = Literal["auto", "float32", "bf16"]
AUTO_CLUSTERS = (2, 30)  # what --clusters auto tries
_COUNTED = re.compile(r"([a-z][a-z0-9-]*)(?::(\d+)-(\d+))?")  # auto, gap:2-30
COUNTER = "silhouette"  # the counter of auto
DATA_OPTIONS = {
    "image_size": "--image-size",
    "labels": "--labels",
    "items": "--items",
}  # settings with an option of their own
AUTO = "auto"  # the name of an encoder or clusterer that the data choose


@dataclass(frozen=True)
class Choices:
    """What stands outside the parts: the names, and how to run."""

    encoder: str = AUTO
    clusterer: str = AUTO
    data: str = "digits"
    evaluators: tuple[str, ...] = ("clustering", "report")
    clusters: int | str | None = None  # "auto" or "auto:2-30" to let the data say
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    epochs_scale: float = 1.0
    minutes: float | None = None  # that the whole may take: lengths are scaled to it


@dataclass(frozen=True)
class Request(Choices):
    """An experiment as a user asks for it.

    settings: by part, which is encoder, clusterer, data or an evaluator's name.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """One component of a plan: where it comes from, its class and its config."""

    entry: Entry
    cls: type[Any]
    config: Any

    @property
    def source(self) -> str:
        """Which component it is and where from: ``encoder 'sdae' (deepclust 0.1.0)``."""
        return self.entry.source

    @property
    def name(self) -> str:
        """Its name where that has to be short: in scores, tables and names of folders."""
        return self.entry.short

    @property
    def supervised(self) -> bool:
        """Of an encoder, whether it learns from labels with these settings."""
        return self.entry.component.supervised and bool(self.cls.uses_labels(self.config))

    @classmethod
    def of(cls, registry: Registry, kind: str, name: str, settings: Mapping[str, Any], part: str) -> Chosen:
        """The component of that kind and name; ``part`` is what its settings go by, for messages.

        Raises UnknownName, InvalidSetting or BrokenPlugin.
        """
        made = registry.part(kind, name, settings, part)
        assert made.cls is not None
        return cls(registry.find(kind, name), made.cls, made.config)

    def record(self) -> dict[str, Any]:
        """Name and settings as plain values, and of a class that no plugin offers which code it had."""
        code = {} if self.entry.plugin else {"code": self.entry.version}
        return {"name": self.entry.component.name, "settings": configs.to_dict(self.config), **code}

    def kept(self) -> dict[str, Any]:
        """As ``record``, of a data set with the settings that belong to a model, not those that pick data."""
        settings = configs.to_dict(self.config)
        names = configs.inherited(self.cls.Config, settings)
        return {**self.record(), "settings": {name: settings[name] for name in names}}


@dataclass(frozen=True)
class Plan:
    """An experiment whose names and settings are known to be right.

    data: None where the samples were given. clusters: how many, or the fewest and the most to try;
    None where the data set says it. counter: what finds the number then.
    """

    request: Request
    data: Chosen | None
    encoder: Chosen
    clusterer: Chosen
    evaluators: tuple[Chosen, ...]
    clusters: int | tuple[int, int] | None
    counter: str = COUNTER

    def renew(self, record: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
        """An earlier run's record, the settings of these components in the form that they have now."""
        request = dict(record["request"])
        for part, chosen in (("encoder", self.encoder), ("clusterer", self.clusterer)):
            was = request.get(part, {})
            if was.get("name") == chosen.entry.component.name:
                settings = configs.renewed(chosen.cls.Config, was["settings"], registry)
                request[part] = {**was, "settings": settings}
        return {**record, "request": request}


def resolve(request: Request, registry: Registry, *, given: bool = False, data: Data | None = None) -> Plan:
    """Find the classes, build the configs, and check that the pair can work.

    given: the samples are there already, so no data set is looked up. data: the samples, where they are
    known: a component's own defaults may depend on them.
    Raises UnknownName, InvalidSetting, BrokenPlugin or ImpossiblePair.
    """
    if not (math.isfinite(request.epochs_scale) and request.epochs_scale > 0):
        raise InvalidSetting(f"epochs-scale is {request.epochs_scale}, but it must be above 0.")
    if request.minutes is not None:
        if not (math.isfinite(request.minutes) and request.minutes > 0):
            raise InvalidSetting(f"minutes is {request.minutes:g}, but it must be above 0.")
        if request.epochs_scale != 1:
            raise InvalidSetting(
                f"--minutes {request.minutes:g} and --epochs-scale {request.epochs_scale:g} both say how "
                "long training goes; give one of them."
            )
    if not 0 <= request.seed < 2**63:
        raise InvalidSetting(f"the seed is {request.seed}, but it must be from 0 to 2^63 - 1.")
    clusters = parse_clusters(request.clusters)
    parts = ["data", "encoder", "clusterer", *map(short, request.evaluators)]
    for part in request.settings:
        if part not in parts:
            raise unknown("part with settings", part, parts)
    counter = counter_of(request.clusters)
    names = [e.component.name for e in registry.entries("counter")]
    if isinstance(clusters, tuple) and counter not in names:
        raise InvalidSetting(
            f"'{request.clusters}' clusters were asked for; give a number, auto, or a range such as "
            f"auto:2-30. What counts clusters: {', '.join(names) or 'nothing that is installed'}."
        )

    def choose(part: str, kind: str, name: str, **more: Any) -> Chosen:
        cls = registry.load(kind, name)
        values = {**request.settings.get(part, {}), **more}
        if part == "data":
            _check_options(cls.Config, values, request.data, name)
        if part in ("encoder", "clusterer"):
            defaults = None if data is None else data_defaults(cls, values, data)
            values = settled(cls, values) if defaults is None else configs.layered(defaults, values)
        return Chosen.of(registry, kind, name, values, part)

    evaluators = [choose(short(name), "evaluator", name) for name in dict.fromkeys(request.evaluators)]
    check_names("evaluator", request.evaluators)
    plan = Plan(
        request,
        data=None if given else choose_data(request.data, registry, choose),
        encoder=choose("encoder", "encoder", request.encoder),
        clusterer=choose("clusterer", "clusterer", request.clusterer),
        evaluators=tuple(sorted(evaluators, key=lambda choice: choice.cls.last)),
        clusters=clusters,
        counter=counter,
    )
    check_pair(plan, registry)
    return plan


def check_names(kind: str, names: Iterable[str]) -> None:
    """Raise InvalidSetting where two of them cannot be told apart in scores and tables."""
    known: dict[str, str] = {}
    for name in names:
        if known.setdefault(short(name), name) != name:
            raise InvalidSetting(
                f"the {kind}s '{known[short(name)]}' and '{name}' are both called '{short(name)}' in "
                "tables and folders; give one of the classes another name."
            )


def data_defaults(cls: type[Any], settings: Mapping[str, Any], data: Data) -> Mapping[str, Any]:
    """The defaults that a component class gives for such data, unless a preset is named, which says all."""
    if "preset" in settings:
        return {}
    found: Mapping[str, Any] = cls.defaults(data.shape, len(data))
    return found


def settled(cls: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can be checked before the data are known: not those of a part that nobody has named,
    where the component class may choose it by the data."""
    from ..contract.interfaces import Clusterer, Encoder

    given = configs.flat(settings)
    same = {vars(base)["defaults"].__func__ for base in (Encoder, Clusterer)}
    if "preset" in given or cls.defaults.__func__ in same:
        return given
    unnamed = configs.parts(cls.Config).keys() - given.keys()
    return {key: value for key, value in given.items() if key.partition(".")[0] not in unnamed}


def parse_clusters(asked: int | str | None) -> int | tuple[int, int] | None:
    """How many clusters, or the fewest and the most to try for ``auto``, ``auto:2-30`` and ``COUNTER:2-30``.

    Raises InvalidSetting for anything else.
    """
    if asked is None:
        return None
    found = _COUNTED.fullmatch(str(asked))
    if found:
        low, high = map(int, found.groups()[1:]) if found[2] else AUTO_CLUSTERS
        if not 2 <= low < high:
            raise InvalidSetting(f"'{asked}' is no range of clusters; say it as auto:2-30.")
        return low, high
    try:
        count = int(asked)
    except ValueError:
        raise InvalidSetting(
            f"'{asked}' clusters were asked for; give a number, auto, or a range such as auto:2-30."
        ) from None
    if count < 2:
        raise InvalidSetting(
            f"{counted(count, 'cluster')} {'was' if count == 1 else 'were'} asked for: 2 or more are needed."
        )
    return count


def counter_of(asked: int | str | None) -> str:
    """The name of the counter that is asked for, in ``auto`` or ``NAME:2-30``."""
    found = _COUNTED.fullmatch(str(asked))
    return COUNTER if found is None or asked is None or found[1] == "auto" else found[1]


def _check_options(config: type[Any], settings: Mapping[str, Any], asked: str, name: str) -> None:
    """Raise InvalidSetting for an option of the command line that the data set knows nothing of."""
    known = [s.name for s in configs.describe(config)]
    for key, option in DATA_OPTIONS.items():
        if key in settings and key not in known:
            raise InvalidSetting(
                f"{option} (data.{key}) has no effect on '{asked}', which the data set '{name}' reads; leave "
                f"it out. The settings of these data are {', '.join(known) or 'none'}."
            )


def check_pair(plan: Plan, registry: Registry) -> None:
    """Raise ImpossiblePair where the clusterer needs an ability that the encoder has not."""
    from ..contract.abilities import has_ability

    needs = plan.clusterer.cls.needs
    missing = [a for a in needs if not has_ability(plan.encoder.cls, a)]
    if not missing:
        return
    able: list[str] = []
    for entry in registry.entries("encoder"):
        try:
            cls = registry.load("encoder", entry.component.name)
        except DeepclustError:
            continue  # a broken plugin is no alternative
        if all(has_ability(cls, a) for a in needs):
            able.append(entry.component.name)
    raise ImpossiblePair(
        f"{_lacking(plan, missing)}. Encoders that have it: {', '.join(able) or 'none is installed'}."
    )


def check_made(plan: Plan, encoder: Encoder) -> None:
    """As ``check_pair``, of the encoder as its settings made it: they may decide on an ability."""
    missing = [a for a in plan.clusterer.cls.needs if not isinstance(encoder, a)]
    if missing:
        raise ImpossiblePair(
            f"{_lacking(plan, missing)} with these settings; see `deepclust info {plan.request.encoder}`."
        )


def _lacking(plan: Plan, missing: list[type[Any]]) -> str:
    """The beginning of a sentence: which abilities the clusterer needs and the encoder has not."""
    from ..contract.abilities import ABILITIES

    return (
        f"clusterer '{plan.request.clusterer}' needs an encoder with "
        f"{', '.join(ABILITIES.get(a, a.__name__) for a in missing)}, "
        f"which encoder '{plan.request.encoder}' has not"
    )


def request_from(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> Request:
    """A Request from a configuration file's tables and the command line's values, which win.

    The file's table ``run`` holds what stands outside the parts: encoder, clusterer, data,
    evaluators, clusters, seed, device, precision, epochs_scale, minutes; each other table is a part.
    Evaluators may be given as ``evaluators_from`` takes them.

    Raises UnknownName or InvalidSetting.
    """
    check_tables(tables)
    in_file = tables.get("run", {})
    given = {k: v for k, v in overrides.items() if v is not None and k != "settings"}
    evaluators = evaluators_from(in_file.get("evaluators"), given.get("evaluators"))
    chosen = configs.build(Choices, {**in_file, **given, "evaluators": evaluators}, "run")
    settings = {part: dict(table) for part, table in tables.items() if part != "run"}
    for part, table in overrides.get("settings", {}).items():
        settings[part] = configs.layered(settings.get(part, {}), table)
    return Request(**vars(chosen), settings=settings)


def evaluators_from(*layers: Any, usual: tuple[str, ...] = Choices.evaluators) -> tuple[str, ...]:
    """The names of the evaluators that are asked for, the later layers winning; None asks for nothing.

    ``("svm",)`` takes the place of what the layers before name, of ``usual`` in the end;
    ``("+svm",)`` adds to it.
    Raises InvalidSetting for both forms in one layer.
    """
    names = usual
    for layer in layers:
        if layer is None:
            continue
        asked: tuple[str, ...] = configs.convert(layer, tuple[str, ...], "run.evaluators")
        added = [name for name in asked if name.startswith("+")]
        if added and len(added) < len(asked):
            alone = next(name for name in asked if name not in added)
            raise InvalidSetting(
                f"the evaluators '{alone}' and '{added[0]}' were asked for, but names replace "
                f"{', '.join(usual)} and +NAME adds to them: write all with + or none."
            )
        names = (*names, *(name[1:] for name in added)) if added else asked
    return tuple(dict.fromkeys(names))


def check_tables(tables: Mapping[str, Any], where: str = "the configuration file") -> None:
    """Raise InvalidSetting where a value at the top of a file is no table."""
    for part, table in tables.items():
        if not isinstance(table, Mapping):
            names = ", ".join(s.name for s in configs.describe(Choices))
            raise InvalidSetting(
                f"'{part}' is not a table in {where}; "
                f"[run] takes {names}; [encoder], [clusterer] and [data] take settings."
            )
