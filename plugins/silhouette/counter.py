"""How many clusters the codes of a data set have, found without labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...core import Counter
from ...core.console import progress
from ...core.contract.interfaces import Count
from ...core.errors import InvalidData, TrainingFailed
from .certainty import UNSURE, judge, shown
from .eigengap import eigengaps

POOL = 8000  # codes that are looked at, drawn at random where there are more
AXES = 64  # principal axes that wider codes are projected on
SCORED = 2000  # codes that a silhouette, two clusterings' agreement and the neighbour graph are of
REPETITIONS = 20
REFERENCES = 4  # data sets without clusters, of each kind
RESTARTS = 5  # of each k-means
PER_CLUSTER = 4  # samples that each cluster must have on average, two in each half
CRITERION = (
    "Mean silhouette (Rousseeuw 1987) of held-out codes: in each of "
    f"{REPETITIONS} repetitions k-means learns centres from a random half of the codes and is scored on "
    "the other half; the number that wins most repetitions is chosen, or that which the neighbour graph "
    "shows clearly (eigengap of its normalised Laplacian, von Luxburg 2007). Stability is the mean adjusted "
    "Rand index between the clusterings of two repetitions (Lange et al. 2004; von Luxburg 2010); the "
    "reference is the score of a Gaussian or a uniform cloud of the same extent (Tibshirani et al. 2001)."
)


@dataclass(frozen=True)
class SilhouetteConfig:
    """It has no settings: what it rests on is in docs/count.md."""


class Silhouette(Counter):
    """The number of clusters by ``CRITERION``."""

    Config: ClassVar[type[SilhouetteConfig]] = SilhouetteConfig

    def check(self, n_samples: int, low: int, high: int) -> None:
        """Raise InvalidData where there are not some samples for each of the fewest clusters."""
        if n_samples < PER_CLUSTER * low:
            raise InvalidData(
                f"{n_samples} samples do not tell whether they are {low} clusters or up to {high}: that "
                f"takes {PER_CLUSTER * low} or more; give a number with --clusters."
            )

    def count(self, z: np.ndarray, low: int, high: int, seed: int, *, quiet: bool = False) -> Count:
        """See ``choose_count``."""
        return choose_count(z, low, high, seed, quiet=quiet)


def choose_count(z: np.ndarray, low: int, high: int, seed: int, *, quiet: bool = False) -> Count:
    """The number of clusters, from ``low`` to ``high``, of codes z (N, D); see ``CRITERION``.

    It depends on z and the seed alone, and not on z's place, scale or direction. Fewer than ``high``
    are tried where there are not 4 samples for each cluster, or not so many different ones. The evidence:
    ``certainty`` and ``doubts``, see ``certainty.Certainty``; ``tried``, for each number of clusters its
    ``n_clusters``, mean ``score`` and its ``deviation`` over repetitions, the ``chosen`` repetitions that it
    won, the ``lead`` of the chosen number over it in the same repetition and the ``lead_deviation``, the
    ``gap`` of the neighbour graph, ``stability``, and the ``reference``, what data without clusters score.

    Raises TrainingFailed for codes that are not finite or all equal, InvalidData for too few samples.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn brings it

    rng = np.random.default_rng(seed)
    pool = z[rng.permutation(len(z))[:POOL]].astype(np.float64)
    _check(z, pool)
    distinct = len({row.tobytes() for row in pool + 0.0})  # -0 is 0
    most = min(high, distinct, len(pool) // PER_CLUSTER)
    if most < low:
        raise InvalidData(
            f"--clusters auto:{low}-{high} cannot be told from {len(pool)} samples (at most {POOL} are "
            f"looked at) with {distinct} different codes: {low} clusters need {PER_CLUSTER * low} samples "
            f"and {low} different codes; give a smaller range, or a number with --clusters."
        )
    tried = list(range(low, most + 1))
    total = (REPETITIONS + 2 * REFERENCES) * len(tried)
    # More threads add in an order that differs from run to run.
    with (
        threadpool_limits(1),
        progress("counting the clusters", total, "clusterings", quiet=quiet) as advance,
    ):
        pool = _align(pool, seed)
        scores, labels = _repeat(pool, tried, rng, advance)  # (R, K), (R, K, P)
        reference = _refer(pool, tried, rng, advance)  # (2, REFERENCES, K)
        stability = [_agreement(labels[:, j]) for j in range(len(tried))]
        gaps = eigengaps(pool[:SCORED], most)[low - 2 :].round(3).tolist()
    winners = scores.round(6).argmax(axis=1)
    wins = np.bincount(winners, minlength=len(tried))
    mean, deviation = scores.mean(axis=0), scores.std(axis=0, ddof=1)
    best = shown(gaps)
    if best is None:
        best = int(np.lexsort((-mean, -wins))[0])
    leads = scores[:, [best]] - scores  # (R, K)
    clouds = reference.mean(axis=1)  # (2, K)
    rows = [
        {
            "n_clusters": k,
            "score": round(float(mean[j]), 4),
            "deviation": round(float(deviation[j]), 4),
            "chosen": int(wins[j]),
            "lead": round(float(leads[:, j].mean()), 4),
            "lead_deviation": round(float(leads[:, j].std(ddof=1)), 4),
            "gap": gaps[j],
            "stability": round(stability[j], 4),
            "reference": round(float(clouds[:, j].max()), 4),
        }
        for j, k in enumerate(tried)
    ]
    found = judge(rows, best, len(scores), len(pool), high, distinct)
    evidence = {
        "certainty": found.degree, "doubts": found.doubts, "criterion": CRITERION, "tried": rows,
    }  # fmt: skip
    return Count(tried[best], found.degree != UNSURE, found.sentence, found.alternatives, evidence)


def _check(z: np.ndarray, pool: np.ndarray) -> None:
    bad = len(z) - int(np.isfinite(z).all(axis=1).sum())
    if bad:
        raise TrainingFailed(
            f"the codes of {bad} of {len(z)} samples are not finite, so their clusters cannot be counted: "
            "train the encoder anew with a lower learning rate."
        )
    spread = pool.std(axis=0).max()
    if spread <= 1e-6 * np.abs(pool).max():  # what float32 leaves of equal codes
        raise TrainingFailed(
            f"the codes of all {len(z)} samples are equal, so their clusters cannot be counted: "
            "the encoder has collapsed, or the samples are all the same; train it longer or otherwise."
        )


def _align(pool: np.ndarray, seed: int) -> np.ndarray:
    """Codes (n, D) on their principal axes, at most AXES, with unit total variance, float32."""
    from sklearn.decomposition import PCA

    pool = pool - pool.mean(axis=0)
    pool /= np.sqrt(pool.var(axis=0).sum())
    axes = min(AXES, pool.shape[1], len(pool) - 1)
    aligned: np.ndarray = PCA(axes, random_state=seed % 2**32).fit_transform(pool)
    return aligned.astype(np.float32)


def _repeat(
    pool: np.ndarray, tried: Sequence[int], rng: np.random.Generator, advance: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (R, K) of the repetitions, and the clusters (R, K, P) of the same P codes in each."""
    scores, labels = [], []
    for _ in range(REPETITIONS):
        order = rng.permutation(len(pool))
        half = len(pool) // 2
        models = _fit(pool[order[:half]], tried, rng, advance)
        scores.append(_score(models, pool[order[half:]]))
        labels.append([m.predict(pool[:SCORED]) for m in models])
    return np.array(scores), np.array(labels)


def _refer(
    pool: np.ndarray, tried: Sequence[int], rng: np.random.Generator, advance: Callable[[int], None]
) -> np.ndarray:
    """Scores (2, REFERENCES, K) of data without clusters: Gaussian, and uniform along the axes."""
    spread, low, high = pool.std(axis=0), pool.min(axis=0), pool.max(axis=0)
    half = len(pool) // 2
    kinds: list[Callable[[], np.ndarray]] = [
        lambda: rng.standard_normal(pool.shape) * spread,
        lambda: rng.uniform(low, high, pool.shape),
    ]
    scores = []
    for draw in kinds:
        clouds = [draw().astype(np.float32) for _ in range(REFERENCES)]
        scores.append([_score(_fit(c[:half], tried, rng, advance), c[half:]) for c in clouds])
    return np.array(scores)


def _fit(
    x: np.ndarray, tried: Sequence[int], rng: np.random.Generator, advance: Callable[[int], None]
) -> list[Any]:
    """A k-means for each number of clusters."""
    from sklearn.cluster import KMeans, kmeans_plusplus

    # The first k of a sequence of k-means++ centres are those of k: one sequence serves all numbers.
    draws = [int(rng.integers(2**31)) for _ in range(RESTARTS)]
    starts = [kmeans_plusplus(x, tried[-1], random_state=draw)[0] for draw in draws]
    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different codes in this half than clusters
        for k in tried:
            fitted = [KMeans(k, init=start[:k], n_init=1, max_iter=100).fit(x) for start in starts]
            models.append(min(fitted, key=lambda model: model.inertia_))
            advance(1)
    return models


def _score(models: Sequence[Any], held: np.ndarray) -> list[float]:
    """The silhouette of each model's clusters of codes that it has not seen."""
    from sklearn.metrics.pairwise import euclidean_distances

    held = held[:SCORED]
    distances = euclidean_distances(held)
    return [silhouette(distances, model.predict(held)) for model in models]


def silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """The mean silhouette (Rousseeuw 1987, eq. 2) of n points; 0 where they are one cluster.

    distances: (n, n). labels: (n,) from 0, with gaps allowed. A point alone in its cluster counts 0.
    """
    found, labels = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        return 0.0
    n, own = len(labels), (np.arange(len(labels)), labels)
    members = np.zeros((n, len(found)), dtype=distances.dtype)
    members[own] = 1
    sizes = members.sum(axis=0)
    sums = distances @ members  # (n, K)
    inside = sums[own] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[own] = np.inf
    outside = means.min(axis=1)
    larger = np.maximum(inside, outside)
    values = np.divide(outside - inside, larger, out=np.zeros_like(larger), where=larger > 0)
    return float(np.where(sizes[labels] > 1, values, 0).mean(dtype=np.float64))


def _agreement(labels: np.ndarray) -> float:
    """The mean adjusted Rand index of each repetition's labels (R, P) with the next one's."""
    from sklearn.metrics import adjusted_rand_score

    pairs = zip(labels, np.roll(labels, -1, axis=0), strict=True)
    return float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))
