"""DEC and IDEC: what they find, where the target comes from, when they stop, what they refuse."""

import copy
import csv
import sys
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deepclust.core import Component, Data, Encoder, Storage, assign, embed, hookimpl, truth_of
from deepclust.core.contract.registry import Registry
from deepclust.core.engine import checkpoint
from deepclust.core.errors import ImpossiblePair, LabelsHidden
from deepclust.core.run import pipeline
from deepclust.core.run.plan import Request, resolve
from deepclust.plugins.clustering.metric import accuracy
from deepclust.plugins.dec.model import DEC, IDEC, DECConfig, IDECConfig
from deepclust.plugins.kmeans.model import KMeans
from deepclust.plugins.sdae.model import SDAE, SDAEConfig
from made_training import quiet


def blobs(n=300, dim=6):
    """Three well-separated clouds, and which sample is of which."""
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=n)
    x = 6 * np.eye(3, dim)[truth] + rng.normal(size=(n, dim)) * 0.5
    return x.astype(np.float32), truth


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A small autoencoder trained on the blobs, the blobs, and the truth."""
    x, truth = blobs()
    data = Data(torch.from_numpy(x), "blobs").seal()
    torch.manual_seed(0)
    encoder = SDAE(SDAEConfig(hidden=(16,), latent_dim=2, layer_epochs=5, epochs=20, batch_size=32), (6,))
    return encoder.fit(data, quiet(tmp_path_factory.mktemp("sdae"))), data, truth


@pytest.mark.parametrize(("method", "config"), [(DEC, DECConfig), (IDEC, IDECConfig)])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_separate_blobs_are_found_without_an_error(pretrained, tmp_path, method, config, optimizer):
    encoder, data, truth = copy.deepcopy(pretrained[0]), *pretrained[1:]
    before = copy.deepcopy(encoder.state_dict())
    clusterer = method(config(batch_size=32, epochs=5, optimizer=optimizer, tol=0.0), 3, 2)
    clusterer.fit(encoder, data, quiet(tmp_path))
    found = assign(clusterer, embed(encoder, data))
    assert accuracy(truth, found.labels) == 1.0
    assert found.confidence.mean() > 0.9
    after = encoder.state_dict()
    moved = {k for k in after if not torch.equal(before[k], after[k])}
    encoders = {k for k in after if k.startswith("encoders")}
    decoders = {k for k in after if k.startswith("decoders")}
    assert moved == (encoders if method is DEC else encoders | decoders)


def test_dec_sharpens_its_assignments(pretrained, tmp_path):
    encoder, data, _ = copy.deepcopy(pretrained[0]), *pretrained[1:]
    clusterer = DEC(DECConfig(batch_size=32, epochs=8, tol=0.0), 3, 2)
    run = quiet(tmp_path)
    first = run.make("clusterer", "kmeans", 3, 2).fit(encoder, data, run.child("init"))
    clusterer.centers = nn.Parameter(first.centers.clone())
    before = clusterer(embed(encoder, data)).amax(1).mean()
    clusterer.fit(encoder, data, run)
    assert clusterer(embed(encoder, data)).amax(1).mean() > before


class Noisy(Encoder):
    """A linear map with dropout, whose codes differ between train and eval mode."""

    latent_dim = 2

    def __init__(self, config=None, shape=(6,)):
        super().__init__(config, shape)
        self.layers = nn.Sequential(nn.Linear(6, 2), nn.Dropout(0.5))

    def fit(self, data, run):
        return self

    def forward(self, x):
        return self.layers(x)


def naive_target(encoder, centers, x):
    """P of the full set from the definitions, without dropout."""
    linear = encoder.layers[0]
    z = x @ linear.weight.T + linear.bias
    kernel = 1 / (1 + (z[:, None] - centers).square().sum(2))
    q = kernel / kernel.sum(1, keepdim=True)
    weight = q**2 / q.sum(0)
    return weight / weight.sum(1, keepdim=True)


@pytest.mark.parametrize(("refresh", "every"), [(4, 4), (1, 1), (140, 6)])
def test_the_target_is_the_full_sets_by_index_and_as_old_as_it_should_be(tmp_path, refresh, every):
    x = torch.from_numpy(blobs(96)[0])
    seen = []

    class Spy(DEC):
        def loss(self, encoder, batch, p):
            assert encoder.training
            if len(seen) % every == 0:  # just refreshed: weights and centres are those it came from
                with torch.no_grad():
                    self.expected = naive_target(encoder, self.centers, x)
            torch.testing.assert_close(p, self.expected[batch.index])
            seen.append(self.expected)
            return super().loss(encoder, batch, p)

    torch.manual_seed(0)
    clusterer = Spy(DECConfig(batch_size=16, epochs=3, refresh=refresh, tol=0.0, lr=0.02), 3, 2)
    clusterer.fit(Noisy(), Data(x, "blobs"), quiet(tmp_path))
    assert len(seen) == 18
    assert len({id(p) for p in seen}) == len(range(0, 18, every))
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(seen, seen[every:], strict=False))


def last_state(folder):
    return checkpoint.load(folder / "refine" / "snapshot.pt")


def test_it_stops_when_labels_stay_and_never_later_than_its_limit(pretrained, tmp_path):
    data = pretrained[1]
    batches = 10  # an epoch of 300 samples in batches of 32
    for name, settings, iterations in [
        ("stable", {"tol": 0.5, "refresh": 3}, 3),  # the first comparison that can be made
        ("limit", {"tol": 0.0, "refresh": 3}, 4 * batches),
        ("long", {"tol": 0.5, "refresh": 10_000}, batches),  # a refresh comes each epoch at least
    ]:
        clusterer = DEC(DECConfig(batch_size=32, epochs=4, **settings), 3, 2)
        clusterer.fit(copy.deepcopy(pretrained[0]), data, quiet(tmp_path / name))
        state = last_state(tmp_path / name)
        assert state["updater"]["iteration"] == iterations, name
        assert ("of the labels changed" in state["stop_reason"]) == (name != "limit")


def test_a_resumed_refinement_does_not_cluster_anew(pretrained, tmp_path, monkeypatch):
    def fit():
        encoder = copy.deepcopy(pretrained[0])
        clusterer = DEC(DECConfig(batch_size=32, epochs=2, tol=0.0), 3, 2)
        return clusterer.fit(encoder, pretrained[1], quiet(tmp_path)), encoder

    first, refined = fit()
    monkeypatch.setattr(KMeans, "fit", None)
    again, same = fit()
    assert torch.equal(again.centers, first.centers)
    assert torch.equal(embed(same, pretrained[1]), embed(refined, pretrained[1]))


def test_labels_that_go_on_changing_do_not_stop_it(tmp_path):
    data = Data(torch.from_numpy(blobs(96)[0]), "blobs")

    class Restless(DEC):
        steps = 0

        def loss(self, encoder, batch, p):
            self.steps += 1
            return super().loss(encoder, batch, p)

        def forward(self, z):
            return super().forward(z).roll(self.steps, dims=1)  # all labels are others after two steps

    clusterer = Restless(DECConfig(batch_size=16, epochs=2, refresh=2, tol=0.9), 3, 2)
    torch.manual_seed(0)
    clusterer.fit(Noisy(), data, quiet(tmp_path))
    assert last_state(tmp_path)["updater"]["iteration"] == 12


def test_refinement_waits_for_the_device_at_refreshes_alone(pretrained, tmp_path):
    class Count(TorchDispatchMode):
        items = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.items += func.overloadpacket is torch.ops.aten._local_scalar_dense
            return func(*args, **(kwargs or {}))

    items = {}
    for epochs in (2, 6):
        clusterer = IDEC(IDECConfig(batch_size=32, epochs=epochs, refresh=10, tol=0.0), 3, 2)
        with Count() as count:
            clusterer.fit(copy.deepcopy(pretrained[0]), pretrained[1], quiet(tmp_path / str(epochs)))
        items[epochs] = count.items
    assert 0 < items[6] - items[2] <= 4  # 40 more iterations, 4 more refreshes


@pytest.mark.parametrize("gamma", [0.0, 0.1, 3.0])
def test_idecs_loss_is_reconstruction_plus_gamma_kl(pretrained, tmp_path, gamma):
    encoder, data, _ = copy.deepcopy(pretrained[0]), *pretrained[1:]
    clusterer = IDEC(IDECConfig(gamma=gamma, batch_size=32, epochs=1, lr=0.0, tol=0.0), 3, 2)
    clusterer.fit(encoder, data, quiet(tmp_path))
    p = torch.softmax(torch.randn(300, 3, generator=torch.Generator().manual_seed(0)), 1)
    with torch.no_grad():
        z = encoder(data.x)
        q = clusterer(z)
        error = (encoder.decode(z) - data.x).square().mean() / data.x.square().mean()
        kl = (p * (p / q).log()).sum(1).mean()
        batch = types.SimpleNamespace(x=data.x, index=torch.arange(300))
        torch.testing.assert_close(clusterer.loss(encoder, batch, p), error + gamma * kl)


def test_the_labels_of_a_run_are_its_own_models(tmp_path):
    x, truth = blobs()
    np.savez(tmp_path / "blobs.npz", x=x, y=truth)
    request = Request(
        "sdae", "dec", data=str(tmp_path / "blobs.npz"), clusters=3, device="cpu", precision="float32",
        evaluators=("clustering",),
        settings={
            "data": {"scale": "none"},
            "encoder": {"hidden": "16", "latent_dim": 2, "layer_epochs": 5, "epochs": 20, "batch_size": 32},
            "clusterer": {"batch_size": 32, "epochs": 3},
        },
    )  # fmt: skip
    outcome = pipeline.run(request, Storage(tmp_path), tmp_path / "run", quiet=True)
    assert outcome.scores["clustering"]["accuracy"] == 1.0
    weights = load_file(tmp_path / "run" / "model.safetensors")
    h = (torch.from_numpy(x) - weights["encoder.inputs.mean"]) / weights["encoder.inputs.deviation"]
    h = torch.relu(h @ weights["encoder.encoders.0.weight"].T + weights["encoder.encoders.0.bias"])
    z = h @ weights["encoder.encoders.1.weight"].T + weights["encoder.encoders.1.bias"]
    kernel = 1 / (1 + (z[:, None] - weights["clusterer.centers"]).square().sum(2))
    q = kernel / kernel.sum(1, keepdim=True)
    with (tmp_path / "run" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in rows] == q.argmax(1).tolist()
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], q.amax(1), atol=2e-5)
    assert [int(row["truth"]) for row in rows] == truth.tolist()


@dataclass(frozen=True)
class NoSettings:
    pass


class Plain(Noisy):
    Config = NoSettings
    latent_dim = 4

    def __init__(self, config, shape):
        Encoder.__init__(self, config, shape)
        self.layer = nn.Linear(int(np.prod(shape)), 4)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Able(Plain):
    def decode(self, z):
        return z @ self.layer.weight


class Peeking(Plain):
    def fit(self, data, run):
        assert data.truth is not None
        return self


@pytest.fixture
def registry(monkeypatch):
    """First-party plugins and a third party's three encoders."""
    plugin = types.ModuleType("deepclust_thirdparty")
    plugin.Plain, plugin.Able, plugin.Peeking = Plain, Able, Peeking

    @hookimpl
    def deepclust_encoders():
        yield Component("plain", "deepclust_thirdparty:Plain", "has no decoder")
        yield Component("able", "deepclust_thirdparty:Able", "has a decoder")
        yield Component("peeking", "deepclust_thirdparty:Peeking", "looks at the truth")
        yield Component("supervised", "deepclust_thirdparty:Peeking", "says that it does", supervised=True)

    plugin.deepclust_encoders = deepclust_encoders
    monkeypatch.setitem(sys.modules, "deepclust_thirdparty", plugin)
    names = {f"deepclust.plugins.{n}": n for n in ("dec", "kmeans", "sdae", "clustering", "datasets")}
    names["deepclust_thirdparty"] = "thirdparty"
    return Registry([EntryPoint(name, value, "deepclust") for value, name in names.items()])


def request(encoder: str, clusterer: str) -> Request:
    return Request(encoder=encoder, clusterer=clusterer, evaluators=("clustering",))


def test_idec_refuses_an_encoder_that_cannot_decode_and_names_those_that_can(registry):
    with pytest.raises(ImpossiblePair) as caught:
        resolve(request("plain", "idec"), registry)
    text = str(caught.value)
    assert "decode" in text
    assert "'plain' has not" in text
    assert set(text.split("Encoders that have it: ")[1].rstrip(".").split(", ")) == {"able", "sdae"}
    resolve(request("able", "idec"), registry)
    resolve(request("plain", "dec"), registry)


def test_no_unsupervised_fit_sees_the_truth(registry, tmp_path):
    def go(encoder, folder):
        request = Request(
            encoder=encoder,
            clusterer="kmeans",
            device="cpu",
            evaluators=("clustering",),
            settings={"clusterer": {"n_init": 1}},
        )
        return pipeline.run(request, Storage(tmp_path), tmp_path / folder, quiet=True, registry=registry)

    with pytest.raises(LabelsHidden, match="supervised"):
        go("peeking", "a")
    assert go("supervised", "b").summary["protocol"]["labels used in training"] is True
    assert go("plain", "c").summary["protocol"]["labels used in training"] is False


def test_a_sealed_truth_is_gone_and_not_just_hidden():
    data = Data(torch.zeros(3, 2), "x", revealed=truth_of(np.array([0, 1, 1])))
    sealed = data.seal()
    assert data.truth.labels.tolist() == [0, 1, 1]
    assert sealed.revealed is None
    for d in (sealed, sealed.to(torch.device("cpu"))):
        with pytest.raises(LabelsHidden):
            d.truth  # noqa: B018
