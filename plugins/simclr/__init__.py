"""Contrastive learning of representations."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "simclr",
        "deepclust.plugins.simclr.model:SimCLR",
        "contrastive learning: two views of each image, NT-Xent, any encoder as backbone",
        paper="Chen et al. 2020",
    )
