"""Classifiers on the frozen codes."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_evaluators() -> Iterator[Component]:
    yield Component(
        "svm",
        "deepclust.plugins.svm.evaluator:SVM",
        "SVMs, random forest, logistic regression on the frozen codes: test accuracy, confusion",
        paper="Cortes & Vapnik 1995; Breiman 2001",
        supervised=True,
    )
