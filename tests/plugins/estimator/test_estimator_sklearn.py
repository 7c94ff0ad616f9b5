"""The estimator among scikit-learn's tools: its checks, samples in every form, copies and pipelines."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from deepclust import DeepClustering
from made_estimator import QUICK, X, quick

ONE = "it sets n_clusters to 1, which is refused: one cluster says nothing of the data"
EXPECTED = {
    "check_dont_overwrite_parameters": ONE,
    "check_methods_subset_invariance": ONE,
    "check_fit2d_1feature": ONE,
    "check_fit2d_predict1d": ONE,
    "check_methods_sample_order_invariance": "codes and assignments are float32, whose last bit depends on "
    "where in a batch a row stands; the check wants a relative 1e-7 and draws an unseeded order",
}
SKIPPED = {"check_array_api_input"}  # it needs an environment variable


@pytest.mark.parametrize("clusterer", ["kmeans", "dec"])
def test_scikit_learns_own_checks_pass(clusterer):
    results = estimator_checks.check_estimator(quick(clusterer), on_fail=None, on_skip=None)
    outcome = {status: [r for r in results if r["status"] == status] for status in ("failed", "skipped")}
    failed = {r["check_name"]: repr(r["exception"]) for r in outcome["failed"]}
    assert len(results) >= 50
    assert {k: v for k, v in failed.items() if k not in EXPECTED} == {}
    assert {k for k, v in EXPECTED.items() if v == ONE} <= set(failed)
    assert {r["check_name"] for r in outcome["skipped"]} <= SKIPPED


class AtLeastTwo(DeepClustering):
    """Takes 1 cluster for 2, so that the checks that ask for 1 have something to check."""

    @property
    def n_clusters(self):
        return max(2, self._asked)

    @n_clusters.setter
    def n_clusters(self, asked):
        self._asked = asked


AtLeastTwo.__init__ = DeepClustering.__init__


@pytest.mark.parametrize("clusterer", ["kmeans", "dec"])
@pytest.mark.parametrize("name", [name for name, reason in EXPECTED.items() if reason == ONE])
def test_the_checks_that_want_one_cluster_pass_with_two(name, clusterer):
    estimator = AtLeastTwo("sdae", clusterer, **QUICK)
    getattr(estimator_checks, name)("AtLeastTwo", estimator)


@pytest.mark.parametrize("clusterer", ["kmeans", "dec"])
def test_the_order_of_the_samples_changes_no_more_than_the_last_bits(clusterer):
    model = quick(clusterer).fit(X)
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(model.predict(X[order]), model.labels_[order])
    assert np.allclose(model.transform(X[order]), model.embedding_[order], atol=1e-5)
    assert np.allclose(model.predict_proba(X[order]), model.predict_proba(X)[order], atol=1e-5)


PICTURES = np.random.default_rng(5).integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)


def test_random_state_is_a_seed_a_generator_or_numpys_own():
    first = quick(random_state=4).fit(X).embedding_
    assert np.array_equal(quick(random_state=np.int64(4)).fit(X).embedding_, first)
    assert not np.array_equal(quick(random_state=5).fit(X).embedding_, first)
    drawn = [quick(random_state=np.random.RandomState(1)).fit(X).embedding_ for _ in range(2)]
    assert np.array_equal(*drawn)
    generator = np.random.RandomState(1)
    model = quick(random_state=generator)
    assert np.array_equal(model.fit(X).embedding_, drawn[0])
    assert not np.array_equal(model.fit(X).embedding_, drawn[0])
    free = []
    for _ in range(2):
        np.random.seed(8)  # noqa: NPY002
        free.append(quick(random_state=None).fit(X).embedding_)
    assert np.array_equal(*free)


@pytest.mark.parametrize("clusterer", ["kmeans", "dec", "idec"])
def test_copies_predict_the_same_bits(clusterer, tmp_path):
    import joblib

    model = quick(clusterer).fit(X)
    soft = model.predict_proba(X)
    joblib.dump(model, tmp_path / "model.joblib")
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), joblib.load(tmp_path / "model.joblib")]
    copies.append(pickle.loads(pickle.dumps(copies[0])))
    for other in copies:
        assert np.array_equal(other.predict_proba(X), soft)
        assert np.array_equal(other.transform(X), model.embedding_)
        assert np.array_equal(other.predict(X), model.labels_)
        assert other.get_params() == model.get_params()
    fresh = clone(model)
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    assert np.array_equal(fresh.fit(X).labels_, model.labels_)


def test_the_model_is_pickled_as_tensors_not_as_code():
    class Asks(pickle.Unpickler):
        asked = set()

        def find_class(self, module, name):
            self.asked.add(module.split(".")[0] + ("" if "estimator" not in module else ".estimator"))
            return super().find_class(module, name)

    import io

    model = quick("dec").fit(X)
    Asks(io.BytesIO(pickle.dumps(model))).load()
    assert Asks.asked <= {"deepclust.estimator", "numpy", "copyreg", "builtins"}


def test_a_model_of_a_device_that_is_not_here_is_unpickled_on_the_cpu():
    model = quick(device="cpu").fit(X)
    data = pickle.dumps(model.set_params(device="cuda:99"))
    assert np.array_equal(pickle.loads(data).predict(X), model.labels_)


def test_a_failed_fit_leaves_no_older_model():
    model = quick().fit(X)
    broken = X.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit(broken)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_numpys_scalars_are_settings():
    given = {"hidden": np.array([16]), "latent_dim": np.int64(2), "noise": np.float32(0.25)}
    typed = {"hidden": (16,), "latent_dim": 2, "noise": 0.25}
    first = quick(n_clusters=np.int32(3), encoder_params=given).fit(X)
    assert np.array_equal(first.embedding_, quick(encoder_params=typed).fit(X).embedding_)


def test_images_are_taken_in_every_usual_layout():
    last = PICTURES.astype(np.float32) / 255
    model = quick().fit(last)
    assert model.n_features_in_ == 90
    assert np.array_equal(model.predict(np.moveaxis(last, 3, 1)), model.labels_)
    assert np.array_equal(quick().fit(np.moveaxis(last, 3, 1)).embedding_, model.embedding_)
    grey = quick().fit(last[..., 0])
    assert np.array_equal(grey.transform(last[..., :1]), grey.embedding_)
    assert np.array_equal(grey.transform(last[:, None, :, :, 0]), grey.embedding_)
    assert np.array_equal(grey.transform(list(last[..., 0])), grey.embedding_)
    bytes_ = quick().fit(PICTURES)  # seen as 0 to 1
    assert np.allclose(bytes_.embedding_, model.embedding_, atol=1e-3)


def test_other_samples_than_it_was_trained_on_are_refused():
    model = quick().fit(PICTURES[..., 0])
    for other, words in {
        "another size": (PICTURES[:, :5, :, 0], "6x5"),
        "colours": (PICTURES, "convert them to grey"),
        "numbers": (PICTURES[..., 0] / 255, "trained on uint8"),
        "rows": (PICTURES[..., 0].reshape(24, 30), r"shape \(N, 1, 6, 5\)"),
        "films": (PICTURES[:, None], "rows or images|images"),
    }.values():
        with pytest.raises(ValueError, match=words):
            model.predict(other)
    rows = quick().fit(X)
    with pytest.raises(ValueError, match="trained on float32"):
        rows.predict(np.ones((3, 5), dtype=np.uint8))
    with pytest.raises(ValueError, match="X has 4 features, but DeepClustering is expecting 5"):
        rows.predict(X[:, :4])


def test_read_only_reversed_and_column_wise_arrays_are_the_same_samples():
    expected = quick().fit(X).embedding_
    frozen = X.copy()
    frozen.setflags(write=False)
    for same in (frozen, X[::-1].copy()[::-1], np.asfortranarray(X), torch.from_numpy(X), X.tolist()):
        assert np.array_equal(quick().fit(same).embedding_, expected)
    assert not frozen.flags.writeable


def test_data_frames_come_in_and_go_out():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"column {i}" for i in range(5)], index=np.arange(60) + 100)
    model = quick().set_output(transform="pandas").fit(frame)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert np.array_equal(model.labels_, quick().fit(X).labels_)
    codes = model.transform(frame)
    assert list(codes.columns) == ["deepclustering0", "deepclustering1"]
    assert list(codes.index) == list(frame.index)
    assert np.array_equal(codes.to_numpy(), model.embedding_)
    assert isinstance(model.predict(frame), np.ndarray)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"column 0": "other"}))
    model.fit(PICTURES)
    assert not hasattr(model, "feature_names_in_")


def test_it_is_a_step_of_a_pipeline():
    scaled = StandardScaler().fit_transform(X * [1, 10, 100, 1000, 1e4])
    expected = quick("dec").fit(scaled)
    pipeline = make_pipeline(StandardScaler(), quick("dec"))
    labels = pipeline.fit_predict(X * [1, 10, 100, 1000, 1e4])
    assert np.array_equal(labels, expected.labels_)
    assert np.array_equal(pipeline.transform(X * [1, 10, 100, 1000, 1e4]), expected.embedding_)
    pipeline.set_params(deepclustering__n_clusters=2)
    assert pipeline.fit(X)[-1].n_clusters_ == 2
    first = make_pipeline(quick("dec"), StandardScaler()).fit(scaled)  # codes as features
    assert np.allclose(first.transform(scaled).mean(0), 0, atol=1e-5)
