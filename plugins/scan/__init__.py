"""Semantic clustering by adopting nearest neighbours."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_clusterers() -> Iterator[Component]:
    yield Component(
        "scan",
        "deepclust.plugins.scan.model:SCAN",
        "neighbours belong together: consistency and entropy, then self-labelling; for simclr's codes",
        paper="Van Gansbeke et al. 2020",
    )
