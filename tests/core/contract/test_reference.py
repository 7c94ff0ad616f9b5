"""References to classes that no plugin offers: modules and packages, parts, evaluators, other processes."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepclust import DeepClustering
from deepclust.core.contract import reference
from deepclust.core.contract.registry import Registry, installed
from deepclust.core.errors import BrokenPlugin, InvalidSetting, UnknownName
from deepclust.core.testing import check_clusterer, check_encoder, check_evaluator
from deepclust.plugins.cnn.model import CNN
from made_command import deepclust

MODEL = """
import math
import torch
from dataclasses import dataclass
from torch import nn
from deepclust.core import Clusterer, Encoder, Evaluator, embed, setting
{imports}

class Flat(Encoder):
    supervised = False
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = math.prod(shape)
        self.scale = nn.Parameter(torch.full((1,), SCALE))
    def fit(self, data, run):
        return self
    def forward(self, x):
        return x.flatten(1) * self.scale

class Labelled(Flat):
    supervised = True
    def fit(self, data, run):
        assert len(data.truth.labels)
        return self

class First(Clusterer):
    centers: torch.Tensor
    def __init__(self, config, n_clusters, latent_dim):
        super().__init__(config, n_clusters, latent_dim)
        self.register_buffer("centers", torch.zeros(n_clusters, latent_dim))
    def fit(self, encoder, data, run):
        self.centers.copy_(embed(encoder, data)[: self.n_clusters])
        return self
    def forward(self, z):
        return torch.softmax(-torch.cdist(z, self.centers), dim=1)

@dataclass(frozen=True)
class Times:
    by: int = setting(1, "a factor", low=1)

class Largest(Evaluator):
    "The size of the largest cluster."
    Config = Times
    def evaluate(self, result):
        return {{"largest": int(result.sizes().max()) * self.config.by}}
"""
ALONE = MODEL.format(imports="SCALE = 2.0")
FEW = ["--clusters", "3", "--device", "cpu", "-q"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with rows in three groups and a model in a file; the modules are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    rng = np.random.default_rng(0)
    x = 9 * np.eye(3, 5)[np.arange(60) % 3] + rng.normal(0, 0.5, (60, 5))
    np.save("x.npy", x.astype(np.float32))
    Path("own.py").write_text(ALONE)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def run(*words, code=0, data="x.npy"):
    return deepclust("run", "--data", data, *FEW, *words, code=code).output


def fresh(cwd, code, *arguments, fails=False):
    """A script in another process."""
    path = [str(Path(p).resolve()) for p in sys.path if p and "test" not in p]
    start = f"import sys; sys.path[:0] = {path!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr


PREDICT = "from deepclust.cli import main\nmain(['predict', *sys.argv[1:], '--device', 'cpu'])"


@pytest.mark.parametrize("package", [True, False])
def test_a_module_of_a_package_is_found_from_anywhere(folder, tmp_path_factory, monkeypatch, package):
    Path("project/kit/deep").mkdir(parents=True)
    if package:
        Path("project/kit/__init__.py").write_text("")
        Path("project/kit/deep/__init__.py").write_text("")
    Path("project/kit/sizes.py").write_text("SCALE = 3.0\n")
    imports = "from ..sizes import SCALE\nfrom kit.sizes import SCALE as same"
    Path("project/kit/deep/model.py").write_text(MODEL.format(imports=imports))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir("project")
    words = ["--encoder", "kit.deep.model:Flat", "--clusterer", "kmeans", "--evaluator", "clustering"]
    run(*words, "--out", folder / "out", data=folder / "x.npy")
    monkeypatch.chdir(folder)
    name = json.loads((folder / "out/run.json").read_text())["request"]["encoder"]["name"]
    assert name == f"{folder.resolve() / 'project'}:kit.deep.model:Flat"
    fresh(elsewhere, PREDICT, folder / "out", folder / "x.npy", "-o", "new.csv")
    assert clusters(elsewhere / "new.csv") == clusters(folder / "out/labels.csv")
    said = run("--encoder", "project/kit/deep/model.py:Flat", "--clusterer", "kmeans", code=2)
    assert "A module of a package is named package.module:Class." in said


def clusters(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [row["cluster"] for row in csv.DictReader(file)]


def test_another_module_of_that_name_is_not_taken_for_it(folder):
    Path("there").mkdir()
    Path("there/own.py").write_text(ALONE)
    reference.find("own:Flat")
    with pytest.raises(BrokenPlugin, match="the module 'own' was found in .* before it"):
        reference.find(f"{folder / 'there'}:own:Flat")
    assert reference.find(f"{folder}:own:Flat").cls is reference.find("own:Flat").cls


def test_a_file_is_run_once_and_its_classes_know_their_names(folder):
    found = reference.find("./own.py:Flat")
    Path("own.py").write_text("raise AssertionError")
    assert reference.find(str(folder / "own.py") + ":Flat").cls is found.cls
    assert reference.name_of(found.cls) == found.name == f"{folder.resolve() / 'own.py'}:Flat"
    assert installed().name_of("encoder", CNN) == "cnn"
    assert reference.short(found.name) == "Flat"
    assert reference.kind_of("own.py:First") == "clusterer"


def test_parts_are_referred_to_as_well(folder):
    words = ["--encoder", "umap", "-s", "encoder.steps=20", "-s", "encoder.backbone=./own.py:Flat"]
    words += ["--clusterer", "dec", "-s", "clusterer.init=./own.py:First", "-s", "clusterer.epochs=1"]
    run(*words, "--evaluator", "clustering", "--out", "out")
    request = json.loads(Path("out/run.json").read_text())["request"]
    own = folder.resolve() / "own.py"
    assert request["encoder"]["settings"]["backbone"] == {"name": f"{own}:Flat"}
    assert request["clusterer"]["settings"]["init"] == {"name": f"{own}:First"}
    fresh(Path("/"), PREDICT, folder / "out", folder / "x.npy", "-o", folder / "new.csv")
    assert clusters("new.csv") == clusters("out/labels.csv")
    said = run(*words, "-s", "encoder.backbone=./own.py:Flta", code=2)
    assert "encoder.backbone: there is no encoder in" in said
    assert "did you mean 'Flat'?" in said


def test_evaluators_of_ones_own_run_with_the_run_and_afterwards(folder):
    pair = ["--encoder", "./own.py:Flat", "--clusterer", "kmeans", "--out", "out"]
    run(*pair, "--evaluator", "./own.py:Largest", "-s", "Largest.by=2")
    assert scores()["Largest"] == {"largest": 40}
    deepclust("evaluate", "out", "--evaluator", "+own.py:Largest", "-s", "Largest.by=3", "-q")
    assert scores()["Largest"] == {"largest": 60}
    Path("other.py").write_text(ALONE)
    said = run(*pair, "--evaluator", "own.py:Largest", "--evaluator", "other.py:Largest", code=2)
    assert "are both called 'Largest'" in said


def scores():
    return json.loads(Path("out/scores.json").read_text())["evaluators"]


def test_a_file_that_has_changed_is_another_run(folder):
    words = ["--encoder", "./own.py:Flat", "--clusterer", "kmeans", "--evaluator", "clustering"]
    run(*words)
    assert [p.name for p in Path("runs").iterdir()] == ["x-Flat-kmeans-k3-seed0"]
    run(*words)
    Path("own.py").write_text(ALONE + "# changed")
    again = "from deepclust.cli import main\nmain(['run', *sys.argv[1:]])"
    said = fresh(folder, again, "--data", "x.npy", *FEW, *words, fails=True)
    assert "holds another run: encoder.code is" in said


def test_a_comparison_goes_on_from_another_folder_and_notices_other_code(folder, monkeypatch):
    words = ["--data", folder / "x.npy", "--clusterer", "kmeans", "--seeds", "2", *FEW, "--out", folder / "c"]
    words += ["--evaluator", "clustering", "-s", "Flat.scale=3"]
    source = ALONE.replace("class Flat(Encoder):", "class Flat(Encoder):\n    Config = Scale", 1)
    scale = "@dataclass(frozen=True)\nclass Scale:\n    scale: float = setting(1.0, 'a factor')\n\n"
    Path("own.py").write_text(source.replace("class Flat", scale + "class Flat", 1))
    deepclust("compare", *words, "--encoder", "./own.py:Flat,pca")
    request = json.loads(Path("c/compare.json").read_text())["request"]
    own = folder.resolve() / "own.py"
    assert request["encoders"] == [f"{own}:Flat", "pca"]
    assert request["settings"]["encoder"]["Flat"] == {"scale": 3.0}
    assert sorted(p.name for p in Path("c/encoders").iterdir())[0] == "Flat-seed0"
    (folder / "beside").mkdir()
    monkeypatch.chdir("beside")
    deepclust("compare", *words, "--encoder", "../own.py:Flat,pca")
    monkeypatch.chdir(folder)
    compare = "from deepclust.cli import main\nmain(['compare', *sys.argv[1:]])"
    own.write_text(own.read_text() + "# changed")
    said = fresh(folder, compare, *words, "--encoder", "./own.py:Flat,pca", fails=True)
    assert "holds another comparison: code.Flat is" in said
    with pytest.raises(AssertionError, match="both called 'Flat'"):
        deepclust("compare", *words, "--encoder", "own:Flat,own.py:Flat")


def test_the_kit_takes_references(folder):
    check_encoder("./own.py:Flat", folder / "a")
    check_clusterer("./own.py:First", folder / "b")
    check_evaluator("./own.py:Largest", folder / "c")


def test_one_that_learns_from_labels_says_so(folder):
    x, y = np.load("x.npy"), np.arange(60) % 3
    np.savez("y.npz", x=x, y=y)
    pair = ["--encoder", "./own.py:Labelled", "--clusterer", "kmeans", "--evaluator", "clustering"]
    run(*pair, "--out", "out", data="y.npz")
    protocol = json.loads(Path("out/scores.json").read_text())["protocol"]
    assert protocol["labels used in training"] is True
    labelled = reference.find("./own.py:Labelled").cls
    assert DeepClustering(labelled, "kmeans", 3, device="cpu").fit(x, y).healthy_
    with pytest.raises(ValueError, match="learns from labels: give them as y"):
        DeepClustering(labelled, "kmeans", 3, device="cpu").fit(x)
    with pytest.raises(ValueError, match="'cnn' learns from labels: give them as y"):
        DeepClustering(CNN, "kmeans", 3, device="cpu").fit(np.zeros((60, 8, 8), np.uint8))


def test_a_class_that_makes_no_sense_is_said(folder):
    Path("wrong.py").write_text(
        ALONE
        + "class Wide(Largest):\n    Config = dataclass(type('Of', (), {'__annotations__': {'all': dict}}))\n"
        "class Bare(Flat):\n    class Config:\n        pass\n"
        "class Half(Encoder):\n    def forward(self, x):\n        return x\n"
    )
    for name, error, says in (
        ("wrong.py:Bare", BrokenPlugin, "its Config is no dataclass"),
        ("wrong.py:Half", BrokenPlugin, "lacks fit"),
        ("wrong.py:math", BrokenPlugin, "is no subclass of deepclust.core.Encoder"),
        ("wrong.py:Absent", UnknownName, "There is: .*Flat"),
        ("__main__:Absent", UnknownName, "of a notebook, a script or a function in another process"),
    ):
        with pytest.raises(error, match=says):
            Registry().load("encoder", name)
    with pytest.raises(BrokenPlugin, match=r"Wide\.all is a setting of type .*, which there are none of"):
        Registry().part("evaluator", "wrong.py:Wide", {"all": "x"})
    with pytest.raises(InvalidSetting, match=r"Largest\.by is 0"):
        Registry().part("evaluator", "wrong.py:Largest", {"by": 0})


NOTEBOOK = """
import pickle
import numpy as np, torch
from pathlib import Path
from deepclust import DeepClustering
from deepclust.core import Encoder

class Cell(Encoder):
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = shape[0]
        self.factor = torch.nn.Parameter(torch.ones(1))
    def fit(self, data, run):
        return self
    def forward(self, x):
        return x * self.factor

x = np.load("x.npy")
"""
MAKE = """
fitted = DeepClustering(Cell, "kmeans", 3, random_state=0, out="out", device="cpu").fit(x)
Path("fitted.pickle").write_bytes(pickle.dumps(fitted))
np.save("labels.npy", fitted.predict(x))
assert (DeepClustering.load("out", device="cpu").predict(x) == fitted.labels_).all()
"""
TAKE = """
fitted = pickle.loads(Path("fitted.pickle").read_bytes())
assert (fitted.predict(x) == np.load("labels.npy")).all()
assert (DeepClustering.load("out", device="cpu").predict(x) == np.load("labels.npy")).all()
"""


def test_a_class_of_a_notebook_serves_it_and_whoever_has_it_too(folder):
    fresh(folder, NOTEBOOK + MAKE)
    fresh(folder, NOTEBOOK + TAKE)
    with pytest.raises(
        UnknownName, match="encoder '__main__:Cell' of __main__.*: the class 'Cell' is of a note"
    ):
        DeepClustering.load("out", device="cpu")
