"""What is said of the values of a folder's images: their range, few grey levels, not the training's scale."""

from __future__ import annotations

import numpy as np

from ...core import InvalidData
from .decoding import SAMPLED_SIDE, Scale
from .survey import POINTS, SAMPLED, Survey

FEW_LEVELS = 32  # of 256
CLOSE = 128  # levels
RARE = 1 / 1000  # share of the pixels whose levels are not counted
FEWEST_PIXELS = 1024  # that tell anything of levels
MOST_CLIPPED = 0.9  # share of the values outside a range that was given by hand
MARGIN, FAR_SHARE = (
    1 / 10,
    1 / 20,
)  # beyond training's range by so much of it, of the values
FAR_NARROWER = 1 / 8  # of training's range
BY_HAND = "-s data.range=LOW..HIGH"


def of_range(survey: Survey, scale: Scale | None, said_by: str = "") -> list[str]:
    """One line of what becomes black and white; none where bytes stay as they are.

    said_by: who said the range, empty where the sample did.
    """
    if scale is None:
        return []
    text = f"values from {_span(scale.low, scale.high)} become black to white"
    if said_by:
        text += f", {said_by}"
    else:
        files = _files(survey.n_looked - survey.n_bytes)
        text += (
            f" (a sample of {files} holds {_span(survey.quantiles[0], survey.quantiles[-1])}, 99.8 % of it "
            f"{_span(*survey.bulk)}); {BY_HAND} says it by hand"
        )
    if survey.n_bytes and not scale.bytes_too:
        text += f"; bytes, in {survey.n_bytes} of {_files(survey.n_looked)} looked at, stay as they are"
    return [text]


def levels(images: np.ndarray) -> np.ndarray:
    """How often each grey level is there in 256 images (N, C, H, W), evenly spaced.  # (256,)"""
    counts = np.zeros(256, np.int64)
    rows, columns = (-(-side // SAMPLED_SIDE) for side in images.shape[2:])
    for i in np.unique(np.linspace(0, len(images) - 1, SAMPLED).astype(np.int64)).tolist():
        counts += np.bincount(images[i, :, ::rows, ::columns].reshape(-1), minlength=256)
    return counts


def of_levels(images: np.ndarray, survey: Survey, scale: Scale | None, *, by_hand: bool) -> list[str]:
    """A sentence where images (N, C, H, W) that were decoded on a scale have few grey levels.

    Of 256 images, evenly spaced, at most 128 x 128 pixels each; the rarest pixels, 0.1 %, do not count.
    """
    counts = levels(images)
    total = int(counts.sum())
    common = np.argsort(-counts, kind="stable")
    n = int(np.searchsorted(np.cumsum(counts[common]), (1 - RARE) * total)) + 1
    if total < FEWEST_PIXELS or n >= FEW_LEVELS:
        return []
    first, last = int(common[:n].min()), int(common[:n].max())
    held = f"99.9 % of the pixels hold {n} of 256 grey levels"
    if scale is not None and by_hand and (scale.bytes_too or survey.quantiles):
        if last - first >= CLOSE:
            return []  # what the files have is spread over all
        step = (scale.high - scale.low) / 255
        left = _span(scale.low + first * step, scale.low + last * step)
        return [f"{held}, values from {left} of data.range; give a narrower one, or none."]
    if first == last:
        return [f"{held}: the images show next to nothing; look at the files."]
    if len(set(survey.quantiles)) >= FEW_LEVELS:
        most = _span(survey.quantiles[POINTS // 20], survey.quantiles[-POINTS // 20])
        return [
            f"{held}, and the files hold more values, nine in ten from {most}: where values close to each "
            f"other matter, {BY_HAND} spreads them from black to white."
        ]
    if last - first < CLOSE and not survey.quantiles:
        return [
            f"{held}, and these are close to each other: -s data.range={first}..{last} spreads them from "
            "black to white."
        ]
    return [
        f"{held}: right for drawings and masks; finer shades of photographs were lost before these files "
        "were written, so export them anew with 8 bits a channel or more."
    ]


def of_clipping(images: np.ndarray, survey: Survey, scale: Scale | None) -> list[str]:
    """A sentence where a range that was given by hand leaves out nearly all values of images (N, C, H, W).

    Raises InvalidData where it leaves out all, on one side.
    """
    if scale is None:
        return []
    counts, there = levels(images), ""
    span = _span(scale.low, scale.high)
    if survey.quantiles:
        share = survey.outside(scale.low, scale.high)
        there = f"; those of a sample go from {_span(*survey.bulk)}"
    elif scale.bytes_too and (scale.low > 0 or scale.high < 255):
        # bytes at the window's own end count too, but none are below 0 or above 255
        beyond = counts[0] * (scale.low > 0) + counts[255] * (scale.high < 255)
        share = float(beyond / max(1, counts.sum()))
        there = "; bytes go from 0 to 255"
    else:
        return []
    if counts.sum() in (counts[0], counts[255]) and len(images) > 1:
        colour = "black" if counts[0] else "white"
        raise InvalidData(
            f"with data.range={scale.low:g}..{scale.high:g} all images are {colour}: their values lie "
            f"outside it{there}. Give the range that they have, or none."
        )
    if share < MOST_CLIPPED:
        return []
    return [f"{share:.0%} of the values lie outside data.range, {span}, and become black or white{there}."]


def of_training(
    survey: Survey, scale: Scale | None, source: tuple[float, float] | None, held: tuple[float, float] | None
) -> list[str]:
    """A sentence where new images have values on another scale than those of a model's training.

    source, held: the training's, see ``Preparation``.
    """
    if source is None:
        if scale is None:
            return []
        return [
            "the run was trained on bytes, and these images have values of more than 8 bits: those from "
            f"{_span(scale.low, scale.high)} are taken for black to white; {BY_HAND} says which are."
        ]
    low, high = held or source
    trained = _span(low, high)
    if not survey.quantiles:
        if held is None:  # bytes there, too
            return []
        return [
            f"the run was trained on values from {trained}, and these images have bytes, which are taken as "
            "they are, 0 for black and 255 for white."
        ]
    here, width = survey.bulk, high - low
    if survey.outside(low - MARGIN * width, high + MARGIN * width) > FAR_SHARE:
        what = f"{survey.outside(low, high):.0%} of the values lie outside its range, {trained};"
    elif here[1] - here[0] < FAR_NARROWER * width:
        what = f"the values use little of its range, {trained};"
    else:
        return []
    return [
        f"another scale than in training: {what} here they go from {_span(*here)}. Bring the images to one "
        f"scale, or say with {BY_HAND} which of their values are black and white."
    ]


def _span(low: float, high: float) -> str:
    return f"{low:.6g} to {high:.6g}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
