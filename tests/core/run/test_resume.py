"""A run that is killed again and again ends with the bytes of one that was left alone."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepclust.core.run.spent import SPENT, Spent, logged_seconds
from made_process import finish, start, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")

SDAE = [
    "encoder.hidden=32,32", "encoder.layer_epochs=4", "encoder.epochs=8", "encoder.batch_size=64",
    "clusterer.epochs=10", "clusterer.tol=0", "clusterer.batch_size=64", "encoder.shift=0.1",
    "encoder.rotation=10",  # so that random numbers matter in all stages
]  # fmt: skip
VAE = [
    "encoder.filters=4,4", "encoder.hidden=16", "encoder.epochs=6", "encoder.warmup=0.5", "encoder.shift=0.1",
]  # fmt: skip


def start_run(out: Path, encoder: str, settings: list[str], *more: str) -> subprocess.Popen:
    arguments = [
        "run", "--encoder", encoder, *more, "--device", "cpu", "--evaluator", "clustering",
        "--snapshot-seconds", "0", "-q", "--out", str(out),
    ]  # fmt: skip
    for setting in settings:
        arguments += ["-s", setting]
    return start(arguments, out.parent)


def start_sdae(out: Path, clusterer: str, precision: str) -> subprocess.Popen:
    return start_run(out, "sdae", SDAE, "--clusterer", clusterer, "--precision", precision)


def start_vae(out: Path) -> subprocess.Popen:
    return start_run(out, "vae", VAE, "--clusterer", "kmeans")


def wait_for(process: subprocess.Popen, log: Path, n_lines: int) -> None:
    """Return once a stage's log has so many lines (an epoch each)."""
    wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") >= n_lines, process)


def kill_when(process: subprocess.Popen, log: Path, n_lines: int) -> None:
    """Kill a run once a stage's log has so many lines, in whatever step it then is."""
    wait_for(process, log, n_lines)
    process.kill()
    process.communicate()
    assert process.returncode < 0


def log_of(path: Path) -> list[dict]:
    parsed = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in parsed]


def assert_same_files(whole: Path, cut: Path) -> None:
    for name in ("labels.csv", "model.safetensors"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name


def assert_same_results(whole: Path, cut: Path) -> None:
    assert_same_files(whole, cut)
    logs = sorted(p.relative_to(whole) for p in whole.rglob("log.jsonl"))
    assert [str(p.parent) for p in logs] == [
        "clusterer/refine", "encoder/finetune", "encoder/layer0", "encoder/layer1", "encoder/layer2",
    ]  # fmt: skip
    for log in logs:
        assert log_of(whole / log) == log_of(cut / log), log
    scores = [json.loads((folder / "scores.json").read_text()) for folder in (whole, cut)]
    assert scores[0]["evaluators"] == scores[1]["evaluators"]
    assert [s["resumed"] for s in scores] == [False, True]
    for folder, found in zip((whole, cut), scores, strict=True):
        for part in ("encoder", "clusterer"):
            assert 0 < logged_seconds(folder / part) <= found["seconds"][part] + 0.01, "of all pieces"
        assert not (folder / SPENT).exists()


def test_the_seconds_of_a_part_are_those_of_all_pieces(tmp_path):
    def log(part, *seconds):
        (tmp_path / part / "stage").mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"seconds": value}) for value in seconds]
        (tmp_path / part / "stage/log.jsonl").write_text("\n".join(lines))

    stopped = Spent(tmp_path)
    stopped.begin("encoder")
    time.sleep(0.02)
    stopped.begin("clusterer")
    time.sleep(0.01)
    stopped.end()
    kept = dict(stopped.seconds)
    assert (kept["encoder"], kept["clusterer"]) >= (0.02, 0.01)
    log("encoder", 0.001)  # less than all of it
    log("clusterer", 1.0, 5.0)  # this piece was killed after that
    last = Spent(tmp_path)
    for part in ("encoder", "clusterer", "results"):
        last.begin(part)
    last.end()
    assert kept["encoder"] <= last.seconds["encoder"] < kept["encoder"] + 1
    assert 5 <= last.seconds["clusterer"] < 6
    last.remove()
    assert Spent(tmp_path).seconds == {}
    for broken in ("", "[1]", '{"encoder": "x"}', "{"):
        (tmp_path / SPENT).write_text(broken)
        assert Spent(tmp_path).seconds == {}


KILLS = [
    ("encoder/layer0", 2),
    ("encoder/finetune", 3),
    ("clusterer/refine", 1),
    ("clusterer/refine", 3),
]
MORE_KILLS = [("encoder/layer2", 1), ("encoder/finetune", 1), ("encoder/finetune", 5), *KILLS[2:]]


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """Gives the folder of an sdae run that nothing stopped, one for each pair; it runs beside the others."""
    running: dict[tuple[str, str], tuple[subprocess.Popen, Path]] = {}

    def folder_of(clusterer: str, precision: str, *, finished: bool = False) -> Path:
        if (clusterer, precision) not in running:
            out = tmp_path_factory.mktemp("whole") / "run"
            running[clusterer, precision] = start_sdae(out, clusterer, precision), out
        process, out = running[clusterer, precision]
        if finished and process.returncode is None:
            finish(process)
        return out

    yield folder_of
    for process, _ in running.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("clusterer", "precision", "kills"),
    [("dec", "float32", KILLS), pytest.param("idec", "bf16", MORE_KILLS, marks=pytest.mark.slow)],
)
def test_a_run_that_is_killed_in_its_stages_ends_with_the_same_bytes(
    tmp_path, left_alone, clusterer, precision, kills
):
    cut = tmp_path / "cut"
    left_alone(clusterer, precision)
    for stage, n_lines in kills:
        kill_when(start_sdae(cut, clusterer, precision), cut / stage / "log.jsonl", n_lines)
        assert not (cut / "labels.csv").exists()
    finish(start_sdae(cut, clusterer, precision))
    assert_same_results(left_alone(clusterer, precision, finished=True), cut)


def test_ctrl_c_says_where_it_stopped_and_the_command_it_gives_goes_on(tmp_path, left_alone):
    cut = tmp_path / "cut"
    interrupted = start_sdae(cut, "dec", "float32")
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
        finish(start(shlex.split(found[3]), tmp_path))
    finally:
        interrupted.kill()
        interrupted.communicate()
    assert_same_results(left_alone("dec", "float32", finished=True), cut)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_one_left_alone(tmp_path):
    """With a variational autoencoder, whose every step draws its codes."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    left_alone, killed = start_vae(whole), start_vae(cut)
    try:
        kill_when(killed, cut / "encoder/reconstruct/log.jsonl", 3)
        assert not (cut / "labels.csv").exists()
        finish(start_vae(cut))
        finish(left_alone)
    finally:
        for process in (left_alone, killed):
            process.kill()
            process.communicate()
    assert_same_files(whole, cut)
