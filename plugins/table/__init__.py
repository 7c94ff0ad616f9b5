"""Tables in text files as a data set."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_datasets() -> Iterator[Component]:
    yield Component(
        "table",
        "deepclust.plugins.table.table:Table",
        "a .csv or .tsv file with a header: give its path as --data",
        reads=(".csv", ".tsv"),
    )
