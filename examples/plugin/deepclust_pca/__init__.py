"""A whole third-party plugin: principal components as an encoder."""

from deepclust.core import Component, hookimpl


@hookimpl
def deepclust_encoders():
    yield Component(
        "svd", "deepclust_pca.model:PCA", "principal components, no training", paper="Pearson 1901"
    )
