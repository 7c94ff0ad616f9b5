"""New data through a finished model: which cluster each sample belongs to, and the files that say so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.console import phase
from ...core.contract import config as configs
from ...core.contract.assignment import NOISE, Assignment
from ...core.contract.interfaces import Storage
from ...core.contract.registry import Registry, installed
from ...core.data.data import Data
from ...core.errors import DeepclustError, unknown
from ...core.files import check_new_file, replacing
from ...core.run import bundle as bundles
from ...core.run import results
from ...core.run.bundle import Bundle
from ...core.run.opening import open_model
from ...core.run.plan import Chosen
from ...core.run.reader import choose_data, split_name
from ...core.run.sorting import Sorting
from ...core.words import counted

NAMED = 3  # files that could not be read, where no table lists them


@dataclass(frozen=True)
class Prediction:
    """What a model says of data: codes z (N, D), and where the samples belong."""

    bundle: Bundle
    data: Data
    z: torch.Tensor
    where: Assignment


def carry_out(
    model: Path,
    asked: str,
    storage: Storage,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    labels: Path | None = None,
    embedding: Path | None = None,
    sorting: Sorting | None = None,
    overwrite: bool = False,
    registry: Registry | None = None,
) -> Prediction:
    """Predict the data ``asked`` for, a name or a path, and write what is named.

    model: a run's folder, or a .safetensors file of one. settings: those of the part ``data``.
    labels, embedding, sorting: where tables, codes and links go. overwrite: files that are there.
    Raises DeepclustError, before anything is written, for whatever is wrong with the request.
    """
    registry = registry or installed()
    for path in (labels, embedding):
        if path is not None:
            _check_output(path, asked, overwrite)
    if labels is not None and labels == embedding:
        raise DeepclustError(f"'{labels}' cannot take both the labels and the codes; name two files.")
    bundle = open_model(model, device, registry)
    settings = settings or {}
    chosen = choose(asked, settings, bundle, registry)
    _say_inherited(bundle, chosen, settings.get("data", {}), registry, quiet=storage.quiet)
    for name in configs.of_training(chosen.cls.Config, settings.get("data", {})):
        print(
            f"Note: data.{name} has no effect here: new data are made as the run's own were.", file=sys.stderr
        )
    data = load_data(bundle, chosen, storage)
    for line in () if storage.quiet else data.said:
        print(f"  {line}", file=sys.stderr)
    for notice in data.notices:
        print(f"Note: {notice}", file=sys.stderr)
    if sorting is not None:
        sorting.check(data)
    with phase("predicting"):
        z, where = bundle.predict(data.to(bundle.centers.device).seal(), quiet=storage.quiet)
    if labels is None and data.skipped:
        print(f"Note: {_lost(data)}", file=sys.stderr)
    if labels is not None:
        _write_labels(labels, data, where)
    if embedding is not None:
        with _writing(embedding), replacing(embedding) as file:
            np.save(file, z.cpu().numpy())
    if sorting is not None:
        sorting.sort(data, where.labels, bundle.n_clusters, quiet=storage.quiet)
    return Prediction(bundle, data, z, where)


def choose(
    asked: str, settings: Mapping[str, Mapping[str, Any]], bundle: Bundle, registry: Registry
) -> Chosen:
    """The data set of a name or path with its settings: the run's where it read the run's data as well,
    those of the part ``data`` over them.

    Raises UnknownName, InvalidSetting, or InvalidData for a path that nothing or more than one reads.
    """
    for part in settings:
        if part != "data":
            raise unknown("part with settings", part, ["data"], "The model's own stay as they were trained.")

    def make(part: str, kind: str, name: str, **more: Any) -> Chosen:
        cls = registry.load(kind, name)
        values = {**bundle.inherited(name, cls.Config), **settings.get(part, {}), **more}
        return Chosen(registry.find(kind, name), cls, configs.build(cls.Config, values, part))

    return choose_data(asked, registry, make, usual=bundle.record.get("data", {}).get("name"), option="")


def _say_inherited(
    bundle: Bundle, chosen: Chosen, given: Mapping[str, Any], registry: Registry, *, quiet: bool
) -> None:
    """Say which settings the data are read with that are the run's, and where these hold for no such data."""
    ran = bundle.record.get("data", {}).get("name")
    if ran is None:
        return
    same = ran == chosen.entry.component.name
    try:
        config = chosen.cls.Config if same else registry.load("dataset", ran).Config
        settings = bundle.inherited(ran, config)
        usual = configs.to_dict(configs.build(config, {}, "data"))
    except DeepclustError:  # it is not installed, and does not read these data
        settings, usual = {}, {}
    changed = {key: value for key, value in settings.items() if value != usual.get(key) and key not in given}
    shown = ", ".join(f"data.{key}={_shown(value)}" for key, value in changed.items())
    if same and shown and not quiet:
        print(f"  read as the run's data were: {shown}", file=sys.stderr)
    if not same and (shown or bundle.preparation.extra):
        print(
            f"Note: the run's data were read by '{ran}'{' with ' + shown if shown else ''}; these are read "
            f"by '{chosen.entry.component.name}', which knows nothing of that. Are they made alike?",
            file=sys.stderr,
        )


def _shown(value: Any) -> str:
    """A setting as ``-s`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def load_data(bundle: Bundle, chosen: Chosen, storage: Storage) -> Data:
    """New data, made as the model's own were.

    Raises InvalidData where they do not fit.
    """
    with phase("reading the data"):
        data: Data = chosen.cls(chosen.config).load_like(storage, bundle.preparation)
        return bundles.check_fits(bundle, data)


def _lost(data: Data) -> str:
    """Which files could not be read, the first few with the reason."""
    named = "; ".join(f"'{file}': {reason}" for file, reason in data.skipped[:NAMED])
    more = "; ..." if len(data.skipped) > NAMED else ""
    return f"{counted(len(data.skipped), 'file')} could not be read: {named}{more}"


def skipped_beside(labels: Path) -> Path:
    """Where the table goes of what could not be read: ``labels.csv`` has ``labels.skipped.csv``."""
    return labels.with_name(f"{labels.stem}.{results.SKIPPED}")


def _write_labels(labels: Path, data: Data, where: Assignment) -> None:
    with _writing(labels):
        results.write_labels(labels, data, where)
        beside = skipped_beside(labels)
        if data.skipped or beside.exists():  # of an earlier prediction
            results.write_table(beside, [data.key, "reason"], data.skipped)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeepclustError(f"cannot write '{path}': {error.strerror or error}.") from error


def _check_output(path: Path, asked: str, overwrite: bool) -> None:
    """Raise DeepclustError where ``path`` cannot be a new file, before anything is computed."""
    check_new_file(path, overwrite=overwrite)
    data = os.path.expanduser(split_name(asked)[1])
    if path.exists() and os.path.exists(data) and path.samefile(data):
        raise DeepclustError(f"'{path}' is the data; name another file for what is said of them.")


def summary(prediction: Prediction) -> list[tuple[int, int, float, float]]:
    """For each cluster its number, samples, share of all, and mean confidence (NaN where it is empty).

    Noise, where there is any, comes last, with the number -1 and no confidence.
    """
    labels, confidence = prediction.where.labels, prediction.where.confidence
    places = np.where(labels == NOISE, prediction.bundle.n_clusters, labels)
    counts = np.bincount(places, minlength=prediction.bundle.n_clusters)
    sums = np.bincount(places, confidence, minlength=len(counts))
    rows = [
        (k, count, count / len(labels), total / count if count else float("nan"))
        for k, (count, total) in enumerate(zip(counts.tolist(), sums.tolist(), strict=True))
    ]
    if len(rows) > prediction.bundle.n_clusters:
        rows[-1] = (NOISE, *rows[-1][1:3], float("nan"))
    return rows


def show(prediction: Prediction, labels: Path | None) -> None:
    """Print the sizes of the clusters, and where the labels are."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("cluster", "samples", "share", "mean confidence"):
        table.add_column(column, justify="right")
    for cluster, count, share, confidence in summary(prediction):
        shown = "" if np.isnan(confidence) else f"{confidence:.3f}"
        table.add_row("noise" if cluster == NOISE else str(cluster), f"{count:,}", f"{share:.1%}", shown)
    console = Console()
    console.print(table)
    skipped = len(prediction.data.skipped)
    if skipped and labels is not None:
        lost = f"{counted(skipped, 'file')} could not be read: see {skipped_beside(labels)}"
        console.print(lost, highlight=False, markup=False, soft_wrap=True)
    last = (
        f"The labels are in {labels}" if labels is not None else "-o labels.csv writes the labels to a file."
    )
    console.print(last, highlight=False, markup=False, soft_wrap=True)
