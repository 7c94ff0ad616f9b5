"""SCAN: its neighbours, its choice of head, and what its stages do to made data."""

import json
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data, Encoder, InvalidSetting, Run, Storage, assign, embed, truth_of
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.engine.checkpoint import seed_everything
from deepclust.core.run.pipeline import run as run_pipeline
from deepclust.core.run.plan import request_from
from deepclust.core.testing import check_clusterer
from deepclust.plugins.scan.mining import mine
from deepclust.plugins.scan.sample import Cached, draw_codes
from deepclust.plugins.scan.view import choose_view
from made_logits import logits
from made_training import log_of

# mining


def test_neighbours_are_of_the_same_part_and_never_the_sample_itself():
    z = logits(200, 6)
    mined = mine(z, 7, 0.2, seed=3)
    train, held = set(mined.train.tolist()), set(mined.held.tolist())
    assert (len(train), len(held)) == (160, 40)
    assert train | held == set(range(200))
    assert set(mined.neighbours.flatten().tolist()) <= train
    assert set(mined.held_neighbours.flatten().tolist()) <= held
    assert (mined.neighbours != mined.train[:, None]).all()
    unit = nn.functional.normalize(z)
    first = int(mined.train[0])
    others = mined.train[1:]
    best = others[(unit[others] @ unit[first]).argsort(descending=True)[:7]]
    assert mined.neighbours[0].tolist() == best.tolist()
    assert torch.equal(mine(z, 7, 0.2, seed=3).held, mined.held)
    assert not torch.equal(mine(z, 7, 0.2, seed=4).held, mined.held)


@pytest.mark.parametrize(("count", "held"), [(300, 30), (150, 0)])
def test_none_are_held_back_whose_neighbours_would_be_of_other_clusters(tmp_path, count, held):
    """Ten for each of three clusters at least."""
    _, clusterer = fitted(tmp_path, groups(count), epochs=2)
    assert int((clusterer.neighbours[:, -1] < 0).sum()) == held


def test_few_samples_are_all_trained_on():
    mined = mine(logits(12, 3), 20, 0.1, seed=0)
    assert mined.train.tolist() == mined.held.tolist() == list(range(12))
    assert mined.neighbours.shape == (12, 11)


@pytest.mark.parametrize(("n", "share", "count"), [(50, 0.2, 7), (50, 0.2, 3), (12, 0.1, 20)])
def test_the_table_of_neighbours_has_a_row_for_each_sample(n, share, count):
    mined = mine(logits(n, 6), count, share, seed=3)
    expected = torch.full((n, mined.neighbours.shape[1]), -1)
    for place, near in zip(mined.held.tolist(), mined.held_neighbours, strict=True):
        expected[place, : len(near)] = near[: expected.shape[1]]
    for place, near in zip(mined.train.tolist(), mined.neighbours, strict=True):
        expected[place] = near
    assert torch.equal(mined.table(), expected)
    assert (mined.table()[:, 0] >= 0).all()


# the clusterer on made data


class Same(Encoder):
    """Gives samples as codes, through one layer that counts the passes in training mode."""

    Config = None

    def __init__(self, dim: int) -> None:
        super().__init__(None, (dim,))
        self.latent_dim = dim
        self.layer = nn.Linear(dim, dim)
        self.norm = nn.BatchNorm1d(dim)
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def fit(self, data, run):
        return self

    def forward(self, x):
        return self.norm(self.layer(x))


def groups(count: int = 300, k: int = 3, spread: float = 0.3, seed: int = 0) -> Data:
    """Samples around k orthogonal directions."""
    labels = torch.arange(count) % k
    x = 4 * torch.eye(6)[labels] + logits(count, 6, scale=spread, seed=seed)
    return Data(x, "groups", revealed=truth_of(labels.numpy()))


def fitted(folder, data: Data, k: int = 3, seed: int = 0, scale: float = 1.0, **settings):
    cls = installed().load("clusterer", "scan")
    given = {"preset": "quick", "epochs": 30, "lr": 0.02, "view": "none", "label_view": "none", **settings}
    clusterer = cls(build(cls.Config, given, "clusterer"), k, 6)
    torch.manual_seed(0)
    encoder = Same(6)
    run = Run(folder, seed=seed, quiet=True, epochs_scale=scale, snapshot_seconds=0)
    seed_everything(seed)
    clusterer.fit(encoder, data.seal(), run)
    return encoder, clusterer


def agreement(labels, data: Data, k: int) -> float:
    truth, labels = torch.from_numpy(data.revealed.labels), torch.as_tensor(labels)
    return sum(int(torch.bincount(truth[labels == c], minlength=k).max()) for c in range(k)
               if (labels == c).any()) / len(truth)  # fmt: skip


@pytest.mark.parametrize("tune", [False, True])
def test_separated_groups_are_found(tmp_path, tune):
    data = groups()
    encoder, clusterer = fitted(tmp_path, data, tune_encoder=tune)
    placed = assign(clusterer, embed(encoder, data))
    assert agreement(placed.labels, data, 3) == 1
    assert sorted(np.bincount(placed.labels).tolist()) == [100, 100, 100]
    assert float(placed.confidence.mean()) > 0.9


def test_a_frozen_encoder_keeps_its_bits(tmp_path):
    data = groups()
    encoder, _ = fitted(tmp_path, data)
    torch.manual_seed(0)
    for name, value in Same(6).state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name


def test_cached_codes_are_the_encoders_own():
    data, encoder = groups(), Same(6).eval()
    view_calls = []

    def view(x):
        view_calls.append(len(x))
        return x + len(view_calls)

    with torch.no_grad():
        clean = Cached(embed(encoder, data)[None])
        assert torch.equal(clean(torch.tensor([5, 2])), encoder(data.x[[5, 2]]))
        drawn = Cached(draw_codes(encoder, data, view, 3, torch.no_grad))
        assert view_calls == [300] * 3
        seen = {tuple(drawn(torch.tensor([7]))[0].tolist()) for _ in range(60)}
        assert seen == {tuple(encoder(data.x[7:8] + i)[0].tolist()) for i in (1, 2, 3)}


def test_the_head_and_the_epoch_of_the_least_held_out_loss_stay(tmp_path):
    data = groups(spread=1.5)
    _, clusterer = fitted(tmp_path, data, start="random", heads=4, epochs=8, lr=0.05)
    lines = log_of(tmp_path / "scan")
    losses = [line["held_out/loss"] for line in lines]
    assert len(losses) == 8
    assert clusterer.unsupervised_loss == min(losses)
    best = torch.load(tmp_path / "scan" / "best.pt", weights_only=True)
    assert best["iteration"] == lines[losses.index(min(losses))]["iteration"]
    assert int(clusterer.chosen) == int(best["models"]["clusterer"]["chosen"])


@pytest.mark.parametrize("start", ["kmeans", "random"])
def test_training_starts_from_k_means_or_at_random(tmp_path, start):
    """At a rate of 0 the clusters are those of the start; random ones are worse than k-means', so undone."""
    data = groups(spread=0.5)
    encoder, clusterer = fitted(tmp_path, data, start=start, lr=0.0, weight_decay=0.0, epochs=1, heads=3)
    heads = clusterer.logits(embed(encoder, data)).argmax(dim=2).T
    assert [agreement(head, data, 3) for head in heads] == [1] * (1 if start == "kmeans" else 3)
    notices = tmp_path / "notices.json"
    assert notices.exists() == (start == "random")
    assert start == "kmeans" or "those of k-means on the codes" in notices.read_text()


def test_labels_reach_neither_training_nor_choice(tmp_path):
    """Permuted classes change no bit: they are not looked at."""
    data = groups(spread=1.0)
    other = Data(data.x, "groups", revealed=truth_of(np.roll(data.revealed.labels, 1)))
    settings = {"start": "random", "heads": 3, "epochs": 4}
    found = [fitted(tmp_path / str(i), d, **settings)[1] for i, d in enumerate((data, other))]
    for name, value in found[0].state_dict().items():
        assert torch.equal(found[1].state_dict()[name], value), name


def test_more_clusters_than_groups_split_groups_and_mix_none(tmp_path):
    data = groups()
    encoder, clusterer = fitted(tmp_path, data, k=6, epochs=60)
    labels = assign(clusterer, embed(encoder, data)).labels
    assert len(np.unique(labels)) > 3
    assert agreement(labels, data, 6) > 0.98


# self-labelling


def test_certain_samples_teach_the_others_and_the_weak_pass_moves_no_statistics(tmp_path):
    data = groups(spread=1.2)
    encoder, clusterer = fitted(
        tmp_path, data, tune_encoder=True, label_epochs=5, threshold=0.9, label_batch_size=75, label_lr=1e-2
    )
    log = (tmp_path / "label" / "log.jsonl").read_text().splitlines()
    assert len(log) == 5
    assert json.loads(log[-1])["certain"] > json.loads(log[0])["certain"] - 0.05
    before = torch.load(tmp_path / "scan" / "best.pt", weights_only=True)["models"]["encoder"]
    moved = encoder.norm.num_batches_tracked - before["norm.num_batches_tracked"]
    assert int(moved) == 5 * 4, "one pass a step counts, the one through the strong view"
    assert agreement(assign(clusterer, embed(encoder, data)).labels, data, 3) > 0.9


def test_too_few_certain_samples_are_said_and_change_nothing(tmp_path):
    data, short = groups(spread=1.5), {"epochs": 2, "lr": 1e-4, "prior": "estimated"}
    encoder, without = fitted(tmp_path / "a", data, **short, label_epochs=0)
    _, clusterer = fitted(tmp_path / "b", data, **short, label_epochs=5, threshold=0.999)
    for name, value in without.state_dict().items():
        assert torch.equal(clusterer.state_dict()[name], value), name
    assert not (tmp_path / "b" / "label").exists()
    (said,) = (kept["text"] for kept in json.loads((tmp_path / "b" / "notices.json").read_text()))
    assert "self-labelling needs 5% of each" in said
    advised = float(re.search(r"-s clusterer.threshold=([\d.]+),", said)[1])
    fitted(tmp_path / "c", data, **short, label_epochs=5, threshold=advised)
    assert len(log_of(tmp_path / "c" / "label")) == 5
    assert not (tmp_path / "c" / "notices.json").exists()
    found = assign(without, embed(encoder, data))
    shares = [float((found.confidence[found.labels == k] > advised).mean()) for k in np.unique(found.labels)]
    assert min(shares) >= 0.5, "which the notice promises"


def test_one_cluster_without_certain_samples_is_enough_to_leave_self_labelling_out(tmp_path):
    data = groups()
    x = data.x.clone()
    x[torch.from_numpy(data.revealed.labels == 2)] *= 0.1  # near the middle, where no head is that sure
    data = Data(x, "groups", revealed=data.revealed)
    encoder, clusterer = fitted(tmp_path, data, start="random", label_epochs=2, threshold=0.99)
    found = assign(clusterer, embed(encoder, data))
    certain = [float((found.confidence[found.labels == k] > 0.99).mean()) for k in range(3)]
    assert sorted(certain)[0] == 0 < 0.05 < sorted(certain)[1]
    (said,) = (kept["text"] for kept in json.loads((tmp_path / "notices.json").read_text()))
    assert f"more certain than 0.99 of 0 of the 100 samples in cluster {np.argmin(certain)}, and self" in said
    assert not (tmp_path / "label").exists()


def test_self_labelling_that_loses_clusters_is_undone_and_said(tmp_path):
    data, settings = groups(spread=0.5), {"tune_encoder": True, "threshold": 0.8}
    alone = fitted(tmp_path / "a", data, label_epochs=0, **settings)
    wrecked = fitted(tmp_path / "b", data, label_epochs=3, label_lr=1e4, label_batch_size=4, **settings)
    assert len(log_of(tmp_path / "b" / "label")) < 3, "it was stopped"
    for model, other in zip(alone, wrecked, strict=True):
        for name, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
    assert agreement(assign(wrecked[1], embed(wrecked[0], data)).labels, data, 3) == 1
    (said,) = (kept["text"] for kept in json.loads((tmp_path / "b" / "notices.json").read_text()))
    assert re.search(r"lost [12] of 3 clusters: it was stopped after \d+ iterations and undone, ", said)
    assert "clusterer.label_epochs=0" in said


def test_the_notice_stands_in_the_scores_of_the_run(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.random((60, 5)).astype(np.float32))
    overrides = {
        "data": str(tmp_path / "x.npy"), "encoder": "sdae", "clusterer": "scan", "clusters": 3,
        "epochs_scale": 0.02, "evaluators": ("clustering",),
        "settings": {
            "encoder": {"hidden": "8"},
            "clusterer": {"start": "random", "label_epochs": "9", "tune_encoder": "off"},
        },
    }  # fmt: skip
    summary = run_pipeline(
        request_from({}, overrides), Storage(tmp_path), tmp_path / "out", quiet=True
    ).summary
    assert any("self-labelling" in text for text in summary["protocol"]["notices"])
    assert math.isfinite(summary["clusterer"]["unsupervised_loss"])


@pytest.mark.parametrize("setting", ["view", "label_view"])
def test_views_that_rows_cannot_have_are_refused(tmp_path, setting):
    with pytest.raises(InvalidSetting, match=f"clusterer.{setting}=strong.*say -s clusterer.{setting}=none"):
        fitted(tmp_path, groups(), label_epochs=1, **{setting: "strong"})
    with pytest.raises(InvalidSetting, match=r"augment\(x\), and Same has neither"):
        fitted(tmp_path, groups(), label_epochs=1, **{setting: "encoder"})


def test_the_encoders_views_go_before_how_it_augments():
    encoder = Same(6)
    assert choose_view("auto", encoder, groups(), True, "clusterer.view") is None
    encoder.augment = lambda x: x + 1
    for name in ("auto", "encoder"):
        assert choose_view(name, encoder, groups(), True, "clusterer.view") is encoder.augment
    encoder.view = lambda x: x + 2
    for name in ("auto", "encoder"):
        assert choose_view(name, encoder, groups(), True, "clusterer.view") is encoder.view
    assert choose_view("none", encoder, groups(), True, "clusterer.view") is None


def test_scan_on_simclr_learns_from_the_views_of_simclr(tmp_path, monkeypatch):
    """Of a frozen encoder the codes of each draw are those of other views, of one that trains all steps'."""
    x = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    cls = installed().load("encoder", "simclr")
    seen = []
    draw = cls.view

    def view(self, x):
        seen.append(len(x))
        return draw(self, x)

    # 8 of 40 are held back: two steps with 16 samples and a neighbour of each
    for tune, expected in (("off", [40] * 3), ("on", [32] * 2)):
        overrides = {
            "data": str(tmp_path / "x.npy"), "encoder": "simclr", "clusterer": "scan", "clusters": 3,
            "evaluators": ("clustering",),
            "settings": {
                "encoder": {"backbone": "cae", "epochs": "1", "batch_size": "16"},
                "clusterer": {
                    "view": "encoder", "tune_encoder": tune, "draws": "3", "epochs": "1", "batch_size": "16",
                    "label_epochs": "0", "held_out": "0.2",
                },
            },
        }  # fmt: skip
        monkeypatch.setattr(cls, "view", view)
        run_pipeline(request_from({}, overrides), Storage(tmp_path), tmp_path / tune, quiet=True)
        assert seen[:6] == [14, 14, 14, 14, 12, 12]  # SimCLR's own first, two of each of its batches
        assert seen[6:8] == [14, 14]  # of the batch that is looked at when it has ended
        assert seen[8 : 8 + len(expected)] == expected
        seen.clear()


def test_what_cannot_be_is_refused_before_the_encoder_trains(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((30, 5)).astype(np.float32))
    overrides = {
        "data": str(tmp_path / "x.npy"), "encoder": "sdae", "clusterer": "scan", "clusters": 3,
        "settings": {"clusterer": {"view": "strong"}},
    }  # fmt: skip
    with pytest.raises(InvalidSetting, match="say -s clusterer.view=none"):
        run_pipeline(request_from({}, overrides), Storage(tmp_path), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


# resuming, conformance


@pytest.mark.parametrize("stage", ["scan", "label"])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, monkeypatch, stage):
    from deepclust.core.engine import Updater

    settings = {
        "tune_encoder": True, "start": "random", "heads": 2, "epochs": 4, "lr": 0.1, "label_epochs": 4,
        "threshold": 0.5, "average": 0.9, "label_batch_size": 64, "label_lr": 1e-3,
    }  # fmt: skip
    data = groups(spread=1.0)
    encoder, whole = fitted(tmp_path / "whole", data, **settings)

    class Killed(Exception):
        pass

    update = Updater.update
    counts = {"scan": 7, "label": 12 + 5}  # 270 samples by 128 are 3 steps an epoch

    def until(self):
        counts[stage] -= 1
        if counts[stage] < 0:
            raise Killed
        update(self)

    monkeypatch.setattr(Updater, "update", until)
    with pytest.raises(Killed):
        fitted(tmp_path / "cut", data, **settings)
    monkeypatch.setattr(Updater, "update", update)
    assert (tmp_path / "cut" / stage / "snapshot.pt").exists()
    resumed_encoder, resumed = fitted(tmp_path / "cut", data, **settings)
    for one, two in ((whole, resumed), (encoder, resumed_encoder)):
        for name, value in one.state_dict().items():
            assert torch.equal(two.state_dict()[name], value), name


@pytest.mark.parametrize(
    "settings", [{"preset": "quick"}, {"preset": "tuned", "label_epochs": 2, "threshold": 0.2, "heads": 2}]
)
def test_scan_keeps_a_clusterers_promises(tmp_path, settings):
    check_clusterer("scan", tmp_path, **settings)
