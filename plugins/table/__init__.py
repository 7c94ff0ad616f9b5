"""Tables as a data set."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_datasets() -> Iterator[Component]:
    yield Component(
        "table",
        "deepclust.plugins.table.table:Table",
        "a table, .csv, .tsv, .parquet or .jsonl: give its path as --data",
        reads=(
            ".csv",
            ".csv.gz",
            ".tsv",
            ".tsv.gz",
            ".parquet",
            ".jsonl",
            ".jsonl.gz",
            ".ndjson",
            ".ndjson.gz",
        ),  # fmt: skip
    )
