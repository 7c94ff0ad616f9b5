"""Settings: from `key=value` text, TOML or JSON to a frozen dataclass, typed and checked."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import BrokenPlugin, DeepclustError, InvalidSetting, UnknownName, unknown
from .part import Part

if typing.TYPE_CHECKING:
    from .registry import Registry

T = TypeVar("T")
OLD = "_settings"  # the end of what a part's settings were called when its name was a setting alone


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    training: bool = False,
    inherited: bool = True,
) -> Any:
    """A field of a component's ``Config``: its default, one line of help, and its inclusive range.

    training: whether it is of a data set and has no effect on new data for a model.
    inherited: False for a data set's setting that new data for a model do not take over from the run: it
    says which data are read (a split, a file of labels), or the preparation holds what it made.
    """
    metadata = {"help": help, "low": low, "high": high, "training": training, "inherited": inherited}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Setting:
    """One setting of a component as ``deepclust info`` shows it."""

    name: str
    type: str
    default: Any
    help: str


def describe(config: type[Any]) -> list[Setting]:
    """The settings of a ``Config``: its own in their order, then those of the classes that it inherits."""
    hints = typing.get_type_hints(config)
    line = [base for base in config.__mro__ if dataclasses.is_dataclass(base)]

    def generations(name: str) -> int:
        return sum(name in {f.name for f in dataclasses.fields(base)} for base in line)

    fields = sorted(dataclasses.fields(config), key=lambda f: generations(f.name))
    return [
        Setting(
            f.name,
            " | ".join((*f.metadata["own"], f.metadata["kind"])) if _is_part(f) else type_name(hints[f.name]),
            f.default.name if _is_part(f) else None if f.default is dataclasses.MISSING else f.default,
            f.metadata.get("help", ""),
        )
        for f in fields
    ]


def _is_part(field: dataclasses.Field[Any]) -> bool:
    """Whether a field is one that ``part`` made."""
    return "kind" in field.metadata


def parts(config: type[Any]) -> dict[str, str]:
    """The settings of a ``Config`` that name another component, with its kind."""
    return {f.name: f.metadata["kind"] for f in dataclasses.fields(config) if _is_part(f)}


def presets(config: type[Any]) -> Mapping[str, Mapping[str, Any]]:
    """The named bundles of settings that a ``Config`` keeps in its class variable ``PRESETS``."""
    found: Mapping[str, Mapping[str, Any]] = getattr(config, "PRESETS", {})
    return found


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by names alone: the table of a part as ``backbone``, its name, and ``backbone.width``.

    Where both are there, ``backbone.width`` wins over the table. A part's settings may also be called
    ``backbone_settings``, as they were before parts were one setting.
    """
    found: dict[str, Any] = {}
    for key, value in sorted(values.items(), key=lambda item: "." in item[0]):
        outer, dot, inner = key.partition(".")
        if dot:
            key = f"{outer.removesuffix(OLD)}.{inner}"
        if not isinstance(value, Mapping):
            found[key] = value
            continue
        for name, setting in flat(value).items():
            found[key.removesuffix(OLD) + ("" if name == "name" else f".{name}")] = setting
    return found


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by names alone, each layer's over those before it; a part that is named begins anew."""
    found: dict[str, Any] = {}
    for layer in map(flat, layers):
        found = {k: v for k, v in found.items() if not any(k.startswith(f"{name}.") for name in layer)}
        found |= layer
    return found


def build(config: type[T], values: Mapping[str, Any], part: str, registry: Registry | None = None) -> T:
    """An instance of ``config`` from values that are text or already typed.

    values: settings by name; ``preset`` names one of the Config's ``PRESETS``, which stand between
    the defaults and the other values. part: the name that the settings go by, for messages. registry: where
    the components are that settings name; by default that of what is installed.

    Raises UnknownName for a setting, preset or component that does not exist, InvalidSetting for a value of
    the wrong type or outside its range, BrokenPlugin for a component that cannot be used.
    """
    fields = {f.name: f for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(config)
    bundles = presets(config)
    given = flat(values)
    if bundles and "preset" in given:
        name = str(given.pop("preset"))
        if name not in bundles:
            raise unknown(f"preset of {part}", name, bundles)
        given = layered(bundles[name], given)
    chosen: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {name: {} for name in parts(config)}
    known = [*fields, "preset"] if bundles else list(fields)
    for key, value in values.items():
        if isinstance(value, Mapping) and key in fields and key not in inner:
            convert(value, hints[key], f"{part}.{key}")  # no setting but a part is a table
    for key, value in given.items():
        outer, dot, rest = key.partition(".")
        if outer in inner:
            inner[outer][rest if dot else ""] = value
        elif key in fields:
            chosen[key] = convert(value, hints[key], f"{part}.{key}")
        else:
            raise unknown("setting", f"{part}.{key}", [f"{part}.{name}" for name in known])
    for key, value in chosen.items():
        low, high = fields[key].metadata.get("low"), fields[key].metadata.get("high")
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                _check_range(number, low, high, f"{part}.{key}")
    for key, settings in inner.items():
        chosen[key] = _build_part(fields[key], settings, f"{part}.{key}", registry)
    return config(**chosen)


def _build_part(
    field: dataclasses.Field[Any], settings: dict[str, Any], where: str, registry: Registry | None
) -> Part:
    """The component that a field names, with its ``settings``; "" in them is its name."""
    kind, own = field.metadata["kind"], field.metadata["own"]
    name = settings.pop("", field.default.name)
    if not isinstance(name, str):
        raise InvalidSetting(f"{where} is '{name}', but it must be the name of {_article(kind)}.")
    if name in own:
        if settings:
            raise InvalidSetting(
                f"{where}.{next(iter(settings))} has no effect on {where}={name}, which has no settings of "
                f"its own; name {_article(kind)} with {where}=NAME."
            )
        return Part(kind, name)
    if registry is None:
        from .registry import installed

        registry = installed()
    try:
        registry.find(kind, name)
    except UnknownName as error:
        also = f" {where} may also be {', '.join(own)}." if own else ""
        raise UnknownName(f"{where}: {error}{also}") from error
    made = registry.part(kind, name, settings, where)
    if hasattr(made.config, "name"):
        raise BrokenPlugin(
            f"{where}: {kind} '{name}' has a setting 'name', which a part cannot have: it is what names it."
        )
    return made


def _check_range(number: float, low: float | None, high: float | None, name: str) -> None:
    if (low is not None and number < low) or (high is not None and number > high):
        if low is not None and high is not None:
            bounds = f"from {low} to {high}"
        else:
            bounds = f"{low} or more" if low is not None else f"{high} or less"
        raise InvalidSetting(f"{name} is {number}, but it must be {bounds}.")


def convert(value: Any, hint: Any, name: str) -> Any:
    """``value`` as the type ``hint``: text is parsed, a value of a file must already fit.

    Raises InvalidSetting where it does not.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and (value is None or value in ("none", "None", "")):
            return None
        return _convert_to_one(value, hint, [a for a in arguments if a is not type(None)], name)
    if origin is Literal:
        for choice in arguments:
            if value == choice or value == str(choice):
                return choice
        choices = ", ".join(map(str, arguments))
        raise InvalidSetting(f"{name} is '{value}', but it must be one of: {choices}.")
    if origin is tuple:
        items = [i.strip() for i in value.split(",") if i.strip()] if isinstance(value, str) else value
        if isinstance(items, (list, tuple)):
            return tuple(convert(item, arguments[0], name) for item in items)
    elif hint is bool:
        text = str(value).lower()
        if text in ("true", "yes", "on", "1"):
            return True
        if text in ("false", "no", "off", "0"):
            return False
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            try:
                return int(value.replace("_", ""))
            except ValueError:
                pass
    elif hint is float:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                pass
            else:
                if math.isfinite(number):
                    return number
                raise InvalidSetting(f"{name} is '{value}', but it must be a finite number.")
    elif hint is str:
        if isinstance(value, str):
            return value
    else:
        raise BrokenPlugin(
            f"{name} is a setting of type {type_name(hint)}, which there are none of; there are int, float, "
            "bool, str, Literal, tuple[int, ...], X | None, and Part."
        )
    raise InvalidSetting(f"{name} is '{value}', but it must be {_article(type_name(hint))}.")


def _convert_to_one(value: Any, hint: Any, choices: list[Any], name: str) -> Any:
    """``value`` as the first of several types that it fits."""
    if len(choices) == 1:
        return convert(value, choices[0], name)
    for choice in choices:
        with contextlib.suppress(InvalidSetting):
            return convert(value, choice, name)
    raise InvalidSetting(f"{name} is '{value}', but it must be {_article(type_name(hint))}.")


def type_name(hint: Any) -> str:
    """How a setting's type is shown to users."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = " or ".join(type_name(a) for a in arguments if a is not type(None))
        return f"{inner} or none" if type(None) in arguments else inner
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple:
        return f"list of {type_name(arguments[0])}"
    return {int: "integer", float: "number", bool: "true | false", str: "text"}.get(hint, str(hint))


def _article(name: str) -> str:
    if name == "true | false":
        return "true or false"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def parse_assignments(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``["encoder.epochs=50"]`` as ``{"encoder": {"epochs": "50"}}``.

    Raises InvalidSetting for text of another form.
    """
    parts: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        part, dot, name = key.strip().partition(".")
        if not (equals and dot and part and name):
            raise InvalidSetting(
                f"the setting '{text}' is not of the form part.key=value, for example encoder.batch_size=128."
            )
        parts.setdefault(part, {})[name] = value.strip()
    return parts


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises DeepclustError where it is not there or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeepclustError(f"the file '{path}' cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeepclustError(f"the file '{path}' is not valid TOML: {error}.") from error


def of_training(config: type[Any], names: Iterable[str]) -> list[str]:
    """Those of the settings ``names`` that have no effect on new data for a model."""
    fields = {f.name: f for f in dataclasses.fields(config)}
    return [name for name in names if name in fields and fields[name].metadata.get("training")]


def inherited(config: type[Any], names: Iterable[str]) -> list[str]:
    """Those of a data set's settings ``names`` that belong to a model; ``path`` never does."""
    own = {f.name for f in dataclasses.fields(config) if not f.metadata.get("inherited", True)}
    return [name for name in names if name not in own and name != "path"]


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values: what ``build`` takes again."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def renewed(config: type[Any], recorded: Mapping[str, Any], registry: Registry) -> Mapping[str, Any]:
    """What ``to_dict`` gave before a part's name and settings were one setting, as it gives them now.

    As it was where it is not of that time, or cannot be read any more.
    """
    old = [name for name in parts(config) if not isinstance(recorded.get(name, {}), Mapping)]
    of_parts = {k: v for k, v in flat(recorded).items() if k.partition(".")[0] in old}
    try:
        built = to_dict(build(config, of_parts, "part", registry))
    except DeepclustError:
        return recorded
    kept = {k: v for k, v in recorded.items() if k.removesuffix(OLD) not in old}
    return {**kept, **{name: built[name] for name in old}}


def defaults(config: type[Any]) -> dict[str, Any]:
    """What ``to_dict`` says of a ``Config`` that nobody has set; empty where a field has no default."""
    try:
        return to_dict(config())
    except TypeError:
        return {}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.name if value.cls is None else {"name": value.name, **to_dict(value.config)}
    return list(value) if isinstance(value, tuple) else value
