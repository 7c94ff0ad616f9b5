"""Which encoder and clusterer where the user names none: by what the data are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .data import Data
from .plan import AUTO, Request
from .registry import Registry

ROWS = ("umap", "kmeans")
IMAGES = ("simclr", "scan")
PHOTOS = (
    "a network that has learned from millions of photos parts photos better than one trained on these: "
    "docs/images.md, Frozen features"
)
DECODING = "sdae"  # for a clusterer that needs what these encoders cannot do
BESIDE = {"sdae": "dec", "simclr": "scan"}  # the clusterer that goes with an encoder; kmeans with others


@dataclass(frozen=True)
class Choice:
    """encoder, clusterer: names. why: one line that says what was chosen for the user and why; empty where
    the user named both."""

    encoder: str
    clusterer: str
    why: str

    def fill(self, request: Request) -> Request:
        """The request with the names in it."""
        return replace(request, encoder=self.encoder, clusterer=self.clusterer)


def stand_in(request: Request) -> Request:
    """The request with names that fit all data where it leaves them open, to check the rest of it by."""
    open_parts = [part for part in ("encoder", "clusterer") if getattr(request, part) == AUTO]
    names: dict[str, Any] = {"encoder": DECODING, "clusterer": "kmeans"}
    settings = {part: table for part, table in request.settings.items() if part not in open_parts}
    return replace(request, settings=settings, **{part: names[part] for part in open_parts})


def choose(request: Request, data: Data, registry: Registry) -> Choice:
    """The pair for ``data``, as far as ``request`` leaves it open. See docs/defaults.md for the evidence."""
    images = len(data.shape) == 3
    encoder, clusterer = request.encoder, request.clusterer
    if AUTO not in (encoder, clusterer):
        return Choice(encoder, clusterer, "")
    usual, kind = (IMAGES, "images") if images else (ROWS, "rows")
    reason = (
        "views of an image should lie together, and neighbours share a cluster"
        if images
        else "a map that keeps neighbours together parts groups of any shape"
    )
    if encoder == AUTO:
        encoder = usual[0]
        if clusterer != AUTO and not _fits(encoder, clusterer, registry):
            encoder, reason = DECODING, f"{clusterer} needs an encoder that decodes"
    if clusterer == AUTO:
        clusterer = usual[1] if encoder == usual[0] else BESIDE.get(encoder, "kmeans")
    open_parts = [part for part in ("encoder", "clusterer") if getattr(request, part) == AUTO]
    options = " and ".join(f"--{part}" for part in open_parts)
    why = f"{encoder} + {clusterer} for {kind}: {reason} ({options} to choose yourself)"
    if request.encoder == AUTO and images and data.shape[0] == 3:
        why += f"; {PHOTOS}"
    return Choice(encoder, clusterer, why)


def _fits(encoder: str, clusterer: str, registry: Registry) -> bool:
    from .interfaces import has_ability

    needs = registry.load("clusterer", clusterer).needs
    return all(has_ability(registry.load("encoder", encoder), ability) for ability in needs)
