"""Residual networks, from scratch or with weights."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_encoders() -> Iterator[Component]:
    yield Component(
        "resnet",
        "deepclust.plugins.resnet.model:ResNet",
        "residual network; its pooled features are the code",
        paper="He et al. 2016",
        supervised=True,
    )
