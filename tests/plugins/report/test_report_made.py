"""What the report shows of an encoder that denoises, makes new samples or has codes of two dimensions."""

import base64
import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepclust.core import Data, Result, Truth
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.plugins.report.gallery import show_decoded, show_generated
from deepclust.plugins.report.latent import STEPS, decode_grid
from deepclust.plugins.report.picture import Pictures

SHAPE = (1, 4, 6)
NOISE = {"request": {"encoder": {"name": "halves", "settings": {"noise": "signs", "noise_amount": 0.1}}}}


class Means(nn.Module):
    """An encoder of images whose left and right halves are each of one grey: their means, and back."""

    latent_dim = 2

    def forward(self, x):
        return torch.stack([x[..., :3].mean((1, 2, 3)), x[..., 3:].mean((1, 2, 3))], dim=1)

    def decode(self, z):
        return z.repeat_interleave(3, dim=1)[:, None, None].expand(-1, 1, 4, -1)


class Denoising(Means):
    def corrupt(self, x):
        return x + 0.1 * torch.randint_like(x, 0, 2).mul(2).sub(1)


class Unchanging(Means):
    def corrupt(self, x):
        return x


class Generating(Means):
    def generate(self, count, generator):
        return self.decode(torch.rand(count, 2, generator=generator))


def make_result(folder, n=60, encoder=None, seed=0, **changes):
    """Images of two greys from 0.2 to 0.8, in two clusters."""
    codes = (0.2 + 0.6 * np.random.default_rng(seed).random((n, 2))).astype(np.float32)
    encoder = encoder or Means()
    x = encoder.decode(torch.from_numpy(codes))
    labels = (codes[:, 0] > codes[:, 1]).astype(np.int64)
    confidence = np.full(n, 0.8)
    made = {
        "z": codes, "labels": labels, "confidence": confidence, "second": 1 - labels,
        "second_confidence": 1 - confidence, "distance": np.zeros(n), "centers": np.array([[0, 1], [1, 0.0]]),
        "second_distance": np.zeros(n), "truth": None, "data": Data(x.contiguous(), f"{n} samples").seal(),
        "encoder": encoder, "clusterer": None, "folder": folder, "seed": 0, "quiet": True,
    }  # fmt: skip
    return Result(**{**made, **changes})


def report(result, **settings):
    """The scores and the page of a result, as text with single spaces."""
    cls = installed().load("evaluator", "report")
    given = {"map": "none", "neighbours": "0", **settings}
    scores = cls(build(cls.Config, given, "report")).evaluate(result)
    return scores, re.sub(r"\s+", " ", (result.folder / "report.html").read_text(encoding="utf-8"))


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))).astype(float) / 255


def decoded(result):
    return show_decoded(result, Pictures(result.data, 0))


def test_denoising_is_measured_on_many_held_out_samples(tmp_path):
    test = make_result(tmp_path, n=900, seed=1)
    result = make_result(tmp_path, encoder=Denoising(), test=test, record=NOISE)
    scores, page = report(result)
    assert scores["psnr_noisy"] == pytest.approx(20, abs=1e-3)  # an error of 0.1^2 at every value
    expected = 20 + 10 * math.log10(12)  # each half is the mean of 12 values
    assert scores["psnr_denoised"] == pytest.approx(expected, abs=0.5)
    assert "512 <b>held-out</b> samples" in page
    assert "(noise=signs, noise_amount=0.1)" in page
    assert f"<b>{scores['psnr_denoised']:.2f} dB</b>" in page
    assert "20.00 dB" in page
    assert page.count("PSNR") == 2


def test_pictures_are_of_held_out_samples_in_different_clusters(tmp_path):
    test = make_result(tmp_path, n=40, seed=1, files=[f"unseen-{i}.png" for i in range(40)])
    result = make_result(tmp_path, encoder=Denoising(), test=test)
    content, _ = decoded(result)
    rows = dict(content["rows"])
    shown = [int(re.search(r"unseen-(\d+)", name)[1]) for name, _ in rows["original"]]
    assert sorted(test.labels[shown].tolist()) == [0, 1]
    for (_, uri), i in zip(rows["original"], shown, strict=True):
        assert pixels(uri) == pytest.approx(test.data.x[i, 0].numpy(), abs=1 / 255)
    for (_, clean), (_, noisy) in zip(rows["original"], rows["with noise"], strict=True):
        assert np.abs(pixels(noisy) - pixels(clean)) == pytest.approx(0.1, abs=2 / 255)
    assert content["held_out"]
    assert not decoded(replace(result, test=None))[0]["held_out"]


@pytest.mark.parametrize("encoder", [Means, Unchanging])
def test_without_noise_of_its_own_a_share_is_masked_and_no_score_claims_more(tmp_path, encoder):
    scores, page = report(make_result(tmp_path, n=300, encoder=encoder(), record=NOISE))
    assert scores == {}
    assert "With 20 % of the values set to 0" in page
    assert "was trained to take off" not in page
    assert "held-out" not in page
    assert "peak signal-to-noise ratio" in page


def test_there_is_no_psnr_of_values_outside_0_to_1_and_of_no_error(tmp_path):
    result = make_result(tmp_path, encoder=Denoising())
    shifted = replace(result, data=Data(result.data.x * 3, "x").seal())
    content, scores = decoded(shifted)
    assert (content["psnr"], scores) == (None, {})
    assert content["noisy"] == pytest.approx(0.01, rel=1e-3)

    class Silent(Denoising):
        def forward(self, x):
            return super().forward(result.data.x[:1].expand(len(x), -1, -1, -1))

    same = Data(result.data.x[:1].expand(60, -1, -1, -1).contiguous(), "the same").seal()
    content, scores = decoded(replace(result, encoder=Silent(), data=same))
    assert content["denoised"] < 1e-12
    assert all(math.isfinite(value) for value in scores.values())


def test_noise_is_drawn_from_the_runs_seed_and_nobody_elses(tmp_path):
    result = make_result(tmp_path, encoder=Denoising())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = decoded(result)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert decoded(result) == first
    assert decoded(replace(result, seed=1)) != first


def test_large_samples_are_measured_on_fewer(tmp_path, monkeypatch):
    monkeypatch.setattr("deepclust.plugins.report.gallery.MOST_VALUES", 24 * 33)
    monkeypatch.setattr("deepclust.plugins.report.decoding.BATCH_VALUES", 24 * 7)  # in pieces
    content, scores = decoded(make_result(tmp_path, encoder=Denoising()))
    assert content["n"] == 33
    assert scores["psnr_noisy"] == pytest.approx(20, abs=1e-3)


def test_new_samples_are_shown_where_the_encoder_makes_some(tmp_path):
    result = make_result(tmp_path, encoder=Generating())
    made = show_generated(result, Pictures(result.data, 0))
    assert len(made) == 40
    assert len(set(made)) > 30
    assert made == show_generated(result, Pictures(result.data, 0))
    expected = Generating().generate(40, torch.Generator().manual_seed(0))
    assert pixels(made[7]) == pytest.approx(expected[7, 0].numpy(), abs=1 / 255)
    assert report(result)[1].count('alt="new sample ') == 40
    assert 'id="generated"' not in report(make_result(tmp_path))[1]
    rows = Data(torch.rand(60, 9), "rows")
    assert show_generated(replace(result, data=rows), Pictures(rows, 0)) == []


def test_codes_of_two_dimensions_are_decoded_on_a_grid_of_their_quantiles(tmp_path):
    result = make_result(tmp_path, n=500)
    result.z[0] = 50  # one code far away changes little
    grid = decode_grid(result.encoder, result.z, Pictures(result.data, 0))
    assert grid.pixels.shape == (STEPS * 5, STEPS * 7)  # with a line between them
    for axis, values in enumerate((grid.x, grid.y)):
        assert (values[0], values[-1]) == pytest.approx(np.percentile(result.z[:, axis], [1, 99]), rel=1e-3)
    shown = grid.pixels.astype(float) / 255
    for row, column in ((0, 0), (0, STEPS - 1), (STEPS - 1, 0), (7, 12)):
        tile = shown[5 * row : 5 * row + 4, 7 * column : 7 * column + 6]
        assert tile[:, :3] == pytest.approx(grid.x[column], abs=1 / 255)
        assert tile[:, 3:] == pytest.approx(grid.y[STEPS - 1 - row], abs=1 / 255)  # the largest on top


def test_no_grid_where_there_is_nothing_to_show(tmp_path):
    result = make_result(tmp_path)
    pictures = Pictures(result.data, 0)
    assert decode_grid(nn.Identity(), result.z, pictures) is None
    assert decode_grid(result.encoder, np.ones((60, 2), np.float32), pictures) is None
    assert decode_grid(result.encoder, np.random.rand(60, 3), pictures) is None
    assert decode_grid(result.encoder, result.z, Pictures(Data(torch.rand(60, 9), "rows"), 0)) is None


@pytest.mark.parametrize("channels", [3, 5])
def test_a_grid_of_large_and_of_coloured_samples_is_bounded(channels):
    class Wide(nn.Module):
        latent_dim = 2

        def decode(self, z):
            return z.sum(1)[:, None, None, None].expand(-1, channels, 40, 100)

    z = np.random.default_rng(0).random((50, 2)).astype(np.float32) / 2
    grid = decode_grid(Wide(), z, Pictures(Data(torch.rand(4, channels, 40, 100), "x"), 0))
    assert grid.pixels.shape[:2] == (STEPS * 20, STEPS * 49)
    assert grid.pixels.ndim == (3 if channels == 3 else 2)


def test_the_map_of_two_dimensions_is_the_codes_and_says_so(tmp_path):
    truth = Truth(np.arange(60) % 2, ("a", "b"))
    result = make_result(tmp_path, truth=truth)
    _, page = report(result, map="tsne")
    assert "The codes themselves, which have two dimensions" in page
    assert "t-SNE" not in page
    assert "mean little" not in page
    assert "between the 1 % and 99 % quantiles" in page
    assert (tmp_path / "figures/latent.png").exists()
    svg = (tmp_path / "figures/map-clusters.svg").read_text()
    assert "first dimension of the code" in svg
    _, page = report(result)  # without a map the decoded codes stay
    assert "between the 1 % and 99 % quantiles" in page
    assert "Triangles" not in page
