"""Models of one's own without a plugin: a class in a file or module, in Python a class or an instance."""

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from deepclust import DeepClustering
from deepclust.core import Encoder, setting
from deepclust.core.errors import DeepclustError, InvalidData, InvalidSetting
from made_command import deepclust

FILE = """
import helper
import torch
from dataclasses import dataclass
from torch import nn
from deepclust.core import Clusterer, Encoder, embed, setting

print("this is said while it is imported")

@dataclass(frozen=True)
class Settings:
    width: int = setting(4, "values of the code", low=1)

class Mine(Encoder):
    '''A random layer.'''
    Config = Settings
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = config.width
        self.layer = nn.Linear(helper.size(shape), config.width)
    def fit(self, data, run):
        return self
    def forward(self, x):
        return self.layer(x.flatten(1))

class First(Clusterer):
    '''The first samples are the centres.'''
    def __init__(self, config, n_clusters, latent_dim):
        super().__init__(config, n_clusters, latent_dim)
        self.register_buffer("centers", torch.zeros(n_clusters, latent_dim))
    def fit(self, encoder, data, run):
        self.centers.copy_(embed(encoder, data)[: self.n_clusters])
        return self
    def forward(self, z):
        return torch.softmax(-torch.cdist(z, self.centers), dim=1)

class Odd(Encoder):
    def __init__(self, shape):
        super().__init__(None, shape)
    def fit(self, data, run):
        return self
    def forward(self, x):
        return x
"""
HELPER = "import math\ndef size(shape):\n    return math.prod(shape)\n"
FEW = ["--evaluator", "clustering", "--device", "cpu", "--clusters", "3"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder with the file, which is the working folder, and rows in three groups."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mymodel.py").write_text(FILE)
    (tmp_path / "helper.py").write_text(HELPER)
    np.save(tmp_path / "x.npy", rows())
    yield tmp_path
    for name in ("mymodel", "helper"):
        sys.modules.pop(name, None)


def rows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return (9 * np.eye(3, 5)[np.arange(n) % 3] + rng.normal(0, 0.5, (n, 5))).astype(np.float32)


def labels(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [row["cluster"] for row in csv.DictReader(file)]


def elsewhere(folder, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "deepclust", *map(str, arguments)], capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize("form", ["./mymodel.py:", "mymodel:"])
def test_a_file_from_its_run_to_new_labels_in_another_folder_and_process(mine, tmp_path_factory, form):
    pair = ["--encoder", f"{form}Mine", "--clusterer", f"{form}First", "-s", "encoder.width=6"]
    said = deepclust("run", "--data", "x.npy", *pair, *FEW).output
    (run,) = (mine / "runs").iterdir()
    assert run.name == "x-Mine-First-k3-seed0"
    record = json.loads((run / "run.json").read_text())
    assert record["request"]["encoder"]["settings"] == {"width": 6}
    assert np.load(run / "embedding.npy").shape == (60, 6)
    assert "Traceback" not in said
    other = tmp_path_factory.mktemp("other")
    elsewhere(other, "predict", run, mine / "x.npy", "-o", "new.csv", "-q", "--device", "cpu")
    assert labels(other / "new.csv") == labels(run / "labels.csv")
    assert "finished already" in deepclust("run", "--data", "x.npy", *pair, *FEW).output

    (mine / "mymodel.py").write_text(FILE + "\n# another version\n")
    changed = elsewhere(other, "predict", run, mine / "x.npy", "-o", "again.csv", "--device", "cpu")
    assert "was made with" in changed
    assert labels(other / "again.csv") == labels(run / "labels.csv")
    (mine / "mymodel.py").unlink()
    gone = elsewhere(other, "predict", run, mine / "x.npy", "-o", "none.csv", code=2)
    assert "mymodel" in gone
    assert "Traceback" not in gone
    assert not (other / "none.csv").exists()


def test_files_are_compared_and_described(mine):
    pair = ["--encoder", "./mymodel.py:Mine,sdae", "--clusterer", "kmeans,./mymodel.py:First", "--seeds", "1"]
    deepclust("compare", "--data", "x.npy", *pair, *FEW, "--epochs-scale", "0.02", "--out", "c", "-q")
    with Path("c/results.csv").open(encoding="utf-8", newline="") as file:
        pairs = {(row["encoder"], row["clusterer"]) for row in csv.DictReader(file)}
    assert pairs == {(e, c) for e in ("Mine", "sdae") for c in ("kmeans", "First")}
    said = deepclust("info", "./mymodel.py:Mine").output
    assert "A random layer." in said
    assert "values of the code" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./mymodel.py:Mnie", "did you mean 'Mine'?"),
        ("./mymodel.py", "say which class of it is the encoder"),
        ("./nothere.py:Mine", "cannot be read"),
        ("./mymodel.py:First", "is no subclass of deepclust.core.Encoder"),
        ("./mymodel.py:Odd", "but it is made by __init__(self, config, shape)"),
        ("./raising.py:Mine", "cannot be imported: ZeroDivisionError"),
        ("nomodule:Mine", "there is no module 'nomodule'"),
        ("mymodel:", "names no class"),
    ],
)
def test_what_cannot_be_is_one_sentence(mine, name, said):
    (mine / "raising.py").write_text("1 / 0\n")
    shown = deepclust(
        "run", "--data", "x.npy", "--encoder", name, "--clusterer", "kmeans", *FEW, code=2
    ).output
    assert said in shown
    assert not (mine / "runs").exists()


@dataclass(frozen=True)
class Settings:
    width: int = setting(4, "values of the code", low=1)


class Layer(Encoder):
    Config = Settings

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.config, self.latent_dim = config, config.width
        self.layer = nn.Linear(int(np.prod(shape)), config.width)

    def fit(self, data, run):
        with torch.no_grad():
            self.layer.bias += 1
        return self

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_a_class_is_trained_cloned_and_kept(tmp_path):
    x = rows()
    given = DeepClustering(Layer, "kmeans", 3, encoder_params={"width": 7}, random_state=0, device="cpu")
    fitted = clone(given).fit(x)
    assert fitted.transform(x).shape == (60, 7)
    assert (fitted.predict(x) == fitted.labels_).all()
    assert (clone(given).fit(x).labels_ == fitted.labels_).all()
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict(x) == fitted.labels_).all()


def test_an_instance_gives_its_weights_and_stays_as_it_is():
    x = rows()
    torch.manual_seed(3)
    made = Layer(Settings(6), (5,))
    before = {name: value.clone() for name, value in made.state_dict().items()}
    fitted = clone(DeepClustering(made, "kmeans", 3, random_state=0, device="cpu")).fit(x)
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name])
    kept = fitted._bundle.encoder.state_dict()
    assert torch.equal(kept["layer.weight"], before["layer.weight"])
    assert torch.allclose(kept["layer.bias"], before["layer.bias"] + 1)
    with pytest.raises(InvalidSetting, match="made already"):
        DeepClustering(made, "kmeans", 3, encoder_params={"width": 2}).fit(x)
    with pytest.raises(InvalidData, match="do not fit samples of shape"):
        DeepClustering(made, "kmeans", 3).fit(x[:, :4])
    with pytest.raises(InvalidSetting, match="clusterer is an instance of Linear"):
        DeepClustering(made, nn.Linear(2, 2), 3).fit(x)


def test_a_run_with_other_first_weights_is_another_run(tmp_path):
    x = rows()
    one, other = Layer(Settings(6), (5,)), Layer(Settings(6), (5,))
    DeepClustering(one, "kmeans", 3, random_state=0, out=tmp_path / "run", device="cpu").fit(x)
    DeepClustering(one, "kmeans", 3, random_state=0, out=tmp_path / "run", device="cpu").fit(x)
    with pytest.raises(DeepclustError, match="holds another run"):
        DeepClustering(other, "kmeans", 3, random_state=0, out=tmp_path / "run", device="cpu").fit(x)


def test_a_class_of_a_function_works_here_and_is_said_to_be_lost_elsewhere(tmp_path):
    class Inner(Layer):
        pass

    fitted = DeepClustering(Inner, "kmeans", 3, random_state=0, out=tmp_path / "run", device="cpu").fit(
        rows()
    )
    assert (fitted.predict(rows()) == fitted.labels_).all()
    np.save(tmp_path / "x.npy", rows())
    said = elsewhere(tmp_path, "predict", tmp_path / "run", tmp_path / "x.npy", code=2)
    assert "nothing can find it; put it into a file" in said


def test_the_model_of_the_docs_runs(mine):
    page = (Path(__file__).parents[3] / "docs/plugins.md").read_text(encoding="utf-8")
    (mine / "dense.py").write_text(re.search(r"```python\n# mymodel.py\n(.*?)```", page, re.S)[1])
    pair = ["--encoder", "./dense.py:Dense", "--clusterer", "kmeans", "-s", "encoder.lr=3e-4"]
    deepclust("run", "--data", "x.npy", *pair, *FEW, "--epochs-scale", "0.02", "--out", "run")
    assert len(labels("run/labels.csv")) == 60
