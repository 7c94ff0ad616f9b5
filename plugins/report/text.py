"""Names and numbers as the report shows them."""

from __future__ import annotations

import math
import re
from typing import Any

FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Text without control characters and half surrogates, which neither pages nor SVG may hold."""
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(text: str, length: int) -> str:
    """Printable text of at most ``length`` characters, cut in its middle: names differ at their ends."""
    text = printable(text)
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - end :]}"


def number(value: Any) -> str:
    """A score or a measured value: integers with separators, others with about four digits."""
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"


def percent(share: float) -> str:
    """A share of 1, such as ``"92.3 %"``; 0 and 100 % for none and all alone."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{min(100 * share, 99.9):.1f} %" if share >= 0.0005 else "< 0.1 %"


def setting_text(value: Any) -> str:
    """A setting as users write it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
