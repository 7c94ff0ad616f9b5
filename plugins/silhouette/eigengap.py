"""How many groups the neighbour graph of codes falls into."""

from __future__ import annotations

import numpy as np
import torch

from ...core.toolbox.neighbour import nearest

NEIGHBOURS = 10
SPECTRUM = 60  # eigenvalues that are looked at, or twice as many as are asked for
FLOOR = 1e-3  # of the largest of them: what is below is as good as 0


def eigengaps(z: np.ndarray, most: int) -> np.ndarray:
    """How clearly the neighbour graph of codes z (n, D) falls into k groups, k from 2 to ``most``.

    Eigenvalue k + 1 over eigenvalue k of the normalised Laplacian, large where there are k groups (the
    eigengap of von Luxburg 2007, section 8.3), over (k / (k - 1))^2, what one curve in one piece gives:
    the eigenvalues of a piece grow as squares along a curve and slower in more dimensions. 1 and less is
    no gap, a closed curve gives up to 1.8. Weights are exp(-d^2 / (s_i s_j)) with s the distance to the
    last neighbour (Zelnik-Manor and Perona 2004). 0 where there are too few codes to tell.
    """
    from scipy.linalg import eigh

    gaps = np.zeros(most - 1)
    n, last = len(z), min(max(2 * most, SPECTRUM), len(z) - 2)
    if last < 3:
        return gaps
    x = torch.from_numpy(z)
    found = nearest(x, x, NEIGHBOURS, own=torch.arange(n))
    distance, index = found.distance.double().numpy(), found.index.numpy()
    scale = np.maximum(distance[:, -1], 1e-12)  # of unit variance; 0 among duplicates
    graph = np.zeros((n, n))
    graph[np.arange(n)[:, None], index] = np.exp(-(distance**2) / (scale[:, None] * scale[index]))
    graph = np.maximum(graph, graph.T)
    degree = graph.sum(axis=1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros(n), where=degree > 0)
    graph *= root[:, None] * root
    largest = eigh(
        graph, eigvals_only=True, subset_by_index=[n - last, n - 1], overwrite_a=True, check_finite=False
    )
    values = 1 - largest[::-1]  # ascending, (last,)
    values = np.maximum(values, max(FLOOR * values[-1], 1e-6))
    k = np.arange(2, min(most + 1, last))
    gaps[: len(k)] = values[k] / values[k - 1] * ((k - 1) / k) ** 2
    return gaps
