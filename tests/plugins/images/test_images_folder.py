"""Folders of images: which files are taken, which are left out and why, and which labels they have."""

import errno
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepclust.core import InvalidData, InvalidSetting, Preparation, Storage
from deepclust.core.contract.config import build
from deepclust.plugins.images import decoding
from deepclust.plugins.images.folder import Images
from made_photo import channels_last, load, noise, photos, save

pytestmark = pytest.mark.usefixtures("photo_folder")

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
    load(place=Storage(Path("nowhere")))
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
        assert np.array_equal(channels_last(data), np.stack([images[n] for n in sorted(images)]))
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

    def short(*args):
        if len(decoded) == 5 and not failed:
            failed.append(1)
            raise MemoryError
        return counting(*args)

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


# Like a model's data


def like(shape, dtype="uint8", **settings):
    config = build(Images.Config, {"path": "photos", **settings}, "data")
    return Images(config).load_like(Storage(Path("nowhere"), quiet=True), Preparation(shape, dtype))


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
