"""Scores of a clustering, with and without labels."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_evaluators() -> Iterator[Component]:
    yield Component(
        "clustering",
        "deepclust.plugins.clustering.evaluator:Clustering",
        "accuracy, purity, NMI, ARI where there are labels; silhouette, sizes always",
        paper="Xie et al. 2016, eq. 10 (accuracy); Hubert & Arabie 1985 (ARI); Rousseeuw 1987",
    )
