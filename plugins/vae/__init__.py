"""The variational autoencoder."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "vae",
        "deepclust.plugins.vae.model:VAE",
        "variational autoencoder: a map of the data, new samples, anomaly scores",
        paper="Kingma & Welling 2014",
    )
