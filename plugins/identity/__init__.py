"""Encoders that learn nothing: samples as their own codes, and their principal components."""

from collections.abc import Iterator

from ...core import Component, hookimpl

_MODEL = "deepclust.plugins.identity.model"


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "identity", f"{_MODEL}:Identity", "samples as their own codes, no training: for your own embeddings"
    )
    yield Component(
        "pca",
        f"{_MODEL}:PCA",
        "principal components of the samples, exact, no training",
        paper="Pearson 1901; Hotelling 1933",
    )
