"""Random distortions held against torchvision's, one image at a time."""

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import affine

from deepclust.plugins.views import random_affine


def pictures(n=6, channels=2, height=12, width=12):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


def test_no_shift_and_no_rotation_change_nothing():
    x = pictures(height=9, width=14)
    torch.testing.assert_close(random_affine(x, 1e-9, 0.0), x, atol=1e-5, rtol=0)
    drawn = torch.get_rng_state()
    assert torch.equal(random_affine(x, 0.0, 0.0), x)
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("size", [(12, 12), (9, 16), (20, 7)])
@pytest.mark.parametrize("constant", [0.0, 0.2, 0.75, 0.99])
@pytest.mark.parametrize(("shift", "rotation"), [(0.0, 30.0), (0.2, 0.0), (0.15, 90.0)])
def test_it_is_torchvisions_affine(monkeypatch, size, constant, shift, rotation):
    x = pictures(height=size[0], width=size[1])
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, constant))
    got = random_affine(x, shift, rotation)
    share = 2 * constant - 1
    degrees, down, right = share * rotation, share * shift * size[0], share * shift * size[1]
    # ours says where a pixel u comes from, R u + t; torchvision's turns by R^-1 and then shifts, by -R^-1 t
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    translate = [-(cos * right + sin * down), -(cos * down - sin * right)]
    expected = affine(x, -degrees, translate, 1.0, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


def test_a_quarter_turn_is_exact_whatever_the_sides(monkeypatch):
    square = pictures(1, 1, 5, 5)[0, 0]
    x = torch.zeros(1, 1, 5, 9)
    x[0, 0, :, 2:7] = square  # in the middle of a wide image
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape))
    turned = random_affine(x, 0.0, 90.0)[0, 0, :, 2:7]
    assert any(torch.allclose(turned, torch.rot90(square, k), atol=1e-5) for k in (1, 3))


def test_each_sample_has_its_own_draw_and_a_seed_repeats_it():
    x = pictures(1).expand(8, -1, -1, -1).contiguous()
    torch.manual_seed(4)
    first = random_affine(x, 0.2, 20.0)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 8
    assert not torch.equal(random_affine(x, 0.2, 20.0), first)
    torch.manual_seed(4)
    assert torch.equal(random_affine(x, 0.2, 20.0), first)


def test_shifts_stay_within_their_share():
    x = torch.zeros(200, 1, 20, 20)
    x[:, :, 10, 10] = 1.0
    torch.manual_seed(0)
    weight = random_affine(x, 0.2, 0.0)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    for axis in (rows, columns):
        offset = (weight * axis).sum((1, 2)) / weight.sum((1, 2)) - 10
        assert offset.abs().max() <= 4.001
        assert offset.min() < -3.5
        assert offset.max() > 3.5


def test_autocast_does_not_coarsen_pictures():
    x = pictures()
    torch.manual_seed(1)
    exact = random_affine(x, 0.1, 15.0)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(random_affine(x, 0.1, 15.0), exact)
