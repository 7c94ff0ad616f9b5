"""Which samples the heads are trained on, and which are scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...core import Result, Truth
from ...core.words import counted

ENCODER: dict[bool | None, str] = {  # by whether it learned from labels, where there is no test split
    True: "; the encoder learned from the scored samples' labels: this is no held-out accuracy",
    False: "; the encoder was trained on the scored samples too, without their labels",
}


class Missing(Exception):
    """What heads need and the data lack, in a sentence."""


@dataclass(frozen=True)
class Task:
    """Codes (N, D) to train on and (M, D) to score, with their classes (N,), (M,) as places in ``names``.

    split: the protocol in words. notes: what else one must know to read the scores.
    """

    train_z: np.ndarray
    train_y: np.ndarray
    test_z: np.ndarray
    test_y: np.ndarray
    names: tuple[str, ...]
    split: str
    notes: tuple[str, ...]


def seed_for(seed: int, what: str) -> int:
    """A seed that scikit-learn takes (32 bits): a function of the run's seed and a name alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/svm/{what}".encode(), digest_size=4).digest(), "big")


def draw(y: np.ndarray, how_many: Callable[[int], int], seed: int) -> np.ndarray:
    """Places, in order, of samples drawn from each class of ``y`` (N,): ``how_many`` of so many there are."""
    rng = np.random.default_rng(seed)
    drawn = []
    for members in (np.flatnonzero(y == label) for label in np.unique(y)):
        drawn.append(rng.permutation(members)[: how_many(len(members))])
    return np.sort(np.concatenate(drawn))


def pose(result: Result, labels: int, test_share: float) -> Task:
    """The task that a result poses, drawn by its seed.

    The test split is scored where there is one, else ``test_share`` of each class, at least one sample
    of each class that has two. labels: to train on of each class at most; 0: all. Samples without a
    class are left out.

    Raises Missing where there is no truth, nothing to score, or one class alone to train on.
    """
    truth, test = result.truth, result.test
    if truth is None or not (truth.labels >= 0).any():
        raise Missing(f"no labels in {result.data.description}: there is nothing to train heads on")
    known = truth.labels >= 0
    z, y, names, notes = result.z[known], truth.labels[known], list(truth.names), []
    names += [str(label) for label in range(len(names), int(y.max()) + 1)]
    without = int((~known).sum())
    learned = result.protocol.get("labels used in training")
    trained = f"{counted(labels, 'label')} per class" if labels else "all labels"
    if test is not None:
        if test.truth is None or not (test.truth.labels >= 0).any():
            raise Missing(f"no labels in {test.data.description}: there is nothing to score")
        test_known = test.truth.labels >= 0
        test_z, test_y = test.z[test_known], _codes(test.truth, names)[test_known]
        without += int((~test_known).sum())
        split = (
            f"trained on {trained} of {result.data.description}; scored on {test.data.description}, "
            "which no training saw"
        )
    else:
        held = draw(y, lambda n: min(max(1, round(test_share * n)), n - 1), seed_for(result.seed, "split"))
        if not len(held):
            raise Missing("no class has two labelled samples, one to train on and one to score")
        scored = np.zeros(len(y), bool)
        scored[held] = True
        single = [names[label] for label in np.unique(y) if (y == label).sum() == 1]
        if single:
            notes.append(f"{_classes(single)} with one labelled sample: trained on and never scored")
        z, y, test_z, test_y = z[~scored], y[~scored], z[scored], y[scored]
        split = (
            f"trained on {trained} among {1 - test_share:.0%} of each class, scored on the other "
            f"{test_share:.0%}: {result.data.description}{ENCODER.get(learned, '')}"
        )
    if len(np.unique(y)) < 2:
        raise Missing(f"only one class, '{names[y[0]]}', is labelled in {result.data.description}")
    if labels:
        some = draw(y, lambda n: min(labels, n), seed_for(result.seed, "labels"))
        z, y = z[some], y[some]
        if learned:
            notes.append(f"the encoder learned from more labels than the {labels} per class of the heads")
    unseen = [label for label in np.unique(test_y) if label not in y]
    if unseen:
        count = int(np.isin(test_y, unseen).sum())
        which = _classes([names[label] for label in unseen])
        notes.append(
            f"{which} not among the training samples: {counted(count, 'scored sample')} "
            f"{'counts' if count == 1 else 'count'} as wrong"
        )
    if without:
        notes.append(
            f"{counted(without, 'sample')} without a class {'is' if without == 1 else 'are'} left out"
        )
    return Task(z, y, test_z, test_y, tuple(names), split, tuple(notes))


def _codes(truth: Truth, names: list[str]) -> np.ndarray:
    """The labels of ``truth`` (N,) as places in ``names``, which grows by the names that it lacks."""
    there = {name: place for place, name in enumerate(names)}
    places = []
    for name in (*truth.names, *map(str, range(len(truth.names), int(truth.labels.max()) + 1))):
        if name not in there:
            there[name] = len(names)
            names.append(name)
        places.append(there[name])
    return np.where(truth.labels >= 0, np.array(places, dtype=np.int64)[truth.labels], -1)


def _classes(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return f"class {shown}" if len(names) == 1 else f"{len(names)} classes ({shown})"
