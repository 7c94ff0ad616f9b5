"""Samples of half precision: as they are on disk and in memory, float32 in batches."""

import numpy as np
import pytest
import torch

from deepclust import DeepClustering
from deepclust.core import Storage
from deepclust.core.contract.registry import installed
from deepclust.core.run.pipeline import run
from deepclust.core.run.plan import request_from

rng = np.random.default_rng(0)
SETS = {
    "embeddings": rng.normal(size=(200, 96)) + 3,
    "large values": rng.normal(size=(200, 12)) * 9_000,
    "columns of different units": rng.normal(size=(200, 5)) * [1, 1, 1, 1, 1000],
    "images from 0 to 1": rng.random((60, 9, 8)),
    "images on another scale": rng.normal(size=(60, 9, 8, 3)) * 300,
}


def load(path, **settings):
    return (
        installed()
        .make("dataset", "array", settings={"path": str(path), **settings})
        .load(Storage(path.parent))
    )


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("scale", ["auto", "none"])
def test_batches_are_those_of_the_same_values_in_single_precision(tmp_path, name, scale):
    x = SETS[name].astype(np.float16)
    np.save(tmp_path / "half.npy", x)
    np.save(tmp_path / "single.npy", x.astype(np.float32))
    np.savez(tmp_path / "half.npz", x=x)
    single = load(tmp_path / "single.npy", scale=scale)
    for file in ("half.npy", "half.npz"):
        half = load(tmp_path / file, scale=scale)
        assert half.x.dtype == torch.float16
        assert (half.mapped is not None) == (file == "half.npy")
        assert half.preparation == single.preparation
        for index in (torch.tensor([5, 0, 59]), torch.arange(60)):
            assert half.batch(index).dtype == torch.float32
            assert torch.equal(half.batch(index), single.batch(index))
        assert torch.equal(half.slice(3, 9), single.slice(3, 9))
        assert half.extremes() == single.extremes()
        assert half.mean_square() == pytest.approx(single.mean_square(), rel=1e-6)
        half.check(3)


def test_the_other_byte_order_is_read_too(tmp_path):
    x = SETS["embeddings"].astype(np.float16)
    np.save(tmp_path / "x.npy", x.astype(">f2"))
    assert np.array_equal(load(tmp_path / "x.npy").x.numpy(), x)


def test_values_that_are_not_finite_are_named(tmp_path):
    x = SETS["embeddings"].astype(np.float16)
    x[7, 3] = np.inf
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"the first is inf in sample 7 at position \(3,\)"):
        load(tmp_path / "x.npy").check(2)


def test_a_run_and_the_estimator_give_the_labels_of_single_precision(tmp_path):
    x = SETS["embeddings"].astype(np.float16)
    x[100:] += 4
    np.save(tmp_path / "half.npy", x)
    np.save(tmp_path / "single.npy", x.astype(np.float32))
    labels = {}
    for kind in ("half", "single"):
        asked = {"encoder": "identity", "clusterer": "kmeans", "data": str(tmp_path / f"{kind}.npy")}
        request = request_from({"run": {**asked, "clusters": 2}}, {"evaluators": ["clustering", "report"]})
        outcome = run(request, Storage(tmp_path), tmp_path / kind, quiet=True)
        labels[kind] = outcome.labels
    assert np.array_equal(labels["half"], labels["single"])
    model = DeepClustering("identity", "kmeans", 2, random_state=0)
    assert np.array_equal(model.fit_predict(x), labels["half"])
    assert np.array_equal(model.predict(x.astype(np.float32)), labels["half"])
