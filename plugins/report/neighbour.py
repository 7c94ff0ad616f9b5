"""The samples whose codes are nearest to a sample's code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

CHUNK = 65536  # codes that are compared at once


@dataclass(frozen=True)
class Neighbours:
    """For each of Q samples the n nearest others: indices and distances, (Q, n), the nearest first."""

    index: np.ndarray
    distance: np.ndarray


def nearest(z: np.ndarray, queries: np.ndarray, n: int) -> Neighbours:
    """The ``n`` nearest of all codes z (N, D) to those at ``queries`` (Q,), themselves left out.

    Exact Euclidean distances, in pieces of bounded memory; of equally near ones the first.
    """
    n = min(n, len(z) - 1)
    codes = torch.from_numpy(z)
    asked = codes[torch.from_numpy(queries)]  # (Q, D)
    index = torch.empty((len(queries), 0), dtype=torch.int64)
    distance = torch.empty((len(queries), 0))
    rows = max(1, min(CHUNK, 2**26 // (max(1, len(queries)) * z.shape[1])))
    for start in range(0, len(z), rows):
        part = codes[start : start + rows]
        far = torch.cdist(asked, part, compute_mode="donot_use_mm_for_euclid_dist")
        far, order = torch.sort(far, dim=1, stable=True)
        distance = torch.cat([distance, far[:, : n + 1]], dim=1)
        index = torch.cat([index, order[:, : n + 1] + start], dim=1)
        distance, order = torch.sort(distance, dim=1, stable=True)
        distance, index = distance[:, : n + 1], index.gather(1, order)[:, : n + 1]
    own = index == torch.from_numpy(queries)[:, None]
    own[:, -1] |= ~own.any(dim=1)  # of many equal codes, its own may not be among the first
    shape = (len(queries), n)
    return Neighbours(index[~own].reshape(shape).numpy(), distance[~own].reshape(shape).numpy())
