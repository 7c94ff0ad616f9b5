"""The scale of rows: the rule on data of each kind, what changes nothing, and the same bits by every way."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets

import deepclust
from deepclust import DeepClustering, Request
from deepclust.core import Data, InvalidData, Preparation, Storage
from deepclust.core.contract.registry import installed
from deepclust.core.data import scaling
from deepclust.core.data.scaling import measure, scaled
from deepclust.core.data.training_range import fitted
from deepclust.core.run.folder import read_record
from deepclust.plugins.datasets.split import hold_out
from deepclust.plugins.report.column import describe_columns
from made_command import deepclust as command

RNG = np.random.default_rng(0)
BLOBS = datasets.make_blobs(120, 6, centers=3, cluster_std=0.5, random_state=0)[0]
THOUSANDS = np.array([1, 1, 1, 1, 1, 5000.0])
DIGITS = datasets.load_digits().data
ONE_HOT = np.eye(5)[RNG.integers(0, 5, 300)]
EDGES = np.where(RNG.random((400, 30)) < np.linspace(0, 0.5, 30), RNG.uniform(0, 1, (400, 30)), 0)
HUNDRED = RNG.normal(size=(200, 100)) * np.where(np.arange(100) == 7, 3000, 1)

ALIKE = {
    "iris": datasets.load_iris().data,
    "digits": DIGITS,
    "digits as bytes": (DIGITS * 15).astype(np.uint8),
    "digits from 0 to 1": (DIGITS / 16).astype(np.float32),
    "edges that are nearly always 0": EDGES,
    "blobs": BLOBS,
    "blobs far away": BLOBS + 1e6,
    "blobs and noise": np.hstack([BLOBS, RNG.normal(size=(120, 10))]),
    "moons": datasets.make_moons(200, noise=0.05, random_state=0)[0],
    "coordinates": RNG.uniform(0, 100, (200, 16)),
    "one of several": ONE_HOT,
    "all equal": np.full((50, 4), 0.1),
    "constants beside": np.hstack([BLOBS, np.full((120, 2), 1e9)]),
    "one column": BLOBS[:, :1] * 1e9,
}
APART = {
    "wine": datasets.load_wine().data,
    "breast cancer": datasets.load_breast_cancer().data,
    "thousands": BLOBS * THOUSANDS,
    "thousands in one of 100": HUNDRED,
    "small in one of ten": HUNDRED[:, 10:20] * np.where(np.arange(10) == 3, 1e-3, 1),
    "age and one of several": np.hstack([RNG.uniform(20, 80, (300, 1)), ONE_HOT]),
    "mostly 0 but large": np.hstack([BLOBS, np.where(RNG.random((120, 1)) < 0.95, 0, 5000)]),
}


def rows(x, **more):
    return Data(torch.from_numpy(np.ascontiguousarray(x)), "rows", **more)


def seen(x, scale="auto"):
    """What networks see of rows (N, D)."""
    data = scaled(rows(x), scale)
    return data.batch(torch.arange(len(x))).numpy()


@pytest.mark.parametrize("name", ALIKE)
def test_columns_of_one_kind_are_divided_by_one_number(name):
    x = ALIKE[name]
    made = measure(rows(x)).preparation
    assert len(set(made.std)) == 1
    deviation = np.std(x / (255 if x.dtype == np.uint8 else 1), axis=0, dtype=np.float64)
    if name not in ("all equal", "constants beside"):  # whose deviations are rounding
        assert seen(x).std(0) == pytest.approx(deviation / made.std[0], abs=2e-4)
        assert np.square(seen(x)).mean() == pytest.approx(1, rel=0.05)
    assert seen(x).mean(0) == pytest.approx(np.zeros(x.shape[1]), abs=0.02)
    assert np.abs(seen(x)).max() < 10


@pytest.mark.parametrize("name", APART)
def test_columns_of_different_units_are_divided_by_their_own(name):
    x = APART[name]
    z = seen(x)
    assert len(set(measure(rows(x)).preparation.std)) > 1
    common = np.abs(z).max(0) > 3.01  # else it may be a column that is nearly constant
    assert z.std(0)[common] == pytest.approx(np.ones(common.sum()), abs=0.2)  # long tails have no say in it
    assert np.all(z.std(0) < 1.2)
    assert z.mean(0) == pytest.approx(np.zeros(x.shape[1]), abs=0.05)


def test_ordinary_rows_get_numpys_mean_and_deviation():
    for scale, x in (("auto", APART["wine"]), ("standard", ALIKE["iris"])):
        assert seen(x, scale) == pytest.approx((x - x.mean(0)) / x.std(0), abs=1e-5)
    iris = ALIKE["iris"]
    assert seen(iris) == pytest.approx((iris - iris.mean(0)) / np.sqrt(iris.var(0).mean()), abs=1e-5)
    assert np.array_equal(seen(iris, "none"), iris.astype(np.float32))


@pytest.mark.parametrize("x", [APART["wine"], ALIKE["blobs"], APART["mostly 0 but large"]])
def test_another_place_and_unit_change_nothing(x):
    factor, place = np.exp(RNG.uniform(-9, 9, x.shape[1])), RNG.normal(size=x.shape[1])
    moved = (x + place * x.std(0)) * factor
    assert seen(moved, "standard") == pytest.approx(seen(x, "standard"), abs=1e-5)
    for common in (1e-6, 3.0, 1e12):
        assert seen((x + place) * common) == pytest.approx(seen(x), abs=1e-5)
    order = RNG.permutation(len(x))
    assert seen(x[order]) == pytest.approx(seen(x)[order], abs=1e-5)


@pytest.mark.parametrize("value", [1e20, -1e20, 1e6])
@pytest.mark.parametrize("name", ["blobs", "thousands", "one of several"])
def test_one_absurd_value_changes_no_other_and_is_named(name, value):
    x = {**ALIKE, **APART}[name]
    wrong = x.copy()
    wrong[7, 1] = value
    data = scaled(rows(wrong))
    z, others = data.batch(torch.arange(len(x))).numpy(), np.arange(len(x)) != 7
    assert z[others] == pytest.approx(seen(np.delete(x, 7, axis=0)), abs=0.1)
    assert np.abs(z).max() <= data.preparation.limit <= 10
    assert abs(z[7, 1]) == pytest.approx(data.preparation.limit)
    assert len(data.notices) == 1
    assert f"{value:g} in sample 7, column 1" in data.notices[0]
    assert not scaled(rows(x)).notices


def test_many_absurd_values_are_counted_and_the_first_is_named(monkeypatch):
    monkeypatch.setattr("deepclust.core.data.data.CHUNK_BYTES", 400)
    x = RNG.normal(size=(1000, 4))
    x[[900, 30, 555], [0, 2, 2]] = 1e9, 2e9, 3e9
    (notice,) = scaled(rows(x)).notices
    assert notice.startswith("3 values in 2 columns are more than 100 deviations off and count as ")
    assert "the first is 2e+09 in sample 30, column 2 (counted from 0)" in notice


def test_values_of_a_long_tail_are_kept_within_the_limit_and_counted():
    x = np.exp(2 * RNG.normal(size=(2000, 3)))
    data = scaled(rows(x))
    z = data.batch(torch.arange(2000)).numpy()
    limit = data.preparation.limit
    beyond = int((np.abs(z) >= np.float32(limit)).sum())
    assert np.abs(z).max() <= np.float32(limit) < 15
    assert f"; {beyond} values beyond {limit:g} deviations count as that" in data.said[0]
    assert (z[z.argsort(0), np.arange(3)] >= -2).all()


def test_a_column_that_is_nearly_constant_is_not_blown_up():
    rare = np.zeros((1000, 3))
    rare[[1, 50, 200, 700], 0] = 1
    rare[[3, 4, 5, 900], 1] = 4, 5, 6, 5
    x = np.hstack([rare, RNG.normal(size=(1000, 2)) * [1, 1e4]])
    z = seen(x)
    assert z[:, 0].max() == pytest.approx(3, abs=0.02)
    assert z[:, 1].max() == pytest.approx(3, abs=0.05)
    assert np.abs(z[:, 2]).max() == 0


@pytest.mark.parametrize("offset", [1e6, 1e9, -1e9])
def test_values_far_from_zero_keep_their_differences(offset):
    assert seen(BLOBS + offset) == pytest.approx(seen(BLOBS), abs=1e-5)
    exact = np.round(BLOBS * 4) / 4  # float32 knows these at 1e6
    assert np.array_equal(seen((exact + 1e6).astype(np.float32)), seen(exact + 1e6))
    assert seen((exact + 1e6).astype(np.float32)) == pytest.approx(seen(exact), abs=1e-5)


def test_what_was_done_is_said_in_a_line():
    assert (
        measure(rows(APART["thousands"]))
        .said[0]
        .startswith("6 columns: each to mean 0 and deviation 1, because their ranges differ ")
    )
    assert "-fold" in measure(rows(APART["thousands"])).said[0]
    said = measure(rows(ALIKE["blobs far away"])).said[0]
    ranges = np.ptp(BLOBS, axis=0)
    assert said == (
        f"6 columns: centred, all divided by {np.sqrt(BLOBS.var(0).mean()):.3g} "
        f"(their ranges differ {ranges.max() / ranges.min():.1f}-fold)"
    )
    assert measure(rows(BLOBS), "none").said == ()
    assert measure(rows(BLOBS[:, :1])).said == (f"1 column: centred, divided by {BLOBS[:, 0].std():.3g}",)


def test_statistics_rest_on_a_sample_of_much_data(monkeypatch):
    x = RNG.normal(3, 7, (5000, 4))
    whole = measure(rows(x)).preparation
    monkeypatch.setattr(scaling, "SAMPLE_ROWS", 500)
    part = measure(rows(x)).preparation
    assert part.mean != whole.mean
    assert np.allclose(part.mean, whole.mean, atol=2)
    assert np.allclose(part.std, whole.std, rtol=0.15)
    x[1] = 1e30  # in no sample
    assert "4 values in 4 columns" in measure(rows(x)).notices[0]


def test_values_that_are_not_finite_are_refused_as_before():
    x = BLOBS.copy()
    x[4, 2] = np.nan
    with pytest.raises(InvalidData, match=r"1 value is not finite, the first is nan in sample 4"):
        scaled(rows(x)).check(3)
    with pytest.raises(InvalidData, match=r"rows: the values of column 1, up to 1e\+300, are too large"):
        scaled(rows(np.array([[1.0, 1e300], [2.0, -1e300]])))


def test_images_are_as_they_were():
    x = torch.from_numpy(DIGITS.reshape(-1, 1, 8, 8))
    bytes_ = Data((x * 15).to(torch.uint8), "bytes")
    assert scaled(bytes_) is bytes_
    data = Data((x / 16).float(), "floats")
    assert torch.equal(scaled(data).slice(0, 50), data.slice(0, 50))
    assert scaled(data).preparation == Preparation((1, 8, 8), "float32", seen=((0, 1),))


def test_the_test_split_has_no_say_and_is_scaled_alike():
    x = np.vstack([BLOBS, BLOBS * 100 + 7])
    data = scaled(hold_out(rows(x), 120))
    assert np.array_equal(data.batch(torch.arange(120)).numpy(), seen(BLOBS))
    made = data.preparation
    assert data.test.preparation == made
    z = data.test.batch(torch.arange(120)).numpy()
    wanted = (x[120:] - made.mean) / made.std
    assert z == pytest.approx(wanted.clip(-made.limit, made.limit), abs=1e-5)


def test_the_fingerprint_tells_one_scale_from_another():
    prints = {scaled(rows(BLOBS), scale).fingerprint() for scale in ("auto", "standard", "none")}
    assert len(prints) == 3
    assert scaled(rows(BLOBS)).fingerprint() == scaled(rows(BLOBS)).fingerprint()


def test_a_mean_square_and_a_range_are_those_of_what_networks_see():
    data = scaled(rows(BLOBS + 1e6))
    assert data.mean_square() == pytest.approx(np.square(seen(BLOBS)).mean(), rel=1e-4)
    with pytest.raises(InvalidData, match=r"from -.* standardised \(-s data.scale=none leaves them"):
        scaled(rows(np.clip(BLOBS, 0, 1))).check_range("a sigmoid gives 0 to 1.")
    with pytest.raises(InvalidData, match="standardised"):
        scaled(rows((DIGITS * 15).astype(np.uint8))).check_range("a sigmoid gives 0 to 1.")


@pytest.mark.parametrize("x", [BLOBS * THOUSANDS, (DIGITS * 15).astype(np.uint8), BLOBS + 1e6])
def test_the_report_speaks_in_the_users_units(x):
    data, labels = scaled(rows(x)), np.arange(len(x)) % 3
    found = describe_columns(data, labels, 3)
    assert found.mean == pytest.approx(x.mean(0), rel=1e-4, abs=1e-4)
    assert found.std == pytest.approx(x.std(0), rel=1e-3, abs=1e-5)
    assert found.means[1] == pytest.approx(x[labels == 1].mean(0), rel=1e-4, abs=1e-4)
    assert np.array_equal(found.values(data, np.array([7, 3])), x[[7, 3]])


IMAGES = (DIGITS.reshape(-1, 8, 8) / 16).astype(np.float32)


def images(x, **more):
    return Data(torch.from_numpy(np.ascontiguousarray(x))[:, None], "images", **more)


@pytest.mark.parametrize(
    "given",
    [
        IMAGES * 255,
        IMAGES * 2 - 1,
        np.round(IMAGES * 64_000),
        IMAGES * 1.0069,
        IMAGES.astype(np.float64) * 1e-3 + 3,
    ],
    ids=["to 255", "about 0", "16 bits", "a little more than 1", "narrow"],
)
def test_images_of_numbers_are_seen_from_0_to_1_on_any_scale(given):
    data = scaled(images(given.astype(np.float64)))
    assert torch.allclose(data.slice(0, 90), images(IMAGES).slice(0, 90), atol=2e-5)
    data.check_range("views take 0 to 1.")
    assert data.preparation.source == pytest.approx((given.min(), given.max()))
    assert data.said[-1].startswith("images: values from ")
    assert not data.notices
    assert scaled(images(given), "none").preparation.source is None


def test_images_from_0_to_1_and_bytes_stay_as_they_are():
    for x in (IMAGES, IMAGES / 3, (IMAGES * 255).astype(np.uint8)):
        data = scaled(images(x))
        assert not data.raw
        assert not data.said
        assert torch.equal(data.slice(0, 50), images(x).slice(0, 50))


def test_an_absurd_pixel_is_named_and_moves_no_other():
    x = IMAGES.copy()
    x[5, 3, 3], x[7, 0, 0] = 1e20, -40
    data = scaled(images(x))
    seen = data.slice(0, 50)
    assert seen[5, 0, 3, 3] == 1
    assert seen[7, 0, 0, 0] == 0
    x[5, 3, 3], x[7, 0, 0] = 1, 0
    assert torch.equal(seen[:, 0], torch.from_numpy(x[:50]))
    assert data.notices == (
        "2 values are far outside 0 to 1, where nearly all lie, and count as the end of it: they go from -40 "
        "to 1e+20.",
    )


def test_new_images_are_seen_as_those_in_training(tmp_path):
    """By predict in a process of its own, and in a file that holds other values."""
    x = np.round(IMAGES[:300] * 4000)
    np.save(tmp_path / "x.npy", x.astype(np.uint16))
    np.save(tmp_path / "half.npy", x[150:].astype(np.float32))
    command("run", "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), *TINY)
    for name in ("x", "half"):
        new = [str(tmp_path / f"{name}.npy"), "-o", str(tmp_path / f"{name}.csv"), "-q"]
        command("predict", str(tmp_path / "run"), *new, "--embedding", str(tmp_path / f"{name}-z.npy"))
    z = np.load(tmp_path / "run/embedding.npy")
    assert np.array_equal(np.load(tmp_path / "x-z.npy"), z)
    assert np.allclose(np.load(tmp_path / "half-z.npy"), z[150:], atol=1e-5)


@pytest.mark.parametrize(
    "new", [IMAGES * 2 - 1, np.concatenate([IMAGES, IMAGES * 255])], ids=["about 0", "late"]
)
def test_numbers_that_are_no_shares_of_bytes_are_refused_wherever_they_are(new):
    made = scaled(images((IMAGES * 255).astype(np.uint8))).preparation
    assert not fitted(images(IMAGES), made).notices
    with pytest.raises(InvalidData, match="numbers (up|down) to -?[0-9]+ are given, but the run was trained"):
        fitted(images(new), made)


def test_numbers_are_not_brought_onto_the_range_of_files():
    made = Preparation((1, 8, 8), "uint8", source=(0.0, 4091.0))
    assert torch.equal(fitted(images(IMAGES), made).slice(0, 9), images(IMAGES).slice(0, 9))
    windowed = Preparation((1, 8, 8), "uint8", source=(0.0, 63.0), bytes_too=True)
    with pytest.raises(InvalidData, match="whose values from 0 to 63 became black to white; give"):
        fitted(images((IMAGES * 255).astype(np.uint8)), windowed)


def test_a_narrow_column_beside_a_very_wide_one_keeps_its_say():
    group = np.arange(300) % 3
    area = RNG.normal(5e11, 1e10, 300)
    x = np.stack([area, group * 5 + RNG.normal(0, 0.1, 300), -group * 5 + RNG.normal(0, 0.1, 300)], axis=1)
    data = scaled(rows(x))
    assert data.slice(0, 300).std(0).numpy() == pytest.approx([1, 1, 1], abs=0.05)
    assert "each to mean 0 and deviation 1" in data.said[-1]


def test_a_test_split_on_another_scale_is_named():
    both = rows(np.vstack([BLOBS, BLOBS * 255]))
    data = scaled(hold_out(both, len(BLOBS), None))
    assert any("far outside the training range" in notice for notice in data.notices)
    assert not scaled(hold_out(rows(np.vstack([BLOBS, BLOBS])), len(BLOBS), None)).notices


TINY = [
    "--encoder", "sdae",
    "--evaluator", "clustering", "--epochs-scale", "0.05", "--device", "cpu", "--clusterer", "kmeans",
    "--clusters", "3", "-q", "-s", "encoder.hidden=16", "-s", "encoder.latent_dim=3",
]  # fmt: skip


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_a_mapped_file_an_archive_and_memory_give_the_same_bits(tmp_path, kind):
    x = (DIGITS[:200, 10:30] * 15).astype(kind)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    cls = installed().load("dataset", "array")
    held, index = scaled(rows(x)), torch.tensor([5, 199, 5, 0])
    for name in ("x.npy", "x.npz"):
        data = cls(cls.Config(path=str(tmp_path / name))).load(Storage(tmp_path))
        assert (data.mapped is not None) == (name == "x.npy")
        assert data.preparation == held.preparation
        assert data.fingerprint() == held.fingerprint()
        assert torch.equal(data.batch(index), held.batch(index))
        assert torch.equal(data.slice(3, 90), held.slice(3, 90))
    made = held.preparation
    values = x[index].astype(np.float32) / 255 if kind == np.uint8 else x[index]
    assert np.array_equal(held.batch(index).numpy(), made.standardise(values))
    assert np.array_equal(held.given(index).numpy(), x[index])


@pytest.mark.parametrize(
    ("x", "more"),
    [
        (BLOBS * THOUSANDS, {}),
        (BLOBS.astype(np.float32) + 1e6, {"scale": "standard"}),
        (BLOBS, {"scale": "none"}),
    ],
    ids=["units", "offset", "as they are"],
)
def test_run_predict_and_the_estimator_agree(tmp_path, monkeypatch, x, more):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    settings = [f"-sdata.{key}={value}" for key, value in more.items()]
    command("run", "--data", "x.npy", "--out", "run", *TINY, *settings)
    table = list(csv.DictReader(Path("run/labels.csv").read_text().splitlines()))
    predict = ["predict", "run", "x.npy", "-o", "l.csv", "-q", "--embedding", "z.npy"]
    if more:
        command(*predict)
    else:
        subprocess.run([sys.executable, "-m", "deepclust.cli", *predict], check=True, capture_output=True)
    assert [r["cluster"] for r in csv.DictReader(Path("l.csv").read_text().splitlines())] == [
        r["cluster"] for r in table
    ]
    assert Path("z.npy").read_bytes() == Path("run/embedding.npy").read_bytes()
    model = DeepClustering(
        "sdae", "kmeans", 3, encoder_params={"hidden": (16,), "latent_dim": 3}, epochs_scale=0.05,
        random_state=0, device="cpu", **more,
    )  # fmt: skip
    assert np.array_equal(model.fit(x).embedding_, np.load("run/embedding.npy"))
    loaded = DeepClustering.load("run", device="cpu")
    assert loaded.scale == model.scale
    assert np.array_equal(loaded.transform(x), model.embedding_)
    model.set_params(scale="robust")
    with pytest.raises(ValueError, match="scale is 'robust', but it must be one of: auto, standard, none"):
        model.fit(x)


def test_rows_of_a_data_set_that_says_nothing_are_scaled(tmp_path):
    request = Request(
        clusterer="kmeans", clusters=3, epochs_scale=0.05, evaluators=("clustering",),
        settings={"encoder": {"hidden": (16,), "latent_dim": 3}},
    )  # fmt: skip
    data = rows((BLOBS * THOUSANDS + 1e6).astype(np.float32))
    deepclust.run(request, Storage(tmp_path), tmp_path / "run", data=data, quiet=True)
    assert read_record(tmp_path / "run")["preparation"]["mean"] is not None
