"""Evaluators on finished runs: they see what the run gave them, and nothing is trained."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from deepclust.core.run.folder import locked
from made_command import deepclust
from made_comparison import table_of
from made_evaluator import HOOK, MODEL, TINY, labels_in, named, rows, run, summary_of, trained
from made_photo import noise, save
from made_process import finish, start

DATA = {
    "rows": ("--data", "x.npz"),
    "a split": ("--data", "split.npz", "-s", "data.split=train-test"),
    "files": ("--data", "photos", "--labels", "folders"),
    "a table": ("--data", "x.csv", "-s", "data.id=name", "--labels", "kind"),
    "no labels": ("--data", "x.npy"),
}


@pytest.fixture
def outside(install, monkeypatch):
    """The evaluators of ``made_evaluator``, here and in processes that tests start."""
    module = install("deepclust-outside", HOOK, model=MODEL)
    site = str(Path(importlib.util.find_spec(module).origin).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([site, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with each kind of data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPCLUST_CACHE", str(tmp_path / "cache"))
    with np.load(rows(tmp_path / "x.npz")) as kept:
        x, y = kept["x"], kept["y"]
    np.save("x.npy", x)
    np.savez("split.npz", x_train=x[:45], y_train=y[:45], x_test=x[45:], y_test=y[45:])
    lines = [f"row-{i},{','.join(map(str, r))},{'abc'[k]}" for i, (r, k) in enumerate(zip(x, y, strict=True))]
    Path("x.csv").write_text("name,p,q,r,s,kind\n" + "\n".join(lines))
    Path("photos").mkdir()
    for i in range(18):
        save(f"{'abc'[i % 3]}/{i}.png", noise() // 8 + 80 * (i % 3))
    return tmp_path


@pytest.mark.parametrize("kind", DATA)
def test_an_evaluator_sees_in_another_process_what_the_run_gave_it(here, outside, kind):
    run(*DATA[kind], "--out", "run", *named("clustering", "witness"), "-q")
    first, seen = summary_of("run"), json.loads(Path("run/witness.json").read_text())
    assert seen["labels"] == labels_in("run/labels.csv")
    assert (seen["truth"] is None) == (kind == "no labels")
    assert (seen["test"] is None) == (kind != "a split")
    assert (seen["files"] is None) == (kind in ("rows", "a split", "no labels"))
    Path("run/witness.json").unlink()
    before = trained("run")
    finish(start(["evaluate", "run", "--evaluator", "witness"]))
    assert json.loads(Path("run/witness.json").read_text()) == seen
    assert summary_of("run") == first, "the same scores, its random numbers among them"
    assert trained("run") == before


def test_evaluating_later_gives_what_evaluating_at_once_gives(here):
    run("--data", "x.npz", "--out", "whole", *named("clustering", "svm", "report"), "-q")
    run("--data", "x.npz", "--out", "late", *named("clustering", "report"), "-q")
    assert 'id="scores-svm"' not in Path("late/report.html").read_text()
    before = trained("late")
    said = deepclust("evaluate", "late", "--evaluator", "svm").output
    assert "linear accuracy" in said
    assert "nothing was trained. Evaluated: svm, report" in said
    assert trained("late") == before
    whole, late = summary_of("whole"), summary_of("late")
    assert late["evaluators"] == whole["evaluators"]
    assert [*late["evaluators"]] == ["clustering", "svm", "report"]
    assert (late["protocol"], late["health"]) == (whole["protocol"], whole["health"])
    requests = [json.loads(Path(out, "run.json").read_text())["request"] for out in ("whole", "late")]
    assert requests[0] == requests[1]
    page = Path("late/report.html").read_text()
    assert 'id="scores-svm"' in page
    assert "svm: confusion" in page


def test_the_runs_own_evaluators_again_with_other_settings(here):
    run("--data", "x.npz", "--out", "run", *named("clustering", "svm"), "-s", "svm.heads=linear", "-q")
    scores = summary_of("run")["evaluators"]
    (Path("run") / "labels.csv").unlink()  # which nothing needs
    deepclust("evaluate", "run", "-s", "svm.labels=2", "-q")
    again = summary_of("run")["evaluators"]
    assert again["clustering"] == scores["clustering"]
    assert "linear_accuracy" in again["svm"], "of the run's own setting"
    assert "svc_accuracy" not in again["svm"]
    assert (scores["svm"]["train_samples"], again["svm"]["train_samples"]) == (48, 6)
    own = json.loads(Path("run/run.json").read_text())["request"]["evaluators"]
    assert [(e["name"], e["settings"].get("labels")) for e in own] == [("clustering", None), ("svm", 2)]
    assert not Path("run/report.html").exists(), "the run has none"


def test_the_same_run_with_other_evaluators_is_evaluated_and_not_trained(here):
    assert "svm" not in run("--data", "x.npz", "--out", "run", "-q").output
    before, report = trained("run"), Path("run/report.html").read_text()
    said = run("--data", "x.npz", "--out", "run", *named("+svm")).output
    assert "is finished: evaluating svm, report, training nothing" in said
    assert [*summary_of("run")["evaluators"]] == ["clustering", "svm", "report"]
    assert trained("run") == before
    assert Path("run/report.html").read_text() != report
    files = [p for p in Path("run").rglob("*") if p.is_file() and p.name != ".lock"]
    kept = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
    for names in (["+svm"], [], ["clustering"], ["report", "svm"]):
        said = run("--data", "x.npz", "--out", "run", *named(*names)).output
        assert "finished already; --overwrite" in said
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in kept} == kept, "nothing was due"
    said = run("--data", "x.npz", "--out", "run", *named("svm"), "-s", "svm.heads=forest").output
    assert "evaluating svm, report" in said
    assert [*summary_of("run")["evaluators"]["svm"]][0] == "forest_accuracy"
    assert trained("run") == before
    assert "seed is 0 there and 1 here" in run("--data", "x.npz", "--out", "run", "--seed", 1, code=2).output


def test_one_that_failed_is_evaluated_again_by_the_same_command(here, outside):
    command = ["--data", "x.npz", "--out", "run", *named("+flaky")]
    assert (
        "the evaluator 'flaky' failed: RuntimeError: not today. All else is written." in run(*command).output
    )
    summary = summary_of("run")
    assert summary["evaluators"]["flaky"] == {"failed": "RuntimeError: not today"}
    assert "not today" in " ".join(summary["protocol"]["notices"])
    assert "not today" in Path("run/report.html").read_text()
    before = trained("run")
    assert "failed" not in run(*command).output
    assert trained("run") == before
    summary = summary_of("run")
    assert summary["evaluators"]["flaky"] == {"works": 1.0, "level": 1}
    assert "not today" not in json.dumps(summary)
    assert "not today" not in Path("run/report.html").read_text()
    assert "finished already; --overwrite" in run(*command).output


def test_evaluate_ends_with_1_where_one_fails_and_keeps_the_others(here, outside):
    run("--data", "x.npz", "--out", "run", *named("clustering"), "-q")
    scores = summary_of("run")["evaluators"]
    done = deepclust("evaluate", "run", *named("flaky", "seconds"), code=1)
    assert "the evaluator 'flaky' failed" in done.output
    now = summary_of("run")
    assert now["evaluators"]["clustering"] == scores["clustering"]
    assert now["evaluators"]["seconds"] == {"encoder": 0.25, "seconds": 7.0}
    assert now["seconds"]["encoder"] > 0
    deepclust("evaluate", "run", *named("+flaky"), "-q", "-s", "flaky.level=3")
    assert summary_of("run")["evaluators"]["flaky"] == {"works": 1.0, "level": 3}
    assert "flaky" not in str(summary_of("run")["protocol"])


def test_a_run_in_progress_goes_on_with_other_evaluators(here, outside):
    run("--data", "x.npz", "--out", "run", *named("clustering"), "-q")
    record = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({**record, "status": "running"}))
    Path("run/scores.json").unlink()
    run("--data", "x.npz", "--out", "run", *named("seconds"), "-q")
    assert [*summary_of("run")["evaluators"]] == ["seconds"]
    assert summary_of("run")["resumed"] is True
    record = json.loads(Path("run/run.json").read_text())
    assert (record["status"], [e["name"] for e in record["request"]["evaluators"]]) == (
        "finished",
        ["seconds"],
    )


def test_last_ones_come_last_and_again(here, outside):
    run("--data", "x.npz", "--out", "run", *named("closing", "clustering"), "-q")
    scores = summary_of("run")["evaluators"]
    assert [*scores] == ["clustering", "closing"]
    assert scores["closing"] == {"saw": "clustering"}
    deepclust("evaluate", "run", *named("seconds"), "-q")
    scores = summary_of("run")["evaluators"]
    assert [*scores] == ["clustering", "seconds", "closing"]
    assert scores["closing"] == {"saw": "clustering, seconds"}


def test_what_older_versions_wrote_is_evaluated_too(here, outside):
    run("--data", "x.npz", "--out", "run", *named("clustering", "report"), "-q")
    now, record = summary_of("run"), json.loads(Path("run/run.json").read_text())
    Path("run/scores.json").write_text(json.dumps({**now.pop("evaluators"), **now}))
    del record["versions"]["plugins"]["report"]
    record["versions"]["deepclust"] = "0.0.1"
    Path("run/run.json").write_text(json.dumps(record))
    deepclust("evaluate", "run", *named("seconds"), "-q")
    summary = summary_of("run")
    assert [*summary["evaluators"]] == ["clustering", "seconds", "report"]
    assert {**summary, "evaluators": None} == {**now, "evaluators": None}
    versions = json.loads(Path("run/run.json").read_text())["versions"]
    assert versions["deepclust"] == "0.0.1", "it was made with that"
    assert versions["plugins"]["seconds"] == "deepclust-outside 1.2"
    assert "accuracy" in Path("run/report.html").read_text()


def test_data_that_changed_moved_or_are_gone(here, outside):
    run("--data", "x.npz", "--out", "run", *named("clustering"), "-q")
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    shutil.move("x.npz", "y.npz")
    said = deepclust("evaluate", "run", *named("seconds"), code=2).output
    assert "the data of the run in 'run' cannot be loaded again: " in said
    assert "x.npz" in said
    rows(Path("x.npz"), 57)
    said = " ".join(deepclust("evaluate", "run", *named("seconds"), code=2).output.split())
    assert "the data set of the run in 'run' changed since (60 samples then, 57 samples now" in said
    assert "-s data.path=PATH" in said
    assert {p: p.read_bytes() for p in before} == before
    deepclust("evaluate", "run", *named("seconds"), "-s", "data.path=y.npz", "-q")
    assert "seconds" in summary_of("run")["evaluators"]


def test_a_test_split_that_changed_is_refused(here):
    run(*DATA["a split"], "--out", "run", *named("clustering"), "-q")
    with np.load("split.npz") as kept:
        np.savez("split.npz", **{**kept, "x_test": kept["x_test"] + 1})
    said = deepclust("evaluate", "run", code=2).output
    assert "the test split of the run in 'run' changed since (15 samples then, 15 samples now" in said


def test_classes_may_be_named_after_the_run(here):
    run("--data", "photos", "--out", "run", *named("clustering"), "-q")
    assert "accuracy" not in summary_of("run")["evaluators"]["clustering"]
    deepclust("evaluate", "run", "-s", "data.labels=folders", "-q")
    assert summary_of("run")["evaluators"]["clustering"]["accuracy"] > 0


def test_samples_from_python_cannot_be_loaded_again_but_given_again(here):
    from deepclust import DeepClustering, Request
    from deepclust import run as run_request
    from deepclust.core import Data, Storage

    with np.load("x.npz") as kept:
        x = kept["x"]
    DeepClustering("sdae", "kmeans", 3, epochs_scale=0.02, random_state=0, out="est", device="cpu").fit(x)
    said = deepclust("evaluate", "est", code=2).output
    assert "the samples of the run in 'est' were given from Python ('X')" in said
    import torch

    data = Data(torch.from_numpy(x), "mine")
    asked = {"encoder": "sdae", "clusterer": "kmeans", "clusters": 3, "epochs_scale": 0.02, "device": "cpu"}
    for names in (("clustering",), ("clustering", "svm")):
        outcome = run_request(
            Request(**asked, evaluators=names), Storage(here), here / "run", data=data, quiet=True
        )
    assert (outcome.was_finished, outcome.evaluated) == (True, ("svm",))
    assert "missing" in outcome.scores["svm"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("[")])
def test_scores_that_are_gone_are_for_the_runs_command(here, damage):
    run("--data", "x.npz", "--out", "run", *named("clustering"), "-q")
    damage(Path("run/scores.json"))
    said = deepclust("evaluate", "run", code=2).output
    assert "scores.json' cannot be read: " in said
    assert "the command of the run writes it again: deepclust " in said


def test_a_table_of_labels_of_another_model_is_said(here):
    run("--data", "x.npz", "--out", "run", *named("clustering"), "-q")
    table = Path("run/labels.csv").read_text().splitlines()
    rest = [line.split(",") for line in table[1:]]
    turned = [",".join([i, str((int(k) + 1) % 3), *more]) for i, k, *more in rest]
    for lines, reason in (
        (turned, "puts 60 of 60 samples into other clusters than"),
        (turned[:9], "has 9 rows for 60 samples"),
        (["1,x"], "cannot be read"),
    ):
        Path("run/labels.csv").write_text("\n".join([table[0], *lines]))
        said = deepclust("evaluate", "run", code=2).output
        assert reason in said
        assert "remove 'run/labels.csv' if it is not needed" in said
    Path("run/labels.csv").write_text("\n".join([table[0], turned[0], *table[2:]]))
    assert "Note: the model puts 1 of 60 samples" in deepclust("evaluate", "run").output


def test_what_cannot_be_evaluated_is_said(here, outside):
    run("--data", "x.npz", "--out", "run", *named("clustering"), "-q")
    before = Path("run/scores.json").read_bytes()
    for arguments, reason in (
        (["nowhere"], "'nowhere' is not there; name the folder of a finished run"),
        (["x.npz"], "'x.npz' is a file; name the folder"),
        (["photos"], "'photos' holds no run of deepclust"),
        (["run", *named("secnds")], "did you mean 'seconds'?"),
        (["run", *named("seconds", "+flaky")], "'seconds' and '+flaky' were asked for"),
        (["run", "-s", "svm.C=1"], "there is no part with settings 'svm'"),
        (["run", "-s", "encoder.lr=1"], "What was trained stays as it is."),
        (["run", "-s", "clustering.neighbors=1"], "did you mean 'clustering.neighbours'?"),
        (["run", "-s", "data.pth=1"], "did you mean 'data.path'?"),
    ):
        assert reason in deepclust("evaluate", *arguments, code=2).output, arguments
    assert not Path("nowhere").exists()
    with locked(Path("run")):
        assert "another process is working in 'run'" in deepclust("evaluate", "run", code=2).output
    record = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps({**record, "status": "running"}))
    said = deepclust("evaluate", "run", code=2).output
    assert "the run in 'run' is not finished; give its command again: deepclust " in said
    Path("run/run.json").write_text("{")
    assert "'run/run.json' is broken" in deepclust("evaluate", "run", code=2).output
    assert Path("run/scores.json").read_bytes() == before


def test_neighbours_that_a_clusterer_learned_from_are_there_again(here):
    arguments = [a.replace("kmeans", "scan") for a in TINY[:-2]]
    scan = ["-s", "clusterer.epochs=2", "-s", "clusterer.label_epochs=0", "-s", "clusterer.neighbours=5"]
    command = ["run", *arguments, *scan, "--data", "x.npz", "--out", "run", "-q"]
    deepclust(*command, *named("clustering", "report"))
    summary, page = summary_of("run"), Path("run/report.html").read_text()
    assert 0 < summary["evaluators"]["clustering"]["mined_purity"] <= 1
    assert summary["clusterer"]["unsupervised_loss"] is not None
    assert "learned from" in page
    assert "does not hold" not in deepclust("evaluate", "run", "-q").output
    assert summary_of("run") == summary
    assert Path("run/report.html").read_text().count("learned from") == page.count("learned from")
    assert "less is better, among runs" in Path("run/report.html").read_text()
    Path("run/neighbours.npy").unlink()  # as in a run of an older version
    said = deepclust("evaluate", "run").output
    assert "does not hold the neighbours" in said
    assert "mined_purity" not in summary_of("run")["evaluators"]["clustering"]


def test_a_comparison_takes_other_evaluators_without_training(here, outside):
    arguments = [a.replace("encoder.", "sdae.") for a in TINY[4:]]
    command = ["compare", "--data", "x.npz", "--clusterer", "kmeans", "--seeds", 2, "--out", "c", *arguments]
    deepclust(*command, *named("clustering"), "-q")
    before = [trained(run) for run in Path("c/runs").iterdir()]
    deepclust(*command, *named("seconds"), "-q")
    assert [trained(run) for run in Path("c/runs").iterdir()] == before
    row = table_of(Path("c/results.csv"))[0]
    assert (row["encoder"], row["seconds.encoder"], row["seconds.seconds"]) == ("sdae", "0.25", "7.0")
    assert 0 < float(row["accuracy"]) <= 1
    assert float(row["seconds"]) > 0
    record = json.loads(Path("c/compare.json").read_text())["request"]
    assert record["evaluators"] == ["clustering", "seconds"]
    assert set(record["settings"]["evaluator"]) == {"clustering", "seconds"}
    assert "finished already" in deepclust(*command, *named("clustering")).output
