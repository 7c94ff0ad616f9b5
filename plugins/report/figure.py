"""The report's figures, in matplotlib's objects (never its global state)."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ...core.toolbox.figure import INK, PAPER
from .history import Stage
from .latent import Grid
from .map import Map
from .text import shorten

ACCENT, UNKNOWN = "#3f74d1", "#9aa0a6"
FIRST = [
    "#4878cf", "#ee854a", "#4fb06d", "#d65f5f", "#9a76d3", "#a9785a", "#e07bbd", "#8c8f94",
    "#c4b13f", "#3fb3cf",
]  # fmt: skip
LIGHTNESS, SATURATION = (0.46, 0.62, 0.54), (0.75, 0.6, 0.45)  # of further colours, in turn
GOLDEN = 0.618034  # of the circle of hues from one to the next, which never meets an earlier one
NAMED = 24  # classes that a legend names
TICKS, ANNOTATED = 40, 400  # labels on an axis, and cells that show their number
LEGEND_WIDTH = 62  # characters in a row of a legend


def colours(n: int) -> list[str]:
    """``n`` colours that differ, readable on white and on black."""
    if n <= len(FIRST):
        return FIRST[:n]
    made = list(FIRST)
    for i in range(n - len(FIRST)):
        red, green, blue = colorsys.hls_to_rgb(i * GOLDEN % 1, LIGHTNESS[i % 3], SATURATION[i // 3 % 3])
        made.append(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
    return made


def draw_map(
    where: Map, groups: np.ndarray, palette: Sequence[str], title: str, names: Sequence[str] | None = None
) -> Figure:
    """The map with each sample in its group's colour (-1: unknown), and each centre as a triangle.

    groups: (S,). names: of the groups, for a legend; without them the centres carry their numbers.
    """
    rows = _legend_rows(names) if names is not None and len(names) <= NAMED else 0
    figure = Figure(figsize=(5.2, 4.6 + 0.2 * rows), layout="constrained")
    axes = figure.add_subplot()
    table = np.array([to_rgb(c) for c in [*palette, UNKNOWN]])
    size = float(np.clip(9000 / max(1, len(groups)), 5, 40))
    order = np.argsort(groups >= 0, kind="stable")  # the unknown below the others
    x, y = where.points[order].T
    axes.scatter(x, y, s=size, c=table[groups[order]], linewidths=0, alpha=0.75, rasterized=True)
    there = np.isfinite(where.centers).all(axis=1)
    x, y = where.centers[there].T
    axes.scatter(x, y, s=42, marker="^", c="black", edgecolors="white", linewidths=0.9, zorder=3)
    if names is None and len(where.centers) <= 60:
        for cluster in np.flatnonzero(there).tolist():
            axes.annotate(
                str(cluster), where.centers[cluster], (6, -3), textcoords="offset points", zorder=4,
                fontsize=9, fontweight="bold", path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
            )  # fmt: skip
    axes.set_title(title)
    axes.margins(0.03)
    for axis, name in zip((axes.xaxis, axes.yaxis), where.axes or ("", ""), strict=True):
        axis.set_label_text(name)
        axis.set_major_locator(MaxNLocator(6) if name else NullLocator())
    if where.axes is None:
        axes.spines[:].set_visible(False)
    if rows:
        _add_legend(figure, axes, names or [], palette, unknown=bool((groups < 0).any()))
    return figure


def draw_grid(grid: Grid) -> Figure:
    """Decoded codes, with the codes' values along the axes."""
    height, width = grid.pixels.shape[:2]
    figure = Figure(figsize=(5.2, float(np.clip(5.2 * height / width, 2, 9))), layout="constrained")
    axes = figure.add_subplot()
    x, y = (_edges(values) for values in (grid.x, grid.y))
    axes.imshow(
        grid.pixels, cmap="gray", vmin=0, vmax=255, interpolation="none", extent=(*x, *y),
        aspect=height / width * (x[1] - x[0]) / (y[1] - y[0]),
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))
    axes.set(xlabel="first dimension of the code", ylabel="second", title="decoded codes")
    return figure


def _edges(values: np.ndarray) -> tuple[float, float]:
    """Where pictures begin and end whose middles are at evenly spaced ``values`` (S,)."""
    half = (values[1] - values[0]) / 2
    return float(values[0] - half), float(values[-1] + half)


def _legend_columns(names: Sequence[str]) -> int:
    longest = max(len(shorten(name, 24)) for name in [*names, "unknown"])
    return max(1, min(len(names) + 1, LEGEND_WIDTH // (longest + 4)))


def _legend_rows(names: Sequence[str] | None) -> int:
    return -(-(len(names) + 1) // _legend_columns(names)) if names else 0


def _add_legend(
    figure: Figure, axes: Axes, names: Sequence[str], palette: Sequence[str], *, unknown: bool
) -> None:
    shown = [(shorten(name, 24), colour) for name, colour in zip(names, palette, strict=True)]
    if unknown:
        shown.append(("unknown", UNKNOWN))
    dots = [axes.scatter([], [], s=26, color=colour, linewidths=0) for _, colour in shown]
    figure.legend(
        dots, [name for name, _ in shown], loc="outside lower center", ncols=_legend_columns(names),
        fontsize=8, handletextpad=0.1, columnspacing=1.0,
    )  # fmt: skip


def draw_confusion(counts: np.ndarray, classes: Sequence[str], clusters: Sequence[int]) -> Figure:
    """Counts (C, K) of classes against clusters, each row shaded by its shares."""
    n_rows, n_columns = counts.shape
    cell = 0.34 if counts.max() < 1000 else 0.42  # inches
    width, height = (float(np.clip(cell * n, 1.8, 6.2)) for n in (n_columns, n_rows))
    figure = Figure(figsize=(width + 1.3, height + 0.8), layout="constrained")
    axes = figure.add_subplot()
    totals = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    shades = np.zeros((*counts.shape, 4))
    shades[..., :3], shades[..., 3] = to_rgb(ACCENT), share
    axes.imshow(shades, aspect="auto", interpolation="nearest")
    if counts.size <= ANNOTATED:
        for row, column in zip(*counts.nonzero(), strict=True):
            dark = share[row, column] > 0.5
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center",
                fontsize=7.5, color="white" if dark else INK,
            )  # fmt: skip
    rows, columns = [shorten(c, 18) for c in classes], list(map(str, clusters))
    for axis, names in ((axes.yaxis, rows), (axes.xaxis, columns)):
        step = -(-len(names) // TICKS)
        axis.set_ticks(range(0, len(names), step), names[::step])
        axis.set_tick_params(length=0, labelsize=8 if len(names) <= 24 else 6.5)
    if n_columns > 16:
        axes.tick_params(axis="x", rotation=90)
    axes.set(xlabel="cluster", ylabel="class")
    axes.spines[:].set_visible(False)
    return figure


def draw_sizes(sizes: np.ndarray, palette: Sequence[str]) -> Figure:
    """A bar for each cluster's number of samples, and a line at the mean."""
    figure = Figure(figsize=(5.2, 2.3), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(sizes)), sizes, color=palette if len(sizes) <= NAMED else ACCENT, width=0.8)
    axes.axhline(sizes.mean(), color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlabel="cluster", ylabel="samples", xlim=(-0.6, len(sizes) - 0.4))
    step = -(-len(sizes) // 20)
    axes.set_xticks(range(0, len(sizes), step))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def draw_stage(stage: Stage) -> Figure:
    """The curves of a stage, one below the other; logarithmic where values span a factor of 20."""
    n = len(stage.curves)
    figure = Figure(figsize=(3.5, 0.75 + 1.35 * n), layout="constrained")
    for i, (name, (x, y)) in enumerate(stage.curves.items()):
        axes = figure.add_subplot(n, 1, i + 1)
        axes.plot(x, y, color=ACCENT, linewidth=1.4, marker="o" if len(x) < 3 else None, markersize=3)
        parts = name.replace("_", " ").split("/")
        axes.set_ylabel("\n".join(shorten(part, 20) for part in parts[-2:]))
        if min(y) > 0 and max(y) > 20 * min(y):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=5))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if i < n - 1:
            axes.set_xticklabels([])
    axes.set_xlabel(stage.unit)
    figure.align_ylabels()
    return figure


def draw_count(tried: Sequence[dict[str, Any]], chosen: int) -> Figure:
    """The score of each number of clusters, and where there are any its stability and what data without
    clusters score; the chosen number is marked."""
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    k = [t["n_clusters"] for t in tried]
    axes.plot(k, [t["score"] for t in tried], color=ACCENT, marker="o", markersize=3.5, label="score")
    for name, label, colour, marker in (
        ("stability", "stability", FIRST[1], "s"),
        ("reference", "without clusters", UNKNOWN, "v"),
    ):
        if all(isinstance(t.get(name), (int, float)) for t in tried):
            values = [t[name] for t in tried]
            axes.plot(k, values, color=colour, marker=marker, markersize=3, linewidth=1, label=label)
    axes.axvline(chosen, color=INK, linewidth=0.9, linestyle=(0, (2, 2)), label=f"chosen: {chosen}")
    axes.set_xlabel("number of clusters")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    figure.legend(loc="outside upper left", ncols=4, fontsize=8)
    return figure
