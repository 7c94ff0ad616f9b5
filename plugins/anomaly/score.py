"""How strange samples are, by each measure that a run has."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ...core import Decodes, FindsAnomalies, Result, evaluating, progress

BATCH_VALUES = 2**21  # input values in one forward pass
MOST_SAMPLES = 2048  # in one


def score_samples(result: Result, *, quiet: bool = True) -> tuple[dict[str, np.ndarray], list[str]]:
    """Scores by kind, float64 (N,), larger for stranger samples, and the kinds that are not finite.

    ``encoder``: its own ``anomaly_score``. ``reconstruction``: the mean squared error of its decoded
    code. ``distance``: from the code to its cluster's centre. The first two where it has them.
    """
    encoder, data = result.encoder, result.data
    kinds: dict[str, list[Tensor]] = {}
    if isinstance(encoder, FindsAnomalies):
        kinds["encoder"] = []
    if isinstance(encoder, Decodes):
        kinds["reconstruction"] = []
    if kinds:
        weight = next(chain(encoder.parameters(), encoder.buffers()), None)
        size = min(MOST_SAMPLES, max(1, BATCH_VALUES // math.prod(data.shape)))
        with (
            evaluating(encoder),
            progress("scoring strangeness", len(data), "samples", quiet=quiet, least_seconds=2) as advance,
        ):
            for start in range(0, len(data), size):
                x = data.slice(start, start + size)
                x = x if weight is None else x.to(weight.device)
                if isinstance(encoder, FindsAnomalies):
                    kinds["encoder"].append(encoder.anomaly_score(x).double().cpu())
                if isinstance(encoder, Decodes):
                    error = (encoder.decode(encoder(x)) - x).double().square()
                    kinds["reconstruction"].append(error.flatten(1).mean(1).cpu())
                advance(len(x))
    found = {kind: torch.cat(parts).numpy() for kind, parts in kinds.items()}
    found["distance"] = result.distance.astype(np.float64)
    broken = [kind for kind, values in found.items() if not np.isfinite(values).all()]
    return {kind: values for kind, values in found.items() if kind not in broken}, broken
