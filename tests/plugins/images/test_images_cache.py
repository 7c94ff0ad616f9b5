"""Folders of images: a cache that is right whatever changes, in the folder or in the cache."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepclust.core import DeepclustError, InvalidData, Storage
from deepclust.plugins.images import cache, pool
from deepclust.plugins.images.listing import list_images
from made_photo import (
    added,
    broke,
    cache_files,
    channels_last,
    fresh,
    load,
    noise,
    photos,
    removed,
    renamed,
    same,
    save,
)

pytestmark = pytest.mark.usefixtures("photo_folder")

# The folder changes


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


def changed():
    save("004.png", noise())
    os.utime("photos/004.png", ns=(0, 0))


def renamed_in_place():
    os.rename("photos/004.png", "photos/004x.png")


def touched():
    os.utime("photos/004.png")


def swapped():
    os.rename("photos/004.png", "photos/swap.png")
    os.rename("photos/007.png", "photos/004.png")
    os.rename("photos/swap.png", "photos/007.png")


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
    loud = Storage(Path("nowhere"))
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
    assert "comparing: 1 image" in shown
    assert "taking from the cache: 4 images" in shown
    assert "decoding: 1 image" in shown


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


# The cache is damaged, full, or somewhere else


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
    assert np.array_equal(channels_last(data)[6], images["005.png"])
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
        load(place=Storage(Path("nowhere"), cache=Path("file/sub"), quiet=True))


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
    load(place=Storage(Path("nowhere"), cache=Path("named"), quiet=True))
    assert cache_files("named/images")
