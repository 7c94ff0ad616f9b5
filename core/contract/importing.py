"""A plugin's import that spoils nothing for others: what it prints, warns of and sets up is kept back."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from ..words import one_line

FAULTS = (Exception, SystemExit)  # a plugin may fail in any way; the rest must go on
LONGEST = 200  # characters of a remark


class _Heard:
    """Stands for standard output: keeps what is written while ``open``, then hands it on to standard error,
    where also goes whatever else is asked of it."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.open = True

    def write(self, text: str) -> int:
        if not self.open:
            return sys.stderr.write(text)
        self.text.append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextmanager
def harmless(remarks: list[str]) -> Iterator[None]:
    """Imports within print nothing on standard output and leave warnings and logging as they were.

    What was printed and warned of, and what was undone, is added to ``remarks``, a line for each.
    """
    heard, errors, before = _Heard(), sys.stderr, _root_logging()
    with warnings.catch_warnings(record=True) as warned, redirect_stdout(heard):  # type: ignore[type-var]
        try:
            yield
        finally:
            heard.open = False
            sys.stderr = errors
            if text := one_line("".join(heard.text)):
                remarks.append(_short(f"printed: {text}"))
            remarks += dict.fromkeys(
                _short(f"warned: {w.category.__name__}: {one_line(w.message)}") for w in warned or ()
            )
            if _restore_root_logging(before):
                remarks.append("set up logging for the whole process, which was undone")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _root_logging() -> tuple[list[Any], int, int]:
    """Handlers, level and disabled level of the root logger, of a fresh one where nobody imported it."""
    logging = sys.modules.get("logging")
    if logging is None:
        return ([], 30, 0)
    return (list(logging.root.handlers), logging.root.level, logging.root.manager.disable)


def _restore_root_logging(before: tuple[list[Any], int, int]) -> bool:
    """Put them back; says whether anything was changed."""
    logging = sys.modules.get("logging")
    if logging is None or _root_logging() == before:
        return False
    logging.root.handlers[:] = before[0]
    logging.root.setLevel(before[1])
    logging.disable(before[2])
    return True
