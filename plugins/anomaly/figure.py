"""The evaluator's figures, in matplotlib's objects (never its global state)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...core import Data

OTHERS, UNSEEN = "#4878cf", "#ee854a"
BINS, TAILS = 50, (0.2, 99.8)  # percentiles at which the bars end; what lies beyond is in the last ones
SIDE = 112  # pixels of a picture's longer side at most
COLUMNS = 10  # pictures in a row
NAME = 16  # characters of a class below its picture
TITLES = {
    "encoder": "the encoder's own score",
    "reconstruction": "mean squared error of the reconstruction",
    "distance": "distance to the cluster's centre",
}


def draw_scores(
    found: Mapping[str, np.ndarray], unseen: np.ndarray | None, names: Sequence[str] | None
) -> Figure:
    """A histogram of each kind of score, shares of the samples of either group.

    unseen: (N,) 1 for samples of the strange classes ``names``, 0 for others; None: one group.
    """
    figure = Figure(figsize=(5.2, 0.55 + 1.55 * len(found)), layout="constrained")
    groups = [(np.ones(len(next(iter(found.values()))), bool), OTHERS, "samples")]
    if unseen is not None:
        strange = ", ".join(names or [])
        strange = strange if len(strange) <= 40 else f"{len(names or [])} classes"
        groups = [(unseen == 0, OTHERS, "other classes"), (unseen == 1, UNSEEN, f"unseen: {strange}")]
    for i, (kind, values) in enumerate(found.items()):
        axes = figure.add_subplot(len(found), 1, i + 1)
        low, high = np.percentile(values, TAILS)
        high = high if high > low else low + max(1e-9, abs(float(low)) * 1e-6)
        edges = np.linspace(low, high, BINS + 1)
        for chosen, colour, label in groups:
            counts, _ = np.histogram(values[chosen].clip(low, high), edges)
            share = counts / max(1, counts.sum())
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35, label=label)
            axes.stairs(share, edges, color=colour, linewidth=1.1)
        axes.set_title(TITLES[kind])
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(groups), fontsize=8)
    return figure


def pictures(data: Data, index: np.ndarray) -> list[np.ndarray]:
    """The samples at ``index`` as (C, H, W), one at a time, large ones made smaller."""
    made = []
    for i in index.tolist():
        x = data.batch(torch.tensor([i])).float().cpu()
        longest = max(x.shape[2:])
        if longest > SIDE:
            height, width = (max(1, round(s * SIDE / longest)) for s in x.shape[2:])
            x = F.interpolate(x, (height, width), mode="area")
        made.append(x[0].numpy())
    return made


def draw_samples(rows: Mapping[str, tuple[list[np.ndarray], list[str]]]) -> Figure:
    """Pictures (C, H, W) under their titles, ``COLUMNS`` in a row, each above its class.

    Values outside of 0 to 1 are scaled between the least and the greatest of all.
    """
    shown = np.concatenate([p.reshape(-1) for made, _ in rows.values() for p in made])
    low, high = (float(shown.min()), float(shown.max()))
    if low >= -1e-3 and high <= 1 + 1e-3:
        low, high = 0.0, 1.0
    lines = [(title, start) for title, (made, _) in rows.items() for start in range(0, len(made), COLUMNS)]
    columns = min(COLUMNS, max(len(made) for made, _ in rows.values()))
    figure = Figure(figsize=(0.62 * max(columns, 4), 0.9 * len(lines) + 0.1), layout="constrained")
    for line, (title, start) in enumerate(lines):
        made, names = rows[title]
        for column in range(min(columns, len(made) - start)):
            axes = figure.add_subplot(len(lines), columns, line * columns + column + 1)
            _show(axes, (made[start + column] - low) / max(high - low, 1e-9))
            name = names[start + column]
            axes.set_xlabel(name if len(name) <= NAME else f"{name[: NAME - 1]}\N{HORIZONTAL ELLIPSIS}",
                            fontsize=6)  # fmt: skip
            if start == column == 0:
                axes.set_title(title)
    return figure


def _show(axes: Axes, picture: np.ndarray) -> None:
    """A picture (C, H, W) from 0 to 1; other than one or three channels as their mean."""
    if len(picture) == 3:
        axes.imshow(picture.transpose(1, 2, 0).clip(0, 1))
    else:
        axes.imshow(picture.mean(0), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
