"""Components within components: one setting names them and sets them up, before anything is trained."""

import copy
import json
import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from deepclust.core import Part, Run, part, setting
from deepclust.core.contract import config as configs
from deepclust.core.contract.registry import installed
from deepclust.core.errors import BrokenPlugin, InvalidSetting, UnknownName
from deepclust.core.run.bundle import load
from deepclust.core.run.folder import read_record
from deepclust.core.run.plan import request_from, resolve
from deepclust.core.run.recipe import apply
from deepclust.plugins.dec.model import DEC, DECConfig
from deepclust.plugins.simclr.model import SimCLRConfig
from deepclust.plugins.umap.model import UMAPConfig
from made_command import deepclust


@dataclass(frozen=True)
class Outer:
    first: Part = part("encoder", "cae", "the first network", own=("mlp",))
    second: Part = part("encoder", "umap", "another")
    width: int = setting(3, "its own", low=1)

    PRESETS: ClassVar = {"small": {"first": {"name": "cae", "hidden": 8, "latent_dim": 4}}}


def build(**values):
    return configs.build(Outer, values, "encoder")


def test_a_part_has_its_class_and_its_settings_typed():
    made = build(**{"first.latent_dim": "7", "second": "sdae", "second.hidden": "8,4"})
    assert (made.first.name, made.first.config.latent_dim) == ("cae", 7)
    assert (made.second.name, made.second.config.hidden) == ("sdae", (8, 4))
    network = made.second.make((6,))
    assert type(network) is installed().load("encoder", "sdae")
    assert network(torch.zeros(2, 6)).shape == (2, network.latent_dim)
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))


def test_tables_dots_and_old_names_say_the_same():
    said = [
        {"first": {"name": "cae", "latent_dim": 7, "hidden": 9}},
        {"first": "cae", "first.latent_dim": "7", "first.hidden": "9"},
        {"first.hidden": "9", "first.latent_dim": "7"},
        {"first": {"latent_dim": 3, "hidden": 9}, "first.latent_dim": "7"},
        {"first": "cae", "first_settings": {"latent_dim": "7", "hidden": 9}},
        {"first_settings.latent_dim": "7", "first_settings.hidden": "9"},
    ]
    for values in said:
        for order in (values, dict(reversed(values.items()))):
            assert build(**order) == build(**said[0])
    deep = {"second": {"name": "umap", "backbone": {"name": "cae", "latent_dim": 5}}}
    assert build(**deep) == build(**{"second.backbone.latent_dim": "5", "second.backbone": "cae"})
    assert build(**deep).second.config.backbone.config.latent_dim == 5


def test_a_name_begins_anew_and_settings_alone_refine():
    assert build(preset="small").first.config.latent_dim == 4
    refined = build(**{"preset": "small", "first.latent_dim": "5"}).first.config
    assert (refined.latent_dim, refined.hidden) == (5, 8)
    usual = build().first.config
    assert build(preset="small", first="cae").first.config == usual
    assert build(preset="small", first="mlp").first == Part("encoder", "mlp")
    over = configs.layered({"first": {"name": "cae", "hidden": 8}}, {"first": "sdae", "first.noise": 0.1})
    assert over == {"first": "sdae", "first.noise": 0.1}
    assert configs.layered({"first": {"name": "cae", "hidden": 8}}, {"first": {"hidden": 9}}) == {
        "first": "cae",
        "first.hidden": 9,
    }


@pytest.mark.parametrize("values", [{}, {"preset": "small"}, {"first": "mlp", "second": "vae", "width": 9}])
def test_what_is_written_is_read_again(values):
    made = build(**values)
    written = configs.to_dict(made)
    assert json.loads(json.dumps(written)) == written
    assert build(**written) == made
    assert configs.renewed(Outer, written, installed()) == written


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        (
            {"first": "sdea"},
            UnknownName,
            "encoder.first: there is no encoder 'sdea'; did you mean 'sdae'.*mlp",
        ),
        ({"second.hiden": "3"}, UnknownName, "'encoder.second.hiden'; did you mean 'encoder.second.hidden'"),
        ({"second.hidden": "wide"}, InvalidSetting, "encoder.second.hidden is 'wide'"),
        ({"second": {"latent_dim": 0}}, InvalidSetting, "encoder.second.latent_dim is 0, .* 1 or more"),
        ({"second.backbone.width": "3"}, InvalidSetting, "encoder.second.backbone.width has no effect on"),
        ({"second.backbone": "nil"}, UnknownName, "encoder.second.backbone: there is no encoder 'nil'"),
        ({"first": 3}, InvalidSetting, "encoder.first is '3', but it must be the name of an encoder"),
        ({"width.x": "3"}, UnknownName, "no setting 'encoder.width.x'"),
        ({"first.preset": "papre"}, UnknownName, "preset of encoder.first 'papre'"),
    ],
)
def test_what_cannot_be_is_named_in_one_sentence(values, error, says):
    with pytest.raises(error, match=says) as caught:
        build(**values)
    assert "\n" not in str(caught.value)


def test_parts_come_from_the_registry_that_was_given(install):
    hook = """
    @hookimpl
    def deepclust_clusterers():
        yield Component("named", "MODULE.model:Named", "has a setting that no part may have")
        yield Component("sorted", "MODULE.model:Sorted", "has no centres")
    """
    model = """
    from dataclasses import dataclass
    from deepclust.core import Clusterer, setting
    @dataclass(frozen=True)
    class Config:
        name: str = setting("a", "b")
    @dataclass(frozen=True)
    class Nothing:
        pass
    class Sorted(Clusterer):
        Config = Nothing
        def fit(self, encoder, data, run):
            return self
        def forward(self, z):
            return z
    class Named(Sorted):
        Config = Config
    """
    from deepclust.core.contract.registry import Registry

    before = Registry()
    install("deepclust-others", hook, model=model)
    with pytest.raises(BrokenPlugin, match="clusterer.init: clusterer 'named' has a setting 'name'"):
        configs.build(DECConfig, {"init": "named"}, "clusterer")
    with pytest.raises(UnknownName, match="clusterer.init: there is no clusterer 'sorted'"):
        configs.build(DECConfig, {"init": "sorted"}, "clusterer", before)
    found = configs.build(DECConfig, {"init": "sorted"}, "clusterer", Registry())
    with pytest.raises(InvalidSetting, match="clusterer.init is 'sorted', which has no centers"):
        DEC(found, 3, 2).check(None, None)


def test_a_config_that_was_made_by_hand_finds_its_parts(tmp_path):
    config = DECConfig()
    assert config.init == Part("clusterer", "kmeans")
    assert config.init.known() == configs.build(DECConfig, {}, "clusterer").init
    assert config.init.make(3, 2).centers.shape == (3, 2)
    assert Run(tmp_path).make("clusterer", "kmeans", 3, 2, n_init=4).config.n_init == 4


def test_info_shows_what_is_named_and_how_it_is_set_up():
    shown = {s.name: (s.type, s.default) for s in configs.describe(UMAPConfig)}
    assert shown["backbone"] == ("mlp | encoder", "mlp")
    assert {s.name: s.default for s in configs.describe(SimCLRConfig)}["backbone"] == "resnet"
    said = deepclust("info", "simclr").output
    assert "encoder.backbone.KEY=VALUE" in said
    assert "backbone=cae, backbone.filters=[32, 64, 128]" in said


def test_files_recipes_and_the_command_line_stand_above_each_other(tmp_path):
    from deepclust.core import Recipe

    (tmp_path / "r.toml").write_text('[encoder]\nbackbone = {name = "cae", latent_dim = 5, hidden = 8}\n')
    tables = {"run": {"encoder": "simclr"}, "encoder": {"backbone": {"hidden": 9}, "epochs": 2}}
    options = {"encoder": "simclr", "clusterer": "kmeans"}
    options |= {"settings": {"encoder": {"backbone.latent_dim": "6"}}}
    recipe = apply(Recipe("r", tmp_path / "r.toml"), {"encoder": tables["encoder"]}, {})
    request = request_from({**tables, **recipe}, options)
    made = resolve(request, installed(), given=True).encoder.config
    kept = made.backbone.config
    assert (made.backbone.name, kept.latent_dim, kept.hidden, made.epochs) == ("cae", 6, 9, 2)


def run(out, *settings, code=0):
    fixed = [
        "--data",
        "x.npy",
        "--encoder",
        "umap",
        "--clusterer",
        "dec",
        "--evaluator",
        "clustering",
        "--clusters",
        "3",
        "-q",
    ]
    words = [word for s in settings for word in ("-s", s)]
    return deepclust("run", *fixed, "--epochs-scale", "0.02", *words, "--out", out, code=code).output


@pytest.fixture
def rows(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(60, 4)) + 9 * (np.arange(60) % 3)[:, None]
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return ["encoder.steps=20", "clusterer.epochs=1"]


def test_a_run_has_the_parts_it_was_asked_for_and_refuses_before_it_writes(tmp_path, rows):
    given = ["encoder.backbone=sdae", "encoder.backbone.hidden=6", "clusterer.init.n_init=2"]
    wrong = ["clusterer.init.n_int=2", "clusterer.init=none", "encoder.backbone.hidden=0"]
    for one in wrong:
        said = run(tmp_path / "out", *rows, *given, one, code=2)
        assert one.partition("=")[0] in said
        assert not (tmp_path / "out").exists()
    run(tmp_path / "out", *rows, *given)
    request = read_record(tmp_path / "out")["request"]
    assert request["encoder"]["settings"]["backbone"]["hidden"] == [6]
    assert request["clusterer"]["settings"]["init"]["n_init"] == 2
    opened = load(tmp_path / "out", torch.device("cpu"))
    assert opened.encoder.backbone.config.hidden == (6,)
    run(tmp_path / "out", *rows, *given)
    said = run(tmp_path / "out", *rows, *given, "clusterer.init.n_init=3", code=2)
    assert "clusterer.init.n_init is 2 there and 3 here" in said


def aged(settings):
    """Settings as they were written when a part was two of them, the second as it was given."""
    old = {k: v for k, v in settings.items() if not isinstance(v, dict)}
    for name, value in settings.items():
        if isinstance(value, dict):
            own = {k: v for k, v in value.items() if k in ("hidden", "latent_dim")}
            old |= {
                name: value["name"],
                f"{name}_settings": {k: str(*v) if k == "hidden" else v for k, v in own.items()},
            }
    return old


def test_models_and_runs_of_before_are_read(tmp_path, rows):
    from safetensors import safe_open
    from safetensors.torch import save_file

    given = [*rows, "encoder.backbone=sdae", "encoder.backbone.hidden=6"]
    run(tmp_path / "out", *given)
    deepclust("predict", tmp_path / "out", tmp_path / "x.npy", "-o", tmp_path / "now.csv")
    record = read_record(tmp_path / "out")
    for part_ in ("encoder", "clusterer"):
        record["request"][part_]["settings"] = aged(record["request"][part_]["settings"])
    assert record["request"]["encoder"]["settings"]["backbone_settings"]["hidden"] == "6"
    assert record["request"]["clusterer"]["settings"]["init"] == "kmeans"
    (tmp_path / "out/run.json").write_text(json.dumps(record))
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        header = json.loads(file.metadata()["deepclust"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for part_ in ("encoder", "clusterer"):
        header[part_]["settings"] = aged(header[part_]["settings"])
    save_file(tensors, tmp_path / "out/model.safetensors", {"deepclust": json.dumps(header)})
    deepclust("predict", tmp_path / "out", tmp_path / "x.npy", "-o", tmp_path / "then.csv")
    assert (tmp_path / "now.csv").read_text() == (tmp_path / "then.csv").read_text()
    run(tmp_path / "out", *given)  # it is known again
    assert "encoder.backbone.hidden is [6] there and [7] here" in run(
        tmp_path / "out", *given, "encoder.backbone_settings.hidden=7", code=2
    )


def test_a_comparison_of_before_goes_on(tmp_path, rows):
    words = ["--encoder", "umap", "--clusterer", "dec", "--seeds", "1", "--clusters", "3", "--data", "x.npy"]
    words += [word for s in ("umap.steps=20", "dec.epochs=1", "dec.init.n_init=2") for word in ("-s", s)]
    words += ["--evaluator", "clustering", "-q", "--out", tmp_path / "c", "--epochs-scale", "0.1"]
    deepclust("compare", *words)
    record = json.loads((tmp_path / "c/compare.json").read_text())
    settings = record["request"]["settings"]
    settings["clusterer"]["dec"] |= {"init": "kmeans", "init_settings": {"n_init": "2"}}
    (tmp_path / "c/compare.json").write_text(json.dumps(record))
    deepclust("compare", *words)
    with pytest.raises(AssertionError, match="n_init"):
        deepclust("compare", *words, "-s", "dec.init.n_init=3")


def test_a_part_that_the_data_choose_is_checked_once_they_are_known(tmp_path):
    common = ["run", "--encoder", "simclr", "--clusterer", "kmeans", "--epochs-scale", "0.01", "-q"]
    common += ["--out", tmp_path / "out", "-s", "encoder.epochs=1", "--evaluator", "clustering"]
    said = deepclust(*common, "-s", "encoder.backbone.latnt_dim=4", code=2).output
    assert "'encoder.backbone.latnt_dim'; did you mean 'encoder.backbone.latent_dim'" in said
    assert not (tmp_path / "out").exists()
    deepclust(*common, "-s", "encoder.backbone.latent_dim=4", "-s", "encoder.backbone.filters=2")
    backbone = read_record(tmp_path / "out")["request"]["encoder"]["settings"]["backbone"]
    assert (backbone["name"], backbone["latent_dim"], backbone["hidden"]) == ("cae", 4, 256)
