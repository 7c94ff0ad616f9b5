"""Arrays whose parts do not go together, and values at the ends of what numbers can be."""

import numpy as np
import pytest
import torch

from deepclust import DeepClustering
from deepclust.core import Data, InvalidData, Storage
from deepclust.core.contract.config import build
from deepclust.core.data.scaling import scaled
from deepclust.plugins.datasets.array import Array, ArrayConfig

ROWS = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)


def read(path, **settings):
    config = build(ArrayConfig, {"path": str(path), **settings}, "data")
    return Array(config).load(Storage(path.parent))


def rows(x):
    return Data(torch.from_numpy(np.asarray(x, np.float64)), "rows")


def test_parts_that_do_not_go_together_are_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x_train=ROWS, x_test=ROWS[:, :2])
    shapes = rf"x_train has shape \({len(ROWS)}, {ROWS.shape[1]}\) and x_test has shape \({len(ROWS)}, 2\)"
    for split in ("all", "train-test"):
        with pytest.raises(InvalidData, match=shapes):
            read(path, split=split)
    assert read(path, split="test").shape == (2,)
    np.savez(path, x_train=ROWS.astype(np.float32), x_test=ROWS.astype(np.uint8))
    for split in ("all", "train-test"):
        with pytest.raises(InvalidData, match="x_train is float32 and x_test is uint8, but bytes"):
            read(path, split=split)
    labels = np.arange(len(ROWS)) % 2
    np.savez(path, x_train=ROWS, x_test=ROWS, y_train=labels, y_test=labels.astype(np.uint8))
    assert len(read(path)) == 2 * len(ROWS)
    np.savez(path, x_train=ROWS, x_test=ROWS, y_train=labels, y_test=labels[:, None])
    with pytest.raises(InvalidData, match="y_train has shape .* and y_test has shape"):
        read(path)


def test_integers_that_float64_cannot_tell_apart_are_refused(tmp_path):
    x = np.arange(40).reshape(20, 2)
    np.save(tmp_path / "x.npy", x + [0, 2**62])
    with pytest.raises(InvalidData, match=f"column 1, from {2**62 + 1} to {2**62 + 39}, are too large to be"):
        read(tmp_path / "x.npy")
    with pytest.raises(InvalidData, match="^X: the integers of column 1"):
        DeepClustering("sdae", "kmeans", 2).fit(x + [0, 2**62])
    for told_apart in (x + [0, 2**30], x * 10**9 + 2**62, x * [1, 0] + [0, 2**62]):
        np.save(tmp_path / "x.npy", told_apart)
        assert len(read(tmp_path / "x.npy")) == 20


def test_values_beyond_float32_are_named_where_they_stay_as_they_are(tmp_path):
    x = np.arange(20.0).reshape(10, 2)
    x[:, 1] = 1e300
    np.save(tmp_path / "x.npy", x)
    assert read(tmp_path / "x.npy").batch(torch.arange(10))[:, 1].tolist() == [0] * 10
    with pytest.raises(InvalidData, match=r"1e\+300 in sample 0, column 1 .* is too large for float32"):
        read(tmp_path / "x.npy", scale="none")
    x[3, 1] = np.nan
    x[0, 1] = np.inf
    with pytest.raises(InvalidData, match=r"1e\+300 in sample 1, column 1"):
        scaled(rows(x), "none")


def test_a_column_whose_deviation_is_no_number_is_refused():
    x = np.arange(40.0).reshape(20, 2)
    x[:, 1] = 1.7e308 * np.sign(np.arange(20) % 3 - 0.5)
    with pytest.raises(InvalidData, match=r"column 1, up to 1.7e\+308, are too large"):
        scaled(rows(x))
    x[:, 1] = 1.7e308
    assert scaled(rows(x)).batch(torch.arange(20))[:, 1].tolist() == [0] * 20


@pytest.mark.parametrize("scale", ["auto", "standard", "none"])
def test_values_too_near_each_other_for_float64_are_refused(scale):
    with pytest.raises(InvalidData, match="too little to be standardised; give them in a smaller unit"):
        scaled(rows(np.random.default_rng(0).normal(size=(20, 2)) * 1e-300), scale)
    dust = np.random.default_rng(0).normal(size=(20, 2)) * [1, 1e-300]
    assert scaled(rows(dust), scale).batch(torch.arange(20))[:, 1].abs().max() < 1e-30
    few = np.zeros((10, 2))  # whose middle values are all equal
    few[:, 0], few[[0, 5], 1] = np.arange(10), [-5, 7]
    assert scaled(rows(few), scale).batch(torch.arange(10)).isfinite().all()
