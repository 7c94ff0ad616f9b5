"""The svm evaluator: how well simple classifiers on the frozen codes tell the true classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.pipeline import Pipeline

from ...core import Classifies, Evaluator, InvalidSetting, Result, Score, setting
from ...core.errors import unknown
from ...core.run.results import write_table
from . import head as heads
from .figure import write_confusion
from .protocol import Missing, Task, draw, pose, seed_for

REPORT, CONFUSION, FIGURES = "svm.csv", "svm-confusion.csv", "figures"


@dataclass(frozen=True)
class SVMConfig:
    heads: tuple[str, ...] = setting(
        heads.HEADS, "classifiers: linear (SVM), svc (SVM, RBF kernel), forest, logistic"
    )
    labels: int = setting(0, "labelled samples of each class to train on, drawn at random; 0: all", low=0)
    test_share: float = setting(
        0.2, "share of each class to score where the data keep no test split apart", low=0.01, high=0.99
    )
    C: float | None = setting(None, "of linear, svc, logistic; none: 0.01, 1 and 0.1 in this order", low=1e-9)
    gamma: float | None = setting(None, "of svc; none: 1 / number of codes that vary", low=1e-12)
    grid: bool = setting(False, "search C, and gamma of svc, by cross-validation on training samples")
    folds: int = setting(3, "parts of the cross-validation", low=2)
    max_samples: int = setting(20000, "most training samples of svc; 0: all", low=0)
    grid_samples: int = setting(5000, "most training samples of the grid search; 0: all", low=0)


@dataclass(frozen=True)
class Judged:
    """The classes (M,) that a head gives the scored samples, how many it was trained on, what the grid
    search found, and what must be said of it."""

    predicted: np.ndarray
    samples: int
    found: str = ""
    notes: tuple[str, ...] = ()


class SVM(Evaluator):
    """Trains each head on the training split's codes and scores it on the test split's.

    Without a test split a share of each class is held back. The scores say so, and whether the encoder
    has seen the labels that are scored. ``softmax_accuracy`` is of the classes that an encoder which
    learned from labels gives itself. Where there is nothing to learn from, ``missing`` says why.
    Writes ``svm.csv``, ``svm-confusion.csv`` (of all heads) and ``figures/svm-confusion`` (of the first).

    Raises UnknownName for a head that does not exist, InvalidSetting for none.
    """

    Config: ClassVar[type[SVMConfig]] = SVMConfig

    def __init__(self, config: SVMConfig) -> None:
        super().__init__(config)
        for name in config.heads:
            if name not in heads.HEADS:
                raise unknown("head of svm", name, heads.HEADS)
        if not config.heads:
            raise InvalidSetting(f"svm.heads names no head; name some of {', '.join(heads.HEADS)}.")

    def evaluate(self, result: Result) -> Mapping[str, Score]:
        """``HEAD_accuracy`` of each head, the numbers of samples, and the protocol in words."""
        try:
            task = pose(result, self.config.labels, self.config.test_share)
        except Missing as reason:
            return {"missing": str(reason)}
        judged = {name: self._judge(name, task, result) for name in dict.fromkeys(self.config.heads)}
        scores: dict[str, Score] = {
            f"{name}_accuracy": float((j.predicted == task.test_y).mean()) for name, j in judged.items()
        }
        own = _own_accuracy(result, task)
        if own is not None:
            scores = {"softmax_accuracy": own, **scores}
        scores["train_samples"], scores["test_samples"] = len(task.train_y), len(task.test_y)
        scores["split"] = task.split
        if found := [j.found for j in judged.values() if j.found]:
            scores["grid"] = "; ".join(found)
        if notes := [*task.notes, *(note for j in judged.values() for note in j.notes)]:
            scores["notes"] = "; ".join(notes)
        _write(result.folder, task, judged)
        return scores

    def _judge(self, name: str, task: Task, result: Result) -> Judged:
        c, quiet, notes = self.config, result.quiet, []
        seed = seed_for(result.seed, name)
        made = heads.make(name, c.C, c.gamma, seed, torch.get_num_threads())
        z, y = task.train_z, task.train_y
        found = ""
        if c.grid and name != "forest":
            few = _some(y, c.grid_samples, seed_for(result.seed, "grid"))
            found = self._search(name, made, z[few], y[few], seed, quiet)
        some = _some(y, c.max_samples, seed_for(result.seed, "cap"))
        if name == "svc" and len(some) < len(y):
            notes.append(f"svc is trained on {len(some)} of {len(y)} samples (svm.max_samples)")
            z, y = z[some], y[some]
        predicted, ended = heads.fit_predict(name, made, z, y, task.test_z, quiet)
        if not ended:
            notes.append(f"{name} stopped after {heads.ITERATIONS} iterations before it had converged")
        return Judged(predicted, len(y), found, tuple(notes))

    def _search(self, name: str, made: Pipeline, z: np.ndarray, y: np.ndarray, seed: int, quiet: bool) -> str:
        """Give a head the best settings of its grid, and say which, or why there are none."""
        folds = min(self.config.folds, int(np.unique(y, return_counts=True)[1].min()))
        if folds < 2:
            return f"{name}: not searched, for a class has one training sample"
        best, accuracy = heads.search(name, made, z, y, folds, seed, quiet)
        values = ", ".join(f"{key}={value:.3g}" for key, value in best.items())
        return f"{name}: {values} ({accuracy:.4f} in {folds}-fold cross-validation on {len(y)} samples)"


def _some(y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Places of at most ``most`` of ``y``, as many of each class as it has a share, but one; 0: all."""
    if not 0 < most < len(y):
        return np.arange(len(y))
    return draw(y, lambda n: max(1, n * most // len(y)), seed)


@torch.no_grad()
def _own_accuracy(result: Result, task: Task) -> float | None:
    """The accuracy of the classes that the encoder itself gives; None where it has learned none."""
    if not isinstance(result.encoder, Classifies):
        return None
    device = next(result.encoder.parameters()).device
    parts = torch.from_numpy(task.test_z).split(65536)  # type: ignore[no-untyped-call]
    logits = torch.cat([result.encoder.classify(z.to(device)).cpu() for z in parts])
    return float((logits.argmax(dim=1).numpy() == task.test_y).mean()) if logits.shape[1] else None


def _write(folder: Path, task: Task, judged: Mapping[str, Judged]) -> None:
    """The tables of all heads and the picture of the first."""
    places = np.union1d(task.train_y, task.test_y)
    names = [task.names[place] for place in places]
    report, confusion, counts = [], [], {}
    for name, j in judged.items():
        parts = precision_recall_fscore_support(task.test_y, j.predicted, labels=places, zero_division=0)
        for label, precision, recall, f1, support in zip(names, *parts, strict=True):
            report.append([name, label, f"{precision:.6f}", f"{recall:.6f}", f"{f1:.6f}", int(support)])
        counts[name] = confusion_matrix(task.test_y, j.predicted, labels=places)
        confusion += [[name, c, *row] for c, row in zip(names, counts[name].tolist(), strict=True)]
    write_table(folder / REPORT, ["head", "class", "precision", "recall", "f1", "support"], report)
    write_table(folder / CONFUSION, ["head", "class", *names], confusion)
    first = next(iter(judged))
    accuracy = float((judged[first].predicted == task.test_y).mean())
    title = f"{first}: {accuracy:.1%} of {len(task.test_y):,}"
    write_confusion(folder / FIGURES, counts[first], names, title)
