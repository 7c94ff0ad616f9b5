"""Progress, and what is said of it on Ctrl-C."""

import pytest

from deepclust.core import progress as progress_function
from deepclust.core.console import phase, progress, tell


def test_one_line_says_what_was_done(capsys):
    with progress("decoding", 1200, "images") as advance:
        for _ in range(12):
            advance(100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("  decoding: 1,200 images, ")
    assert captured.err.count("\n") == 1


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
