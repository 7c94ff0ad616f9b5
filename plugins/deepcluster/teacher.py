"""What the network is to learn: k-means on its own codes, and soft targets from the distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...core import Data, Run
from ..refinement.baseline import Given


class Lesson(NamedTuple):
    """labels: (N,) int64, each sample's cluster. targets: (N, K), rows that sum to 1; None where hard."""

    labels: Tensor
    targets: Tensor | None


def teach(
    z: Tensor, n_clusters: int, run: Run, *, temperature: float = 0.0, settings: Mapping[str, Any]
) -> Lesson:
    """k-means with ``settings`` on codes z (N, D).

    temperature: of ``soft_targets``; 0 asks for hard ones.
    """
    kmeans = run.make("clusterer", "kmeans", n_clusters, z.shape[1], **settings)
    kmeans.fit(Given(None, (z.shape[1],)), Data(z, "codes", device=z.device), run)
    with torch.no_grad():
        labels = kmeans.predict(z)
        return Lesson(labels, soft_targets(z, kmeans.centers, temperature) if temperature else None)


def soft_targets(z: Tensor, centers: Tensor, temperature: float) -> Tensor:
    """softmax(-|z_i - c_k|^2 / (temperature * m)) of codes (N, D) and centres (K, D).  # (N, K)

    m: the mean squared distance of a code to its nearest centre, so that the scale of codes is no matter.
    """
    distances = torch.cdist(z, centers, compute_mode="donot_use_mm_for_euclid_dist").square()
    unit = distances.amin(1).mean().clamp_min(1e-12)  # of equal codes too
    return torch.softmax(-distances / (temperature * unit), dim=1)


def whiten(z: Tensor) -> Tensor:
    """Codes (N, D) as uncorrelated features of variance 1, each row then of length 1.  # (N, R)

    R: the directions that vary, by more than a millionth of what the first does. Caron et al. 2018, section
    3.3: PCA-whitened and l2-normalised features.
    """
    centred = z.double() - z.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(z))
    kept = values > 1e-6 * values[-1]
    if not kept.any():  # all codes are the same
        return torch.zeros_like(z[:, :1])
    white = centred @ (vectors[:, kept] / values[kept].sqrt())
    return torch.nn.functional.normalize(white, dim=1).to(z.dtype)
