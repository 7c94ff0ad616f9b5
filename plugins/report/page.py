"""The page: what is said of a run, in one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .text import number, percent, printable, setting_text, shorten

PARTS = ("encoder", "clusterer")
LONGEST_SETTING = 400


def render(content: Mapping[str, Any]) -> str:
    """The page of what ``Report`` gathered, as text that can be written as UTF-8."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    environment.filters.update(number=number, percent=percent, shorten=shorten)
    here = files(__package__ or "")
    template = environment.from_string((here / "report.html").read_text(encoding="utf-8"))
    return template.render(css=Markup((here / "report.css").read_text(encoding="utf-8")), **content)


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def settings(record: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The tables of settings and versions: what ``run.json`` holds, by part."""
    request, data = dict(record.get("request", {})), dict(record.get("data", {}))
    tables: list[tuple[str, Mapping[str, Any]]] = []
    for part in PARTS:
        chosen = request.pop(part, {"name": "", "settings": {}})
        tables.append((f"{part} {chosen['name']}", chosen["settings"]))
    evaluators = request.pop("evaluators", [])
    tables.append(("run", {**request, "started": record.get("started")} if request else {}))
    made_with = data.pop("settings", {})
    tables.append(("data", {**data, **made_with}))
    tables += [(f"evaluator {e['name']}", e["settings"]) for e in evaluators]
    versions = dict(record.get("versions", {}))
    plugins = {f"plugin {name}": value for name, value in versions.pop("plugins", {}).items()}
    extended = versions.pop("extended by", {}).items()
    plugins |= {f"plugin {name}, which extended the training": value for name, value in extended}
    tables += [("versions", {**versions, **plugins}), ("machine", record.get("machine", {}))]
    return [
        (title, [(key, shorten(setting_text(value), LONGEST_SETTING)) for key, value in table.items()])
        for title, table in tables
        if table
    ]


def command(record: Mapping[str, Any]) -> str | None:
    """The command line of the run, where it was one."""
    words = record.get("command") or []
    return f"deepclust {shlex.join(words)}" if words and words[0] == "run" else None
