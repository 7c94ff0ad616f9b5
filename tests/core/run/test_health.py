"""Health of clusters: known cases, and what a run says of collapsed ones."""

import contextlib
import itertools
import json
import math

import numpy as np
import pytest
import torch

from deepclust.core import Clusterer, Data, Storage
from deepclust.core.contract.registry import installed
from deepclust.core.engine import Batches, Trainer, Updater
from deepclust.core.engine.extensions import Log
from deepclust.core.run.pipeline import run
from deepclust.core.run.plan import request_from
from deepclust.core.toolbox.health import measure
from deepclust.plugins.refinement.monitor import Monitor, moved
from made_training import log_of


def test_even_clusters_are_as_many_as_there_are():
    health = measure(np.arange(40) % 4, np.full(40, 0.7), 4)
    assert health.effective == pytest.approx(4)
    assert (health.smallest, health.empty) == (0.25, 0)
    assert health.confidence == pytest.approx(0.7)


def test_uneven_and_empty_clusters_are_measured():
    labels = np.array([0] * 97 + [1, 2, 3])
    health = measure(labels, np.ones(100), 4)
    shares = [0.97, 0.01, 0.01, 0.01]
    assert health.effective == pytest.approx(math.exp(-sum(s * math.log(s) for s in shares)))
    empty = measure(np.zeros(9, int), np.ones(9), 3)
    assert (empty.effective, empty.empty, empty.smallest) == (1, 2, 0)


class One(Clusterer):
    """Everything in the first cluster."""

    Config = None

    def fit(self, encoder, data, run):
        return self

    def forward(self, z):
        labels = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        return torch.nn.functional.one_hot(labels, self.n_clusters).float()


def test_a_run_says_that_clusters_are_empty_and_what_to_do(tmp_path, monkeypatch):
    cls = installed().load("clusterer", "kmeans")
    monkeypatch.setattr(cls, "fit", One.fit)
    monkeypatch.setattr(cls, "forward", One.forward)
    monkeypatch.setattr(cls, "predict", Clusterer.predict)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((30, 4)).astype(np.float32))
    overrides = {
        "data": str(tmp_path / "x.npy"), "encoder": "sdae", "clusterer": "kmeans", "clusters": 3,
        "evaluators": ("clustering",), "epochs_scale": 0.02, "settings": {"encoder": {"hidden": "4"}},
    }  # fmt: skip
    scores = run(request_from({}, overrides), Storage(tmp_path), tmp_path / "out", quiet=True).summary
    said = scores["protocol"]["notices"][-1]
    assert said.startswith("2 of 3 clusters are empty, though k-means finds ")
    assert "lost them" in said
    assert scores["health"] == {"healthy": False, "reasons": [said]}


def rows_in(folder):
    np.save(folder / "x.npy", (np.arange(30) % 3)[:, None] + np.zeros((30, 4), np.float32))
    return {
        "data": str(folder / "x.npy"), "encoder": "sdae", "clusters": 3, "evaluators": ("clustering",),
        "epochs_scale": 0.02, "settings": {"encoder": {"hidden": "4"}},
    }  # fmt: skip


def test_a_healthy_result_is_said_to_be(tmp_path):
    request = request_from({}, {**rows_in(tmp_path), "clusterer": "kmeans"})
    scores = run(request, Storage(tmp_path), tmp_path / "out", quiet=True).summary
    assert scores["health"] == {"healthy": True, "reasons": []}
    assert json.loads((tmp_path / "out/scores.json").read_text()) == scores


def test_every_notice_arrives_once_and_only_ill_ones_are_reasons(tmp_path, collapsing):
    request = request_from({}, {**rows_in(tmp_path), "clusterer": collapsing})
    place, out = Storage(tmp_path), tmp_path / "out"
    first = run(request, place, out, quiet=True).summary
    within, plain, ill = first["protocol"]["notices"][-3:]
    assert (within, plain) == ("Nothing was here.", "Nothing was [learned] either.")
    assert ill.startswith("2 of 3 clusters are empty")
    assert first["health"] == {"healthy": False, "reasons": [ill]}
    (out / "scores.json").unlink()
    again = run(request, place, out, quiet=True).summary
    assert (again["protocol"], again["health"]) == (first["protocol"], first["health"])


@pytest.mark.parametrize("clusterer", ["dec", "idec", "deepcluster", "scan"])
def test_clusterers_that_train_log_their_health(tmp_path, clusterer):
    overrides = {
        "data": "digits", "encoder": "sdae", "clusterer": clusterer, "epochs_scale": 0.02,
        "evaluators": ("clustering",), "settings": {"encoder": {"hidden": "16"}},
    }  # fmt: skip
    run(request_from({}, overrides), Storage(tmp_path), tmp_path / "out", quiet=True)
    logs = sorted((tmp_path / "out" / "clusterer").rglob("log.jsonl"))
    assert logs
    for log in logs:
        line = json.loads(log.read_text().splitlines()[-1])
        assert 1 <= line["health/effective_clusters"] <= 10 + 1e-4
        assert 0 <= line["health/smallest_cluster"] <= 0.1 + 1e-6
        assert 0 < line["health/confidence"] <= 1 + 1e-6
        assert 0 <= line["health/churn"] <= 1


def test_churn_is_the_share_that_moved(tmp_path):
    data = Data(torch.arange(20.0)[:, None], "a line")

    class Cut(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.at = torch.nn.Parameter(torch.tensor(5.0))
            self.n_clusters = 2

        def forward(self, z):
            above = (z[:, 0] >= self.at).float()
            return torch.stack([1 - above, above], dim=1)

    model = Cut()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    updater = Updater(Batches(data, 20, 0), model, optimizer, lambda batch: -2.0 * model.at)
    trainer = Trainer(updater, (2, "epoch"), tmp_path)
    trainer.extend(Log())
    trainer.extend(Monitor(torch.nn.Identity(), model, data, contextlib.nullcontext))
    trainer.run()
    lines = log_of(tmp_path)
    assert [round(line["health/churn"], 6) for line in lines] == [0.1, 0.1], "the cut moves by 2 of 20"
    assert [round(line["health/smallest_cluster"], 6) for line in lines] == [0.35, 0.45]


@pytest.mark.parametrize(("n_clusters", "share"), [(1, 0.5), (3, 0.0), (4, 0.2), (5, 0.9)])
def test_churn_is_that_of_the_best_renumbering(n_clusters, share):
    """A twin that tries every renumbering."""
    draw = torch.Generator().manual_seed(n_clusters)
    before = torch.randint(n_clusters, (60,), generator=draw)
    other = torch.randint(n_clusters, (60,), generator=draw)
    after = torch.where(torch.rand(60, generator=draw) < share, other, before)
    orders = [torch.tensor(order) for order in itertools.permutations(range(n_clusters))]
    least = min(float((order[after] != before).double().mean()) for order in orders)
    for order in orders[:: max(1, len(orders) // 5)]:
        assert moved(before, order[after], n_clusters) == pytest.approx(least, abs=1e-12)
    assert moved(before, after, n_clusters + 2) == pytest.approx(least, abs=1e-12)  # two empty
