"""How well samples of classes that training never saw are told from the others."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_evaluators() -> Iterator[Component]:
    yield Component(
        "anomaly",
        "deepclust.plugins.anomaly.evaluator:Anomaly",
        "AUROC of anomaly scores on a test split with classes that training never saw",
        paper="An & Cho 2015 (reconstruction and likelihood); Fawcett 2006 (AUROC)",
    )
