"""Where samples belong, and the tables that say it."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data, Truth, assign
from deepclust.core.contract.assignment import Assignment
from deepclust.core.run.results import write_clusters, write_examples, write_labels
from deepclust.core.toolbox.inference import centers_of, distances


class Table(nn.Module):
    """A clusterer whose soft assignments are the codes themselves."""

    def __init__(self, n_clusters: int, centers: torch.Tensor | None = None) -> None:
        super().__init__()
        self.n_clusters, self.noise = n_clusters, False
        if centers is not None:
            self.centers = centers

    def forward(self, z):
        return z

    def predict(self, z):
        return z.argmax(dim=1)


def soft(n: int, k: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, k, generator=generator).softmax(dim=1)


def where(n: int = 40, k: int = 3, seed: int = 0) -> Assignment:
    rng = np.random.default_rng(seed)
    near, far = (rng.random(n).astype(np.float32) for _ in range(2))
    return replace(assign(Table(k), soft(n, k, seed)), distance=near, second_distance=far)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("k", [2, 3, 10])
def test_first_and_second_choice_are_those_of_a_sort(k, batch_size):
    q = soft(50, k)
    found = assign(Table(k), q, batch_size=batch_size)
    columns = found.labels, found.confidence, found.second, found.second_confidence
    for row, label, confidence, second, second_confidence in zip(
        q.tolist(), *(column.tolist() for column in columns), strict=True
    ):
        order = sorted(range(k), key=lambda j: -row[j])
        assert [label, second] == order[:2]
        assert [confidence, second_confidence] == [row[order[0]], row[order[1]]]


def test_the_second_choice_is_never_the_label_even_where_predict_is_not_the_largest():
    class Other(Table):
        def predict(self, z):
            return torch.zeros(len(z), dtype=torch.int64)

    found = assign(Other(3), soft(30, 3))
    assert (found.labels == 0).all()
    assert (found.second != 0).all()


def test_equal_choices_still_have_a_second():
    found = assign(Table(2), torch.full((4, 2), 0.5))
    assert (found.labels != found.second).all()
    assert (found.second_confidence == 0.5).all()


def test_centers_are_the_clusterers_else_the_means_of_codes():
    z = torch.randn(30, 4)
    labels = torch.arange(30) % 3
    own = torch.randn(3, 4)
    assert torch.equal(centers_of(Table(3, own), z, labels), own)
    means = centers_of(Table(3), z, labels)
    for k in range(3):
        assert torch.allclose(means[k], z[labels == k].mean(0), atol=1e-6)
    of_another_space = torch.randn(3, 7)
    assert torch.equal(centers_of(Table(3, of_another_space), z, labels), means)


def test_an_empty_cluster_has_no_centre_and_harms_no_other():
    z, labels = torch.randn(10, 2), torch.zeros(10, dtype=torch.int64)
    centers = centers_of(Table(2), z, labels)
    assert centers[1].isnan().all()
    assert distances(z, labels, centers).isfinite().all()


def test_distances_are_numpys():
    z, centers = torch.randn(25, 3), torch.randn(4, 3)
    labels = torch.randint(0, 4, (25,))
    expected = np.linalg.norm(z.numpy() - centers.numpy()[labels.numpy()], axis=1)
    assert np.allclose(distances(z, labels, centers).numpy(), expected, rtol=1e-6)


def test_prototypes_are_the_sure_and_doubtful_the_unsure():
    w = where()
    for k in range(3):
        members = [i for i in range(40) if w.labels[i] == k]
        sure = sorted(members, key=lambda i: (-w.confidence[i], w.distance[i], i))
        unsure = sorted(members, key=lambda i: (w.confidence[i] - w.second_confidence[i], i))
        assert w.prototypes(k).tolist() == sure
        assert w.doubtful(k).tolist() == unsure


def made(**columns) -> Assignment:
    """Four samples in the first of two clusters, equally sure."""
    ones = np.ones(4, np.float32)
    given = {
        "labels": np.zeros(4, int), "confidence": ones, "second": ones.astype(int),
        "second_confidence": ones * 0, "centers": np.zeros((2, 2)),
    }  # fmt: skip
    return Assignment(**given, **columns)


def test_of_equally_sure_ones_the_nearest_comes_first():
    w = made(distance=np.array([3, 1, 2, 1.0]), second_distance=np.ones(4))
    assert w.prototypes(0).tolist() == [1, 3, 2, 0]
    assert w.prototypes(1).tolist() == []


def test_of_equally_sure_ones_those_between_two_centres_are_doubtful():
    near, far = np.array([1, 1, 2, 0.0]), np.array([5, 3, 9, 0.0])
    w = made(distance=near, second_distance=far)
    assert w.doubtful(0).tolist() == [1, 2, 0, 3]
    assert replace(w, confidence=np.array([1, 1, 1, 0.9])).doubtful(0).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize("n", [1, 2, 5, 30, 100])
def test_no_example_is_a_prototype_and_doubtful(n):
    w = where(n, k=2)
    for k in range(2):
        members = w.prototypes(k)
        first, unsure = (part.tolist() for part in w.examples(k, 8, 4))
        assert first == members[: len(first)].tolist()
        assert not {*first} & {*unsure}
        assert len(first) + len(unsure) == min(12, len(members))
        assert len(first) >= 2 * len(unsure) - 1
        assert unsure == [i for i in w.doubtful(k).tolist() if i not in first][:4]


def test_clusters_so_far_apart_that_the_rest_is_0_have_the_nearest_as_second_choice():
    class Far(Table):
        def forward(self, z):
            return torch.softmax(-100 * torch.cdist(z, self.centers) ** 2, dim=1)

        def predict(self, z):
            return torch.cdist(z, self.centers).argmin(dim=1)

    centers = torch.tensor([[0.0, 0], [50, 0], [80, 0], [100, 0]])
    z = torch.tensor([[0.1, 0], [79, 0], [84, 0], [92, 0], [49, 0]])
    found = assign(Far(4, centers), z)
    assert found.labels.tolist() == [0, 2, 2, 3, 1]
    assert found.confidence.tolist() == [1] * 5
    assert found.second.tolist() == [1, 3, 3, 2, 2]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ODD = ['comma, and "quote".png', "line\nfeed.png", "<b>bold</b>.png", "ü/日本.png", "=1+1.csv"]


def test_the_table_of_labels_names_each_sample_and_says_what_was_found(tmp_path):
    w = where(5)
    data = Data(torch.zeros(5, 2), "five", files=ODD, key="file")
    truth = Truth(np.array([0, 1, -1, 1, 0]), ("cat", "dog"))
    write_labels(tmp_path / "labels.csv", data, w, truth)
    found = rows(tmp_path / "labels.csv")
    assert [r["file"] for r in found] == ODD
    assert [r["truth"] for r in found] == ["cat", "dog", "", "dog", "cat"]
    assert [int(r["cluster"]) for r in found] == w.labels.tolist()
    assert [int(r["second"]) for r in found] == w.second.tolist()
    assert np.allclose([float(r["confidence"]) for r in found], w.confidence, atol=1e-6)
    assert np.allclose([float(r["distance"]) for r in found], w.distance, rtol=1e-5)


def test_samples_without_names_have_indices_and_without_truth_no_column(tmp_path):
    write_labels(tmp_path / "labels.csv", Data(torch.zeros(5, 2), "five"), where(5))
    found = rows(tmp_path / "labels.csv")
    assert list(found[0]) == ["index", "cluster", "confidence", "distance", "second"]
    assert [r["index"] for r in found] == list("01234")


def test_the_table_of_clusters_counts_members_and_classes(tmp_path):
    w = where(100)
    w = replace(w, centers=np.zeros((4, 3)))
    data = Data(torch.zeros(100, 2), "many", files=[f"row {i}" for i in range(100)], key="id")
    rng = np.random.default_rng(1)
    truth = Truth(rng.integers(-1, 3, 100), ("cat", "dog", "emu"))
    write_clusters(tmp_path / "clusters.csv", data, w, truth)
    found = rows(tmp_path / "clusters.csv")
    assert [r["cluster"] for r in found] == list("0123")
    for k, row in enumerate(found[:3]):
        members = [i for i in range(100) if w.labels[i] == k]
        assert int(row["samples"]) == len(members) == round(100 * float(row["share"]))
        assert float(row["confidence"]) == pytest.approx(w.confidence[members].mean(), abs=1e-6)
        best = max(w.confidence[members])
        assert row["prototype"] in [f"row {i}" for i in members if w.confidence[i] == best]
        classes = [truth.names[truth.labels[i]] for i in members if truth.labels[i] >= 0]
        assert classes.count(row["majority"]) == max(map(classes.count, truth.names))
        share = classes.count(row["majority"]) / len(classes)
        assert float(row["majority_share"]) == pytest.approx(share, abs=1e-6)
    assert list(found[3].values()) == ["3", "0", "0.000000", "", "", "", ""]
    write_clusters(tmp_path / "without.csv", data, w, None)
    header = ["cluster", "samples", "share", "confidence", "prototype"]
    assert [list(r) for r in rows(tmp_path / "without.csv")] == [header] * 4


def test_the_table_of_examples_has_both_kinds_of_each_cluster(tmp_path):
    w = where(100)
    data = Data(torch.zeros(100, 2), "many", files=[f"row {i}" for i in range(100)], key="id")
    write_examples(tmp_path / "examples.csv", data, w)
    found = rows(tmp_path / "examples.csv")
    for k in range(3):
        for kind, members in zip(("prototype", "doubtful"), w.examples(k, 16, 16), strict=True):
            of_it = [r for r in found if r["cluster"] == str(k) and r["kind"] == kind]
            assert [r["id"] for r in of_it] == [f"row {i}" for i in members[:16]]
            assert [int(r["rank"]) for r in of_it] == list(range(len(of_it)))
