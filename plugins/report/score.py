"""What the evaluators before the report gave: numbers, sentences, and the figures that they left."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .text import number

HELD_OUT = "test_"
MEANING = {
    "clustering": {
        "accuracy": "right, clusters matched one to one with classes",
        "purity": "many-to-one accuracy: in their cluster's majority class",
        "nmi": "information shared with the classes, 0 to 1",
        "ari": "agreement of pairs with the classes, chance is 0",
        "mined_purity": "of the neighbours that clusters were learned from have the sample's class",
        "neighbour_purity": "of a sample's nearest codes, by cosine, have its class",
        "silhouette": "compactness of the codes, -1 to 1",
        "davies_bouldin": "spread over separation, lower is better",
        "effective_clusters": "clusters of equal size that would be as uneven",
        "mean_confidence": "of the largest soft assignment",
        "samples_without_truth": "left out of the scores that need a class",
    },
    "clusterer": {
        "unsupervised_loss": "of samples held back, no labels; less is better, among runs of equal settings",
    },
    "report": {
        "psnr_noisy": "dB, of samples with noise against those without",
        "psnr_denoised": "dB, of the same through the code and back",
    },
}
SHORT = ("nmi", "ari", "psnr", "auroc", "auc", "pca", "svm")  # words that are written in capitals
PIXELS_PER_INCH = 96  # of a page


@dataclass(frozen=True)
class Part:
    """What one evaluator gave: tiles, (name, text) of each text, (name, data URI, width) of each figure."""

    name: str
    tiles: list[dict[str, str]]
    texts: list[tuple[str, str]]
    figures: list[tuple[str, str, int]]


def read_parts(given: Sequence[tuple[str, Mapping[str, Any]]], figures: Path) -> list[Part]:
    """What each evaluator gave by its name, with the pictures ``NAME-*`` below ``figures``.

    Pictures of evaluators that are not among them, which an earlier run may have left, are no part.
    """
    owned: dict[str, list[Path]] = {name: [] for name, _ in given}
    for path in sorted(figures.iterdir()) if figures.is_dir() else []:
        owners = [name for name in owned if path.name.startswith(f"{name}-")]
        if owners:  # 'svm-linear-x.png' is of 'svm-linear', not of 'svm'
            owned[max(owners, key=len)].append(path)
    return [
        Part(
            name,
            tiles(name, values),
            [(_spoken(key), value) for key, value in values.items() if isinstance(value, str)],
            _pictures(name, owned[name]),
        )
        for name, values in given
    ]


def tiles(evaluator: str, values: Mapping[str, Any]) -> list[dict[str, str]]:
    """The single numbers that an evaluator gave: name, value and what it means; ``-`` for one that is None.

    ``NAME_samples`` beside ``NAME`` says how many samples that one is of; ``test_NAME`` is the same of
    held-out samples.
    """
    made = []
    for name, value in values.items():
        noted = name.endswith("_samples") and name.removesuffix("_samples") in values
        if noted or isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
            continue
        bare = name.removeprefix(HELD_OUT)
        meaning = MEANING.get(evaluator, {}).get(bare, "")
        if meaning and bare != name:
            meaning = "the same of held-out samples"
        if f"{name}_samples" in values:
            meaning += f" (of {number(values[f'{name}_samples'])} samples)"
        made.append(
            {
                "name": _spoken(name),
                "value": "-" if value is None else number(value),
                "meaning": meaning.strip(),
            }
        )
    return made


def _spoken(name: str) -> str:
    words = name.replace("davies_bouldin", "Davies-Bouldin").split("_")
    return " ".join(word.upper() if word in SHORT else word for word in words)


def _pictures(name: str, paths: list[Path]) -> list[tuple[str, str, int]]:
    """The title, data URI and width (0: its own) of each figure: its PNG, its SVG where there is none."""
    made = []
    for path in paths:
        kind = {".png": "png", ".svg": "svg+xml"}.get(path.suffix)
        if kind is None or (path.suffix == ".svg" and path.with_suffix(".png") in paths):
            continue
        content, width = path.read_bytes(), 0
        if kind == "png":
            try:
                with Image.open(io.BytesIO(content)) as image:
                    width = round(
                        image.width * PIXELS_PER_INCH / image.info.get("dpi", (PIXELS_PER_INCH,))[0]
                    )
                    image.verify()
            except (OSError, SyntaxError, ValueError):  # what PIL raises for files that are no PNG
                continue
        title = path.stem.removeprefix(f"{name}-").replace("-", " ")
        made.append((title, f"data:image/{kind};base64,{base64.b64encode(content).decode()}", width))
    return made
