"""The data set is part of a model: what it was read with, new data are read with, in any process."""

import csv
import json
import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import deepclust as package
from deepclust.core import Data, Preparation
from deepclust.core.contract.config import inherited, setting
from deepclust.core.data.scaling import scaled
from deepclust.core.errors import BrokenPlugin
from made_command import deepclust

DOCS = Path(__file__).parents[3] / "docs/plugins.md"
TINY = [
    "--encoder", "sdae", "--clusterer", "kmeans", "--evaluator", "clustering", "--clusters", "3",
    "--epochs-scale", "0.1", "-s", "encoder.hidden=16", "-s", "encoder.latent_dim=3", "--device", "cpu",
]  # fmt: skip
RATE = 8000  # of the files


def example():
    """The modules of the data set in the documentation, by their names."""
    blocks = re.findall(r"```python\n# deepclust_sounds/(\w+)\.py\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return {name: text.replace("deepclust_sounds", "MODULE") for name, text in blocks}


def write_sounds(folder, count, *, gain=1.0, seed=0):
    """Tones that are low at first and high later, so that what is read of them depends on the rate."""
    rng = np.random.default_rng(seed)
    Path(folder).mkdir(exist_ok=True)
    for i in range(count):
        t = np.arange(4000) / RATE
        early, late = ((20, 90), (20, 40), (60, 40))[i % 3]
        values = np.sin(2 * np.pi * np.where(t < 0.1, early, late) * t + rng.normal(scale=0.1))
        values *= gain * (2000 + 6000 * (i % 2) + 500 * rng.random())
        with wave.open(f"{folder}/{i:03}.wav", "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(RATE)
            sound.writeframes(values.astype("<i2").tobytes())


@pytest.fixture
def sounds(install, tmp_path, monkeypatch):
    """The documentation's data set, and 90 sounds for it."""
    modules = example()
    install("deepclust-sounds", modules.pop("__init__"), **modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of other processes
    write_sounds("sounds", 90)


def elsewhere(*arguments):
    """The command in a process of its own; what it says on standard error."""
    command = [sys.executable, "-m", "deepclust", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stderr


def labels_of(path):
    return {row["file"]: row["cluster"] for row in csv.DictReader(Path(path).read_text().splitlines())}


def clusters_of(path):
    return [row["cluster"] for row in csv.DictReader(Path(path).read_text().splitlines())]


def header_of(path):
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["deepclust"])


def test_new_data_are_read_with_the_settings_of_the_run(sounds):
    deepclust("run", "--data", "sounds", "-s", "data.rate=4000", *TINY, "--out", "run")
    wanted = labels_of("run/labels.csv")
    kept = header_of("run/model.safetensors")
    assert kept["data"] == {"name": "sounds", "settings": {"rate": 4000}}
    assert kept["preparation"]["extra"] == {"loudest": pytest.approx(8500, abs=100)}
    assert kept["preparation"] == json.loads(Path("run/run.json").read_text())["preparation"]

    said = elsewhere("predict", "run", "sounds", "-o", "same.csv")
    assert labels_of("same.csv") == wanted
    assert "  read as the run's data were: data.rate=4000" in said.splitlines()
    assert "data.rate" not in deepclust("predict", "run", "sounds", "-o", "quiet.csv", "-q").stderr
    assert labels_of("quiet.csv") == wanted
    said = deepclust("predict", "run", "sounds", "-o", "other.csv", "-s", "data.rate=1000").stderr
    assert "read as" not in said
    assert sum(labels_of("other.csv")[file] != label for file, label in wanted.items()) > 9  # which matters

    write_sounds("soft", 90, gain=0.2)  # by themselves they would become as loud as the others
    deepclust("predict", "run", "soft", "-o", "soft.csv")
    Path("part").mkdir()
    for name in ("000.wav", "004.wav"):
        Path(f"part/{name}").write_bytes(Path(f"sounds/{name}").read_bytes())
    deepclust("predict", "run", "part", "-o", "part.csv")
    assert labels_of("part.csv") == {name: wanted[name] for name in ("000.wav", "004.wav")}
    assert labels_of("soft.csv") != wanted

    assert "of the run's: " in deepclust("export", "run", "model.pt2").output
    deepclust("export", "run", "alone.safetensors")
    assert header_of("alone.safetensors")["data"] == kept["data"]
    Path("run").rename("gone")
    deepclust("predict", "alone.safetensors", "sounds:sounds", "-o", "alone.csv")
    assert labels_of("alone.csv") == wanted


def test_a_setting_that_says_which_data_is_not_taken_over(sounds):
    deepclust("run", "--data", "sounds", "-s", "data.names=0[0-4]*.wav", *TINY, "--out", "run")
    assert len(labels_of("run/labels.csv")) == 50
    deepclust("predict", "run", "sounds", "-o", "all.csv")
    assert len(labels_of("all.csv")) == 90


def test_another_reader_has_its_own_settings_and_a_note_says_so(sounds):
    deepclust("run", "--data", "sounds", "-s", "data.rate=4000", *TINY, "--out", "run")
    np.save("x.npy", np.zeros((5, 200), np.float32))
    for more in ([], ["-q"]):
        said = deepclust("predict", "run", "x.npy", *more).stderr
        assert (
            "Note: the run's data were read by 'sounds' with data.rate=4000; these are read by 'array', "
            "which knows nothing of that. Are they made alike?"
        ) in said
    np.save("y.npy", np.random.default_rng(0).normal(size=(60, 4)))
    deepclust("run", "--data", "y.npy", *TINY, "--out", "rows")
    said = deepclust("predict", "rows", "sounds", code=2).output
    assert "the run was not trained on sounds." in said
    assert "knows nothing" not in deepclust("predict", "rows", "y.npy").stderr


def rewritten(path, change):
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        record = json.loads(file.metadata()["deepclust"])
    change(record)
    save_file(tensors, path, metadata={"deepclust": json.dumps(record)})


def test_a_model_made_before_there_was_such_a_record(sounds):
    """Its folder knows the settings; its file alone is read as ever."""
    deepclust("run", "--data", "sounds", "-s", "data.rate=4000", *TINY, "--out", "run")

    def older(record):
        del record["data"]

    rewritten("run/model.safetensors", older)
    deepclust("predict", "run", "sounds", "-o", "same.csv")
    assert labels_of("same.csv") == labels_of("run/labels.csv")
    deepclust("predict", "run/model.safetensors", "sounds", "-o", "usual.csv")
    assert labels_of("usual.csv") != labels_of("run/labels.csv")
    np.save("y.npy", np.random.default_rng(0).normal(size=(60, 4)))
    deepclust("run", "--data", "y.npy", *TINY, "--out", "rows")

    def oldest(record):
        del record["data"], record["preparation"]["extra"]

    rewritten("rows/model.safetensors", oldest)
    deepclust("predict", "rows", "y.npy", "-o", "y.csv")
    assert Path("y.csv").read_bytes() == Path("rows/labels.csv").read_bytes()


def test_a_data_set_that_has_changed_since_is_named(sounds, monkeypatch):
    deepclust("run", "--data", "sounds", *TINY, "--out", "run")

    def another(record):
        record["data"]["settings"]["speed"] = 2
        record["versions"]["plugins"]["sounds"] = "deepclust-sounds 0.9"

    rewritten("run/model.safetensors", another)
    said = deepclust("predict", "run", "sounds", code=2).output
    assert "read by the data set 'sounds' of deepclust-sounds 0.9, whose settings are not those of" in said
    assert "there is no setting 'data.speed'" in said
    np.save("x.npy", np.zeros((5, 200), np.float32))
    assert "deepclust-sounds 0.9, now deepclust-sounds 1.2" in deepclust("predict", "run", "x.npy").stderr

    monkeypatch.setenv("DEEPCLUST_BLOCK", "sounds")  # others may read what is new
    from deepclust.core.contract.registry import installed

    installed.cache_clear()
    said = deepclust("predict", "run", "x.npy").stderr
    assert "Note: the run's data were read by 'sounds'; these are read by 'array'" in said


def test_first_party_data_say_which_they_are_and_keep_how(tmp_path, monkeypatch):
    """The labels, names and splits of a run's data are its own; which array of an archive is not."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)) + 9 * (np.arange(60) % 3)[:, None]
    np.savez("run.npz", x=rng.normal(size=(60, 4)), features=x, y=np.arange(60) % 3)
    np.savez("new.npz", x=rng.normal(size=(9, 4)), features=x[:9])
    np.save("y.npy", np.arange(60) % 3)
    settings = ["-s", "data.x=features", "--labels", "y.npy", "-s", "data.y=y"]
    deepclust("run", "--data", "run.npz", *settings, *TINY, "--out", "run")
    kept = header_of("run/model.safetensors")["data"]
    assert kept["settings"] == {"x": "features", "channels": "auto", "scale": "auto"}
    deepclust("predict", "run", "new.npz", "-o", "new.csv")
    whole = clusters_of("run/labels.csv")
    assert clusters_of("new.csv") == whole[:9]
    deepclust("predict", "run", "run.npz", "-s", "data.x=x", "-o", "x.csv")
    assert clusters_of("x.csv") != whole


def test_the_estimator_knows_the_scale_from_the_file_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(60, 4)) * [1, 1, 9, 9])
    deepclust("run", "--data", "x.npy", "-s", "data.scale=standard", *TINY, "--out", "run")
    for path in ("run", "run/model.safetensors"):
        assert package.DeepClustering.load(path).scale == "standard"


def test_what_a_data_set_keeps_comes_back_as_json_has_it():
    extra = {"a": (1, 2.5, None), "b": {"c": [True, "ä"]}, 3: "three"}
    made = Preparation((4,), "float32", extra=extra)
    assert made.extra == {"a": [1, 2.5, None], "b": {"c": [True, "ä"]}, "3": "three"}
    assert Preparation.from_record(json.loads(json.dumps(made.record()))) == made
    assert Preparation((4,), "float32").extra == Preparation((4,), "float32", extra=None).extra == {}
    extra["b"]["c"].append("later")
    assert made.extra["b"] == {"c": [True, "ä"]}
    x = np.random.default_rng(0).normal(3, 7, (50, 4)).astype(np.float32)
    both = scaled(Data(package.core.tensor_over(x), "rows", prepared=made)).preparation
    assert both.extra == made.extra
    assert both.mean == pytest.approx(x.mean(axis=0).tolist(), abs=0.5)


@pytest.mark.parametrize("wrong", [np.ones(3), np.float32(1), float("nan"), {1, 2}, object(), b"x"])
def test_what_json_cannot_hold_is_refused(wrong):
    with pytest.raises(BrokenPlugin, match="Preparation.extra what JSON cannot hold"):
        Preparation((4,), "float32", extra={"it": wrong})


def test_a_path_is_never_inherited():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Config:
        path: str = ""
        rate: int = setting(1, "")
        split: str = setting("all", "", inherited=False)

    assert inherited(Config, ["path", "rate", "split", "unknown"]) == ["rate", "unknown"]
