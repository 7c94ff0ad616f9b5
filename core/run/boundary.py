"""Where the run calls into plugins: who is to be named when they fail, and what they must leave as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..contract.assignment import NOISE
from ..contract.interfaces import Clusterer, Encoder
from ..contract.reference import short
from ..data.data import Data
from ..errors import BrokenPlugin, DeepclustError, TrainingFailed
from ..toolbox.inference import evaluating
from ..words import counted

WATCHED = 256  # samples
TIE = 1e-5  # between soft assignments


def source(record: Mapping[str, Any], kind: str) -> str:
    """Which component a model's record speaks of: ``clusterer 'dec' (deepclust 0.1.0)``."""
    name = record[kind]["name"]
    distribution = record.get("versions", {}).get("plugins", {}).get(name)
    return f"{kind} '{short(name)}'" + (f" ({distribution})" if distribution else "")


@contextmanager
def called(who: str, doing: str) -> Iterator[None]:
    """Note on an error that nobody foresaw whose it is. who: as ``source``. doing: such as ``"fit"``.

    Raises TrainingFailed where the plugin would end the process.
    """
    try:
        yield
    except (DeepclustError, OSError):
        raise
    except SystemExit as error:
        raise TrainingFailed(f"{who} ended the process in {doing} (exit code {error.code}).") from error
    except Exception as error:
        error.add_note(f"{who} failed in {doing}")
        raise


class Watch:
    """Some samples as they are now, to see whether a plugin changes them."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.indices = torch.linspace(0, len(data) - 1, min(WATCHED, len(data)), dtype=torch.float64).long()
        self.before = data.given(self.indices).clone()

    def check(self, who: str) -> None:
        """Raise BrokenPlugin where samples are others now."""
        now = self.data.given(self.indices)
        if not torch.equal(now, self.before):
            bad = int((now != self.before).flatten(1).any(dim=1).sum())
            raise BrokenPlugin(
                f"{who} changed the data: {bad} of {counted(len(now), 'sample')} that were looked at are "
                "others now. It must work on copies: x = x - mean, not x -= mean."
            )


def other_labels(clusterer: Clusterer, z: Tensor, who: str) -> str:
    """A sentence where labels of codes z (N, D) are not those of the largest soft assignment, else none."""
    indices = torch.linspace(0, len(z) - 1, min(WATCHED, len(z)), dtype=torch.float64).long()
    with evaluating(clusterer):
        rows = z[indices.to(z.device)]
        labels, q = clusterer.predict(rows), clusterer(rows)
    own = q.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    other = (labels != NOISE) & (own < q.amax(dim=1) - TIE)
    if not (bad := int(other.sum())):
        return ""
    return (
        f"{who} puts {bad} of {counted(len(rows), 'sample')} that were looked at into another cluster than "
        "that of their largest soft assignment: its confidences are not those of its labels."
    )


def check_shape(z: Tensor, encoder: Encoder, count: int, who: str) -> None:
    """Raise BrokenPlugin where the codes of ``count`` samples are not (count, latent_dim)."""
    if z.shape != (count, encoder.latent_dim):
        raise BrokenPlugin(
            f"{who} gives codes of shape {tuple(z.shape)} for {counted(count, 'sample')}, but says that "
            f"latent_dim is {encoder.latent_dim}: they must be ({count}, {encoder.latent_dim})."
        )
