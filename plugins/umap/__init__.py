"""Codes in which neighbours stay neighbours."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "umap",
        "deepclust.plugins.umap.model:UMAP",
        "neighbours stay neighbours: parametric UMAP on exact neighbours, for rows and images",
        paper="Sainburg, McInnes & Gentner 2021",
    )
