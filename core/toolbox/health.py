"""How well clusters are in use: their sizes, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Health:
    """effective: exp of the entropy of the cluster sizes. smallest: the smallest cluster's share of the
    samples. empty: clusters without samples. confidence: the mean largest soft assignment."""

    effective: float
    smallest: float
    empty: int
    confidence: float


def measure(labels: np.ndarray, confidence: np.ndarray, n_clusters: int) -> Health:
    """The health of labels (N,) int64 with confidences (N,)."""
    share = np.bincount(labels, minlength=n_clusters) / len(labels)
    filled = share[share > 0]
    return Health(
        float(np.exp(-(filled * np.log(filled)).sum())),
        float(share.min()),
        int((share == 0).sum()),
        float(confidence.mean()),
    )
