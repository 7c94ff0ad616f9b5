"""A finished run scored again: evaluators see what the run gave them, and nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..contract.abilities import HasNeighbours, has_ability
from ..contract.interfaces import Result
from ..contract.reference import short
from ..contract.registry import Registry
from ..data.data import Data
from ..errors import DeepclustError
from ..files import write_json
from . import bundle as bundles
from . import folder as folders
from . import results
from . import scores as scored
from .evaluation import evaluate, result_of
from .memory import enough
from .opening import OTHERS
from .plan import Chosen
from .run import Run


def complete(
    folder: Path,
    record: Mapping[str, Any],
    summary: dict[str, Any],
    data: Data,
    asked: Sequence[Chosen],
    *,
    device: torch.device,
    registry: Registry,
    quiet: bool = False,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Run those of the evaluators that are due, then those that are last; the new summary, and their names.

    As ``evaluate_finished``, which is not called where none is due.
    """
    wanted = due(asked, record, summary)
    if not wanted:
        return summary, ()
    again = (choice for choice in asked if choice.cls.last and choice not in wanted)
    chosen = and_last([*wanted, *again], record, registry, {})
    names = tuple(choice.name for choice in chosen)
    if not quiet:
        print(f"  '{folder}' is finished: evaluating {', '.join(names)}, training nothing", file=sys.stderr)
    found, _ = evaluate_finished(
        folder, record, summary, data, chosen, device=device, registry=registry, quiet=quiet
    )
    return found, names


def recorded(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of the evaluators that ``run.json`` names, in their order."""
    return {own["name"]: own["settings"] for own in record["request"].get("evaluators", [])}


def due(asked: Iterable[Chosen], record: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[Chosen, ...]:
    """Those of the evaluators that have no scores there, failed, or had other settings."""
    own, scores = record["request"].get("evaluators", []), summary[scored.EVALUATORS]

    def is_done(choice: Chosen) -> bool:
        name = choice.name
        return name in scores and not scored.has_failed(scores[name]) and choice.record() in own

    return tuple(choice for choice in asked if not is_done(choice))


def and_last(
    asked: Sequence[Chosen],
    record: Mapping[str, Any],
    registry: Registry,
    settings: Mapping[str, Mapping[str, Any]],
) -> tuple[Chosen, ...]:
    """The evaluators asked for, then those of the run that are last, which report on the others.

    settings: by name, over the run's own. One that cannot be made any more is left out, with a note.
    """
    names = [choice.entry.component.name for choice in asked]
    more = []
    for name, own in recorded(record).items():
        if name in names:
            continue
        try:
            called = short(name)
            choice = Chosen.of(registry, "evaluator", name, {**own, **settings.get(called, {})}, called)
        except DeepclustError as error:
            if called in settings:
                raise
            print(f"Note: the evaluator '{name}' of the run is left as it is: {error}", file=sys.stderr)
        else:
            more += [choice] if choice.cls.last else []
    return tuple(sorted([*asked, *more], key=lambda choice: choice.cls.last))


def evaluate_finished(
    folder: Path,
    record: Mapping[str, Any],
    summary: Mapping[str, Any],
    data: Data,
    chosen: Sequence[Chosen],
    *,
    device: torch.device,
    registry: Registry,
    quiet: bool = False,
) -> tuple[dict[str, Any], Result]:
    """Run the evaluators on the finished run in ``folder``, which is locked, and keep what they give there.

    record, summary: what run.json and scores.json hold. data: the run's, with the truth. Returns the new
    summary, and what they looked at; evaluators that are not among ``chosen`` keep their scores.
    Raises DeepclustError where the model cannot be opened, or is not that of ``labels.csv``.
    """
    evaluators = {choice.name: choice.cls(choice.config) for choice in chosen}
    record = _with_evaluators(record, chosen)
    advice = "free memory, and give the same command again."
    with enough(f"evaluating '{folder}'", lambda: advice):
        bundle = bundles.load(folder, device, registry)
        _recall(bundle.clusterer, summary, folder)
        seed, precision = record["request"]["seed"], record["request"].get("precision", "float32")
        work = Run(folder, seed, device, precision, quiet=quiet, registry=registry)
        data = data.to(device)

        def look(samples: Data) -> Result:
            found = bundle.predict(samples.seal(), quiet=quiet)
            return result_of(bundle, *found, samples, work, record)

        result = look(data)
        _check_labels(folder / results.LABELS, result.labels)
        if data.test is not None:
            result = replace(result, test=look(data.test))
        try:
            found = evaluate(result, evaluators, summary)
            write_json(folder / scored.SCORES, found)
            write_json(folder / folders.RECORD, record)
        except OSError as error:
            raise folders.cannot_write(folder, error) from error
    return found, result


def _with_evaluators(record: Mapping[str, Any], chosen: Sequence[Chosen]) -> dict[str, Any]:
    """The run's record with these evaluators in it; those that are last stand behind the others."""
    own = [{"name": name, "settings": settings} for name, settings in recorded(record).items()]
    new = {choice.entry.component.name: choice for choice in chosen}
    own = [new[o["name"]].record() if o["name"] in new else o for o in own]
    own += [choice.record() for name, choice in new.items() if name not in recorded(record)]
    own.sort(key=lambda o: o["name"] in new and new[o["name"]].cls.last)
    versions = record.get("versions", {})
    plugins = {name: f"{c.entry.distribution} {c.entry.version}" for name, c in new.items()}
    return {
        **record,
        "request": {**record["request"], "evaluators": own},
        "versions": {**versions, "plugins": {**versions.get("plugins", {}), **plugins}},
    }


def _recall(clusterer: Any, summary: Mapping[str, Any], folder: Path) -> None:
    """Give a clusterer back what ``fit`` left in it for evaluators and no model keeps."""
    clusterer.unsupervised_loss = summary.get("clusterer", {}).get("unsupervised_loss")
    if not has_ability(type(clusterer), HasNeighbours) or isinstance(clusterer, HasNeighbours):
        return
    try:
        clusterer.neighbours = torch.from_numpy(np.load(folder / results.NEIGHBOURS).astype(np.int64))
    except (OSError, ValueError):
        print(
            f"Note: '{folder}' does not hold the neighbours that the clusterer learned from (runs of older "
            "versions kept none): evaluators do without.",
            file=sys.stderr,
        )


def _check_labels(path: Path, labels: np.ndarray) -> None:
    """Raise DeepclustError where the table of a run's labels is there and not of these labels (N,)."""
    if not path.exists():
        return
    advice = f"remove '{path}' if it is not needed: the labels come from the model"
    try:
        there = results.read_labels(path)
    except (OSError, ValueError) as error:
        raise DeepclustError(f"'{path}' cannot be read: {error}; {advice}.") from error
    if len(there) != len(labels):
        raise DeepclustError(f"'{path}' has {len(there):,} rows for {len(labels):,} samples; {advice}.")
    count = int((there != labels).sum())
    if count > OTHERS * len(labels):
        raise DeepclustError(
            f"the model puts {count:,} of {len(labels):,} samples into other clusters than '{path}' says: "
            f"the model is another run's, or the table was changed; {advice}."
        )
    if count:
        print(
            f"Note: the model puts {count:,} of {len(labels):,} samples into other clusters here than "
            f"'{path}' says, as another device or version may; the scores are of the model's.",
            file=sys.stderr,
        )
