"""k-means as a clusterer: both implementations on real data, and what its assignments say."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from deepclust.core import Data, Encoder, Run, assign, embed
from deepclust.core.contract.config import build
from deepclust.core.run.run import read_notices
from deepclust.plugins.clustering.metric import accuracy
from deepclust.plugins.kmeans.model import KMeans, KMeansConfig


class Project(Encoder):
    """The first columns of the flattened samples, all of them by default."""

    def __init__(self, shape, dim=None):
        super().__init__(None, shape)
        self.latent_dim = dim or int(np.prod(shape))

    def fit(self, data, run):
        return self

    def forward(self, x):
        return x.flatten(1)[:, : self.latent_dim]


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    return Data(torch.from_numpy(bunch.images).float().div(16).unsqueeze(1), "digits"), bunch.target


def fitted(data, tmp_path, n_clusters=10, seed=0, **settings):
    encoder = Project(data.shape)
    clusterer = KMeans(build(KMeansConfig, settings, "kmeans"), n_clusters, encoder.latent_dim)
    clusterer.fit(encoder, data, Run(tmp_path, seed=seed, quiet=True))
    return clusterer, embed(encoder, data)


def inertia(z, centers):
    return float(torch.cdist(z.double(), centers.double()).square().amin(1).sum())


def test_both_implementations_find_clusters_as_tight(digits, tmp_path):
    data, truth = digits
    results = {}
    for name in ("sklearn", "torch"):
        clusterer, z = fitted(data, tmp_path, implementation=name)
        assert clusterer.centers.shape == (10, 64)
        assert accuracy(truth, clusterer.predict(z).numpy()) > 0.75
        results[name] = inertia(z, clusterer.centers)
        assert float(clusterer.spread) == pytest.approx(results[name] / z.numel(), rel=1e-4)
    assert results["torch"] == pytest.approx(results["sklearn"], rel=5e-3)


@pytest.mark.parametrize("implementation", ["sklearn", "torch"])
def test_assignments_are_distributions_whose_mode_is_the_label(digits, tmp_path, implementation):
    data, _ = digits
    clusterer, z = fitted(data, tmp_path, implementation=implementation, n_init=2)
    q, labels = clusterer(z), clusterer.predict(z)
    torch.testing.assert_close(q.sum(1), torch.ones(len(z)))
    assert (q >= 0).all()
    assert labels.dtype == torch.int64
    assert (q.argmax(1) == labels).float().mean() > 0.999  # ties apart
    nearest = torch.cdist(z.double(), clusterer.centers.double()).argmin(1)
    assert (nearest == labels).float().mean() > 0.999


@pytest.mark.parametrize("implementation", ["sklearn", "torch"])
def test_a_seed_repeats_the_bits(digits, tmp_path, implementation):
    data, _ = digits
    make = {"implementation": implementation, "n_init": 1, "max_iter": 3}
    first = fitted(data, tmp_path, seed=3, **make)[0]
    torch.rand(5), np.random.rand(5)  # global generators have no part in it
    assert torch.equal(fitted(data, tmp_path, seed=3, **make)[0].centers, first.centers)
    assert not torch.equal(fitted(data, tmp_path, seed=4, **make)[0].centers, first.centers)


def test_the_posterior_is_that_of_equal_gaussians(tmp_path):
    torch.manual_seed(0)
    z = torch.cat([torch.randn(300, 2), torch.randn(300, 2) + 6])
    clusterer, z = fitted(Data(z, "two"), tmp_path, 2)
    u, variance = clusterer.centers.double(), float(clusterer.spread)
    assert variance == pytest.approx(1.0, abs=0.15)  # per dimension, what the samples were drawn with
    normals = [torch.distributions.Normal(c, variance**0.5).log_prob(z.double()).sum(1).exp() for c in u]
    expected = torch.stack(normals, 1) / sum(normals)[:, None]
    torch.testing.assert_close(clusterer(z).double(), expected, atol=1e-4, rtol=1e-3)


def test_assign_is_predict_in_pieces(digits, tmp_path):
    data, _ = digits
    clusterer, z = fitted(data, tmp_path, n_init=1)
    found = assign(clusterer, z, batch_size=100)
    assert found.labels.tolist() == clusterer.predict(z).tolist()
    torch.testing.assert_close(torch.from_numpy(found.confidence), clusterer(z).amax(1))


def test_a_state_dict_brings_the_clusters_back(digits, tmp_path):
    data, _ = digits
    clusterer, z = fitted(data, tmp_path, n_init=1)
    other = KMeans(KMeansConfig(), 10, 0)
    other.centers = torch.zeros_like(clusterer.centers)
    other.load_state_dict(clusterer.state_dict())
    assert torch.equal(other(z), clusterer(z))


def test_samples_that_are_all_the_same_are_no_trouble(tmp_path):
    clusterer, z = fitted(Data(torch.ones(20, 3), "ones"), tmp_path, 2, implementation="torch")
    assert torch.isfinite(clusterer(z)).all()


@pytest.mark.parametrize("implementation", ["sklearn", "torch"])
@pytest.mark.parametrize("points", [1, 3])
def test_fewer_points_than_clusters_are_one_notice_and_no_warning(tmp_path, implementation, points):
    x = torch.eye(3)[torch.arange(30) % points]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(Data(x, "few"), tmp_path, n_clusters=5, implementation=implementation)
    (notice,) = read_notices(tmp_path)
    assert ("all equal" if points == 1 else "no more than 3 different points") in notice.text
    assert "5 clusters" in notice.text


def test_as_many_points_as_clusters_are_enough(tmp_path):
    for implementation in ("sklearn", "torch"):
        fitted(
            Data(torch.eye(3).repeat(9, 1), "three"), tmp_path, n_clusters=3, implementation=implementation
        )
    assert read_notices(tmp_path) == []


@pytest.mark.parametrize(
    ("width", "taken"), [(10, "sklearn"), (63, "sklearn"), (64, "torch"), (512, "torch")]
)
def test_auto_takes_the_implementation_that_is_faster_for_such_codes(tmp_path, width, taken):
    x = torch.randn(80, width, generator=torch.Generator().manual_seed(0))
    data = Data(x, "rows")
    by = {
        name: fitted(data, tmp_path, implementation=name, n_init=2)[0].centers
        for name in ("sklearn", "torch")
    }
    found = fitted(data, tmp_path, n_init=2)[0].centers
    assert torch.equal(found, by[taken])
    assert not torch.equal(by["sklearn"], by["torch"])


def test_restarts_are_fewer_where_samples_are_many():
    assert KMeans.defaults((10,), 100_000) == {}
    assert KMeans.defaults((10,), 1_000_000) == {"n_init": 2}
    assert KMeans.defaults((10,), 10**8) == {"n_init": 1}
