"""RandAugment (Cubuk et al., 2020): operations drawn from a list of fourteen, batched by operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .colour import brightness, contrast, saturation
from .draws import as_float, on_host, uniform
from .geometry import affine
from .tone import autocontrast, equalize, posterize, sharpness, solarize

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (
    "identity", "autocontrast", "equalize", "solarize", "posterize",
    "saturation", "contrast", "brightness", "sharpness", *GEOMETRIC,
)  # fmt: skip
MOST = 30.0  # the end of the scale of magnitudes


@dataclass(frozen=True)
class Ranges:
    """What the operations do at the end of the scale; the defaults are torchvision's.

    shear about the corner, and shift, as shares of the side; rotation in degrees; saturation, contrast,
    brightness and sharpness change by `factor`, with down_only never above 1. For all: posterize from 8
    down to 4 bits, solarize from 1 down to 0.
    """

    shear: float = 0.3
    shift: float = 150 / 331
    rotation: float = 30.0
    factor: float = 0.9
    down_only: bool = False


TORCHVISION = Ranges()
SCAN = Ranges(shear=0.1, shift=0.1, factor=0.95, down_only=True)  # the list that FixMatch and SCAN use


def apply_operations(
    x: Tensor, chosen: Sequence[int], magnitude: Tensor, sign: Tensor, ranges: Ranges = TORCHVISION
) -> Tensor:
    """In each sample the operation OPERATIONS[chosen], at magnitude (B,) in 0..30, up or down by sign (B,).

    Bilinear, zeros from outside. The sign has no meaning for posterize and solarize.
    """
    x = as_float(x)
    groups: dict[str, list[int]] = {}
    for i, which in enumerate(chosen):
        name = OPERATIONS[which]
        groups.setdefault("affine" if name in GEOMETRIC else name, []).append(i)
    out, share = x.clone(), magnitude / MOST
    kind = torch.tensor(
        [GEOMETRIC.index(OPERATIONS[w]) if OPERATIONS[w] in GEOMETRIC else -1 for w in chosen]
    )
    kind = kind.to(x.device, non_blocking=True)
    for name, members in groups.items():
        if name != "identity":
            index = torch.tensor(members).to(x.device, non_blocking=True)
            part, amount, up = x[index], share[index], sign[index]
            if name == "affine":
                new = _move(part, kind[index], amount * up, ranges)
            else:
                new = _tone(name, part, amount, -amount if ranges.down_only else amount * up, ranges)
            out.index_copy_(0, index, new)
    return out


def _tone(name: str, x: Tensor, share: Tensor, signed: Tensor, ranges: Ranges) -> Tensor:
    if name == "solarize":
        return solarize(x, 1 - share)
    if name == "posterize":
        return posterize(x, 8 - (share * 4).round())
    if name in ("autocontrast", "equalize"):
        return autocontrast(x) if name == "autocontrast" else equalize(x)
    by_factor = {
        "saturation": saturation,
        "contrast": contrast,
        "brightness": brightness,
        "sharpness": sharpness,
    }
    return by_factor[name](x, 1 + ranges.factor * signed)


def _move(x: Tensor, kind: Tensor, signed: Tensor, ranges: Ranges) -> Tensor:
    """The five geometric operations in one resampling."""
    angle, shear_x, shear_y, right, down = (torch.where(kind == k, signed, 0.0) for k in range(5))
    shear = torch.rad2deg(torch.stack((shear_x, shear_y), 1).mul_(ranges.shear).atan_())
    height, width = x.shape[-2:]
    translate = torch.stack((right * width, down * height), 1).mul_(ranges.shift).trunc_()
    corner = (kind == GEOMETRIC.index("shear_x")) | (kind == GEOMETRIC.index("shear_y"))
    return affine(x, angle * -ranges.rotation, translate, torch.ones_like(angle), shear, corner)


def rand_augment(
    x: Tensor,
    operations: int = 2,
    magnitude: tuple[float, float] = (9.0, 9.0),
    ranges: Ranges = TORCHVISION,
    generator: Generator | None = None,
) -> Tensor:
    """So many operations one after another, each drawn for each sample from the fourteen, repeats allowed.

    The magnitude is uniform in the range, within 0..30, and new for each operation and sample.
    """
    for _ in range(operations):
        chosen = torch.randint(len(OPERATIONS), (len(x),), generator=on_host(generator)).tolist()
        strength = uniform(x, *magnitude, generator=generator)
        sign = torch.where(uniform(x, 0.0, 1.0, generator=generator) < 0.5, -1.0, 1.0)
        x = apply_operations(x, chosen, strength, sign, ranges)
    return x
