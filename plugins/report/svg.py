"""Figures as files, and as SVG inside a page that is light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...core.files import replacing

INK, PAPER = "#1e2227", "#fefefe"  # in the page: the colour of its text, and of its background
DPI = 180
SCALE = 1.45  # pixels of the page for a point of the figure, at most
SETTINGS: dict[str, Any] = {
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
NAMESPACE = re.compile(r"^\{[^}]*\}")


@contextmanager
def style(name: str) -> Iterator[None]:
    """matplotlib as it is without a user's settings, with ours; silent about glyphs that a font lacks."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SETTINGS, "svg.hashsalt": name})
        yield


def write_figure(draw: Callable[[], Figure], folder: Path, name: str, alt: str) -> Markup:
    """Draw a figure, write it as ``name.png`` and ``name.svg``, and return it as SVG for the page.

    alt: what it shows, for those who do not see it.
    """
    with style(name):
        figure = draw()
        FigureCanvasAgg(figure)
        for kind in ("png", "svg"):
            file = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
            with replacing(folder / f"{name}.{kind}") as target:
                target.write(file.getvalue())
    return inline(file.getvalue(), name, alt)


def inline(svg: bytes, name: str, alt: str) -> Markup:
    """An SVG file as an element of a page: ids of its own, in the page's colours, without metadata."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if NAMESPACE.sub("", child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = NAMESPACE.sub("", element.tag)
        element.tail = None if element.tail and not element.tail.strip() else element.tail
        attributes = {NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == "href" and value.startswith("#"):
                value = f"#{name}-{value[1:]}"
            elif key in ("style", "clip-path", "fill", "stroke"):
                value = value.replace("url(#", f"url(#{name}-")
                value = value.replace(INK, "currentColor").replace(PAPER, "var(--paper)")
            element.set(key, value)
    width = float(root.attrib["viewBox"].split()[2])
    root.set("style", f"max-width: {SCALE * width:.0f}px")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", alt)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))
