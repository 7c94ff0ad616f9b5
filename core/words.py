"""Numbers and errors in sentences."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Text on one line, with what cannot be printed as an escape: ``\\n``, ``\\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: float, noun: str, form: str = "") -> str:
    """``1 file``, ``2 files``; ``form`` is how the number is written, such as ``","``."""
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"


def in_one_line(error: BaseException) -> str:
    """``ValueError: what it says``; the type alone of an error that says nothing."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
