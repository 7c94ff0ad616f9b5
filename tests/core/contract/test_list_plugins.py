"""``deepclust list plugins``, and imports that write where they should not."""

import json
import logging
import subprocess
import sys
import warnings

import pytest

from deepclust.core.contract.registry import BLOCK, Registry, installed
from made_command import deepclust

GOOD = """
@hookimpl
def deepclust_encoders():
    yield Component("mine", "MODULE.model:Mine", "what it does")

@hookimpl
def deepclust_extend_trainer(trainer):
    pass
"""
NOISY = """
import logging, sys, warnings
print("hello\\x1b[31m", "from\\r\\nmine")
out = sys.stdout
sys.stdout.flush()
sys.stdout.reconfigure
warnings.warn("old\\nfashioned")
warnings.simplefilter("ignore")
logging.basicConfig(level=logging.DEBUG)
logging.disable(logging.CRITICAL)
"""
MODEL = """
print("heavy")
from dataclasses import dataclass
from deepclust.core import Encoder, setting

@dataclass(frozen=True)
class MineConfig:
    gain: float = setting(1.0, "a factor\\n\\x1b[2Jon it")

class Mine(Encoder):
    Config = MineConfig
    def fit(self, data, run):
        return self
    def forward(self, x):
        return x
"""


def listed(*more: str) -> dict:
    return json.loads(deepclust("list", "plugins", "--json", *more).output)


def entry(plugins: list[dict], name: str) -> dict:
    (found,) = (p for p in plugins if p["plugin"] == name)
    return found


def test_every_plugin_is_there_with_its_hooks_and_how_long_it_took(install):
    install("deepclust-mine", GOOD, version="3.1")
    plugins = listed()["plugins"]
    assert {p["plugin"] for p in plugins} == {"mine"} | {p.plugin for p in Registry().plugins}
    mine = entry(plugins, "mine")
    assert (mine["distribution"], mine["version"], mine["state"]) == ("deepclust-mine", "3.1", "loaded")
    assert mine["hooks"] == ["deepclust_encoders", "deepclust_extend_trainer"]
    assert mine["import_ms"] > 0
    assert mine["remarks"] == mine["reasons"] == []
    for plugin in plugins:
        assert plugin["state"] == "loaded"
        assert plugin["hooks"]
    shown = deepclust("list", "plugin").output
    (line,) = (line for line in shown.splitlines() if " mine " in line)
    assert line.split()[:4] == ["mine", "deepclust-mine", "3.1", "loaded"]
    assert line.rstrip().endswith("encoders, extend_trainer")


def test_blocked_and_broken_ones_are_listed_with_the_reason(install, monkeypatch):
    install("deepclust-mine", GOOD)
    install("deepclust-bad", "1 / 0", version="0.1")
    install("deepclust-bold", "@hookimpl\ndef deepclust_add_commands(cli):\n    raise KeyError('no')")
    monkeypatch.setenv(BLOCK, "mine,nobody")
    installed.cache_clear()
    from deepclust.cli import main

    main._extended = False
    found = listed()
    mine, bad, bold = (entry(found["plugins"], name) for name in ("mine", "bad", "bold"))
    assert (mine["state"], mine["hooks"], mine["import_ms"]) == ("blocked", [], None)
    assert (bad["state"], bad["version"]) == ("broken", "0.1")
    assert bad["reasons"] == ["ZeroDivisionError: division by zero"]
    assert (bold["state"], bold["reasons"]) == ("loaded", ["KeyError: 'no'"])
    lines = deepclust("list", "plugins").output.splitlines()
    assert "broken: plugin 'bad' (deepclust-bad 0.1): ZeroDivisionError: division by zero" in lines
    assert "in part: plugin 'bold' (deepclust-bold 1.2): KeyError: 'no'" in lines
    assert any(line.startswith("broken: plugin 'nobody': DEEPCLUST_BLOCK names it") for line in lines)


def test_a_plugin_that_prints_breaks_no_output_and_is_told_on(install, capsys):
    install("deepclust-mine", NOISY + GOOD, model=MODEL)
    filters = list(warnings.filters)
    logged = logging.root.level, list(logging.root.handlers), logging.root.manager.disable
    registry = Registry()
    assert capsys.readouterr() == ("", "")
    assert warnings.filters == filters
    assert (logging.root.level, logging.root.handlers, logging.root.manager.disable) == logged
    (mine,) = (p for p in registry.plugins if p.plugin == "mine")
    assert mine.state == "loaded"
    assert mine.remarks == [
        "printed: hello [31m from mine",
        "warned: UserWarning: old fashioned",
        "set up logging for the whole process, which was undone",
    ]
    module = sys.modules[registry.find("encoder", "mine").component.target.partition(".")[0]]
    module.out.write("later")  # a handler that kept it
    registry.load("encoder", "mine")
    assert capsys.readouterr() == ("", "laterheavy\n")


def test_the_commands_output_is_its_own(install, monkeypatch):
    install("deepclust-mine", NOISY + GOOD, model=MODEL)
    code = f"import sys; sys.path[:0] = {sys.path!r}; from deepclust.cli import main; main()"

    def said(*arguments):
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    done = said("list", "--json")
    assert "mine" in {c["name"] for c in json.loads(done.stdout)["components"]}
    assert done.stderr == ""
    note = "note: plugin 'mine' (deepclust-mine 1.2): when imported it printed: hello [31m from mine"
    assert note in said("list", "plugins").stdout
    done = said("info", "mine")
    assert done.stdout.startswith("mine: encoder of plugin mine (deepclust-mine 1.2)\n")
    assert done.stderr == "heavy\n"


@pytest.mark.parametrize(
    "text", ["two\nlines", "a\rb", "\x1b[2Jclear", "bell\x07", "\u202eback", "wide\u2028gap"]
)
def test_what_plugins_say_of_themselves_stays_in_one_line(install, text):
    code = f"@hookimpl\ndef deepclust_encoders():\n    yield Component('mine', 'MODULE.model:Mine', {text!r})"
    install("deepclust-mine", code, model=MODEL)
    before = len(deepclust("list", "clusterers").output.splitlines())
    shown = deepclust("list", "encoders").output
    (line,) = (line for line in shown.splitlines() if " mine " in line)
    assert line.rstrip().endswith(" ".join("".join(c if c.isprintable() else " " for c in text).split()))
    assert all(c.isprintable() or c == "\n" for c in shown + deepclust("info", "mine").output)
    assert before == len(deepclust("list", "clusterers").output.splitlines())
