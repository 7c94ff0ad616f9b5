"""Plugins that extend any training: each on its own, named where it fails, and never everyone's traceback."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data, Run
from deepclust.core.contract.registry import BLOCK, Registry, installed
from deepclust.core.engine import Batches, Updater, checkpoint
from deepclust.core.errors import PluginFailed
from deepclust.core.run.run import read_notices
from made_command import deepclust

WATCH = """
from deepclust.core.engine.extensions import Extension

class Watch(Extension):
    def __init__(self, name):
        self.called, self.count = name, 0
    def __call__(self, trainer):
        self.count += 1
        with (trainer.out / "watched.txt").open("a") as file:
            file.write(self.called + " ")
    def state_dict(self):
        return {"count": self.count}
    def load_state_dict(self, state):
        self.count = state["count"]
"""


def hook(*lines: str) -> str:
    body = "".join(f"\n    {line}" for line in lines)
    return f"from MODULE.watch import Watch\n\n@hookimpl\ndef deepclust_extend_trainer(trainer):{body}\n"


def add(name: str) -> str:
    return f"trainer.extend(Watch('{name}'))"


def train(folder: Path, steps: int = 3):
    """A stage of a few steps, with whatever plugins add, and the notices that it left."""
    model = nn.Linear(4, 4)
    data = Data(torch.ones(40, 4), "toy")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    updater = Updater(Batches(data, 4, 0), model, optimizer, lambda b: (model(b.x) - b.x).square().mean())
    run = Run(folder, quiet=True, part="encoder", snapshot_seconds=0, registry=Registry())
    trainer = run.train("train", updater, (steps, "iteration"))
    return trainer, [notice.text for notice in read_notices(folder)]


def watched(folder: Path) -> set[str]:
    path = folder / "train/watched.txt"
    return set(path.read_text().split()) if path.exists() else set()


def test_extensions_of_one_name_from_two_plugins_both_work(install, tmp_path):
    install("deepclust-one", hook(add("one")), watch=WATCH)
    install("deepclust-two", hook(add("two")), watch=WATCH)
    trainer, notices = train(tmp_path)
    assert (watched(tmp_path), notices) == ({"one", "two"}, [])
    kept = checkpoint.load(trainer.out / "snapshot.pt")["extensions"]
    assert {"one:Watch", "two:Watch"} <= set(kept)
    ended = json.loads((trainer.out / "ended.json").read_text())
    assert ended["extended by"] == {"one": "deepclust-one 1.2", "two": "deepclust-two 1.2"}


CASES = {
    "raises": (hook(add("half"), "trainer.stop('half')", "1 / 0"), "ZeroDivisionError: division by zero"),
    "leaves": (hook(add("half"), "raise SystemExit(3)"), "SystemExit: 3"),
    "adds one name twice": (
        hook(add("half"), add("half")),
        "ValueError: the trainer already has an extension named 'bad:Watch'",
    ),
    "adds nothing that can be called": (
        hook(add("half"), "trainer.extend(Watch('half'), name='other', trigger=(0, 'epoch'))"),
        "ValueError: (0, 'epoch'): a positive number",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hook_that_fails_is_a_notice_and_leaves_nothing(install, tmp_path, case):
    code, reason = CASES[case]
    install("deepclust-bad", code, watch=WATCH, version="0.9")
    install("deepclust-good", hook(add("good")), watch=WATCH)
    trainer, notices = train(tmp_path)
    assert watched(tmp_path) == {"good"}
    assert (trainer.iteration, trainer.stop_reason) == (3, "3 iterations")
    (notice,) = notices
    said = f"plugin 'bad' (deepclust-bad 0.9) did not extend the training: {reason}"
    assert notice.startswith(said)
    assert list(trainer.owners) == ["good:Watch"]


def test_two_plugins_of_one_name_are_told_apart(install, tmp_path):
    install("deepclust-first", hook(add("first")), plugin="same", watch=WATCH)
    install("deepclust-second", hook(add("second")), plugin="same", watch=WATCH, version="7")
    _, (notice,) = train(tmp_path)
    assert "plugin 'same' (deepclust-second 7) did not extend the training" in notice
    assert "'same:Watch'" in notice
    assert watched(tmp_path) == {"first"}


def test_what_a_hook_draws_changes_no_bit(install, tmp_path):
    def weights(folder):
        trainer, _ = train(folder)
        return torch.rand(3), trainer.iteration

    torch.manual_seed(0)
    before = weights(tmp_path / "before")[0]
    install("deepclust-drawing", hook("import torch", "torch.rand(5)", add("drawn")), watch=WATCH)
    torch.manual_seed(0)
    assert torch.equal(weights(tmp_path / "after")[0], before)


PARTS = {
    "step": ("def __call__(self, trainer):\n        if trainer.iteration == 2: {}", 2),
    "start": ("def initialize(self, trainer):\n        {}", 0),
    "end": ("def finish(self, trainer):\n        {}", 3),
    "close": ("def close(self, trainer):\n        {}", 3),
    "trigger": ("@property\n    def trigger(self):\n        def when(trainer): {}\n        return when", 1),
    "state": ("def state_dict(self):\n        {}", 1),
}


@pytest.mark.parametrize("part", PARTS)
def test_an_extension_that_raises_is_named(install, tmp_path, part):
    code, at = PARTS[part]
    module = (
        "from deepclust.core.engine.extensions import Extension\n\n"
        "class Watch(Extension):\n    " + code.format("raise LookupError('oh\\nno.')")
    )
    install("deepclust-bad", hook("trainer.extend(Watch())"), watch=module, version="0.9")
    with pytest.raises(PluginFailed) as caught:
        train(tmp_path)
    assert isinstance(caught.value.__cause__, LookupError)
    assert str(caught.value) == (
        "encoder/train: the extension 'Watch' of plugin 'bad' (deepclust-bad 0.9) failed at iteration "
        f"{at}: LookupError: oh no. Without the plugin (DEEPCLUST_BLOCK=bad) the same command goes on."
    )


def test_one_that_fails_to_close_keeps_no_other_from_it(install, tmp_path):
    module = (
        WATCH + "    def close(self, trainer):\n        (trainer.out / self.called).touch()\n        1 / 0\n"
    )
    install("deepclust-bad", hook(add("one"), "trainer.extend(Watch('two'), name='two')"), watch=module)
    with pytest.raises(PluginFailed):
        train(tmp_path)
    assert (tmp_path / "train/one").exists()
    assert (tmp_path / "train/two").exists()


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ("None", "gives a dict, not NoneType"),
        ("{'a': [1, {2}]}", "state['a'][1] is a set"),
        ("{'a': {'b': __import__('numpy').float64(1)}}", "state['a']['b'] is a float64"),
    ],
)
def test_a_state_that_no_snapshot_can_give_back_is_refused_when_it_is_written(install, tmp_path, state, what):
    changed = WATCH.replace('{"count": self.count}', state)
    install("deepclust-bad", hook(add("bad")), watch=changed)
    with pytest.raises(PluginFailed, match=re.escape(what)):
        train(tmp_path)


def test_the_command_says_it_keeps_the_traceback_and_goes_on(install, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    code = (
        "if trainer.name == 'encoder/finetune': trainer.extend(lambda t: 1 / (3 - t.iteration), name='fall')"
    )
    install("deepclust-falling", hook(code), watch=WATCH)
    run = [
        "run", "--data", tmp_path / "x.npy", "--clusters", 3, "--encoder", "sdae", "--clusterer", "kmeans",
        "--evaluator", "clustering", "--out", tmp_path / "run", "-s", "encoder.hidden=8",
        "-s", "encoder.layer_epochs=1", "-s", "encoder.epochs=2",
    ]  # fmt: skip
    last = deepclust(*run, code=1).output.splitlines()[-1]
    assert last.startswith(
        "Error: encoder/finetune: the extension 'fall' of plugin 'falling' (deepclust-falling 1.2) failed at "
        "iteration 3: ZeroDivisionError: "
    )
    log = Path(re.search(r"The traceback is in '([^']+)'\.$", last)[1])
    text = log.read_text()
    log.unlink()
    assert "ZeroDivisionError" in text
    assert "Traceback (most recent call last)" in text
    monkeypatch.setenv(BLOCK, "falling")
    installed.cache_clear()
    assert "encoder/finetune" in deepclust(*run).output
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
