"""The estimator: the command line's bits, labels and runs, and nothing left behind."""

import importlib
import json
import os
import pickle
import random
import re
import signal
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deepclust
from deepclust import DeepClustering, DeepclustWarning, UnhealthyResult
from deepclust.cli import main
from deepclust.core import Data, InvalidData, Preparation, Storage
from deepclust.core.contract.registry import installed
from deepclust.core.errors import DeepclustError, OccupiedFolder, TrainingFailed
from made_estimator import QUICK, X, Y, quick

DOCS = Path(__file__).parents[3] / "docs" / "python.md"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty working directory and an empty temporary folder."""
    importlib.import_module("torch._dynamo")  # as torch's optimisers do: it makes a cache folder

    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return here, temporary


def test_it_finds_the_clusters_of_blobs_and_says_so_in_scikit_learns_words():
    model = quick("dec", epochs_scale=1.0)
    labels = model.fit_predict(X, Y)
    assert adjusted_rand_score(Y, labels) > 0.9
    assert labels is model.labels_
    assert labels.dtype == np.int64
    assert (model.n_clusters_, model.n_features_in_) == (3, 5)
    assert model.cluster_centers_.shape == (3, 2)
    assert model.embedding_.shape == (60, 2)
    assert np.array_equal(model.predict(X), labels)
    assert np.array_equal(model.transform(X), model.embedding_)
    soft = model.predict_proba(X)
    assert soft.shape == (60, 3)
    assert np.allclose(soft.sum(1), 1, atol=1e-6)
    assert np.array_equal(soft.argmax(1), labels)
    assert list(model.get_feature_names_out()) == ["deepclustering0", "deepclustering1"]
    nearest = ((model.embedding_[:, None] - model.cluster_centers_) ** 2).sum(2).argmin(1)
    assert np.array_equal(nearest, labels)  # Student's kernel falls with the distance


PICTURES = np.random.default_rng(5).integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "clusterer", "seed"),
    [
        (X, "dec", 7),
        (X.astype(np.float64), "kmeans", 8),
        (PICTURES, "kmeans", 9),
        (PICTURES[..., 0], "dec", 10),
    ],
    ids=["rows", "doubles", "coloured bytes", "grey bytes"],
)
def test_the_labels_are_those_of_the_command_line(places, array, clusterer, seed):
    np.save("x.npy", array)
    arguments = (
        "run --data x.npy --encoder sdae --out run --evaluator clustering -q --device cpu "
        "--clusters 3 --epochs-scale 0.1 "
        f"--clusterer {clusterer} --seed {seed} -s encoder.hidden=16 -s encoder.latent_dim=2"
    )
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 0, result.output
    table = np.genfromtxt("run/labels.csv", delimiter=",", names=True)
    model = quick(clusterer, random_state=seed, device="cpu").fit(array)
    assert np.array_equal(model.labels_, table["cluster"])
    assert np.array_equal(model.embedding_, np.load("run/embedding.npy"))
    loaded = DeepClustering.load("run", device="cpu")
    assert loaded.get_params()["random_state"] == seed
    assert np.array_equal(loaded.labels_, model.labels_)
    assert np.array_equal(loaded.embedding_, model.embedding_)
    assert np.array_equal(loaded.predict(array), model.labels_)
    assert np.array_equal(clone(loaded).fit(array).labels_, model.labels_)


def settings_of_this_process():
    """All that a run may change for others, as values that compare."""
    backends = torch.backends
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            backends.cudnn.benchmark,
        ),
        "products": (
            torch.get_float32_matmul_precision(),
            backends.mkldnn.matmul.fp32_precision,
            backends.cuda.matmul.fp32_precision,
        ),
        "denormal": float(torch.full((1,), 2.0**-140) * 0.5),
        "environment": dict(os.environ),
        "interrupt": signal.getsignal(signal.SIGINT),
        "folder": os.getcwd(),
    }


@pytest.fixture(params=["as torch comes", "otherwise"])
def process(request):
    """A process whose global settings are torch's own or all others; they are put back."""
    flags = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill, benchmark = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    precision = torch.get_float32_matmul_precision()
    other = request.param == "otherwise"
    torch.set_default_dtype(torch.float64 if other else torch.float32)
    torch.use_deterministic_algorithms(other)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark = other
    torch.set_float32_matmul_precision("high" if other else "highest")
    torch.set_flush_denormal(False)
    yield
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.backends.cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision(precision)


def test_nothing_of_the_process_changes_and_no_file_stays(process, places, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    model = quick("dec")
    before = settings_of_this_process()
    model.fit(X)
    assert settings_of_this_process() == before
    model.predict_proba(X)
    model.transform(X)
    assert settings_of_this_process() == before
    again = pickle.loads(pickle.dumps(model))
    assert settings_of_this_process() == before
    assert np.array_equal(again.predict(X), model.labels_)
    with pytest.raises(TrainingFailed):
        quick(encoder_params={"optimizer": "sgd", "lr": 1e30}, epochs_scale=1.0).fit(X)
    with pytest.raises(DeepclustError):
        quick(encoder_params={"epoch": 1}).fit(X)
    assert settings_of_this_process() == before
    assert [list(folder.iterdir()) for folder in places] == [[], []]


def test_the_users_random_numbers_are_those_of_a_script_without_it():
    def numbers(step):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)
        step()
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()  # noqa: NPY002

    assert numbers(lambda: quick().fit(X).predict(X)) == numbers(lambda: None)


def test_threads_take_turns_and_give_the_same_bits():
    seeds = range(3)
    alone = [quick("dec", random_state=s).fit(X).embedding_ for s in seeds]
    models = [quick("dec", random_state=s) for s in seeds]
    threads = [threading.Thread(target=m.fit, args=(X,)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, expected in zip(models, alone, strict=True):
        assert np.array_equal(model.embedding_, expected)


def test_warnings_say_what_the_command_line_says(tmp_path, collapsing):
    model = quick(collapsing, out=tmp_path / "run")
    pipeline = make_pipeline(StandardScaler(), quick(collapsing))
    for fit in (lambda: model.fit(X), lambda: model.fit_predict(X), lambda: pipeline.fit(X)):
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            fit()
        assert [w.category for w in raised] == [DeepclustWarning, DeepclustWarning, UnhealthyResult]
        assert {w.filename for w in raised} == {__file__}
        assert [str(w.message) for w in raised] == model.notices_
    assert model.notices_[:2] == ["Nothing was here.", "Nothing was [learned] either."]
    assert model.notices_[2].startswith("2 of 3 clusters are empty")
    assert model.healthy_ is False
    assert model.summary_ == json.loads((tmp_path / "run/scores.json").read_text())
    assert model.scores_ == model.summary_["evaluators"]
    for same in (pickle.loads(pickle.dumps(model)), DeepClustering.load(tmp_path / "run")):
        assert (same.scores_, same.notices_, same.healthy_) == (model.scores_, model.notices_, False)
        assert same.summary_ == model.summary_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", UnhealthyResult)
        with pytest.raises(UnhealthyResult, match="clusters are empty"):
            model.fit(X)
    assert len(model.labels_) == len(X)


def test_scores_are_those_of_the_command_and_a_healthy_fit_warns_of_nothing(places):
    np.save("x.npy", X)
    arguments = (
        "run --data x.npy --encoder sdae --out run --evaluator clustering -q --device cpu "
        "--clusters 3 --epochs-scale 0.1 "
        "--clusterer kmeans --seed 0 -s encoder.hidden=16 -s encoder.latent_dim=2"
    )
    assert CliRunner().invoke(main, arguments.split()).exit_code == 0
    written = json.loads(Path("run/scores.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = quick(device="cpu").fit(X, Y)
    assert model.scores_["clustering"] == written["evaluators"]["clustering"]
    assert "accuracy" not in model.scores_["clustering"]
    assert model.summary_.keys() == written.keys()
    assert (model.healthy_, model.notices_) == (True, [])


@pytest.mark.parametrize("clusterer", ["kmeans", "dec"])
def test_equal_rows_raise_no_warnings_but_our_own(clusterer):
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        model = quick(clusterer, n_clusters=4).fit(np.repeat(np.eye(4, 3, dtype=np.float32), 10, axis=0))
    assert len(raised) == len(model.notices_) > 0
    assert {w.category for w in raised} <= {DeepclustWarning, UnhealthyResult}
    assert model.healthy_ == (UnhealthyResult not in {w.category for w in raised})


class Untouchable:
    def __getattribute__(self, name):
        raise AssertionError(f"the labels' {name} was looked at")


def test_labels_are_never_looked_at():
    assert np.array_equal(quick("dec").fit(X, Untouchable()).labels_, quick("dec").fit(X).labels_)


SUPERVISED = """
from dataclasses import dataclass
import torch
from deepclust.core import Encoder

@dataclass(frozen=True)
class MeansConfig:
    pass

class Means(Encoder):
    Config = MeansConfig
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = shape[0]
        self.register_buffer("means", torch.zeros(0, shape[0]))
    def fit(self, data, run):
        truth = data.truth
        classes = [torch.from_numpy(truth.labels == k).nonzero()[:, 0] for k in range(len(truth.names))]
        self.means = torch.stack([data.batch(members).mean(0) for members in classes])
        return self
    def forward(self, x):
        return self.means[torch.cdist(x, self.means).argmin(1)]
"""


@pytest.fixture
def supervised(install):
    """An encoder of a third party that learns from labels: the mean of the nearest class."""
    hook = """
    @hookimpl
    def deepclust_encoders():
        yield Component("means", "MODULE.model:Means", "class means", supervised=True)
    """
    install("deepclust-means", hook, model=SUPERVISED)
    installed.cache_clear()
    yield "means"
    installed.cache_clear()


def test_an_encoder_that_learns_from_labels_gets_y(supervised):
    model = DeepClustering(supervised, "kmeans", 3, random_state=0, scale="none")
    names = np.array(["a", "b", "c"], dtype=object)[Y]
    assert adjusted_rand_score(Y, model.fit_predict(X, names)) == 1
    for k in range(3):
        members = X[np.equal(Y, k)]
        assert np.allclose(np.unique(model.transform(members), axis=0), members.mean(0), atol=1e-4)
    with pytest.raises(ValueError, match="'means' learns from labels: give them as y"):
        model.fit(X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, names[1:])


WRONG = {
    "encoder": ({"encoder": "sdea"}, "did you mean 'sdae'"),
    "encoder object": ({"encoder": 5}, "encoder is '5'"),
    "clusterer": ({"clusterer": "kmean"}, "did you mean 'kmeans'"),
    "one cluster": ({"n_clusters": 1}, "2 or more"),
    "half a cluster": ({"n_clusters": 2.5}, "n_clusters is 2.5"),
    "clusters unsaid": ({"n_clusters": None}, "n_clusters is None"),
    "many clusters": ({"n_clusters": 61}, "n_samples=60 should be >= n_clusters=61"),
    "many to try": ({"n_clusters": "auto:61-70"}, "n_samples=60 should be >= n_clusters=61"),
    "automatically": ({"n_clusters": "automatic"}, "auto:2-30"),
    "setting": ({"encoder_params": {"epoch": 3}}, "did you mean 'encoder.epochs'"),
    "value": ({"clusterer_params": {"n_init": "ten"}}, "clusterer.n_init is 'ten'"),
    "settings": ({"encoder_params": [3]}, "a dict of settings"),
    "scale": ({"epochs_scale": 0}, "above 0"),
    "scale's type": ({"epochs_scale": "much"}, "epochs_scale is 'much'"),
    "seed": ({"random_state": -1}, "the seed is -1"),
    "seed's type": ({"random_state": "seven"}, "seven"),
    "precision": ({"precision": "half"}, "float32, bf16"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_parameter_is_a_value_error_of_one_sentence(case, places):
    parameters, words = WRONG[case]
    model = quick().set_params(**parameters)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        model.fit(X)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert [list(folder.iterdir()) for folder in places] == [[], []]


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(DeepclustError, match="'cuda:99' is not on this machine"):
        quick(device="cuda:99").fit(X)


def test_the_number_of_clusters_is_found_where_asked():
    with pytest.warns(DeepclustWarning, match="3 clusters, not sure"):
        model = quick("dec", n_clusters="auto:2-5", epochs_scale=0.5).fit(X)
    assert model.n_clusters_ == 3
    assert any(text.startswith("3 clusters, not sure: ") for text in model.notices_)
    assert model.cluster_centers_.shape == (3, 2)
    assert adjusted_rand_score(Y, model.labels_) > 0.9
    assert model.get_params()["n_clusters"] == "auto:2-5"


def test_a_run_that_is_kept_is_gone_on_with_or_refused(tmp_path):
    model = quick("dec", out=tmp_path / "run").fit(X)
    assert {"labels.csv", "run.json", "model.safetensors"} <= {p.name for p in (tmp_path / "run").iterdir()}
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert np.array_equal(clone(model).fit(X).labels_, model.labels_)
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(OccupiedFolder, match="holds another run"):
        quick("dec", out=tmp_path / "run").fit(X[:-1])
    file = DeepClustering.load(tmp_path / "run" / "model.safetensors")
    assert np.array_equal(file.predict(X), model.labels_)
    assert not hasattr(file, "labels_")
    with pytest.raises(DeepclustError, match="there is no model"):
        DeepClustering.load(tmp_path / "nothing")


def test_a_run_of_a_table_standardises_and_names_its_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    mean, std = X.mean(0).astype(float), X.std(0).astype(float)
    made = Preparation((5,), "float32", tuple("abcde"), tuple(mean.tolist()), tuple(std.tolist()))
    rows = torch.from_numpy(made.standardise(X))
    request = deepclust.Request(
        clusterer="kmeans",
        clusters=3,
        epochs_scale=0.1,
        evaluators=("clustering",),
        settings={"encoder": QUICK["encoder_params"]},
    )
    data = Data(rows, "a table", prepared=made)
    deepclust.run(request, Storage(tmp_path), tmp_path / "run", data=data, quiet=True)
    model = DeepClustering.load(tmp_path / "run")
    assert list(model.feature_names_in_) == list("abcde")
    assert np.array_equal(model.predict(pandas.DataFrame(X, columns=list("abcde"))), model.labels_)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(pandas.DataFrame(X, columns=list("abcdf")))


def test_errors_of_data_and_settings_are_value_errors():
    assert issubclass(InvalidData, ValueError)
    with pytest.raises(ValueError, match="there is no encoder"):
        deepclust.run(deepclust.Request(encoder="nothing"), Storage(Path("nowhere")))


def test_progress_is_shown_where_asked(capsys):
    quick().fit(X)
    assert capsys.readouterr() == ("", "")
    quick(verbose=True).fit(X)
    assert "encoder/finetune" in capsys.readouterr().err


BLOCKS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_documents_examples_run(places, capsys):
    assert len(BLOCKS) >= 3
    names: dict = {}
    for block in BLOCKS:
        short = re.sub(r"\b(random_state|seed)=0", r"\1=0, epochs_scale=0.02", block)
        exec(compile(short, str(DOCS), "exec"), names)
    assert len(BLOCKS[0].splitlines()) <= 8
    assert names["labels"].shape == (1797,)
    assert np.array_equal(names["model"].predict(names["X"]), names["labels"])
