"""What a trained model says of its samples and of held-out ones: written and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..console import phase
from ..contract.assignment import Assignment
from ..contract.interfaces import Evaluator, Result
from ..data.data import Data
from ..errors import DeepclustError
from ..files import replacing
from ..words import in_one_line
from . import results
from .bundle import Bundle
from .run import Run


def result_of(
    model: Bundle, z: Tensor, assignment: Assignment, data: Data, run: Run, record: Mapping[str, Any]
) -> Result:
    """What evaluators look at: a model's codes z (N, D) of ``data`` and where these belong."""
    return Result(
        **vars(assignment), z=z.cpu().numpy(), truth=data.truth, data=data.seal(), encoder=model.encoder,
        clusterer=model.clusterer, folder=run.folder, seed=run.seed, files=data.files, key=data.key,
        quiet=run.quiet, record=record,
    )  # fmt: skip


def write_results(result: Result, data: Data) -> None:
    """The tables and codes of a run, and the table of its held-out samples."""
    folder = result.folder
    results.write_labels(folder / results.LABELS, data, result, data.truth)
    results.write_clusters(folder / results.CLUSTERS, data, result, data.truth)
    results.write_examples(folder / results.EXAMPLES, data, result)
    with replacing(folder / results.EMBEDDING) as file:
        np.save(file, result.z)
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
    result: Result, evaluators: Mapping[str, Evaluator], before: Mapping[str, Any]
) -> dict[str, Any]:
    """The scores that are there before, and what the evaluators give by their names, in their order.

    Each evaluator sees the scores before it. One that raises gives ``failed``, why, and is a notice;
    it takes nothing from the others. Of OSError nothing is caught: it is the run's folder that fails.
    """
    scores: dict[str, Any] = dict(before)
    for name, evaluator in evaluators.items():
        with phase(f"the evaluator '{name}'"):
            try:
                given = evaluator.evaluate(replace(result, scores=scores))
                if not isinstance(given, Mapping):
                    raise TypeError(f"evaluate() gives scores by name, not {type(given).__name__}")
                scores[name] = {str(key): _plain(value) for key, value in given.items()}
            except OSError:
                raise
            except (Exception, SystemExit) as error:
                known = isinstance(error, DeepclustError)
                reason = " ".join(str(error).split()) if known else in_one_line(error)
                scores[name] = {"failed": reason}
                said = f"the evaluator '{name}' failed: {reason.removesuffix('.')}. All else is written."
                protocol = scores.get("protocol", {})
                scores["protocol"] = {**protocol, "notices": [*protocol.get("notices", []), said]}
    return scores


def _plain(value: Any) -> Any:
    """A score as plain numbers, text and lists; raises TypeError for what is none of these."""
    if isinstance(value, (np.generic, np.ndarray, Tensor)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (int, float, str)):
        return value
    raise TypeError(f"a score is a number, a text or a list of these, not {type(value).__name__}")
