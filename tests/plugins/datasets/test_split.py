"""A test split set apart: what trains, what is scored, and that neither reaches the other."""

import csv
import json

import numpy as np
import pytest
import torch

from deepclust.core import Data, InvalidData, InvalidSetting, Storage, truth_of
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.errors import UnknownName
from deepclust.core.run.pipeline import run
from deepclust.core.run.plan import request_from
from deepclust.plugins.datasets.split import hold_out

NAMES = np.array(["ant", "bee", "cat"])


def groups(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (count, 6) in three far groups, with their classes' names."""
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % 3
    return (np.eye(6)[codes] * 5 + rng.normal(0, 0.1, (count, 6))).astype(np.float32), NAMES[codes]


def archive(path, **changed):
    x_train, y_train = groups(60, 0)
    x_test, y_test = groups(24, 1)
    np.savez(path, **{"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, **changed})
    return path


def load(path, **settings) -> Data:
    cls = installed().load("dataset", "array")
    return cls(build(cls.Config, {"path": str(path), **settings}, "data")).load(Storage(path.parent))


def run_on(path, out, **settings):
    overrides = {
        "data": str(path), "encoder": "sdae", "clusterer": "kmeans", "clusters": 3,
        "evaluators": ("clustering",), "epochs_scale": 0.05,
        "settings": {"data": settings, "encoder": {"hidden": "8", "latent_dim": "2"}},
    }  # fmt: skip
    return run(request_from({}, overrides), Storage(path.parent), out, quiet=True)


def test_the_parts_of_an_archive_are_kept_apart(tmp_path):
    data = load(archive(tmp_path / "a.npz"), split="train-test")
    (x_train, y_train), (x_test, y_test) = groups(60, 0), groups(24, 1)
    assert np.array_equal(data.x.numpy(), x_train)
    assert np.array_equal(data.test.x.numpy(), x_test)
    for part, y in ((data, y_train), (data.test, y_test)):
        assert [part.truth.names[code] for code in part.truth.labels] == y.tolist()
    assert "training split, 60" in data.description
    assert "test split, 24" in data.test.description
    assert data.seal().test is None


def test_a_class_can_be_left_out_of_training_alone(tmp_path):
    data = load(archive(tmp_path / "a.npz"), split="train-test", leave_out="bee")
    (x, y), named = groups(60, 0), data.truth.names
    assert np.array_equal(data.x.numpy(), x[y != "bee"])
    assert {named[code] for code in data.truth.labels} == {"ant", "cat"}
    assert {named[code] for code in data.test.truth.labels} == set(NAMES)
    assert "without class 'bee'" in data.description
    assert len(data.test) == 24


def test_codes_mean_the_same_class_in_both_splits(tmp_path):
    """The test split alone would number its classes otherwise."""
    x_test, y_test = groups(24, 1)
    kept = y_test != "ant"
    data = load(archive(tmp_path / "a.npz", x_test=x_test[kept], y_test=y_test[kept]), split="train-test")
    assert set(data.test.truth.labels.tolist()) == {1, 2}


def test_what_cannot_be_split_is_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", x=groups(9, 0)[0])
    with pytest.raises(InvalidData, match=r"x_train and x_test.*whole\.npz"):
        load(tmp_path / "whole.npz", split="train-test")
    np.save(tmp_path / "x.npy", groups(9, 0)[0])
    with pytest.raises(InvalidData, match=r"x\.npy"):
        load(tmp_path / "x.npy", split="train-test")
    path = archive(tmp_path / "a.npz")
    with pytest.raises(InvalidSetting, match="data.split=train-test"):
        load(path, leave_out="bee")
    with pytest.raises(UnknownName, match="'bea'.*bee"):
        load(path, split="train-test", leave_out="bea")
    np.savez(tmp_path / "bare.npz", x_train=groups(9, 0)[0], x_test=groups(9, 1)[0])
    with pytest.raises(InvalidData, match="no labels"):
        load(tmp_path / "bare.npz", split="train-test", leave_out="bee")
    empty = Data(torch.zeros(5, 2), "five rows", revealed=truth_of(np.zeros(5, int)))
    for first in (0, 5):
        with pytest.raises(InvalidData, match="no two splits"):
            hold_out(empty, first)
    with pytest.raises(InvalidData, match="nothing to train on"):
        hold_out(empty, 3, "0")


def test_a_run_scores_the_test_split_and_never_trains_on_it(tmp_path):
    """Other test samples change the test's table and nothing that training made."""
    first = run_on(archive(tmp_path / "a.npz"), tmp_path / "one", split="train-test")
    scores = first.scores["clustering"]
    assert scores["test_accuracy"] == scores["accuracy"] == 1
    assert sum(scores["cluster_sizes"]) == 60
    assert "no training saw" in first.summary["protocol"]["scored on"]
    with (tmp_path / "one" / "labels-test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["truth"] for row in rows] == groups(24, 1)[1].tolist()
    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["data"]["test"]["samples"] == 24

    x_test, y_test = groups(24, 5)
    other = archive(tmp_path / "b.npz", x_test=-x_test, y_test=y_test[::-1])
    second = run_on(other, tmp_path / "two", split="train-test")
    for name in ("labels.csv", "embedding.npy", "examples.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert second.scores["clustering"]["test_accuracy"] < 1


def test_a_supervised_encoder_does_not_see_the_test_split(tmp_path, monkeypatch):
    seen = []
    cls = installed().load("encoder", "cnn")
    monkeypatch.setattr(cls, "fit", lambda self, data, run: seen.append(data) or self)
    x = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    y = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x_train=x[:30], x_test=x[30:], y_train=y[:30], y_test=y[30:])
    overrides = {
        "data": str(tmp_path / "a.npz"), "encoder": "cnn", "clusterer": "kmeans", "clusters": 2,
        "evaluators": ("clustering",), "settings": {"data": {"split": "train-test"}},
    }  # fmt: skip
    run(request_from({}, overrides), Storage(tmp_path), tmp_path / "out", quiet=True)
    assert [(len(data), data.test) for data in seen] == [(30, None)]
    assert seen[0].truth is not None


def test_values_that_are_not_finite_are_refused_in_the_test_split_too(tmp_path):
    x_test = groups(24, 1)[0]
    x_test[3, 1] = np.nan
    with pytest.raises(InvalidData, match="test split.*not finite.*sample 3"):
        run_on(archive(tmp_path / "a.npz", x_test=x_test), tmp_path / "out", split="train-test")
    assert not (tmp_path / "out").exists()
