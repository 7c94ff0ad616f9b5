"""What holds for random augmentation whatever the numbers: identities, seeds, one draw a sample, ranges."""

import pickle
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from deepclust.core import InvalidData
from deepclust.plugins.views import (
    Augmentation,
    Sometimes,
    colour,
    draws,
    geometry,
    noise,
    randaugment,
    resampling,
    scan_strong_view,
    simclr_view,
    tone,
)

RANDOM = {
    "crop": partial(resampling.random_crop, scale=(0.2, 1.0)),
    "crop to a size": partial(resampling.random_crop, size=(9, 21)),
    "flip": geometry.random_flip,
    "affine": partial(geometry.random_affine, shift=0.2, rotation=54.0, scale=(0.9, 1.4), padding="border"),
    "cutout": partial(geometry.random_cutout, size=(4, 6)),
    "mean cutout": partial(geometry.random_cutout, size=(4, 6), fill="mean"),
    "jitter": partial(colour.random_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "greyscale": partial(colour.random_greyscale, p=0.5),
    "window": partial(resampling.random_window, size=(9, 11)),
    "blur": resampling.random_blur,
    "noise": noise.random_gaussian_noise,
    "salt": noise.random_salt_and_pepper,
    "randaugment": partial(randaugment.rand_augment, magnitude=(0.0, 30.0)),
    "sometimes": Sometimes(0.5, resampling.random_blur),
    "simclr": simclr_view().__call__,
    "scan": scan_strong_view(cutout=6).__call__,
}


def pictures(n=12, channels=3, height=16, width=18):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_or_a_global_seed_repeats_the_pictures(name, channels):
    x, operation = pictures(channels=channels), RANDOM[name]
    first = operation(x, generator=seeded(0))
    assert torch.equal(operation(x, generator=seeded(0)), first)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    operation(x, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), state), "a generator was given, and the global one was used"
    from_global = operation(x, generator=None)
    torch.manual_seed(3)
    assert torch.equal(operation(x, generator=None), from_global)


@pytest.mark.parametrize("name", RANDOM)
def test_ranges_types_and_input(name):
    x = pictures()
    for given in (x, x.float() / 255, (x.float() / 255).bfloat16()):
        before = given.clone()
        out = RANDOM[name](given, generator=seeded(2)).float()
        assert torch.equal(given, before)
        assert out.shape[:2] == x.shape[:2]
        assert out.isfinite().all()
        assert out.min() >= -1e-6
        assert out.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", RANDOM)
def test_each_sample_has_its_own_draw(name):
    x = pictures(1).expand(64, -1, -1, -1)
    out = RANDOM[name](x, generator=seeded(5))
    different = len({tuple(image.flatten().tolist()) for image in out})
    assert different == 2 if name in ("flip", "greyscale") else different > 20


def test_a_sample_does_not_depend_on_the_batch_around_it():
    x = pictures(16)
    numbers = torch.linspace(0.3, 1.7, 16)
    boxes = torch.tensor([[i % 4, i % 3, 12 - i % 5, 15 - i % 7] for i in range(16)])
    chosen, sign = [i % 14 for i in range(16)], torch.ones(16)
    operations = {
        "contrast": lambda x, at: colour.contrast(x, numbers[at]),
        "hue": lambda x, at: colour.hue(x, numbers[at]),
        "blur": lambda x, at: resampling.blur(x, numbers[at], 5),
        "crop": lambda x, at: resampling.crop(x, boxes[at]),
        "equalize": lambda x, at: tone.equalize(x),
        "sharpness": lambda x, at: tone.sharpness(x, numbers[at]),
        "randaugment": lambda x, at: randaugment.apply_operations(
            x, [chosen[i] for i in at.tolist()], numbers[at] * 15, sign[at]
        ),
    }
    at = torch.tensor([9, 2, 13, 4])
    for name, operation in operations.items():
        whole = operation(x, torch.arange(16))
        assert (operation(x[at], at) - whole[at]).abs().max() < 1e-6, name


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_neutral_numbers_change_nothing(channels):
    x = pictures(channels=channels).float() / 255
    one, none, same = torch.ones(12), torch.zeros(12), partial(torch.testing.assert_close, atol=1e-6, rtol=0)
    for operation in (colour.brightness, colour.contrast, colour.saturation, tone.sharpness):
        same(operation(x, one), x)
    for turn in (none, one, -one):
        same(colour.hue(x, turn), x, atol=2e-6)
    same(resampling.crop(x, torch.tensor([[0, 0, 16, 18]]).expand(12, 4)), x)
    same(resampling.blur(x, torch.full((12,), 1e-3), 5), x)
    flipped = one.bool()
    assert torch.equal(geometry.flip(geometry.flip(x, flipped), flipped), x)
    same(geometry.affine(x, none, torch.zeros(12, 2), one, torch.zeros(12, 2)), x, atol=1e-5)
    same(geometry.random_affine(x, 1e-9, 0.0, (1.0, 1.0), "border"), x, atol=1e-5)
    same(tone.posterize(x, 8 * one), x)
    assert torch.equal(tone.solarize(x, 1.1 * one), x)
    same(tone.solarize(tone.solarize(x, none), none), x)
    same(noise.gaussian_noise(x, torch.randn(x.shape), none), x)
    assert torch.equal(noise.salt_and_pepper(x, torch.rand(12, 1, 16, 18), none), x)
    assert torch.equal(Sometimes(0.0, resampling.random_blur)(x), x)
    still = randaugment.OPERATIONS.index("identity")
    assert torch.equal(randaugment.apply_operations(x, [still] * 12, 30 * one, one), x)


def test_hue_keeps_value_and_saturation_and_turns_add_up():
    x = pictures().float() / 255
    turn = torch.linspace(-0.4, 0.4, 12)
    turned = colour.hue(x, turn)
    torch.testing.assert_close(turned.amax(1), x.amax(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.amin(1), x.amin(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(colour.hue(turned, -turn), x, atol=1e-5, rtol=0)
    third = torch.full((12,), 1 / 3)
    torch.testing.assert_close(colour.hue(x, third), x[:, [2, 0, 1]], atol=1e-5, rtol=0)  # red to green


def test_grey_has_equal_channels_and_one_channel_has_no_colour():
    grey = colour.random_greyscale(pictures(), 1.0)
    assert torch.equal(grey[:, :1].expand_as(grey), grey)
    single = pictures(channels=1)
    whole, numbers = single.float() / 255, torch.linspace(0.1, 0.9, 12)
    for operation in (colour.saturation, colour.hue):
        torch.testing.assert_close(operation(single, numbers), whole, atol=1e-7, rtol=0)


def test_boxes_of_random_crops():
    x = torch.empty(4000, 1, 20, 30, dtype=torch.uint8)
    top, left, tall, wide = resampling.crop_boxes(x, (0.2, 1.0), (3 / 4, 4 / 3), seeded(0)).unbind(1)
    assert (torch.stack((top, left)) >= 0).all()
    assert (top + tall <= 20).all()
    assert (left + wide <= 30).all()
    area = tall * wide / 600
    assert 0.17 < area.min() < 0.22
    assert area.max() > 0.85  # 20 x 27 at most by the ratio
    assert abs((wide / tall).log().median()) < 0.1
    for start, side, whole in ((top, tall, 20), (left, wide, 30)):
        room = (whole - side) > 3
        assert abs((start / (whole - side))[room].mean() - 0.5) < 0.03


def test_windows_are_the_pixels_themselves_at_every_place():
    x = torch.arange(20.0).div(20).view(1, 1, 4, 5).expand(300, -1, -1, -1)
    out = resampling.random_window(x, (3, 3), seeded(0))
    expected = {tuple(w.flatten().tolist()) for w in x[0, 0].unfold(0, 3, 1).unfold(1, 3, 1).reshape(6, 3, 3)}
    assert {tuple(w.flatten().tolist()) for w in out} == expected


def test_squares_cut_out_have_sides_in_the_range_and_lie_everywhere():
    x = torch.ones(3000, 1, 12, 12)
    cut = geometry.random_cutout(x, (2, 4), generator=seeded(0))[:, 0] == 0
    tall, wide = cut.any(2).sum(1), cut.any(1).sum(1)
    inner = (
        (tall == wide) & ~cut[:, 0].any(1) & ~cut[:, -1].any(1) & ~cut[:, :, 0].any(1) & ~cut[:, :, -1].any(1)
    )
    assert set(tall[inner].tolist()) == {2, 3, 4}
    assert torch.equal(cut.sum((1, 2)), tall * wide)
    assert cut.any(0).all()


def test_ranges_of_scan_only_weaken_colours_and_move_little():
    x = torch.rand(60, 3, 20, 20, generator=seeded(1))
    most, sign = torch.full((60,), 30.0), torch.ones(60)
    darker = randaugment.OPERATIONS.index("brightness")
    got = randaugment.apply_operations(x, [darker] * 60, most, sign, randaugment.SCAN)
    torch.testing.assert_close(got, 0.05 * x, atol=1e-6, rtol=0)
    right = randaugment.OPERATIONS.index("translate_x")
    got = randaugment.apply_operations(x, [right] * 60, most, sign, randaugment.SCAN)
    torch.testing.assert_close(got[..., 2:], x[..., :-2], atol=1e-5, rtol=0)
    assert not got[..., :2].abs().gt(1e-5).any()


def test_a_crop_that_never_fits_is_the_middle():
    x = torch.empty(5, 1, 10, 40, dtype=torch.uint8)
    boxes = resampling.crop_boxes(x, (1.0, 1.0), (0.9, 1.0), seeded(0))
    assert torch.equal(boxes, torch.tensor([[0.0, 15.0, 10.0, 10.0]]).expand(5, 4))


@pytest.mark.parametrize(("p", "low", "high"), [(0.2, 150, 250), (0.8, 750, 850)])
def test_sometimes_is_a_share_of_the_samples_and_leaves_the_others_alone(p, low, high):
    x = torch.rand(1000, 1, 4, 4, generator=seeded(1))
    out = Sometimes(p, lambda x, generator: 1 - x)(x, generator=seeded(0))
    changed = (out != x).flatten(1).any(1)
    assert low < int(changed.sum()) < high
    assert torch.equal(out[changed], 1 - x[changed])
    assert torch.equal(out[~changed], x[~changed])


def test_flips_grey_and_noise_come_as_often_as_asked():
    x = torch.rand(2000, 3, 4, 4, generator=seeded(1))
    assert 0.46 < (geometry.random_flip(x, 0.5, seeded(0)) == x).flatten(1).all(1).float().mean() < 0.54
    assert 0.17 < (colour.random_greyscale(x, 0.2, seeded(0)) != x).flatten(1).any(1).float().mean() < 0.23
    middle = torch.full((50, 3, 40, 40), 0.5)
    noisy = noise.random_gaussian_noise(middle, (0.1, 0.1), seeded(0)) - middle
    assert abs(noisy.std() - 0.1) < 0.002
    assert abs(noisy.mean()) < 0.002
    salted = noise.random_salt_and_pepper(middle, (0.2, 0.2), seeded(0))
    assert abs((salted == 0).float().mean() - 0.1) < 0.01
    assert abs((salted == 1).float().mean() - 0.1) < 0.01
    assert ((salted[:, :1] == salted).all(1)).all()  # whole pixels


def test_randaugment_draws_all_fourteen_alike(monkeypatch):
    seen = []
    monkeypatch.setattr(randaugment, "apply_operations", lambda x, chosen, *_: seen.extend(chosen) or x)
    randaugment.rand_augment(pictures(2000, 1, 2, 2), operations=3, generator=seeded(0))
    counts = torch.tensor(seen).bincount(minlength=14)
    assert len(counts) == 14
    assert counts.min() > 340
    assert counts.max() < 520  # 6000 / 14 = 429


def test_affine_scale_makes_things_so_many_times_as_large():
    x = torch.zeros(20, 1, 41, 41)
    x[:, :, 15:26, 15:26] = 1.0
    area = geometry.random_affine(x, 0.0, 0.0, (2.0, 2.0), generator=seeded(0)).sum((1, 2, 3))
    assert ((area / x.sum((1, 2, 3)) - 4).abs() < 0.2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_augmentation_gives_its_type_within_range_and_survives_pickling(dtype):
    view = simclr_view(size=(12, 12), dtype=dtype)
    out = view(pictures(), seeded(0))
    assert out.dtype == dtype
    assert out.shape == (12, 3, 12, 12)
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(pickle.loads(pickle.dumps(view))(pictures(), seeded(0)), out)


def test_autocast_does_not_coarsen_pictures():
    exact = simclr_view()(pictures(), seeded(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(simclr_view()(pictures(), seeded(0)), exact)


def test_an_empty_augmentation_is_the_picture_itself():
    x = pictures()
    torch.testing.assert_close(Augmentation(())(x), x.float() / 255, atol=1e-7, rtol=0)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("view", [simclr_view(), scan_strong_view(cutout=6)], ids=["simclr", "scan"])
def test_small_batches(n, view):
    assert view(pictures(n)).shape == (n, 3, 16, 18)


@pytest.mark.parametrize("x", [torch.zeros(3, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.int64)], ids=str)
def test_what_is_no_batch_of_images_is_told(x):
    with pytest.raises(InvalidData, match="images to augment"):
        simclr_view()(x)


def test_nothing_waits_for_the_device(monkeypatch):
    """The meta device has no values: whatever needs one on the host fails there."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know that device
    x = torch.empty(8, 3, 16, 18, device="meta")
    numbers = torch.empty(8, device="meta")
    for operation in (colour.brightness, colour.contrast, colour.saturation, colour.hue, tone.sharpness,
                      tone.solarize, tone.posterize):  # fmt: skip
        assert operation(x, numbers).shape == x.shape
    assert tone.autocontrast(x).shape == tone.equalize(x).shape == x.shape
    assert resampling.blur(x, numbers, 5).shape == x.shape
    for operation in (simclr_view(), scan_strong_view()):
        assert operation(x).shape == x.shape
    assert draws.on_host(None) is None


def test_jitter_draws_its_ranges_and_every_order(monkeypatch):
    seen, orders, generator = [[] for _ in range(4)], [], seeded(0)

    def record(x, factors, order):
        orders.append(tuple(order))
        for values, factor in zip(seen, factors, strict=True):
            values.append(factor)
        return x

    monkeypatch.setattr(colour, "jitter", record)
    for _ in range(300):
        colour.random_jitter(pictures(20, 3, 2, 2), 0.4, 1.3, 0.2, 0.1, generator=generator)
    assert len(set(orders)) == 24
    for values, low, high in zip(seen, (0.6, 0.0, 0.8, -0.1), (1.4, 2.3, 1.2, 0.1), strict=True):
        drawn, margin = torch.cat(values), 0.01 * (high - low)
        assert low <= drawn.min() < low + margin
        assert high - margin < drawn.max() <= high
        assert abs(drawn.mean() - (low + high) / 2) < 2 * margin


def test_places_of_crops_are_drawn_apart_for_rows_and_columns():
    boxes = resampling.crop_boxes(torch.empty(2000, 1, 30, 30), (0.2, 0.3), (3 / 4, 4 / 3), seeded(0))
    free = 30 - boxes[:, 2:]
    assert abs(torch.corrcoef((boxes[:, :2] / free).T)[0, 1]) < 0.1


def test_simclrs_view_crops_jitters_greys_and_blurs_as_often_as_published():
    flat = torch.full((3000, 3, 8, 8), 0.5)
    flat[:, 0] = 0.3  # of one colour: crop, flip and blur leave it, jitter and grey do not
    out = simclr_view()(flat, seeded(0))
    is_grey = (out - out[:, :1]).abs().flatten(1).amax(1) < 1e-6
    assert 0.17 < is_grey.float().mean() < 0.23
    still = (out - flat).abs().flatten(1).amax(1) < 1e-5
    assert 0.13 < still.float().mean() < 0.19  # 0.2 not jittered, of which 0.8 not grey
    stripes = (torch.arange(64) % 2).float().view(1, 1, 1, -1).expand(1000, 1, 64, -1)
    sharp, blurred = (simclr_view(blur=p)(stripes, seeded(0)) for p in (0.0, 0.5))
    assert (sharp.std((1, 2, 3)).mean() - blurred.std((1, 2, 3)).mean()) > 0.03
