"""Stacked denoising autoencoder with layer-wise pretraining."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "sdae",
        "deepclust.plugins.sdae.model:SDAE",
        "stacked denoising autoencoder: layer-wise pretraining, then the whole stack",
        paper="Vincent et al. 2010, JMLR 11; Xie, Girshick & Farhadi 2016, section 3.2",
    )
