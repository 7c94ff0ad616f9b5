"""Each operation held against torchvision.transforms.v2.functional at the same numbers, sample by sample."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from deepclust.plugins.views import colour, geometry, randaugment, resampling, tone

BILINEAR = {"interpolation": InterpolationMode.BILINEAR}
EXACT, BYTE = 2e-6, 2.01 / 255  # torchvision rounds bytes after each step
SIZES = [(32, 32), (9, 14), (28, 21)]


def floats(x):
    return tv.to_dtype(x, torch.float32, scale=True)


@pytest.fixture(params=[(size, channels) for size in SIZES for channels in (1, 3)], ids=str)
def bytes_(request):
    (height, width), channels = request.param
    generator = torch.Generator().manual_seed(height)
    x = torch.randint(0, 256, (6, channels, height, width), generator=generator, dtype=torch.uint8)
    x[1] = x[1] // 3 + 60  # narrow
    x[2] = 90  # flat
    x[3, :, : height // 2] = 255
    x[4] = x[4, :1]  # grey
    return x


def draw(n, low, high):
    return torch.rand(n, generator=torch.Generator().manual_seed(n)) * (high - low) + low


def held(x, ours, theirs, byte=BYTE, exact=EXACT):
    """Ours on bytes and on floats against theirs on floats; against theirs on bytes within their rounding."""
    expected = torch.stack([theirs(image, i) for i, image in enumerate(floats(x))])
    for given in (x, floats(x)):
        before = given.clone()
        got = ours(given)
        assert got.dtype == torch.float32
        assert torch.equal(given, before), "the input was changed"
        torch.testing.assert_close(got, expected, atol=exact, rtol=0)
    if byte is not None:
        rounded = torch.stack([floats(theirs(image, i)) for i, image in enumerate(x)])
        torch.testing.assert_close(got, rounded, atol=byte, rtol=0)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_factors(bytes_, name):
    factor = draw(6, 0.1, 1.9)
    theirs = getattr(tv, f"adjust_{name}")
    held(bytes_, lambda x: getattr(colour, name)(x, factor), lambda im, i: theirs(im, float(factor[i])))


def test_hue(bytes_):
    turn = draw(6, -0.5, 0.5)
    held(bytes_, lambda x: colour.hue(x, turn), lambda im, i: tv.adjust_hue(im, float(turn[i])), exact=1e-5)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_jitter_in_an_order(bytes_, order):
    factors = [draw(6, 0.6, 1.4), draw(6, 0.7, 1.3), draw(6, 0.5, 1.5), draw(6, -0.1, 0.1)]
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)

    def theirs(image, i):
        for which in order:
            image = steps[which](image, float(factors[which][i]))
        return image

    held(bytes_, lambda x: colour.jitter(x, factors, order), theirs, byte=None, exact=2e-5)


def test_greyscale(bytes_):
    def theirs(im, i):
        return tv.rgb_to_grayscale(im, 3) if len(im) == 3 and i % 2 else im

    held(bytes_, lambda x: colour.greyscale(x, torch.arange(6) % 2 == 1), theirs)


@pytest.mark.parametrize("to", [None, (32, 32), (7, 10)])
def test_crop_and_resize(bytes_, to):
    height, width = bytes_.shape[-2:]
    boxes = torch.tensor([[0, 0, height, width], [1, 2, 5, 4], [height - 3, width - 2, 3, 2],
                          [2, 0, height - 2, 6], [0, 3, 1, 1], [1, 1, height - 1, width - 1]])  # fmt: skip
    size = list(to or (height, width))

    def theirs(im, i):
        return tv.resized_crop(im, *boxes[i].tolist(), size, antialias=True)

    held(bytes_, lambda x: resampling.crop(x, boxes, to), theirs)


@pytest.mark.parametrize("kernel", [3, 5, 9])
def test_blur(bytes_, kernel):
    sigma = draw(6, 0.1, 2.0)
    held(bytes_, lambda x: resampling.blur(x, sigma, kernel),
         lambda im, i: tv.gaussian_blur(im, [kernel, kernel], [float(sigma[i])] * 2))  # fmt: skip


def test_flip(bytes_):
    chosen = torch.tensor([True, False, True, True, False, True])
    held(bytes_, lambda x: geometry.flip(x, chosen),
         lambda im, i: tv.horizontal_flip(im) if chosen[i] else im, byte=0)  # fmt: skip


def test_affine(bytes_):
    angle, scale = draw(6, -90, 90), draw(6, 0.6, 1.5)
    moved, shear = torch.stack((draw(6, -5, 5), draw(6, 4, -4)), 1), torch.stack((draw(6, -30, 30),) * 2, 1)
    shear[:, 1] *= -0.4

    def theirs(im, i):
        numbers = (float(angle[i]), moved[i].tolist(), float(scale[i]), shear[i].tolist())
        return tv.affine(im, *numbers, **BILINEAR)

    held(bytes_, lambda x: geometry.affine(x, angle, moved, scale, shear), theirs, byte=None, exact=1e-4)


@pytest.mark.parametrize("fill", ["zeros", "mean"])
def test_cutout(bytes_, fill):
    height, width = bytes_.shape[-2:]
    middle = torch.tensor([[0, 0], [4, 5], [height - 1, width - 1], [0, width - 1], [3, 3], [height // 2, 1]])
    sizes = torch.tensor([6, 5, 6, 1, 2, 30])

    def theirs(im, i):
        size = int(sizes[i])
        top, left = (middle[i] - size // 2).tolist()
        bottom, right = min(top + size, height), min(left + size, width)
        top, left = max(top, 0), max(left, 0)
        value = im.mean((1, 2), keepdim=True) if fill == "mean" else torch.zeros(len(im), 1, 1)
        return tv.erase(im, top, left, bottom - top, right - left, value)

    held(bytes_, lambda x: geometry.cutout(x, middle, sizes, fill), theirs, byte=None)


def test_solarize(bytes_):
    at = draw(6, 0.0, 1.0)
    held(bytes_, lambda x: tone.solarize(x, at), lambda im, i: tv.solarize(
        im, float(at[i]) * (255 if im.dtype == torch.uint8 else 1)))  # fmt: skip


def test_posterize_as_on_bytes(bytes_):
    bits = torch.tensor([8, 4, 5, 6, 0, 1])
    expected = floats(torch.stack([tv.posterize(im, int(b)) for im, b in zip(bytes_, bits, strict=True)]))
    for x in (bytes_, floats(bytes_)):
        torch.testing.assert_close(tone.posterize(x, bits), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_tables(bytes_, name):
    held(bytes_, getattr(tone, name), lambda im, i: getattr(tv, name)(im))


def test_sharpness(bytes_):
    factor = draw(6, 0.1, 1.9)
    held(bytes_, lambda x: tone.sharpness(x, factor), lambda im, i: tv.adjust_sharpness(im, float(factor[i])))


def reference(name, im, share, sign):
    """One of the fourteen as torchvision's RandAugment applies it, at share of the largest magnitude."""
    height, width = im.shape[-2:]
    signed = share * sign
    degrees = torch.rad2deg(torch.atan(torch.tensor(0.3 * signed))).item()
    factor = 1 + 0.9 * signed
    straight = {"angle": 0.0, "scale": 1.0, **BILINEAR}
    return {
        "identity": lambda: im,
        "shear_x": lambda: tv.affine(im, translate=[0, 0], shear=[degrees, 0.0], center=[0, 0], **straight),
        "shear_y": lambda: tv.affine(im, translate=[0, 0], shear=[0.0, degrees], center=[0, 0], **straight),
        "translate_x": lambda: tv.affine(
            im, translate=[int(150 / 331 * width * signed), 0], shear=[0.0, 0.0], **straight
        ),
        "translate_y": lambda: tv.affine(
            im, translate=[0, int(150 / 331 * height * signed)], shear=[0.0, 0.0], **straight
        ),
        "rotate": lambda: tv.rotate(im, 30 * signed, **BILINEAR),
        "brightness": lambda: tv.adjust_brightness(im, factor),
        "saturation": lambda: tv.adjust_saturation(im, factor),
        "contrast": lambda: tv.adjust_contrast(im, factor),
        "sharpness": lambda: tv.adjust_sharpness(im, factor),
        "posterize": lambda: floats(
            tv.posterize(tv.to_dtype(im, torch.uint8, scale=True), 8 - round(4 * share))
        ),
        "solarize": lambda: tv.solarize(im, 1 - share),
        "autocontrast": lambda: tv.autocontrast(im),
        "equalize": lambda: tv.equalize(im),
    }[name]()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("magnitude", [0.0, 9.0, 17.0, 30.0])
def test_randaugments_fourteen(magnitude, sign):
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(0, 256, (28, 3, 20, 26), generator=generator, dtype=torch.uint8)
    chosen = [i % 14 for i in range(28)]
    assert len(set(randaugment.OPERATIONS)) == 14
    got = randaugment.apply_operations(x, chosen, torch.full((28,), magnitude), torch.full((28,), sign))
    for i, image in enumerate(floats(x)):
        name = randaugment.OPERATIONS[chosen[i]]
        expected = reference(name, image, magnitude / 30, sign)
        assert (got[i] - expected).abs().max() < 1e-4, name
