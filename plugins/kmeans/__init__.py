"""k-means on the codes of an encoder."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_clusterers() -> Iterator[Component]:
    yield Component(
        "kmeans",
        "deepclust.plugins.kmeans.model:KMeans",
        "k-means with greedy k-means++; scikit-learn's on the CPU, batched restarts on a GPU",
        paper="Lloyd 1982; Arthur & Vassilvitskii 2007, k-means++",
    )
