"""The report of a run: one page with pictures, that opens from disk."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_evaluators() -> Iterator[Component]:
    yield Component(
        "report",
        "deepclust.plugins.report.evaluator:Report",
        "report.html with pictures of each cluster, a 2-D map, losses and settings",
        paper="van der Maaten & Hinton 2008 (t-SNE); McInnes et al. 2018 (UMAP)",
    )
