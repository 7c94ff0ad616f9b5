"""Progress, and what is said of it on Ctrl-C."""

import io
import re
import sys
import time

import pytest
import torch

from deepclust.core import Data
from deepclust.core import progress as progress_function
from deepclust.core.console import phase, progress, tell
from deepclust.core.engine import Batches, Trainer, Updater
from deepclust.core.engine.extensions import ConsoleProgress, Log


def test_one_line_says_what_was_done(capsys):
    with progress("decoding", 1200, "images") as advance:
        for _ in range(12):
            advance(100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("  decoding: 1,200 images, ")
    assert captured.err.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch, columns):
    """Standard error becomes a terminal; returns a function that gives the lines that were drawn there."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", made := Terminal())
    return lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", made.getvalue()).replace("\r", "\n").split("\n")


def test_a_bar_keeps_the_time_that_is_left_at_80_columns(monkeypatch):
    lines = terminal(monkeypatch, 80)
    with progress("counting the clusters", 81200, "clusterings") as advance:
        advance(8000)
        time.sleep(0.6)  # it is drawn four times a second
        advance(8000)
        time.sleep(0.6)
    drawn = [line.rstrip() for line in lines() if "/81200 clusterings" in line]
    assert all(re.search(r"clusterings (\d|-):(\d\d|--):(\d\d|--)$", line) for line in drawn)
    assert any(re.search(r"\d:\d\d:\d\d$", line) for line in drawn)
    assert max(map(len, lines())) <= 80


@pytest.mark.parametrize("columns", [80, 200])
def test_a_training_keeps_the_time_of_the_whole_at_80_columns(tmp_path, monkeypatch, columns):
    lines = terminal(monkeypatch, columns)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batches = Batches(Data(torch.randn(40, 4), "toy"), 10, seed=0)
    updater = Updater(batches, model, optimizer, lambda batch: model(batch.x).square().mean())
    trainer = Trainer(updater, (20, "epoch"), tmp_path, "clusterer/self_labelling")
    trainer.extend(Log())
    trainer.extend(lambda t: time.sleep(0.015), name="slow")
    trainer.extend(ConsoleProgress(later=754.0))
    trainer.run()
    drawn = [line.rstrip() for line in lines() if "left in all" in line]
    assert drawn
    assert all(
        re.search(r"/80 (\d|-):(\d\d|--):(\d\d|--) about \d+:\d\d left in all", line) for line in drawn
    )
    assert any("it/s" in line for line in drawn) == (columns == 200)
    assert max(map(len, drawn)) <= columns


def test_quiet_is_quiet(capsys):
    with progress("decoding", 2, "images", quiet=True) as advance:
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_says_where_it_happened():
    def work():
        with progress("decoding", 10, "images", quiet=True) as advance:
            advance(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="^decoding, at 3 of 10 images$"):
        work()


def test_the_innermost_place_is_the_one_that_is_said():
    with pytest.raises(KeyboardInterrupt, match="^counting, at 0 of 5 tries$"), phase("the whole"):  # noqa: SIM117
        with progress("counting", 5, "tries", quiet=True):
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match="^the whole$"), phase("the whole"):
        raise KeyboardInterrupt


def test_other_errors_pass_as_they_are():
    with pytest.raises(ZeroDivisionError), phase("a"), progress("b", 1, "c", quiet=True):
        raise ZeroDivisionError


def test_plugins_find_it_in_the_core():
    assert progress_function is progress


def test_what_is_unhealthy_is_red_on_a_terminal_and_plain_elsewhere(capsys, monkeypatch):
    lines = ["Note: see [bold]this[/bold]", f"Unhealthy result: {'long ' * 40}end", "1 of 2"]
    said = (["see [bold]this[/bold]"], [f"{'long ' * 40}end"])
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    tell(*said, verdict="1 of 2")
    assert capsys.readouterr() == ("\n".join(lines) + "\n", "")
    tell(*said, verdict="1 of 2", quiet=True)
    assert capsys.readouterr() == ("", "\n".join(lines) + "\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    tell(*said)
    plain, red = capsys.readouterr().out.splitlines()
    assert plain == lines[0]
    assert red == f"\x1b[1;31m{lines[1]}\x1b[0m"
