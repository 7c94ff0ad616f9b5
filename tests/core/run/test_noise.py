"""Clusterers of third parties that find the number of clusters, and leave samples out of all of them."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import HDBSCAN, AgglomerativeClustering

from deepclust import DeepClustering
from deepclust.core import NOISE, Clusterer, Data, Transductive
from deepclust.core.errors import BrokenPlugin, TrainingFailed
from deepclust.core.run.boundary import other_labels
from deepclust.core.run.checkup import look_at_clusters
from deepclust.core.run.run import Run, read_notices
from deepclust.core.toolbox.inference import assign
from deepclust.plugins.clustering.metric import accuracy
from deepclust.plugins.refinement.baseline import Given
from made_command import deepclust

HOOK = """
@hookimpl
def deepclust_clusterers():
    yield Component("ward", "MODULE.model:Ward", "Ward's tree, cut")
    yield Component("density", "MODULE.model:Density", "HDBSCAN")

@hookimpl
def deepclust_encoders():
    yield Component("same", "MODULE.model:Same", "the values themselves")
    yield Component("spoiling", "MODULE.model:Spoiling", "changes what it is given")
    yield Component("failing", "MODULE.model:Failing", "raises")
    yield Component("leaving", "MODULE.model:Leaving", "ends the process")
    yield Component("silent", "MODULE.model:Silent", "says no latent_dim")
    yield Component("wide", "MODULE.model:Wide", "has other dimensions than it says")
"""
MODEL = """
import math
from dataclasses import dataclass
import torch
from torch import nn
from sklearn.cluster import HDBSCAN, AgglomerativeClustering
from deepclust.core import Encoder, Transductive, setting

@dataclass(frozen=True)
class Settings:
    members: int = setting(8, "fewest members", low=2)

class Ward(Transductive):
    Config = Settings
    by = "centers"
    def labels_of(self, z, seed):
        return AgglomerativeClustering(self.n_clusters).fit_predict(z)

class Density(Transductive):
    Config = Settings
    finds_n_clusters = noise = True
    def labels_of(self, z, seed):
        return HDBSCAN(self.config.members, copy=True).fit_predict(z)

class Same(Encoder):
    Config = Settings
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = math.prod(shape)
        self.kept = nn.Parameter(torch.ones(()))
    def fit(self, data, run):
        return self
    def forward(self, x):
        return x.flatten(1) * self.kept

class Spoiling(Same):
    def fit(self, data, run):
        data.x.sub_(1)
        return self

class Failing(Same):
    def fit(self, data, run):
        raise KeyError("moon")

class Leaving(Same):
    def fit(self, data, run):
        raise SystemExit(0)

class Silent(Same):
    def __init__(self, config, shape):
        super().__init__(config, shape)
        del self.latent_dim

class Wide(Same):
    def forward(self, x):
        return super().forward(x).repeat(1, 2)
"""
BRIEF = ["--evaluator", "clustering"]
FEW = ["--encoder", "same", "--clusterer", "density", "--device", "cpu"]


@pytest.fixture
def others(install):
    install("deepclust-others", HOOK, model=MODEL, version="2.0")


def blobs(k=4, each=40, noise=12, seed=0):
    """Rows around the corners of a square, and a few far from all; the groups, -1 for these."""
    rng = np.random.default_rng(seed)
    corners = 10.0 * np.array([[i % 2, i // 2, 1] for i in range(k)])
    x = np.concatenate([rng.normal(c, 0.4, (each, 3)) for c in corners])
    far = rng.uniform(-30, 40, (4 * noise, 3))
    far = far[np.linalg.norm(far[:, None] - corners, axis=2).min(axis=1) > 12][:noise]
    groups = np.concatenate([np.repeat(np.arange(k), each), np.full(len(far), -1)])
    order = rng.permutation(len(groups))
    return np.concatenate([x, far])[order].astype(np.float32), groups[order]


def table(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def elsewhere(*arguments):
    """The command in a process of its own, which sees what is installed here."""
    done = subprocess.run(
        [sys.executable, "-m", "deepclust", *map(str, arguments)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_clusterer_that_finds_k_and_leaves_noise_from_a_run_to_new_labels(tmp_path, others):
    x, groups = blobs()
    np.savez(tmp_path / "x.npz", x=x, y=groups + 1)
    (tmp_path / "new").mkdir()
    np.save(tmp_path / "new/x.npy", x[::-1])
    run = tmp_path / "run"
    said = deepclust("run", "--data", tmp_path / "x.npz", *FEW, "--out", run).output
    assert "as many clusters as are found" in said
    labels = np.array([int(row["cluster"]) for row in table(run / "labels.csv")])
    assert accuracy(groups[groups >= 0], labels[groups >= 0]) > 0.97
    assert (labels[groups < 0] == NOISE).all()
    record = json.loads((run / "run.json").read_text())
    assert record["n_clusters"] == labels.max() + 1 == 4
    assert record["request"]["clusters"] == "found"
    noise = int((labels == NOISE).sum())
    *clusters, last = table(run / "clusters.csv")
    assert [row["cluster"] for row in clusters] == list("0123")
    assert (last["cluster"], int(last["samples"]), last["confidence"]) == ("noise", noise, "")
    for row in table(run / "labels.csv"):
        if row["cluster"] == "-1":
            assert (float(row["confidence"]), row["distance"], row["second"] in "0123") == (0, "", True)
    assert sum(row["cluster"] == "noise" for row in table(run / "examples.csv")) == min(16, noise)
    scores = json.loads((run / "scores.json").read_text())
    scores = scores["evaluators"]["clustering"]
    assert scores["noise_share"] == pytest.approx(noise / len(x))
    assert scores["accuracy"] < scores["accuracy_without_noise"] == 1.0
    assert scores["cluster_sizes"] == np.bincount(labels[labels >= 0]).tolist()
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="noise"' in page
    assert "Nearest to a cluster" in page

    shown = elsewhere("predict", run, tmp_path / "new/x.npy", "-o", tmp_path / "new.csv", "--device", "cpu")
    assert [int(row["cluster"]) for row in table(tmp_path / "new.csv")] == labels[::-1].tolist()
    assert f"noise {noise}" in " ".join(shown.split())
    exported = deepclust("export", run, tmp_path / "model.pt2").output
    assert "the labels are those of predict" in exported

    fitted = DeepClustering("same", "density", "auto", random_state=0, device="cpu").fit(x)
    assert (fitted.labels_ == labels).all()
    assert fitted.n_clusters_ == 4 == len(fitted.cluster_centers_)
    assert (fitted.predict(x) == labels).all()


def test_files_that_are_noise_have_a_folder_of_their_own(tmp_path, others, photo_folder):
    rng = np.random.default_rng(0)
    for i in range(40):
        pixels = np.clip((100, 140)[i % 2] + rng.normal(0, 2, (8, 8, 3)), 0, 255).astype(np.uint8)
        if i < 3:
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i:02}.png")
    deepclust("run", "--data", "photos", *FEW, "--out", "run", "--sort-into", "sorted", "--image-size", "8")
    labels = {row["file"]: int(row["cluster"]) for row in table("run/labels.csv")}
    there = {path.name: path.parent.name for path in Path("sorted").glob("*/*.png")}
    assert set(labels.values()) == {-1, 0, 1}
    assert there == {f: "noise" if k < 0 else f"cluster-{k:02}" for f, k in labels.items()}
    before = {path: path.lstat().st_mtime_ns for path in Path("sorted").glob("*/*.png")}
    deepclust("run", "--data", "photos", *FEW, "--out", "run", "--sort-into", "again", "--image-size", "8")
    assert {path.name: path.parent.name for path in Path("again").glob("*/*.png")} == there
    assert {path: path.lstat().st_mtime_ns for path in Path("sorted").glob("*/*.png")} == before
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert page.count('id="noise"') == 1


def test_what_is_asked_of_a_clusterer_that_finds_k(tmp_path, others):
    x, _ = blobs()
    np.save(tmp_path / "x.npy", x)
    given = [
        "run",
        "--data",
        tmp_path / "x.npy",
        *FEW,
        "--evaluator",
        "clustering",
        "--out",
        tmp_path / "run",
    ]
    said = deepclust(*given, "--clusters", "auto:2-9", code=2).output
    assert "clusterer 'density' finds the number of clusters itself; give a number" in said
    said = deepclust(*given, "-s", "clusterer.members=100", code=1).output
    assert "noise" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("noise", "ill"), [(40, None), (60, False), (95, True)])
def test_that_most_samples_are_noise_is_said(noise, ill):
    labels = np.array([-1] * noise + [0] * (100 - noise - 2) + [1] * 2)
    found = look_at_clusters(labels, 2, 0.0, False, "density")
    assert [finding.ill for finding in found] == ([] if ill is None else [ill])
    assert all(f"density left {noise}% of the samples out of all clusters" in f.text for f in found)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("spoiling", "encoder 'spoiling' (deepclust-others 2.0) changed the data: 256 of 256 samples"),
        (
            "wide",
            "encoder 'wide' (deepclust-others 2.0) gives codes of shape (1797, 128) for 1797 samples",
        ),
    ],
)
def test_what_an_encoder_must_not_do_is_named(tmp_path, others, encoder, said):
    given = ["run", "--encoder", encoder, "--clusterer", "kmeans", "--out", tmp_path / "run"]
    shown = deepclust(*given, code=2).output
    assert said in " ".join(shown.split())


class Ward(Transductive):
    Config = None

    def labels_of(self, z, seed):
        return AgglomerativeClustering(self.n_clusters).fit_predict(z)


class Density(Transductive):
    Config = None
    finds_n_clusters = noise = True

    def labels_of(self, z, seed):
        return HDBSCAN(8, copy=True).fit_predict(z)


def fitted(clusterer, x, folder):
    data = Data(torch.from_numpy(x), "rows")
    return clusterer.fit(Given(None, (x.shape[1],)), data, Run(folder, quiet=True))


@pytest.mark.parametrize("n", [1, 2, 50])
def test_new_codes_go_where_the_nearest_member_is(tmp_path, n):
    x, _ = blobs()
    clusterer = fitted(Density(None, 0, 3), x, tmp_path)
    expected = HDBSCAN(8, copy=True).fit_predict(x)
    assert (clusterer.predict(torch.from_numpy(x)).numpy() == expected).all()
    new = np.random.default_rng(1).uniform(-20, 30, (n, 3)).astype(np.float32)
    nearest = np.linalg.norm(new[:, None] - x, axis=2).argmin(axis=1)
    found = assign(clusterer, torch.from_numpy(new))
    assert (found.labels == expected[nearest]).all()
    noise = found.labels == NOISE
    assert (found.confidence[noise] == 0).all()
    assert np.isnan(found.distance[noise]).all()
    assert not np.isnan(found.distance[~noise]).any()
    assert (found.second[noise] >= 0).all()
    trained = assign(clusterer, torch.from_numpy(x))
    means = [x[expected == k].mean(axis=0) for k in range(clusterer.n_clusters)]
    assert np.allclose(trained.centers, means, atol=1e-4)


def test_by_centres_the_nearest_mean_decides_and_it_is_said(tmp_path):
    class ByCentres(Ward):
        by = "centers"

    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 3, (200, 2)), rng.normal([5, 0], 0.5, (30, 2))]).astype(np.float32)
    clusterer = fitted(ByCentres(None, 2, 2), x, tmp_path)
    ward = AgglomerativeClustering(2).fit_predict(x)
    means = np.stack([x[ward == k].mean(axis=0) for k in range(2)])
    expected = np.linalg.norm(x[:, None] - means, axis=2).argmin(axis=1)
    assert (clusterer.predict(torch.from_numpy(x)).numpy() == expected).all()
    (notice,) = read_notices(tmp_path)
    assert notice.text.startswith(f"{(expected != ward).mean():.1%} of the samples are nearer to another")
    q = clusterer(torch.from_numpy(x))
    assert torch.allclose(q.sum(1), torch.ones(len(x)))
    assert (q.argmax(1).numpy() == expected).all()


def test_labels_that_are_none_are_refused(tmp_path):
    x, _ = blobs()

    def saying(labels):
        class Saying(Transductive):
            Config = None

            def labels_of(self, z, seed):
                return labels

        return Saying(None, 2, 3)

    for labels, said in [
        (np.zeros(3, int), r"gives an array of shape \(3,\)"),
        (np.zeros(len(x)), "of integers"),
        (np.full(len(x), -1), "-1 for noise is for classes that say noise = True"),
    ]:
        with pytest.raises(BrokenPlugin, match=said):
            fitted(saying(labels), x, tmp_path)

    class Nothing(Density):
        def labels_of(self, z, seed):
            return np.full(len(z), -1)

    with pytest.raises(TrainingFailed, match="all 172 samples noise"):
        fitted(Nothing(None, 0, 3), x, tmp_path)


def test_an_error_in_a_plugin_names_it(tmp_path, others):
    given = ["run", "--encoder", "failing", "--clusterer", "kmeans", "--out", tmp_path / "run"]
    said = deepclust(*given, code=1).output
    assert "encoder 'failing' (deepclust-others 2.0) failed in fit: KeyError: 'moon'" in said
    Path(re.search(r"traceback is in '([^']+)'", said)[1]).unlink()


@pytest.mark.parametrize(
    ("encoder", "code", "said"),
    [
        ("leaving", 1, "encoder 'leaving' (deepclust-others 2.0) ended the process in fit (exit code 0)."),
        ("silent", 2, "encoder 'silent' (deepclust-others 2.0) does not say how many values its codes have"),
    ],
)
def test_a_plugin_that_leaves_or_says_too_little_is_named(tmp_path, others, encoder, code, said):
    given = ["run", "--encoder", encoder, "--clusterer", "kmeans", "--out", tmp_path / "run"]
    assert said in " ".join(deepclust(*given, code=code).output.split())


def test_a_clusterer_that_works_in_place_changes_no_codes():
    class InPlace(Says):
        def forward(self, z):
            z.mul_(0)
            return self.q

    z = torch.arange(4.0).view(2, 2)
    assign(InPlace(torch.tensor([1, 0]), GOOD), z)
    assert z.tolist() == [[0, 1], [2, 3]]


class Says(Clusterer):
    """Labels and soft assignments as they were given to it."""

    Config = None

    def __init__(self, labels, q, noise=False):
        super().__init__(None, 3, 2)
        self.labels, self.q = labels, q
        type(self).noise = noise

    def fit(self, encoder, data, run):
        return self

    def forward(self, z):
        return self.q

    def predict(self, z):
        return self.labels


GOOD = torch.tensor([[0.2, 0.5, 0.3], [1, 0, 0]])


@pytest.mark.parametrize(
    ("labels", "q", "said"),
    [
        (torch.tensor([1, 0]), GOOD[:, :2], r"soft assignments of shape \(2, 2\)"),
        (torch.tensor([1, 0]), GOOD * 2, "2 of 2 codes soft assignments that are not finite"),
        (torch.tensor([1, 0]), GOOD * torch.nan, "not finite"),
        (torch.tensor([1, 0]), torch.tensor([[1.5, -0.5, 0], [1, 0, 0]]), "1 of 2 codes .* negative"),
        (torch.tensor([1, 3]), GOOD, "labels from 1 to 3, which must be from 0 to 2"),
        (torch.tensor([1, -1]), GOOD, "noise = True"),
        (torch.tensor([1.0, 0]), GOOD, "type float32"),
        (torch.tensor([[1, 0]]), GOOD, r"labels of shape \(1, 2\)"),
    ],
)
def test_answers_that_no_clusterer_may_give_are_named(labels, q, said):
    with pytest.raises(BrokenPlugin, match=f"Says gives .*{said}"):
        assign(Says(labels, q), torch.zeros(2, 2))


def test_labels_that_are_not_those_of_the_largest_assignment_are_said():
    z, agreeing = torch.zeros(2, 2), Says(torch.tensor([1, 0]), GOOD)
    assert other_labels(agreeing, z, "says") == ""
    assert other_labels(Says(torch.tensor([1, -1]), GOOD, noise=True), z, "says") == ""
    said = other_labels(Says(torch.tensor([1, 2]), GOOD), z, "says")
    assert said.startswith("says puts 1 of 2 samples that were looked at into another cluster")


def test_noise_is_allowed_to_those_that_say_so_and_keeps_its_nearest_cluster():
    found = assign(Says(torch.tensor([-1, 0]), GOOD, noise=True), torch.zeros(2, 2))
    assert found.labels.tolist() == [-1, 0]
    assert found.second.tolist()[0] == 1
    assert found.confidence.tolist() == [0, 1]
    assert found.second_confidence.tolist()[0] == pytest.approx(0.5)
    assert found.noise().tolist() == [0]
    assert found.sizes().tolist() == [1, 0, 0]
