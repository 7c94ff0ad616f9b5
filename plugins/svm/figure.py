"""The confusion matrix as a picture, in matplotlib's objects (never its global state)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ...core.toolbox.figure import INK, write_figure

ACCENT = "#3f74d1"
TICKS, ANNOTATED = 40, 400  # labels on an axis, and cells that show their number
NAME = 18  # characters of a class


def write_confusion(folder: Path, counts: np.ndarray, classes: Sequence[str], title: str) -> None:
    """Write ``svm-confusion.png`` and ``.svg``, whatever a user's settings are.

    counts: (C, C), true classes in rows, predicted ones in columns.
    """
    write_figure(lambda: _draw(counts, [_shorten(c) for c in classes], title), folder, "svm-confusion")


def _draw(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Each row shaded by its shares; rows of classes without a scored sample stay empty."""
    n = len(classes)
    cell = 0.34 if counts.max() < 1000 else 0.42  # inches
    side = float(np.clip(cell * n, 1.8, 6.2))
    figure = Figure(figsize=(side + 1.3, side + 1.2), layout="constrained")
    axes = figure.add_subplot()
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    shades = np.zeros((n, n, 4))
    shades[..., :3], shades[..., 3] = to_rgb(ACCENT), share
    axes.imshow(shades, interpolation="nearest")
    if counts.size <= ANNOTATED:
        for row, column in zip(*counts.nonzero(), strict=True):
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", fontsize=7.5,
                color="white" if share[row, column] > 0.5 else INK,
            )  # fmt: skip
    step = -(-n // TICKS)
    upright = n > 16 or max(map(len, classes)) > 3
    axes.set_xticks(range(0, n, step), classes[::step], rotation=90 if upright else 0)
    axes.set_yticks(range(0, n, step), classes[::step])
    axes.tick_params(length=0, labelsize=8 if n <= 24 else 6.5)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    axes.spines[:].set_visible(False)
    return figure


def _shorten(name: str) -> str:
    """At most ``NAME`` printable characters, cut in the middle: names differ at their ends."""
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    half = (NAME - 1) // 2
    return name if len(name) <= NAME else f"{name[: NAME - 1 - half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
