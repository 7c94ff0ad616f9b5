"""Deep embedded clustering (DEC) and its improved form with reconstruction (IDEC)."""

from collections.abc import Iterator

from ...core import Component, hookimpl


@hookimpl
def deepclust_clusterers() -> Iterator[Component]:
    yield Component(
        "dec",
        "deepclust.plugins.dec.model:DEC",
        "deep embedded clustering: refines encoder and centres by KL to a sharpened target",
        paper="Xie, Girshick & Farhadi 2016, Unsupervised deep embedding for clustering analysis",
    )
    yield Component(
        "idec",
        "deepclust.plugins.dec.model:IDEC",
        "DEC that keeps the decoder: reconstruction + 0.1 KL; needs an encoder that decodes",
        paper="Guo, Gao, Liu & Yin 2017, Improved deep embedded clustering",
    )
