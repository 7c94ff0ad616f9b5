"""What the columns of a table are: numbers, dates, categories, or what nothing can be learnt from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core import InvalidData
from . import number
from .date import days, forms
from .number import MISSING, NOTATIONS, PLAIN, Notation
from .sheet import Sheet, walk

CATEGORIES = 50  # different texts in a column of categories, at most
ROWS, EMPTY = "names the rows", "is empty in more than half of the rows"
PAIRS = (("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("off", "on"))
_ID = re.compile(r"(?i:(.*[_ -])?(id|uuid|guid))|.*[a-z](Id|ID)")
_EITHER = ({"%d/%m/%Y", "%m/%d/%Y"}, {"%d-%m-%Y", "%m-%d-%Y"})


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are taken as.

    sheet: the table, with the notation of its numbers. kinds: by the column's position how its
    cells become values, as Preparation.encoding keeps it. left: why the others are left out. notices:
    what the user must not miss.
    """

    sheet: Sheet
    kinds: Mapping[int, Mapping[str, Any]]
    left: Mapping[int, str] = field(default_factory=dict)
    notices: Sequence[str] = ()


@dataclass
class _Tally:
    """What stands in a column. limit: how many different texts are told apart."""

    limit: float
    as_text: bool  # whatever they look like
    numbers: dict[int, int] = field(default_factory=dict)  # cells by their readings
    empty: int = 0
    missing: int = 0  # the empty ones among them
    n_texts: int = 0
    texts: set[str] | None = field(default_factory=set)  # until two are equal
    values: dict[str, int] | None = field(default_factory=dict)  # until there are too many
    dates: dict[str, int] = field(default_factory=dict)  # cells by their forms

    def add(self, cell: str) -> None:
        cell = cell.strip()
        self.empty += not cell
        if self.values is not None and cell:
            self.values[cell] = self.values.get(cell, 0) + 1
            if len(self.values) > self.limit:
                self.values = None
        if cell.lower() in MISSING:
            self.missing += 1
            return
        if not self.as_text and (found := number.readings(cell)):
            self.numbers[found] = self.numbers.get(found, 0) + 1
            return
        self.n_texts += 1
        if self.texts is not None:
            if cell in self.texts:
                self.texts = None
            else:
                self.texts.add(cell)
        if not self.as_text:
            for form in forms(cell):
                self.dates[form] = self.dates.get(form, 0) + 1

    @property
    def n_numbers(self) -> int:
        return sum(self.numbers.values())

    @property
    def of_numbers(self) -> bool:
        """Whether numbers are meant: nine tenths of the cells are some, or all but one."""
        return 0 < self.n_numbers >= _most(self.n_numbers + self.n_texts)


def survey(
    sheet: Sheet, columns: Sequence[int], open_: int, *, categories: Collection[int], explicit: bool
) -> Columns:
    """Look at every cell of some columns, and decide what they are.

    open_: the notations that the settings leave open. categories: the columns that the user says are such.
    explicit: whether the user chose the columns, so that all must be used.
    Raises InvalidData with line and column for an odd cell in a column of numbers or dates, and where
    it cannot be told what numbers mean, or a column that was chosen has no use.
    """
    as_text = {*categories} if explicit else {*categories, *named_ids(sheet, columns)}
    n_rows, tallies = _count(sheet, columns, as_text, categories)
    if not n_rows:
        raise InvalidData(f"'{sheet.path}' has a header but no rows.")
    sheet = replace(sheet, notation=_notation(sheet, tallies, open_))
    kinds: dict[int, Mapping[str, Any]] = {}
    left: dict[int, str] = {}
    notices: list[str] = []
    for i, tally in tallies.items():
        kind = _kind(sheet, i, tally, n_rows, i in categories)
        filled = not isinstance(kind, str) and kind["kind"] in ("number", "date")
        if filled and 2 * tally.missing > n_rows and not explicit:
            kind = EMPTY
        if not isinstance(kind, str):
            kinds[i] = kind
        elif explicit:
            raise InvalidData(f"'{sheet.path}', column {sheet.shown(i)} cannot be used: it {kind}.")
        else:
            left[i] = kind
        if 2 * tally.n_numbers >= n_rows and not tally.of_numbers:
            taken = "is left out" if i in left else "was taken for categories"
            notices.append(
                f"column {sheet.shown(i)} {taken}, as {tally.n_texts:,} of its cells are texts and "
                f"{tally.n_numbers:,} are numbers"
            )
    return Columns(sheet, kinds, left, notices)


def named_ids(sheet: Sheet, columns: Sequence[int]) -> list[int]:
    """The columns whose names say that their numbers count nothing: id, customer_id."""
    return [i for i in columns if _ID.fullmatch(sheet.header[i])]


def with_notation(sheet: Sheet, columns: Sequence[int], open_: int, usual: Notation | None = None) -> Sheet:
    """The sheet, with the notation of the numbers in ``columns``: the usual one where it makes sense.

    Raises InvalidData where it cannot be told.
    """
    return replace(sheet, notation=_notation(sheet, _count(sheet, columns)[1], open_, usual))


def points_in_doubt(sheet: Sheet, columns: Sequence[int], open_: int) -> bool:
    """Whether the points in numbers that NumPy reads may all part thousands; not where commas part cells.

    Looks at cells until one is no such number: 0.5.
    """
    bit, parted = next((b, n) for b, n in enumerate(NOTATIONS) if n.thousands == "point")
    if sheet.delimiter == "," or not open_ >> bit & 1:
        return False
    seen = False
    for _, row in walk(sheet):
        for i in columns:
            if "." in row[i]:
                if parted.number(row[i]) is None:
                    return False
                seen = True
    return seen


def _count(
    sheet: Sheet, columns: Sequence[int], as_text: Collection[int] = (), categories: Collection[int] = ()
) -> tuple[int, dict[int, _Tally]]:
    """How many rows there are, and what stands in some columns."""
    tallies = {i: _Tally(math.inf if i in categories else CATEGORIES, i in as_text) for i in columns}
    n_rows = 0
    for _, row in walk(sheet):
        n_rows += 1
        for i, tally in tallies.items():
            tally.add(row[i])
    return n_rows, tallies


def _notation(
    sheet: Sheet, tallies: Mapping[int, _Tally], open_: int, usual: Notation | None = None
) -> Notation:
    """How the columns of numbers are written."""
    columns = [i for i, tally in tallies.items() if tally.of_numbers]
    best, other = number.choose([tallies[i].numbers for i in columns], open_, usual)
    if other is None or (best == PLAIN and sheet.delimiter == "," and other.thousands == "point"):
        return best
    for line, row in walk(sheet):
        for i in columns:
            one, two = best.number(row[i]), other.number(row[i])
            if one is not None and two is not None and one != two:
                raise InvalidData(
                    f"{sheet.at(line)}, column {sheet.shown(i)}: '{row[i].strip()}' may be "
                    f"{one:.10g} or {two:.10g}, and no other number of the table tells which; say "
                    f"-s data.thousands={best.thousands} for the one, "
                    f"-s data.thousands={other.thousands} for the other."
                )
    return best


def _kind(sheet: Sheet, i: int, tally: _Tally, n_rows: int, forced: bool) -> Mapping[str, Any] | str:
    """How the cells of a column become values, or why they do not."""
    if tally.of_numbers and not forced:
        if sheet.notation == PLAIN:
            return {"kind": "number"}
        return {"kind": "number", "written": [sheet.notation.decimal, sheet.notation.thousands]}
    n_filled, values = tally.n_numbers + tally.n_texts, tally.values
    if not (values if forced else n_filled):
        return "is empty"
    best = max(tally.dates, key=lambda form: tally.dates[form], default=None)
    if best is not None and tally.dates[best] >= _most(n_filled):
        rivals = [form for form in tally.dates if tally.dates[form] == tally.dates[best]]
        if any(pair <= {*rivals} for pair in _EITHER):
            return "holds dates whose day and month cannot be told apart (2024-01-31 would be clear)"
        if tally.dates[best] < n_filled:
            raise _odd_date(sheet, i, best)
        return {"kind": "date", "form": best}
    if tally.texts is not None and not tally.n_numbers and tally.n_texts == n_rows and not forced:
        return ROWS
    if values is None or (2 * len(values) > n_rows and not forced):
        return f"holds {f'more than {CATEGORIES}' if values is None else len(values)} different texts"
    return _category(sorted(values), tally.empty, n_rows)


def _category(values: list[str], n_empty: int, n_rows: int) -> Mapping[str, Any] | str:
    meant = {value.lower() for value in values if value.lower() not in MISSING}
    for pair in PAIRS:
        if meant == {*pair}:
            return {"kind": "boolean", "values": list(pair)}
    if len(values) == 1:
        if not n_empty:
            return "is the same in all rows"
        return {"kind": "boolean", "values": ["", values[0].lower()]}  # ticked or not
    return {"kind": "category", "values": values}


def _odd_date(sheet: Sheet, i: int, form: str) -> InvalidData:
    line, cell = find(sheet, i, lambda cell: cell.lower() not in MISSING and days(cell, form) is None)
    return InvalidData(
        f"{sheet.at(line)}, column {sheet.shown(i)}: '{cell[:40]}' is no date as the others are; "
        "correct it or leave the cell empty."
    )


def find(sheet: Sheet, i: int, wanted: Callable[[str], bool]) -> tuple[int, str]:
    """Line and text of the first cell of a column that is ``wanted``."""
    return next((line, row[i].strip()) for line, row in walk(sheet) if wanted(row[i].strip()))


def _most(n: int) -> int:
    return n - max(1, n // 10)
