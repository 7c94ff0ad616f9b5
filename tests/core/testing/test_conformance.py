"""Every first-party component, and the example plugin, through the conformance kit."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from deepclust.core import Storage
from deepclust.core.contract.registry import GROUP, Registry
from deepclust.core.testing import check_clusterer, check_dataset, check_encoder, check_evaluator

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugin"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5), (7,)])
def test_sdae_keeps_an_encoders_promises(tmp_path, shape):
    check_encoder("sdae", tmp_path, shape=shape, hidden=(20,), latent_dim=3)


@pytest.mark.parametrize("name", ["kmeans", "dec", "idec"])
def test_clusterers_keep_their_promises(tmp_path, name):
    check_clusterer(name, tmp_path)


def test_clustering_keeps_an_evaluators_promises(tmp_path):
    check_evaluator("clustering", tmp_path)


def test_digits_keep_a_data_sets_promises():
    check_dataset("digits", Storage(Path("nowhere")))


def test_the_example_plugin_works_like_our_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    ours = Registry()
    assert not ours.failures
    points = [EntryPoint("svd", "deepclust_pca", GROUP)]
    points += [EntryPoint(n, f"deepclust.plugins.{n}", GROUP) for n in ("kmeans", "dec", "sdae")]
    registry = Registry(points)
    assert registry.failures == []
    check_encoder("svd", tmp_path / "encoder", registry=registry, latent_dim=4)
    check_clusterer("idec", tmp_path / "idec", encoder="svd", registry=registry)
    sys.modules.pop("deepclust_pca", None)
