"""The convolutional autoencoder."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "cae",
        "deepclust.plugins.cae.model:CAE",
        "convolutional autoencoder, plain or denoising",
        paper="Masci et al. 2011; Guo et al. 2017 (deep clustering with convolutional autoencoders)",
    )
