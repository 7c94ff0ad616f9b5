"""New data on another scale: named with both ranges, and codes that are not finite are refused."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.datasets import load_digits

from deepclust import DeepClustering
from deepclust.core import Data, InvalidData, Preparation
from deepclust.core.data.scaling import scaled
from deepclust.core.data.training_range import compare
from deepclust.core.run.bundle import check_codes
from made_command import deepclust as command
from made_estimator import X, quick

IMAGES = (load_digits().images[:200] / 16).astype(np.float32)[:, None]
BLOBS = datasets.make_blobs(120, 6, centers=3, cluster_std=0.5, random_state=0)[0]
THOUSANDS = np.array([1, 1, 1, 1, 1, 5000.0])


def told(trained, new, names=None):
    """What is said of ``new`` to a model of ``trained``."""
    make = lambda x: Data(torch.from_numpy(np.ascontiguousarray(x)), "new.npy")  # noqa: E731
    made = scaled(make(trained)).preparation
    if names is not None:
        made = Preparation(**{**vars(made), "columns": names})
    return compare(make(new), made)


SAME = {
    "itself": (IMAGES, IMAGES),
    "part of itself": (BLOBS * THOUSANDS, BLOBS[:40] * THOUSANDS),
    "one sample": (BLOBS, BLOBS[3:4]),
    "a little outside": (BLOBS, BLOBS * 1.5),
    "bytes, whose range is known": ((IMAGES * 255).astype(np.uint8), np.full((3, 1, 8, 8), 255, np.uint8)),
    "one of a constant column": (np.eye(4)[:, [0, 1, 1]], np.eye(4)[:1, [0, 1, 1]]),
    "none": (BLOBS, BLOBS[:0]),
}


@pytest.mark.parametrize("case", SAME)
def test_data_like_those_in_training_are_not_remarked_on(case):
    assert told(*SAME[case]) is None


def test_another_scale_is_named_with_both_ranges():
    far = int((IMAGES * 255 > 2).sum())
    assert told(IMAGES, IMAGES * 255) == (
        f"new.npy: {far:,} of 12,800 values ({far / 12800:.0%}) far outside the training range: there they "
        "went from 0 to 1, here from 0 to 255. Are they on the same scale?"
    )
    assert told(IMAGES * 255, IMAGES) == (
        "new.npy: the values far closer together than in training: there they went from 0 to 255, here from "
        "0 to 1. Are they on the same scale?"
    )
    rows = IMAGES.reshape(-1, 64)
    assert "there they went from 0 to 1, here from 0 to 255" in told(rows, rows * 255)
    one = BLOBS.copy()
    one[5, 1] = 1e6
    assert "1 of 720 values (less than 1%)" in told(BLOBS, one)


def test_another_unit_is_named_by_its_column():
    x = BLOBS * THOUSANDS
    text = told(x, BLOBS * np.array([1, 40, 1, 1, 1, 5000.0]))
    assert " of column 1 (counted from 0) far outside the training range" in text
    assert f"there they went from {x[:, 1].min():g} to {x[:, 1].max():g}, here from " in text
    assert text.endswith("Are they in the same unit?")
    text = told(x, x[:, ::-1], tuple("abcdef"))
    assert "120 of 120 values (100%) of column 'a'" in text
    beside = np.hstack([BLOBS, BLOBS[:, :1] + 1e9])  # one unit, but far away
    assert "column 6" in told(beside, beside - np.eye(7)[6] * 1e3)


def test_one_absurd_value_in_training_hides_nothing():
    for trained, new in ((IMAGES, IMAGES * 255), (BLOBS, BLOBS * 255), (BLOBS * THOUSANDS, BLOBS * 1e8)):
        wrong = trained.copy()
        wrong.reshape(-1)[0] = 1e20
        assert told(wrong, new) == told(trained, new) is not None


def test_codes_that_are_not_finite_are_refused():
    z = torch.zeros(2000, 3)
    check_codes(z, "x")
    z[[7, 1999, 1999], [2, 0, 1]] = torch.tensor([float("nan"), float("inf"), 0.0])
    with pytest.raises(
        InvalidData, match="x: the codes of 2 of 2,000 samples are not finite, first .* sample 7"
    ):
        check_codes(z, "x")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run on images from 0 to 1."""
    folder = tmp_path_factory.mktemp("range")
    np.save(folder / "x.npy", IMAGES)
    command(
        "run", "--data", folder / "x.npy", "--clusters", 3, "--clusterer", "kmeans", "--epochs-scale", 0.05,
        "-s", "encoder.hidden=16", "--evaluator", "clustering", "--out", folder / "run", "--device", "cpu",
    )  # fmt: skip
    return folder / "run"


def test_predict_says_so_also_when_it_is_quiet(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("new.npy", IMAGES * 255)
    np.save("same.npy", IMAGES[:20])
    for quiet in ([], ["-q"]):
        said = command("predict", model, "new.npy", *quiet).stderr
        assert said.count("Note: new.npy, 200 samples: ") == 1
        assert "there they went from 0 to 1, here from 0 to 255" in said
        assert "Note" not in command("predict", model, "same.npy", *quiet).output
    huge = IMAGES[:5].copy()
    huge[[1, 3]] = 3e38
    np.save("huge.npy", huge)
    result = command("predict", model, "huge.npy", "-o", "l.csv", code=2)
    assert "Error: huge.npy, 5 samples: the codes of 2 of 5 samples are not finite" in result.stderr
    assert not (tmp_path / "l.csv").exists()


def test_the_estimator_warns_once_where_it_was_called(model):
    loaded = DeepClustering.load(model, device="cpu")
    for call in (loaded.predict, loaded.transform, loaded.predict_proba):
        with pytest.warns(UserWarning, match="here from 0 to 255") as caught:
            call(IMAGES * 255)
        assert len(caught) == 1
        assert call == loaded.transform or caught[0].filename == __file__  # which scikit-learn wraps
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(IMAGES)
    with (
        pytest.raises(InvalidData, match="codes of 5 of 5 samples are not finite"),
        pytest.warns(UserWarning, match="far outside"),
    ):
        loaded.transform(IMAGES[:5] + np.float32(3e38))
    rows = quick().fit(X * [1, 1, 1, 1, 1e4])
    with pytest.warns(UserWarning, match="of column 4 .* Are they in the same unit"):
        rows.predict(X * [1, 1, 1, 1, 1e8])
