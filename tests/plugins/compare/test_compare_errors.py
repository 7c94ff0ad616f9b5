"""Comparisons that cannot go as asked: impossible pairs, runs that fail, bad input, folders in use."""

import re
from contextlib import chdir
from pathlib import Path

import pytest

from deepclust.core import Storage
from deepclust.core.contract.registry import Registry
from deepclust.core.errors import ImpossiblePair
from deepclust.plugins.compare.comparison import compare, comparison_from
from made_command import deepclust
from made_comparison import ALONE, TINY, compared, table_of, write_data


def files(folder: Path = Path()) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished comparison beside its data."""
    folder = tmp_path_factory.mktemp("compared")
    write_data(folder / "good.npz")
    write_data(folder / "unlabelled.npz", truth=False)
    with chdir(folder):
        compared("out", "-q")
    return folder


@pytest.fixture
def here(done, monkeypatch):
    """The folder of the finished comparison as working directory; nothing there may be changed."""
    monkeypatch.chdir(done)
    return done


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory but for the data."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "good.npz")
    return tmp_path


RAW = """
from dataclasses import dataclass
from deepclust.core import Encoder

class Raw(Encoder):
    Config = dataclass(frozen=True)(type("RawConfig", (), {}))
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = shape[0]
    def fit(self, data, run):
        return self
    def forward(self, x):
        return x
"""
OFFER = """
@hookimpl
def deepclust_encoders():
    yield Component("raw", "MODULE.model:Raw", "samples as they are", supervised=True)
"""


@pytest.fixture
def with_raw(install):
    """A registry with the encoder `raw` of a third party, which cannot decode."""
    install("deepclust-raw", OFFER, model=RAW)
    return Registry()


def asked(**more):
    values = {
        "data": "good.npz", "clusters": 3, "device": "cpu", "precision": "float32", "seeds": "2",
        "settings": {"sdae": {"hidden": "8", "layer_epochs": "1", "epochs": "1", "latent_dim": "2"},
                     "kmeans": {"n_init": 1}},
    }  # fmt: skip
    return comparison_from({}, {**values, **more})


def test_a_pair_that_cannot_work_is_listed_with_its_reason_and_not_run(elsewhere, with_raw):
    wanted = asked(encoder="sdae,raw", clusterer="kmeans,idec", epochs_scale=0.01)
    folder, table = compare(wanted, Storage(elsewhere), Path("out"), quiet=True, registry=with_raw)
    runs = {p.name for p in (folder / "runs").iterdir()}
    assert runs == {f"{p}-seed{s}" for p in ("sdae-kmeans", "sdae-idec", "raw-kmeans") for s in (0, 1)}
    rows = {(r["encoder"], r["clusterer"]): r for r in table_of(folder / "table.csv")}
    impossible = rows.pop(("raw", "idec"))
    assert {r["state"] for r in rows.values()} == {"finished"}
    assert (impossible["state"], impossible["runs"], impossible["accuracy_mean"]) == ("impossible", "0", "")
    assert "decode" in impossible["reason"]
    page = (folder / "compare.html").read_text()
    assert "needs an encoder with decode(z)" in page
    assert "raw learns from labels" in page
    assert any("raw learns from labels" in line for line in table.legend(table.columns))


def test_where_no_pair_can_work_nothing_is_written(elsewhere, with_raw):
    before = files()
    wanted = asked(encoder="raw", clusterer="idec", settings={})
    with pytest.raises(ImpossiblePair, match="decode"):
        compare(wanted, Storage(elsewhere), Path("out"), registry=with_raw)
    assert files() == before


def test_a_run_that_fails_stops_no_other_and_goes_on_later(elsewhere):
    failing = ["--seeds", "2", "-s", "dec.lr=1e30", "-s", "dec.optimizer=sgd"]
    for _ in range(2):  # given again, it fails again
        result = compared("out", *failing, code=1)
        assert "Error: 2 of 4 runs failed" in result.output
        assert "Traceback" not in result.output
        kmeans, dec = table_of(Path("out/table.csv"))
        assert (kmeans["state"], kmeans["finished"]) == ("finished", "2")
        assert (dec["state"], dec["finished"], dec["accuracy_mean"]) == ("failed", "0", "")
        assert "seed 0: clusterer/refine: " in dec["reason"]
        assert "seed 1: clusterer/refine: " in dec["reason"]
        by_run = {(r["clusterer"], r["seed"]): r for r in table_of(Path("out/results.csv"))}
        assert by_run["dec", "1"]["state"] == "failed"
        assert "iteration" in by_run["dec", "1"]["reason"]
        assert by_run["kmeans", "1"]["state"] == "finished"
        assert "clusterer/refine: " in Path("out/compare.html").read_text()


FAULTY = (
    RAW
    + """
class Falls(Raw):
    def fit(self, data, run):
        raise LookupError("the moon\\nis full")

class Forgets(Raw):
    shift = 0.0
    def fit(self, data, run):
        self.shift = 2.0
        return self
    def forward(self, x):
        return x + self.shift * x.abs()
"""
)
FAULTS = """
@hookimpl
def deepclust_encoders():
    for name in ("Raw", "Falls", "Forgets"):
        yield Component(name.lower(), f"MODULE.model:{name}", "")
"""


def test_whatever_only_training_finds_ends_that_run_alone(elsewhere, install):
    install("deepclust-faulty", FAULTS, model=FAULTY)
    tiny = [a for a in TINY if "=" not in a and a != "-s"]
    given = ["--data", "good.npz", "--encoder", "falls,forgets,raw", "--clusterer", "kmeans", "--seeds", "2"]
    said = deepclust("compare", *given, *tiny, "--out", "out", code=1).output
    assert "Error: 4 of 6 runs failed: see 'out/table.csv'." in said
    assert "Traceback" not in said
    falls, forgets, raw = table_of(Path("out/table.csv"))
    assert [row["state"] for row in (falls, forgets, raw)] == ["failed", "failed", "finished"]
    assert (raw["finished"], falls["finished"], forgets["finished"]) == ("2", "0", "0")
    assert "failed in fit: LookupError: the moon is full (in '" in falls["reason"]
    assert "encoder 'forgets' (deepclust-faulty 1.2) gives other codes for 60 of 60" in forgets["reason"]
    for log in re.findall(r"The traceback is in '([^']+)'", falls["reason"]):
        assert "LookupError: the moon\nis full" in Path(log).read_text()
        Path(log).unlink()


BAD = {
    "encoder": (["--encoder", "sdae,sdea"], "no encoder 'sdea'; did you mean 'sdae'?"),
    "clusterer": (["--clusterer", "dec,kmean"], "did you mean 'kmeans'?"),
    "evaluator": (["--evaluator", "clusterin"], "did you mean 'clustering'?"),
    "data": (["--data", "digit"], "did you mean 'digits'?"),
    "setting of one": (["-s", "dec.tool=1"], "did you mean 'dec.tol'?"),
    "setting that one lacks": (["-s", "clusterer.alpha=2"], "no setting 'kmeans.alpha'"),
    "setting of none": (["-s", "idec.gamma=1"], "no part with settings 'idec'; did you mean 'dec'?"),
    "wrong type": (["-s", "encoder.epochs=many"], "sdae.epochs is 'many'"),
    "no encoder": (["--encoder", ","], "at least one encoder"),
    "no seed": (["--seeds", "0"], "at least one seed"),
    "negative seed": (["--seeds", "3,-1"], "the seed is -1"),
    "seeds in words": (["--seeds", "five"], "seeds is 'five'"),
    "a seed for a number": (["--seeds", "20240131"], "--seeds 20240131,"),
    "clusters": (["--clusters", "61"], "from 2 to 60"),
    "seed in the file": (["--config", "one.toml"], "did you mean 'run.seeds'?"),
    "out is a file": (["--out", "good.npz"], "cannot write to 'good.npz'"),
    "out has a file": (["--out", "."], "is not empty and holds no run"),
    "device": (["--device", "gpu"], "the device 'gpu'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(elsewhere, case):
    arguments, reason = BAD[case]
    Path("one.toml").write_text("[run]\nseed = 3\n")
    before = files()
    result = compared("out", *arguments, code=2)
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert reason in result.output
    assert files() == before
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (["--seeds", "2"], "seeds is [0, 1, 4] there and [0, 1] here"),
        (["--clusterer", "dec", "-s", "dec.tol=0"], "clusterers is ['kmeans', 'dec'] there and ['dec'] here"),
        (["-s", "sdae.epochs=5"], "encoder.sdae.epochs is 2 there and 5 here"),
        (["--data", "unlabelled.npz"], "data.description"),
    ],
)
def test_another_comparison_in_the_folder_is_left_as_it_is(here, more, difference):
    before = files()
    if "--clusterer" in more:
        more = [*more, "-s", "encoder.epochs=2"]
        settings = [a for i, a in enumerate(TINY) if "kmeans." not in "".join(TINY[i : i + 2])]
        result = deepclust("compare", "--data", "good.npz", *settings, "--out", "out", *more, code=2)
    else:
        result = compared("out", *more, code=2)
    assert difference in result.output
    assert "--overwrite" in result.output
    assert files() == before


def test_overwrite_replaces_a_comparison_and_nothing_else(elsewhere):
    compared("out", "--seeds", "1", "-q")
    Path("out/notes.txt").write_text("mine")
    compared("out", "--seeds", "3,", "-q", "--overwrite")
    assert {p.name for p in Path("out/runs").iterdir()} == {"sdae-kmeans-seed3", "sdae-dec-seed3"}
    assert {p.name for p in Path("out/encoders").iterdir()} == {"sdae-seed3"}
    assert [row["seed"] for row in table_of(Path("out/results.csv"))] == ["3", "3"]
    assert Path("out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_what_is_no_comparison_is_never_touched(elsewhere, more):
    deepclust("run", "--data", "good.npz", *[a for a in ALONE if "=" not in a and a != "-s"],
              "--clusterer", "kmeans", "--epochs-scale", "0.01", "--out", "run", "-q")  # fmt: skip
    before = files()
    assert "holds no comparison" in compared("run", *more, code=2).output
    assert files() == before
    Path("odd").mkdir()
    Path("odd/compare.json").write_text("[]")
    Path("odd/.lock").touch()
    assert "not the record of a comparison" in compared("odd", *more, code=2).output
    assert Path("odd/compare.json").read_text() == "[]"
