"""Every encoder with every clusterer, over several seeds: what is asked for, run and gone on with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.contract import config as configs
from ...core.contract.interfaces import Storage
from ...core.contract.reference import short
from ...core.contract.registry import Registry, installed
from ...core.errors import (
    BrokenPlugin,
    DeepclustError,
    ImpossiblePair,
    InvalidSetting,
    OccupiedFolder,
    TrainingFailed,
    unknown,
)
from ...core.files import write_json
from ...core.run import device as devices
from ...core.run import folder as folders
from ...core.run import pipeline
from ...core.run.plan import Plan, Request, check_names, request_from, resolve, settled
from ...core.run.reader import stem_of
from ...core.run.record import record_of
from ...core.unforeseen import sentence_of
from . import page as comparison_page
from .table import RESULTS, TABLE, Table, tabulate
from .trial import FAILED, Pair, Trial, read_trial

RECORD, PAGE = "compare.json", "compare.html"
ENCODERS, RUNS = "encoders", "runs"
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Compared:
    """What is varied: names of encoders and clusterers, and the seeds or how many from 0."""

    encoder: tuple[str, ...] = ("sdae",)
    clusterer: tuple[str, ...] = ("kmeans", "dec")
    seeds: int | tuple[int, ...] = 5


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    base: what all runs have in common; its settings are by part, or by a component's own name.
    """

    base: Request
    encoders: tuple[str, ...]
    clusterers: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def pairs(self) -> list[Pair]:
        """Every encoder with every clusterer, as they are called in tables and folders."""
        return [(short(e), short(c)) for e in self.encoders for c in self.clusterers]

    def settings(self, part: str, name: str) -> dict[str, Any]:
        """A component's settings: those for its part (``encoder``), then those for its name (``sdae``)."""
        given = self.base.settings
        return configs.layered(given.get(part, {}), given.get(short(name), {}))

    def request(self, pair: Pair, seed: int) -> Request:
        """One run, as `deepclust run` would be asked for it."""
        parts = ("data", *map(short, self.base.evaluators))
        settings = {p: v for p, v in self.base.settings.items() if p in parts}
        encoder, clusterer = (
            next(name for name in names if short(name) == called)
            for names, called in zip((self.encoders, self.clusterers), pair, strict=True)
        )
        settings["encoder"] = self.settings("encoder", encoder)
        settings["clusterer"] = self.settings("clusterer", clusterer)
        return replace(self.base, encoder=encoder, clusterer=clusterer, seed=seed, settings=settings)


def comparison_from(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> Comparison:
    """A Comparison from a configuration file's tables and the command line's values, which win.

    As ``plan.request_from``, but ``encoder`` and ``clusterer`` are lists and ``seeds`` takes the
    seed's place: a number of seeds, or a list of them.

    Raises UnknownName or InvalidSetting.
    """
    own = ("encoder", "clusterer", "seeds", "seed")
    in_file = tables.get("run", {})
    varied: dict[str, Any] = {}
    if isinstance(in_file, Mapping):
        varied = {k: v for k, v in in_file.items() if k in own}
        tables = {**tables, "run": {k: v for k, v in in_file.items() if k not in own}}
    varied |= {k: v for k, v in overrides.items() if k in own and v is not None}
    base = request_from(tables, {k: v for k, v in overrides.items() if k not in own})
    if base.minutes is not None:
        raise InvalidSetting(
            "minutes is for one run, and a comparison needs one length for all runs of a pair; give "
            "--epochs-scale, which `deepclust run --minutes` finds and names."
        )
    compared = configs.build(Compared, varied, "run")
    if isinstance(compared.seeds, int) and compared.seeds > MOST_SEEDS:
        raise InvalidSetting(
            f"{compared.seeds} seeds were asked for, at most {MOST_SEEDS} are compared; "
            f"for this one seed alone give a list: --seeds {compared.seeds},"
        )
    seeds = compared.seeds if isinstance(compared.seeds, tuple) else tuple(range(compared.seeds))
    for what, values in (("encoder", compared.encoder), ("clusterer", compared.clusterer), ("seed", seeds)):
        if not values:
            raise InvalidSetting(f"a comparison needs at least one {what}.")
    encoders, clusterers = dict.fromkeys(compared.encoder), dict.fromkeys(compared.clusterer)
    check_names("encoder", encoders)
    check_names("clusterer", clusterers)
    return Comparison(base, tuple(encoders), tuple(clusterers), tuple(dict.fromkeys(seeds)))


@dataclass(frozen=True)
class _Plans:
    """What was found: a plan for each pair that can work, the reason for each other, all settings."""

    plans: Mapping[Pair, Plan]
    impossible: Mapping[Pair, str]
    settings: Mapping[str, Any]

    @property
    def supervised(self) -> list[str]:
        """The encoders that learn from labels."""
        encoders = {p.encoder.name: p.encoder for p in self.plans.values()}
        return [name for name, encoder in encoders.items() if encoder.supervised]

    @property
    def defaults(self) -> dict[str, Any]:
        """The default settings of the components, where the record has their settings."""
        found: dict[str, Any] = {"encoder": {}, "clusterer": {}}
        for plan in self.plans.values():
            for kind, chosen in (("encoder", plan.encoder), ("clusterer", plan.clusterer)):
                found[kind][chosen.name] = configs.defaults(chosen.cls.Config)
        return {"request": {"settings": found}}

    def renew(self, record: dict[str, Any], registry: Registry) -> dict[str, Any]:
        """An earlier comparison's record, with settings in the form that they have now."""
        settings = record["request"]["settings"]
        for plan in self.plans.values():
            for kind, chosen in (("encoder", plan.encoder), ("clusterer", plan.clusterer)):
                name = chosen.name
                if name in settings[kind]:
                    settings[kind][name] = configs.renewed(chosen.cls.Config, settings[kind][name], registry)
        return record


def _resolve(asked: Comparison, registry: Registry) -> _Plans:
    names = map(short, [*asked.encoders, *asked.clusterers, *asked.base.evaluators])
    parts = dict.fromkeys(["data", "encoder", "clusterer", *names])
    settings: dict[str, Any] = {"encoder": {}, "clusterer": {}}
    for kind, chosen in (("encoder", asked.encoders), ("clusterer", asked.clusterers)):
        for name in chosen:
            cls = registry.load(kind, name)
            given = asked.settings(kind, name)
            known = settled(cls, given)
            made = configs.build(cls.Config, known, short(name), registry)
            later = {key: value for key, value in given.items() if key not in known}
            settings[kind][short(name)] = {**configs.to_dict(made), **later}
    for part in asked.base.settings:
        if part not in parts:
            raise unknown("part with settings", part, parts)
    plans: dict[Pair, Plan] = {}
    impossible: dict[Pair, str] = {}
    for pair in asked.pairs:
        try:
            for seed in asked.seeds:
                plans[pair] = resolve(asked.request(pair, seed), registry)
        except ImpossiblePair as error:
            impossible[pair] = str(error)
    if not plans:
        raise ImpossiblePair(next(iter(impossible.values())))
    settings["evaluator"] = {c.name: configs.to_dict(c.config) for c in next(iter(plans.values())).evaluators}
    return _Plans(plans, impossible, settings)


def _describe(asked: Comparison, found: _Plans, storage: Storage, registry: Registry) -> dict[str, Any]:
    """What compare.json holds; the data are loaded once for it, and checked."""
    plan = next(iter(found.plans.values()))
    device = devices.choose_device(asked.base.device)
    precision = devices.choose_precision(asked.base.precision, device)
    data = pipeline.load_data(plan.data, storage)
    clusters = pipeline.clusters_of(plan)
    pipeline.check_data(plan, data, clusters, registry)
    record = record_of(plan, data, clusters, device, precision)
    common = ("clusters", "device", "precision", "epochs_scale")
    components = [c for p in found.plans.values() for c in (p.encoder, p.clusterer)]
    plugins = {c.entry.component.name: f"{c.entry.distribution} {c.entry.version}" for c in components}
    code = {c.name: c.entry.version for c in components if not c.entry.plugin}
    named = {"encoder": asked.encoders, "clusterer": asked.clusterers, "evaluator": asked.base.evaluators}
    return {
        "request": {
            **{
                f"{kind}s": [registry.find(kind, n).component.name for n in names]
                for kind, names in named.items()
            },
            "seeds": list(asked.seeds),
            **{key: record["request"][key] for key in common},
            "settings": found.settings,
            **({"code": code} if code else {}),  # of classes that no plugin offers
        },
        "data": record["data"],
        "versions": {**record["versions"], "plugins": {**record["versions"]["plugins"], **plugins}},
        **{key: record[key] for key in ("machine", "command", "started")},
    }


def _prepare(
    folder: Path, record: dict[str, Any], found: _Plans, registry: Registry, *, overwrite: bool
) -> dict[str, Any]:
    """Make ``folder`` ready for the comparison; returns its record, the earlier one where it goes on.

    Raises OccupiedFolder where another comparison or anything else is there, naming the difference.
    """
    path = folder / RECORD
    if not path.exists():
        if any(p.name != folders.LOCK for p in folder.iterdir()):
            raise OccupiedFolder(
                f"'{folder}' is not empty and holds no comparison of deepclust; choose another --out."
            )
        write_json(path, record)
        return record
    try:
        earlier = found.renew(json.loads(path.read_text(encoding="utf-8")), registry)
        names = folders.differences(_names(earlier), _names(record))  # other names have other settings
        records = _without_evaluators(earlier), _without_evaluators(record)
        different = names or folders.differences(*records, found.defaults)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OccupiedFolder(f"'{path}' is not the record of a comparison; choose another --out.") from error
    if overwrite:
        for name in (RUNS, ENCODERS):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
        for name in (RESULTS, TABLE, PAGE):
            (folder / name).unlink(missing_ok=True)
        write_json(path, record)
        return record
    if different:
        raise OccupiedFolder(
            f"'{folder}' holds another comparison: {different}. "
            "Choose another --out, or replace that comparison with --overwrite."
        )
    if (now := _with_evaluators(earlier, record["request"])) != earlier:
        write_json(path, now)
    return now


def _without_evaluators(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without the settings of what looks at finished runs."""
    settings = {k: v for k, v in record["request"]["settings"].items() if k != "evaluator"}
    return {**record, "request": {**record["request"], "settings": settings}}


def _with_evaluators(earlier: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """The earlier record with the evaluators of ``request`` beside those that its runs have already."""
    before = earlier["request"]
    names = list(dict.fromkeys([*before["evaluators"], *request["evaluators"]]))
    settings = {
        **before["settings"],
        "evaluator": {**before["settings"].get("evaluator", {}), **request["settings"]["evaluator"]},
    }
    return {**earlier, "request": {**before, "evaluators": names, "settings": settings}}


def _names(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, "request": {k: v for k, v in record["request"].items() if k != "settings"}}


def compare(
    asked: Comparison,
    storage: Storage,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    snapshot_seconds: float = 30.0,
    registry: Registry | None = None,
) -> tuple[Path, Table]:
    """Run each pair with each seed in ``out``, or go on where that stopped; returns folder and table.

    Each run is an ordinary one in ``runs/``; the stages of its encoder are in ``encoders/``, shared by
    all clusterers. Pairs that cannot work are left out, runs that fail in training stop no other.
    Raises DeepclustError, before anything is written, for whatever is wrong with what was asked.
    """
    registry = registry or installed()
    found = _resolve(asked, registry)
    record = _describe(asked, found, storage, registry)
    folder = out or Path("runs") / f"{stem_of(asked.base.data)}-compare"

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    def read(pair: Pair, seed: int, failure: str = "") -> Trial:
        encoder_folder = _encoder_folder(folder, pair, seed)
        return read_trial(pair, seed, _run_folder(folder, pair, seed), encoder_folder, failure)

    def write() -> Table:
        table = tabulate(list(trials.values()), found.impossible, asked.pairs, found.supervised)
        try:
            table.write(folder)
            comparison_page.write_page(folder / PAGE, record, table)
        except OSError as error:
            raise folders.cannot_write(folder, error) from error
        return table

    with folders.locked(folder):
        try:
            record = _prepare(folder, record, found, registry, overwrite=overwrite)
        except OSError as error:
            raise folders.cannot_write(folder, error) from error
        for pair, reason in found.impossible.items():
            say(f"left out: {' + '.join(pair)}: {reason}")
        trials = {(pair, seed): read(pair, seed) for seed in asked.seeds for pair in found.plans}
        for number, (pair, seed) in enumerate(trials, 1):
            name = f"{number} of {len(trials)}: {' + '.join(pair)}, seed {seed}"
            say(name)
            try:
                outcome = pipeline.run(
                    asked.request(pair, seed),
                    storage,
                    _run_folder(folder, pair, seed),
                    encoder_folder=_encoder_folder(folder, pair, seed),
                    quiet=quiet,
                    snapshot_seconds=snapshot_seconds,
                    registry=registry,
                )
            except Exception as error:
                if not _found_in_training(error):
                    raise
                reason = sentence_of(error)
                trials[pair, seed] = read(pair, seed, reason)
                say(f"  failed: {reason}")
            except KeyboardInterrupt as stop:
                raise KeyboardInterrupt(f"run {name}" + (f", {stop}" if str(stop) else "")) from None
            else:
                if outcome.was_finished and not outcome.evaluated:
                    say("  finished already")
                    continue
                trials[pair, seed] = read(pair, seed)
            write()
        return folder, write()


def _found_in_training(error: Exception) -> bool:
    """Whether it is the failure of one run alone: not of the request, the machine or the folder."""
    known = (TrainingFailed, BrokenPlugin)
    return isinstance(error, known) or not isinstance(error, (DeepclustError, OSError))


def failed_runs(table: Table) -> list[Trial]:
    """The runs that failed."""
    return [t for t in table.trials if t.state == FAILED]


def _run_folder(folder: Path, pair: Pair, seed: int) -> Path:
    return folder / RUNS / f"{pair[0]}-{pair[1]}-seed{seed}"


def _encoder_folder(folder: Path, pair: Pair, seed: int) -> Path:
    return folder / ENCODERS / f"{pair[0]}-seed{seed}"
