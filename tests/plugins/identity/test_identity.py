"""Encoders without training: codes, what is kept, what is refused, and runs on real data."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as ScikitPCA
from sklearn.preprocessing import StandardScaler, normalize

from deepclust.core import Data, InvalidData, InvalidSetting, Storage, embed
from deepclust.core.contract.config import build
from deepclust.core.data.scaling import scaled
from deepclust.core.run import bundle as bundles
from deepclust.core.run.pipeline import run as run_pipeline
from deepclust.core.run.plan import request_from
from deepclust.core.testing import check_clusterer, check_encoder
from deepclust.plugins.identity import model, principal
from made_training import quiet


def rows(n=300, dim=80, seed=0) -> np.ndarray:
    """Rows of different lengths about a few directions, and far from 0."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(4, dim))
    return (centers[rng.integers(0, 4, n)] + 0.3 * rng.normal(size=(n, dim))) * rng.uniform(1, 3, (n, 1)) + 5


def data_of(x, dtype=np.float32) -> Data:
    return scaled(Data(torch.from_numpy(np.ascontiguousarray(x, dtype)), "rows"))


def fitted(data, folder, cls=model.Identity, **settings):
    settings = {**cls.defaults(data.shape, len(data)), **settings}
    return cls(build(cls.Config, settings, "encoder"), data.shape).fit(data.seal(), quiet(folder))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("identity", {}),
        ("identity", {"normalize": "l2", "pca": 5}),
        ("identity", {"normalize": "standard"}),
        ("pca", {"components": 7}),
        ("pca", {"components": 7, "normalize": "standard"}),
    ],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (20,)])
def test_the_encoders_keep_an_encoders_promises(tmp_path, name, settings, shape):
    check_encoder(name, tmp_path, shape=shape, **settings)


@pytest.mark.parametrize("clusterer", ["kmeans", "dec", "idec"])
def test_clusterers_work_on_samples_as_they_are(tmp_path, clusterer):
    check_clusterer(clusterer, tmp_path, encoder="identity")


def test_components_are_those_of_an_exact_decomposition_whatever_the_blocks(tmp_path, monkeypatch):
    data = data_of(rows())
    x = data.slice(0, len(data)).double().numpy()
    exact = ScikitPCA(6, svd_solver="full").fit(x)
    whole = fitted(data, tmp_path / "whole", model.PCA, components=6, normalize="none")
    monkeypatch.setattr(principal, "BLOCK_VALUES", 1000)
    parts = fitted(data, tmp_path / "parts", model.PCA, components=6, normalize="none")
    for made in (whole, parts):
        z = embed(made, data)
        signs = np.sign((z.numpy() * exact.transform(x)).sum(0))
        assert np.allclose(z.numpy() * signs, exact.transform(x), atol=1e-4)
        assert float(made.share) == pytest.approx(exact.explained_variance_ratio_.sum(), rel=1e-5)
        largest = made.axes.gather(0, made.axes.abs().argmax(0, keepdim=True))
        assert (largest > 0).all(), "which way an axis points is no chance"
    assert torch.allclose(embed(whole, data), embed(parts, data), atol=1e-5)


def test_codes_are_normalised_as_asked_and_decoded_again(tmp_path):
    data = data_of(rows())
    x = data.slice(0, len(data)).double().numpy()
    l2 = fitted(data, tmp_path / "l2", normalize="l2")
    assert np.allclose(embed(l2, data).numpy(), normalize(x), atol=1e-6)
    directions = normalize(l2.decode(embed(l2, data)).numpy())
    assert np.allclose(directions, normalize(x), atol=1e-5), "a direction is kept, at the usual length"
    assert float(l2.decode(embed(l2, data)).norm(dim=1)[0]) == pytest.approx(
        np.sqrt((x**2).sum(1).mean()), rel=1e-5
    )
    standard = fitted(data, tmp_path / "standard", normalize="standard")
    assert np.allclose(embed(standard, data).numpy(), StandardScaler().fit_transform(x), atol=1e-4)
    for made in (standard, fitted(data, tmp_path / "all", pca=80, normalize="none")):
        assert np.allclose(made.decode(embed(made, data)).numpy(), x, atol=1e-4)
    white = fitted(data, tmp_path / "white", model.PCA, components=4, normalize="standard")
    assert np.allclose(np.cov(embed(white, data).numpy().T, bias=True), np.eye(4), atol=1e-3)


def test_a_row_at_the_mean_has_no_direction_and_no_code_that_is_not_finite(tmp_path):
    encoder = fitted(data_of(rows()), tmp_path, normalize="l2")
    assert torch.equal(encoder(torch.zeros(2, 80)), torch.zeros(2, 80))


def test_a_value_that_is_always_the_same_stays_so(tmp_path):
    x = rows()
    x[:, 3] = 7
    data = data_of(x)
    z = embed(fitted(data, tmp_path, normalize="standard"), data)
    assert torch.isfinite(z).all()
    assert z[:, 3].abs().max() < 1e-5


def test_defaults_follow_the_width_of_the_samples():
    assert model.Identity.defaults((64,), 100) == {"normalize": "l2"}
    assert model.Identity.defaults((63,), 100) == model.Identity.defaults((3, 32, 32), 100) == {}
    assert model.PCA.defaults((13,), 100)["components"] == 13
    assert model.PCA.defaults((512,), 20)["components"] == 19


def test_autocast_leaves_codes_as_exact_as_they_are(tmp_path):
    data = data_of(rows())
    for settings in ({"normalize": "l2"}, {"pca": 5}, {"normalize": "standard", "pca": 5}):
        encoder = fitted(data, tmp_path / str(len(settings)) / settings.get("normalize", "x"), **settings)
        plain = embed(encoder, data)
        under = embed(encoder, data, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
        assert torch.equal(under, plain)


def test_a_resumed_run_measures_nothing_again(tmp_path, monkeypatch):
    data = data_of(rows())
    first = fitted(data, tmp_path, model.PCA, components=5)
    monkeypatch.setattr(model, "principal_axes", None)
    monkeypatch.setattr(model, "moments", None)
    again = fitted(data, tmp_path, model.PCA, components=5)
    assert torch.equal(embed(again, data), embed(first, data))


@pytest.mark.parametrize(
    ("shape", "cls", "settings", "error", "words"),
    [
        ((20,), model.Identity, {"pca": 21}, InvalidSetting, "encoder.pca is 21, but the samples have 20"),
        ((20,), model.PCA, {"components": 99}, InvalidSetting, "encoder.components is 99"),
        ((3, 96, 96), model.PCA, {"components": 5}, InvalidData, "--image-size"),
    ],
)
def test_components_that_cannot_be_are_refused(shape, cls, settings, error, words):
    with pytest.raises(error, match=words):
        cls(build(cls.Config, settings, "encoder"), shape)


def test_more_components_than_samples_are_refused():
    encoder = model.PCA(build(model.PCA.Config, {"components": 10}, "encoder"), (20,))
    with pytest.raises(InvalidData, match="at most 9 components"):
        encoder.check(data_of(rows(10, 20)))


def test_a_run_says_what_it_made_and_its_model_gives_the_same_codes(tmp_path, capsys):
    np.save(tmp_path / "x.npy", load_digits().data.astype(np.float32))
    asked = {"encoder": "pca", "clusterer": "kmeans", "data": str(tmp_path / "x.npy"), "clusters": 10}
    request = request_from({"run": asked}, {"evaluators": ["clustering"]})
    outcome = run_pipeline(request, Storage(tmp_path), tmp_path / "run")
    assert "encoder: 50 principal components (10" in capsys.readouterr().err
    model_ = bundles.load(tmp_path / "run", torch.device("cpu"))
    z, where = model_.predict(outcome.data)
    assert np.array_equal(z.numpy(), np.load(tmp_path / "run" / "embedding.npy"))
    assert np.array_equal(where.labels, outcome.labels)
    assert np.allclose(np.linalg.norm(z.numpy(), axis=1), 1, atol=1e-5)
