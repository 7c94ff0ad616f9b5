"""Evaluators of outside packages: what they may give, and that one that fails takes nothing from a run."""

import json

import numpy as np
import pytest

from deepclust.core.contract.registry import installed
from deepclust.core.errors import InvalidSetting, UnknownName
from deepclust.core.run.plan import evaluators_from, request_from, resolve
from made_command import deepclust
from made_evaluator import HOOK as OUTSIDE
from made_evaluator import MODEL as OUTSIDE_MODEL
from made_evaluator import named, rows, summary_of
from made_evaluator import run as run_tiny

HOOK = """
@hookimpl
def deepclust_evaluators():
    yield Component("broken", "MODULE.model:Broken", "raises")
    yield Component("given", "MODULE.model:Given", "gives NumPy's numbers")
    yield Component("leaving", "MODULE.model:Leaving", "ends the process")
    yield Component("silent", "MODULE.model:Silent", "gives nothing")
    yield Component("reading", "MODULE.model:Reading", "reads what is not there")
    yield Component("full", "MODULE.model:Full", "writes to a full disk")
    yield Component("odd", "MODULE.model:Odd", "gives what no score is")
"""
MODEL = """
from dataclasses import dataclass
import numpy as np
import torch
from deepclust.core import Evaluator, InvalidData

@dataclass(frozen=True)
class Settings:
    kind: str = "ValueError"

class Broken(Evaluator):
    Config = Settings
    def evaluate(self, result):
        raise {"ValueError": ValueError, "InvalidData": InvalidData}[self.config.kind]("the moon is full.")
    def __init__(self, config):
        super().__init__(config)
        self.config = config

class Given(Evaluator):
    Config = Settings
    def evaluate(self, result):
        both = [np.float64(1), "a"]
        return {"one": np.float32(0.5), "whole": np.int64(3), "many": np.arange(3), "both": both,
                "tensor": torch.tensor(2), "text": "so", "none": None}


class Leaving(Evaluator):
    Config = Settings
    def evaluate(self, result):
        raise SystemExit(3)

class Reading(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return {"lines": len(open("/nowhere/at/all.txt").readlines())}

class Full(Evaluator):
    Config = Settings
    def evaluate(self, result):
        raise OSError(28, "No space left on device")

class Silent(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return None

class Odd(Evaluator):
    Config = Settings
    def evaluate(self, result):
        return {"thing": object()}
"""


@pytest.fixture
def strange(install):
    install("deepclust-strange", HOOK, model=MODEL)


def run(path, *evaluators, code=0):
    np.save(path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)) + 9 * (np.arange(60) % 3)[:, None])
    named = [word for name in evaluators for word in ("--evaluator", name)]
    done = deepclust(
        "run", "--data", path / "x.npy", "--encoder", "sdae", "--clusterer", "kmeans", "--clusters", "3",
        "--epochs-scale", "0.02", "-s", "encoder.hidden=8", "--out", path / "run", *named,
        code=code,
    )  # fmt: skip
    if code:
        return done.output, {}, {}
    summary = json.loads((path / "run/scores.json").read_text())
    return done.output, summary["evaluators"], summary["protocol"]


def test_an_evaluator_that_fails_is_named_and_leaves_all_else(tmp_path, strange):
    said, scores, protocol = run(
        tmp_path, "broken", "odd", "leaving", "reading", "silent", "clustering", "report"
    )
    assert scores["leaving"] == {"failed": "SystemExit: 3"}
    assert scores["reading"]["failed"].startswith("FileNotFoundError: [Errno 2]")
    assert scores["silent"] == {"failed": "TypeError: evaluate() gives scores by name, not NoneType"}
    assert scores["broken"] == {"failed": "ValueError: the moon is full."}
    assert scores["odd"] == {
        "failed": "TypeError: a score is a number, a text or a list of these, not object"
    }
    assert scores["clustering"]["silhouette"] > 0.3
    assert "the evaluator 'broken' failed: ValueError: the moon is full. All else is written." in said
    assert "the evaluator 'broken' failed" in " ".join(protocol["notices"])
    assert "the moon is full" in (tmp_path / "run/report.html").read_text()
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"


def test_a_full_disk_is_no_failure_of_an_evaluator(tmp_path, strange):
    said, *_ = run(tmp_path, "full", code=2)
    assert "cannot write to" in said
    assert "No space left on device" in said


def test_numpys_numbers_are_scores(tmp_path, strange):
    _, scores, _ = run(tmp_path, "given")
    assert scores["given"] == {
        "one": 0.5, "whole": 3, "many": [0, 1, 2], "both": [1.0, "a"], "tensor": 2, "text": "so",
        "none": None,
    }  # fmt: skip


def test_an_evaluator_may_be_called_as_an_entry_of_the_run(tmp_path, install):
    install("deepclust-outside", OUTSIDE, model=OUTSIDE_MODEL)
    said = run_tiny("--data", rows(tmp_path / "x.npz"), "--out", tmp_path / "run", *named("seconds")).output
    summary = summary_of(tmp_path / "run")
    assert summary["evaluators"] == {"seconds": {"encoder": 0.25, "seconds": 7.0}}
    assert {"encoder", "clusterer", "results"} <= set(summary["seconds"])
    assert [
        words for line in said.splitlines() if len(words := line.split()) == 2 and words[1][0].isdigit()
    ] == [["encoder", "0.2500"], ["seconds", "7.0000"]]


def test_numbers_that_are_none_and_texts_of_many_lines(tmp_path, install):
    install("deepclust-outside", OUTSIDE, model=OUTSIDE_MODEL)
    data, out = rows(tmp_path / "x.npz"), tmp_path / "run"
    said = run_tiny("--data", data, "--out", out, *named("nothing", "report"), "-s", "report.map=none").output
    given = summary_of(out)["evaluators"]["nothing"]
    assert given == {
        "lost": None, "endless": None, "many": [1.0, None], "said": "first line\nsecond\x1b[31m",
        "bro\nken": 0.5,
    }  # fmt: skip
    lines = [line.split() for line in said.splitlines()]
    for shown in (["lost", "-"], ["endless", "-"], ["many", "[1.0,", "-]"], ["bro", "ken", "0.5000"]):
        assert shown in lines
    assert ["said", "first", "line", "second", "[31m"] in lines
    assert "\x1b" not in said
    page = (out / "report.html").read_text()
    assert "<dt>lost</dt><dd>-</dd>" in " ".join(page.split()).replace("> <", "><")


def test_names_replace_the_evaluators_and_plus_adds_to_them():
    usual = ("clustering", "report")
    assert evaluators_from() == evaluators_from(None, None) == usual
    assert evaluators_from(["svm"]) == ("svm",)
    assert evaluators_from(None, ("+svm",)) == (*usual, "svm")
    assert evaluators_from("+svm,+anomaly", ("+svm", "+other")) == (*usual, "svm", "anomaly", "other")
    assert evaluators_from(["svm"], ("+anomaly",)) == ("svm", "anomaly")
    assert evaluators_from(["+svm"], ("anomaly",)) == ("anomaly",)
    assert evaluators_from(("+svm",), usual=()) == ("svm",)
    for mixed in (["svm", "+anomaly"], ["+anomaly", "svm"]):
        with pytest.raises(InvalidSetting, match=r"'svm' and '\+anomaly' were asked for, but names replace"):
            evaluators_from(mixed)


def test_a_file_and_the_command_line_add_evaluators_and_the_report_is_last():
    def names(in_file, given=None):
        request = request_from({"run": {"evaluators": in_file}}, {"evaluators": given, "encoder": "sdae"})
        plan = resolve(request_from({}, {**vars(request), "clusterer": "kmeans"}), installed())
        return [choice.entry.component.name for choice in plan.evaluators]

    assert names(["+svm"]) == ["clustering", "svm", "report"]
    assert names(["+svm"], ("+anomaly",)) == ["clustering", "svm", "anomaly", "report"]
    assert names(["report", "svm", "svm"]) == ["svm", "report"]
    with pytest.raises(UnknownName, match="did you mean 'svm'"):
        names(["+svn"])
