"""Dates as tables write them, as days since 1970."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What day and month are is certain in a form alone, or by the other cells of the column. Years of two
# digits are no dates here.
FORMS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y",
)  # fmt: skip
_SHAPE = re.compile(
    r"(?P<date>(?:[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2})|(?:[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})"
    r"|(?:[0-9]{1,2}[- ][A-Za-z]{3,9}[- ][0-9]{4})|(?:[A-Za-z]{3,9} [0-9]{1,2},? [0-9]{4}))"
    r"(?:(?:T|,? +)(?P<time>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?)"
    r" ?(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?"
)


@lru_cache(maxsize=2**16)
def forms(cell: str) -> tuple[str, ...]:
    """The FORMS in which a cell is a date, with or without a time; mostly none."""
    if not _SHAPE.fullmatch(cell.strip()):
        return ()
    return tuple(form for form in FORMS if days(cell, form) is not None)


def days(cell: str, form: str) -> float | None:
    """Days since 1970, with the time as a fraction, in UTC where it names no zone; None for no such date."""
    found = _SHAPE.fullmatch(cell.strip())
    date = found and _date(found["date"], form)
    if not found or date is None:
        return None
    if found["time"] is not None:
        time = found["time"].replace(",", ".")
        time = time if time[2] == ":" else f"0{time}"
        zone = found["zone"] if found["zone"] not in (None, "Z", "UTC") else "+00:00"
        try:
            date = datetime.fromisoformat(f"{date.date().isoformat()}T{time}{zone}")
        except ValueError:
            return None
    return (date - EPOCH).total_seconds() / 86400


def _date(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
