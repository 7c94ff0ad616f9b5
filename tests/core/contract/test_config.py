"""Settings: what text, TOML and JSON become, what is refused, and which source wins."""

import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from deepclust.core import setting
from deepclust.core.contract import config as configs
from deepclust.core.contract.registry import installed
from deepclust.core.errors import DeepclustError, InvalidSetting, UnknownName
from deepclust.core.run.plan import request_from


@dataclass(frozen=True)
class Everything:
    count: int = setting(3, "a count", low=1, high=100)
    share: float = setting(0.5, "a share", low=0, high=1)
    flag: bool = setting(False, "a switch")
    word: str = setting("plain", "a word")
    kind: Literal["a", "b"] = setting("a", "one of two")
    depth: Literal[18, 50] = setting(18, "one of two numbers")
    widths: tuple[int, ...] = setting((5, 6), "some widths", low=1)
    words: tuple[str, ...] = setting((), "some words")
    maybe: float | None = setting(None, "a number or none", low=0)
    label: str | None = setting("y", "a word or none")

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {},
        "paper": {"count": 50, "maybe": 0.25, "widths": (7,)},
    }


def test_defaults_are_the_classes_own():
    assert configs.build(Everything, {}, "encoder") == Everything()


@pytest.mark.parametrize(
    ("name", "text", "typed", "expected"),
    [
        ("count", "12", 12, 12),
        ("count", "1_00", 100, 100),
        ("share", "0.25", 0.25, 0.25),
        ("share", "1e-3", 0.001, 0.001),
        ("share", "1", 1, 1.0),
        ("flag", "true", True, True),
        ("flag", "off", False, False),
        ("flag", "Yes", True, True),
        ("word", "", "", ""),
        ("word", "none", "none", "none"),
        ("kind", "b", "b", "b"),
        ("depth", "50", 50, 50),
        ("widths", "1,2,3", [1, 2, 3], (1, 2, 3)),
        ("widths", "4", [4], (4,)),
        ("widths", "", [], ()),
        ("words", "a, b", ["a", "b"], ("a", "b")),
        ("maybe", "none", None, None),
        ("maybe", "0.5", 0.5, 0.5),
        ("label", "none", None, None),
        ("label", "z", "z", "z"),
    ],
)
def test_text_and_typed_values_mean_the_same(name, text, typed, expected):
    from_text = getattr(configs.build(Everything, {name: text}, "encoder"), name)
    from_file = getattr(configs.build(Everything, {name: typed}, "encoder"), name)
    assert from_text == from_file == expected
    assert type(from_text) is type(from_file) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "many"),
        ("count", "1.5"),
        ("count", 1.5),
        ("count", True),
        ("count", [3]),
        ("count", ""),
        ("share", "half"),
        ("share", True),
        ("share", "nan"),
        ("share", "inf"),
        ("share", float("nan")),
        ("share", 10**400),
        ("flag", "maybe"),
        ("flag", 2),
        ("word", 7),
        ("kind", "c"),
        ("kind", 1),
        ("kind", []),
        ("depth", "34"),
        ("widths", "1,x"),
        ("widths", 5),
        ("widths", [1, "x"]),
        ("widths", [[1]]),
        ("words", {"a": 1}),
        ("maybe", "no"),
        ("maybe", {}),
        ("label", 3),
    ],
)
def test_wrong_types_are_refused_by_name(name, value):
    with pytest.raises(InvalidSetting, match=rf"^encoder\.{name} is .*must be"):
        configs.build(Everything, {name: value}, "encoder")


@pytest.mark.parametrize(
    ("name", "edges", "outside"),
    [
        ("count", ("1", "100"), ("0", "101", "-5")),
        ("share", (0, 1), (-0.01, 1.01)),
        ("widths", ([1], "1,9"), ([0], "5,-1")),
        ("maybe", (0, None), (-1, "-0.5")),
    ],
)
def test_ranges_include_their_ends(name, edges, outside):
    for value in edges:
        configs.build(Everything, {name: value}, "encoder")
    for value in outside:
        with pytest.raises(InvalidSetting, match=rf"encoder\.{name} is "):
            configs.build(Everything, {name: value}, "encoder")


def test_presets_stand_between_defaults_and_explicit_values():
    built = configs.build(Everything, {"preset": "paper", "count": "7"}, "encoder")
    assert (built.count, built.maybe, built.widths) == (7, 0.25, (7,))
    assert built.share == Everything().share
    order_swapped = configs.build(Everything, {"count": "7", "preset": "paper"}, "encoder")
    assert order_swapped == built
    assert configs.build(Everything, {"preset": "fast"}, "encoder") == Everything()


def test_unknown_preset_and_setting_suggest_the_nearest():
    with pytest.raises(UnknownName, match="preset of encoder 'papers'; did you mean 'paper'"):
        configs.build(Everything, {"preset": "papers"}, "encoder")
    with pytest.raises(UnknownName, match=r"encoder\.cuont'; did you mean 'encoder\.count'"):
        configs.build(Everything, {"cuont": 1}, "encoder")

    @dataclass(frozen=True)
    class Plain:
        size: int = setting(1, "")

    with pytest.raises(UnknownName, match=r"clusterer\.preset"):
        configs.build(Plain, {"preset": "fast"}, "clusterer")


def _random_values(rng: random.Random) -> dict[str, Any]:
    values = {
        "count": rng.randint(1, 100),
        "share": rng.random(),
        "flag": rng.random() < 0.5,
        "word": rng.choice(["", "a,b", " x ", "ü=1"]),
        "kind": rng.choice("ab"),
        "depth": rng.choice([18, 50]),
        "widths": tuple(rng.randint(1, 9) for _ in range(rng.randint(0, 3))),
        "words": tuple(rng.choice(["", "a,b", "ü"]) for _ in range(rng.randint(0, 3))),
        "maybe": rng.choice([None, rng.random() * 10]),
        "label": rng.choice([None, "y", "other"]),
    }
    return {k: v for k, v in values.items() if rng.random() < 0.7}


def test_a_config_survives_json():
    rng = random.Random(0)
    for _ in range(300):
        config = Everything(**_random_values(rng))
        plain = configs.to_dict(config)
        assert json.loads(json.dumps(plain)) == plain
        assert configs.build(Everything, plain, "encoder") == config


def test_every_installed_default_and_preset_is_valid_and_survives_json():
    for entry in installed().entries():
        cls = installed().load(entry.kind, entry.component.name)
        for preset in [None, *configs.presets(cls.Config)]:
            values = {} if preset is None else {"preset": preset}
            config = configs.build(cls.Config, values, "part")
            assert configs.build(cls.Config, configs.to_dict(config), "part") == config
        for line in configs.describe(cls.Config):
            assert line.help, f"{entry.component.name}.{line.name} has no help"


def test_assignments_are_grouped_by_part():
    parsed = configs.parse_assignments(["encoder.a=1", " encoder.b = x=y ", "data.c=", "encoder.a=2"])
    assert parsed == {"encoder": {"a": "2", "b": "x=y"}, "data": {"c": ""}}


@pytest.mark.parametrize("text", ["", "encoder", "encoder.a", "a=1", ".a=1", "encoder.=1", "=", "."])
def test_assignments_of_another_form_are_refused(text):
    with pytest.raises(InvalidSetting, match=r"not of the form part\.key=value"):
        configs.parse_assignments([text])


def test_toml_that_is_broken_or_missing_names_the_file(tmp_path):
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("[run\nseed = 1")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, reason in [
        (broken, "not valid TOML"),
        (binary, "not valid TOML"),
        (tmp_path / "none.toml", "cannot be read"),
        (tmp_path, "cannot be read"),
    ]:
        with pytest.raises(DeepclustError, match=reason) as caught:
            configs.read_toml(path)
        assert str(path) in str(caught.value)


def test_defaults_then_file_then_options():
    tables = {
        "run": {"encoder": "cae", "seed": 5, "evaluators": ["clustering"], "epochs_scale": 1},
        "encoder": {"epochs": 3, "lr": 0.1},
    }
    options = {"seed": 9, "encoder": None, "settings": {"encoder": {"epochs": "4"}, "data": {"x": "z"}}}
    request = request_from(tables, options)
    assert (request.encoder, request.seed, request.clusterer, request.epochs_scale) == ("cae", 9, "auto", 1.0)
    assert request.evaluators == ("clustering",)
    assert request.settings == {"encoder": {"epochs": "4", "lr": 0.1}, "data": {"x": "z"}}
    assert tables["encoder"] == {"epochs": 3, "lr": 0.1}, "the file's tables are not changed"


def test_the_order_of_sources_for_every_run_value():
    """Each subset of {file, option} that names a value: the option wins, then the file, then the default."""
    values = {"encoder": ("a", "b"), "clusters": (4, 5), "device": ("cpu", "cuda"), "seed": (1, 2)}
    for name, (in_file, in_option) in values.items():
        for file, option in itertools.product([False, True], repeat=2):
            request = request_from(
                {"run": {name: in_file}} if file else {}, {name: in_option if option else None}
            )
            default = getattr(request_from({}, {}), name)
            assert getattr(request, name) == (in_option if option else in_file if file else default)


@pytest.mark.parametrize(
    ("tables", "error"),
    [
        ({"run": {"encodr": "sdae"}}, r"run\.encodr'; did you mean 'run\.encoder'"),
        ({"run": {"seed": "x"}}, r"run\.seed is 'x'"),
        ({"run": {"precision": "float8"}}, "float8"),
        ({"run": 3}, "'run' .*table"),
        ({"encoder": 3}, "'encoder' .*table"),
        ({"seed": 3}, "'seed' .*table"),
    ],
)
def test_wrong_tables_are_refused(tables, error):
    with pytest.raises(DeepclustError, match=error):
        request_from(tables, {})
