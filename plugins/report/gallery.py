"""What the encoder makes, as the page shows it: reconstructions, denoised samples, new ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ...core import Generates, Result, evaluating
from .decoding import MASKED, Decoded, decode_samples
from .picture import Pictures
from .sheet import sample_name
from .text import setting_text

SHOWN, GENERATED = 10, 40
MEASURED, MOST_VALUES = 512, 2**23  # samples whose errors are measured: fewer where they are large
Scores = dict[str, float]


def show_decoded(result: Result, pictures: Pictures) -> tuple[dict[str, Any] | None, Scores]:
    """Reconstructed and denoised samples in words and, of pictures, in pictures; and their PSNR.

    Of the held-out samples where there are any: random members of different clusters are shown, errors
    are measured on more, drawn at random. Scores are of noise that the encoder was trained to take off.
    """
    source = result if result.test is None else result.test
    rng = np.random.default_rng(result.seed)
    index = _members(source, rng)
    shown = decode_samples(result.encoder, source.data, index, result.seed)
    n = min(MEASURED, len(source.labels), max(SHOWN, MOST_VALUES // math.prod(source.data.shape)))
    some = np.sort(rng.choice(len(source.labels), n, replace=False))
    made = decode_samples(result.encoder, source.data, some, result.seed)
    if shown is None or made is None:
        return None, {}
    scores = {"psnr_noisy": made.psnr(made.noisy), "psnr_denoised": made.psnr(made.denoised)}
    found = {name: value for name, value in scores.items() if value is not None}
    content = {
        "rows": _rows(source, index, shown, pictures) if pictures.there else [],
        "n": n,
        "held_out": result.test is not None,
        "noise": _noise(result.record) if made.own_noise else None,
        "masked": MASKED,
        "reconstruction": made.error(made.reconstruction),
        "denoised": made.error(made.denoised),
        "noisy": made.error(made.noisy),
        "variance": made.variance(),
        "psnr": found if len(found) == len(scores) else None,
    }
    return content, found if made.own_noise else {}


def _members(source: Result, rng: np.random.Generator) -> np.ndarray:
    """A random member of each of some clusters."""
    filled = np.unique(source.labels)
    some = np.unique(np.linspace(0, len(filled) - 1, min(SHOWN, len(filled))).round()).astype(int)
    return np.array([rng.choice(np.flatnonzero(source.labels == filled[i])) for i in some], dtype=np.int64)


def _rows(
    source: Result, index: np.ndarray, shown: Decoded, pictures: Pictures
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Rows of pictures, each with a title and the name and data URI of each picture."""
    parts = {
        "original": shown.original, "reconstruction": shown.reconstruction, "with noise": shown.noisy,
        "denoised": shown.denoised,
    }  # fmt: skip
    names = [sample_name(source, i) for i in index.tolist()]
    return [
        (title, [(f"{title}: {name}", pictures.encode(x)) for name, x in zip(names, part, strict=True)])
        for title, part in parts.items()
    ]


def _noise(record: Mapping[str, Any]) -> str:
    """The encoder's settings that speak of noise, as users write them."""
    settings = record.get("request", {}).get("encoder", {}).get("settings", {})
    return ", ".join(f"{name}={setting_text(value)}" for name, value in settings.items() if "noise" in name)


def show_generated(result: Result, pictures: Pictures) -> list[str]:
    """New samples as data URIs; none where the encoder makes none or samples are no pictures."""
    if not pictures.there or not isinstance(result.encoder, Generates):
        return []
    with evaluating(result.encoder):
        made = result.encoder.generate(GENERATED, torch.Generator().manual_seed(result.seed))
    return [pictures.encode(x) for x in made]
