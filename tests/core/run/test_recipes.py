"""Recipes: settings by name, under everything that is given beside them."""

import json
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core import Data, Recipe, hookimpl
from deepclust.core.contract.registry import Registry, installed
from deepclust.core.errors import BrokenPlugin, InvalidSetting, UnknownName
from deepclust.core.run.plan import request_from, resolve
from deepclust.core.run.recipe import about, apply

FILE = """
[recipe]
summary = "for tests"
source = "nobody 2026"
[run]
data = "digits"
encoder = "sdae"
clusterer = "dec"
clusters = 7
evaluators = ["clustering", "report"]
[encoder]
hidden = [9, 8]
epochs = 3
[clusterer]
tol = 0.25
[report]
map_samples = 321
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    return Recipe("mine", path)


def asked(recipe, tables=None, assignments=None, **options):
    """The request that `run` would make of these, resolved."""
    merged = apply(recipe, tables or {}, options)
    return resolve(request_from(merged, {**options, "settings": assignments or {}}), installed())


def test_a_recipe_alone_is_its_settings(recipe):
    plan = asked(recipe)
    assert plan.request.encoder == "sdae"
    assert plan.clusters == 7
    assert plan.encoder.config.hidden == (9, 8)
    assert plan.clusterer.config.tol == 0.25
    assert [e.config for e in plan.evaluators][1].map_samples == 321


def test_file_and_options_win_each_over_what_is_below_it(recipe):
    tables = {"run": {"clusters": 5, "seed": 3}, "encoder": {"epochs": 4}, "clusterer": {"tol": 0.5}}
    plan = asked(recipe, tables, {"clusterer": {"tol": "0.75"}}, clusters="6")
    assert plan.clusters == 6
    assert plan.request.seed == 3
    assert (plan.encoder.config.hidden, plan.encoder.config.epochs) == ((9, 8), 4)
    assert plan.clusterer.config.tol == 0.75


@pytest.mark.parametrize("where", ["option", "file"])
def test_settings_of_what_is_replaced_are_dropped(recipe, where):
    other = {"clusterer": "kmeans", "evaluators": ("clustering",)}
    plan = asked(recipe, **other) if where == "option" else asked(recipe, {"run": other})
    assert plan.request.clusterer == "kmeans"
    assert plan.encoder.config.hidden == (9, 8), "what stays keeps its settings"
    assert [e.entry.component.name for e in plan.evaluators] == ["clustering"]


def test_a_recipe_that_is_no_table_of_tables_is_one_sentence(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text("encoder = 'sdae'\n")
    with pytest.raises(InvalidSetting, match="'encoder' is not a table"):
        apply(Recipe("odd", path), {}, {})


def test_names_are_checked_and_found():
    with pytest.raises(ValueError, match="recipe name 'My Photos'"):
        Recipe("My Photos", Path("x"))
    with pytest.raises(UnknownName, match="did you mean 'sdae-dec-mnist'"):
        installed().recipe("sdae-dec-mnst")


def plugin(monkeypatch, name, recipe):
    module = types.ModuleType(name)

    @hookimpl
    def deepclust_recipes():
        yield recipe

    module.deepclust_recipes = deepclust_recipes
    monkeypatch.setitem(sys.modules, name, module)
    return EntryPoint(name, name, "deepclust")


def test_third_parties_offer_recipes_and_two_of_one_name_are_named(monkeypatch, recipe):
    one, two = plugin(monkeypatch, "one", recipe), plugin(monkeypatch, "two", recipe)
    assert Registry([one]).recipe("mine") is recipe
    assert [e.plugin for e in Registry([one]).recipes()] == ["one"]
    with pytest.raises(BrokenPlugin, match="recipe 'mine' is offered by .*one.*two"):
        Registry([one, two]).recipe("mine")
    wrong = Registry([plugin(monkeypatch, "wrong", "mine.toml")])
    assert "not a Recipe" in wrong.failures[0].reason


@pytest.mark.parametrize("entry", installed().recipes(), ids=lambda e: e.recipe.name)
def test_each_shipped_recipe_says_what_it_is_and_can_be_run(entry):
    said = about(entry.recipe)
    assert said["summary"]
    assert said["source"]
    plan = asked(entry.recipe)
    assert plan.clusters is not None
    assert plan.request.encoder in entry.recipe.name or plan.request.data in entry.recipe.name
    shape = (3, 32, 32) if plan.request.data == "cifar10" else (1, 28, 28)
    encoder = plan.encoder.cls(plan.encoder.config, shape)
    clusterer = plan.clusterer.cls(plan.clusterer.config, 10, encoder.latent_dim)
    clusterer.check(encoder, Data(torch.zeros(1, *shape), "one image"))  # raises where the two do not fit


def command(*arguments):
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def test_the_command_lists_shows_and_runs_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "sdae-dec-mnist" in command("list", "recipes").output
    assert "sdae-dec-mnist" in command("list").output
    listed = json.loads(command("list", "recipe", "--json").output)
    assert listed["components"] == []
    names = [r["name"] for r in listed["recipes"]]
    assert "sdae-dec-mnist" in names
    assert json.loads(command("list", "encoder", "--json").output)["recipes"] == []
    assert 'encoder = "sdae"' in command("info", "sdae-dec-mnist").output
    wrong = command("run", "--recipe", "sdae-dec-mnst")
    assert wrong.exit_code == 2
    assert "did you mean 'sdae-dec-mnist'" in wrong.output
    missing = command("run", "--recipe", "sdae-dec-mnist", "--data-root", "nowhere")
    assert missing.exit_code == 2
    assert "train-images-idx3-ubyte" in missing.output
    ran = command(
        "run", "--recipe", "sdae-dec-mnist", "--data", "digits", "--evaluator", "clustering", "-q",
        "--epochs-scale", "0.01", "-s", "encoder.hidden=8", "--out", "run", "--device", "cpu",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    request = json.loads(Path("run/run.json").read_text())["request"]
    assert request["encoder"]["settings"]["hidden"] == [8]
    assert request["clusterer"]["settings"]["tol"] == 0.001


def test_evaluators_are_added_to_a_recipes(recipe):
    """Those of a file to the recipe's, those of the command line to both; settings of the kept ones stay."""

    def names(plan):
        return [choice.entry.component.name for choice in plan.evaluators]

    plan = asked(recipe, {"run": {"evaluators": ["+svm"]}}, evaluators=("+anomaly",))
    assert names(plan) == ["clustering", "svm", "anomaly", "report"]
    assert plan.evaluators[-1].config.map_samples == 321
    assert names(asked(recipe, evaluators=("+svm",))) == ["clustering", "svm", "report"]
    assert names(asked(recipe, {"run": {"evaluators": ["svm"]}}, evaluators=("+anomaly",))) == [
        "svm",
        "anomaly",
    ]
    assert names(asked(recipe, {"run": {"evaluators": ["+svm"]}}, evaluators=("clustering",))) == [
        "clustering"
    ]
