"""Figures as files, in one style, whatever a user's settings of matplotlib are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import replacing

INK, PAPER = "#1e2227", "#fefefe"
DPI = 180
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": "auto",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called "$"
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"], INK),
    **dict.fromkeys(["xtick.color", "ytick.color"], INK),
}


def write_figure(draw: Callable[[], Figure], folder: Path, name: str) -> bytes:
    """Draw a figure without matplotlib's global state, write it as ``name.png`` and ``name.svg`` into
    ``folder``, which is made where it is missing, and return the SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that a font lacks
        matplotlib.rcdefaults()
        settings: Any = {**STYLE, "svg.hashsalt": name}  # its stubs list every key as a literal
        matplotlib.rcParams.update(settings)
        figure = draw()
        FigureCanvasAgg(figure)
        for kind in ("png", "svg"):
            file = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
            with replacing(folder / f"{name}.{kind}") as target:
                target.write(file.getvalue())
    return file.getvalue()
