"""A small convolutional network that learns from labels."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "cnn",
        "deepclust.plugins.cnn.model:CNN",
        "convolutional classifier; its hidden layer is the code",
        supervised=True,
    )
