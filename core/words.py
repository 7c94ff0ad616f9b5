"""Numbers in sentences."""

from __future__ import annotations


def counted(number: float, noun: str, form: str = "") -> str:
    """``1 file``, ``2 files``; ``form`` is how the number is written, such as ``","``."""
    return f"{number:{form}} {noun}{'' if number == 1 else 's'}"
