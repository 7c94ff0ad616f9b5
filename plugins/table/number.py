"""How the numbers of a table are written, and which number a cell is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

DECIMALS = {"point": ".", "comma": ","}
THOUSANDS = {"none": "", "point": ".", "comma": ",", "space": " \u00a0\u202f", "apostrophe": "'\u2019"}
MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "-", "?"))
_MARKS = re.compile("[.,'\u2019 \u00a0\u202f]")
_BEGINS = re.compile("[+\\-\u2212]?(?:[.,]?[0-9]|inf)", re.IGNORECASE)
_UNPARTED = re.compile("[+\\-\u2212]?[0-9]{4,}")
_TYPED = str.maketrans({"\u2212": "-"})  # a typeset minus


@dataclass(frozen=True)
class Notation:
    """A way to write numbers. decimal: ``point`` or ``comma``. thousands: a key of THOUSANDS."""

    decimal: str = "point"
    thousands: str = "none"

    def number(self, cell: str) -> float | None:
        """A cell's number, as NumPy's parser takes it; None where it is none in this notation."""
        cell = cell.strip()
        marks = THOUSANDS[self.thousands]
        if marks and any(mark in cell for mark in marks):
            if not _grouped(self).fullmatch(cell):
                return None
            for mark in marks:
                cell = cell.replace(mark, "")
        if self.decimal == "comma":
            if "." in cell:
                return None
            cell = cell.replace(",", ".")
        if "_" in cell:  # Python's own float takes them
            return None
        try:
            return float(cell.translate(_TYPED))
        except ValueError:
            return None

    def example(self) -> str:
        """What a number looks like."""
        marks = THOUSANDS[self.thousands]
        return f"1{marks[:1]}234{DECIMALS[self.decimal]}5"


PLAIN = Notation()
NOTATIONS = tuple(
    Notation(decimal, thousands) for thousands in THOUSANDS for decimal in DECIMALS if thousands != decimal
)  # the usual ones first
ALL = (1 << len(NOTATIONS)) - 1
SIGN, LONG = 1 << len(NOTATIONS), 2 << len(NOTATIONS)


@lru_cache(maxsize=2**16)
def readings(cell: str) -> int:
    """In which notations a cell is a number: a bit for each of NOTATIONS, 0 for no number at all.

    SIGN is set beside them where there is a point or a comma in it, LONG for a whole number of four
    digits or more that are not parted.
    """
    cell = cell.strip()
    if not _BEGINS.match(cell):
        return 0
    marks = "".join(sorted({*_MARKS.findall(cell)}))
    if not marks:
        if PLAIN.number(cell) is None:
            return 0
        return ALL | LONG if _UNPARTED.fullmatch(cell) else ALL
    found = 0
    for notation, bits in _alike(marks):
        if notation.number(cell) is not None:
            found |= bits
    return found | SIGN if found and ("." in marks or "," in marks) else found


@lru_cache
def _alike(marks: str) -> tuple[tuple[Notation, int], ...]:
    """Notations that take cells with these marks in the same way: one of each, and the bits of all."""
    bits: dict[Notation, int] = {}
    for bit, notation in enumerate(NOTATIONS):
        parted = any(mark in THOUSANDS[notation.thousands] for mark in marks)
        plain = replace(notation, thousands=notation.thousands if parted else "none")
        bits[plain] = bits.get(plain, 0) | 1 << bit
    return tuple(bits.items())


def allowed(decimal: str, thousands: str) -> int:
    """The bits of the notations that two settings leave open; ``auto`` leaves all.

    What parts thousands cannot be the decimal sign: with ``auto`` for that, the other one is.
    """
    return sum(
        1 << bit
        for bit, notation in enumerate(NOTATIONS)
        if decimal in ("auto", notation.decimal) and thousands in ("auto", notation.thousands)
    )


def choose(
    columns: Sequence[Mapping[int, int]], open_: int, usual: Notation | None = None
) -> tuple[Notation, Notation | None]:
    """The notation in which all numbers of a table make sense, and another that does, with other values.

    columns: of each column of numbers how many cells have which ``readings``. usual: what is taken
    wherever it makes sense. Where no notation takes all cells, it is the one that takes most, so that
    the odd ones can be named.
    """
    bits = [bit for bit in range(len(NOTATIONS)) if open_ >> bit & 1]
    counts = {bit: sum(n for column in columns for m, n in column.items() if m >> bit & 1) for bit in bits}
    best = max(bits, key=lambda bit: counts[bit])  # the first of equal ones
    rivals = [
        bit
        for bit in bits
        if counts[bit] == counts[best] and NOTATIONS[bit].decimal != NOTATIONS[best].decimal
    ]
    total = sum(n for column in columns for m, n in column.items() if m)
    if counts[best] == total:
        if usual is not None and counts.get(NOTATIONS.index(usual)) == total:
            return usual, None
        for bit in rivals:
            if any(_in_doubt(column, best, bit) for column in columns):
                return NOTATIONS[best], NOTATIONS[bit]
    return NOTATIONS[best], None


def _in_doubt(column: Mapping[int, int], one: int, other: int) -> bool:
    """Whether cells of a column are numbers in both notations, and other ones.

    Where whole numbers of four digits stand unparted beside them, points are taken for decimal ones.
    """
    both = any(m & SIGN and m >> one & 1 and m >> other & 1 for m in column)
    return both and not (NOTATIONS[one] == PLAIN and any(m & LONG for m in column))


@lru_cache
def _grouped(notation: Notation) -> re.Pattern[str]:
    """A whole part of groups of three digits, the first of which begins with no 0."""
    mark, sign = re.escape(THOUSANDS[notation.thousands]), re.escape(DECIMALS[notation.decimal])
    return re.compile(rf"[+\-\u2212]?[1-9][0-9]{{0,2}}(?:[{mark}][0-9]{{3}})+(?:{sign}[0-9]*)?")
