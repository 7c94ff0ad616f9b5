"""The sizes of clusters that SCAN aims at: even ones, or those that k-means finds in the codes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ...core import Run
from ..refinement.baseline import Baseline

PriorName = Literal["auto", "uniform", "estimated"]
FAR = 0.9  # of the clusters: where fewer even ones would be as uneven, the sizes are far from even
SMOOTHED = 0.1  # share of an estimated prior that is uniform


def choose_prior(name: PriorName, baseline: Baseline, run: Run) -> Tensor | None:
    """The shares (K,) of the prior of that name, None for the uniform one; auto: a notice where estimated."""
    k = len(baseline.centers)
    if name == "uniform" or (name == "auto" and not is_uneven(baseline, FAR)):
        return None
    if name == "auto":
        low, high = baseline.shares.aminmax()
        run.notice(
            f"k-means' clusters of the codes hold from {float(low):.1%} to {float(high):.1%} of the samples, "
            f"as uneven as {baseline.effective:.1f} of {k} would be: scan began from them and aimed at these "
            "sizes. -s clusterer.prior=uniform aims at even ones."
        )
    return (1 - SMOOTHED) * baseline.shares + SMOOTHED / k


def is_uneven(baseline: Baseline, share: float) -> bool:
    """Whether fewer than ``share`` of the clusters, were they even, would be as uneven."""
    return baseline.effective < share * len(baseline.centers)
