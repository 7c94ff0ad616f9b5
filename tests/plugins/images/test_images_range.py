"""Folders of images whose values are no bytes: one scale for all, said, kept, never mixed up with another."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepclust.core import InvalidData, InvalidSetting, Preparation, Storage
from deepclust.core.contract.config import build
from deepclust.plugins.images import survey
from deepclust.plugins.images.folder import Images
from made_photo import RNG, fresh, load, noise, photos, same, save

pytestmark = pytest.mark.usefixtures("photo_folder")
N, SIDE = 20, 16


def shares():
    """Values of N images, none of which holds all from 0 to 1 that the folder does."""
    starts = np.linspace(0, 0.5, N)[:, None, None]
    return starts + 0.5 * np.random.default_rng(0).random((N, SIDE, SIDE))  # not by what ran before


def write(values, folder="photos", ending="tif"):
    for i, image in enumerate(values):
        save(f"{i:03}.{ending}", image, folder)
    return values


def twelve_bits():
    return write((shares() * 4095).astype(np.uint16), ending="png")


def scanner():
    """As of a CT: air in half of the files, and no value below zero in the others."""
    values = (shares() * 1200).astype(np.int32)
    values[::2, :2, :2] = -1000
    return write(values)


def peaks():
    """Fractions whose files end at 1.001 or at 0.999 in turn."""
    values = shares().astype(np.float32)
    values /= values.max(axis=(1, 2), keepdims=True)
    return write(values * np.where(np.arange(N) % 2, 1.001, 0.999).astype(np.float32)[:, None, None])


def tiny():
    return write((shares() * 1e-6).astype(np.float32))


def pixels(data):
    return data.x[:, 0].numpy().astype(int)


def scaled(values, low, high):
    return np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255


def numbers(text):
    return [float(n) for n in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]


# One scale


@pytest.mark.parametrize("make", [twelve_bits, scanner, peaks, tiny])
def test_a_value_has_one_grey_level_in_all_files(make):
    values = make()
    data = load()
    order = np.argsort(values, axis=None, kind="stable")
    levels, sorted_values = pixels(data).reshape(-1)[order], values.reshape(-1)[order]
    assert (np.diff(levels) >= 0).all()
    assert not np.diff(levels)[np.diff(sorted_values) == 0].any()
    assert len(np.unique(levels)) > 128
    low, high = data.preparation.source
    assert np.abs(levels - scaled(sorted_values, low, high)).max() <= 0.51
    assert ((values < low) | (values > high)).mean() < 0.004
    assert len(data.said) == 1
    assert numbers(data.said[0])[:2] == pytest.approx([low, high], rel=1e-5)
    assert not data.notices


SCALES = {
    "all of 16 bits": (np.uint16, 0, 65535, (0, 65535)),
    "half of 16 bits": (np.uint16, 100, 33000, (0, 65535)),
    "14 bits": (np.uint16, 0, 16383, None),
    "bytes in 16 bits": (np.uint16, 0, 255, (0, 255)),
    "bytes in 32 bits": (np.int32, 3, 180, (0, 255)),
    "a few values": (np.int32, 0, 9, None),
    "below zero": (np.int32, -3000, 3000, None),
    "fractions": (np.float32, 0, 1, (0, 1)),
    "dark fractions": (np.float32, 0.01, 0.4, (0, 1)),
    "very dark fractions": (np.float32, 0.01, 0.1, None),
    "fractions around 0": (np.float32, -1, 1, None),
    "bytes as fractions": (np.float32, 0, 255, (0, 255)),
    "beyond bytes as fractions": (np.float32, 0, 300, None),
    "large": (np.float32, 0, 60000, None),
}


@pytest.mark.parametrize("case", SCALES)
def test_the_usual_white_or_the_values_themselves(case):
    kind, low, high, expected = SCALES[case]
    values = low + shares() * (high - low)
    write((values if kind is np.float32 else np.rint(values)).astype(kind))
    found = load().preparation.source
    if expected is not None:
        assert found == expected
    else:
        assert found == pytest.approx((low, high), abs=0.03 * (high - low))


def test_a_rare_value_does_not_make_all_others_dark():
    values = (shares() * 4095).astype(np.uint16)
    values[3, 5, 5] = 65535
    write(values, ending="png")
    data = load()
    assert data.preparation.source[1] <= 4095
    assert pixels(data)[3, 5, 5] == 255
    assert "65535" in data.said[0]


@pytest.mark.parametrize("values", [np.full((SIDE, SIDE), 7, np.int32), np.zeros((SIDE, SIDE), np.float32)])
def test_a_folder_of_one_value_is_black(values):
    write([values] * 4)
    data = load()
    assert (pixels(data) == 0).all()
    assert "1 of 256 grey levels" in data.notices[0]


def test_values_that_are_rarely_not_zero_are_seen():
    values = np.zeros((N, 64, 64), np.float32)
    values[0, 3, 3] = 40
    write(values)
    assert pixels(load()).max() == 255


def test_files_that_are_not_finite_decide_nothing():
    values = shares().astype(np.float32)
    values[0, 0, 0], values[1, 0, 0] = np.nan, np.inf
    write(values)
    data = load()
    assert data.preparation.source == (0, 1)
    assert dict(data.skipped) == dict.fromkeys(("000.tif", "001.tif"), "values that are not finite")


# Said by hand


def test_a_range_by_hand():
    values = scanner()
    data = load(range="-200..600")
    assert np.abs(pixels(data) - scaled(values, -200, 600)).max() <= 0.51
    assert data.preparation.source == (-200, 600)
    assert "values from -200 to 600" in data.said[0]
    assert "as data.range says" in data.said[0]
    assert load(range=" -2e2 .. +6.0e2 ").preparation == data.preparation


@pytest.mark.parametrize("text", ["", "5", "4..2", "1..1", "a..b", "0...5", "nan..1", "0..inf", "0..1..2",
                                  "0,1", "0-1", "-1e308..1e308", "0..1e-320", "..5", "Auto"])  # fmt: skip
def test_ranges_that_are_none(text):
    photos(1)
    with pytest.raises(InvalidSetting, match=r"data\.range is .*auto or LOW\.\.HIGH.*0\.\.4095"):
        load(range=text)
    assert not Path("cache").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_range_by_hand_is_of_bytes_where_all_files_hold_such(channels):
    images = np.stack([noise(SIDE, SIDE, channels) for _ in range(4)]) // 20
    write(images, ending="png")
    data = load(range="0..12")
    found = np.moveaxis(data.x.numpy(), 1, 3).reshape(images.shape)
    assert np.abs(found - scaled(images, 0, 12)).max() <= 0.51
    assert found.max() == 255
    assert data.preparation.bytes_too
    assert not data.notices
    outside = load(range="0..4095")
    assert np.array_equal(np.moveaxis(outside.x.numpy(), 1, 3).reshape(images.shape), images)
    assert "bytes, in 4 of 4 files looked at, stay as they are" in outside.said[0]


def test_a_range_that_leaves_nearly_all_values_out():
    twelve_bits()
    notices = load(range="0..10").notices
    assert any("lie outside data.range, 0 to 10" in notice for notice in notices)
    assert not load(range="0..2000").notices


# Bytes beside others


@pytest.mark.parametrize(("span", "colour"), [("200..250", "black"), ("0..3", "white")])
def test_a_range_outside_everything_is_refused_by_its_name(span, colour):
    write([np.full((8, 8), 10 * i + 5, np.uint8) for i in range(6)], ending="png")
    with pytest.raises(InvalidData, match=rf"data.range={span} all images are {colour}.* go from 0 to 255"):
        load(range=span)


def test_a_range_that_leaves_nearly_all_bytes_out():
    write([RNG.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(6)], ending="png")
    (notice,) = (n for n in load(range="120..125").notices if "data.range" in n)
    assert "of the values lie outside data.range, 120 to 125" in notice
    assert not load(range="0..255").notices


def test_masks_lie_within_their_range():
    write([RNG.integers(0, 2, (32, 32), dtype=np.uint8) for _ in range(6)], ending="png")
    assert not [n for n in load(range="0..1").notices if "outside" in n]


def test_bytes_stay_as_they_are_beside_others():
    values = twelve_bits()
    other = noise(SIDE, SIDE, 1)
    save("a.png", other)
    for settings in ({}, {"range": "0..4095"}, {"range": "0..200"}):
        data = load(**settings)
        low, high = data.preparation.source
        assert np.array_equal(pixels(data)[-1], other)
        assert np.abs(pixels(data)[:-1] - scaled(values, low, high)).max() <= 0.51
        assert "bytes, in 1 of 21 files looked at, stay as they are" in data.said[0]


def test_a_file_of_another_kind_that_was_not_looked_at_is_left_out(monkeypatch):
    monkeypatch.setattr(survey, "SAMPLED", 4)
    images = photos(12)
    save("001.png", Image.fromarray(np.full((8, 8), 30000, np.uint16)))
    data = load()
    assert [name for name, _ in data.skipped] == ["001.png"]
    advice = re.search(r"-s (data\.range=)LOW..HIGH.* (\S+)$", data.skipped[0][1])
    data = load(range=advice[2])
    assert not data.skipped
    assert (data.x[1] == round(30000 / 257)).all()
    assert np.array_equal(data.x[2].numpy(), np.moveaxis(images["002.png"], 2, 0))


# The cache


def test_a_second_start_reads_no_file(monkeypatch):
    twelve_bits()
    before = load()
    opened = []
    real = open

    def counting(path, *args, **more):
        if str(path).endswith(".png"):
            opened.append(path)
        return real(path, *args, **more)

    monkeypatch.setattr("builtins.open", counting)
    after = load(image_size=SIDE, channels=1)
    assert same(before, after)
    assert (before.said, before.preparation) == (after.said, after.preparation)
    assert not opened


def test_pixels_of_another_range_are_not_used_again(decoded):
    values = twelve_bits()
    own = load()
    for low, high in ((0, 4095), (1000, 2000), (0, 4095)):
        data = load(range=f"{low}..{high}")
        assert np.abs(pixels(data) - scaled(values, low, high)).max() <= 0.51
    assert same(load(), own)
    assert len(decoded) == 3 * N


def test_where_the_range_changes_all_is_decoded_anew(decoded):
    twelve_bits()
    load()
    decoded.clear()
    save("bright.png", np.full((SIDE, SIDE), 65535, np.uint16))
    data = load()
    assert data.preparation.source == (0, 65535)
    assert len(decoded) == N + 1
    assert same(data, fresh())
    Path("photos/bright.png").unlink()
    assert same(load(), fresh())


def test_a_folder_that_was_moved_finds_its_pixels(decoded):
    twelve_bits()
    before = load()
    decoded.clear()
    os.rename("photos", "elsewhere")
    after = load("elsewhere")
    assert not decoded
    assert after.fingerprint() == before.fingerprint()
    assert after.preparation == before.preparation


# Few grey levels


@pytest.mark.parametrize("channels", [1, 3])
def test_few_grey_levels_are_noted_with_what_helps(channels):
    write([(noise(SIDE, SIDE, channels) // 20) for _ in range(N)], ending="png")
    (notice,) = load().notices
    assert "13 of 256 grey levels" in notice
    asked = re.search(r"-s data\.range=(\S+)", notice)[1]
    assert asked == "0..12"
    data = load(range=asked)
    assert not data.notices
    assert (int(data.x.min()), int(data.x.max())) == (0, 255)


def test_few_levels_of_files_that_hold_more_values():
    """What one pixel in a hundred needs leaves hardly any levels to the others."""
    values = (1000 + 100 * shares()).astype(np.int32)
    values[RNG.random(values.shape) < 0.01] = 40000
    write(values)
    (notice,) = load().notices
    assert "nine in ten from 10" in notice
    assert "-s data.range=LOW..HIGH" in notice
    assert not load(range="1000..1100").notices
    (notice,) = load(range="-100000..100000").notices
    assert "give a narrower one" in notice


def test_few_values_of_files_that_hold_no_more():
    write((RNG.integers(0, 3, (N, SIDE, SIDE)) * 100).astype(np.int32))
    (notice,) = load().notices
    assert "3 of 256 grey levels" in notice
    assert "data.range" not in notice


def test_levels_are_not_noted_where_there_are_enough_or_too_few_pixels():
    photos(12)
    assert not load().notices
    save("a.png", np.zeros((8, 8), np.uint8), "small")
    assert not load("small").notices


def test_masks_are_not_told_to_give_a_range():
    write([(noise(SIDE, SIDE, 1) > 99) * np.uint8(255) for _ in range(N)], ending="png")
    (notice,) = load().notices
    assert "2 of 256 grey levels" in notice
    assert "data.range" not in notice


# Like a model's data


def like(preparation, folder, **settings):
    record = json.loads(json.dumps(preparation.record()))
    config = build(Images.Config, {"path": folder, **settings}, "data")
    place = Storage(Path("nowhere"), quiet=True)
    return Images(config).load_like(place, Preparation.from_record(record))


def test_new_images_are_on_the_scale_of_training():
    twelve_bits()
    trained = load().preparation
    low, high = trained.source
    half = write((shares() * 2000).astype(np.uint16), "more", "png")
    data = like(trained, "more")
    assert data.preparation == trained
    assert np.abs(pixels(data) - scaled(half, low, high)).max() <= 0.51
    assert "as in training" in data.said[0]
    assert not data.notices
    assert same(like(trained, "photos"), load())
    assert not like(trained, "photos").notices


@pytest.mark.parametrize("factor", [16, 0.01])
def test_new_images_on_another_scale_are_named(factor):
    values = write((shares() * 4000).astype(np.float32))
    trained = load().preparation
    write(values * np.float32(factor), "more")
    data = like(trained, "more")
    (notice,) = data.notices
    low, high = trained.held
    outside = (values * factor > high).mean()
    found = numbers(notice)
    for expected in (low, high, low * factor, high * factor):
        assert any(n == pytest.approx(expected, rel=1e-4) for n in found)
    if factor > 1:
        assert re.search(r"(\d+)% of the values", notice)[1] == f"{100 * outside:.0f}"
    by_hand = like(trained, "more", range=f"{trained.source[0] * factor}..{trained.source[1] * factor}")
    assert not by_hand.notices
    assert np.abs(pixels(by_hand) - pixels(load())).max() <= 1


def test_a_window_that_training_had_is_no_other_scale():
    """Most values lie outside the range that was given, and did in training."""
    scanner()
    trained = load(range="500..600").preparation
    assert not like(trained, "photos").notices


def test_bytes_for_a_model_of_other_values_and_the_other_way_round():
    twelve_bits()
    images = photos(12, "bytes")
    wide, narrow = load(channels=3, image_size=8).preparation, load("bytes").preparation
    data = like(wide, "bytes")
    assert np.array_equal(data.x[0].numpy(), np.moveaxis(images["000.png"], 2, 0))
    assert "these images have bytes" in data.notices[0]
    assert "trained on bytes" in like(narrow, "photos").notices[0]
    assert not like(narrow, "bytes").notices


def test_a_range_for_bytes_is_kept_for_new_ones():
    write([noise(SIDE, SIDE, 1) // 20 for _ in range(4)], ending="png")
    trained = load(range="0..12").preparation
    new = write([noise(SIDE, SIDE, 1) // 20 for _ in range(4)], "more", "png")
    data = like(trained, "more")
    assert np.abs(pixels(data) - scaled(np.stack(new), 0, 12)).max() <= 0.51
    assert not data.notices
