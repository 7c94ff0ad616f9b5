"""Exported models: read by the formats' own runtimes, they say what predict says."""

import csv
import importlib.util
import json
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepclust.core import Clusterer, DeepclustError, Encoder, Preparation, Storage
from deepclust.core.run import bundle as bundles
from deepclust.core.toolbox.inference import evaluating
from deepclust.plugins.export import export
from made_command import deepclust

CPU = torch.device("cpu")
CLUSTERERS = ("kmeans", "dec", "idec")
TINY = [
    "--encoder",
    "sdae",
    "--evaluator",
    "clustering",
    "--epochs-scale",
    "0.05",
    "-s",
    "encoder.hidden=24,16",
    "-s",
    "encoder.latent_dim=3",
    "--device",
    "cpu",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run for each clusterer on the digits, one on a table and one on bytes."""
    folder = tmp_path_factory.mktemp("export")
    generator = np.random.default_rng(0)
    rows = generator.normal(50, 9, (60, 4)) + 40 * (np.arange(60) % 2)[:, None]
    lines = ["a,b,c,d", *(",".join(map(repr, row)) for row in rows.tolist())]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    np.save(folder / "bytes.npy", generator.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8))
    for name in CLUSTERERS:
        deepclust("run", "--clusterer", name, *TINY, "-q", "--out", folder / name)
    more = ["--clusterer", "kmeans", *TINY, "-q", "--clusters", 2]
    deepclust("run", "--data", folder / "rows.csv", *more, "--out", folder / "table")
    deepclust("run", "--data", folder / "bytes.npy", *more, "--out", folder / "bytes")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call_pt2(path):
    return torch.export.load(path).module()


def call_onnx(path):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(v) for v in session.run(["labels", "q", "z"], {"x": x.numpy()})]


CALL = {".pt2": call_pt2, ".onnx": call_onnx}


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("kmeans", ".pt2"), ("kmeans", ".onnx"), ("dec", ".pt2"), ("dec", ".onnx"), ("idec", ".pt2"),
        ("table", ".pt2"), ("bytes", ".onnx"),
    ],
)  # fmt: skip
def test_a_file_says_what_predict_says(runs, name, ending):
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    shown = deepclust("export", runs / name, f"m{ending}").output
    assert "the labels are those of predict" in shown
    samples = {"table": 60, "bytes": 40}.get(name, 256)
    assert f"10 random samples and {samples} of the run's" in shown
    model = CALL[ending](f"m{ending}")
    bundle = bundles.load(runs / name, CPU)
    generator = torch.Generator().manual_seed(3)
    for size in (1, 2, 3, 64, 257):
        x = torch.rand(size, *bundle.preparation.shape, generator=generator)
        with evaluating(bundle.encoder, bundle.clusterer):
            z = bundle.encoder(x)
            q, wanted = bundle.clusterer(z), bundle.clusterer.predict(z)
        labels, got_q, got_z = model(x)
        assert labels.dtype == torch.int64
        assert torch.equal(labels, wanted)
        assert torch.allclose(got_q, q, atol=1e-4)
        assert torch.allclose(got_z, z, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ending", CALL)
def test_it_gives_the_labels_of_the_run(runs, ending):
    """From the samples as a program without deepclust has them to the run's own table."""
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    from sklearn.datasets import load_digits

    deepclust("export", runs / "dec", f"m{ending}", "-q")
    x = torch.from_numpy(load_digits().images[:, None].astype(np.float32) / 16)
    labels = CALL[ending](f"m{ending}")(x)[0].tolist()
    table = csv.DictReader((runs / "dec" / "labels.csv").read_text().splitlines())
    assert labels == [int(row["cluster"]) for row in table]


def test_what_files_say_of_themselves(runs):
    found = []
    deepclust("export", runs / "table", "m.pt2", "-q")
    extra = {"deepclust.json": ""}
    torch.export.load("m.pt2", extra_files=extra)
    found.append(json.loads(extra["deepclust.json"]))
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    deepclust("export", runs / "table", "m.onnx", "-q")
    model = onnx.load("m.onnx")
    found.append(json.loads({p.key: p.value for p in model.metadata_props}["deepclust"]))
    assert found[0] == found[1]
    said = found[0]
    assert (said["encoder"]["name"], said["clusterer"]["name"], said["n_clusters"]) == ("sdae", "kmeans", 2)
    assert said["preparation"]["columns"] == ["a", "b", "c", "d"]
    limit = said["preparation"]["limit"]
    assert said["input"]["x"] == (
        "float32 (batch, 4), each column less preparation.mean and divided by preparation.std, values beyond "
        f"{limit:g} as {limit:g}"
    )
    assert set(said["outputs"]) == {"labels", "q", "z"}
    axis = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert axis.dim_param == "batch"
    place = str(Path(bundles.__file__).parent.parent)
    assert place.encode() not in Path("m.onnx").read_bytes()  # no paths of this machine


def test_a_program_without_deepclust_runs_it(runs):
    deepclust("export", runs / "kmeans", "m.pt2", "-q")
    program = (
        "import sys, torch\n"
        "labels, q, z = torch.export.load('m.pt2').module()(torch.rand(5, 1, 8, 8))\n"
        "assert not any(name.startswith('deepclust') for name in sys.modules)\n"
        "print(labels.shape, q.shape, z.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "torch.Size([5]) torch.Size([5, 10]) torch.Size([5, 3])\n"


def test_predict_takes_an_exported_safetensors(runs):
    deepclust("export", runs / "idec", "m.safetensors")
    deepclust("predict", "m.safetensors", "digits", "-o", "l.csv", "-q")
    deepclust("predict", runs / "idec", "digits", "-o", "again.csv", "-q")
    assert Path("l.csv").read_bytes() == Path("again.csv").read_bytes()
    deepclust("export", "m.safetensors", "m.pt2")  # from the file alone: no samples of the run
    assert "10 random samples: " in deepclust("export", "m.safetensors", "m.pt2", "--overwrite").output


def test_data_that_are_gone_are_no_hindrance(runs):
    record = (runs / "table" / "run.json").read_text()
    Path("moved").mkdir()
    Path("moved/run.json").write_text(record.replace("rows.csv", "gone.csv"))
    Path("moved/model.safetensors").write_bytes((runs / "table" / "model.safetensors").read_bytes())
    assert "10 random samples: " in deepclust("export", "moved", "m.pt2").output


BAD = {
    "ending": (["m.h5"], "'m.h5' ends in '.h5'; a model is exported to .safetensors, .pt2, .onnx"),
    "no ending": (["model"], "'model' ends in ''"),
    "no folder": (["no/m.pt2"], "there is no folder 'no'"),
    "there already": (["old.pt2"], "'old.pt2' is there already"),
    "a folder": (["f.pt2"], "is a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(runs, case):
    arguments, reason = BAD[case]
    Path("old.pt2").write_text("old")
    Path("f.pt2").mkdir()
    result = deepclust("export", runs / "kmeans", *arguments, code=2)
    assert result.output.startswith("Error: ")
    assert reason in result.output
    assert len(result.output.splitlines()) == 1
    assert sorted(p.name for p in Path().iterdir()) == ["f.pt2", "old.pt2"]
    assert Path("old.pt2").read_text() == "old"


def test_no_run(runs):
    assert "no model at 'gone'" in deepclust("export", "gone", "m.pt2", code=2).output


def test_the_model_itself_is_never_replaced_by_its_copy(runs):
    deepclust("export", runs / "kmeans", "m.safetensors")
    result = deepclust("export", "m.safetensors", "m.safetensors", "--overwrite", code=2)
    assert "is the model itself" in result.output


def test_without_the_packages_for_onnx(runs, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if "onnx" in name else find(name, *more)
    )
    result = deepclust("export", runs / "kmeans", "m.onnx", code=2)
    assert "pip install 'deepclust[onnx]'" in result.output
    assert "onnx, onnxscript, onnxruntime" in result.output


class Plain(Encoder):
    """Rows of 4 values as they are."""

    latent_dim = 4

    def fit(self, data, run):
        return self

    def forward(self, x):
        return x


class Shifted(Plain):
    """Rows that a graph has elsewhere."""

    def forward(self, x):
        return x + 0.01 * torch.compiler.is_exporting()


class First(Clusterer):
    """Three clusters by the first values of a code."""

    def fit(self, encoder, data, run):
        return self

    def forward(self, z):
        return torch.softmax(z[:, :3], dim=1)


class Asking(First):
    """It asks for a value, which no graph can hold."""

    def forward(self, z):
        return super().forward(-z if bool(z.sum() > 0) else z)


class Louder(First):
    """Its soft assignments are others in a graph."""

    def forward(self, z):
        return super().forward(z * (1 + torch.compiler.is_exporting()))


class Renamed(First):
    """Its labels are others in a graph."""

    def predict(self, z):
        return (super().predict(z) + torch.compiler.is_exporting()) % 3


def file_of(encoder, clusterer):
    """A model of two classes as a file, and a registry that knows them."""
    classes = {"encoder": encoder, "clusterer": clusterer}
    for cls in classes.values():
        cls.Config = make_dataclass("Config", [], frozen=True)

    class Known:
        def load(self, kind, name):
            return classes[kind]

        def find(self, kind, name):
            return SimpleNamespace(distribution="deepclust-other", version="1.0")

    record = {kind: {"name": cls.__name__.lower(), "settings": {}} for kind, cls in classes.items()}
    record = {**record, "n_clusters": 3, "versions": {"deepclust": "?", "plugins": {}}}
    made = encoder(None, (4,)), clusterer(None, 3, 4)
    preparation = Preparation((4,), "float32")
    bundles.Bundle(*made, torch.zeros(3, 4), preparation, record).save(Path("other.safetensors"))
    return Known()


@pytest.mark.parametrize(
    ("encoder", "clusterer", "ending", "reason"),
    [
        (Plain, Asking, ".pt2", "encoder 'plain' with clusterer 'asking' cannot be written as a graph"),
        (Plain, Asking, ".onnx", "encoder 'plain' with clusterer 'asking' cannot be written as a graph"),
        (Plain, Louder, ".pt2", "gives other q than predict on a batch of 1 sample"),
        (Plain, Louder, ".onnx", "gives other q than predict"),
        (Plain, Renamed, ".pt2", "gives other labels than predict"),
        (Shifted, First, ".pt2", "gives other z than predict"),
    ],
)
def test_a_model_whose_file_would_say_something_else_is_not_kept(encoder, clusterer, ending, reason, capfd):
    if ending == ".onnx":
        pytest.importorskip("onnxscript")
    known = file_of(encoder, clusterer)
    before = set(Path().iterdir())
    with pytest.raises(DeepclustError) as error:
        export.export(Path("other.safetensors"), Path(f"m{ending}"), Storage(Path()), registry=known)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert ".safetensors" in str(error.value)
    assert set(Path().iterdir()) == before
    assert "def forward" not in capfd.readouterr().err


def test_such_a_model_is_kept_as_safetensors():
    known = file_of(Plain, Asking)
    checked = export.export(Path("other.safetensors"), Path("m.safetensors"), Storage(Path()), registry=known)
    assert "q is equal" in checked
