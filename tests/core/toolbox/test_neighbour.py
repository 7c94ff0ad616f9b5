"""Nearest codes held against scikit-learn's brute force, and what must hold for any of them."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.utils._python_dispatch import TorchDispatchMode

from deepclust.core.toolbox import neighbour
from deepclust.core.toolbox.neighbour import nearest


def by_scikit_learn(asked: np.ndarray, among: np.ndarray, n: int, metric: str = "euclidean"):
    search = NearestNeighbors(n_neighbors=n, algorithm="brute", metric=metric).fit(among.astype(np.float64))
    distance, index = search.kneighbors(asked.astype(np.float64))
    return index, distance


def codes(count: int, dim: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize(("count", "dim", "shift"), [(700, 2, 0.0), (500, 128, 0.0), (600, 8, 300.0)])
@pytest.mark.parametrize("columns", [97, 65536])
def test_the_same_neighbours_as_scikit_learn(monkeypatch, count, dim, shift, columns):
    monkeypatch.setattr(neighbour, "COLUMNS", columns)
    z = codes(count, dim, shift=shift)
    found = nearest(z, z, 20, own=torch.arange(count), budget=200_000)
    index, distance = by_scikit_learn(z.numpy(), z.numpy(), 21)
    assert np.array_equal(found.index.numpy(), index[:, 1:]), "recall 1.0, in the same order"
    assert np.allclose(found.distance.numpy(), distance[:, 1:], rtol=1e-5)


@pytest.mark.parametrize("columns", [64, 500, 3000])
def test_the_largest_of_rows_by_groups_are_those_of_topk(columns):
    for k in (1, 3, 15):
        for x in (codes(20, columns), codes(20, columns).round(), torch.full((20, columns), 2.0)):
            values, places = neighbour._largest(x, k)
            assert torch.equal(values, x.topk(k, dim=1).values)
            assert torch.equal(x.gather(1, places), values)
            assert all(len(set(row)) == k for row in places.tolist())


def test_codes_of_length_one_give_the_order_of_cosine_similarity():
    z = codes(400, 16)
    unit = torch.nn.functional.normalize(z)
    index, _ = by_scikit_learn(z.numpy(), z.numpy(), 11, "cosine")
    assert np.array_equal(nearest(unit, unit, 10, own=torch.arange(400)).index.numpy(), index[:, 1:])


def test_others_than_the_codes_themselves_can_be_asked_for():
    z, asked = codes(300, 5), codes(40, 5, seed=1)
    assert np.array_equal(nearest(asked, z, 3).index.numpy(), by_scikit_learn(asked.numpy(), z.numpy(), 3)[0])


def test_a_code_is_never_its_own_neighbour_even_among_equal_ones():
    z = torch.zeros(50, 3)
    found = nearest(z, z, 5, own=torch.arange(50))
    assert (found.index != torch.arange(50)[:, None]).all()
    assert (found.distance == 0).all()
    assert nearest(z[:2], z[:2], 9, own=torch.arange(2)).index.tolist() == [[1], [0]]


def test_turning_and_shifting_the_space_changes_no_neighbour():
    z = codes(300, 6)
    turn = torch.linalg.qr(codes(6, 6, seed=2)).Q
    moved = z @ turn + 3.0
    own = torch.arange(300)
    assert torch.equal(nearest(z, z, 7, own=own).index, nearest(moved, moved, 7, own=own).index)


class Largest(TorchDispatchMode):
    """The most bytes of one tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for part in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(part, torch.Tensor):
                self.bytes = max(self.bytes, part.nbytes)
        return made


@pytest.mark.parametrize("budget", [100_000, 1_000_000])
def test_memory_stays_within_the_budget(budget):
    z = codes(3000, 4)
    with Largest() as seen:
        nearest(z, z, 10, own=torch.arange(3000), budget=budget)
    assert seen.bytes <= max(budget, 3000 * 10 * 8), "the result itself may be larger"
    assert seen.bytes < 3000 * 3000 * 4 / 5
