"""The stacked denoising autoencoder: shapes, noise, stages, scales, the paper's settings."""

import math

import pytest
import torch

from deepclust.core import Augments, Data, Decodes, embed
from deepclust.core.contract.config import build
from deepclust.core.engine import checkpoint
from deepclust.plugins.sdae.model import SDAE, SDAEConfig
from deepclust.plugins.sdae.noise import mask
from made_training import batch_of, fit


def make(shape=(12,), **settings) -> SDAE:
    torch.manual_seed(0)
    small = {"hidden": (9, 7), "latent_dim": 3, "layer_epochs": 2, "epochs": 2, "batch_size": 16}
    return SDAE(SDAEConfig(**{**small, **settings}), shape)


def flat_data(n=100, dim=12, factors=2, size=3.0) -> Data:
    """Samples on a plane in the space."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, factors, generator=g) @ torch.randn(factors, dim, generator=g)
    return Data(size * x + 1, "flat")


@pytest.mark.parametrize("shape", [(6,), (1, 8, 8), (3, 4, 5), (2, 3)])
def test_codes_and_reconstructions_have_their_shapes(shape):
    model, x = make(shape), torch.rand(5, *shape)
    assert model(x).shape == (5, 3)
    assert model.decode(model(x)).shape == x.shape
    assert isinstance(model, Decodes)
    assert isinstance(model, Augments)


def test_the_network_is_the_papers_by_default():
    model = SDAE(SDAEConfig(), (1, 28, 28))
    widths = [784, 500, 500, 2000, 10]
    assert [(m.in_features, m.out_features) for m in model.encoders] == list(
        zip(widths[:-1], widths[1:], strict=True)
    )
    assert [(m.out_features, m.in_features) for m in model.decoders] == list(
        zip(widths[:-1], widths[1:], strict=True)
    )
    assert model.latent_dim == 10


def test_forward_is_dense_layers_with_relu_except_at_the_ends():
    model, x = make(), torch.randn(40, 12)
    h = x
    for i, layer in enumerate(model.encoders):
        h = h @ layer.weight.T + layer.bias
        h = h.clamp_min(0) if i < 2 else h
    torch.testing.assert_close(model(x), h)
    for i in (2, 1, 0):
        h = h @ model.decoders[i].weight.T + model.decoders[i].bias
        h = h.clamp_min(0) if i > 0 else h
    torch.testing.assert_close(model.decode(model(x)), h)
    assert (model(x) < 0).any()  # codes and reconstructions have both signs
    assert (model.decode(model(x)) < 0).any()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_masking_zeroes_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    x = torch.rand(999, 1001) + 1
    masked = mask(x, share)
    kept = masked != 0
    assert float((~kept).float().mean()) == pytest.approx(share, abs=1 / 256)
    factor = (masked / x)[kept]
    assert factor.max() - factor.min() < 1e-5
    assert float(factor.mean()) == pytest.approx(1 / (1 - share), rel=0.05)
    assert float(masked.mean()) == pytest.approx(float(x.mean()), rel=0.01)
    columns, rows = (~kept).float().mean(0), (~kept).float().mean(1)
    assert (columns - share).abs().max() < 0.09  # every place alike
    assert (rows - share).abs().max() < 0.09
    assert not torch.equal(mask(x, share), masked)
    torch.manual_seed(0)
    torch.rand(999, 1001)
    assert torch.equal(mask(x, share), masked)  # torch's seed decides


def test_no_noise_is_no_change_and_gradients_pass_where_values_do():
    x = torch.rand(50, 3, requires_grad=True)
    assert mask(x, 0.0) is x
    masked = mask(x, 0.5)
    (grad,) = torch.autograd.grad(masked.sum(), x)
    torch.testing.assert_close(grad * x, masked)


@pytest.mark.parametrize("inputs", ["standard", "scaled"])
def test_samples_are_scaled_to_mean_square_one(tmp_path, inputs):
    pixels = Data((torch.rand(40, 1, 4, 4) * 255).to(torch.uint8), "bytes")
    for data, shape in ((flat_data(), (12,)), (pixels, (1, 4, 4))):
        untrained = {"layer_epochs": 0, "epochs": 0, "code_scale": None, "inputs": inputs}
        model = fit(make(shape, **untrained), data, tmp_path)
        x = data.slice(0, len(data))
        seen = model.inputs(x)
        assert float(seen.square().mean()) == pytest.approx(1.0, rel=0.02)
        if inputs == "standard":
            assert abs(float(seen.mean())) < 0.02
        else:
            torch.testing.assert_close(seen * model.inputs.deviation, x)


def test_black_pictures_do_not_divide_by_zero(tmp_path):
    data = Data(torch.zeros(40, 12), "black")
    model = fit(make(), data, tmp_path)
    assert torch.isfinite(embed(model, data)).all()


def test_each_stage_trains_its_own_pair_and_no_other(tmp_path):
    data = flat_data()
    model = fit(make(epochs=0, code_scale=None), data, tmp_path)
    for i in range(3):
        state = checkpoint.load(tmp_path / f"layer{i}" / "snapshot.pt")
        assert state["finished"]
        saved = state["updater"]["models"][""]
        assert set(saved) == {"0.weight", "0.bias", "1.weight", "1.bias"}
        for j, layer in enumerate((model.encoders[i], model.decoders[i])):
            # as its stage left it: the later stages moved nothing
            assert torch.equal(layer.weight, saved[f"{j}.weight"])
            assert torch.equal(layer.bias, saved[f"{j}.bias"])
    start = make()
    for before, after in zip(start.parameters(), model.parameters(), strict=True):
        assert not torch.equal(before, after)
    assert not (tmp_path / "finetune").exists()


def test_finetuning_moves_every_layer(tmp_path):
    data = flat_data()
    before = fit(make(epochs=0, code_scale=None), data, tmp_path / "a").state_dict()
    after = fit(make(code_scale=None), data, tmp_path / "b").state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]) == name.startswith("inputs."), name


def test_training_finds_the_plane(tmp_path):
    data = flat_data(n=300)
    model = fit(make(hidden=(32, 32), layer_epochs=10, epochs=60, finetune_noise=0.0), data, tmp_path)
    with torch.no_grad():
        error = (model.decode(model(data.x)) - data.x).square().mean()
    assert error < 0.1 * data.x.var(0).mean()  # two factors go through a code of three


def test_the_code_gets_its_variance_and_reconstructions_stay(tmp_path):
    data = flat_data()
    plain = fit(make(code_scale=None), data, tmp_path / "a")
    scaled = fit(make(code_scale=5.0), data, tmp_path / "b")
    z, z_plain = embed(scaled, data), embed(plain, data)
    assert float(z.var(0, correction=0).sum()) == pytest.approx(25.0, rel=1e-3)
    torch.testing.assert_close(z / z.norm(), z_plain / z_plain.norm(), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(scaled.decode(z), plain.decode(z_plain), atol=1e-3, rtol=1e-3)


def test_the_papers_settings_are_a_preset():
    paper = build(SDAEConfig, {"preset": "paper"}, "encoder")
    assert (paper.hidden, paper.latent_dim, paper.batch_size) == ((500, 500, 2000), 10, 256)
    assert (paper.layer_iterations, paper.iterations) == (50_000, 100_000)
    assert (paper.optimizer, paper.lr, paper.momentum, paper.schedule) == ("sgd", 0.1, 0.9, "steps")
    assert (paper.noise, paper.finetune_noise, paper.weights, paper.code_scale) == (0.2, 0.0, "normal", None)
    assert paper.inputs == "scaled"
    model = SDAE(paper, (784,))
    assert float(model.encoders[2].weight.detach().std()) == pytest.approx(0.01, rel=0.01)
    assert not model.encoders[2].bias.any()
    changed = build(SDAEConfig, {"preset": "paper", "lr": "0.05"}, "encoder")
    assert (changed.lr, changed.optimizer) == (0.05, "sgd")


def test_iterations_stand_in_for_epochs_and_the_run_scales_both(tmp_path):
    model = make(layer_iterations=10, iterations=30, optimizer="sgd", schedule="steps", weights="normal")
    fit(model, flat_data(), tmp_path, epochs_scale=0.5)
    done = {p.parent.name: checkpoint.load(p)["updater"]["iteration"] for p in tmp_path.glob("*/snapshot.pt")}
    assert done == {"layer0": 5, "layer1": 5, "layer2": 5, "finetune": 15}


def test_layers_start_with_unit_outputs(tmp_path):
    """What a narrow schedule needs: after no training at all (lr 0) each layer's output has mean square 1."""
    data = flat_data(n=400)
    model = fit(make(hidden=(64, 64), lr=0.0, code_scale=None, epochs=0), data, tmp_path)
    h = model.inputs(data.x)
    for layer in model.encoders[:-1]:
        h = torch.relu(layer(h))
        assert float(h.detach().square().mean()) == pytest.approx(1.0, rel=1e-3)
    z = model.encoders[-1](h).detach()
    assert float(z.var(0, correction=0).mean()) == pytest.approx(1.0, rel=1e-3)


def test_a_seed_repeats_the_bits_and_another_does_not(tmp_path):
    data = flat_data()
    first = fit(make(), data, tmp_path / "a").state_dict()
    second = fit(make(), data, tmp_path / "b").state_dict()
    other = fit(make(), data, tmp_path / "c", seed=1).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["encoders.0.weight"], other["encoders.0.weight"])


def test_augmentation_is_for_images_and_only_where_asked():
    x = torch.rand(4, 1, 8, 8)
    assert make((1, 8, 8), shift=0.0, rotation=0.0).augment(x) is x
    assert make((64,), shift=0.2).augment(x.flatten(1)).shape == (4, 64)
    torch.manual_seed(0)
    moved = make((1, 8, 8), shift=0.2, rotation=10.0).augment(x)
    assert moved.shape == x.shape
    assert not torch.allclose(moved, x)


def test_bf16_trains_close_to_float32(tmp_path):
    data = flat_data(n=200)
    settings = {"hidden": (32, 32), "layer_epochs": 5, "epochs": 40, "finetune_noise": 0.0}
    errors = {}
    for precision in ("float32", "bf16"):
        model = fit(make(**settings), data, tmp_path / precision, precision=precision)
        z = embed(model, data)
        assert z.dtype == torch.float32
        with torch.no_grad():
            errors[precision] = math.sqrt(float((model.decode(z) - data.x).square().mean() / data.x.var()))
    assert errors["bf16"] < errors["float32"] + 0.1


@pytest.mark.parametrize("restore", [True, False])
def test_what_was_shifted_is_to_be_restored_or_kept(restore, monkeypatch):
    model = make((1, 8, 8), shift=0.2, restore=restore, finetune_noise=0.0)
    x = torch.rand(6, 1, 8, 8)
    moved = x.roll(2, dims=3)
    monkeypatch.setattr(model, "augment", lambda samples: moved)
    target = x if restore else moved
    with torch.no_grad():
        expected = (model.decode(model(moved)) - target).square().mean()
        assert torch.allclose(model._loss(batch_of(x)), expected, rtol=1e-5)
