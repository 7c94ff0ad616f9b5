"""Folders of images as a data set."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_datasets() -> Iterator[Component]:
    yield Component(
        "images",
        "deepclust.plugins.images.folder:Images",
        "a folder of images, flat or nested: give its path as --data",
        reads=("/",),
    )
