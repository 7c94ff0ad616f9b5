"""Progress, and what is said of it on Ctrl-C."""

import pytest

from deepclust.core import progress as progress_function
from deepclust.core.console import phase, progress


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
