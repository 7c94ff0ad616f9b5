"""Folders of images: what the pixels of each mode, format and size become."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepclust.core import InvalidSetting
from made_photo import RNG, channels_last, load, noise, photos, save

pytestmark = pytest.mark.usefixtures("photo_folder")

# Modes and formats


def test_pixels_of_lossless_files_are_kept_in_the_order_of_their_names():
    images = photos()
    data = load()
    assert data.files == sorted(images)
    assert data.x.dtype == torch.uint8
    assert np.array_equal(channels_last(data), np.stack([images[n] for n in data.files]))
    assert data.root == Path("photos").resolve()
    assert "photos" in data.description
    assert "12 RGB images of 8x8" in data.description
    assert np.allclose(data.batch(torch.tensor([3])).numpy() * 255, np.moveaxis(images["003.png"], 2, 0))


def test_no_warning_of_the_read_only_map():
    photos()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load()


GREY = noise(channels=1)
COLOUR = noise()
ALPHA = noise(channels=1)


def over_white(pixels, alpha):
    share = alpha[..., None].astype(float) / 255
    return pixels * share + 255 * (1 - share)


def palette(transparent=None):
    image = Image.fromarray((GREY % 4).astype(np.uint8), "L").convert("L")
    paletted = Image.new("P", image.size)
    paletted.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    paletted.putdata(list((GREY % 4).ravel().tolist()))
    return paletted


PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
DEEP = RNG.integers(0, 65536, (8, 8)).astype(np.uint16)
SHARES = RNG.random((8, 8)).astype(np.float32)
WIDE = RNG.integers(-(2**30), 2**30, (8, 8)).astype(np.int32)


def stretched(values):
    values = values.astype(float)
    return (values - values.min()) / (values.max() - values.min()) * 255


MODES = {
    "grey": ("a.png", lambda: Image.fromarray(GREY), {}, GREY, 0),
    "black and white": ("a.png", lambda: Image.fromarray(GREY > 99), {}, (GREY > 99) * 255, 0),
    "colour": ("a.png", lambda: Image.fromarray(COLOUR), {}, COLOUR, 0),
    "bmp": ("a.bmp", lambda: Image.fromarray(COLOUR), {}, COLOUR, 0),
    "ppm": ("a.ppm", lambda: Image.fromarray(COLOUR), {}, COLOUR, 0),
    "tiff": ("a.tif", lambda: Image.fromarray(COLOUR), {}, COLOUR, 0),
    "webp": ("a.webp", lambda: Image.fromarray(COLOUR), {"lossless": True}, COLOUR, 0),
    "RGBA": (
        "a.png", lambda: Image.fromarray(np.dstack([COLOUR, ALPHA])), {}, over_white(COLOUR, ALPHA), 1,
    ),
    "grey with alpha": (
        "a.png", lambda: Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), {},
        over_white(GREY[..., None], ALPHA)[..., 0], 1,
    ),
    "palette": ("a.png", palette, {}, PALETTE[GREY % 4], 0),
    "palette with a transparent colour": (
        "a.png", palette, {"transparency": 1},
        np.where((GREY % 4 == 1)[..., None], 255, PALETTE[GREY % 4]), 0,
    ),
    "gif": ("a.gif", palette, {}, PALETTE[GREY % 4], 0),
    "transparent grey value": (
        "a.png", lambda: Image.fromarray(GREY % 4), {"transparency": 2},
        np.where(GREY % 4 == 2, 255, GREY % 4), 0,
    ),
    "CMYK": (
        "a.tif", lambda: Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)]), "CMYK"), {},
        255 - COLOUR.astype(int), 0,
    ),
    "16 bits": ("a.png", lambda: Image.fromarray(DEEP), {}, DEEP / 257, 0.51),
    "16 bits, tiff": ("a.tif", lambda: Image.fromarray(DEEP), {}, DEEP / 257, 0.51),
    "16 bits, big-endian": ("a.pgm", lambda: Image.fromarray(DEEP), {}, DEEP / 257, 0.51),
    "32 bits": ("a.tif", lambda: Image.fromarray(WIDE), {}, stretched(WIDE), 0.51),
    "fractions to 1": ("a.tif", lambda: Image.fromarray(SHARES), {}, SHARES * 255, 0.51),
    "fractions to 255": ("a.tif", lambda: Image.fromarray(SHARES * 250), {}, SHARES * 250, 0.51),
    "other fractions": ("a.tif", lambda: Image.fromarray(SHARES - 9), {}, stretched(SHARES), 0.51),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_modes(mode):
    name, make, options, expected, tolerance = MODES[mode]
    save(name, make(), **options)
    expected = np.asarray(expected, float)
    shown = load(channels=3).x[0].numpy().astype(float)
    as_colour = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    assert np.abs(shown - np.moveaxis(as_colour, 2, 0)).max() <= tolerance
    grey = load(channels=1).x[0, 0].numpy()
    assert np.abs(grey - as_colour @ [0.299, 0.587, 0.114]).max() <= tolerance + 1.01


@pytest.mark.parametrize(("modes", "channels"), [(["L", "1", "I;16"], 1), (["L", "RGB"], 3), (["P"], 3)])
def test_channels_are_grey_where_all_images_are(modes, channels):
    for i, mode in enumerate(modes):
        save(f"{i}.png", Image.new(mode, (8, 8)))
    assert load().shape == (channels, 8, 8)


def test_the_first_frame_of_an_animation():
    frames = [Image.fromarray(noise(channels=1)) for _ in range(3)]
    save("a.png", frames[0], save_all=True, append_images=frames[1:])
    save("b.tif", frames[0], save_all=True, append_images=frames[1:])
    assert np.array_equal(channels_last(load()), np.stack([np.asarray(frames[0])[..., None]] * 2))


def turned_back(pixels, orientation):
    """What a camera stores that was held so: where EXIF says that row 0 and column 0 are shown."""
    stored = {
        1: lambda a: a,  # top, left
        2: lambda a: a[:, ::-1],  # top, right
        3: lambda a: a[::-1, ::-1],  # bottom, right
        4: lambda a: a[::-1],  # bottom, left
        5: lambda a: a.swapaxes(0, 1),  # left, top
        6: lambda a: a[:, ::-1].swapaxes(0, 1),  # right, top
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
        8: lambda a: a[::-1].swapaxes(0, 1),  # left, bottom
    }
    return np.ascontiguousarray(stored[orientation](pixels))


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=["raw", "lzw"])
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_images_are_turned_as_exif_says(ending, options):
    shown = noise(6, 10)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        more = options if ending == "tif" else {"lossless": True} if ending == "webp" else {}
        save(f"{orientation}.{ending}", turned_back(shown, orientation), exif=exif, **more)
    data = load()
    assert data.shape == (3, 6, 10), "the size of the images as they are shown"
    assert np.array_equal(channels_last(data), np.stack([shown] * 8))


def test_large_jpegs_are_turned_as_exif_says():
    """Four flat quarters, which no scaling changes away from their edges."""
    colours = RNG.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    shown = colours.repeat(400, axis=0).repeat(600, axis=1)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"{orientation}.jpg", turned_back(shown, orientation), exif=exif, quality=95, subsampling=0)
    found = channels_last(load(image_size="20x30")).astype(int)
    expected = colours.repeat(10, axis=0).repeat(15, axis=1)
    flat = np.abs(found - expected).max(axis=(0, 3))
    flat[8:12], flat[:, 12:18] = 0, 0
    assert flat.max() <= 6


def test_broken_exif_is_no_reason_to_leave_an_image_out():
    save("a.jpg", np.full((8, 8, 3), 99, np.uint8), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\xff")
    data = load()
    assert len(data) == 1
    assert np.abs(data.x.numpy().astype(int) - 99).max() <= 2


# Sizes


@pytest.mark.parametrize(
    ("sizes", "asked", "expected"),
    [
        ([(8, 8), (8, 8)], "auto", (8, 8)),
        ([(30, 20), (30, 20)], "auto", (30, 20)),
        ([(8, 8), (8, 9)], "auto", (64, 64)),
        ([(128, 128)], "auto", (128, 128)),
        ([(129, 100)], "auto", (64, 64)),
        ([(8, 8)], "16", (16, 16)),
        ([(8, 8)], 16, (16, 16)),
        ([(8, 8)], "12x20", (12, 20)),
    ],
)
def test_sizes(sizes, asked, expected):
    for i, size in enumerate(sizes):
        save(f"{i}.png", noise(*size))
    assert load(image_size=asked).shape == (3, *expected)


@pytest.mark.parametrize("size", ["0", "-3", "big", "8x", "x8", "8x8x8", "5000", "", "1e2", "8 x 8"])
def test_sizes_that_are_none(size):
    photos(1)
    with pytest.raises(InvalidSetting, match="image_size.*HEIGHTxWIDTH"):
        load(image_size=size)
    assert not Path("cache").exists()


@pytest.mark.parametrize("scale", [1, 4, 20])
def test_the_centre_is_kept(scale):
    """Of three bands side by side, or one on another, the one in the middle makes the square.

    Shrinking averages over pixels on both sides of the square's edges.
    """
    bands = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)[:, None]
    tall = bands.repeat(8 * scale, axis=0).repeat(8 * scale, axis=1)
    save("tall.png", tall)
    save("wide.png", np.ascontiguousarray(tall.swapaxes(0, 1)))
    edge = 0 if scale == 1 else 1
    found = channels_last(load(image_size=8))[:, edge : 8 - edge, edge : 8 - edge]
    assert (found == (0, 255, 0)).all()


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("size", [64, 100, 512, 2000])
def test_shrinking_averages_over_all_pixels(ending, size):
    """A ramp stays a ramp, and the finest checkerboard becomes its mean."""
    ramp = np.broadcast_to(np.linspace(0, 255, size), (size, size)).astype(np.uint8)
    board = (np.indices((size, size)).sum(axis=0) % 2 * 255).astype(np.uint8)
    save(f"ramp.{ending}", np.ascontiguousarray(ramp), **({"quality": 100} if ending == "jpg" else {}))
    save(f"board.{ending}", board, **({"quality": 100} if ending == "jpg" else {}))
    found_board, found_ramp = channels_last(load(image_size=16))[..., 0].astype(float)
    assert np.abs(found_board - 127.5).max() < 12
    assert np.abs(found_ramp - (np.arange(16) + 0.5) * 255 / 16)[:, 1:-1].max() < 2.5
