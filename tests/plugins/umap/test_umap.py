"""UMAP as an encoder: its graph, its loss, its batches, and what it makes of real and of odd data."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier

from deepclust.core import Data, InvalidData, InvalidSetting, Mapped, Run, Standardise, Storage, embed
from deepclust.core.contract.config import build
from deepclust.core.engine import Updater
from deepclust.core.engine.checkpoint import seed_everything
from deepclust.core.errors import DeepclustError, ImpossiblePair, UnknownName
from deepclust.core.run.pipeline import run as run_pipeline
from deepclust.core.run.plan import request_from
from deepclust.core.testing import check_encoder
from deepclust.plugins.clustering.metric import accuracy
from deepclust.plugins.umap import points as points_module
from deepclust.plugins.umap.edge import EdgeBatches
from deepclust.plugins.umap.graph import Graph, fuzzy_graph, memberships, symmetrise
from deepclust.plugins.umap.loss import cross_entropy, fit_curve
from deepclust.plugins.umap.model import UMAP
from deepclust.plugins.umap.points import points
from made_logits import logits
from made_training import log_of, quiet

SMALL = {"hidden": (16, 16), "latent_dim": 3, "steps": 30, "batch_edges": 32}


def rows(x) -> Data:
    return Data(torch.as_tensor(np.asarray(x, np.float32)), "rows")


def fitted(data: Data, folder, **settings) -> UMAP:
    run = settings.pop("run", None) or quiet(folder)
    seed_everything(run.seed_for("weights"))
    return UMAP(build(UMAP.Config, {**SMALL, **settings}, "encoder"), data.shape).fit(data.seal(), run)


# the graph


@pytest.mark.parametrize("k", [3, 15, 40])
def test_memberships_sum_to_the_logarithm_of_the_number_of_neighbours(k):
    distance = (
        (logits(200, k, dtype=torch.float64).abs() * torch.logspace(-8, 8, 200)[:, None]).sort(dim=1).values
    )
    weight = memberships(distance)
    assert torch.allclose(weight.sum(dim=1), torch.full((200,), math.log2(k), dtype=torch.float64), rtol=1e-6)
    assert (weight[:, 0] == 1).all(), "the nearest belongs wholly"
    assert (weight.diff(dim=1) <= 0).all(), "the farther, the less"


def test_duplicates_belong_wholly_and_do_not_count_as_the_nearest():
    weight = memberships(torch.tensor([[0, 0, 1, 2, 3, 4, 5, 6], [0] * 8, [2] * 8], dtype=torch.float64))
    assert (weight[0, :3] == 1).all()
    assert (weight[0, 3:] < 1).all()
    assert (weight[1:] == 1).all()


def dense_graph(x: np.ndarray, k: int) -> np.ndarray:
    """The symmetric weights (N, N), sample by sample, with a root finder of another kind."""
    d = pairwise_distances(x.astype(np.float64))
    directed = np.zeros_like(d)
    for i in range(len(d)):
        order = [j for j in np.argsort(d[i], kind="stable") if j != i][:k]
        beyond = d[i, order] - d[i, order].min()
        sigma = brentq(lambda s: np.exp(-beyond / s).sum() - math.log2(k), 1e-6, 1e6, xtol=1e-14)  # noqa: B023
        directed[i, order] = np.exp(-beyond / sigma)
    return directed + directed.T - directed * directed.T


@pytest.mark.parametrize("k", [4, 10])
def test_the_graph_is_that_of_a_dense_twin(k):
    x = logits(80, 6)
    graph, twin = fuzzy_graph(x, k), dense_graph(x.numpy(), k)
    assert (graph.head < graph.tail).all()
    assert len(set(zip(graph.head.tolist(), graph.tail.tolist(), strict=True))) == len(graph.head)
    made = np.zeros_like(twin)
    made[graph.head, graph.tail] = made[graph.tail, graph.head] = graph.weight
    assert np.allclose(made, twin, atol=1e-5)


def test_the_union_of_two_memberships_is_their_probabilistic_sum():
    graph = symmetrise(torch.tensor([[1], [0], [0]]), torch.tensor([[0.5], [0.8], [0.3]]))
    assert graph.head.tolist() == [0, 0]
    assert graph.tail.tolist() == [1, 2]
    assert graph.weight.tolist() == pytest.approx([0.5 + 0.8 - 0.4, 0.3])


# the curve and the loss


@pytest.mark.parametrize(
    ("min_dist", "spread", "a", "b"),
    [(0.1, 1.0, 1.577, 0.895), (0.5, 1.0, 0.583, 1.334), (0.001, 1.0, 1.929, 0.792)],
)
def test_the_curve_has_the_known_parameters(min_dist, spread, a, b):
    assert fit_curve(min_dist, spread) == pytest.approx((a, b), abs=2e-3)


def looped(head, tail, a, b):
    """The loss pair by pair, with powers and logarithms as the paper writes them."""

    def q(x, y):
        square = sum((s - t) ** 2 for s, t in zip(x, y, strict=True)) + 1e-3
        return 1 / (1 + a * square**b)

    head, tail = head.tolist(), tail.tolist()
    n = len(head)
    pull = sum(-math.log(q(head[i], tail[i])) for i in range(n)) / n
    others = [(i, j) for i in range(n) for j in range(n) if i != j]
    return pull, sum(-math.log(1 - q(head[i], tail[j])) for i, j in others) / len(others)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_loss_is_that_of_loops_over_pairs(scale):
    head, tail = logits(7, 3, scale=scale), logits(7, 3, scale=scale, seed=1)
    tail[0] = head[0]  # equal codes
    tail[1] = head[2]
    ours = [float(value) for value in cross_entropy(head, tail, 1.577, 0.895)]
    assert ours == pytest.approx(looped(head.double(), tail.double(), 1.577, 0.895), rel=1e-4)


def test_the_losses_gradient_is_that_of_central_differences():
    head, tail = (logits(5, 2, seed=s, dtype=torch.float64).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda x, y: cross_entropy(x, y, 1.9, 0.8), (head, tail))


def test_equal_and_far_codes_have_finite_gradients():
    z = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1e12, 0.0], [-1e12, 1.0]], requires_grad=True)
    pull, push = cross_entropy(z, z.flip(0), 1.9, 0.8)
    (pull + push).backward()
    assert torch.isfinite(z.grad).all()


# the batches


def edges() -> Graph:
    weight = torch.tensor([1.0, 0.25, 0.5, 0.05], dtype=torch.float64)
    return Graph(torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 3, 3]), weight)


def test_edges_are_drawn_in_proportion_to_their_weights_from_seed_and_number_alone():
    batches = EdgeBatches(rows(np.arange(8).reshape(4, 2)), 60, 5, 4, edges)
    counts, turned = np.zeros((4, 4)), 0
    for i in reversed(range(200)):
        batch = batches[i]
        ends = batch.index[batch.ends]
        assert torch.equal(batch.x[:, 0], 2.0 * batch.index), "the samples at these places"
        np.add.at(counts, (ends.min(0).values, ends.max(0).values), 1)
        turned += int((ends[0] > ends[1]).sum())
    assert 0.48 < turned / 12_000 < 0.52
    share = counts[[0, 0, 1, 2], [1, 2, 3, 3]] / 12_000
    assert np.allclose(share, np.array([1.0, 0.25, 0.5, 0.05]) / 1.8, atol=0.005)
    again = EdgeBatches(batches.data, 60, 5, 4, edges)[7]
    assert torch.equal(again.ends, batches[7].ends)
    assert not torch.equal(again.ends, batches[8].ends)


# the points


def seen(data):
    """What makes of samples what the network sees."""
    inputs = Standardise((data.x[0].numel(),))
    inputs.fit(data)
    return lambda x: inputs(x.flatten(1))


def test_samples_are_centred_and_have_mean_square_one():
    x = logits(500, 6) * torch.tensor([1.0, 9, 0, 2, 3, 4]) + 1e4  # one column without variance
    data = rows(x)
    found = points(data, seen(data), seed=0)
    assert torch.allclose(found.mean(0), torch.zeros(6), atol=1e-3)
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-3)
    wanted = (x - x.mean(0)) / found.new_tensor(float((x - x.mean(0)).square().mean().sqrt()))
    assert torch.allclose(found, wanted, atol=1e-3)


def test_wide_samples_keep_their_neighbours_on_principal_components(monkeypatch):
    """Samples that vary in 20 directions of 300 lie as far from each other as before."""
    data = rows(logits(150, 20) @ logits(20, 300, seed=1) + 3)
    whole = points(data, see := seen(data), seed=0)
    monkeypatch.setattr(points_module, "PRODUCTS", 0)
    monkeypatch.setattr(points_module, "BLOCK_VALUES", 7000)
    less = points(data, see, seed=0)
    assert less.shape == (150, 100)
    assert np.allclose(pairwise_distances(less), pairwise_distances(whole), atol=2e-3)


def test_mapped_samples_give_the_codes_of_those_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(points_module, "BLOCK_VALUES", 500)  # of several blocks
    x = np.random.default_rng(0).integers(0, 256, (50, 1, 6, 6), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    array = np.load(tmp_path / "x.npy", mmap_mode="r+")
    mapped = Data(torch.from_numpy(array), "mapped", mapped=Mapped(array))
    held = Data(torch.from_numpy(x), "held")
    codes = [embed(fitted(data, tmp_path / data.description), held) for data in (mapped, held)]
    assert torch.equal(*codes)


# the encoder


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((7,), {}),
        ((3, 6, 5), {"code_scale": None, "optimizer": "sgd", "schedule": "constant"}),
        (
            (1, 8, 8),
            {"backbone": {"name": "cae", "filters": (4,), "hidden": 8}, "latent_dim": 2},
        ),
        ((1, 8, 8), {"backbone": {"name": "resnet", "blocks": (1,), "width": 4}}),
        ((9,), {"backbone": {"name": "sdae", "hidden": (8,), "latent_dim": 4}, "hidden": ()}),
    ],
)
def test_it_keeps_an_encoders_promises(tmp_path, shape, settings):
    check_encoder("umap", tmp_path, shape=shape, **{**SMALL, "steps": 400, **settings})


def digits() -> tuple[Data, np.ndarray]:
    bunch = load_digits()
    return Data(torch.from_numpy((bunch.images / 16).astype(np.float32))[:, None], "digits"), bunch.target


def test_digits_are_grouped_and_new_ones_are_placed_among_their_own(tmp_path):
    """Half are trained on. 400 steps of 256 edges, a tenth of the default."""
    data, y = digits()
    half, other = slice(0, None, 2), slice(1, None, 2)
    seen, new = Data(data.x[half], "seen"), Data(data.x[other], "new")
    model = fitted(seen, tmp_path, steps=400, batch_edges=256, hidden=(128, 128), latent_dim=10)
    z, z_new = embed(model, seen).numpy(), embed(model, new).numpy()
    assert z.var(axis=0).sum() == pytest.approx(25, rel=1e-3)
    labels = KMeans(10, n_init=5, random_state=0).fit_predict(z)
    assert accuracy(y[half], labels) >= 0.85
    assert trustworthiness(seen.x.flatten(1).numpy(), z, n_neighbors=15) >= 0.97
    among = KNeighborsClassifier(15).fit(z, y[half])
    assert among.score(z_new, y[other]) >= 0.9
    assert trustworthiness(new.x.flatten(1).numpy(), z_new, n_neighbors=15) >= 0.95


def test_the_loss_is_of_attraction_and_of_negatives_and_falls(tmp_path):
    data, _ = digits()
    fitted(Data(data.x[:300], "digits"), tmp_path, steps=200, negatives=3)
    log = log_of(tmp_path / "embed")
    assert [line["iteration"] for line in log] == [71, 142, 200]  # 300 * 15 / 2 edges, 32 at a time
    for line in log:
        assert line["loss"] == pytest.approx(line["pull"] + 3 * line["push"], rel=1e-4)
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("kills", [[1], [29], [10, 11, 23]])
def test_a_killed_fit_resumes_to_the_same_bits(tmp_path, kills, monkeypatch):
    data = rows(logits(60, 5))
    done = {"steps": 0, "stop": None}
    update = Updater.update

    def counted(self):
        if done["steps"] == done["stop"]:
            raise SystemError
        update(self)
        done["steps"] += 1

    monkeypatch.setattr(Updater, "update", counted)

    def fit(folder, stop=None):
        done["stop"] = stop
        run = Run(folder, seed=3, quiet=True, snapshot_seconds=0.0)
        return fitted(data, folder, run=run).state_dict()

    whole = fit(tmp_path / "whole")
    assert done["steps"] == 30
    done["steps"] = 0
    for kill in kills:
        with pytest.raises(SystemError):
            fit(tmp_path / "cut", kill)
    cut = fit(tmp_path / "cut")
    assert done["steps"] == 30  # nothing was done twice
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    monkeypatch.setattr("deepclust.plugins.umap.model.fuzzy_graph", None)
    again = fit(tmp_path / "cut")  # finished: no graph, no step
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def odd_data() -> dict[str, np.ndarray]:
    x = logits(60, 4).numpy()
    return {
        "few": x[:9],
        "two": x[:2],
        "three": x[:3],
        "duplicates": np.repeat(x[:6], 10, axis=0),
        "two distinct rows": np.repeat(x[:2], 30, axis=0),
        "all equal": np.repeat(x[:1], 60, axis=0),
        "constant columns": x * [1, 0, 0, 1],
        "one far away": np.concatenate([x, [[1e18, 0, 0, 0]]]),
        "tiny": x * 1e-20,
    }


@pytest.mark.parametrize("name", odd_data())
def test_odd_data_give_finite_codes_and_equal_rows_equal_ones(tmp_path, name):
    data = rows(odd_data()[name])
    z = embed(fitted(data, tmp_path), data)
    assert torch.isfinite(z).all()
    _, which = torch.unique(data.x, dim=0, return_inverse=True)
    for group in range(int(which.max()) + 1):
        same = z[which == group]
        assert torch.allclose(same, same[:1].expand_as(same), atol=1e-5)


def test_two_groups_of_equal_rows_part(tmp_path):
    data = rows(odd_data()["two distinct rows"])
    z = embed(fitted(data, tmp_path, steps=200), data)
    assert float((z[0] - z[59]).norm()) > 1


@pytest.mark.parametrize(
    ("shape", "settings", "error"),
    [
        ((1, 8, 8), {"backbone": "umap"}, InvalidSetting),
        ((1, 8, 8), {"backbone": "nothing"}, UnknownName),
        ((7,), {"backbone": "cae"}, InvalidData),
        ((1, 8, 8), {"backbone": {"name": "cae", "filtres": (4,)}}, UnknownName),
    ],
)
def test_backbones_that_cannot_be_are_refused(shape, settings, error):
    with pytest.raises(error) as caught:
        UMAP(build(UMAP.Config, settings, "encoder"), shape)
    assert isinstance(caught.value, DeepclustError)


def test_idec_is_refused_as_there_is_no_decoder(tmp_path):
    request = request_from({}, {"data": "digits", "encoder": "umap", "clusterer": "idec", "clusters": 10})
    with pytest.raises(ImpossiblePair, match="idec"):
        run_pipeline(request, Storage(tmp_path), tmp_path / "out", quiet=True)
