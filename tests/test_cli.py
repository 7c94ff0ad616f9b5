"""The command as a user meets it: what goes wrong is one sentence, and nothing is left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core.contract.config import describe
from deepclust.core.contract.registry import installed
from deepclust.core.run.folder import locked

TINY = [
    "--encoder", "sdae",
    "--evaluator", "clustering", "--device", "cpu", "--precision", "float32", "--clusterer", "kmeans", "-q",
    "-s", "encoder.layer_epochs=1", "-s", "encoder.epochs=1", "-s", "encoder.hidden=8",
    "-s", "encoder.latent_dim=2", "-s", "clusterer.n_init=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a few files, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEEPCLUST_DATA", raising=False)
    labels = np.arange(30) % 3
    x = np.eye(3, 5, dtype=np.float32)[labels] + np.arange(150, dtype=np.float32).reshape(30, 5) / 1000
    np.savez("good.npz", x=x, y=labels)
    np.save("nan.npy", np.where(x == x[7, 2], np.nan, x))
    np.save("empty.npy", x[:0])
    np.save("seven.npy", x[:7])
    np.save("one.npy", x[:1])
    np.save("objects.npy", np.array([{}, []], dtype=object))
    np.save("flat.npy", x[0])
    np.save("unlabelled.npy", np.eye(64, dtype=np.float32)[:30].reshape(30, 8, 8))
    Path("notes.txt").write_text("no array")
    Path("broken.toml").write_text("[run\n")
    Path("unknown.toml").write_text("[run]\nencodr = 'sdae'\n")
    Path("wrong.toml").write_text("[encoder]\nepochs = 'many'\n")
    return tmp_path


def deepclust(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def tiny(*arguments, data="good.npz"):
    return deepclust("run", "--data", data, "--clusters", 3, *TINY, *arguments)


def files() -> set[str]:
    return {str(p) for p in Path().rglob("*")}


def test_a_number_of_clusters_that_nobody_said_is_found_out():
    done = deepclust("run", "--data", "good.npz", *[o for o in TINY if o != "-q"], "--out", "open")
    assert "how many clusters was not said: 2 to 30 are tried (--clusters to say it)" in done.output
    asked = deepclust("run", "--data", "good.npz", "--clusters", "auto", *TINY, "--out", "asked")
    assert "was not said" not in asked.output
    counts = [json.loads(Path(out, "clusters.json").read_text()) for out in ("open", "asked")]
    assert counts[0] == counts[1]


BAD = {
    "encoder": (["run", "--encoder", "sdea"], "no encoder 'sdea'; did you mean 'sdae'?"),
    "clusterer": (["run", "--clusterer", "kmean"], "did you mean 'kmeans'?"),
    "evaluator": (["run", "--evaluator", "clusterin"], "did you mean 'clustering'?"),
    "data": (["run", "--data", "digit"], "did you mean 'digits'?"),
    "setting": (["run", "-s", "encoder.epoch=1"], "did you mean 'encoder.epochs'?"),
    "part": (["run", "-s", "encodr.epochs=1"], "did you mean 'encoder'?"),
    "preset": (["run", "-s", "encoder.preset=papr"], "did you mean 'paper'?"),
    "setting of data": (["run", "-s", "data.split=all"], "data.split"),
    "no setting": (["run", "-s", "encoder"], "part.key=value"),
    "wrong type": (["run", "-s", "encoder.epochs=many"], "encoder.epochs is 'many'"),
    "out of range": (["run", "--encoder", "sdae", "-s", "encoder.noise=2"], "encoder.noise is 2"),
    "wrong choice": (["run", "-s", "encoder.optimizer=adan"], "adam, adamw, sgd"),
    "command": (["rn"], "no command 'rn'; did you mean 'run'?"),
    "kind": (["list", "encodr"], "did you mean 'encoder'?"),
    "info": (["info", "sdea"], "did you mean 'sdae'?"),
    "info of another kind": (["info", "sdae", "--kind", "clusterer"], "no clusterer 'sdae'"),
    "option": (["run", "--encoders", "sdae"], "--encoders"),
    "argument": (["run", "digits"], "digits"),
    "one cluster": (["run", "--clusters", "1"], "1 cluster was"),
    "no cluster": (["run", "--clusters", "0"], "0 clusters"),
    "too many clusters": (["run", "--data", "good.npz", "--clusters", "31"], "from 2 to 30"),
    "clusters in words": (["run", "--clusters", "three"], "three"),
    "too few to count": (["run", "--data", "seven.npy"], "7 samples do not tell whether they are 2 clusters"),
    "no path": (["run", "--data", ""], "--data is empty"),
    "one sample": (["run", "--data", "one.npy"], "one.npy, 1 sample: one sample is there"),
    "nan": (["run", "--data", "nan.npy", "--clusters", "3"], "sample 7 at position (2,)"),
    "empty": (["run", "--data", "empty.npy", "--clusters", "3"], "empty"),
    "objects": (["run", "--data", "objects.npy", "--clusters", "3"], "never unpickled"),
    "flat": (["run", "--data", "flat.npy", "--clusters", "3"], "shape (5,)"),
    "text file": (["run", "--data", "notes.txt", "--clusters", "3"], "nothing installed reads 'notes.txt'"),
    "folder": (["run", "--data", ".", "--clusters", "3"], "there are no images in"),
    "path not there": (["run", "--data", "no/photos.npy"], "'no/photos.npy' does not exist"),
    "no such user": (["run", "--data", "~nobody-of-this-name/x.npy"], "x.npy' does not exist"),
    "endless path": (["run", "--data", "x" * 5000 + ".npy"], "does not exist"),
    "no such root": (["run", "--data", "mnist", "--data-root", "~nobody-of-this-name"], "~nobody"),
    "no files": (["run", "--data", "mnist", "--data-root", "nowhere"], "train-images-idx3-ubyte"),
    "seed": (["run", "--seed", "-1"], "the seed is -1"),
    "endless seed": (["run", "--seed", str(2**63)], "the seed is"),
    "scale": (["run", "--epochs-scale", "0"], "epochs-scale is 0"),
    "nan scale": (["run", "--epochs-scale", "nan"], "scale is 'nan'"),
    "device": (["run", "--device", "gpu"], "the device 'gpu'"),
    "no device": (["run", "--device", ""], "the device ''"),
    "meta": (["run", "--device", "meta"], "the device 'meta'"),
    "precision": (["run", "--precision", "float8"], "float8"),
    "config": (["run", "--config", "broken.toml"], "'broken.toml' is not valid TOML"),
    "no config": (["run", "--config", "none.toml"], "'none.toml' cannot be read"),
    "config key": (["run", "--config", "unknown.toml"], "did you mean 'run.encoder'?"),
    "config type": (["run", "--config", "wrong.toml"], "encoder.epochs is 'many'"),
    "out is a file": (["run", "--out", "notes.txt"], "cannot write to 'notes.txt'"),
    "out below a file": (["run", "--out", "notes.txt/a/b"], "cannot write to 'notes.txt/a/b'"),
    "out has a file": (["run", "--out", "."], "is not empty and holds no run"),
    "rows for images": (
        ["run", "--data", "good.npz", "--clusters", "3", "--encoder", "cae"],
        "needs images (C, H, W)",
    ),
    "size of rows": (
        ["run", "--data", "good.npz", "--image-size", "32"],
        "--image-size (data.image_size) has no effect on 'good.npz', which the data set 'array' reads; leave",
    ),
    "labels of digits": (["run", "--labels", "folders"], "--labels (data.labels) has no effect on 'digits'"),
    "no labels": (
        ["run", "--data", "unlabelled.npy", "--clusters", "3", "--encoder", "resnet"],
        "encoder 'resnet' learns from labels, and there are none in unlabelled.npy",
    ),
    "no weights": (
        ["run", "--clusters", "3", "--encoder", "resnet", "-s", "encoder.weights=none.pt"],
        "encoder.weights is 'none.pt', but there is no such file.",
    ),
    "nothing to choose by": (
        ["run", "--encoder", "cnn", "-s", "encoder.validation=0", "-s", "encoder.keep_best=yes"],
        "encoder.keep_best chooses by the validation loss",
    ),
    "no end": (["run", "--minutes", "inf"], "minutes is 'inf', but it must be a finite number"),
    "not a number of minutes": (
        ["run", "--minutes", "nan"],
        "minutes is 'nan', but it must be a finite number",
    ),
    "no minutes": (["run", "--minutes", "0"], "minutes is 0, but it must be above 0"),
    "minutes below 0": (["run", "--minutes", "-2"], "minutes is -2, but it must be above 0"),
    "snapshots": (["run", "--snapshot-seconds", "-1"], "-1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(case):
    arguments, reason = BAD[case]
    before = files()
    result = deepclust(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.output
    assert reason in errors[0]
    if "Usage: " not in result.output:  # click's own errors show it first
        assert result.output == errors[0] + "\n"
    assert files() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there(device):
    before = files()
    result = deepclust("run", "--device", device)
    assert result.exit_code == 2
    assert f"the device '{device}' is not on this machine; there is: cpu" in result.output
    assert files() == before


def test_list_for_programs_names_all():
    listed = json.loads(deepclust("list", "--json").output)
    assert {(c["kind"], c["name"]) for c in listed["components"]} == {
        (e.kind, e.component.name) for e in installed().entries()
    }
    assert not [f for f in listed["failures"] if f["distribution"] == "deepclust"]
    for kind in ("clusterer", "clusterers"):
        some = json.loads(deepclust("list", kind, "--json").output)["components"]
        assert {c["kind"] for c in some} == {"clusterer"}
        assert some == [c for c in listed["components"] if c["kind"] == "clusterer"]


def test_list_and_help_for_people():
    shown = deepclust("list").output
    for entry in installed().entries():
        assert f" {entry.component.name} " in shown
    assert deepclust("--help").exit_code == 0
    assert "run" in deepclust("-h").output
    assert installed().find("encoder", "sdae").version in deepclust("--version").output


def test_info_shows_every_setting_of_every_component():
    for entry in installed().entries():
        result = deepclust("info", entry.component.name, "--kind", entry.kind)
        assert result.exit_code == 0
        rows = [line.split() for line in result.output.splitlines()]
        shown = {row[0] for row in rows if row}
        cls = installed().load(entry.kind, entry.component.name)
        assert {s.name for s in describe(cls.Config)} <= shown
        assert entry.component.paper in result.output
    sdae = deepclust("info", "sdae").output
    assert "500,500,2000" in sdae
    assert "preset paper (-s encoder.preset=paper)" in sdae


def test_a_run_writes_what_it_promises():
    result = tiny("--out", "out/run")
    said = [line for line in result.output.splitlines() if not line.startswith("Note: sdae reconstructs")]
    assert (result.exit_code, said) == (0, [])  # one epoch need not learn random rows
    folder = Path("out/run")
    for name in ("labels.csv", "scores.json", "run.json", "model.safetensors"):
        assert (folder / name).stat().st_size > 0
    rows = (folder / "labels.csv").read_text().splitlines()
    assert len(rows) == 31
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["request"]["encoder"]["settings"]["hidden"] == [8]
    assert record["data"]["samples"] == 30
    assert not [p for p in folder.rglob(".*") if p.name != ".lock"], "no temporary file stays"
    assert json.loads((folder / "scores.json").read_text())["health"] == {"healthy": True, "reasons": []}


def said_by(capsys, *arguments):
    """The exit code of the command, and the lines of both its streams."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return ended.value.code, captured.out.splitlines(), captured.err.splitlines()


def test_an_unhealthy_result_is_said_last_and_has_an_exit_code_of_its_own(collapsing, capsys):
    tiny = [a for a in TINY[:-2] if a != "-q"]  # without the setting of kmeans
    ill = ["run", "--data", "good.npz", "--clusters", 3, *tiny, "--clusterer", collapsing, "--out", "run"]
    for attempt in ("first", "finished already"):
        code, shown, progress = said_by(capsys, *ill)
        assert code == 3
        assert any("finished already" in line for line in shown) == (attempt != "first")
        assert any("cluster sizes" in line and "[30, 0, 0]" in line for line in shown)
        assert shown[-4:-2] == ["Note: Nothing was here.", "Note: Nothing was [learned] either."]
        assert shown[-2].startswith("Unhealthy result: 2 of 3 clusters are empty")
        assert shown[-1] == "Labels, scores and model are in run"
        assert not any("healthy" in line for line in progress)
    for name in ("labels.csv", "scores.json", "run.json", "model.safetensors"):
        assert Path("run", name).exists()
    for more in ([], ["--overwrite"]):
        code, output, errors = said_by(capsys, *ill, "-q", *more)
        assert (code, output, errors[-3:]) == (3, [], shown[-4:-1])
    assert "3 where the result is unhealthy" in " ".join(deepclust("run", "--help").output.split())
    code, output, errors = said_by(capsys, "predict", "run", "good.npz", "-o", "new.csv", "-q")
    assert (code, output, len(errors)) == (0, [], 1)
    assert errors[0].startswith("Note: the result of 'run' is unhealthy: 2 of 3 clusters are empty")


def test_a_finished_run_is_not_run_again_but_overwrite_does():
    assert tiny("--out", "run").exit_code == 0
    before = {p: p.stat().st_mtime_ns for p in Path("run").rglob("*") if p.is_file() and p.name != ".lock"}
    again = deepclust("run", "--data", "good.npz", "--clusters", 3, *[a for a in TINY if a != "-q"],
                      "--out", "run")  # fmt: skip
    assert again.exit_code == 0
    assert "finished already" in again.output
    assert {p: p.stat().st_mtime_ns for p in before} == before
    Path("run/encoder/mark").touch()
    assert tiny("--out", "run", "--overwrite").exit_code == 0
    assert not Path("run/encoder/mark").exists()
    assert (Path("run/scores.json").stat().st_mtime_ns) != before[Path("run/scores.json")]


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (["--seed", "5"], "seed is 0 there and 5 here"),
        (["-s", "encoder.epochs=2"], "encoder.epochs is 1 there and 2 here"),
        (["--clusters", "4"], "clusters is 3 there and 4 here"),
    ],
)
def test_a_folder_of_another_run_is_left_as_it_is(more, difference):
    assert tiny("--out", "run").exit_code == 0
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    result = tiny("--out", "run", *more)
    assert result.exit_code == 2
    assert difference in result.output
    assert "--overwrite" in result.output
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


def test_data_that_changed_are_another_run():
    assert tiny("--out", "run").exit_code == 0
    with np.load("good.npz") as archive:
        np.savez("good.npz", x=archive["x"] + 1, y=archive["y"])
    result = tiny("--out", "run")
    assert result.exit_code == 2
    assert "fingerprint" in result.output


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"request": 1}', "\x00"])
def test_a_record_that_cannot_be_read_is_kept(record):
    Path("run").mkdir()
    Path("run/run.json").write_text(record)
    for more in ([], ["--overwrite"]):
        result = tiny("--out", "run", *more)
        assert result.exit_code == 2
        assert "run.json' cannot be read" in result.output
        assert Path("run/run.json").read_text() == record


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_folder_that_is_no_run_is_never_touched(more):
    Path("photos").mkdir()
    Path("photos/cat.jpg").write_text("cat")
    result = tiny("--out", "photos", *more)
    assert result.exit_code == 2
    assert "holds no run" in result.output
    assert [p.name for p in Path("photos").iterdir()] == ["cat.jpg"]


def test_a_folder_that_another_process_works_in():
    with locked(Path("run")):
        result = tiny("--out", "run")
    assert result.exit_code == 2
    assert "another process is working in 'run'" in result.output
    assert tiny("--out", "run").exit_code == 0


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_scores_that_are_gone_are_written_again(damage):
    assert tiny("--out", "run").exit_code == 0
    first = json.loads(Path("run/scores.json").read_text())
    labels = Path("run/labels.csv").read_bytes()
    damage(Path("run/scores.json"))
    assert tiny("--out", "run").exit_code == 0
    assert json.loads(Path("run/scores.json").read_text())["evaluators"] == first["evaluators"]
    assert Path("run/labels.csv").read_bytes() == labels


def test_options_win_over_the_file_and_it_over_the_defaults():
    Path("run.toml").write_text(
        '[run]\ndata = "good.npz"\nencoder = "sdae"\nclusters = 3\nseed = 4\nclusterer = "kmeans"\n'
        "epochs_scale = 1\n"
        "[encoder]\nhidden = [8]\nepochs = 7\nlayer_epochs = 1\n"
    )
    result = deepclust("run", "--config", "run.toml", "-s", "encoder.epochs=1", "--out", "run", "-q",
                       "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0, result.output
    request = json.loads(Path("run/run.json").read_text())["request"]
    assert (request["seed"], request["clusters"], request["clusterer"]["name"]) == (4, 3, "kmeans")
    settings = request["encoder"]["settings"]
    assert (settings["hidden"], settings["epochs"], settings["layer_epochs"]) == ([8], 1, 1)
    assert settings["batch_size"] == 256


def test_a_run_is_named_after_what_it_is_by_default():
    assert tiny().exit_code == 0
    assert [p.name for p in Path("runs").iterdir()] == ["good-sdae-kmeans-k3-seed0"]


def test_the_scores_are_shown():
    result = deepclust("run", "--data", "good.npz", "--clusters", 3, *[a for a in TINY if a != "-q"])
    assert result.exit_code == 0
    scores = json.loads(Path("runs/good-sdae-kmeans-k3-seed0/scores.json").read_text())
    assert f"{scores['evaluators']['clustering']['accuracy']:.4f}" in result.output
    assert "good-sdae-kmeans-k3-seed0" in result.output
