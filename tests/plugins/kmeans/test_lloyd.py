"""K-means held against scikit-learn, a plain twin and the properties any k-means has."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.cluster import kmeans_plusplus as sklearn_plusplus
from torch import Tensor

from deepclust.plugins.kmeans import lloyd as module
from deepclust.plugins.kmeans.lloyd import assign, kmeans, kmeans_plusplus, lloyd


def blobs(n: int, dim: int, k: int, spread: float = 1.0, seed: int = 0) -> Tensor:
    """Samples (n, dim) float64 around k centres drawn with standard deviation 3."""
    generator = torch.Generator().manual_seed(seed)
    centers = 3 * torch.randn(k, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(k, (n,), generator=generator)
    noise = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return centers[labels] + spread * noise


def all_distances(x: Tensor, centers: Tensor) -> Tensor:
    """Squared distances (N, K) in float64, from the differences."""
    return (x.double()[:, None] - centers.double()).square().sum(2)


def inertia_of(x: Tensor, centers: Tensor) -> float:
    return all_distances(x, centers).amin(1).sum().item()


def test_inertia_is_as_low_as_scikit_learns():
    ratios = []
    for problem in range(20):
        rng = np.random.default_rng(problem)
        n, dim, k = (int(rng.integers(*span)) for span in ((80, 1200), (1, 40), (2, 16)))
        spread = float(rng.choice([0.3, 1, 4]))
        x = blobs(n, dim, int(rng.integers(1, 16)), spread, seed=problem)
        x = x.float() if problem % 2 else x
        ours = kmeans(x, k, n_init=20, seed=problem)
        theirs = KMeans(k, n_init=20, random_state=problem).fit(x.numpy())
        ratios.append(ours.inertia / theirs.inertia_)
        assert ours.inertia == pytest.approx(inertia_of(x, ours.centers), rel=1e-4)
        assert ours.labels.dtype == torch.int64
        assert ours.centers.dtype == x.dtype
        assert ours.labels.shape == (n,)
        assert ours.centers.shape == (k, dim)
    # One problem's best of 20 is luck on either side, by up to 3 %; their mean is not.
    assert np.mean(ratios) <= 1.005
    assert max(ratios) <= 1.03


def test_single_runs_are_as_good_as_scikit_learns():
    x = blobs(500, 6, 13, spread=0.7)
    ours = [kmeans(x, 10, n_init=1, seed=s).inertia for s in range(80)]
    theirs = [KMeans(10, n_init=1, random_state=s).fit(x.numpy()).inertia_ for s in range(80)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.02)


def test_seeding_is_as_good_as_scikit_learns():
    x = blobs(600, 5, 30, spread=0.7)
    x = x - x.mean(0)
    ours = kmeans_plusplus(x, 12, 60, torch.Generator().manual_seed(1))
    theirs = [sklearn_plusplus(x.numpy(), 12, random_state=s)[0] for s in range(60)]
    ours_mean = np.mean([inertia_of(x, c) for c in ours])
    theirs_mean = np.mean([inertia_of(x, torch.from_numpy(c)) for c in theirs])
    assert ours_mean == pytest.approx(theirs_mean, rel=0.05)
    assert (all_distances(ours.flatten(0, 1), x).amin(1) == 0).all()  # starts are samples


def test_draws_follow_the_odds():
    odds = torch.tensor([[0.0, 1.0, 0.0, 2.0, 5.0, 0.0], [3.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    uniform = torch.rand(2, 40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = module._draw(odds, uniform, 2**20)
    for row in range(2):
        share = torch.bincount(drawn[row], minlength=6) / 40_000
        assert (share[odds[row] == 0] == 0).all()
        torch.testing.assert_close(share, odds[row] / odds[row].sum(), atol=0.01, rtol=0)
    assert module._draw(odds, torch.zeros(2, 1), 2**20).tolist() == [[1], [0]]


@pytest.mark.parametrize("carry", ["_move_rows", "_move_matrix"])
def test_lloyd_takes_the_steps_of_a_plain_loop(monkeypatch, carry):
    monkeypatch.setattr(module, "_move_rows", getattr(module, carry))
    x = blobs(700, 6, 9, spread=2)
    x = x - x.mean(0)
    generator = torch.Generator().manual_seed(3)
    starts = torch.stack([x[torch.randperm(700, generator=generator)[:7]] for _ in range(5)])
    centers, labels, inertias, n_iters = lloyd(x, starts, 200, 0.0)
    assert len(set(n_iters)) > 1  # the restarts do end at different times
    for r in range(5):
        c, steps, old = starts[r], 0, None
        while old is None or (all_distances(x, c).argmin(1) != old).any():
            old = all_distances(x, c).argmin(1)
            c = torch.stack([x[old == k].mean(0) for k in range(7)])
            steps += 1
        assert torch.equal(labels[r].long(), old)
        assert n_iters[r] == steps
        torch.testing.assert_close(centers[r], c)
        assert inertias[r].item() == pytest.approx(inertia_of(x, c))


def test_equal_seeds_give_equal_bits():
    x = blobs(500, 8, 10, spread=3).float()
    a, b = kmeans(x, 6, n_init=3, seed=5), kmeans(x, 6, n_init=3, seed=5)
    other = kmeans(x, 6, n_init=1, seed=6)
    assert torch.equal(a.centers, b.centers)
    assert torch.equal(a.labels, b.labels)
    assert (a.inertia, a.n_iter) == (b.inertia, b.n_iter)
    assert not torch.equal(a.centers, other.centers)


def test_order_of_samples_and_of_columns_does_not_matter():
    x = blobs(400, 4, 5, spread=0.5).float()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    plain, mixed = kmeans(x, 5), kmeans(x[order][:, [2, 0, 3, 1]], 5)
    assert mixed.inertia == pytest.approx(plain.inertia, rel=1e-5)


def test_far_from_the_origin_float32_stays_accurate():
    x = (blobs(800, 4, 6, spread=1) + 1e4).float()
    near = x.double() - 1e4  # exactly the samples that float32 can hold
    far, exact = kmeans(x, 6, n_init=10), kmeans(near, 6, n_init=10)
    assert far.inertia == pytest.approx(exact.inertia, rel=1e-4)
    labels, distances = assign(x, far.centers)
    truth = all_distances(near, far.centers.double() - 1e4)
    assert torch.equal(labels, truth.argmin(1))
    torch.testing.assert_close(distances.double(), truth.amin(1), rtol=1e-3, atol=1e-4)


def test_inertia_never_rises_and_labels_fit_the_centres():
    x = blobs(900, 3, 1, spread=2)
    runs = [kmeans(x, 12, n_init=1, max_iter=m, tol=0) for m in range(1, 60)]
    inertias = [run.inertia for run in runs]
    assert all(b <= a * (1 + 1e-12) for a, b in zip(inertias, inertias[1:], strict=False))
    assert [run.n_iter for run in runs[:5]] == [1, 2, 3, 4, 5]
    for run in runs[::10]:
        assert torch.equal(run.labels, all_distances(x, run.centers).argmin(1))
    assert inertias[-1] < inertias[0]


def test_tol_ends_sooner():
    x = blobs(900, 3, 1, spread=2)
    loose, strict = kmeans(x, 12, n_init=1, tol=0.1), kmeans(x, 12, n_init=1, tol=0)
    assert loose.n_iter < strict.n_iter
    assert torch.equal(loose.labels, assign(x, loose.centers)[0])
    scaled = kmeans(1000 * x, 12, n_init=1, tol=0.1)  # tol is relative to the variance
    assert scaled.n_iter == loose.n_iter


@pytest.mark.parametrize("carry", ["_move_rows", "_move_matrix"])
def test_empty_clusters_take_the_farthest_samples(monkeypatch, carry):
    monkeypatch.setattr(module, "_move_rows", getattr(module, carry))
    x = torch.tensor([[-10.0], [-9.0], [-8.0], [0.0], [9.0], [18.0]])
    starts = torch.tensor([[[0.0], [1e3], [-1e3]]])  # all samples fall to the first
    centers, labels, *_ = lloyd(x, starts, 1, 0.0)
    assert centers.flatten().tolist() == [-2.0, 18.0, -10.0]
    centers, labels, inertias, _ = lloyd(x, starts, 50, 0.0)
    assert torch.bincount(labels[0]).min() > 0
    assert inertias[0].item() == pytest.approx(inertia_of(x, centers[0]))


def test_an_empty_cluster_takes_no_cluster_s_only_sample():
    x = torch.tensor([[0.0], [1.0], [2.0], [4.0], [100.0]])
    starts = torch.tensor([[[1.0], [60.0], [1e4]]])  # 100 is farthest, and alone with 60
    centers, *_ = lloyd(x, starts, 1, 0.0)
    assert centers.flatten().tolist() == [1.0, 100.0, 4.0]


def test_a_restart_with_empty_clusters_leaves_the_others_alone():
    x = blobs(300, 3, 6)
    x = x - x.mean(0)
    good = x[:6].clone()
    bad = torch.cat([x[:1], 1e3 + torch.arange(5.0).double()[:, None].expand(5, 3)])
    alone = lloyd(x, good[None], 100, 0.0)
    centers, labels, inertias, _ = lloyd(x, torch.stack([bad, good]), 100, 0.0)
    assert torch.equal(labels[1], alone[1][0])
    assert (torch.bincount(labels[0], minlength=6) > 0).all()
    assert inertias[0].item() == pytest.approx(inertia_of(x, centers[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distinct", [1, 3, 8])
def test_fewer_distinct_samples_than_clusters(dtype, distinct):
    values = torch.randn(distinct, 4, generator=torch.Generator().manual_seed(0)).to(dtype) + 7
    x = values.repeat(20, 1)
    for tol in (1e-4, 0.0):
        result = kmeans(x, 10 if distinct < 8 else 15, n_init=4, tol=tol)
        assert torch.isfinite(result.centers).all()
        assert result.inertia == pytest.approx(0, abs=1e-9)
        assert result.n_iter <= 5
        torch.testing.assert_close(result.centers[result.labels], x)


def test_one_cluster_is_the_mean():
    x = blobs(200, 5, 3).float()
    result = kmeans(x, 1)
    torch.testing.assert_close(result.centers[0], x.mean(0))
    assert result.inertia == pytest.approx(len(x) * x.var(0, correction=0).sum().item(), rel=1e-5)
    assert (result.labels == 0).all()


@pytest.mark.parametrize("n", [1, 2, 40])
def test_as_many_clusters_as_samples_leaves_nothing(n):
    x = blobs(n, 3, 5).float() + 100
    result = kmeans(x, n, n_init=3)
    assert result.inertia == 0
    assert sorted(result.labels.tolist()) == list(range(n))
    torch.testing.assert_close(result.centers[result.labels], x)


def test_a_small_memory_gives_the_same_result():
    x = blobs(3000, 7, 8, spread=2)
    large, small = kmeans(x, 8, n_init=3), kmeans(x, 8, n_init=3, memory_bytes=30_000)
    assert torch.equal(large.labels, small.labels)
    torch.testing.assert_close(large.centers, small.centers)
    assert small.inertia == pytest.approx(large.inertia, rel=1e-12)
    one_by_one = assign(x[:50], large.centers, memory_bytes=1)
    for got, expected in zip(one_by_one, assign(x, large.centers), strict=True):
        torch.testing.assert_close(got, expected[:50])


def test_chunks_keep_to_the_memory():
    x = torch.zeros(100_000, 4)
    for memory in (1, 10_000, 10**6):
        pieces = list(module._chunks(x, 50, memory))
        longest = max(piece.stop - piece.start for piece in pieces)
        assert longest == 1 or longest * 50 * 16 <= memory
        assert [i for piece in pieces for i in range(100_000)[piece]] == list(range(100_000))


def test_assign_finds_the_nearest():
    x, centers = blobs(1000, 6, 4, seed=1), blobs(9, 6, 9, seed=2)
    labels, distances = assign(x, centers)
    truth = all_distances(x, centers)
    assert torch.equal(labels, truth.argmin(1))
    torch.testing.assert_close(distances, truth.amin(1))
    assert (assign(centers, centers)[1] == 0).all()


def test_the_callers_settings_neither_matter_nor_change():
    x = blobs(500, 8, 5).float()
    plain = kmeans(x, 5, n_init=2)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            other = kmeans(x.clone().requires_grad_(), 5, n_init=2)
            assert torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert not other.centers.requires_grad
    assert torch.equal(plain.centers, other.centers)


@pytest.mark.parametrize(
    ("x", "k", "words"),
    [
        (torch.zeros(5, 2), 0, "0 clusters of 5 samples.*between 1 and 5"),
        (torch.zeros(5, 2), 6, "6 clusters of 5 samples.*between 1 and 5"),
        (torch.zeros(5), 2, r"\(5,\) tensor of float32.*\(N, D\)"),
        (torch.zeros(5, 2, 2), 2, r"\(5, 2, 2\).*\(N, D\)"),
        (torch.zeros(0, 2), 1, r"\(0, 2\).*\(N, D\)"),
        (torch.zeros(5, 2, dtype=torch.int64), 2, "int64.*float32 or float64"),
        (torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [0.0, 0.0]]), 2, "NaN or infinity in 1 of 3"),
        (torch.tensor([[1.0, torch.inf], [-torch.inf, 0.0]]), 2, "NaN or infinity in 2 of 2"),
        (torch.full((3, 2), 1e30), 2, "overflow.*scale"),
    ],
)
def test_errors_say_what_to_do(x, k, words):
    with pytest.raises(ValueError, match=words):
        kmeans(x, k)


def test_errors_of_counts_and_of_assign():
    x = torch.zeros(5, 2)
    with pytest.raises(ValueError, match="n_init=0"):
        kmeans(x, 2, n_init=0)
    with pytest.raises(ValueError, match="max_iter=0"):
        kmeans(x, 2, max_iter=0)
    with pytest.raises(ValueError, match=r"\(5, 2\).*\(3, 4\).*columns"):
        assign(x, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="one dtype"):
        assign(x, torch.zeros(3, 2, dtype=torch.float64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_same_bits_each_time_and_the_cpus_quality():
    x = blobs(5000, 16, 12, spread=2).float()
    torch.set_float32_matmul_precision("high")  # TF32, which k-means must not use
    try:
        a, b = kmeans(x.cuda(), 10), kmeans(x.cuda(), 10)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(a.centers, b.centers)
    assert torch.equal(a.labels, b.labels)
    assert a.inertia == pytest.approx(inertia_of(x, a.centers.cpu()), rel=1e-4)
    assert a.inertia <= 1.005 * kmeans(x, 10).inertia
