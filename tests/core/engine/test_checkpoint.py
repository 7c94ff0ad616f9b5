"""States on disk: what is read is what was written, or a clear refusal."""

import os
import pickle
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from deepclust.core.engine import checkpoint
from deepclust.core.errors import DeepclustError

STATE = {
    "model": {"weight": torch.linspace(-3, 5, 600).sin().view(30, 20), "empty": torch.empty(0)},
    "index": torch.arange(17),
    "plain": [1.5, "text", None, (1, 2), True],
    "n": 3,
}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def test_what_was_saved_is_loaded(tmp_path):
    checkpoint.save(STATE, tmp_path / "s.pt")
    assert same(checkpoint.load(tmp_path / "s.pt"), STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["s.pt"]  # no temporary file stays


def test_same_notices_differences():
    assert not same(STATE, {**STATE, "index": torch.arange(18)})
    assert not same(STATE, {**STATE, "plain": [1.5]})


def refused_or_same(path) -> str:
    try:
        loaded = checkpoint.load(path)
    except DeepclustError:
        return "refused"
    assert same(loaded, STATE)
    return "same"


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    path = tmp_path / "s.pt"
    checkpoint.save(STATE, path)
    good = path.read_bytes()
    rng = random.Random(0)
    directory = good.index(b"PK\x01\x02")  # most of the file is records; this is the list of them
    places = [rng.randrange(len(good)) for _ in range(60)]
    places += [rng.randrange(directory, len(good)) for _ in range(60)]
    outcomes = []
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        outcomes.append(refused_or_same(path))
    assert outcomes.count("refused") > 30


def test_each_bit_of_each_weight_counts(tmp_path):
    path = tmp_path / "s.pt"
    checkpoint.save(STATE, path)
    good = path.read_bytes()
    values = STATE["model"]["weight"].numpy().tobytes()
    start = good.index(values)
    for place in range(start, start + len(values), 97):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(DeepclustError, match="checksum") as caught:
            checkpoint.load(path)
        assert str(path) in str(caught.value)


def test_a_record_that_calls_itself_a_folder_is_refused(tmp_path):
    """torch would hand out memory that nobody wrote; no checksum covers that bit."""
    path = tmp_path / "s.pt"
    checkpoint.save(STATE, path)
    good = path.read_bytes()
    entry = good.index(b"PK\x01\x02")
    while entry >= 0:
        bad = bytearray(good)
        bad[entry + 38] ^= 0x10
        path.write_bytes(bad)
        assert refused_or_same(path) == "refused"
        entry = good.find(b"PK\x01\x02", entry + 1)


def test_a_file_that_was_cut_is_refused(tmp_path):
    path = tmp_path / "s.pt"
    checkpoint.save(STATE, path)
    good = path.read_bytes()
    for length in [0, 1, 100, len(good) // 2, len(good) - 23, len(good) - 1]:
        path.write_bytes(good[:length])
        assert refused_or_same(path) == "refused"


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.pt")


class Malicious:
    def __reduce__(self):
        return (os.mkdir, (os.environ["DEEPCLUST_TEST_TRACE"],))


def test_code_in_a_snapshot_never_runs(tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    monkeypatch.setenv("DEEPCLUST_TEST_TRACE", str(trace))
    torch.save({"model": Malicious()}, tmp_path / "s.pt")
    with pytest.raises(DeepclustError):
        checkpoint.load(tmp_path / "s.pt")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious()))  # it would have done harm
    assert trace.exists()


def test_random_generators_go_on_where_they_were():
    checkpoint.seed_everything(5)

    def draw():
        return torch.rand(3).tolist(), np.random.randn(3).tolist(), random.random(), random.gauss(0, 1)

    draw()
    state = checkpoint.rng_state()
    drawn = [draw() for _ in range(3)]
    checkpoint.seed_everything(6)
    assert draw() not in drawn
    checkpoint.set_rng_state(state)
    assert [draw() for _ in range(3)] == drawn


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "s.pt"
    checkpoint.save(STATE, path)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        checkpoint.save({"x": torch.ones(100), "y": lambda: None}, path)
    assert same(checkpoint.load(path), STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["s.pt"]


OVERWRITE = """
import sys, torch
from pathlib import Path
from deepclust.core.engine import checkpoint
torch.set_num_threads(1)
for i in range(10**9):
    checkpoint.save({"i": i, "x": torch.full((300_000,), i)}, Path(sys.argv[1]))
    if i == 0:
        print("ready", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_kill_while_writing_leaves_a_whole_snapshot(tmp_path):
    paths = [tmp_path / str(i) / "s.pt" for i in range(3)]
    for path in paths:
        path.parent.mkdir()
    command = [sys.executable, "-c", OVERWRITE]
    workers = [subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE) for path in paths]
    try:
        for worker, path, wait in zip(workers, paths, (0.05, 0.11, 0.23), strict=True):
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(wait)
            worker.kill()
            assert worker.wait() < 0
            state = checkpoint.load(path)
            assert (state["x"] == state["i"]).all()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()
