"""The cells of a table as values (N, D), and the words for what was made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core import InvalidData
from .column import find
from .date import days
from .number import MISSING
from .sheet import Sheet

SHOWN = 8  # columns in a line
Encoding = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Encoded:
    """Rows (N, D) float64 of a table, before they are standardised.

    filled, empty, unknown: by column how many cells were filled with the median, are in no category,
    hold a text that the training had not. gaps: by the value's position the rows that were filled.
    """

    rows: np.ndarray
    encoding: Encoding
    filled: Mapping[str, int] = field(default_factory=dict)
    empty: Mapping[str, int] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    gaps: Mapping[int, np.ndarray] = field(default_factory=dict)


def names(encoding: Encoding) -> list[str]:
    """What the values are called: after their column, one of a category after its text as well."""
    found: list[str] = []
    for name, how in encoding.items():
        if how["kind"] == "category":
            found += [f"{name}={value}" for value in how["values"]]
        elif how["kind"] != "name":
            found.append(name)
    return found


def scales(encoding: Encoding) -> np.ndarray:
    """What the values of texts are divided by, NaN for those that the data decide: numbers and dates.  # (D,)

    The K values of a category, of which one is 1, are divided by sqrt(1 - 1/K), which is the root of
    their variances' sum where all K are as frequent: two rows then differ by as much in it, in the
    mean square, as in a standardised number. Where they are not, it weighs less, and no rare one more.
    Yes and no are one value, divided by its deviation where both are as frequent, 1/2.
    """
    found: list[float] = []
    for how in encoding.values():
        if how["kind"] == "category":
            found += [math.sqrt(1 - 1 / len(how["values"]))] * len(how["values"])
        elif how["kind"] != "name":
            found.append(0.5 if how["kind"] == "boolean" else math.nan)
    return np.array(found)


def encode(
    sheet: Sheet, encoding: Encoding, numbers: np.ndarray, texts: Mapping[str, Sequence[str]]
) -> Encoded:
    """The values of a table's cells.

    numbers: (N, number of columns of the kind ``number``), NaN where missing; may be overwritten.
    texts: the cells of the other columns. A missing number or date becomes ``fill``, by default the
    median of the others, which the returned encoding holds. A text that is no category is 0 in all of
    them, one that is neither yes nor no is half of each.
    Raises InvalidData with line and column for a cell that is no date.
    """
    full: dict[str, dict[str, Any]] = {name: dict(how) for name, how in encoding.items()}
    dim = len(names(encoding))
    rows = numbers if numbers.shape[1] == dim else np.zeros((len(numbers), dim))
    filled: dict[str, int] = {}
    empty: dict[str, int] = {}
    unknown: dict[str, int] = {}
    where: dict[int, np.ndarray] = {}
    at = number = 0
    for name, how in full.items():
        if how["kind"] == "name":
            continue
        if how["kind"] in ("number", "date"):
            if how["kind"] == "number":
                column = numbers[:, number]
                number += 1
            else:
                column = _days(sheet, name, texts[name], how["form"])
            gaps = np.isnan(column)
            if "fill" not in how:
                with np.errstate(over="ignore"):  # what is as large is refused later
                    how["fill"] = float(np.median(column[~gaps]))
            if count := int(gaps.sum()):
                filled[name], where[at] = count, np.flatnonzero(gaps)
            rows[:, at] = np.where(gaps, how["fill"], column)
            at += 1
            continue
        cells = [cell.strip() for cell in texts[name]]
        if how["kind"] == "boolean":
            codes = {value: code for code, value in enumerate(how["values"])}
            column = np.array([codes.get(cell.lower(), 0.5) for cell in cells])
            strange = [cell for cell, code in zip(cells, column, strict=True) if code == 0.5]
            missing = sum(cell.lower() in MISSING for cell in strange)
            rows[:, at] = column
            at += 1
        else:
            codes = {value: code for code, value in enumerate(how["values"])}
            places = np.array([codes.get(cell, -1) for cell in cells])
            known = np.flatnonzero(places >= 0)
            rows[known, at + places[known]] = 1
            strange = [cell for cell, code in zip(cells, places, strict=True) if code < 0]
            missing = sum(not cell for cell in strange)
            at += len(codes)
        for counts, count in ((empty, missing), (unknown, len(strange) - missing)):
            if count:
                counts[name] = count
    return Encoded(rows, full, filled, empty, unknown, where)


def _days(sheet: Sheet, name: str, cells: Sequence[str], form: str) -> np.ndarray:
    found = [math.nan if cell.strip().lower() in MISSING else days(cell, form) for cell in cells]
    if None in found:
        line, cell = find(
            sheet, sheet.header.index(name), lambda c: c.lower() not in MISSING and days(c, form) is None
        )
        raise InvalidData(
            f"{sheet.at(line)}, column '{name}': '{cell[:40]}' is no date written as in training ({form})."
        )
    return np.array(found, np.float64)


def describe(encoded: Encoded, left: Mapping[str, str]) -> list[str]:
    """A line for each kind of column there is. left: the columns that are left out, and why."""

    def gaps(name: str) -> str:
        if name in encoded.filled:
            return f" ({_cells(encoded.filled[name], 'empty')} filled with the median)"
        return f" ({_cells(encoded.empty[name], 'empty')})" if name in encoded.empty else ""

    by_kind: dict[str, list[str]] = {}
    for name, how in encoded.encoding.items():
        more = gaps(name)
        if how["kind"] == "category":
            more = f" ({len(how['values'])}{', ' + more[2:-1] if more else ''})"
        by_kind.setdefault(how["kind"], []).append(name + more)
    words = {
        "number": "numbers", "category": "categories", "boolean": "yes or no", "date": "dates",
        "name": "the rows are named by",
    }  # fmt: skip
    lines = [f"{word}: {_listed(by_kind[kind])}" for kind, word in words.items() if kind in by_kind]
    if left:
        lines.append(left_out(left))
    return lines


def left_out(left: Mapping[str, str]) -> str:
    """The columns that are left out, and why."""
    return f"left out: {_listed([f'{name} ({reason})' for name, reason in left.items()])}"


def missed(encoded: Encoded) -> list[str]:
    """Sentences on the cells of new rows that the training had none of."""
    said = []
    if encoded.filled:
        said.append(f"empty cells were filled with the medians of the training: {_counts(encoded.filled)}")
    if encoded.unknown:
        said.append(f"texts that the training had not count as no category: {_counts(encoded.unknown)}")
    return said


def _counts(counts: Mapping[str, int]) -> str:
    return _listed([f"{name} ({count:,})" for name, count in counts.items()])


def _cells(count: int, what: str) -> str:
    return f"{count:,} {what} cell{'s' if count > 1 else ''}"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - SHOWN:,} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
