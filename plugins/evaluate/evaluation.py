"""A finished run looked up, its data loaded again, and evaluators on both."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...core.contract.interfaces import Storage
from ...core.contract.reference import short
from ...core.contract.registry import Registry, installed
from ...core.data.data import Data
from ...core.errors import DeepclustError, InvalidData, OccupiedFolder, unknown
from ...core.run import device as devices
from ...core.run import finished, pipeline
from ...core.run import scores as scored
from ...core.run.folder import RECORD, locked, read_record
from ...core.run.outcome import Outcome
from ...core.run.plan import Chosen, check_names, evaluators_from
from ...core.words import counted


def carry_out(
    folder: Path,
    storage: Storage,
    evaluators: Sequence[str] = (),
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | None = None,
    registry: Registry | None = None,
) -> Outcome:
    """Run evaluators on the finished run in ``folder``, and then those of the run that report on the others.

    evaluators: names, or ``+NAME`` to add to the run's own; by default these. settings: by evaluator, over
    what the run had; those of ``data`` over what says how the data are read. device: by default the run's,
    where this machine has it.
    Raises DeepclustError where there is no finished run, where the data are not the run's any more, and
    for whatever is wrong with the request.
    """
    registry, settings = registry or installed(), settings or {}
    _check_finished(folder)
    with locked(folder):
        record = _check_finished(folder)
        summary = _read_summary(folder, record)
        own = finished.recorded(record)
        names = [
            registry.find("evaluator", name).component.name
            for name in evaluators_from(tuple(evaluators) or None, usual=tuple(own))
        ]
        check_names("evaluator", names)
        asked = [
            Chosen.of(registry, "evaluator", name, _settings(name, own, settings), short(name))
            for name in names
        ]
        chosen = finished.and_last(asked, record, registry, settings)
        if not chosen:
            raise DeepclustError(f"the run in '{folder}' has no evaluators; name one with --evaluator NAME.")
        parts = ["data", *(choice.name for choice in chosen)]
        for part in settings:
            if part not in parts:
                raise unknown("part with settings", part, parts, "What was trained stays as it is.")
        where = _device(device, record)
        devices.prepare(where)
        data = _load(folder, record, settings.get("data", {}), storage, registry)
        found, result = finished.evaluate_finished(
            folder, record, summary, data, chosen, device=where, registry=registry, quiet=storage.quiet
        )
    done = tuple(parts[1:])
    return Outcome(folder, found, data, result.labels, result.n_clusters, was_finished=True, evaluated=done)


def _check_finished(folder: Path) -> dict[str, Any]:
    """The record of the finished run in ``folder``; raises DeepclustError where there is none."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise DeepclustError(f"'{folder}' is {what}; name the folder of a finished run.")
    try:
        record = read_record(folder)
    except OccupiedFolder as error:
        raise DeepclustError(f"'{folder / RECORD}' is broken, so that it is not known what to do.") from error
    if record is None:
        raise DeepclustError(f"'{folder}' holds no run of deepclust ({RECORD} is not there).")
    if record.get("status") != "finished":
        raise DeepclustError(
            f"the run in '{folder}' is not finished; give its command again: {_again(record)}"
        )
    return record


def _again(record: Mapping[str, Any]) -> str:
    return shlex.join(["deepclust", *record.get("command", ["run"])])


def _read_summary(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    path = folder / scored.SCORES
    try:
        return scored.read(path)
    except (OSError, ValueError) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else error
        raise DeepclustError(
            f"'{path}' cannot be read: {reason}; the command of the run writes it again: {_again(record)}"
        ) from error


def _settings(
    name: str, own: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """An evaluator's settings: the run's, unless a preset is named, and over them what is given."""
    given = settings.get(short(name), {})
    return {**({} if "preset" in given else own.get(name, {})), **given}


def _device(name: str | None, record: Mapping[str, Any]) -> torch.device:
    if name is not None:
        return devices.choose_device(name)
    try:
        return devices.choose_device(record["request"].get("device", "auto"))
    except DeepclustError:  # trained on another machine
        return devices.choose_device("auto")


def _load(
    folder: Path, record: Mapping[str, Any], given: Mapping[str, Any], storage: Storage, registry: Registry
) -> Data:
    """The run's data, loaded as the run did; raises InvalidData where they are gone or others."""
    was = record["data"]
    if "settings" not in was:
        raise InvalidData(
            f"the samples of the run in '{folder}' were given from Python ('{was['name']}'), so that no "
            "command can load them again; give `deepclust.run` the same samples and other evaluators there."
        )
    values = {**was["settings"], **given}
    if "path" in given:
        values["path"] = str(Path(os.path.expanduser(given["path"])).resolve())
    try:
        data = pipeline.load_data(Chosen.of(registry, "dataset", was["name"], values, "data"), storage)
    except (DeepclustError, OSError) as error:
        raise InvalidData(f"the data of the run in '{folder}' cannot be loaded again: {error}") from error
    for there, now, what in ((was, data, "data set"), (was.get("test"), data.test, "test split")):
        if there is None and now is None:
            continue
        if there is None or now is None or now.fingerprint() != there["fingerprint"]:
            raise InvalidData(_changed(folder, record, there, now, what))
    return data


def _changed(
    folder: Path, record: Mapping[str, Any], there: Mapping[str, Any] | None, now: Data | None, what: str
) -> str:
    """A sentence for data that are not the run's."""
    before = "none" if there is None else counted(there["samples"], "sample", ",")
    after = "none" if now is None else counted(len(now), "sample", ",")
    text = (
        f"the {what} of the run in '{folder}' changed since ({before} then, {after} now, with another "
        "fingerprint): bring back what it was"
    )
    if "path" in record["data"]["settings"]:
        text += ", or say where it is with -s data.path=PATH"
    made_with = record.get("versions", {}).get("deepclust")
    if made_with not in (None, version("deepclust")):
        text += f"; the run was made with deepclust {made_with}, which may have read it otherwise"
    return f"{text}."
