"""Pictures to learn from: smooth ones, and labelled ones."""

import numpy as np
import torch
import torch.nn.functional as F

from deepclust.core import Data, truth_of


def pictures(n=60, shape=(1, 8, 8), seed=0) -> Data:
    """Smooth images from 0 to 1."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, shape[0], 2, 2, generator=g)
    return Data(F.interpolate(coarse, shape[1:], mode="bilinear").clamp(0, 1), "pictures")


def labelled_pictures(n=60, shape=(1, 8, 8), classes=3, unknown=()) -> Data:
    """Noisy copies of one picture for each class, labelled but for ``unknown``."""
    g = torch.Generator().manual_seed(0)
    y = np.arange(n) % classes
    x = torch.rand(classes, *shape, generator=g)[y] + 0.1 * torch.randn(n, *shape, generator=g)
    y[list(unknown)] = -1
    return Data(x, "pictures", revealed=truth_of(y))
