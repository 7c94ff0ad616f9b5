"""Folders of images: modes, sizes, broken files, and a cache that is right whatever happens to it."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from deepclust.cli import main
from deepclust.core import Data, DeepclustError, InvalidData, InvalidSetting, Place, Preparation
from deepclust.core.config import build
from deepclust.plugins.images import cache, decoding, pool
from deepclust.plugins.images.folder import Images
from deepclust.plugins.images.listing import list_images

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory is to hold the cache, and holds the folder ``photos``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPCLUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "CLOCK_STEP", 0)  # else files that were just made are always read again
    (tmp_path / "photos").mkdir()


def load(path="photos", place=None, **settings) -> Data:
    config = build(Images.Config, {"path": str(path), **settings}, "data")
    return Images(config).load(place or Place(Path("nowhere"), quiet=True))


def save(name, pixels, folder="photos", **options):
    """Write an image of these pixels."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def noise(height=8, width=8, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def photos(n=12, folder="photos"):
    """n small images, by their names."""
    images = {f"{i:03}.png": noise() for i in range(n)}
    for name, pixels in images.items():
        save(name, pixels, folder)
    return images


def first(first, chw=True):
    x = load().x if first is None else first.x
    return np.moveaxis(x.numpy(), 1, 3) if chw else x.numpy()


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded since it was last cleared, as a list of their shapes."""
    calls = []
    real = decoding.decode
    monkeypatch.setattr(
        decoding, "decode", lambda content, shape: calls.append(shape) or real(content, shape)
    )
    return calls


# Modes and formats


def test_pixels_of_lossless_files_are_kept_in_the_order_of_their_names():
    images = photos()
    data = load()
    assert data.files == sorted(images)
    assert data.x.dtype == torch.uint8
    assert np.array_equal(first(data), np.stack([images[n] for n in data.files]))
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
    assert np.array_equal(first(load()), np.stack([np.asarray(frames[0])[..., None]] * 2))


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
    assert np.array_equal(first(data), np.stack([shown] * 8))


def test_large_jpegs_are_turned_as_exif_says():
    """Four flat quarters, which no scaling changes away from their edges."""
    colours = RNG.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    shown = colours.repeat(400, axis=0).repeat(600, axis=1)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"{orientation}.jpg", turned_back(shown, orientation), exif=exif, quality=95, subsampling=0)
    found = first(load(image_size="20x30")).astype(int)
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
    found = first(load(image_size=8))[:, edge : 8 - edge, edge : 8 - edge]
    assert (found == (0, 255, 0)).all()


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("size", [64, 100, 512, 2000])
def test_shrinking_averages_over_all_pixels(ending, size):
    """A ramp stays a ramp, and the finest checkerboard becomes its mean."""
    ramp = np.broadcast_to(np.linspace(0, 255, size), (size, size)).astype(np.uint8)
    board = (np.indices((size, size)).sum(axis=0) % 2 * 255).astype(np.uint8)
    save(f"ramp.{ending}", np.ascontiguousarray(ramp), **({"quality": 100} if ending == "jpg" else {}))
    save(f"board.{ending}", board, **({"quality": 100} if ending == "jpg" else {}))
    found_board, found_ramp = first(load(image_size=16))[..., 0].astype(float)
    assert np.abs(found_board - 127.5).max() < 12
    assert np.abs(found_ramp - (np.arange(16) + 0.5) * 255 / 16)[:, 1:-1].max() < 2.5


# Which files


def test_which_files_are_images():
    pixels = noise()
    for name in ("b.PNG", "a.jpeg", "z/deep/er/x.Tiff", "z/y.bmp", 'c, "d"\n<b>&amp;\'.png', "ünï.png"):
        save(name, Image.fromarray(pixels), format="PNG" if name.startswith("c") else None)
    save(".hidden.png", pixels)
    save(".trash/a.png", pixels)
    Path("photos/notes.txt").write_text("no image")
    Path("photos/x.png").mkdir()
    os.mkfifo("photos/pipe.png")
    data = load()
    assert data.files == sorted(
        ["b.PNG", "a.jpeg", "z/deep/er/x.Tiff", "z/y.bmp", 'c, "d"\n<b>&amp;\'.png', "ünï.png"]
    )
    assert not data.skipped


def test_other_files_are_counted(capsys):
    photos(3)
    for name in ("a.txt", "b.txt", "c.csv", "Makefile"):
        (Path("photos") / name).write_text("no image")
    load(place=Place(Path("nowhere")))
    shown = capsys.readouterr().err
    assert "4 other files (.txt 2, .csv 1, without ending 1)" in shown
    assert "decoding: 3 images" in shown
    load()
    assert capsys.readouterr().err == ""


def test_links_to_folders_are_followed_and_never_in_circles():
    photos(2, "elsewhere")
    photos(2, "photos/z")
    os.symlink(Path("elsewhere").resolve(), "photos/link")
    os.symlink(Path("photos").resolve(), "photos/z/up")
    os.symlink("z", "photos/a")  # a second name of a folder that is there anyway
    os.symlink("nowhere.png", "photos/gone.png")
    os.symlink("loop.png", "photos/loop.png")
    data = load(max_skipped=0.5)
    assert data.files == ["link/000.png", "link/001.png", "z/000.png", "z/001.png"]
    assert dict(data.skipped) == {
        "gone.png": os.strerror(errno.ENOENT),
        "loop.png": os.strerror(errno.ELOOP),
    }


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there all names are Unicode")
def test_names_that_are_no_unicode(tmp_path):
    photos(2)
    os.rename(b"photos/001.png", b"photos/cl\xe9.png")
    Path(os.fsdecode(b"photos/bad\xff.png")).write_bytes(b"nothing")
    os.rename("photos", b"f\xf6lder")
    for _ in range(2):
        data = load(os.fsdecode(b"f\xf6lder"), max_skipped=0.5)
        assert data.files == ["000.png", "cl\\udce9.png"]
        assert [name for name, _ in data.skipped] == ["bad\\udcff.png"]
        json.dumps(data.files).encode("utf-8")
        data.description.encode("utf-8")


@pytest.mark.parametrize("content", [{}, {"notes.txt": b"x", "sub/rows.csv": b"1,2"}, {".hidden.png": b"x"}])
def test_a_folder_without_images(content):
    for name, text in content.items():
        (Path("photos") / name).parent.mkdir(exist_ok=True)
        (Path("photos") / name).write_bytes(text)
    with pytest.raises(InvalidData, match=r"no images in '.*photos'.*looked for.*\.jpg.*\.png") as caught:
        load()
    assert (".csv 1" in str(caught.value)) == ("notes.txt" in content)
    assert not Path("cache").exists()


def test_paths_that_are_no_folder():
    Path("file.png").write_bytes(b"")
    for path, text in (("nowhere", "does not exist"), ("file.png", "is a file"), ("", "--data")):
        with pytest.raises(InvalidData, match=text):
            load(path)


# Files that cannot be read


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def broken_files():
    good, photo = png(noise(40, 40)), io.BytesIO()
    Image.fromarray(noise(40, 40)).save(photo, "JPEG")
    bomb = bytearray(good)
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    bomb[29:33] = __import__("zlib").crc32(bomb[12:29]).to_bytes(4, "big")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    return {
        "bomb.png": (bytes(bomb), "pixels"),
        "cut.jpg": (photo.getvalue()[:-200], "truncated"),
        "cut.png": (good[:-200], ""),
        "cut-early.png": (good[:30], ""),
        "cut-head.jpg": (photo.getvalue()[:20], ""),
        "empty.png": (b"", "empty"),
        "eps.png": (eps, "Pillow"),
        "flipped.png": (bytes(flipped), ""),
        "gif.gif": (b"GIF89a" + bytes(20), ""),
        "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "Pillow"),
        "text.png": (b"hello", "Pillow"),
        "tiff.tif": (b"II*\0\x08\0\0\0\xff\xff", ""),
        "zeros.bmp": (b"BM" + bytes(60), ""),
    }


def test_files_that_cannot_be_decoded_are_named_with_the_reason(decoded):
    images, broken = photos(), broken_files()
    for name, (content, _) in broken.items():
        path = Path("photos") / name
        path.write_bytes(content)
    for _ in range(2):
        data = load(max_skipped=0.6, image_size=8)
        assert data.files == sorted(images)
        assert np.array_equal(first(data), np.stack([images[n] for n in sorted(images)]))
        assert dict(data.skipped).keys() == broken.keys()
        for name, reason in data.skipped:
            assert broken[name][1] in reason
            assert reason.strip()
            assert "\n" not in reason
            assert "0x" not in reason
        assert "13 unreadable left out" in data.description
    assert len(decoded) == 12 + 13 - 1, "the empty file is not decoded, and nothing is for a second time"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(decoded):
    photos(12)
    os.chmod("photos/003.png", 0)
    assert load().skipped == [("003.png", "Permission denied")]
    os.chmod("photos/003.png", 0o600)
    assert not load().skipped
    assert len(decoded) == 12


def test_a_file_that_could_not_be_read_is_tried_again(decoded):
    photos(12)
    os.symlink("../later.png", "photos/000x.png")
    assert len(load()) == 12
    assert len(load()) == 12
    save("later.png", noise(), ".")
    assert len(load()) == 13
    assert len(decoded) == 13


def test_what_failed_for_want_of_memory_is_tried_again(decoded, monkeypatch):
    photos(12)
    counting = decoding.decode

    def short(content, shape):
        if len(decoded) == 5 and not failed:
            failed.append(1)
            raise MemoryError
        return counting(content, shape)

    failed = []
    monkeypatch.setattr(decoding, "decode", short)
    assert load().skipped == [("005.png", "there was not enough memory to decode it")]
    assert not load().skipped
    assert len(decoded) == 12


def test_too_many_that_cannot_be_read():
    photos(16)
    for i in range(4):
        Path(f"photos/bad{i}.png").write_bytes(b"x" * i)
    with pytest.raises(InvalidData) as caught:
        load()
    for part in ("4 of 20 images", "(20%, where 10%", "bad0.png: the file is empty", "bad2.png: no image",
                 "...", "data.max_skipped=0.2"):  # fmt: skip
        assert part in str(caught.value)
    assert "bad3" not in str(caught.value)
    assert len(load(max_skipped=0.2)) == 16
    for path in Path("photos").glob("0*"):
        path.unlink()
    with pytest.raises(InvalidData, match="4 of 4 images"):
        load(max_skipped=1)


# Labels


def test_classes_are_the_first_folders_and_only_when_asked_for():
    for name in ("dog/1.png", "cat/a/1.png", "cat/b/2.png", "3.png", "empty/bad.png"):
        save(name, noise())
    Path("photos/empty/bad.png").write_bytes(b"")
    assert load(max_skipped=0.5).truth is None
    data = load(max_skipped=0.5, labels="folders")
    assert data.files == ["3.png", "cat/a/1.png", "cat/b/2.png", "dog/1.png"]
    assert data.truth.names == ("cat", "dog")
    assert data.truth.labels.tolist() == [-1, 0, 0, 1]
    with pytest.raises(InvalidSetting, match="none, folders"):
        load(labels="cat")


def test_a_folder_without_classes():
    photos(2)
    with pytest.raises(InvalidData, match="directly in"):
        load(labels="folders")


# The cache


def cache_files(cache="cache"):
    return sorted(p.name.partition("-")[0] for p in Path(cache).rglob("*") if p.is_file())


def fresh(monkeypatch=None, path="photos", **settings) -> Data:
    """What a machine gives that has never seen the folder."""
    shutil.rmtree("fresh", ignore_errors=True)
    return load(path, Place(Path("nowhere"), cache=Path("fresh"), quiet=True), **settings)


def same(a: Data, b: Data) -> bool:
    return (
        torch.equal(a.x, b.x) and a.files == b.files and a.skipped == b.skipped
        and a.description == b.description
    )  # fmt: skip


def test_a_second_start_reads_nothing(decoded, monkeypatch):
    photos()
    before = load()
    opened = []
    real = open

    def counting(path, *args, **more):
        if str(path).endswith(".png"):
            opened.append(path)
        return real(path, *args, **more)

    monkeypatch.setattr("builtins.open", counting)
    monkeypatch.setattr(Path, "open", lambda self, *args, **more: counting(self, *args, **more))
    after = load(image_size=8, channels=3)
    assert same(before, after)
    assert len(decoded) == 12
    assert not opened
    assert cache_files() == ["index.npz", "lock", "pixels"]


def added():
    save("004x.png", noise())


def removed():
    Path("photos/004.png").unlink()


def changed():
    save("004.png", noise())
    os.utime("photos/004.png", ns=(0, 0))


def renamed():
    os.rename("photos/004.png", "photos/zzz.png")


def renamed_in_place():
    os.rename("photos/004.png", "photos/004x.png")


def touched():
    os.utime("photos/004.png")


def swapped():
    os.rename("photos/004.png", "photos/swap.png")
    os.rename("photos/007.png", "photos/004.png")
    os.rename("photos/swap.png", "photos/007.png")


def broke():
    Path("photos/004.png").write_bytes(b"no image")


def moved():
    os.rename("photos", "elsewhere")
    os.rename("elsewhere/004.png", "elsewhere/sub.png")
    os.symlink("elsewhere", "photos")


CHANGES = {added: 1, removed: 0, changed: 1, renamed: 0, renamed_in_place: 0, touched: 0, swapped: 0,
           broke: 1, moved: 0}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_only_what_is_new_is_decoded(change, decoded):
    photos(12)
    load()
    decoded.clear()
    change()
    data = load()
    assert len(decoded) == CHANGES[change]
    assert same(data, fresh())
    decoded.clear()
    load()
    assert not decoded
    assert cache_files().count("pixels") == (2 if change is moved else 1)
    assert "part.npz" not in cache_files()


@pytest.mark.parametrize("change", [touched, renamed_in_place])
def test_the_pixel_file_stays_where_it_would_come_out_the_same(change):
    photos(12)
    load()
    before = next(Path("cache").rglob("pixels-*"))
    change()
    load()
    assert next(Path("cache").rglob("pixels-*")) == before


@pytest.mark.parametrize("step", [2 * 10**9, 4 * 10**9])
def test_a_change_within_the_clocks_step_is_seen(step, monkeypatch):
    """Same size, and the same time on a file system that counts in such steps: only the content tells."""

    def coarse(root, endings):
        listing = list_images(root, endings)
        return listing._replace(times=np.full_like(listing.times, listing.times // step * step))

    def change(value):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save("photos/a.bmp")

    monkeypatch.setattr("deepclust.plugins.images.folder.list_images", coarse)
    monkeypatch.setattr(cache, "CLOCK_STEP", step)
    for value in range(5):
        change(value)
        assert (load().x == value).all()


def test_a_folder_of_other_files_is_read_once(capsys):
    loud = Place(Path("nowhere"))
    photos(4)
    load(place=loud)
    for i in range(4):
        save(f"{i}.bmp", noise(), "others")
    capsys.readouterr()
    load("others", place=loud)
    assert "comparing" not in capsys.readouterr().err
    save("004.png", noise())
    load(place=loud)
    shown = capsys.readouterr().err
    assert "comparing: 1 images" in shown
    assert "taking from the cache: 4 images" in shown
    assert "decoding: 1 images" in shown


def test_each_size_has_its_own_pixels(decoded):
    photos(4)
    for _ in range(2):
        for size in (8, 4):
            assert load(image_size=size).shape == (3, size, size)
    assert len(decoded) == 8


def test_another_pillow_decodes_anew(decoded, monkeypatch):
    photos(4)
    load()
    monkeypatch.setattr("deepclust.plugins.images.index.VERSION", "another")
    load()
    assert len(decoded) == 8


@pytest.mark.parametrize("where", [1, 5, 11])
def test_ctrl_c_keeps_what_was_decoded(where, decoded, monkeypatch):
    photos(12)
    monkeypatch.setattr(pool, "CHUNK_FILES", 1)
    counting = decoding.decode

    def interrupted(content, shape):
        if len(decoded) == where:
            raise KeyboardInterrupt
        return counting(content, shape)

    monkeypatch.setattr(decoding, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt, match=f"decoding, at {where} of 12 images"):
        load()
    monkeypatch.setattr(decoding, "decode", counting)
    data = load()
    assert len(decoded) == 12
    assert same(data, fresh())
    assert cache_files() == ["index.npz", "lock", "pixels"]


@pytest.mark.parametrize("change", [added, removed, renamed, broke], ids=lambda change: change.__name__)
def test_ctrl_c_and_then_another_folder(change, decoded, monkeypatch):
    photos(12)
    monkeypatch.setattr(pool, "CHUNK_FILES", 1)
    counting = decoding.decode

    def interrupted(content, shape):
        if len(decoded) == 8:
            raise KeyboardInterrupt
        return counting(content, shape)

    monkeypatch.setattr(decoding, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load()
    monkeypatch.setattr(decoding, "decode", counting)
    change()
    data = load()
    assert len(decoded) == 12 + CHANGES[change]
    assert same(data, fresh())
    assert cache_files() == ["index.npz", "lock", "pixels"]


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from deepclust.core import Place
from deepclust.plugins.images import cache, decoding, index, pool
from deepclust.plugins.images.folder import Images, ImagesConfig

def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)

cache.SAVE_SECONDS, cache.SAVE_SHARE, pool.CHUNK_FILES = 0, float("inf"), 1
where, real, calls = sys.argv[1], decoding.decode, []
def decode(*args):
    calls.append(1)
    if where == "decoding" and len(calls) == 8:
        kill()
    if where == "slowly":
        time.sleep(0.05)
    return real(*args)
decoding.decode = decode
fsync, write = os.fsync, index.Index.write
if where == "waiting":
    os.fsync = lambda file: kill() if os.fstat(file).st_size == 11 * 192 else fsync(file)
if where == "moving":
    index.Index.write = lambda self, path, shape: kill() if self.complete else write(self, path, shape)
if where == "cleaning":
    index.Index.write = lambda self, path, shape: (
        write(self, path, shape), path.name == "index.npz" and kill()
    )
place = Place(Path("nowhere"), cache=Path(sys.argv[2]), quiet=True)
data = Images(ImagesConfig(path="photos", max_skipped=0.5)).load(place)
print(data.fingerprint(), len(calls))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_at_any_moment(decoded):
    photos(12)
    broke()
    moments = {"decoding": 5, "moving": 6, "waiting": 0, "cleaning": 0}
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, m, f"cache-{m}"]) for m in moments]
    expected = fresh(max_skipped=0.5)
    for process, (moment, left) in zip(processes, moments.items(), strict=True):
        assert process.wait() == -signal.SIGKILL
        decoded.clear()
        place = Place(Path("nowhere"), cache=Path(f"cache-{moment}"), quiet=True)
        assert same(load(place=place, max_skipped=0.5), expected)
        assert len(decoded) == left, moment
        assert cache_files(f"cache-{moment}") == ["index.npz", "lock", "pixels"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_before_the_pixels_were_on_the_disk(decoded):
    """What a power cut leaves: all is written down as done, and one row is not what was written."""
    photos(12)
    broke()
    assert subprocess.run([sys.executable, "-c", SCRIPT, "waiting", "cache"]).returncode == -signal.SIGKILL
    pixels = next(Path("cache").rglob("pixels-*"))
    pixels.write_bytes(pixels.read_bytes()[: 3 * 192] + bytes(192) + pixels.read_bytes()[4 * 192 :])
    data = load(max_skipped=0.5)
    assert len(decoded) == 1
    assert same(data, fresh(max_skipped=0.5))


def test_killed_after_a_part_was_moved_to_another_part(decoded, monkeypatch):
    photos(12)
    monkeypatch.setattr(pool, "CHUNK_FILES", 1)
    counting = decoding.decode

    def interrupted(content, shape):
        if len(decoded) == 8:
            raise KeyboardInterrupt
        return counting(content, shape)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load()
    added()
    with monkeypatch.context() as patch:

        def killed(*args):
            patch.setattr(cache._Update, "_save", lambda self: None)  # nothing is written from here on
            raise KeyboardInterrupt

        patch.setattr(cache, "decode_all", killed)
        with pytest.raises(KeyboardInterrupt):
            load()
    data = load()
    assert len(decoded) == 13
    assert same(data, fresh())


def test_two_processes_on_one_folder():
    photos(40)
    expected = fresh(max_skipped=0.5).fingerprint()
    command = [sys.executable, "-c", SCRIPT, "slowly", "cache"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].split() for process in processes]
    assert [fingerprint for fingerprint, _ in answers] == [expected] * 2
    assert sorted(int(count) for _, count in answers) == [0, 40]
    assert cache_files() == ["index.npz", "lock", "pixels"]


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwritten(path):
    path.write_bytes(b"garbage" * 100)


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [cut, overwritten, emptied, Path.unlink], ids=lambda damage: damage.__name__
)
@pytest.mark.parametrize("what", ["index.npz", "pixels-*", "lock"])
def test_a_damaged_cache_is_made_anew(what, damage):
    photos(12)
    load()
    expected = fresh()
    damage(next(Path("cache").rglob(what)))
    assert same(load(), expected)
    assert same(load(), expected)
    assert cache_files() == ["index.npz", "lock", "pixels"]


def test_damaged_pixels_are_not_taken_over(decoded):
    images = photos(12)
    load()
    pixels = next(Path("cache").rglob("pixels-*"))
    content = bytearray(pixels.read_bytes())
    content[5 * 192] ^= 0xFF
    pixels.write_bytes(content)
    added()
    decoded.clear()
    data = load()
    assert len(decoded) == 2
    assert np.array_equal(first(data)[6], images["005.png"])
    assert same(data, fresh())


def test_no_room_on_the_disk(monkeypatch, decoded):
    photos(12)
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(
        InvalidData, match="2,304 bytes.*1,000 are free.*--cache or DEEPCLUST_CACHE.*--image-size"
    ):
        load()
    assert not decoded
    assert "pixels" not in cache_files()


def test_a_cache_that_cannot_be_written():
    photos(2)
    Path("file").write_bytes(b"")
    with pytest.raises(DeepclustError, match="cannot be written.*--cache or DEEPCLUST_CACHE"):
        load(place=Place(Path("nowhere"), cache=Path("file/sub"), quiet=True))


def test_a_disk_that_gets_full(monkeypatch):
    photos(12)
    monkeypatch.setattr(
        pool, "work", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(DeepclustError, match="No space left.*make room"):
        load()


def test_where_the_cache_is(monkeypatch, tmp_path):
    photos(2)
    monkeypatch.delenv("DEEPCLUST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load()
    assert cache_files("xdg/deepclust/images")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load()
    assert cache_files("home/.cache/deepclust/images")
    load(place=Place(Path("nowhere"), cache=Path("named"), quiet=True))
    assert cache_files("named/images")


# Worker processes


@pytest.fixture
def workers(monkeypatch):
    """Everything is decoded by worker processes, four files at a time."""
    monkeypatch.setattr(pool, "FILES_A_SECOND", 1)
    monkeypatch.setattr(pool, "CHUNK_FILES", 4)
    monkeypatch.setattr(pool, "_cores", lambda: 2)


def test_workers_give_what_one_process_gives(workers, decoded):
    photos(30)
    broke()
    data = load(max_skipped=0.1)
    assert not decoded, "all was done elsewhere"
    assert [name for name, _ in data.skipped] == ["004.png"]
    pool.FILES_A_SECOND = 10**6
    assert same(data, fresh())
    assert len(decoded) == 30


def test_workers_import_no_torch():
    code = "import sys, deepclust.plugins.images.worker; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "PIL.Image" in modules
    assert not {"torch", "numpy", "sklearn", "multiprocessing"} & set(modules)


PATCH = """
import os, signal, sys
import PIL.Image
real = PIL.Image.open
def open(file, *args, **more):
    if "worker" in " ".join(sys.orig_argv) and b"FATAL" in file.getvalue():
        os.kill(os.getpid(), signal.SIGSEGV)
    print("a decoder that talks")
    return real(file, *args, **more)
PIL.Image.open = open
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_file_that_kills_the_decoder_is_left_out(workers, monkeypatch, tmp_path):
    images = photos(30)
    for name in ("007.png", "008.png", "029.png"):
        with Path("photos", name).open("ab") as file:
            file.write(b"FATAL")
        del images[name]
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(PATCH)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    data = load(max_skipped=0.2)
    assert data.skipped == [(n, "the decoder crashed (signal 11)") for n in ("007.png", "008.png", "029.png")]
    assert np.array_equal(first(data), np.stack(list(images.values())))


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python", ""])
def test_where_no_worker_starts_the_images_are_decoded_here(workers, decoded, monkeypatch, program):
    images = photos(10)
    monkeypatch.setattr(sys, "executable", program)
    assert np.array_equal(first(load()), np.stack(list(images.values())))
    assert len(decoded) == 10


def test_ctrl_c_ends_the_workers(workers, monkeypatch):
    photos(30)
    real, seen = cache.decode_all, []

    def interrupted(*args):
        for answer in (chunks := real(*args)):
            seen.extend(answer[0])
            yield answer
            chunks.close()
            raise KeyboardInterrupt

    monkeypatch.setattr(cache, "decode_all", interrupted)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(KeyboardInterrupt, match="decoding, at 4 of 30 images"):
        load()
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    monkeypatch.setattr(cache, "decode_all", lambda *args: seen.append(list(args[3])) or real(*args))
    data = load()
    assert len(seen[-1]) == 26, "the four that were done are not decoded again"
    assert same(data, fresh())


# Like a model's data


def like(shape, dtype="uint8", **settings):
    config = build(Images.Config, {"path": "photos", **settings}, "data")
    return Images(config).load_like(Place(Path("nowhere"), quiet=True), Preparation(shape, dtype))


def test_new_images_are_made_like_those_of_the_model():
    save("a.png", noise(30, 50))
    assert like((3, 8, 8)).shape == (3, 8, 8)
    assert like((1, 6, 9), image_size="20").shape == (1, 6, 9)
    data = load(image_size="6x9", channels=1)
    assert torch.equal(like(data.shape).x, data.x)
    assert like((3, 8, 8)).preparation == load(image_size=8).preparation
    for shape in ((12,), (2, 8, 8), (4, 8, 8), (3, 8, 8, 8)):
        with pytest.raises(InvalidData, match="folder of images.*trained on samples of shape"):
            like(shape)
    with pytest.raises(InvalidData, match="float32"):
        like((1, 8, 8), "float32")


# From the command line

TINY = [
    "--evaluator", "clustering", "--device", "cpu", "--precision", "float32",
    "--clusterer", "kmeans", "--clusters", "2",
    "-s", "encoder.layer_epochs=1", "-s", "encoder.epochs=1", "-s", "encoder.hidden=8",
    "-s", "encoder.latent_dim=2", "-s", "clusterer.n_init=1",
]  # fmt: skip


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["run", *TINY, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def test_a_run_on_a_folder():
    for i in range(11):
        save(f"{'ab'[i % 2]}/{i}.png", noise() // 8 + 200 * (i % 2))
    Path('photos/a/bad, "file".png').write_bytes(b"x")
    result = run("--data", "photos", "--out", "out")
    assert "1 files could not be read" in result.stderr
    assert Path("out/skipped.csv").read_text() == (
        'file,reason\n"a/bad, ""file"".png",no image in a format that Pillow reads\n'
    )
    lines = Path("out/labels.csv").read_text().splitlines()
    assert lines[0].startswith("file,cluster,")
    assert "truth" not in lines[0]
    assert [line.partition(",")[0] for line in lines[1:]] == load().files
    scores = json.loads(Path("out/scores.json").read_text())
    assert "accuracy" not in scores["clustering"]

    run("--data", "photos", "--out", "labelled", "--labels", "folders", "--image-size", "4x6")
    assert "truth" in Path("labelled/labels.csv").read_text().splitlines()[0]
    assert json.loads(Path("labelled/run.json").read_text())["data"]["shape"] == [3, 4, 6]
    assert "accuracy" in json.loads(Path("labelled/scores.json").read_text())["clustering"]


def test_labels_change_nothing_but_the_scores():
    for i in range(12):
        save(f"{'ab'[i % 2]}/{i}.png", noise())
    run("--data", "photos", "--out", "without")
    run("--data", "photos", "--out", "with", "--labels", "folders")
    assert np.array_equal(np.load("without/embedding.npy"), np.load("with/embedding.npy"))
    clusters = [
        [line.split(",")[1] for line in Path(out, "labels.csv").read_text().splitlines()]
        for out in ("with", "without")
    ]
    assert clusters[0] == clusters[1]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there all names are Unicode")
def test_a_run_on_names_that_are_no_unicode():
    photos(6)
    os.rename(b"photos/001.png", b"photos/cl\xe9.png")
    os.rename("photos", b"f\xf6lder")
    run("--data", os.fsdecode(b"f\xf6lder"), "--out", "out")
    assert "cl\\udce9.png" in Path("out/labels.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [[], ["a.txt", "b.csv"]])
def test_a_run_on_a_folder_without_images(content):
    for name in content:
        Path("photos", name).write_text("x")
    result = run("--data", "photos", "--out", "out", code=2)
    assert "no images in" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_a_run_with_wrong_settings():
    photos(4)
    assert "HEIGHTxWIDTH" in run("--data", "photos", "--image-size", "huge", code=2).stderr
    assert "none, folders" in run("--data", "photos", "--labels", "names", code=2).stderr
    assert "max_skipped" in run("--data", "photos", "-s", "data.max_skipped=2", code=2).stderr
    assert not Path("runs").exists()
