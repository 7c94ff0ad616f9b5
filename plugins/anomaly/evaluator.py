"""The anomaly evaluator: what is scored, which samples count as strange, what is written."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from ...core import Evaluator, Result, Score, setting
from ...core.run.results import write_table
from ...core.toolbox.figure import write_figure
from . import figure
from .score import score_samples

TABLE, FIGURES = "anomalies.csv", "figures"


@dataclass(frozen=True)
class AnomalyConfig:
    classes: tuple[str, ...] = setting(
        (), "classes of the test split that count as strange; empty: those that training never saw"
    )
    pictures: int = setting(10, "strangest and most normal samples in the picture; 0: none", low=0, high=50)


class Anomaly(Evaluator):
    """How well scores tell samples of unseen classes from the others of the test split.

    AUROC is the probability that a sample of an unseen class scores higher than one of the others
    (Fawcett 2006), 0.5 without any skill; average precision starts from the share of unseen samples.
    Each kind of score that is there gets both; the first of them orders ``anomalies.csv`` and the
    picture. Without a test split the run's own samples are ordered.
    """

    Config: ClassVar[type[AnomalyConfig]] = AnomalyConfig

    def evaluate(self, result: Result) -> Mapping[str, Score]:
        """Scores by name, and in words what is missing for them."""
        looked = result.test if result.test is not None else result
        found, broken = score_samples(looked, quiet=result.quiet)
        unseen, missing = _strange(result, self.config.classes)
        scores: dict[str, Score] = {}
        if unseen is None:
            scores["missing_for_auroc"] = missing
        else:
            known = unseen >= 0
            for kind, values in found.items():
                scores[f"auroc_{kind}"] = float(roc_auc_score(unseen[known], values[known]))
            for kind, values in found.items():
                ap = average_precision_score(unseen[known], values[known])
                scores[f"average_precision_{kind}"] = float(ap)
            scores["unseen_samples"] = int((unseen == 1).sum())
            scores["other_samples"] = int((unseen == 0).sum())
            scores["unseen_classes"] = ", ".join(_names(looked, unseen == 1))
        for kind in broken:
            scores[f"without_{kind}"] = f"the scores '{kind}' are not finite and were left out"
        if found:
            kind, values = next(iter(found.items()))
            order = np.lexsort((np.arange(len(values)), -values))
            scores["ordered_by"] = kind
            _write(result, looked, order, values)
            self._draw(result, looked, found, order, unseen)
        return scores

    def _draw(
        self,
        result: Result,
        looked: Result,
        found: Mapping[str, np.ndarray],
        order: np.ndarray,
        unseen: np.ndarray | None,
    ) -> None:
        folder = result.folder / FIGURES
        names = None if unseen is None else _names(looked, unseen == 1)
        write_figure(lambda: figure.draw_scores(found, unseen, names), folder, "anomaly-scores")
        n = min(self.config.pictures, len(order) // 2)
        if n and len(looked.data.shape) == 3:
            ends = {"strangest": order[:n], "most normal": order[::-1][:n]}
            rows = {
                title: (figure.pictures(looked.data, index), [_class(looked, i) for i in index.tolist()])
                for title, index in ends.items()
            }
            write_figure(lambda: figure.draw_samples(rows), folder, "anomaly-samples")


def _strange(result: Result, classes: Sequence[str]) -> tuple[np.ndarray | None, str]:
    """1 for test samples of classes that count as strange, 0 for others, -1 where the class is unknown;
    or None and what is missing.  # (N,)"""
    test = result.test
    if test is None:
        return None, f"a test split with a class that training never saw, {_how(result)}"
    if test.truth is None or (result.truth is None and not classes):
        return None, "the classes of the samples; AUROC compares scores with them"
    truth = test.truth
    there = set(_names(test, truth.labels >= 0))
    if classes:
        if absent := [c for c in classes if c not in there]:
            have = ", ".join(sorted(there))
            return None, f"class '{absent[0]}' of anomaly.classes in the test split, which has: {have}"
        strange = set(classes)
    else:
        assert result.truth is not None
        strange = there - set(_names(result, result.truth.labels >= 0))
    if not strange:
        return None, f"a class in the test split that training never saw, {_how(test)}"
    if strange == there:
        return None, "a class in the test split that does not count as strange"
    is_strange = np.array([*(name in strange for name in truth.names), False])
    return np.where(truth.labels < 0, -1, is_strange[truth.labels]), ""


def _how(result: Result) -> str:
    """The settings that leave a class out, with one that is there as the example."""
    names = _names(result, result.truth.labels >= 0) if result.truth is not None else []
    example = shlex.quote(names[-1]) if names else "CLASS"
    return f"as with -s data.split=train-test -s data.leave_out={example}"


def _names(result: Result, chosen: np.ndarray) -> list[str]:
    """The names of the classes among the samples ``chosen`` (N,), in the classes' order."""
    if result.truth is None:
        return []
    return [result.truth.names[code] for code in np.unique(result.truth.labels[chosen]).tolist()]


def _class(result: Result, i: int) -> str:
    """The name of a sample's class, nothing where it is not known."""
    if result.truth is None or (code := int(result.truth.labels[i])) < 0:
        return ""
    return result.truth.names[code]


def _write(result: Result, looked: Result, order: np.ndarray, values: np.ndarray) -> None:
    """The samples by falling score: name or index, score, class where there are classes."""
    files = looked.files
    header = [looked.key if files is not None else "index", "score"]
    if looked.truth is not None:
        header.append("class")

    def rows() -> Iterable[list[Any]]:
        for i in order.tolist():
            row = [files[i] if files is not None else i, f"{values[i]:.6g}"]
            yield row if looked.truth is None else [*row, _class(looked, i)]

    write_table(result.folder / TABLE, header, rows())
