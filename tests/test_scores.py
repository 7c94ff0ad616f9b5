"""What scores.json holds, and what does not hold it."""

import json

import pytest

from deepclust.core.errors import InvalidData
from deepclust.core.run.scores import read, reasons_of
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
}


def test_scores_are_read_with_or_without_what_older_versions_did_not_write(tmp_path):
    for scores in (GOOD, {"seconds": GOOD["seconds"]}, {**GOOD, "resumed": True, "clustering": {"nmi": 1}}):
        (tmp_path / "scores.json").write_text(json.dumps(scores))
        assert read(tmp_path / "scores.json") == scores
    assert reasons_of(tmp_path) == ["ill"]


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
    whole = json.loads((run / "scores.json").read_text())["clustering"]
    for broken in ([], {}):
        (run / "scores.json").write_text(json.dumps(broken))
        with pytest.raises(InvalidData, match=r"scores.json' cannot be read: .*; the command of the run"):
            DeepClustering.load(run)
        deepclust("predict", run, "digits", "-q")
        deepclust(*arguments)
        assert json.loads((run / "scores.json").read_text())["clustering"] == whole
