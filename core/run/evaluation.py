"""What a trained model says of its samples and of held-out ones: placed, written, scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from ..console import phase, progress
from ..contract.interfaces import Clusterer, Encoder, Evaluator, Result
from ..data.data import Data
from ..errors import DeepclustError
from ..files import replacing
from ..toolbox.inference import assign, centers_of, distances, embed
from ..words import in_one_line
from . import results
from .run import Run


@dataclass(frozen=True)
class Trained:
    """A trained pair, the run that it comes from, and what run.json holds."""

    encoder: Encoder
    clusterer: Clusterer
    run: Run
    record: Mapping[str, Any]

    def place(self, data: Data, centers: Tensor | None = None) -> tuple[Result, Tensor]:
        """The samples of ``data`` in their clusters, and the clusters' centres, (K, D).

        centers: where they are known already; by default as ``centers_of`` finds them.
        """
        hidden, quiet = data.seal(), self.run.quiet
        with progress("embedding", len(data), "samples", quiet=quiet, least_seconds=2) as advance:
            z = embed(self.encoder, hidden, advance=advance)
        assignment = assign(self.clusterer, z)
        if centers is None:
            centers = centers_of(self.clusterer, z, assignment.labels)
        first, second = (distances(z, own, centers) for own in (assignment.labels, assignment.second))
        where = results.placed(assignment, first, second)
        result = Result(
            **where._asdict(), z=z.cpu().numpy(), centers=centers.cpu().numpy(),
            n_clusters=self.clusterer.n_clusters, truth=data.truth, data=hidden, encoder=self.encoder,
            clusterer=self.clusterer, folder=self.run.folder, seed=self.run.seed, files=data.files,
            key=data.key, quiet=quiet, record=self.record,
        )  # fmt: skip
        return result, centers


def write_results(result: Result, data: Data) -> None:
    """The tables and codes of a run, and the table of its held-out samples."""
    folder = result.folder
    where, n_clusters = results.placed_of(result), result.n_clusters
    results.write_labels(folder / results.LABELS, data, where, data.truth)
    results.write_clusters(folder / results.CLUSTERS, data, where, n_clusters, data.truth)
    results.write_examples(folder / results.EXAMPLES, data, where, n_clusters)
    with replacing(folder / results.EMBEDDING) as file:
        np.save(file, result.z)
    if data.skipped:
        results.write_table(folder / results.SKIPPED, [data.key, "reason"], data.skipped)
    if result.test is not None and data.test is not None:
        there = results.placed_of(result.test)
        results.write_labels(folder / results.TEST_LABELS, data.test, there, data.test.truth)


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
