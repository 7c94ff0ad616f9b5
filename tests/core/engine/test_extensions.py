"""What comes with the engine: log, learning rates, snapshots, progress; and failures that they catch."""

import math

import pytest
import torch
from torch import nn

from deepclust.core import Data
from deepclust.core.engine import Batches, Trainer, Updater, checkpoint, make_optimizer
from deepclust.core.engine.extensions import (
    EDITOR,
    BestSnapshot,
    ConsoleProgress,
    Extension,
    LearningRate,
    Log,
    Snapshot,
    cosine,
    steps,
)
from deepclust.core.errors import TrainingFailed
from made_training import log_of


def make(out, stop, factor=lambda iteration: 1.0, *, weightless=False) -> Trainer:
    """Least squares whose loss is multiplied by ``factor`` of the iteration (or gets it added)."""
    torch.manual_seed(0)
    data = Data(torch.randn(40, 4), "toy")
    model = nn.Linear(4, 4)

    def loss(batch):
        error = (model(batch.x) - batch.x).square().mean()
        wanted = factor(trainer.iteration)
        return error + (wanted - 1) if weightless else error * wanted

    updater = Updater(Batches(data, 4, seed=0), model, torch.optim.SGD(model.parameters(), 0.1), loss)
    trainer = Trainer(updater, stop, out)
    return trainer


def test_log_lines_hold_the_means_of_their_own_interval(tmp_path):
    trainer, losses = make(tmp_path, (25, "iteration")), []
    inner = trainer.updater.loss

    def recorded(batch):
        value = inner(batch)
        losses.append(float(value.detach()))
        return value

    trainer.updater.loss = recorded
    trainer.extend(Log())
    trainer.run()
    assert [line["iteration"] for line in log_of(tmp_path)] == [10, 20, 25]  # the rest has its line, too
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2, 2.5]
    for line, start, stop in zip(log_of(tmp_path), (0, 10, 20), (10, 20, 25), strict=True):
        assert line["loss"] == pytest.approx(sum(losses[start:stop]) / (stop - start), rel=1e-9)
        assert line["lr"] == 0.1


def test_a_log_that_ends_on_its_interval_has_no_line_twice(tmp_path):
    trainer = make(tmp_path, (2, "epoch"))
    trainer.extend(Log())
    trainer.run()
    assert [line["iteration"] for line in log_of(tmp_path)] == [10, 20]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (cosine(), lambda i: (1 + math.cos(math.pi * i / 20)) / 2),
        (cosine(warmup=4), lambda i: (i + 1) / 4 if i < 4 else (1 + math.cos(math.pi * (i - 4) / 16)) / 2),
        (steps(6), lambda i: 0.1 ** (i // 6)),
        (steps(6, gamma=0.5), lambda i: 0.5 ** (i // 6)),
    ],
)
def test_each_step_uses_the_rate_of_its_place(tmp_path, schedule, expected):
    trainer, used = make(tmp_path, (20, "iteration")), []
    inner = trainer.updater.step
    (group,) = trainer.updater.optimizers[""].param_groups

    def step(batch):
        used.append(group["lr"])
        inner(batch)

    trainer.updater.step = step
    trainer.extend(LearningRate(schedule))
    trainer.run()
    assert used == pytest.approx([0.1 * expected(i) for i in range(20)])


def test_cosine_needs_a_limit(tmp_path):
    trainer = make(tmp_path, lambda t: t.iteration == 3)
    trainer.extend(LearningRate(cosine()))
    with pytest.raises(ValueError, match="limit"):
        trainer.run()


def test_a_loss_that_becomes_nan_names_the_last_good_snapshot(tmp_path):
    trainer = make(tmp_path, (30, "iteration"), lambda i: math.nan if i >= 13 else 1.0)
    trainer.extend(Log())
    trainer.extend(Snapshot())
    with pytest.raises(TrainingFailed, match=str(tmp_path / "snapshot.pt")) as caught:
        trainer.run()
    assert "iteration 14" in str(caught.value)
    state = checkpoint.load(tmp_path / "snapshot.pt")
    assert state["updater"]["iteration"] == 13
    assert all(torch.isfinite(w).all() for w in state["updater"]["models"][""].values())


def test_a_loss_that_is_nan_with_finite_weights_is_never_snapshotted(tmp_path):
    def broken(out):
        trainer = make(out, (30, "iteration"), lambda i: math.nan if i == 13 else 1.0, weightless=True)
        trainer.extend(Log())
        trainer.extend(Snapshot())
        return trainer

    with pytest.raises(TrainingFailed, match="loss is nan at iteration 14"):
        broken(tmp_path).run()
    assert checkpoint.load(tmp_path / "snapshot.pt")["updater"]["iteration"] == 13
    healthy = make(tmp_path, (30, "iteration"))
    healthy.extend(Log())
    healthy.extend(Snapshot())
    assert healthy.resume()
    healthy.run()  # the good snapshot carries nothing of the failure
    assert all(math.isfinite(line["loss"]) for line in log_of(tmp_path))


def test_the_log_alone_stops_a_training_that_is_not_finite(tmp_path):
    trainer = make(tmp_path, (30, "iteration"), lambda i: math.inf if i == 3 else 1.0)
    trainer.extend(Log())
    with pytest.raises(TrainingFailed, match="there is no snapshot yet"):
        trainer.run()
    assert trainer.iteration == 10
    assert not (tmp_path / "log.jsonl").read_text()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_never_snapshotted(tmp_path, bad):
    trainer = make(tmp_path, (30, "iteration"))
    model = trainer.updater.models[""]
    model.register_buffer("unused", torch.zeros(3))

    def poison(trainer):
        if trainer.iteration == 7:
            model.unused[1] = bad

    trainer.extend(poison, priority=EDITOR)
    trainer.extend(Snapshot())
    with pytest.raises(TrainingFailed, match="weight 'unused' is not finite at iteration 7"):
        trainer.run()
    assert checkpoint.load(tmp_path / "snapshot.pt")["updater"]["iteration"] == 6


def test_snapshots_keep_their_distance_but_the_end_is_written(tmp_path):
    trainer, there = make(tmp_path, (5, "iteration")), []
    trainer.extend(Snapshot(seconds=1e6))
    trainer.extend(lambda t: there.append((tmp_path / "snapshot.pt").exists()), name="look", priority=99)
    trainer.run()
    assert there == [False] * 5
    assert checkpoint.load(tmp_path / "snapshot.pt")["finished"] is True


@pytest.mark.parametrize(("mode", "best"), [("min", 20), ("max", 40)])
def test_best_snapshot_keeps_and_restores_the_best_line(tmp_path, mode, best):
    added = (0.0, -10.0, 0.0, 10.0, 0.0)  # in each epoch
    trainer, weights = make(tmp_path, (5, "epoch"), lambda i: 1 + added[i // 10], weightless=True), {}
    trainer.extend(
        lambda t: weights.update({t.iteration: t.updater.models[""].weight.detach().clone()}), name="keep"
    )
    trainer.extend(Log())
    trainer.extend(BestSnapshot("loss", mode, restore=True))
    trainer.extend(Snapshot())
    trainer.run()
    assert checkpoint.load(tmp_path / "best.pt")["iteration"] == best
    assert torch.equal(trainer.updater.models[""].weight, weights[best])
    finished = checkpoint.load(tmp_path / "snapshot.pt")
    assert torch.equal(finished["updater"]["models"][""]["weight"], weights[best])


def test_an_extension_lives_from_initialize_to_close_and_keeps_its_state(tmp_path):
    class Counter(Extension):
        trigger = (2, "iteration")

        def __init__(self):
            self.events, self.count = [], 0

        def initialize(self, trainer):
            self.events.append("initialize")

        def __call__(self, trainer):
            self.count += 1

        def finish(self, trainer):
            self.events.append("finish")

        def close(self, trainer):
            self.events.append("close")

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    def fail(trainer):
        if trainer.iteration == 7:
            raise RuntimeError("on purpose")

    first, second = Counter(), Counter()
    trainer = make(tmp_path, (10, "iteration"))
    trainer.extend(first)
    trainer.extend(Snapshot())
    trainer.extend(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.run()
    assert (first.events, first.count) == (["initialize", "close"], 3)
    trainer = make(tmp_path, (10, "iteration"))
    trainer.extend(second)
    trainer.extend(Snapshot())
    trainer.resume()
    trainer.run()
    assert (second.events, second.count) == (["initialize", "finish", "close"], 5)


def test_progress_prints_one_line_at_the_end_where_there_is_no_terminal(tmp_path, capsys):
    trainer = make(tmp_path / "stage", (10, "iteration"))
    trainer.extend(Log())
    trainer.extend(ConsoleProgress(called={"loss": "error"}))
    trainer.run()
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    for part in ("stage: 10 iterations", "(10 iterations)", ", error "):
        assert part in line
    assert "lr" not in line
    assert "lr" in (tmp_path / "stage/log.jsonl").read_text()


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimisers_train_what_wants_a_gradient_and_nothing_else(name):
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    optimizer = make_optimizer(name, layer.parameters(), 0.1)
    layer(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before["weight"])
    assert torch.equal(layer.bias, before["bias"])


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="there is adam, adamw and sgd"):
        make_optimizer("lion", nn.Linear(1, 1).parameters(), 0.1)
