"""Figures as files, and as SVG inside a page that is light or dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

from ...core.toolbox import figure as core_figure
from ...core.toolbox.figure import INK, PAPER  # in the page: the colour of its text, and of its background

SCALE = 1.45  # pixels of the page for a point of the figure, at most
NAMESPACE = re.compile(r"^\{[^}]*\}")


def write_figure(draw: Callable[[], Figure], folder: Path, name: str, alt: str) -> Markup:
    """Draw a figure, write it as ``name.png`` and ``name.svg``, and return it as SVG for the page.

    alt: what it shows, for those who do not see it.
    """
    return inline(core_figure.write_figure(draw, folder, name), name, alt)


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
