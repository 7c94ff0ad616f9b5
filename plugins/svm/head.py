"""The heads: scikit-learn's classifiers, their grids, and how they are fitted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from ...core import progress

T = TypeVar("T")
HEADS = ("linear", "svc", "forest", "logistic")
DEFAULT_C = {"linear": 0.01, "svc": 1.0, "logistic": 0.1}  # for standardised codes; forest has none
CACHE_MB = 1000  # of the RBF SVC's kernel values
ITERATIONS = 1000  # of linear and logistic, at most
LOOK_SECONDS = 0.5
LINEAR_GRID: dict[str, tuple[float, ...]] = {"C": (0.0001, 0.001, 0.01, 0.1, 1.0)}
RBF_C, RBF_GAMMA = (0.1, 1.0, 10.0, 100.0), (0.25, 1.0, 4.0)  # gammas in units of "scale"


def make(name: str, C: float | None, gamma: float | None, seed: int, threads: int) -> Pipeline:
    """A head before it is fitted: all but the forest standardise the codes.

    linear: one against the others, squared hinge, solved in the primal, which is fast for many samples
    and deterministic. svc: RBF, one against one. logistic: multinomial.
    """
    if name == "forest":
        return make_pipeline(RandomForestClassifier(n_estimators=200, random_state=seed, n_jobs=threads))
    C = DEFAULT_C[name] if C is None else C
    heads = {
        "linear": LinearSVC(C=C, dual=False, max_iter=ITERATIONS, random_state=seed),
        "svc": SVC(C=C, gamma="scale" if gamma is None else gamma, cache_size=CACHE_MB),
        "logistic": LogisticRegression(C=C, max_iter=ITERATIONS),
    }
    return make_pipeline(StandardScaler(), heads[name])


def search(
    name: str, head: Pipeline, z: np.ndarray, y: np.ndarray, folds: int, seed: int, quiet: bool
) -> tuple[dict[str, float], float]:
    """The settings of a head's grid that are best in stratified cross-validation, and their accuracy there.

    z (N, D), y (N,): training samples, each class with at least ``folds``. Of equals the smallest C.
    """
    last = head.steps[-1][0]
    grid = LINEAR_GRID
    if name == "svc":
        scale = 1 / max(1, int(np.count_nonzero(z.std(axis=0))))  # 1 / (D * variance) of standardised codes
        grid = {"C": RBF_C, "gamma": tuple(scale * factor for factor in RBF_GAMMA)}
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    best: dict[str, float] = {}
    best_accuracy = -1.0
    candidates = list(ParameterGrid(grid))
    with progress(
        f"grid search of {name}", len(candidates), "candidates", quiet=quiet, least_seconds=2
    ) as advance:
        for candidate in candidates:
            tried = clone(head).set_params(**{f"{last}__{key}": value for key, value in candidate.items()})
            accuracy = aside(partial(_cross_validated, tried, z, y, parts), advance)
            advance(1)
            if accuracy > best_accuracy:
                best, best_accuracy = candidate, accuracy
    head.set_params(**{f"{last}__{key}": value for key, value in best.items()})
    return best, best_accuracy


def fit_predict(
    name: str, head: Pipeline, z: np.ndarray, y: np.ndarray, others: np.ndarray, quiet: bool
) -> tuple[np.ndarray, bool]:
    """The classes (M,) that a head fitted on ``z`` (N, D), ``y`` (N,) gives ``others`` (M, D), and whether
    its solver came to an end."""

    def work() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the scores say it
            head.fit(z, y)
        if name == "forest":
            head[-1].set_params(n_jobs=1)  # threads would add the trees' votes in any order
        predicted: np.ndarray = head.predict(others)
        return predicted

    with progress(f"fitting {name}", len(y), "samples", quiet=quiet, least_seconds=2) as advance:
        predicted = aside(work, advance)
        advance(len(y))
    ended = name not in ("linear", "logistic") or np.max(head[-1].n_iter_) < ITERATIONS
    return predicted, bool(ended)


def _cross_validated(head: Pipeline, z: np.ndarray, y: np.ndarray, parts: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(cross_val_score(head, z, y, cv=parts).mean())


def aside(work: Callable[[], T], advance: Callable[[int], None]) -> T:
    """What ``work`` gives, done on another thread: compiled solvers do not look for Ctrl-C, this one waits
    for them and does. ``advance`` is called with 0 meanwhile.

    After a KeyboardInterrupt the thread runs on until its solver ends, or the process.
    """
    future: Future[T] = Future()

    def target() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=target, daemon=True).start()
    while not wait([future], timeout=LOOK_SECONDS).done:
        advance(0)
    return future.result()
