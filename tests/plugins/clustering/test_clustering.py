"""Scores held against brute force and against what must hold for any of them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from deepclust.core import Data, Result, Truth
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.plugins.clustering.metric import accuracy, contingency, purity


def best_by_trying(truth: np.ndarray, labels: np.ndarray) -> float:
    """The best one-to-one naming of clusters by classes, by trying all of them."""
    clusters = [c for c in sorted(set(labels.tolist())) if c != -1]
    names = sorted(set(truth.tolist())) + [None] * len(clusters)
    best = 0
    for naming in set(itertools.permutations(names, len(clusters))):
        name = dict(zip(clusters, naming, strict=True))
        best = max(best, sum(name.get(c) == t for c, t in zip(labels.tolist(), truth.tolist(), strict=True)))
    return best / len(truth)


def problems(count: int):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        classes = np.sort(rng.choice([-7, 0, 1, 2, 5, 1000], size=rng.integers(1, 5), replace=False))
        clusters = rng.choice([-1, 0, 1, 3, 40], size=rng.integers(1, 5), replace=False)
        n = int(rng.integers(1, 30))
        yield rng.choice(classes, n), rng.choice(clusters, n), rng


def test_accuracy_is_the_best_matching():
    for truth, labels, _ in problems(80):
        assert accuracy(truth, labels) == pytest.approx(best_by_trying(truth, labels))


def test_scores_do_not_depend_on_names_or_order():
    for truth, labels, rng in problems(40):
        new = {c: -1 if c == -1 else 100 + i for i, c in enumerate(rng.permutation(np.unique(labels)))}
        renamed = np.array([new[c] for c in labels])
        order = rng.permutation(len(truth))
        for score in (accuracy, purity):
            assert score(truth, renamed) == pytest.approx(score(truth, labels))
            assert score(truth.astype(str), labels) == pytest.approx(score(truth, labels))
            assert score(truth[order], labels[order]) == pytest.approx(score(truth, labels))


def test_purity_is_never_below_accuracy_and_both_are_shares():
    for truth, labels, _ in problems(80):
        assert 0 <= accuracy(truth, labels) <= purity(truth, labels) <= 1
        assert purity(truth, np.arange(len(truth))) == 1
        if -1 not in truth:
            assert accuracy(truth, truth) == purity(truth, truth) == 1


def test_noise_never_counts_as_right():
    truth = np.array([0, 0, 0, 1])
    assert accuracy(truth, np.full(4, -1)) == 0
    assert accuracy(truth, np.array([-1, -1, -1, 0])) == 0.25


def test_contingency_counts_each_pair():
    for truth, labels, _ in problems(20):
        counts = contingency(truth, labels)
        for i, t in enumerate(np.unique(truth)):
            for j, c in enumerate(np.unique(labels)):
                assert counts[i, j] == ((truth == t) & (labels == c)).sum()


@pytest.mark.parametrize(
    ("truth", "labels"), [([], []), ([0, 1], [0]), ([[0, 1]], [[0, 1]]), ([0, 1], [[0], [1]])]
)
def test_lists_that_do_not_match_are_refused(truth, labels):
    with pytest.raises(ValueError, match="equally long"):
        accuracy(np.array(truth), np.array(labels))


def test_effective_clusters_is_a_count_for_equal_sizes_and_less_otherwise():
    for k in (1, 2, 7):
        assert evaluate(np.repeat(np.arange(k), 6), None, k + 3)["effective_clusters"] == pytest.approx(k)
    uneven = evaluate(np.array([0] * 9 + [1]), None, 2)["effective_clusters"]
    assert 1 < uneven < 2
    assert uneven == pytest.approx(2 ** -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)))


def evaluate(labels, truth, n_clusters=3, z=None, clusterer=None, **settings):
    labels = np.asarray(labels, dtype=np.int64)
    n = len(labels)
    z = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32) if z is None else z
    cls = installed().load("evaluator", "clustering")
    result = Result(
        z=z, labels=labels, confidence=np.full(n, 0.75, np.float32),
        second=labels, second_confidence=np.zeros(n, np.float32), distance=np.ones(n, np.float32),
        centers=np.zeros((n_clusters, 4), np.float32), second_distance=np.ones(n, np.float32),
        truth=truth, data=Data(torch.from_numpy(z), "tiny").seal(), encoder=None, clusterer=clusterer,
        folder=None, seed=0,
    )  # fmt: skip
    return cls(build(cls.Config, settings, "clustering")).evaluate(result)


def test_a_perfect_result_scores_one():
    labels = np.arange(30) % 3
    z = np.eye(3, 4, dtype=np.float32)[labels] * 100 + np.random.default_rng(0).normal(size=(30, 4))
    scores = evaluate(labels, Truth((labels + 1) % 3, ("a", "b", "c")), z=z.astype(np.float32))
    assert [scores[s] for s in ("accuracy", "nmi", "ari", "purity")] == pytest.approx([1] * 4)
    assert scores["silhouette"] > 0.95
    assert scores["cluster_sizes"] == [10, 10, 10]
    assert scores["effective_clusters"] == pytest.approx(3)
    assert scores["mean_confidence"] == 0.75


def test_without_truth_there_are_no_scores_of_it():
    scores = evaluate(np.arange(30) % 3, None)
    assert not {"accuracy", "nmi", "ari", "purity", "samples_without_truth"} & set(scores)
    assert {"silhouette", "davies_bouldin", "cluster_sizes", "effective_clusters"} <= set(scores)


def test_samples_of_unknown_class_are_left_out_and_counted():
    rng = np.random.default_rng(1)
    truth, labels = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    hidden = truth.copy()
    hidden[::4] = -1
    scores = evaluate(labels, Truth(hidden, ("a", "b", "c")))
    known = hidden != -1
    assert scores["samples_without_truth"] == 10
    assert scores["accuracy"] == pytest.approx(best_by_trying(truth[known], labels[known]))
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(truth[known], labels[known]))
    assert scores["ari"] == pytest.approx(adjusted_rand_score(truth[known], labels[known]))
    assert sum(scores["cluster_sizes"]) == 40


def test_nothing_known_at_all_scores_no_truth():
    scores = evaluate(np.arange(9) % 3, Truth(np.full(9, -1), ()))
    assert scores["samples_without_truth"] == 9
    assert "accuracy" not in scores


def test_one_cluster_alone_and_one_for_each_sample():
    alone = evaluate([2] * 12, Truth(np.arange(12) % 2, ("a", "b")))
    assert alone["accuracy"] == alone["purity"] == 0.5
    assert alone["cluster_sizes"] == [0, 0, 12]
    assert alone["effective_clusters"] == pytest.approx(1)
    assert not {"silhouette", "davies_bouldin"} & set(alone)
    each = evaluate(np.arange(5), Truth(np.arange(5), tuple("abcde")), n_clusters=5)
    assert each["accuracy"] == 1
    assert "silhouette" not in each


def test_the_silhouette_is_sampled_as_told():
    labels = np.arange(60) % 3
    assert evaluate(labels, None, silhouette_samples="20")["silhouette_samples"] == 20
    assert "silhouette" not in evaluate(labels, None, silhouette_samples="0")


def test_neighbour_purity_is_the_share_of_nearest_codes_with_the_samples_class():
    rng = np.random.default_rng(3)
    z, truth = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    truth[50:] = -1
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    shares = []
    for i in range(50):
        near = [j for j in np.argsort(-(unit @ unit[i])) if j != i][:7]
        shares += [truth[j] == truth[i] for j in near if truth[j] != -1]
    labelled = Truth(truth, ("a", "b", "c"))
    scores = evaluate(np.zeros(60), labelled, z=z, neighbours="7")
    assert scores["neighbour_purity"] == pytest.approx(np.mean(shares))
    assert "neighbour_purity" not in evaluate(np.zeros(60), labelled, z=z, neighbours="0")
    assert "neighbour_purity" not in evaluate(np.zeros(60), None, z=z)
    apart = (10 * np.eye(4)[np.arange(60) % 3] + 0.1 * z).astype(np.float32)
    assert (
        evaluate(np.zeros(60), Truth(np.arange(60) % 3, ("a", "b", "c")), z=apart)["neighbour_purity"] > 0.94
    )


def test_mined_purity_is_the_share_of_the_clusterers_neighbours_with_the_samples_class():
    rng = np.random.default_rng(3)
    truth = np.arange(60) % 3
    truth[50:] = -1
    neighbours = rng.integers(-1, 60, (60, 7))
    pairs = [(i, j) for i in range(50) for j in neighbours[i].tolist() if j != -1 and truth[j] != -1]
    labelled = Truth(truth, ("a", "b", "c"))
    learned = SimpleNamespace(neighbours=torch.from_numpy(neighbours))
    scores = evaluate(np.zeros(60), labelled, clusterer=learned)
    assert scores["mined_purity"] == pytest.approx(np.mean([truth[i] == truth[j] for i, j in pairs]))
    assert "mined_purity" not in evaluate(np.zeros(60), None, clusterer=learned)
    assert "mined_purity" not in evaluate(np.zeros(60), labelled)
