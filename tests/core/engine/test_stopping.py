"""A training that is ended by a reason: kept through kills, with and without the plugin that gave it."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data
from deepclust.core.contract.registry import BLOCK, installed
from deepclust.core.engine import Batches, Trainer, Updater, checkpoint
from deepclust.core.engine.extensions import SNAPSHOT, Extension, Log, Snapshot
from deepclust.core.errors import DeepclustError
from deepclust.core.run import stage
from made_command import deepclust
from made_process import start


class Patience:
    """A stop with state: after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks, self.seen = looks, 0

    def __call__(self, trainer) -> bool:
        self.seen += 1
        return self.seen >= self.looks

    def state_dict(self) -> dict:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        self.seen = state["seen"]


class Crash(Exception):
    pass


def make(out, stop, *, stop_at=None, crash_at=None) -> Trainer:
    """Least squares, stopped by an extension at a step, and killed after another's snapshot."""
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    data = Data(torch.randn(40, 4), "toy")
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    updater = Updater(Batches(data, 4, 0), model, optimizer, lambda b: (model(b.x) - b.x).square().mean())
    trainer = Trainer(updater, stop, out)
    trainer.extend(Log())
    trainer.extend(Snapshot())
    if stop_at is not None:
        trainer.extend(
            lambda t: t.stop(" it is\n enough\x1b"), name="stopping", trigger=(stop_at, "iteration")
        )
    if crash_at is not None:

        def crash(trainer):
            if trainer.iteration == crash_at:
                raise Crash

        trainer.extend(crash, priority=SNAPSHOT + 1)
    return trainer


def weights(trainer: Trainer) -> torch.Tensor:
    return trainer.updater.models[""].weight.detach().clone()


def test_the_step_in_hand_is_the_last_and_the_first_reason_is_kept(tmp_path):
    trainer, seen = make(tmp_path, (30, "iteration"), stop_at=7), []
    trainer.extend(lambda t: t.stop("not any more"), name="second", trigger=(7, "iteration"))
    trainer.extend(lambda t: seen.append(t.iteration), name="after", priority=SNAPSHOT + 1)
    with pytest.raises(ValueError, match="in words"):
        trainer.stop(" \n")
    trainer.run()
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert (trainer.iteration, trainer.finished, trainer.stop_reason) == (7, True, "it is enough")
    assert checkpoint.load(tmp_path / "snapshot.pt")["finished"] is True
    assert [line["iteration"] for line in map(json.loads, (tmp_path / "log.jsonl").open())] == [7]
    taken = trainer.seconds
    trainer.stop("too late")
    assert (trainer.stop_reason, trainer.seconds) == ("it is enough", taken)


def test_one_that_is_asked_before_the_first_step_ends_after_it(tmp_path):
    trainer = make(tmp_path, (30, "iteration"))
    trainer.stop("no time")
    trainer.run()
    assert trainer.iteration == 1


def test_a_kill_between_the_reason_and_the_end_keeps_it(tmp_path):
    whole = make(tmp_path / "whole", (30, "iteration"), stop_at=7)
    whole.run()
    with pytest.raises(Crash):
        make(tmp_path / "cut", (30, "iteration"), stop_at=7, crash_at=7).run()
    for again in (make(tmp_path / "cut", (30, "iteration")), make(tmp_path / "cut", (30, "iteration"))):
        assert again.resume()
        again.run()  # the second finds it finished
        assert (again.iteration, again.stop_reason, again.finished) == (7, "it is enough", True)
        assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize(
    ("before", "after", "end"),
    [
        (["patience"], ["patience"], 9),
        (["patience"], [], 12),  # without it
        ([], ["patience"], 12),  # with one more, which begins to count at the fifth step
        (["patience"], ["other", "patience"], 9),  # in another place
        (["patience", "patience"], ["patience"], 9),
    ],
)
def test_stops_are_known_by_their_names(tmp_path, before, after, end):
    class Other(Patience):
        pass

    made = {"patience": lambda: Patience(9), "other": lambda: Other(99)}
    limit = (12, "iteration")
    with pytest.raises(Crash):
        make(tmp_path, [limit, *(made[name]() for name in before)], crash_at=5).run()
    again = make(tmp_path, [*(made[name]() for name in after), limit])
    assert again.resume()
    again.run()
    assert again.iteration == end
    assert again.stop_reason == ("Patience" if end == 9 else "12 iterations")


def test_two_stops_of_one_class_keep_their_own_states(tmp_path):
    first, second = Patience(90), Patience(90)
    first.seen = 40
    with pytest.raises(Crash):
        make(tmp_path, [(30, "iteration"), first, second], crash_at=5).run()
    again = [Patience(90), Patience(90)]
    make(tmp_path, [(30, "iteration"), *again]).resume()
    assert [stop.seen for stop in again] == [44, 4]


def test_snapshots_of_the_first_form(tmp_path):
    with pytest.raises(Crash):
        make(tmp_path, (30, "iteration"), crash_at=5).run()
    path = tmp_path / "snapshot.pt"
    state = checkpoint.load(path)
    old = {**state, "format": 1, "stops": [{}]}
    del old["owners"]
    checkpoint.save(old, path)
    with pytest.raises(DeepclustError, match=r"another version of deepclust \(form 1, this one's is 2\)"):
        make(tmp_path, (30, "iteration")).resume()
    checkpoint.save({**old, "finished": True, "stop_reason": "5 iterations"}, path)
    again = make(tmp_path, (30, "iteration"))
    assert again.resume()
    again.run()
    assert (again.iteration, again.stop_reason) == (5, "5 iterations")


HOOK = """
@hookimpl
def deepclust_extend_trainer(trainer):
    from MODULE.budget import Budget
    if trainer.name == "encoder/finetune":
        trainer.extend(Budget())
"""
BUDGET = """
import os, signal
from deepclust.core.engine.extensions import Extension

class Budget(Extension):
    used = 0
    def __call__(self, trainer):
        self.used += 1
        if str(trainer.iteration) == os.environ.get("KILL_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.used == 25:
            trainer.stop("25 ticks are over")
    def state_dict(self):
        return {"used": self.used}
    def load_state_dict(self, state):
        self.used = state["used"]
"""


def arguments(folder, out):
    settings = ["hidden=8", "layer_epochs=2", "epochs=20", "latent_dim=2", "batch_size=16"]
    return [
        "run", "--data", folder / "x.npy", "--clusters", "3", "--encoder", "sdae", "--clusterer", "kmeans",
        "--evaluator", "clustering", "--device", "cpu", "--precision", "float32", "--snapshot-seconds", "0",
        "--out", folder / out, *(a for s in settings for a in ("-s", f"encoder.{s}")),
    ]  # fmt: skip


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def ends_of(folder):
    return {
        name: {k: v for k, v in end.items() if k != "seconds"}
        for name, end in record_of(folder)["stages"].items()
    }


def same_bytes(one, other):
    return [(one / n).read_bytes() == (other / n).read_bytes() for n in ("labels.csv", "model.safetensors")]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_budget_is_killed_and_goes_on_with_and_without_its_plugin(tmp_path, install, monkeypatch):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 5)) + 5 * (np.arange(60) % 3)[:, None])
    install("deepclust-budget", HOOK, budget=BUDGET, version="2.5")
    said = deepclust(*arguments(tmp_path, "whole")).output
    assert "encoder/finetune: 25 iterations (25 ticks are over), " in said
    whole = ends_of(tmp_path / "whole")
    budget = {"budget": "deepclust-budget 2.5"}
    assert list(whole) == ["encoder/layer0", "encoder/layer1", "encoder/finetune"]
    assert whole["encoder/layer0"] == {"iterations": 8, "epochs": 2.0, "stopped by": "2 epochs"}
    assert whole["encoder/finetune"] == {
        "iterations": 25, "epochs": 6.25, "stopped by": "25 ticks are over", "extended by": budget
    }  # fmt: skip
    assert record_of(tmp_path / "whole")["stages"]["encoder/finetune"]["seconds"] > 0
    assert record_of(tmp_path / "whole")["versions"]["extended by"] == budget

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("KILL_AT", "11")
    killed = start([str(a) for a in arguments(tmp_path, "cut")])
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode < 0, errors.decode()
    monkeypatch.delenv("KILL_AT")
    shutil.copytree(tmp_path / "cut", tmp_path / "without")
    deepclust(*arguments(tmp_path, "cut"))
    assert same_bytes(tmp_path / "cut", tmp_path / "whole") == [True, True]
    assert ends_of(tmp_path / "cut") == whole

    monkeypatch.setenv(BLOCK, "budget")
    installed.cache_clear()
    deepclust(*arguments(tmp_path, "never"))
    said = deepclust(*arguments(tmp_path, "without")).output
    assert (
        "Note: encoder/finetune went on without the extension 'Budget' of plugin 'budget' "
        "(deepclust-budget 2.5), which is not there any more." in " ".join(said.split())
    )
    assert same_bytes(tmp_path / "without", tmp_path / "never") == [True, True]
    never = ends_of(tmp_path / "never")
    assert never["encoder/finetune"] == {"iterations": 80, "epochs": 20.0, "stopped by": "20 epochs"}
    expected = {**never["encoder/finetune"], "extended by": budget}
    assert ends_of(tmp_path / "without") == {**never, "encoder/finetune": expected}
    assert "extended by" not in record_of(tmp_path / "never")["versions"]


def test_ends_are_those_of_all_parts_a_shared_encoder_included(tmp_path):
    for number, name in enumerate(["shared/finetune", "run/clusterer/start/rounds", "run/clusterer/refine"]):
        trainer = make(tmp_path / name, (number + 1, "iteration"))
        trainer.run()
        stage.keep(trainer)
    (tmp_path / "run/encoder").symlink_to(tmp_path / "shared", target_is_directory=True)
    (tmp_path / "run/clusterer/refine/ended.json").write_text("{")
    found = stage.ends(tmp_path / "run")
    assert list(found)[:2] == ["encoder/finetune", "clusterer/start/rounds"]
    assert [end.get("iterations") for end in found.values()] == [1, 2, None]
    stage.keep(trainer)  # what was not whole is written again
    assert stage.ends(tmp_path / "run")["clusterer/refine"]["stopped by"] == "3 iterations"


def test_a_plugin_that_comes_back_finds_its_state(tmp_path):
    class Counter(Extension):
        def __init__(self):
            self.count = 0

        def __call__(self, trainer):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    def go(crash_at=None, owner=("counting", "deepclust-counting", "1.2")):
        trainer, counter = make(tmp_path, (30, "iteration"), crash_at=crash_at), Counter()
        if owner:
            with trainer.adding_for(*owner):
                trainer.extend(counter)
        trainer.resume()
        try:
            trainer.run()
        except Crash:
            assert crash_at
        return trainer, counter

    go(5)
    gone, _ = go(9, None)
    assert gone.without == ["'Counter' of plugin 'counting' (deepclust-counting 1.2)"]
    _, counter = go(12)
    assert counter.count == 5 + 3
    other, counter = go(None, ("counting", "someone-elses", "1.2"))  # its name, but not its state
    assert counter.count == 30 - 12
    assert other.without == ["'Counter' of plugin 'counting' (deepclust-counting 1.2)"]
    again, _ = go(None, None)
    assert again.without == []  # finished: nothing goes on
    assert [owner.source for owner in again.owners.values()] == ["someone-elses 1.2"]
