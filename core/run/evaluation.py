"""What a trained model says of its samples and of held-out ones: written and scored."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..console import phase
from ..contract.abilities import HasNeighbours
from ..contract.assignment import Assignment
from ..contract.interfaces import Evaluator, Result
from ..data.data import Data
from ..engine import checkpoint
from ..errors import DeepclustError
from ..files import replacing
from ..words import in_one_line, one_line
from . import results
from .bundle import Bundle
from .run import Run
from .scores import EVALUATORS, FAILED

NO_ROOM = (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))  # of what is written to


def result_of(
    model: Bundle, z: Tensor, assignment: Assignment, data: Data, run: Run, record: Mapping[str, Any]
) -> Result:
    """What evaluators look at: a model's codes z (N, D) of ``data`` and where these belong."""
    return Result(
        **vars(assignment), z=z.cpu().numpy(), truth=data.truth, data=data.seal(), encoder=model.encoder,
        clusterer=model.clusterer, folder=run.folder, seed=run.seed, files=data.files, key=data.key,
        items=data.items, quiet=run.quiet, record=record,
    )  # fmt: skip


def write_results(result: Result, data: Data) -> None:
    """The tables and codes of a run, and the table of its held-out samples."""
    folder = result.folder
    results.write_labels(folder / results.LABELS, data, result, data.truth)
    results.write_clusters(folder / results.CLUSTERS, data, result, data.truth)
    results.write_examples(folder / results.EXAMPLES, data, result)
    with replacing(folder / results.EMBEDDING) as file:
        np.save(file, result.z)
    if isinstance(result.clusterer, HasNeighbours) and isinstance(result.clusterer.neighbours, Tensor):
        with replacing(folder / results.NEIGHBOURS) as file:  # the model has none: they are of these samples
            np.save(file, result.clusterer.neighbours.cpu().numpy().astype(np.int32))
    if data.skipped:
        results.write_table(folder / results.SKIPPED, [data.key, "reason"], data.skipped)
    if result.test is not None and data.test is not None:
        results.write_labels(folder / results.TEST_LABELS, data.test, result.test, data.test.truth)


def protocol(data: Data, *, supervised: bool, seed: int, notices: Sequence[str] = ()) -> dict[str, Any]:
    """Which samples trained and which are scored, with what knowledge of labels; notices where there are."""
    scored = f"the same {len(data)} samples"
    if data.test is not None:
        scored += f"; scores named test_: {data.test.description}, which no training saw"
    return {
        "trained on": data.description,
        "scored on": scored,
        "labels used in training": supervised,
        "seed": seed,
        **({"notices": list(notices)} if notices else {}),
    }


def evaluate(
    result: Result, evaluators: Mapping[str, Evaluator], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """The run's summary with what the evaluators give by their names.

    summary: what is known already, scores of other evaluators included, which keep their places and stay.
    Each evaluator sees the scores of those whose place is before its own, and draws random numbers from the
    run's seed and its name. One that raises gives ``failed``, why, and is a notice; it takes nothing from
    the others. An OSError is not caught where it is the run's folder that cannot be written.
    """
    scores: dict[str, Any] = dict(summary.get(EVALUATORS, {}))
    protocol, health = dict(summary.get("protocol", {})), summary.get("health", {})
    last = [name for name, evaluator in evaluators.items() if evaluator.last]
    names = sorted(dict.fromkeys([*scores, *evaluators]), key=last.__contains__)
    for name in (n for n in names if n in evaluators):
        notices = [text for text in protocol.pop("notices", []) if not text.startswith(_failure(name))]
        before = {n: scores[n] for n in names[: names.index(name)] if n in scores}
        seen = replace(  # copies: nothing that one changes is kept
            result, scores=deepcopy(before), record=deepcopy(result.record), health=health,
            protocol=_noticed(protocol, notices),
        )  # fmt: skip
        with phase(f"the evaluator '{name}'"):
            checkpoint.seed_everything(Run(result.folder, result.seed).seed_for(f"evaluators/{name}"))
            try:
                given = evaluators[name].evaluate(seen)
                if not isinstance(given, Mapping):
                    raise TypeError(f"evaluate() gives scores by name, not {type(given).__name__}")
                scores[name] = {str(key): plain(value) for key, value in given.items()}
            except (Exception, SystemExit) as error:
                if isinstance(error, OSError) and _is_of_folder(error, result.folder):
                    raise
                known = isinstance(error, DeepclustError)
                reason = one_line(error) if known else in_one_line(error)
                scores[name] = {FAILED: reason}
                notices.append(f"{_failure(name)}{reason.removesuffix('.')}. All else is written.")
        protocol = _noticed(protocol, notices)
    beside = {key: value for key, value in summary.items() if key not in (EVALUATORS, "protocol")}
    return {EVALUATORS: {n: scores[n] for n in names}, "protocol": protocol, **beside}


def _failure(name: str) -> str:
    """How the notice of an evaluator that failed begins."""
    return f"the evaluator '{name}' failed: "


def _is_of_folder(error: OSError, folder: Path) -> bool:
    """Whether there is no room in a run's folder, or no permission, and not something else that failed."""
    if isinstance(error, PermissionError) and isinstance(error.filename, str):
        return Path(error.filename).resolve().is_relative_to(folder.resolve())
    return error.errno in NO_ROOM


def _noticed(protocol: Mapping[str, Any], notices: Sequence[str]) -> dict[str, Any]:
    return {**protocol, **({"notices": list(notices)} if notices else {})}


def plain(value: Any) -> Any:
    """A score as plain numbers, text and lists, what is not finite as None; raises TypeError for others."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (int, str)):
        return value
    raise TypeError(f"a score is a number, a text or a list of these, not {type(value).__name__}")
