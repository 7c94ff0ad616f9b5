"""Samples and their truth: kept apart, checked before anything trains, identified by their values."""

import gc

import numpy as np
import pytest
import torch

from deepclust.core import Data, InvalidData, Truth, truth_of
from deepclust.core.data import data as module
from deepclust.core.errors import LabelsHidden


def test_ids_become_classes_in_sorted_order():
    truth = truth_of(np.array([30, 7, 7, -5, 30]))
    assert truth.labels.tolist() == [2, 1, 1, 0, 2]
    assert truth.names == ("-5", "7", "30")
    assert truth.labels.dtype == np.int64


def test_the_classes_of_any_ids_are_those_of_their_names():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 50)
    for ids in (np.array([0, 1, 2, 3]), np.array([2, 9, 40, 41]), np.array(["a", "b", "c", "é"]),
                np.array([1.0, 2.0, 5.0, 6.0]), np.array([b"a", b"b", b"c", b"d"]),
                np.array([0, 1, 2, 2**63], dtype=np.uint64)):  # fmt: skip
        truth = truth_of(ids[codes])
        assert np.array_equal(truth.labels, codes)
        expected = [i.decode() if isinstance(i, bytes) else i for i in ids.tolist()]
        assert [type(e)(n) for n, e in zip(truth.names, expected, strict=True)] == expected


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_minus_one_stays_unknown(dtype):
    truth = truth_of(np.array([-1, 5, -1, 3], dtype=dtype))
    assert truth.labels.tolist() == [-1, 1, -1, 0]
    assert truth.names == ("3", "5")


def test_given_names_and_columns():
    assert truth_of(np.array([0, 1]), ["cat", "dog"]).names == ("cat", "dog")
    assert truth_of(np.array([[4], [2]])).labels.tolist() == [1, 0]
    assert truth_of(np.array([True, False])).labels.tolist() == [1, 0]
    assert truth_of([3, 1]).labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((3, 2), int),
        np.zeros((2, 2, 2), int),
        np.array(3),
        np.array([0.5, 1.0]),
        np.array([0.0, np.nan]),
        np.array([0.0, np.inf]),
        np.array([0, None], dtype=object),
        np.array([1j, 0]),
    ],
    ids=str,
)
def test_labels_that_cannot_be_ids_are_refused(labels):
    with pytest.raises(InvalidData, match="labels"):
        truth_of(labels)


def labelled(n: int = 12) -> Data:
    x = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    return Data(x, "twelve", revealed=truth_of(np.arange(n) % 4 + 10, ["north", "east", "south", "west"]))


def reachable(start: object) -> list[object]:
    """Everything that can be reached from an object through the garbage collector's eyes, types apart."""
    found, queue = {id(start): start}, [start]
    while queue:
        for item in gc.get_referents(queue.pop()):
            if id(item) not in found and not isinstance(item, type) and not hasattr(item, "__loader__"):
                found[id(item)] = item
                queue.append(item)
    return list(found.values())


def test_sealed_data_hold_no_labels_anywhere():
    data = labelled()
    sealed = data.seal()
    for hidden in (sealed, sealed.to(torch.device("cpu")), sealed.seal()):
        with pytest.raises(LabelsHidden, match="supervised"):
            _ = hidden.truth
        assert not any(isinstance(o, (Truth, np.ndarray)) or o == "north" for o in reachable(hidden))
    assert any(isinstance(o, Truth) for o in reachable(data)), "the search does find what is not sealed"
    assert torch.equal(sealed.x, data.x)
    assert data.truth.names == ("north", "east", "south", "west")


def test_data_without_labels_have_no_truth_but_do_not_raise():
    assert Data(torch.zeros(2, 2), "two").truth is None


def test_batches_are_the_samples_asked_for():
    x = torch.arange(24, dtype=torch.float32).reshape(6, 2, 2)
    data = Data(x, "six")
    assert torch.equal(data.batch(torch.tensor([5, 0, 5])), x[[5, 0, 5]])
    assert torch.equal(data.slice(2, 4), x[2:4])
    assert torch.equal(data.slice(4, 100), x[4:])
    assert (len(data), data.shape) == (6, (2, 2))


def test_bytes_become_zero_to_one():
    x = torch.arange(256, dtype=torch.uint8).reshape(64, 1, 2, 2)
    data = Data(x, "bytes")
    batch = data.batch(torch.arange(64))
    assert batch.dtype == torch.float32
    assert batch.flatten().tolist() == pytest.approx([i / 255 for i in range(256)])
    assert torch.equal(data.slice(0, 64), batch)
    assert x.flatten().tolist() == list(range(256)), "the samples themselves stay as they are"


@pytest.mark.parametrize("chunk_bytes", [1, 100, 10**9])
def test_mean_square_is_numpys(monkeypatch, chunk_bytes):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(0)
    for x, scale in ((rng.normal(5, 9, (37, 4)).astype(np.float32), 1),
                     (rng.integers(0, 256, (37, 1, 3, 2), dtype=np.uint8), 255)):  # fmt: skip
        expected = np.mean((x.astype(np.float64) / scale) ** 2)
        assert Data(torch.from_numpy(x), "x").mean_square() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(0, 3), (0, 1, 8, 8), (5, 0), (0,)])
def test_empty_data_are_refused(shape):
    with pytest.raises(InvalidData, match="empty"):
        Data(torch.zeros(shape), "nothing").check(2)


@pytest.mark.parametrize("k", [-1, 0, 1, 13])
def test_a_number_of_clusters_that_cannot_be(k):
    with pytest.raises(InvalidData, match="from 2 to 12"):
        labelled().check(k)


def test_any_other_number_of_clusters_can_be():
    for k in (2, 12):
        labelled().check(k)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("chunk_bytes", [1, 10**9])
def test_values_that_are_not_finite_are_counted_and_the_first_is_named(monkeypatch, value, chunk_bytes):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    x = torch.zeros(20, 1, 4, 5)
    for place in ((7, 0, 3, 1), (7, 0, 3, 2), (19, 0, 0, 0)):
        x[place] = value
    with pytest.raises(InvalidData) as caught:
        Data(x, "holes").check(2)
    text = str(caught.value)
    assert "holes: 3 values are not finite" in text
    assert f"is {value} in sample 7 at position (0, 3, 1)" in text


def test_equal_data_have_equal_fingerprints_and_no_others(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)).astype(np.float32)
    print_of = lambda a, **more: Data(torch.from_numpy(a), "x", **more).fingerprint()  # noqa: E731
    first = print_of(x)
    assert print_of(x.copy(), revealed=truth_of(np.zeros(50, int))) == first, "values alone count"
    assert print_of(np.asfortranarray(x)) == first, "and not their order in memory"
    for place in ((0, 0), (49, 5), (20, 3)):
        changed = x.copy()
        changed[place] = np.nextafter(changed[place], np.float32(9))
        assert print_of(changed) != first
    assert print_of(x[::-1].copy()) != first
    assert print_of(x.reshape(50, 2, 3)) != first
    assert print_of(x.view(np.uint8)) != first
    monkeypatch.setattr(module, "CHUNK_BYTES", 7)
    assert print_of(x) == first, "nor the size of the chunks"


def test_the_fingerprint_of_much_data_still_sees_their_ends(monkeypatch):
    monkeypatch.setattr(module, "HASHED_BYTES", 100)
    x = torch.zeros(6000, 2)
    first = Data(x, "x").fingerprint()
    for row in (0, 5999):
        changed = x.clone()
        changed[row] = 1
        assert Data(changed, "x").fingerprint() != first


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_minus_one_and_one_alone_are_two_classes(dtype):
    truth = truth_of(np.array([-1, 1, 1, -1], dtype=dtype))
    assert (truth.labels.tolist(), truth.names) == ([0, 1, 1, 0], ("-1", "1"))
    assert truth_of(np.array([-1, 1, 0], dtype=dtype)).labels.tolist() == [-1, 1, 0]
    assert truth_of(np.array([-1, -1], dtype=dtype)).labels.tolist() == [-1, -1]


@pytest.mark.parametrize(("n_unknown", "said"), [(0, False), (1, False), (2, True), (20, True)])
def test_many_samples_without_a_class_are_said(n_unknown, said):
    y = np.array([-1] * n_unknown + [3, 5] * ((20 - n_unknown + 1) // 2))[:20]
    data = Data(torch.rand(20, 3), "twenty", revealed=truth_of(y), notices=("first",))
    rest = data.remarks()[1:]
    assert data.remarks()[0] == "first"
    assert bool(rest) == said
    assert not said or rest[0].startswith(f"{n_unknown} of 20 samples have no class")


def copies(distinct: int, n: int, shape=(3,), dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (distinct, *shape), generator=generator).to(dtype)
    order = torch.cat(
        [torch.arange(distinct), torch.randint(0, distinct, (n - distinct,), generator=generator)]
    )
    return x[order[torch.randperm(n, generator=generator)]]


@pytest.mark.parametrize("chunk_bytes", [1, 50, 10**9])
@pytest.mark.parametrize(("shape", "dtype", "what"), [((3,), torch.float32, "rows"),
                                                      ((1, 4, 4), torch.uint8, "images")])  # fmt: skip
def test_fewer_distinct_samples_than_clusters_are_refused(monkeypatch, chunk_bytes, shape, dtype, what):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    data = Data(copies(7, 200, shape, dtype), "seven")
    for k in (2, 7):
        data.check(k)
    for k in (8, 200):
        with pytest.raises(InvalidData, match=f"copies of 7 distinct {what}: --clusters must be at most 7"):
            data.check(k)
    with pytest.raises(InvalidData, match="1 distinct row: there is nothing to cluster"):
        Data(torch.ones(9, 2), "ones").check(2)


def test_signs_of_zero_and_the_order_in_memory_make_no_samples_distinct():
    x = torch.zeros(10, 3)
    x[::2] = -0.0
    with pytest.raises(InvalidData, match="1 distinct row"):
        Data(x, "zeros").check(2)
    Data(copies(5, 20).T.contiguous().T, "columns first").check(5)


def test_counting_distinct_samples_ends_where_there_are_enough(monkeypatch):
    x = torch.arange(3000.0)[:, None].repeat(1, 4)
    looked_at = []
    rows = Data._rows
    monkeypatch.setattr(Data, "_rows", lambda self, a, b: looked_at.append(b - a) or rows(self, a, b))
    assert Data(x, "all distinct")._distinct(10) == 10
    assert sum(looked_at) == 10


@pytest.mark.parametrize(("distinct", "n", "said"), [(300, 300, False), (151, 300, False), (149, 300, True),
                                                     (3, 9000, True), (9000, 9000, False)])  # fmt: skip
def test_copies_are_said_where_they_are_more_than_half(distinct, n, said):
    x = copies(distinct, n, (8,))
    remarks = Data(x, "x").remarks()
    assert bool(remarks) == said
    if said and n < 4096:
        assert remarks[0].startswith(f"{n - distinct} of the {n} samples are copies of others")
