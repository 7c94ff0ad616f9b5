"""Which encoder and clusterer where the user names none: by what the data are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..contract.registry import Registry
from ..data.data import Data
from .plan import AUTO, Request

ROWS = ("umap", "kmeans")
IMAGES = ("simclr", "scan")
PHOTOS = (
    "a network that has learned from millions of photos parts photos better than one trained on these: "
    "--encoder resnet -s encoder.weights=FILE -s encoder.epochs=0 (docs/images.md, Frozen features)"
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
    if encoder != AUTO:
        reason = f"{BESIDE.get(encoder, 'kmeans')} is what goes with {encoder}"
    elif images:
        reason = "views of an image should lie together, and neighbours share a cluster"
    else:
        reason = "a map that keeps neighbours together parts groups of any shape"
    if encoder == AUTO:
        encoder = usual[0]
        if clusterer != AUTO and not _fits(encoder, clusterer, registry):
            encoder, reason = DECODING, f"{clusterer} needs an encoder that decodes"
    if clusterer == AUTO:
        clusterer = BESIDE.get(encoder, "kmeans")
    open_parts = [part for part in ("encoder", "clusterer") if getattr(request, part) == AUTO]
    options = " and ".join(f"--{part}" for part in open_parts)
    why = f"{encoder} + {clusterer} for {kind}: {reason} ({options} to choose yourself)"
    if request.encoder == AUTO and images and data.shape[0] == 3:
        why += f"; {PHOTOS}"
    return Choice(encoder, clusterer, why)


def _fits(encoder: str, clusterer: str, registry: Registry) -> bool:
    """Whether the encoder has what the clusterer needs, whatever its settings are."""
    needs, cls = registry.load("clusterer", clusterer).needs, registry.load("encoder", encoder)
    names = [name for ability in needs for name in vars(ability) if not name.startswith("_")]
    return all(hasattr(cls, name) for name in names)
