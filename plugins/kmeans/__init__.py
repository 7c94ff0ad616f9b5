"""k-means on the codes of an encoder."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_clusterers() -> Iterator[Component]:
    yield Component(
        "kmeans",
        "deepclust.plugins.kmeans.model:KMeans",
        "k-means with greedy k-means++; batched restarts in torch, or scikit-learn's",
        paper="Lloyd 1982; Arthur & Vassilvitskii 2007, k-means++",
    )
