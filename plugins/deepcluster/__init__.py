"""A network that learns the assignments of k-means."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_clusterers() -> Iterator[Component]:
    yield Component(
        "deepcluster",
        "deepclust.plugins.deepcluster.model:DeepCluster",
        "a network learns the assignments of k-means on its own codes, in one or more rounds",
        paper="Caron et al. 2018",
    )
