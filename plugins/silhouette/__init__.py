"""The number of clusters by silhouettes of held-out codes and the neighbour graph."""

from __future__ import annotations

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_counters() -> Iterator[Component]:
    yield Component(
        "silhouette",
        "deepclust.plugins.silhouette.counter:Silhouette",
        "the number of clusters, by held-out silhouettes and the eigengap of the neighbour graph",
        paper="Rousseeuw 1987, Silhouettes; von Luxburg 2007, A tutorial on spectral clustering",
    )
