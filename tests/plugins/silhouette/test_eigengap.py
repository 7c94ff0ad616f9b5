"""The neighbour graph's gap: against a naive one, large at separate groups, small in one piece."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from deepclust.plugins.silhouette.eigengap import FLOOR, NEIGHBOURS, SPECTRUM, eigengaps


def naive(z, most):
    n = len(z)
    d = np.sqrt(((z[:, None] - z[None]) ** 2).sum(axis=2))
    order = np.argsort(d + np.diag(np.full(n, np.inf)), axis=1)[:, :NEIGHBOURS]
    w = np.zeros((n, n))
    for i in range(n):
        for j in order[i]:
            w[i, j] = w[j, i] = np.exp(-(d[i, j] ** 2) / (d[i, order[i, -1]] * d[j, order[j, -1]]))
    laplacian = np.eye(n) - w / np.sqrt(np.outer(w.sum(axis=1), w.sum(axis=1)))
    values = np.linalg.eigvalsh(laplacian)  # value k stands at k - 1
    values = np.maximum(values, FLOOR * values[min(SPECTRUM, n - 2) - 1])
    return [values[k] / values[k - 1] / (k / (k - 1)) ** 2 for k in range(2, most + 1)]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_naive_one(seed):
    z = np.random.default_rng(seed).standard_normal((80, 3)).astype(np.float32)
    assert eigengaps(z, 8) == pytest.approx(naive(z.astype(np.float64), 8), rel=1e-4)


@pytest.mark.parametrize("k", [2, 3, 7, 12])
def test_separate_groups_are_counted(k):
    centers = 12 * np.random.default_rng(k).permutation(np.eye(12))[:k]
    z = make_blobs(60 * k, centers=centers, random_state=k)[0].astype(np.float32)
    gaps = eigengaps(z, 15)
    assert gaps.argmax() + 2 == k
    assert gaps.max() > 50
    turned = z[::-1] @ np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0] * 3 + 5
    assert eigengaps(turned.astype(np.float32), 15)[k - 2] == pytest.approx(gaps.max(), rel=0.05)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["line", "circle", "gaussian", "cube", "sheet"])
def test_one_piece_has_no_gap(kind, seed):
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, 800)
    z = {
        "line": np.stack([10 * t, 0.1 * rng.standard_normal(800)], axis=1),
        "circle": np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1),
        "gaussian": rng.standard_normal((800, 6)),
        "cube": rng.uniform(size=(800, 3)),
        "sheet": rng.uniform(size=(800, 2)) * [3, 1],
    }[kind]
    z = z + 0.02 * rng.standard_normal(z.shape)
    assert eigengaps(z.astype(np.float32), 12).max() < 1.8


def test_duplicates_and_outliers_are_finite():
    z = np.repeat(np.random.default_rng(0).standard_normal((6, 4)), 30, axis=0)
    z = np.concatenate([z, np.random.default_rng(1).standard_normal((5, 4)) * 1e3]).astype(np.float32)
    gaps = eigengaps(z, 20)
    assert np.isfinite(gaps).all()
    assert gaps.argmax() + 2 in (6, 7), "the outliers may be a group of their own"


def test_fewer_numbers_than_groups_show_nothing():
    z = make_blobs(600, centers=12 * np.eye(6), random_state=0)[0].astype(np.float32)
    assert eigengaps(z, 4).max() < 1


def test_too_few_codes_say_nothing():
    assert eigengaps(np.eye(4, dtype=np.float32), 6).tolist() == [0] * 5
    few = eigengaps(np.random.default_rng(0).standard_normal((9, 2)).astype(np.float32), 20)
    assert few.shape == (19,)
    assert (few[6:] == 0).all()


def test_same_codes_same_bits():
    z = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    assert (eigengaps(z.copy(), 9) == eigengaps(z, 9)).all()
