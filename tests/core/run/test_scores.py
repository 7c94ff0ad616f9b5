"""What scores.json holds, and what does not hold it."""

import json
import math

import pytest

from deepclust.core.errors import InvalidData
from deepclust.core.run.scores import parts, read, reasons_of
from made_command import deepclust

GOOD = {"protocol": {"seed": 0}, "health": {"reasons": ["ill"]}, "seconds": {"encoder": 1, "clusterer": 0.5}}
BROKEN = {
    "a list": [],
    "nothing": {},
    "no seconds": {"protocol": {}, "health": {"healthy": True, "reasons": []}},
    "a number": 3,
    "seconds of nothing": {**GOOD, "seconds": {}},
    "seconds in words": {**GOOD, "seconds": {"encoder": "1", "clusterer": 1}},
    "no health": {**GOOD, "health": []},
    "health in words": {**GOOD, "health": {"reasons": "ill"}},
    "an evaluator": {**GOOD, "clustering": 3},
    "an evaluator now": {"evaluators": {"clustering": 3}, **GOOD},
    "evaluators": {"evaluators": [], **GOOD},
    "a clusterer": {"evaluators": {}, **GOOD, "clusterer": 3},
}


def test_scores_are_read_with_or_without_what_older_versions_did_not_write(tmp_path):
    for own in ({}, {"clustering": {"nmi": 1}}, {"clustering": {"nmi": 1}, "svm": {"failed": "it did"}}):
        for more in ({}, {"resumed": True}, {"resumed": False, "clusterer": {"unsupervised_loss": 0.5}}):
            whole = {"evaluators": own, **GOOD, **more}
            for written in (whole, {**GOOD, **own, **more}):  # as of now, and as older versions wrote them
                (tmp_path / "scores.json").write_text(json.dumps(written))
                assert read(tmp_path / "scores.json") == whole
                assert reasons_of(tmp_path) == ["ill"]
    (tmp_path / "scores.json").write_text(json.dumps({"seconds": GOOD["seconds"]}))
    assert read(tmp_path / "scores.json") == {"evaluators": {}, "seconds": GOOD["seconds"]}


def test_what_older_versions_wrote_for_numbers_that_are_none_is_not_known(tmp_path):
    old = {**GOOD, "clustering": {"nmi": math.nan, "sizes": [1, math.inf], "ari": -math.inf}}
    (tmp_path / "scores.json").write_text(json.dumps(old))
    assert read(tmp_path / "scores.json")["evaluators"]["clustering"] == {
        "nmi": None, "sizes": [1, None], "ari": None,
    }  # fmt: skip


def test_an_evaluator_may_be_called_as_what_stands_beside_it(tmp_path):
    names = ("protocol", "health", "seconds", "resumed", "clusterer", "evaluators")
    whole = {"evaluators": {name: {"a": 1.0} for name in names}, **GOOD}
    (tmp_path / "scores.json").write_text(json.dumps(whole))
    assert read(tmp_path / "scores.json") == whole
    assert [name for name, _ in parts(whole)] == [*names]


@pytest.mark.parametrize("case", BROKEN)
def test_what_holds_no_scores_is_said(tmp_path, case):
    (tmp_path / "scores.json").write_text(json.dumps(BROKEN[case]))
    with pytest.raises(ValueError, match="it holds no scores by name|is not as a run writes it"):
        read(tmp_path / "scores.json")
    assert reasons_of(tmp_path) == []


def test_broken_scores_of_a_finished_run_are_written_again(tmp_path, monkeypatch):
    from deepclust import DeepClustering

    monkeypatch.chdir(tmp_path)
    arguments = [
        "compare", "--encoder", "sdae", "--clusterer", "kmeans", "--seeds", 1, "--epochs-scale", 0.01, "-q",
        "--evaluator", "clustering", "--out", "c",
    ]  # fmt: skip
    deepclust(*arguments)
    run = tmp_path / "c/runs/sdae-kmeans-seed0"
    whole = json.loads((run / "scores.json").read_text())["evaluators"]["clustering"]
    for broken in ([], {}):
        (run / "scores.json").write_text(json.dumps(broken))
        with pytest.raises(InvalidData, match=r"scores.json' cannot be read: .*; the command of the run"):
            DeepClustering.load(run)
        deepclust("predict", run, "digits", "-q")
        deepclust(*arguments)
        assert json.loads((run / "scores.json").read_text())["evaluators"]["clustering"] == whole
