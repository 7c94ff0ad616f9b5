"""The referee's measure against naive twins, and refinements that were made to collapse."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data, Encoder, assign, embed
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.engine import Batches, Trainer, Updater, checkpoint
from deepclust.plugins.refinement import referee as referees
from deepclust.plugins.refinement.baseline import baseline_of
from deepclust.plugins.refinement.guard import Guard, check_start
from deepclust.plugins.refinement.referee import Referee, lost_clusters
from made_training import log_of, quiet


class Small(Encoder):
    """Two dense layers and what undoes them, so that idec takes it too."""

    latent_dim = 4

    def __init__(self, config=None, shape=(6,)):
        super().__init__(config, shape)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
        self.back = nn.Linear(4, 6)

    def fit(self, data, run):
        return self

    def forward(self, x):
        return self.layers(x)

    def decode(self, z):
        return self.back(z)


def groups(sizes=(40, 40, 40), spread=0.3, seed=0):
    """Samples around orthogonal directions in a shuffled order, and which is around which."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = 4 * np.eye(len(sizes), 6)[truth] + rng.normal(size=(len(truth), 6)) * spread
    return Data(torch.from_numpy(x.astype(np.float32)), "groups").seal(), truth


def small():
    torch.manual_seed(0)
    return Small()


def labels_of(encoder, clusterer, data):
    return assign(clusterer, embed(encoder, data)).labels


def same_partition(a, b):
    return len(set(zip(a.tolist(), b.tolist(), strict=True))) == len(set(a.tolist())) == len(set(b.tolist()))


# the measure


def naive_agreement(x, labels, k=10):
    """Plain loops over the definition."""
    same, n = [], len(x)
    for i in range(n):
        distances = [(((x[i] - x[j]) ** 2).sum(), j) for j in range(n) if j != i]
        same += [labels[i] == labels[j] for _, j in sorted(distances)[:k]]
    chance = sum((labels == c).mean() ** 2 for c in set(labels.tolist()))
    return 0.0 if chance == 1 else (np.mean(same) - chance) / (1 - chance)


@pytest.mark.parametrize(("n", "clusters"), [(60, 4), (25, 2), (8, 3)])
def test_agreement_is_the_naive_twins_in_both_spaces(n, clusters):
    rng = np.random.default_rng(n)
    data, encoder = Data(torch.from_numpy(rng.normal(size=(n, 6)).astype(np.float32)), "x"), small()
    referee = Referee(encoder, data)
    z = embed(encoder, data).numpy()
    for labels in (rng.integers(clusters, size=n), (data.x[:, 0] > 0).long().numpy()):
        found = referee.judge(torch.from_numpy(labels))
        assert found.input == pytest.approx(naive_agreement(data.x.numpy(), labels), abs=1e-9)
        assert found.codes == pytest.approx(naive_agreement(z, labels), abs=1e-9)


def test_other_numbers_change_nothing_a_collapse_is_0_and_so_is_chance():
    data, truth = groups((600, 600, 600))
    referee, truth = Referee(small(), data), torch.from_numpy(truth)
    found = referee.judge(truth)
    assert found.input > 0.99
    assert referee.judge(torch.tensor([2, 0, 1])[truth]) == found
    assert referee.judge(torch.full((1800,), 2)) == referees.Agreement(0.0, 0.0)
    torch.manual_seed(0)
    for shares in ([1, 1, 1], [90, 5, 5]):  # a giant cluster gains nothing
        by_chance = referee.judge(torch.multinomial(torch.tensor(shares).float(), 1800, replacement=True))
        assert abs(by_chance.input) < 0.03
        assert abs(by_chance.codes) < 0.03


def test_samples_too_large_are_projected_and_many_are_evenly_spaced(monkeypatch):
    monkeypatch.setattr(referees, "WATCHED", 60)
    x = torch.from_numpy(groups((40, 40, 40))[0].x.numpy() @ np.random.default_rng(0).normal(size=(6, 600)))
    data = Data(x.float(), "wide")
    encoder = nn.Linear(600, 3)
    labels = groups((40, 40, 40))[1]
    exact = Referee(encoder, data)
    assert exact.indices.tolist() == np.linspace(0, 119, 60).round().astype(int).tolist()
    monkeypatch.setattr(referees, "VALUES", 1000)
    projected = Referee(encoder, data)
    assert not torch.equal(projected.input, exact.input)
    assert torch.equal(projected.codes, exact.codes)
    labels = torch.from_numpy(labels)[exact.indices]
    assert projected.judge(labels).input == pytest.approx(exact.judge(labels).input, abs=0.02)


@pytest.mark.parametrize("clusters", [2, 3, 4])
def test_lost_clusters_are_those_of_the_best_renumbering(clusters):
    rng = np.random.default_rng(clusters)
    for _ in range(20):
        before = rng.integers(clusters, size=80)
        after = np.where(rng.random(80) < 0.5, before, rng.integers(clusters, size=80))
        after[after == 0] = rng.integers(clusters)  # as good as lost, or another's
        orders = list(itertools.permutations(range(clusters)))
        kept = [sum(np.array(order)[before] == after) for order in orders]
        fewest = {
            sum((after == order[c]).sum() < 0.1 * (before == c).sum() for c in range(clusters))
            for order, together in zip(orders, kept, strict=True)
            if together == max(kept)
        }
        assert lost_clusters(torch.from_numpy(before), torch.from_numpy(after), clusters) == min(fewest)


def test_a_cluster_that_keeps_a_tenth_is_not_lost():
    before = torch.arange(300) % 3
    for left, lost in ((10, 0), (9, 1), (0, 1)):
        after = before.clone()
        after[(before == 2).nonzero()[left:, 0]] = 0
        assert lost_clusters(before, after, 3) == lost
        assert lost_clusters(before, torch.tensor([1, 2, 0])[after], 3) == lost
    assert lost_clusters(before, before % 1, 3) == 2


# the guard, on labels that a script gives


class Script(nn.Module):
    """Its one weight counts steps; its labels are those that the script has for them."""

    n_clusters = 3

    def __init__(self, script):
        super().__init__()
        self.step, self.script = nn.Parameter(torch.zeros(())), script

    def predict(self, z):
        return self.script[round(self.step.item())]


def scripted(folder, script, stop_at=None, x=None, encoder=None):
    """What the guard found, the step whose weights the model has in the end, and the trainer."""
    data = groups()[0] if x is None else Data(x, "x")
    torch.manual_seed(0)
    encoder, model = encoder or nn.Identity(), Script(script)
    updater = Updater(
        Batches(data, 60, 0), model, torch.optim.SGD(model.parameters(), lr=1.0), lambda batch: -model.step
    )
    guard = Guard(Referee(encoder, data), encoder, model, data, quiet(folder), trigger=(1, "iteration"))
    trainer = Trainer(updater, [(len(script) - 1, "iteration"), guard.stop], folder)
    from deepclust.core.engine.extensions import Log, Snapshot

    for extension in (Log(), Snapshot(), guard):
        trainer.extend(extension)
    trainer.resume()
    if stop_at is not None:
        step = updater.step

        def until(batch):
            if updater.iteration == stop_at:
                raise SystemError
            step(batch)

        updater.step = until
    trainer.run()
    return guard.settle(trainer), round(model.step.item()), trainer


def mixed(truth, share):
    """The truth with a share of the labels drawn anew."""
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(3, (len(truth),), generator=draw)
    return torch.where(torch.rand(len(truth), generator=draw) < share, drawn, truth)


@pytest.mark.parametrize("renumbered", [False, True])
def test_it_is_stopped_where_clusters_are_lost_and_taken_back_to_its_best(tmp_path, renumbered):
    truth = torch.from_numpy(groups()[1])
    two = truth.clamp(max=1)
    script = [mixed(truth, share) for share in (0.3, 0.2, 0.0, 0.1)] + [two] * 4
    if renumbered:
        script = [torch.tensor([1, 2, 0])[labels] if i % 2 else labels for i, labels in enumerate(script)]
    worse, step, trainer = scripted(tmp_path / "whole", script)
    assert (worse.lost, worse.clusters, worse.ended, worse.early, worse.kept) == (1, 3, 4, True, 2)
    assert step == 2
    assert not worse.ill
    assert trainer.stop_reason == "clusters were lost or neighbours parted"
    assert worse.say("It", "its start") == (
        "It lost 1 of 3 clusters: it was stopped after 4 iterations and taken back to iteration 2, "
        "the best until then."
    )
    lines = log_of(tmp_path / "whole")
    assert [line["health/lost_clusters"] for line in lines] == [0, 0.5], "an epoch has two iterations"
    for kill in (0, 1, 3):
        with pytest.raises(SystemError):
            scripted(tmp_path / str(kill), script, kill)
        assert scripted(tmp_path / str(kill), script)[:2] == (worse, step)
    assert scripted(tmp_path / "whole", script)[:2] == (worse, step), "a finished one is judged alike"


def test_neighbours_parted_little_are_no_fault_more_are_undone_and_most_stop_it(tmp_path):
    truth = torch.from_numpy(groups()[1])
    for share, early, kept in ((0.01, None, None), (0.15, False, 0), (0.7, True, 0)):
        script = [truth] + [mixed(truth, share)] * 3
        worse, step, _ = scripted(tmp_path / str(share), script)
        if early is None:
            assert worse is None
            assert step == 3
            continue
        assert (worse.early, worse.kept, worse.lost, step) == (early, kept, 0, 0)
        assert "in the input were in its cluster before" in worse.say("It", "its start")
        assert worse.say("It", "its start").endswith("undone, and the clusters are those of its start.")


def test_what_dips_and_comes_back_is_left_alone(tmp_path):
    truth = torch.from_numpy(groups()[1])
    script = [mixed(truth, share) for share in (0.03, 0.2, 0.1, 0.0)]
    worse, step, _ = scripted(tmp_path, script)
    assert worse is None
    assert step == 3


def test_a_space_in_which_the_start_was_no_better_than_chance_has_no_say(tmp_path):
    groups_, truth = groups()
    noise = 100 * torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    x = torch.cat([groups_.x, noise], dim=1)
    script = [torch.from_numpy(truth)] + [mixed(torch.from_numpy(truth), 0.15)] * 3
    worse, step, _ = scripted(tmp_path / "a", script, x=x, encoder=nn.Linear(12, 6).requires_grad_(False))
    assert worse is None, "codes of noise, too"

    class First(nn.Module):
        def forward(self, x):
            return x[:, :6]

    worse, step, _ = scripted(tmp_path / "b", script, x=x, encoder=First())
    assert worse.start.input < 0.1
    assert (worse.kept, worse.early, step) == (0, False, 0)


def test_a_start_with_empty_clusters_is_said(tmp_path):
    check_start(torch.tensor([0, 1, 2, 1]), 3, quiet(tmp_path), "dec")
    assert not (tmp_path / "notices.json").exists()
    check_start(torch.tensor([0, 3, 3, -1]), 5, quiet(tmp_path), "dec")
    (kept,) = json.loads((tmp_path / "notices.json").read_text())
    assert kept["ill"]
    assert kept["text"].startswith("dec began with 3 of 5 clusters empty")
    assert "--clusters 2" in kept["text"]


# k-means as a dense layer


def test_the_baseline_as_a_layer_has_the_nearest_centres_and_is_made_once(tmp_path, monkeypatch):
    data, _ = groups(spread=2.0)
    encoder = small()
    referee = Referee(encoder, data)
    baseline = baseline_of(encoder, data, 3, quiet(tmp_path), referee)
    z = embed(encoder, data)
    distances = ((z[:, None] - baseline.centers) ** 2).sum(2)
    mean, factor = z.mean(0) + 1, torch.tensor(0.7)
    weight, bias = baseline.layer(mean, factor)
    q = torch.softmax(((z - mean) * factor) @ weight.T + bias, 1)
    torch.testing.assert_close(q, torch.softmax(-distances / distances.amin(1).mean(), 1))
    assert torch.equal(q.argmax(1), baseline.labels)
    assert baseline.shares.sum() == pytest.approx(1)
    monkeypatch.setattr(installed().load("clusterer", "kmeans"), "fit", None)
    assert torch.equal(baseline_of(encoder, data, 3, quiet(tmp_path), referee).centers, baseline.centers)


def test_of_restarts_nearly_as_good_the_one_that_parts_no_neighbours_counts(tmp_path, monkeypatch):
    """A large cloud and two small ones that are near each other: the least inertia cuts the large one."""
    rng = np.random.default_rng(0)
    indices, sizes, spreads = [[0, 0], [8, 1.5], [8, -1.5]], [150, 20, 20], [1, 0.3, 0.3]
    clouds = [
        np.pad(place, (0, 4)) + spread * rng.normal(size=(size, 6))
        for place, size, spread in zip(indices, sizes, spreads, strict=True)
    ]
    data = Data(torch.from_numpy(np.concatenate(clouds).astype(np.float32)), "clouds")
    encoder, found = nn.Identity(), {}
    for nearly in (1.0, 1.2):
        monkeypatch.setattr("deepclust.plugins.refinement.baseline.NEARLY", nearly)
        run, referee = quiet(tmp_path / str(nearly)), Referee(encoder, data)
        found[nearly] = baseline_of(encoder, data, 3, run, referee)
    assert found[1.0].spread < found[1.2].spread < 1.2 * found[1.0].spread
    sizes = [sorted((made.shares * 190).round().int().tolist()) for made in found.values()]
    assert sizes[0][0] == 40
    assert sizes[1] == [20, 20, 150]


# refinements that collapse


COLLAPSES = {
    "dec": {"lr": 5.0, "batch_size": 32, "epochs": 10},
    "idec": {"lr": 5.0, "batch_size": 32, "epochs": 10},
    "scan": {"lr": 5.0, "epochs": 3, "label_epochs": 0, "entropy": 0.0, "view": "none"},
    "deepcluster": {"lr": 30.0, "batch_size": 32, "epochs": 2},
}


def refined(folder, name, data, n_clusters=3, **settings):
    """The encoder and the clusterer after a fit, and what was said."""
    cls = installed().load("clusterer", name)
    encoder = small()
    clusterer = cls(build(cls.Config, settings, "clusterer"), n_clusters, encoder.latent_dim)
    run = quiet(folder, snapshot_seconds=0)
    checkpoint.seed_everything(0)
    clusterer.fit(encoder, data, run)
    notices = folder / "notices.json"
    return encoder, clusterer, json.loads(notices.read_text()) if notices.exists() else []


@pytest.mark.parametrize("name", COLLAPSES)
def test_a_collapse_is_taken_back_and_said(tmp_path, name):
    data, _ = groups(spread=1.5 if name == "deepcluster" else 1.0)
    kmeans, run = installed().make("clusterer", "kmeans", 3, 4, settings={}), quiet(tmp_path / "alone")
    kmeans.fit(small(), data, run.child("init"))
    expected = kmeans.predict(embed(small(), data)).numpy()
    encoder, clusterer, notices = refined(tmp_path, name, data, **COLLAPSES[name])
    if (tmp_path / "baseline.pt").exists():
        expected = checkpoint.load(tmp_path / "baseline.pt")["labels"].numpy()
    (notice,) = notices
    assert "lost" in notice["text"] or "parted neighbours" in notice["text"]
    assert "-s clusterer." in notice["text"], "what to change"
    assert not notice["ill"]
    assert "undone" in notice["text"]
    assert same_partition(labels_of(encoder, clusterer, data), expected)
    before = small().state_dict()
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    again = refined(tmp_path, name, data, **COLLAPSES[name])
    for model, other in ((encoder, again[0]), (clusterer, again[1])):
        for key, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[key], value), key
    assert again[2] == notices


@pytest.mark.parametrize("name", ["dec", "idec", "scan", "deepcluster"])
def test_a_sound_refinement_is_left_alone_and_logged(tmp_path, name):
    data, truth = groups()
    settings = {"batch_size": 32, "epochs": 5, "lr": 1e-3 if name == "idec" else 1e-2}
    if name == "scan":
        settings |= {"epochs": 30, "label_epochs": 0, "view": "none"}
    encoder, clusterer, notices = refined(tmp_path, name, data, **settings)
    assert notices == []
    assert same_partition(labels_of(encoder, clusterer, data), truth)
    (log,) = tmp_path.rglob("log.jsonl")
    last = log_of(log.parent)[-1]
    assert last["health/lost_clusters"] == 0
    assert last["health/neighbours_input"] > 0.95
    assert last["health/neighbours_codes"] > 0.8


def test_vanished_clusters_are_no_convergence(tmp_path):
    """From the first step on all samples are in one cluster, and no label ever changes again."""
    cls = installed().load("clusterer", "dec")

    class Vanishing(cls):
        vanished = False

        def loss(self, encoder, batch, p):
            self.vanished = True
            return super().loss(encoder, batch, p)

        def forward(self, z):
            q = super().forward(z)
            return torch.eye(3)[torch.zeros(len(z), dtype=torch.int64)] if self.vanished else q

    data, _ = groups()
    Vanishing(build(cls.Config, {"batch_size": 32}, "clusterer"), 3, 4).fit(small(), data, quiet(tmp_path))
    state = checkpoint.load(tmp_path / "refine" / "snapshot.pt")
    assert state["stop_reason"] == "clusters were lost or neighbours parted"
    assert "lost 2 of 3 clusters" in (tmp_path / "notices.json").read_text()


@pytest.mark.parametrize("kill", [2, 7, 8])
def test_a_killed_refinement_is_taken_back_to_the_same_bits(tmp_path, monkeypatch, kill):
    """Its rate is raised too far from the ninth of forty steps on."""
    monkeypatch.setattr("deepclust.core.run.training.cosine", lambda: lambda i, n: 1 if i < 8 else 1e4)
    data, _ = groups(spread=1.5)
    update, steps = Updater.update, []

    def until(self):
        if len(steps) == kill:
            raise SystemError
        steps.append(self.iteration)
        update(self)

    def fitted(folder):
        settings = {"lr": 0.01, "batch_size": 32, "epochs": 10, "refresh": 1, "tol": 0.0}
        return refined(folder, "dec", data, **settings)

    whole = fitted(tmp_path / "whole")
    (notice,) = whole[2]
    monkeypatch.setattr(Updater, "update", until)
    with pytest.raises(SystemError):
        fitted(tmp_path / "cut")
    monkeypatch.setattr(Updater, "update", update)
    cut = fitted(tmp_path / "cut")
    assert cut[2] == whole[2]
    for model, other in zip(whole[:2], cut[:2], strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[key], value), key


# scan under imbalance, deepcluster over rounds


def test_scan_takes_the_sizes_of_kmeans_where_they_are_uneven(tmp_path):
    data, truth = groups((240, 20, 20, 20))
    settings = {"preset": "quick", "start": "random", "lr": 0.02, "epochs": 20}
    found = {
        prior: refined(tmp_path / prior, "scan", data, 4, prior=prior, **settings)
        for prior in ("auto", "uniform", "estimated")
    }
    for prior, (encoder, clusterer, notices) in found.items():
        assert same_partition(labels_of(encoder, clusterer, data), truth), prior
        assert len(notices) == (prior != "estimated")
    text = found["auto"][2][0]["text"]
    assert "from 6.7% to 80.0% of the samples" in text
    assert "clusterer.prior=uniform" in text
    undone = found["uniform"][2][0]["text"]
    assert "undone, and the clusters are those of k-means" in undone
    assert "clusterer.prior=estimated" in undone
    log = [log_of(tmp_path / prior / "scan")[-1] for prior in ("auto", "uniform")]
    assert log[0]["health/neighbours_input"] > 0.95 > log[1]["health/neighbours_input"] + 0.1


def test_a_later_round_that_fails_leaves_the_clusters_of_the_one_before(tmp_path, monkeypatch):
    data, truth = groups()
    settings = {"batch_size": 32, "epochs": 5, "lr": 1e-2}
    one = refined(tmp_path / "one", "deepcluster", data, rounds=1, **settings)
    cls = installed().load("clusterer", "deepcluster")
    loss = cls.loss

    def fails(self, encoder, batch, lesson):
        first = (tmp_path / "three" / "round1").exists()
        return loss(self, encoder, batch, lesson) * (-1e4 if first else 1)

    monkeypatch.setattr(cls, "loss", fails)
    three = refined(tmp_path / "three", "deepcluster", data, rounds=3, **settings)
    (notice,) = three[2]
    assert notice["text"].startswith("Round 1 of deepcluster ")
    assert "undone, and the clusters are those of round 0" in notice["text"]
    assert not (tmp_path / "three" / "round2").exists()
    for model, other in zip(one[:2], three[:2], strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[key], value), key
    assert same_partition(labels_of(*three[:2], data), truth)


def test_a_head_with_hidden_layers_cannot_be_kmeans_which_is_said(tmp_path):
    data, _ = groups()
    *_, notices = refined(tmp_path, "deepcluster", data, hidden=(8,), **COLLAPSES["deepcluster"])
    (notice,) = notices
    assert notice["ill"]
    assert "nothing better to go back to" in notice["text"]
