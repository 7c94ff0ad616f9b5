"""The page of a comparison: one HTML file, readable on a phone, in the dark and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...core.files import write_text
from .table import BEST, CLOSE, ILL, Table, text_of
from .trial import Trial

SIGNS = {BEST: "★", CLOSE: "≈", "": ""}
REPORT = "report.html"  # what an evaluator may have left in a run's folder

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison: {{ record.data.description }}</title>
<style>
:root { color-scheme: light dark; --line: #d5d5d5; --soft: #666; --best: #e3f1e3; --bad: #a02020; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --soft: #a5a5a5; --best: #1d3a22; --bad: #ff9a90; }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 75rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th, td { white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
@media (max-width: 40rem) { th, td { padding: .3rem .45rem; } tbody th { white-space: normal; } }
thead th { vertical-align: bottom; }
tbody th { font-weight: normal; }
td.best { background: var(--best); font-weight: bold; }
.state { color: var(--bad); }
td.reason { text-align: left; white-space: normal; }
ul { padding-left: 1.2rem; margin: .25rem 0; }
.legend, .reasons { max-width: 50rem; }
details { margin: .5rem 0; }
pre { overflow-x: auto; font-size: .85rem; }
</style>
</head>
<body>
<h1>Comparison of {{ table.rows | length }} pair{{ "" if table.rows | length == 1 else "s" }}</h1>
<p>{{ record.data.description }}, {{ record.request.clusters }} clusters,
seeds {{ record.request.seeds | join(", ") }}</p>
<p class="soft">{{ record.machine.device }}, {{ record.request.precision }};
{{ finished }} of {{ table.trials | length }} run{{ "" if table.trials | length == 1 else "s" }} finished</p>

{% macro score(row, column) %}
{% set cell = row.cells.get(column) %}
{% if cell %}<td{% if cell.mark == "best" %} class="best"{% endif %}>
{%- if row.unhealthy %}<span class="state" title="with unhealthy runs">{{ ill }}</span> {% endif -%}
{% if cell.mark %}<span title="{{ meaning[cell.mark] }}">{{ signs[cell.mark] }}</span> {% endif -%}
{{ text(column, cell) }}
{%- if cell.n != row.finished %} <span class="soft">(n={{ cell.n }})</span>{% endif %}</td>
{% else %}<td>–</td>{% endif %}
{% endmacro %}
{% macro scores(columns) %}
<div class="wide"><table>
<thead><tr><th scope="col">pair</th><th scope="col">runs</th>
{% for column in columns %}<th scope="col">{{ column | replace("_", " ") }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><th scope="row">{{ row.pair | join(" + ") }}</th>
{% if row.impossible %}
<td class="reason state" colspan="{{ columns | length + 1 }}">not possible, see below</td>
{% else %}<td>{{ row.finished }} of {{ row.trials | length }}</td>
{% for column in columns %}{{ score(row, column) }}{% endfor %}{% endif %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}

<h2>Scores</h2>
{{ scores(first) }}
<div class="legend soft">{% for line in legend %}<p>{{ line }}</p>{% endfor %}</div>

{% if ills %}
<h2 class="state">{{ table.verdict }}</h2>
<ul class="reasons">
{% for row, why in ills %}<li><b>{{ row.pair | join(" + ") }}</b>, {{ why }}</li>{% endfor %}
</ul>
{% endif %}

{% if reasons %}
<h2>Not possible or failed</h2>
<ul class="reasons">
{% for row, reason in reasons %}<li><b>{{ row.pair | join(" + ") }}</b>
<span class="state">{{ row.state }}</span>: {{ reason }}</li>{% endfor %}
</ul>
{% endif %}

{% if notices %}
<h2>Notices</h2>
<ul class="reasons">
{% for row, notice in notices %}<li><b>{{ row.pair | join(" + ") }}</b>, {{ notice }}</li>{% endfor %}
</ul>
{% endif %}

{% if rest %}<h2>Further scores</h2>
{{ scores(rest) }}
{% endif %}

<h2>Runs</h2>
<div class="wide"><table>
<thead><tr><th scope="col">pair</th><th scope="col">seed</th>
{% for column in run_columns %}<th scope="col">{{ column | replace("_", " ") }}</th>{% endfor %}
<th scope="col">state</th><th scope="col">look at</th></tr></thead>
<tbody>
{% for trial in table.trials %}
<tr><th scope="row">{{ trial.pair | join(" + ") }}</th><td>{{ trial.seed }}</td>
{% for column in run_columns %}<td>{{ number(trial, column) }}</td>{% endfor %}
<td{% if trial.state != "finished" or trial.ills %} class="state"{% endif %}>{{ trial.state }}
{{- ", unhealthy" if trial.ills }}</td>
<td>{% for name, address in links(trial) %}<a href="{{ address }}">{{ name }}</a> {% endfor %}</td></tr>
{% endfor %}
</tbody></table></div>

<h2>Settings</h2>
{% for kind, components in record.request.settings.items() %}{% for name, values in components.items() %}
<details><summary>{{ kind }} {{ name }}</summary>
<pre>{% for key, value in values.items() %}{{ key }} = {{ value }}
{% else %}no settings{% endfor %}</pre></details>
{% endfor %}{% endfor %}
<details><summary>data, versions, command</summary>
<pre>{% for part in ("data", "versions", "machine") %}{% for key, value in record[part].items() %}
{{- key }} = {{ value }}
{% endfor %}{% endfor %}epochs_scale = {{ record.request.epochs_scale }}
started = {{ record.started }}
deepclust {{ command }}</pre></details>
</body>
</html>
"""


def write_page(path: Path, record: Mapping[str, Any], table: Table) -> None:
    """Write the page of a comparison, whose links are relative to its folder.

    record: what compare.json holds.
    """
    import shlex

    from jinja2 import Environment, StrictUndefined

    def links(trial: Trial) -> list[tuple[str, str]]:
        there = [("report", trial.folder / REPORT), ("folder", trial.folder)]
        return [
            (name, quote(target.relative_to(path.parent).as_posix()))
            for name, target in there
            if target.exists()
        ]

    shown = ["accuracy", "nmi", "ari", "silhouette", "stability", "seconds"]
    first = [
        c for c in shown if c in table.columns and not (c == "silhouette" and "accuracy" in table.columns)
    ]
    meaning = {BEST: "the best mean", CLOSE: "not distinguishable from the best"}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(PAGE).render(
        record=record,
        table=table,
        finished=sum(t.state == "finished" for t in table.trials),
        first=first,
        rest=[c for c in table.columns if c not in first],
        run_columns=[c for c in first if c != "stability"],
        legend=table.legend(table.columns, SIGNS),
        reasons=[(row, reason) for row in table.rows for reason in row.reasons],
        ills=[(row, why) for row in table.rows for why in row.ills],
        notices=[(row, remark) for row in table.rows for remark in row.remarks],
        ill=ILL,
        signs=SIGNS,
        meaning=meaning,
        text=text_of,
        number=_number,
        links=links,
        command=shlex.join(record["command"]),
    )
    write_text(path, text)


def _number(trial: Trial, column: str) -> str:
    value = trial.scores.get(column)
    if value is None:
        return "–"
    return f"{value:.1f}" if column.endswith("seconds") else f"{value:.4f}"
