"""A run that is killed again and again ends with the bytes of one that was left alone."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")

SETTINGS = [
    "encoder.hidden=32,32", "encoder.layer_epochs=4", "encoder.epochs=8", "encoder.batch_size=64",
    "clusterer.epochs=10", "clusterer.tol=0", "clusterer.batch_size=64", "encoder.shift=0.1",
    "encoder.rotation=10",  # so that random numbers matter in all stages
]  # fmt: skip


def start(out: Path, clusterer: str, precision: str) -> subprocess.Popen:
    arguments = [
        "run", "--encoder", "sdae", "--clusterer", clusterer, "--device", "cpu", "--precision", precision,
        "--evaluator", "clustering", "--snapshot-seconds", "0", "-q", "--out", str(out),
    ]  # fmt: skip
    for setting in SETTINGS:
        arguments += ["-s", setting]
    return execute(arguments, out.parent)


def execute(arguments: list[str], where: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "deepclust.cli", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=where)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for(process: subprocess.Popen, log: Path, n_lines: int) -> None:
    """Return once a stage's log has so many lines (an epoch each)."""
    deadline = time.monotonic() + 120
    while lines(log) < n_lines:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def kill_when(process: subprocess.Popen, log: Path, n_lines: int) -> None:
    """Kill a run once a stage's log has so many lines, in whatever step it then is."""
    wait_for(process, log, n_lines)
    process.kill()
    process.communicate()
    assert process.returncode < 0


def log_of(path: Path) -> list[dict]:
    parsed = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in parsed]


def assert_same_results(whole: Path, cut: Path) -> None:
    for name in ("labels.csv", "model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    logs = sorted(p.relative_to(whole) for p in whole.rglob("log.jsonl"))
    assert [str(p.parent) for p in logs] == [
        "clusterer/refine", "encoder/finetune", "encoder/layer0", "encoder/layer1", "encoder/layer2",
    ]  # fmt: skip
    for log in logs:
        assert log_of(whole / log) == log_of(cut / log), log
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (whole, cut)]
    assert scores[0]["clustering"] == scores[1]["clustering"]
    assert [s["resumed"] for s in scores] == [False, True]


KILLS = [
    ("encoder/layer0", 2),
    ("encoder/finetune", 3),
    ("clusterer/refine", 1),
    ("clusterer/refine", 6),
]
MORE_KILLS = [("encoder/layer2", 1), ("encoder/finetune", 1), ("encoder/finetune", 5), *KILLS[2:]]


@pytest.mark.parametrize(
    ("clusterer", "precision", "kills"),
    [("dec", "float32", KILLS), pytest.param("idec", "bf16", MORE_KILLS, marks=pytest.mark.slow)],
)
def test_a_run_that_is_killed_in_its_stages_ends_with_the_same_bytes(tmp_path, clusterer, precision, kills):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    left_alone = start(whole, clusterer, precision)
    try:
        for stage, n_lines in kills:
            kill_when(start(cut, clusterer, precision), cut / stage / "log.jsonl", n_lines)
            assert not (cut / "labels.csv").exists()
        finish(start(cut, clusterer, precision))
        finish(left_alone)
    finally:
        left_alone.kill()
        left_alone.communicate()
    assert_same_results(whole, cut)


def test_ctrl_c_says_where_it_stopped_and_the_command_it_gives_goes_on(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    left_alone, interrupted = start(whole, "dec", "float32"), start(cut, "dec", "float32")
    try:
        wait_for(interrupted, cut / "encoder/finetune/log.jsonl", 2)
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=60)
        assert interrupted.returncode == 130
        said = errors.decode().strip()
        assert "\n" not in said
        found = re.fullmatch(
            r"Interrupted in encoder/finetune, at iteration (\d+) of at most (\d+)\. "
            r"To go on from there: deepclust (.*)", said
        )  # fmt: skip
        assert found, said
        assert 0 < int(found[1]) < int(found[2])
        finish(execute(shlex.split(found[3]), tmp_path))
        finish(left_alone)
    finally:
        left_alone.kill()
        interrupted.kill()
        left_alone.communicate()
    assert_same_results(whole, cut)
