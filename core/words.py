"""Numbers and errors in sentences."""

from __future__ import annotations


def counted(number: float, noun: str, form: str = "") -> str:
    """``1 file``, ``2 files``; ``form`` is how the number is written, such as ``","``."""
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"


def one_line(text: object) -> str:
    """Text of a plugin, say, as one line: no line breaks, no control characters, no spaces in a row."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def in_one_line(error: BaseException) -> str:
    """``ValueError: what it says``; the type alone of an error that says nothing."""
    said = one_line(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def shortened(text: str, most: int) -> str:
    """Text as one line of at most ``most`` characters."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 3].rstrip() + "..."
