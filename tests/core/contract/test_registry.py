"""Third-party plugins, as pip would install them: the good are equals, the broken harm no one else."""

import json

import click
import pytest

import deepclust
from deepclust.core.contract.component import KINDS, Component
from deepclust.core.contract.registry import BLOCK, Registry
from deepclust.core.errors import BrokenPlugin, UnknownName

GOOD = """
@hookimpl
def deepclust_encoders():
    yield Component("mine", "MODULE.model:Mine", "what it does", paper="Me 2026")
"""
FIRST_PARTY = {(e.kind, e.component.name) for e in Registry().entries() if e.distribution == "deepclust"}


def offered(registry):
    return {(e.kind, e.component.name) for e in registry.entries()}


def test_a_good_plugin_is_listed_with_its_source(install):
    install("deepclust-mine", GOOD, version="3.1.4")
    registry = Registry()
    entry = registry.find("encoder", "mine")
    assert (entry.plugin, entry.distribution, entry.version) == ("mine", "deepclust-mine", "3.1.4")
    assert entry.component.paper == "Me 2026"
    assert offered(registry) - {("encoder", "mine")} >= FIRST_PARTY
    assert not [f for f in registry.failures if f.plugin == "mine"]


def test_every_kind_can_be_offered_by_one_plugin(install):
    hooks = "\n".join(
        f"@hookimpl\ndef deepclust_{k}s():\n    return [Component('new-{k}', 'a:B', '')]" for k in KINDS
    )
    install("deepclust-many", hooks)
    registry = Registry()
    assert offered(registry) >= {(k, f"new-{k}") for k in KINDS} | FIRST_PARTY
    for kind in KINDS:
        assert {e.kind for e in registry.entries(kind)} == {kind}
        names = [e.component.name for e in registry.entries(kind)]
        assert names == sorted(names)


BROKEN = {
    "raises on import": ("1 / 0", "ZeroDivisionError: division by zero"),
    "imports what is not there": ("import no_such_module_anywhere", "no_such_module_anywhere"),
    "is no Python": ("def", "SyntaxError"),
    "leaves": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "misspells a hook": ("@hookimpl\ndef deepclust_encoder():\n    return ()", "deepclust_encoder"),
    "takes another argument": ("@hookimpl\ndef deepclust_encoders(config):\n    return ()", "config"),
    "yields something else": ("@hookimpl\ndef deepclust_encoders():\n    yield 'mine'", "'mine'"),
    "returns nothing": ("@hookimpl\ndef deepclust_encoders():\n    pass", "NoneType"),
    "raises in a hook": ("@hookimpl\ndef deepclust_datasets():\n    raise KeyError('oh')", "oh"),
    "names against the rules": (
        "@hookimpl\ndef deepclust_encoders():\n    yield Component('My Net', 'a:B', '')",
        "My Net",
    ),
    "gives no target": ("@hookimpl\ndef deepclust_encoders():\n    yield Component('net', 'a.B', '')", "a.B"),
    "forgets the mark": ("def deepclust_datasets():\n    return ()", "deepclust_datasets lacks @hookimpl"),
    "leaves in a hook": ("@hookimpl\ndef deepclust_encoders():\n    raise SystemExit", "SystemExit"),
}
ALSO_GOOD = """
@hookimpl
def deepclust_add_commands(cli):
    cli.command("of-the-broken")(lambda: None)

@hookimpl
def deepclust_clusterers():
    yield Component("of-the-broken", "a:B", "")
"""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_and_offers_nothing(install, case):
    code, reason = BROKEN[case]
    install("deepclust-broken", ALSO_GOOD + code, plugin="aaa-broken")
    install("deepclust-mine", GOOD)
    registry = Registry()
    failures = [f for f in registry.failures if f.distribution == "deepclust-broken"]
    assert [f.plugin for f in failures] == ["aaa-broken"]
    assert reason in failures[0].reason
    assert "\n" not in failures[0].reason
    assert offered(registry) >= {("encoder", "mine")} | FIRST_PARTY
    assert ("clusterer", "of-the-broken") not in offered(registry)
    registry.add_commands(commands := click.Group())
    assert set(commands.commands) == {"compare", "evaluate", "export", "predict"}
    with pytest.raises(UnknownName, match="aaa-broken"):
        registry.find("encoder", "nothing-like-it")


def test_a_plugin_whose_command_raises_is_a_failure(install):
    install("deepclust-bad", "@hookimpl\ndef deepclust_add_commands(cli):\n    raise RuntimeError('no')")
    install(
        "deepclust-good", "@hookimpl\ndef deepclust_add_commands(cli):\n    cli.command('hello')(lambda: 0)"
    )
    registry, commands = Registry(), click.Group()
    registry.add_commands(commands)
    assert "hello" in commands.commands
    assert [(f.plugin, f.reason) for f in registry.failures if f.plugin == "bad"] == [
        ("bad", "RuntimeError: no")
    ]


def test_a_plugin_without_a_hook_is_a_failure(install):
    install("deepclust-empty", "def deepclust_my_encoders():\n    return ()")
    assert [f.reason for f in Registry().failures if f.plugin == "empty"] == [
        "TypeError: it has none of the hooks, which are deepclust_add_commands, deepclust_clusterers, "
        "deepclust_counters, deepclust_datasets, deepclust_encoders, deepclust_evaluators, "
        "deepclust_extend_trainer, deepclust_recipes"
    ]


def test_a_block_of_what_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv(BLOCK, "kmeens, report")
    registry = Registry()
    assert [(f.plugin, f.reason) for f in registry.failures] == [
        ("kmeens", "DEEPCLUST_BLOCK names it, but no plugin and no distribution of plugins is called so")
    ]
    assert ("evaluator", "report") not in offered(registry)


@pytest.mark.parametrize("name", ["run", "predict"])
def test_a_plugin_replaces_no_command(install, name):
    install(
        "deepclust-bold", f"@hookimpl\ndef deepclust_add_commands(cli):\n    cli.command('{name}')(lambda: 0)"
    )
    registry, group = Registry(), click.Group()
    group.add_command(ours := click.Command("run"))
    registry.add_commands(group)
    assert group.commands["run"] is ours
    assert group.commands["predict"].callback.__module__ == "deepclust.plugins.predict.command"
    assert [(f.plugin, f.reason) for f in registry.failures] == [
        ("bold", f"there is a command '{name}' already, which it must not replace")
    ]


@pytest.mark.parametrize("plugins", [("one", "two"), ("same", "same"), ("kmeans", "kmeans")])
def test_two_of_the_same_name_are_both_named_and_one_can_be_blocked(install, monkeypatch, plugins):
    for distribution, plugin in zip(("deepclust-one", "deepclust-two"), plugins, strict=True):
        install(distribution, GOOD, plugin=plugin)
    with pytest.raises(BrokenPlugin, match=BLOCK) as caught:
        Registry().find("encoder", "mine")
    for name in (*plugins, "deepclust-one", "deepclust-two"):
        assert name in str(caught.value)
    blocked = "deepclust-two" if plugins[0] == plugins[1] else "two"
    assert blocked in str(caught.value).partition(BLOCK)[2]
    for value in (blocked, f"other, {blocked}"):
        monkeypatch.setenv(BLOCK, value)
        registry = Registry()
        assert registry.find("encoder", "mine").distribution == "deepclust-one"
        assert offered(registry) >= FIRST_PARTY


def test_a_third_party_can_stand_in_for_a_first_party_plugin(install, monkeypatch):
    install("deepclust-mykmeans", GOOD.replace("encoder", "clusterer").replace("mine", "kmeans"))
    with pytest.raises(BrokenPlugin, match="kmeans.*deepclust-mykmeans"):
        Registry().find("clusterer", "kmeans")
    monkeypatch.setenv(BLOCK, "kmeans")
    assert Registry().find("clusterer", "kmeans").distribution == "deepclust-mykmeans"


def test_names_are_looked_up_by_kind_and_the_nearest_is_suggested():
    registry = Registry()
    with pytest.raises(UnknownName, match=r"no clusterer 'kmean'; did you mean 'kmeans'\?.*dec"):
        registry.find("clusterer", "kmean")
    with pytest.raises(UnknownName, match="no encoder 'kmeans'.*deepclust list"):
        registry.find("encoder", "kmeans")


TARGETS = {
    "not a subclass": ("MODULE.model:Plain", "is not a subclass of deepclust.core.Encoder"),
    "another kind": ("deepclust.plugins.kmeans.model:KMeans", "is not a subclass of deepclust.core.Encoder"),
    "not a class": ("MODULE.model:function", "is not a subclass of deepclust.core.Encoder"),
    "no such attribute": ("MODULE.model:Missing", "cannot be imported: AttributeError"),
    "no such module": ("MODULE.nowhere:Mine", "cannot be imported: ModuleNotFoundError"),
    "raises on import": ("MODULE.raises:Mine", "cannot be imported: ZeroDivisionError"),
    "leaves on import": ("MODULE.leaves:Mine", "cannot be imported: SystemExit"),
}


@pytest.mark.parametrize("case", TARGETS)
def test_a_class_that_cannot_be_loaded_is_its_plugins_fault(install, case):
    target, reason = TARGETS[case]
    install(
        "deepclust-mine",
        GOOD.replace("MODULE.model:Mine", target),
        model="class Plain: pass\ndef function(): pass",
        raises="1 / 0",
        leaves="raise SystemExit(0)",
    )
    with pytest.raises(BrokenPlugin) as caught:
        Registry().load("encoder", "mine")
    assert reason in str(caught.value)
    assert "plugin 'mine'" in str(caught.value)


@pytest.mark.parametrize("name", ["", "Mine", "my_net", "-a", "a-", "a--b", "ä", "a\n"])
def test_component_names_are_lower_case_words(name):
    with pytest.raises(ValueError, match="component name"):
        Component(name, "a:B", "")


MODEL = """
from collections.abc import Iterator
from dataclasses import dataclass
import numpy as np
import torch
from deepclust.core import Data, Dataset, Encoder, setting, truth_of

@dataclass(frozen=True)
class MineConfig:
    gain: float = setting(1.0, "factor on the samples", low=0)

class Mine(Encoder):
    Config = MineConfig
    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.latent_dim = 3
        self.weight = torch.nn.Parameter(config.gain * torch.eye(3))
    def fit(self, data, run):
        try:
            data.truth
        except Exception as error:
            (run.folder.parent / "seen.txt").write_text(type(error).__name__)
        return self
    def forward(self, x):
        return x.flatten(1) @ self.weight

class Corners(Dataset):
    Config = dataclass(frozen=True)(type("CornersConfig", (), {}))
    n_clusters = 3
    def load(self, place):
        labels = np.arange(60) % 3
        x = torch.eye(3)[labels] + 0.01 * torch.arange(180).reshape(60, 3).sin()
        return Data(x, "corners", revealed=truth_of(labels, ["left", "right", "top"]))
"""
OFFERS = """
@hookimpl
def deepclust_datasets():
    yield Component("corners", "MODULE.model:Corners", "three corners")

@hookimpl
def deepclust_extend_trainer(trainer):
    raise AssertionError("nothing here trains")
"""


def test_a_third_partys_encoder_and_data_run(install, tmp_path):
    install("deepclust-mine", GOOD + OFFERS, version="0.7", model=MODEL)
    from deepclust.core import Storage

    request = deepclust.Request(
        encoder="mine", clusterer="kmeans", data="corners", device="cpu", precision="float32",
        evaluators=("clustering",),
        settings={"encoder": {"gain": "2.5"}},
    )  # fmt: skip
    out = tmp_path / "run"
    outcome = deepclust.run(request, Storage(tmp_path), out, quiet=True, registry=Registry())
    assert outcome.scores["clustering"]["accuracy"] == 1
    assert (out / "seen.txt").read_text() == "LabelsHidden"
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["versions"]["plugins"]["mine"] == "deepclust-mine 0.7"
    assert record["request"]["encoder"] == {"name": "mine", "settings": {"gain": 2.5}}
    rows = [line.split(",") for line in (out / "labels.csv").read_text().splitlines()]
    assert rows[0] == ["index", "cluster", "confidence", "distance", "second", "truth"]
    assert [row[5] for row in rows[1:4]] == ["left", "right", "top"]
    assert len({(row[1], row[5]) for row in rows[1:]}) == 3
