"""DeepCluster: what is learned, from which samples, what resumes, what is refused."""

import copy
import json

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

from deepclust.core import Data, Encoder, Storage, assign, embed
from deepclust.core.engine import Updater, checkpoint
from deepclust.core.errors import DeepclustError, InvalidData, InvalidSetting
from deepclust.core.run import bundle, pipeline
from deepclust.core.run.plan import Request
from deepclust.core.testing import check_clusterer
from deepclust.plugins.clustering.metric import accuracy
from deepclust.plugins.deepcluster.model import DeepCluster, DeepClusterConfig
from deepclust.plugins.deepcluster.sampling import UniformBatches
from deepclust.plugins.deepcluster.teacher import soft_targets, whiten
from deepclust.plugins.views import random_view
from made_training import quiet


def clouds(sizes, dim=6, seed=0, spread=0.5):
    """Separated clouds of these sizes in a shuffled order, and which sample is of which."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = 6 * np.eye(len(sizes), dim)[truth] + rng.normal(size=(len(truth), dim)) * spread
    return x.astype(np.float32), truth


class Small(Encoder):
    """A dense layer and batch normalisation; its distorted samples are noisy."""

    latent_dim = 4

    def __init__(self, config=None, shape=(6,)):
        super().__init__(config, shape)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

    def fit(self, data, run):
        return self

    def forward(self, x):
        return self.layers(x)

    def augment(self, x):
        return x + 0.1 * torch.randn_like(x)


def small(seed=0):
    torch.manual_seed(seed)
    return Small()


def fitted(folder, x, n_clusters, encoder=None, **settings):
    """The encoder and the clusterer after a fit on rows x."""
    encoder = encoder or small()
    settings = {"batch_size": 32, "epochs": 5, "lr": 1e-2, "n_init": 3, **settings}
    clusterer = DeepCluster(DeepClusterConfig(**settings), n_clusters, encoder.latent_dim)
    clusterer.fit(encoder, Data(torch.from_numpy(x), "clouds").seal(), quiet(folder))
    return encoder, clusterer


def labels_of(encoder, clusterer, x):
    return assign(clusterer, embed(encoder, Data(torch.from_numpy(x), "x"))).labels


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_soft_targets_are_a_softmax_of_distances_in_units_of_their_mean(temperature):
    rng = np.random.default_rng(0)
    z, centers = rng.normal(size=(20, 3)), rng.normal(size=(4, 3))
    distances = [[sum((a - b) ** 2 for a, b in zip(row, c, strict=True)) for c in centers] for row in z]
    unit = sum(min(row) for row in distances) / len(z)
    expected = []
    for row in distances:
        weights = [np.exp(-(d - min(row)) / (temperature * unit)) for d in row]
        expected.append([w / sum(weights) for w in weights])
    for scale in (1.0, 1e3):
        q = soft_targets(torch.from_numpy(z * scale), torch.from_numpy(centers * scale), temperature)
        np.testing.assert_allclose(q.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_soft_targets_of_codes_on_their_centers_are_hard():
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert torch.equal(soft_targets(centers, centers, 1.0), torch.eye(2))


def test_whitened_codes_are_numpys():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)) @ np.diag([100.0, 1.0, 0.01]) @ rng.normal(size=(3, 3)) + 5
    w = whiten(torch.from_numpy(z)).numpy()
    assert w.shape == (200, 2)  # the third direction varies by 1e-8 of the first
    u = np.linalg.svd(z - z.mean(0), full_matrices=False)[0][:, :2]  # the same up to an orthogonal map
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    np.testing.assert_allclose(w @ w.T, u @ u.T, atol=1e-5)
    assert whiten(torch.ones(5, 3)).shape == (5, 1)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.2}, {"whiten": True}, {"tune_encoder": False},
                                      {"hidden": (16,)}, {"uniform": False, "optimizer": "sgd"}])  # fmt: skip
def test_one_round_learns_what_kmeans_says_of_the_codes(tmp_path, settings):
    x, _ = clouds((60, 50, 40, 30))
    before = small()
    z = embed(before, Data(torch.from_numpy(x), "x"))
    z = (whiten(z) if settings.get("whiten") else z).numpy()
    expected = KMeans(4, n_init=20, random_state=0).fit(z).labels_
    encoder, clusterer = fitted(tmp_path, x, 4, epochs=20, **settings)
    labels = labels_of(encoder, clusterer, x)
    assert accuracy(expected, labels) > 0.9
    _, lesson = checkpoint.load(tmp_path / "round0" / "lesson.pt")
    assert (lesson["labels"].numpy() == labels).mean() > 0.9  # by name, not only as a partition


def test_an_epoch_holds_each_cluster_equally_often():
    labels = torch.tensor([0] * 90 + [2] * 9 + [3])[torch.randperm(100)]  # cluster 1 is empty
    batches = UniformBatches(Data(torch.arange(100.0)[:, None], "x"), 7, 5, lambda: labels)
    epochs = [torch.cat([batches[e * len(batches) + i].index for i in range(len(batches))]) for e in (0, 1)]
    for index in epochs:
        counts = torch.bincount(labels[index])
        assert counts[1] == 0
        assert sorted(counts[counts > 0].tolist()) == [33, 33, 34]
        times = torch.bincount(index, minlength=100)
        assert set(times[labels == 0].tolist()) == {0, 1}  # none twice while others wait
        assert set(times[labels == 2].tolist()) <= {3, 4}
    assert not torch.equal(*epochs)
    again = UniformBatches(batches.data, 7, 5, lambda: labels)
    assert torch.equal(again[len(batches) + 3].index, batches[len(batches) + 3].index)


@pytest.mark.parametrize("rounds", [1, 4])
def test_small_groups_are_not_swallowed(tmp_path, rounds):
    x, truth = clouds((300, 30, 15), spread=0.1)
    encoder, clusterer = fitted(tmp_path, x, 3, rounds=rounds)
    labels = labels_of(encoder, clusterer, x)
    assert accuracy(truth, labels) > 0.97
    assert sorted(np.bincount(labels, minlength=3))[0] >= 13


def test_without_tuning_the_encoder_keeps_its_bits_and_its_mode(tmp_path):
    x, _ = clouds((40, 40))
    encoder = small()
    before = copy.deepcopy(encoder.state_dict())
    fitted(tmp_path / "fixed", x, 2, encoder, tune_encoder=False, rounds=2)
    assert encoder.training
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    fitted(tmp_path / "tuned", x, 2, encoder)
    assert not any(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_rounds_of_groups_come_before_one_of_clusters(tmp_path):
    x, truth = clouds((50, 50, 50))
    encoder, clusterer = fitted(tmp_path, x, 3, rounds=3, groups=9)
    sizes = []
    for i in range(3):
        _, lesson = checkpoint.load(tmp_path / f"round{i}" / "lesson.pt")
        sizes.append(len(lesson["labels"].unique()))
    assert sizes == [9, 9, 3]
    assert clusterer(torch.zeros(1, 4)).shape == (1, 3)
    assert accuracy(truth, labels_of(encoder, clusterer, x)) > 0.9


def test_the_network_sees_distorted_samples_and_learns_the_clean_ones_labels(tmp_path):
    x, _ = clouds((40, 40))
    seen = []

    class Spy(DeepCluster):
        def loss(self, encoder, batch, lesson):
            seen.append(self.distort(encoder, batch.x) - batch.x)
            return super().loss(encoder, batch, lesson)

    for augment in (True, False):
        seen.clear()
        clusterer = Spy(DeepClusterConfig(epochs=1, n_init=1, augment=augment), 2, 4)
        clusterer.fit(small(), Data(torch.from_numpy(x), "x"), quiet(tmp_path / str(augment)))
        assert (torch.cat(seen).abs().max() > 0.1) == augment


@pytest.mark.parametrize("kills", [[1], [9], [10], [11, 14], [10, 24, 29]])
def test_a_killed_fit_resumes_to_the_same_bits(tmp_path, kills, monkeypatch):
    """Ten steps a round: kills come at a round's first step, in its middle, and between rounds."""
    x, _ = clouds((40, 30, 10))
    settings = {"batch_size": 16, "epochs": 2, "n_init": 2, "rounds": 3, "groups": 5, "temperature": 0.5}
    data = Data(torch.from_numpy(x), "clouds").seal()
    done = {"steps": 0, "stop": None}
    update = Updater.update

    def counted(self):
        if done["steps"] == done["stop"]:
            raise SystemError
        update(self)
        done["steps"] += 1

    monkeypatch.setattr(Updater, "update", counted)

    def fit(folder, stop_at=None, seconds=0.0):
        encoder = small()
        clusterer = DeepCluster(DeepClusterConfig(**settings), 3, encoder.latent_dim)
        done["stop"] = stop_at
        clusterer.fit(encoder, data, quiet(folder, snapshot_seconds=seconds))
        return {**encoder.state_dict(), **{f"c.{k}": v for k, v in clusterer.state_dict().items()}}

    whole = fit(tmp_path / "whole", seconds=1e9)
    assert done["steps"] == 30
    done["steps"] = 0
    for kill in kills:
        with pytest.raises(SystemError):
            fit(tmp_path / "cut", kill)
    cut = fit(tmp_path / "cut")
    assert done["steps"] == 30  # nothing was done twice
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    monkeypatch.setattr("deepclust.plugins.deepcluster.model.teach", None)
    again = fit(tmp_path / "cut")  # finished: neither k-means nor a step
    assert done["steps"] == 30
    assert all(torch.equal(whole[k], again[k]) for k in whole)


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [
        ("sdae", {}),
        ("cae", {"preset": "photo"}),
        ("cae", {"rounds": 2, "groups": 6, "whiten": True, "temperature": 0.3, "hidden": (8,)}),
        ("sdae", {"tune_encoder": False, "uniform": False, "schedule": "constant"}),
    ],
)
def test_it_keeps_a_clusterers_promises(tmp_path, encoder, settings):
    check_clusterer("deepcluster", tmp_path, encoder=encoder, **settings)


@pytest.mark.parametrize("n", [2, 3])
def test_as_few_samples_as_clusters(tmp_path, n):
    x, _ = clouds((1, 1, 1)[:n])
    _, clusterer = fitted(tmp_path, x, n, rounds=2, groups=9)
    assert torch.isfinite(clusterer(torch.zeros(1, 4))).all()


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_samples_that_are_all_the_same(tmp_path):
    torch.set_flush_denormal(True)  # as runs compute
    for whitened in (True, False):
        x = np.ones((20, 6), np.float32)
        encoder, clusterer = fitted(tmp_path / str(whitened), x, 3, whiten=whitened, temperature=0.5)
        labels = labels_of(encoder, clusterer, x)
        assert len(set(labels.tolist())) == 1


def test_views_are_those_asked_for_and_none_by_default():
    defaults = DeepClusterConfig()
    assert (defaults.crop, defaults.flip, defaults.jitter, defaults.grey) == (
        1,
        False,
        0,
        0,
    )  # digits have a left
    torch.manual_seed(0)
    x = torch.rand(64, 3, 8, 8)
    flipped = random_view(flip=True)(x)
    ways = {(torch.equal(a, b), torch.equal(a, b.flip(-1))) for a, b in zip(flipped, x, strict=True)}
    assert ways == {(True, False), (False, True)}
    grey = random_view(grey=0.5)(x)
    share = torch.stack([(g[0] == g[1]).all() & (g[1] == g[2]).all() for g in grey]).float().mean()
    assert 0.2 < share < 0.8
    for out in (random_view(crop=0.3)(x), random_view(jitter=0.4)(x)):
        assert out.shape == x.shape
        assert 0 <= out.min() <= out.max() <= 1
        assert not torch.equal(out, x)


@pytest.mark.parametrize("setting", [{"crop": 0.5}, {"flip": True}, {"jitter": 0.2}, {"grey": 0.1}])
def test_views_of_what_is_no_image_are_refused_before_anything_is_trained(tmp_path, setting):
    with pytest.raises(InvalidSetting, match=r"views of images .*shape \(6,\)"):
        fitted(tmp_path / "run", clouds((9, 9))[0], 2, **setting)
    clusterer = DeepCluster(DeepClusterConfig(**setting), 2, 4)
    with pytest.raises(InvalidData, match="from 0 to 1"):
        clusterer.fit(small(), Data(2 * torch.rand(9, 3, 4, 4) - 1, "x"), quiet(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_saved_model_sorts_new_samples_as_it_did(tmp_path):
    x, truth = clouds((60, 50, 40))
    new = clouds((20, 30, 20), seed=1)
    np.savez(tmp_path / "c.npz", x_train=x, y_train=truth, x_test=new[0], y_test=new[1])
    request = Request(
        encoder="sdae", data=str(tmp_path / "c.npz"), clusters=3, clusterer="deepcluster", device="cpu",
        precision="float32", evaluators=("clustering",),
        settings={
            "data": {"split": "train-test"},
            "encoder": {"hidden": "16", "latent_dim": 4, "layer_epochs": 5, "epochs": 20, "batch_size": 32},
            "clusterer": {"epochs": 10, "lr": 0.01, "hidden": "8", "rounds": 2, "batch_size": 32},
        },
    )  # fmt: skip
    outcome = pipeline.run(request, Storage(tmp_path), tmp_path / "run", quiet=True)
    assert outcome.scores["clustering"]["accuracy"] > 0.95
    assert outcome.scores["clustering"]["test_accuracy"] > 0.95
    model = bundle.load(tmp_path / "run", torch.device("cpu"))
    _, placed = model.predict(Data(torch.from_numpy(x), "x").prepared_as(model.preparation))
    rows = (tmp_path / "run" / "labels.csv").read_text().splitlines()
    column = rows[0].split(",").index("cluster")
    assert [int(row.split(",")[column]) for row in rows[1:]] == placed.labels.tolist()
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["request"]["clusterer"]["settings"]
    assert settings["groups"] is None


def test_settings_out_of_range_are_refused_in_a_sentence(tmp_path):
    for name, value in (("rounds", 0), ("groups", 1), ("crop", 0), ("grey", 2), ("temperature", -1)):
        request = Request(clusterer="deepcluster", clusters=3, settings={"clusterer": {name: str(value)}})
        with pytest.raises(DeepclustError, match=rf"clusterer\.{name} is .*must be"):
            pipeline.run(request, Storage(tmp_path), tmp_path / "run", quiet=True)
