"""The loop: batches, triggers, order, reports, stops, exact resumption, interrupts."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deepclust.core import Data
from deepclust.core.engine import Batches, Interval, Limit, Trainer, Updater, report
from deepclust.core.engine.checkpoint import seed_everything
from deepclust.core.engine.extensions import EDITOR, SNAPSHOT, WRITER, LearningRate, Log, Snapshot, cosine
from deepclust.core.engine.reporter import Means
from deepclust.plugins.dec.stop import LabelChange


def toy(n: int = 50, dim: int = 6) -> Data:
    return Data(torch.randn(n, dim, generator=torch.Generator().manual_seed(0)), "toy")


def simple(out: Path, stop, n: int = 50, size: int = 8) -> Trainer:
    """A linear model that learns to reproduce its input."""
    model = nn.Linear(6, 6)
    updater = Updater(
        Batches(toy(n), size, seed=1),
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        lambda batch: (model(batch.x) - batch.x).square().mean(),
    )
    return Trainer(updater, stop, out)


def forgetful(out: Path, stop=(25, "iteration"), snapshot=(1, "iteration")) -> Trainer:
    """A training whose every step depends on random numbers, on Adam's moments and on a schedule."""
    seed_everything(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 6))

    def loss(batch):
        noisy = batch.x + 0.1 * torch.from_numpy(np.random.randn(*batch.x.shape)).float()
        return (model(noisy) - batch.x).square().mean()

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    trainer = Trainer(Updater(Batches(toy(), 8, seed=1), model, optimizer, loss), stop, out)
    trainer.extend(LearningRate(cosine()))
    trainer.extend(Log())
    trainer.extend(Snapshot(), trigger=snapshot)
    return trainer


def log_of(folder: Path) -> list[dict]:
    """The lines of the log without the one value that differs between runs."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_training(a: Trainer, b: Trainer) -> None:
    assert a.iteration == b.iteration
    for (name, x), y in zip(
        a.updater.models[""].state_dict().items(), b.updater.models[""].state_dict().values(), strict=True
    ):
        assert torch.equal(x, y), name
    assert log_of(a.out) == log_of(b.out)


@pytest.mark.parametrize(
    ("n", "size", "epoch"),
    [(50, 8, 7), (48, 8, 6), (49, 8, 6), (5, 8, 1), (1, 8, 1), (9, 8, 1), (4, 1, 4), (3, 2, 1)],
)
def test_an_epoch_is_a_permutation_and_a_rest_of_one_joins(n, size, epoch):
    batches = Batches(toy(n), size, seed=5)
    assert len(batches) == epoch
    for e in range(3):
        parts = [batches[e * epoch + i] for i in range(epoch)]
        assert sorted(torch.cat([b.index for b in parts]).tolist()) == list(range(n))
        assert all(len(b.index) > 1 or n == 1 or size == 1 for b in parts)
        assert all(torch.equal(b.x, toy(n).x[b.index]) for b in parts)


def test_a_batch_is_a_function_of_seed_and_place():
    sequential = [Batches(toy(), 8, seed=5)[i].index for i in range(30)]
    anywhere = Batches(toy(), 8, seed=5)
    for i in [29, 3, 3, 17, 0, 28, 7, 6]:
        assert torch.equal(anywhere[i].index, sequential[i])
    torch.manual_seed(123)  # the global generator has no part in it
    assert torch.equal(Batches(toy(), 8, seed=5)[12].index, sequential[12])


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        batches = Batches(toy(), 50, seed)
        return tuple(batches[epoch].index.tolist())

    assert len({order(seed, epoch) for seed in range(6) for epoch in range(6)}) == 36


def test_batches_keep_the_datas_order_without_shuffling():
    batches = Batches(toy(10), 4, seed=0, shuffle=False)
    first, second, rest = [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]
    assert [batches[i].index.tolist() for i in range(4)] == [first, second, rest, first]


def test_intervals_and_limits_count_iterations_and_epochs(tmp_path):
    trainer = simple(tmp_path, (20, "iteration"))  # an epoch has 7 iterations
    seen = {key: [] for key in ("3 iterations", "2 epochs", "limit")}
    trainer.extend(lambda t: seen["3 iterations"].append(t.iteration), name="a", trigger=(3, "iteration"))
    trainer.extend(lambda t: seen["2 epochs"].append(t.iteration), name="b", trigger=(2, "epoch"))
    trainer.extend(lambda t: seen["limit"].append(t.iteration), name="c", trigger=Limit(18, "iteration"))
    trainer.run()
    assert seen == {"3 iterations": [3, 6, 9, 12, 15, 18], "2 epochs": [14], "limit": [18, 19, 20]}
    assert trainer.iteration == 20
    assert trainer.epoch == 2


@pytest.mark.parametrize(("period", "unit"), [(0, "epoch"), (-1, "iteration"), (1, "second")])
def test_an_interval_that_makes_no_sense_is_refused(period, unit):
    with pytest.raises(ValueError, match="positive number"):
        Interval(period, unit)


def test_extensions_run_by_priority_then_in_the_order_of_addition(tmp_path):
    trainer, calls = simple(tmp_path, (2, "iteration")), []
    for name, priority in [
        ("snapshot", SNAPSHOT),
        ("reader 1", None),
        ("editor", EDITOR),
        ("reader 2", None),
        ("writer", WRITER),
    ]:
        trainer.extend(lambda t, name=name: calls.append(name), name=name, priority=priority)
    trainer.run()
    assert calls == ["writer", "editor", "reader 1", "reader 2", "snapshot"] * 2


def test_what_a_writer_reports_counts_as_the_steps(tmp_path):
    trainer = simple(tmp_path, (4, "iteration"))
    trainer.extend(lambda t: report({"twice": 2.0 * t.iteration}), name="w", priority=WRITER)
    trainer.extend(lambda t: report({"lost": 1.0}), name="r")  # readers come after the step's account
    trainer.run()
    means = trainer.means.read()
    assert means["twice"] == 5.0
    assert "lost" not in means


def test_a_function_is_an_extension_and_its_name_is_taken_once(tmp_path):
    trainer, seen = simple(tmp_path, (3, "iteration")), []

    def look(trainer):
        seen.append(trainer.iteration)

    trainer.extend(look)
    with pytest.raises(ValueError, match="look"):
        trainer.extend(look)
    trainer.extend(look, name="look again", trigger=(2, "iteration"))
    trainer.run()
    assert seen == [1, 2, 2, 3]


def test_reports_carry_the_models_names(tmp_path):
    class Half(nn.Module):
        def __init__(self, out):
            super().__init__()
            self.layer = nn.Linear(6, out)

        def forward(self, x):
            report({"size": float(len(x)), "mean": x.mean()}, self)
            return self.layer(x)

    a, b, stranger = Half(3), Half(3), Half(3)

    def loss(batch):
        stranger(batch.x[:1])
        report({"plain": 7.0})
        return (a(batch.x) - b(batch.x[:, :6])).square().mean()

    slow, fast = torch.optim.SGD(a.parameters(), 0.01), torch.optim.Adam(b.parameters(), 0.02)
    before = [p.detach().clone() for p in (*a.parameters(), *b.parameters())]
    trainer = Trainer(
        Updater(Batches(toy(16), 8, 0), {"a": a, "b": b}, {"slow": slow, "fast": fast}, loss),
        (2, "iteration"),
        tmp_path,
    )
    trainer.extend(Log())
    trainer.run()
    (line,) = log_of(tmp_path)
    assert line["a/size"] == line["b/size"] == 8
    assert line["size"] == 1  # an observer that the updater does not know has no prefix
    assert line["plain"] == 7
    assert (line["slow/lr"], line["fast/lr"]) == (0.01, 0.02)
    assert all(not torch.equal(p, q) for p, q in zip((*a.parameters(), *b.parameters()), before, strict=True))


def test_a_report_outside_a_step_is_nothing(tmp_path):
    report({"x": 1.0})
    trainer = simple(tmp_path, (1, "iteration"))
    trainer.run()
    report({"y": 1.0})
    assert set(trainer.means.read()) == {"loss"}


def test_the_first_of_several_stops_ends_the_training(tmp_path):
    change = LabelChange(0.5)

    def look(trainer):
        change.look(torch.tensor([0, 1, 2, 3]) if trainer.iteration > 4 else torch.tensor([3, 2, 1, 0]))

    trainer = simple(tmp_path, [(3, "epoch"), (12, "iteration"), change])
    assert trainer.total_iterations == 12
    trainer.extend(look, trigger=(4, "iteration"))
    trainer.run()
    # looks at 4, the first; at 8, all labels changed; at 12, none, but the limit is named first
    assert (trainer.iteration, trainer.finished) == (12, True)
    assert trainer.stop_reason == "12 iterations"
    trainer = simple(tmp_path, [(3, "epoch"), change])
    trainer.extend(look, trigger=(4, "iteration"))
    trainer.run()
    assert trainer.iteration == 1  # the change is below 0.5 from the start
    assert "0.000% of the labels" in trainer.stop_reason
    trainer = simple(tmp_path, lambda t: t.iteration == 9)
    assert trainer.total_iterations is None
    trainer.run()
    assert trainer.iteration == 9


def test_label_change_is_the_share_that_changed_and_never_stops_at_the_first_look(tmp_path):
    trainer = simple(tmp_path, (1, "iteration"))
    stop = LabelChange(1.0)
    assert not stop(trainer)
    assert stop.look(torch.tensor([0, 0, 1, 1])) == 1.0
    assert not stop(trainer)
    again = LabelChange(1.0)
    again.load_state_dict(stop.state_dict())
    labels = torch.tensor([0, 2, 1, 1])
    assert again.look(labels) == 0.25
    assert again(trainer)
    labels[:] = 9  # what was looked at is kept as it was
    assert again.look(torch.tensor([0, 2, 1, 0])) == 0.25
    unseen = LabelChange(1.0)
    unseen.load_state_dict(LabelChange(1.0).state_dict())
    assert unseen.look(torch.tensor([0, 1])) == 1.0


def test_means_are_numpys_and_survive_their_state():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 2)).astype(np.float32)
    means = Means()
    for i, (a, b) in enumerate(values):
        if i == 17:
            other = Means()
            other.load_state_dict(means.state_dict(), torch.device("cpu"))
            means = other
        means.add({"a": torch.tensor(a), **({"b": float(b)} if i % 3 == 0 else {})})
    read = means.read()
    np.testing.assert_allclose(read["a"], values[:, 0].astype(np.float64).mean(), rtol=1e-12)
    np.testing.assert_allclose(read["b"], values[::3, 1].astype(np.float64).mean(), rtol=1e-12)
    means.clear()
    assert means.read() == {}


def test_means_do_not_change_what_was_reported():
    value, means = torch.tensor(2.0, dtype=torch.float64), Means()
    means.add({"x": value})
    means.add({"x": value})
    assert value == 2.0
    assert means.read() == {"x": 2.0}


class Crash(Exception):
    pass


def crash_at(iteration: int):
    def crash(trainer):
        if trainer.iteration == iteration:
            raise Crash

    return crash


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("crash", [1, 4, 7, 13, 24, 25])
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, every, crash):
    whole = forgetful(tmp_path / "whole")
    whole.run()
    cut = forgetful(tmp_path / "cut", snapshot=(every, "iteration"))
    cut.extend(crash_at(crash))
    with pytest.raises(Crash):
        cut.run()
    torch.rand(7), np.random.rand(3)  # whatever the process did in between
    resumed = forgetful(tmp_path / "cut", snapshot=(every, "iteration"))
    assert resumed.resume() == (crash > every)
    assert resumed.iteration == (crash - 1) // every * every
    resumed.run()
    assert_same_training(whole, resumed)


def test_a_chain_of_resumptions_ends_with_the_same_bits(tmp_path):
    whole = forgetful(tmp_path / "whole")
    whole.run()
    for crash in (2, 3, 8, 9, 20):
        cut = forgetful(tmp_path / "cut")
        cut.extend(crash_at(crash))
        cut.resume()
        with pytest.raises(Crash):
            cut.run()
    last = forgetful(tmp_path / "cut")
    last.resume()
    last.run()
    assert_same_training(whole, last)


def test_a_schedule_that_acts_once_an_epoch_resumes_exactly(tmp_path):
    def make(name):
        trainer = simple(tmp_path / name, (20, "iteration"))
        trainer.extend(LearningRate(cosine()), trigger=(1, "epoch"))
        trainer.extend(Log(), trigger=(1, "iteration"))
        trainer.extend(Snapshot())
        return trainer

    torch.manual_seed(0)
    whole = make("whole")
    whole.run()
    torch.manual_seed(0)
    cut = make("cut")
    cut.extend(crash_at(10))
    with pytest.raises(Crash):
        cut.run()
    resumed = make("cut")
    resumed.resume()
    resumed.run()
    assert_same_training(whole, resumed)


def test_a_finished_training_is_loaded_and_not_trained_again(tmp_path):
    first = forgetful(tmp_path)
    first.run()
    again = forgetful(tmp_path)
    assert again.resume()
    again.extend(crash_at(again.iteration))
    again.run()
    assert again.finished
    assert again.stop_reason == first.stop_reason == "25 iterations"
    assert_same_training(first, again)


def test_ctrl_c_ends_the_step_writes_a_snapshot_and_resumes_exactly(tmp_path):
    whole = forgetful(tmp_path / "whole")
    whole.run()
    for where in (WRITER, SNAPSHOT + 1):  # before the step's account, and after its snapshot
        folder = tmp_path / f"cut{where}"
        cut = forgetful(folder, snapshot=(1000, "iteration"))

        def interrupt(trainer):
            if trainer.iteration == 11:
                os.kill(os.getpid(), signal.SIGINT)

        cut.extend(interrupt, priority=where)
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            cut.run()
        assert signal.getsignal(signal.SIGINT) is before
        resumed = forgetful(folder)
        assert resumed.resume()
        assert resumed.iteration == cut.iteration in (11, 12)
        resumed.run()
        assert_same_training(whole, resumed)


def test_ctrl_c_at_the_last_moment_is_not_lost(tmp_path):
    trainer = forgetful(tmp_path)
    trainer.extend(
        lambda t: os.kill(os.getpid(), signal.SIGINT), name="late", trigger=(25, "iteration"),
        priority=SNAPSHOT + 1,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again = forgetful(tmp_path)
    assert again.resume()
    assert again.finished


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    trainer = simple(tmp_path, (5, "iteration"))

    def hammer(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one should have ended this")

    trainer.extend(hammer)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
