"""Photos of noise in a folder, which the fixture ``photo_folder`` makes, and what is loaded of them."""

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deepclust.core import Data, Storage
from deepclust.core.contract.config import build
from deepclust.plugins.images.folder import Images

RNG = np.random.default_rng(0)


def load(path="photos", place=None, **settings) -> Data:
    config = build(Images.Config, {"path": str(path), **settings}, "data")
    return Images(config).load(place or Storage(Path("nowhere"), quiet=True))


def fresh(**settings) -> Data:
    """What a machine gives that has never seen the folder."""
    shutil.rmtree("fresh", ignore_errors=True)
    return load(place=Storage(Path("nowhere"), cache=Path("fresh"), quiet=True), **settings)


def save(name, pixels, folder="photos", **options):
    """Write an image, or an image of these pixels."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)


def noise(height=8, width=8, channels=3):
    """Pixels (H, W, C), or (H, W) of one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def photos(n=12, folder="photos"):
    """n small images, by their names."""
    images = {f"{i:03}.png": noise() for i in range(n)}
    for name, pixels in images.items():
        save(name, pixels, folder)
    return images


def added():
    save("004x.png", noise())


def removed():
    Path("photos/004.png").unlink()


def renamed():
    os.rename("photos/004.png", "photos/zzz.png")


def broke():
    Path("photos/004.png").write_bytes(b"no image")


def channels_last(data):
    return np.moveaxis(data.x.numpy(), 1, 3)


def cache_files(cache="cache"):
    return sorted(p.name.partition("-")[0] for p in Path(cache).rglob("*") if p.is_file())


def same(a: Data, b: Data) -> bool:
    return (
        torch.equal(a.x, b.x) and a.files == b.files and a.skipped == b.skipped
        and a.description == b.description
    )  # fmt: skip
