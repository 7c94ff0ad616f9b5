"""A run from beginning to end: load, encoder.fit, clusterer.fit, evaluate, write."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..console import phase
from ..contract.interfaces import Encoder, Result, Storage
from ..contract.registry import Registry, installed
from ..data.data import Data
from ..data.scaling import scaled
from ..engine import checkpoint
from ..errors import InvalidData, InvalidSetting
from ..files import write_json
from ..words import counted
from . import checkup, finished, rehearsal, results, stage
from . import device as devices
from . import folder as folders
from . import scores as scored
from .boundary import Watch, called, check_shape, other_labels
from .bundle import WEIGHTS, Bundle
from .choice import choose, stand_in
from .evaluation import evaluate, plain, protocol, result_of, write_results
from .making import digest_of, make_clusterer, make_encoder
from .memory import enough
from .opening import check_kept
from .outcome import Outcome
from .plan import AUTO_CLUSTERS, Chosen, Plan, Request, check_made, resolve
from .reader import stem_of
from .record import defaults_of, record_of
from .run import Notice, Run, gather_notices
from .settle import settle
from .spent import Spent

FEWER = "take fewer or smaller samples, or a machine with more memory."
LESS_MEMORY = (
    "what was trained is kept: free memory and give the same command again, which goes on there, or take "
    "fewer or smaller samples or a smaller network, in another --out."
)


def run(
    request: Request,
    storage: Storage,
    out: Path | None = None,
    *,
    data: Data | None = None,
    start: Encoder | None = None,
    encoder_folder: Path | None = None,
    check: Callable[[Data], None] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    snapshot_seconds: float = 30.0,
    registry: Registry | None = None,
) -> Outcome:
    """Carry a request out in ``out`` (by default a folder named after it), or go on where it stopped.

    data: the samples, where they are there already; the request's data is then their name. start: an
    encoder of the request's class whose weights are the first ones; it stays as it is.
    encoder_folder: where the encoder's stages are kept, for runs that share one; by default in the run.
    check: looks at the data before anything is written, and may raise.
    Raises DeepclustError, before anything is written, for whatever is wrong with the request.
    """
    registry = registry or installed()
    device = devices.choose_device(request.device)
    given = data is not None
    plan = resolve(stand_in(request), registry, given=given)
    evaluators = {e.name: e.cls(e.config) for e in plan.evaluators}

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr)

    data = load_data(plan.data, storage, data)
    choice = choose(request, data, registry)
    request = choice.fill(request)
    plan = resolve(request, registry, given=given, data=data)
    asked = clusters_of(plan)
    fewest = check_data(plan, data, asked, registry)
    if check is not None:
        check(data)
    folder = out or Path("runs") / _default_name(plan, asked)
    precision = devices.choose_precision(request.precision, device)
    record = {
        **record_of(plan, data, asked, device, precision),
        "said": [line for line in (*data.said, _found_out(plan, asked), choice.why) if line],
    }
    if start is not None:
        record["request"]["encoder"]["start"] = digest_of(start)
    devices.prepare(device)
    work = Run(
        folder, request.seed, device, precision, request.epochs_scale, snapshot_seconds,
        quiet, registry=registry,
    )  # fmt: skip
    encoder = make_encoder(plan, data, work, start)
    check_made(plan, encoder)
    with called(plan.encoder.source, "check"):
        encoder.check(_training(plan, data))
    make_clusterer(plan, fewest, encoder).check(encoder, data.seal())
    with folders.locked(folder):
        earlier = folders.prepare(
            folder,
            record,
            overwrite=overwrite,
            defaults=defaults_of(plan),
            renew=lambda earlier: plan.renew(earlier, registry),
        )
        if earlier is not None and earlier.get("status") == "finished":
            summary, labels = None, np.empty(0)
            with contextlib.suppress(OSError, ValueError):  # gone or broken: they are written again
                summary = scored.read(folder / scored.SCORES)
                labels = results.read_labels(folder / results.LABELS)
            if summary is not None and len(labels) == len(data):
                summary, names = finished.complete(
                    folder, earlier, summary, data, plan.evaluators,
                    device=device, registry=registry, quiet=quiet,
                )  # fmt: skip
                found = earlier["n_clusters"]
                return Outcome(folder, summary, data, labels, found, was_finished=True, evaluated=names)
        supervised = plan.encoder.supervised
        say(f"{data.description}, {_shown(asked)}, on {devices.describe(device)}, {precision}")
        if supervised:
            say(f"  encoder '{request.encoder}' learns from the labels of the samples it is trained on")
        for line in record["said"]:
            say(f"  {line}")
        if data.skipped:
            say(f"  {counted(len(data.skipped), 'file')} could not be read: see '{folder / results.SKIPPED}'")
        say(f"  going on in '{folder}'" if earlier else f"  writing to '{folder}'")
        try:
            if encoder_folder is not None:
                _share(folder / "encoder", encoder_folder)
            data = data.to(device)
            work = _time(plan, data, asked, evaluators, record, earlier, work, start)
            spent = Spent(folder)
            try:
                with enough(f"the run in '{folder}'", lambda: LESS_MEMORY):
                    result, summary = _carry_out(plan, encoder, data, asked, evaluators, record, work, spent)
            finally:
                spent.end()
            summary["resumed"] = earlier is not None
            write_json(folder / scored.SCORES, summary)
            stages = stage.ends(folder)
            if plugins := stage.extended_by(stages):
                record["versions"]["extended by"] = plugins
            last = {"n_clusters": result.n_clusters, "stages": stages, "peak_memory_bytes": _peak_memory()}
            record["said"] += work.remarks
            write_json(folder / folders.RECORD, {**record, "status": "finished", **last})
            spent.remove()
        except OSError as error:
            raise folders.cannot_write(folder, error) from error
    return Outcome(folder, summary, data, result.labels, result.n_clusters)


def load_data(chosen: Chosen | None, storage: Storage, data: Data | None = None) -> Data:
    """The samples, by default of the data set ``chosen``; scaled where they leave that open."""
    with phase("reading the data"), enough("reading the data", lambda: FEWER, InvalidData):
        if data is None:
            assert chosen is not None
            with called(chosen.source, "load"):
                data = chosen.cls(chosen.config).load(storage)
        return data if data.prepared is not None else scaled(data)


def _training(plan: Plan, data: Data) -> Data:
    """What the encoder is trained on: with labels where it learns from them, never with the test split."""
    return replace(data, test=None) if plan.encoder.supervised else data.seal()


def _time(
    plan: Plan,
    data: Data,
    asked: int | tuple[int, int],
    evaluators: Mapping[str, Any],
    record: dict[str, Any],
    earlier: Mapping[str, Any] | None,
    work: Run,
    start: Encoder | None,
) -> Run:
    """The run with its timetable, which is said, and at the scale that fits ``minutes``.

    The scale is kept in ``record``. A run that goes on has no timetable, and the scale of its beginning.
    """
    minutes, table = plan.request.minutes, None
    kept = (earlier or {}).get("epochs_scale")
    begun = any(work.folder.glob(f"*/*/{checkpoint.SNAPSHOT_NAME}"))
    if kept is None and not begun and not (work.quiet and minutes is None):
        with phase("measuring how long it will take"):
            table = rehearsal.rehearse(
                lambda: make_encoder(plan, data, work, start), (plan.clusterer.cls, plan.clusterer.config),
                asked if isinstance(asked, int) else asked[0], evaluators, data, work,
                supervised=plan.encoder.supervised,
            )  # fmt: skip
    scale = work.epochs_scale
    if minutes is not None:
        if table is not None:
            table = table.fit(minutes)
            kept = table.scale
        if kept is None:
            work.child("encoder").notice(
                f"--minutes {minutes:g} changed nothing, as it could not be measured how long steps take."
            )
        scale = record["epochs_scale"] = kept or scale
        write_json(work.folder / folders.RECORD, record)
    if not work.quiet:
        for line in rehearsal.lines(table, minutes, scale, counted=not isinstance(asked, int)):
            print(f"  {line}", file=sys.stderr)
    return replace(work, epochs_scale=scale, timetable=table)


def _carry_out(
    plan: Plan,
    encoder: Encoder,
    data: Data,
    asked: int | tuple[int, int],
    evaluators: Mapping[str, Any],
    record: Mapping[str, Any],
    work: Run,
    spent: Spent,
) -> tuple[Result, dict[str, Any]]:
    spent.begin("encoder")
    supervised = plan.encoder.supervised
    hidden = data.seal()

    run_encoder = work.child("encoder")
    watch = Watch(data)
    with phase("training the encoder"):
        with called(plan.encoder.source, "fit"):
            encoder.fit(_training(plan, data), run_encoder)
        ill, codes = checkup.look_at_codes(encoder, hidden, plan.request.encoder, work.autocast)
        run_encoder.say(ill)
        check_shape(codes, encoder, len(codes), plan.encoder.source)
        watch.check(plan.encoder.source)

    if isinstance(asked, int):
        n_clusters = asked
    else:
        spent.begin("number of clusters")
        n_clusters = settle(work.make("counter", plan.counter), encoder, hidden, *asked, work)

    spent.begin("clusterer")
    run_clusterer = work.child("clusterer")
    checkpoint.seed_everything(run_clusterer.seed_for("weights"))
    clusterer = make_clusterer(plan, n_clusters, encoder).to(work.device)
    with phase("clustering the codes"):
        with called(plan.clusterer.source, "fit"):
            clusterer.fit(encoder, hidden, run_clusterer)
        watch.check(plan.clusterer.source)
        n_clusters = checkup.found_clusters(clusterer, plan.request.clusterer)

    spent.begin("results")
    with phase("writing the results"):
        kept = {
            "encoder": plan.encoder.record(),
            "clusterer": plan.clusterer.record(),
            "versions": record["versions"],
            **({} if plan.data is None else {"data": plan.data.kept()}),
        }
        model, z, assignment = Bundle.trained(encoder, clusterer, hidden, kept, quiet=work.quiet)
        known = {**record, "n_clusters": n_clusters}
        result = result_of(model, z, assignment, data, work, known)
        if data.test is not None:
            held_out = data.test.seal()
            there = model.predict(held_out, quiet=work.quiet)
            result = replace(result, test=result_of(model, *there, data.test, work, known))
        write_results(result, data)
        model.save(work.folder / WEIGHTS)
        check_kept(work.folder / WEIGHTS, model, hidden, work.registry)
        if said := other_labels(clusterer, z, plan.clusterer.source):
            run_clusterer.notice(said)
        before = 0.0  # of one that finds its clusters, which may be of any sizes
        if not clusterer.finds_n_clusters:
            before = checkup.effective_clusters(codes, n_clusters, run_clusterer.seed_for("checkup"))
        run_clusterer.say(
            checkup.look_at_clusters(
                result.labels, n_clusters, before, any(f.ill for f in ill), plan.request.clusterer
            )
        )
    notices = [Notice(text) for text in data.remarks()]
    notices += [notice for part in (run_encoder, run_clusterer) for notice in gather_notices(part.folder)]
    texts = list(dict.fromkeys(notice.text for notice in notices))
    first: dict[str, Any] = {
        "protocol": protocol(data, supervised=supervised, seed=work.seed, notices=texts),
        "health": scored.health(dict.fromkeys(notice.text for notice in notices if notice.ill)),
    }
    if clusterer.unsupervised_loss is not None:
        first["clusterer"] = {"unsupervised_loss": plain(clusterer.unsupervised_loss)}
    summary = evaluate(result, evaluators, first)
    spent.end()
    taken = {part: round(seconds, 3) for part, seconds in spent.seconds.items()}
    summary["seconds"] = {part: taken[part] for part in ("encoder", "clusterer", "results")}
    if work.timetable is not None:
        estimated = work.timetable.seconds()
        summary["seconds"]["estimated"] = {part: round(seconds, 3) for part, seconds in estimated.items()}
    if not isinstance(asked, int):
        summary["seconds"]["number of clusters"] = taken["number of clusters"]
    return result, summary


def clusters_of(plan: Plan) -> int | tuple[int, int]:
    """How many clusters are asked for, or the fewest and the most to try; by default the data set's.

    0 where the clusterer finds the number and none was given; raises InvalidSetting for a range then.
    """
    asked: int | tuple[int, int] | None = plan.clusters
    if plan.clusterer.cls.finds_n_clusters and not isinstance(asked, int):
        if asked not in (None, AUTO_CLUSTERS):
            raise InvalidSetting(
                f"--clusters {plan.request.clusters}: clusterer '{plan.request.clusterer}' finds the number "
                "of clusters itself; give a number that it is to aim at, or leave --clusters out."
            )
        return 0
    if asked is None and plan.data is not None:
        asked = plan.data.cls.n_clusters
    return AUTO_CLUSTERS if asked is None else asked


def check_data(plan: Plan, data: Data, asked: int | tuple[int, int], registry: Registry) -> int:
    """The fewest clusters that are asked for.

    Raises InvalidData where ``data`` cannot have them, or are too few to find out how many there are.
    """
    fewest = asked if isinstance(asked, int) else asked[0]
    data.check(fewest or 2)
    if not isinstance(asked, int):
        registry.make("counter", plan.counter, settings={}).check(len(data), *asked)
    return fewest


def _found_out(plan: Plan, asked: int | tuple[int, int]) -> str:
    """The line for those who did not say how many clusters; empty where it is known."""
    if plan.clusters is not None or isinstance(asked, int):
        return ""
    return f"how many clusters was not said: {asked[0]} to {asked[1]} are tried (--clusters to say it)"


def _shown(asked: int | tuple[int, int]) -> str:
    """How many clusters, in words."""
    if isinstance(asked, int):
        return f"{asked} clusters" if asked else "as many clusters as are found"
    return f"{asked[0]} to {asked[1]} clusters"


def _default_name(plan: Plan, asked: int | tuple[int, int]) -> str:
    name, seed = stem_of(plan.request.data), f"seed{plan.request.seed}"
    clusters = f"k{asked}" if isinstance(asked, int) else f"kauto{asked[0]}-{asked[1]}"
    return "-".join([name, plan.encoder.name, plan.clusterer.name, *([clusters] if asked else []), seed])


def _share(link: Path, folder: Path) -> None:
    """Let the run's folder ``link`` be ``folder``, which other runs use too."""
    folder.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)


def _peak_memory() -> int | None:
    """The largest resident memory of this process so far, in bytes; None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
