"""Standardised samples: numpy's mean and deviation, absurd values, what comes back, what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deepclust.core import Data, Standardise
from deepclust.core.data.mapped import Mapped
from deepclust.core.toolbox.standardise import LIMIT


def fitted(x: torch.Tensor, **more) -> Standardise:
    model = Standardise(tuple(x.shape[1:]))
    model.fit(Data(x, "made", **more))
    return model


def draws(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def photos(n=30) -> np.ndarray:
    """Float images (N, 3, 6, 5), whose channels differ in level and in contrast."""
    return (
        draws(n, 3, 6, 5) * np.array([1, 20, 0.01], "f4")[:, None, None]
        + np.array([5, -300, 0], "f4")[:, None, None]
    )


def test_bytes_have_each_channels_mean_and_deviation():
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 7, 5), dtype=np.uint8)
    x[:, 1] //= 4
    model = fitted(torch.from_numpy(x))
    shown = x.astype("f8") / 255  # as ``Data.batch`` gives them
    mean, deviation = shown.mean((0, 2, 3), keepdims=True), shown.std((0, 2, 3), keepdims=True)
    standard = model(torch.from_numpy(shown).float()).numpy()
    np.testing.assert_allclose(standard, (shown - mean) / deviation, atol=1e-4)


def test_bytes_are_not_limited():
    x = torch.zeros(500, 1, 4, 4, dtype=torch.uint8)
    x[3, 0, 1, 1] = 255  # one bright point in 8,000
    data = Data(x, "a star")
    assert float(fitted(x)(data.slice(3, 4)).max()) == pytest.approx(8000**0.5, rel=1e-3)


@pytest.mark.parametrize(("bright", "kept"), [(0.2, True), (0.8, False)])
def test_black_stays_where_most_is_black(bright, kept):
    x = (np.random.default_rng(0).random((50, 1, 8, 8)) < bright).astype("f4") * 200
    model = fitted(torch.from_numpy(x))
    before = model(torch.from_numpy(x))
    model.keep_black()
    after = model(torch.from_numpy(x))
    if kept:
        assert float(model(torch.zeros(1, 1, 8, 8)).abs().max()) == 0
        assert float(after.square().mean()) == pytest.approx(1, rel=1e-4)
        assert torch.allclose(model.inverse(after), torch.from_numpy(x), atol=1e-3)
    else:
        assert torch.equal(after, before)


def test_float_images_have_each_channels_mean_and_deviation():
    x = photos()
    mean, deviation = x.mean((0, 2, 3), keepdims=True), x.std((0, 2, 3), keepdims=True)
    standard = fitted(torch.from_numpy(x))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(standard, (x - mean) / deviation, atol=2e-3)


@pytest.mark.parametrize("n", [3, 12, 60, 3000])
@pytest.mark.parametrize("shape", [(9,), (3, 4)])
def test_rows_have_their_columns_means_and_one_deviation(n, shape):
    x = draws(n, *shape) * np.linspace(0.5, 2, shape[-1], dtype="f4") + np.arange(shape[0]).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    x = x.astype("f4")
    mean, deviation = x.mean(0), np.sqrt(x.var(0).mean())
    standard = fitted(torch.from_numpy(x))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(standard, (x - mean) / deviation, atol=1e-3)
    between = standard.std(0) / x.std(0)  # columns keep their spreads beside each other
    np.testing.assert_allclose(between, between.flat[0] * np.ones(shape), rtol=1e-3)


def test_constant_values_become_zero():
    x = photos()
    x[:, 1] = 7.5
    standard = fitted(torch.from_numpy(x))(torch.from_numpy(x))
    assert not standard[:, 1].any()
    assert float(standard[:, 0].std()) == pytest.approx(1, rel=0.01)
    rows = torch.from_numpy(draws(50, 6))
    rows[:, 2] = -3.0
    assert not fitted(rows)(rows)[:, 2].any()
    black = torch.zeros(10, 1, 4, 4)
    assert not fitted(black)(black).any()


@pytest.mark.parametrize("absurd", [1e20, -1e20, 1e38])
@pytest.mark.parametrize("shape", [(400, 3, 8, 8), (400, 16)])
def test_one_absurd_value_changes_nothing_else(absurd, shape):
    clean = torch.from_numpy(draws(*shape)) + 3
    hit = clean.clone()
    place = (7, *[1] * (len(shape) - 1))
    hit[place] = absurd
    expected, standard = fitted(clean)(clean), fitted(hit)(hit)
    assert float(standard[place]) == LIMIT * np.sign(absurd)
    standard[place] = expected[place]
    torch.testing.assert_close(standard, expected, atol=0.06, rtol=0)  # it counts as 10 among 400
    others = [i for i in range(shape[1]) if i != 1]
    torch.testing.assert_close(standard[:, others], expected[:, others], atol=0.03, rtol=0)


def test_rare_values_are_no_absurd_ones():
    """Where all but a few values are equal, it is these few that tell samples apart."""
    x = torch.zeros(300, 1, 10, 10)
    x[::50, 0, 2, 3] = 4.0  # 6 of 30,000: fewer than are left out at the first look
    standard = fitted(x)(x)
    assert float(standard.max()) == LIMIT
    assert float(standard[0, 0, 0, 0]) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("x", [photos(), draws(40, 6) * 3 + 1, draws(40, 2, 3)])
def test_the_inverse_gives_the_samples_again(x):
    x = torch.from_numpy(x)
    model = fitted(x)
    torch.testing.assert_close(model.inverse(model(x)), x, rtol=1e-4, atol=1e-4)


def test_before_it_is_fitted_nothing_changes():
    x = torch.from_numpy(photos())
    assert torch.equal(Standardise((3, 6, 5))(x), x)
    assert torch.equal(Standardise((3, 6, 5)).inverse(x), x)


def test_the_state_keeps_all_of_it():
    x = torch.from_numpy(photos())
    model, again = fitted(x), Standardise((3, 6, 5))
    assert not list(model.parameters())  # nothing that an optimiser could move
    again.load_state_dict(model.state_dict())
    far = 1e6 * x
    assert torch.equal(again(far), model(far))
    assert float(again(far).abs().max()) == LIMIT


def test_a_file_gives_what_memory_gives(tmp_path):
    x = photos(200)
    np.save(tmp_path / "x.npy", x)
    rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = Data(torch.from_numpy(np.load(tmp_path / "x.npy")), "memory")
    mapped = replace(data, mapped=Mapped(rows))
    a, b = Standardise(data.shape), Standardise(data.shape)
    a.fit(data)
    b.fit(mapped)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_of_many_samples_some_are_looked_at(monkeypatch):
    """Evenly spaced ones, the first and the last among them."""
    x = torch.zeros(9000, 2)
    x[:4500, 0] = 1.0
    seen = []
    data = Data(x, "many")
    batch = Data.batch
    monkeypatch.setattr(Data, "batch", lambda self, index: seen.append(index) or batch(self, index))
    model = Standardise((2,))
    model.fit(data)
    index = torch.cat(seen)
    assert len(index) == 4096
    assert (int(index[0]), int(index[-1])) == (0, 8999)
    assert float(index.diff().float().std()) < 1
    assert model.mean.tolist() == pytest.approx([0.5, 0], abs=1e-3)
