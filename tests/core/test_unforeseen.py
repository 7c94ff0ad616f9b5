"""An error that nobody foresaw, from a plugin say, is one sentence and a file with the traceback."""

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deepclust.cli import main
from made_command import deepclust

COMMAND = """
@hookimpl
def deepclust_add_commands(cli):
    import click

    @cli.command("fall")
    @click.argument("kind")
    def fall(kind):
        if kind == "usage":
            raise click.UsageError("not so")
        raise {"value": ValueError("the moon\\nis full"), "none": KeyError()}[kind]
"""


@pytest.fixture
def falling(install):
    install("deepclust-falling", COMMAND)
    main._extended = False
    yield
    main.commands.pop("fall")
    main._extended = False


def test_it_is_a_sentence_and_a_file(falling):
    said = deepclust("fall", "value", code=1).output
    assert said.startswith("Error: what nobody foresaw, ValueError: the moon is full (in '")
    assert len(said.splitlines()) == 1
    log = Path(re.search(r"traceback is in '([^']+)'", said)[1])
    text = log.read_text()
    log.unlink()
    assert text.startswith("deepclust")
    assert "Traceback (most recent call last)" in text
    assert text.endswith("ValueError: the moon\nis full\n")


def test_debug_shows_it_and_clicks_own_errors_stay(falling):
    result = CliRunner().invoke(main, ["--debug", "fall", "value"])
    assert isinstance(result.exception, ValueError)
    assert "not so" in deepclust("fall", "usage", code=2).output
    assert isinstance(main, click.Group)
