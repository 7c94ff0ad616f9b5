"""The convolutional autoencoder: sizes, noise, losses, the best epoch, refusals, clustering with it."""

import math

import pytest
import torch
import torch.nn.functional as F

from deepclust.core import Augments, Corrupts, Data, Decodes, InvalidData, InvalidSetting, Run, embed
from deepclust.core.contract.config import build
from deepclust.core.engine import checkpoint
from deepclust.core.testing import check_clusterer, check_encoder
from deepclust.plugins.cae.model import CAE, CAEConfig
from deepclust.plugins.cae.noise import add_noise
from made_picture import pictures
from made_training import batch_of, fit, log_of

TINY = {"filters": (4, 3), "hidden": 8, "latent_dim": 3, "epochs": 2, "batch_size": 16}


def make(shape=(1, 8, 8), **settings) -> CAE:
    torch.manual_seed(0)
    return CAE(CAEConfig(**{**TINY, **settings}), shape)


def preset(name, shape, **settings) -> CAE:
    torch.manual_seed(0)
    return CAE(build(CAEConfig, {"preset": name, **settings}, "encoder"), shape)


def test_the_tutorials_network_has_its_22789_parameters():
    model = preset("tutorial", (3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == 22_789
    c = model.config
    assert (c.epochs, c.batch_size, c.optimizer, c.lr) == (20, 32, "adam", 1e-3)
    assert (c.schedule, c.loss, c.output, c.noise, c.keep_best) == (
        "constant",
        "mse",
        "sigmoid",
        "none",
        True,
    )
    assert (c.shift, c.rotation, c.code_scale) == (0, 0, None)


def test_the_denoising_preset_pools_globally_and_starts_its_decoder_at_4x4x32():
    model = preset("denoise", (3, 32, 32))
    assert [(m.in_channels, m.out_channels) for m in model.encoders] == [
        (3, 16), (16, 32), (32, 64), (64, 128),
    ]  # fmt: skip
    assert (model.code.in_features, model.code.out_features) == (128, 10)
    assert model.spread.out_features == 4 * 4 * 32
    assert [(m.in_channels, m.out_channels) for m in model.decoders] == [(32, 32), (32, 16), (16, 3)]
    c = model.config
    assert (c.noise, c.noise_amount, c.loss, c.epochs, c.batch_size) == ("gaussian", 0.5, "bce", 30, 256)


SHAPES = [
    (1, 1, 1), (2, 1, 7), (1, 9, 1), (3, 2, 2), (4, 5, 3), (1, 28, 28), (3, 33, 17), (13, 15, 16),
    (1, 512, 3), (3, 500, 511),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bridge": "gap"},
        {"filters": (3, 4, 5, 6)},
        {"decoder": (5, 4, 3)},
        {"filters": (3,), "decoder": (2,)},
    ],
)
def test_any_image_size_and_channel_count_comes_back(shape, settings):
    model, x = make(shape, **settings), torch.rand(2, *shape)
    z = model(x)
    assert z.shape == (2, 3)
    assert model.decode(z).shape == x.shape
    assert isinstance(model, Decodes)
    assert isinstance(model, Augments)


def by_hand(model: CAE, x, widths):
    """Codes and logits from loops over the state's names alone."""
    w = model.state_dict()
    h = x
    sides = [x.shape[2:]]
    for i in range(len(widths)):
        h = F.conv2d(F.pad(h, (1, 1, 1, 1)), w[f"encoders.{i}.weight"], w[f"encoders.{i}.bias"]).clamp_min(0)
        height, width = h.shape[2:]  # pooling: after a ReLU a border of zeros changes no maximum
        h = F.pad(h, (0, width % 2, 0, height % 2))
        h = h.unflatten(3, (-1, 2)).amax(4).unflatten(2, (-1, 2)).amax(3)
        sides.append(h.shape[2:])
    maps = h.shape[1:]
    h = (h.reshape(len(x), -1) @ w["hidden.weight"].T + w["hidden.bias"]).clamp_min(0)
    z = h @ w["code.weight"].T + w["code.bias"]
    h = (z @ w["spread.weight"].T + w["spread.bias"]).clamp_min(0).reshape(len(x), *maps)
    for i, (height, width) in enumerate(reversed(sides[:-1])):
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :height, :width]
        h = F.conv2d(h, w[f"decoders.{i}.weight"], w[f"decoders.{i}.bias"], padding=1)
        if i < len(widths) - 1:
            h = h.clamp_min(0)
    return z, h


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 7), (2, 1, 5)])
@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_the_network_is_what_its_words_say(shape, output):
    model, x = make(shape, filters=(4, 6, 3), output=output), torch.rand(5, *shape)
    with torch.no_grad():
        z, logits = by_hand(model, x, (4, 6, 3))
        torch.testing.assert_close(model(x), z)
        expected = 1 / (1 + torch.exp(-logits)) if output == "sigmoid" else logits
        torch.testing.assert_close(model.decode(z), expected)


def test_the_gap_bridge_is_the_mean_of_each_map():
    model, x = make((2, 9, 6), bridge="gap"), torch.rand(5, 2, 9, 6)
    maps = []
    model.encoders[-1].register_forward_hook(lambda module, given, made: maps.append(made))
    with torch.no_grad():
        z = model(x)
        pooled = F.max_pool2d(maps[0].relu(), 2, ceil_mode=True)
        means = pooled.sum((2, 3)) / (pooled.shape[2] * pooled.shape[3])
        torch.testing.assert_close(z, means @ model.code.weight.T + model.code.bias)


@pytest.mark.parametrize("name", ["fast", "tutorial", "denoise"])
def test_gradients_reach_every_parameter(name):
    model = preset(name, (3, 16, 16))
    model.loss(batch_of(torch.rand(16, 3, 16, 16))).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_gaussian_noise_has_its_mean_and_deviation_and_is_clipped_where_asked():
    torch.manual_seed(0)
    x = torch.full((400, 1, 20, 20), 0.5)
    noisy = add_noise(x, "gaussian", 0.3, clip=False)
    assert float((noisy - x).mean()) == pytest.approx(0, abs=0.004)
    assert float((noisy - x).std()) == pytest.approx(0.3, rel=0.01)
    assert noisy.min() < 0 < 1 < noisy.max()
    clipped = add_noise(x, "gaussian", 0.3, clip=True)
    assert (clipped.min(), clipped.max()) == (0, 1)
    beyond = math.erfc(0.5 / 0.3 / math.sqrt(2)) / 2  # the normal law's share below 0
    assert float((clipped == 0).float().mean()) == pytest.approx(beyond, rel=0.1)
    assert not torch.equal(clipped[0], clipped[1])


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_masking_zeroes_its_share_and_leaves_the_rest(share):
    torch.manual_seed(0)
    x = torch.rand(400, 1, 20, 20) + 0.1
    masked = add_noise(x, "mask", share, clip=True)
    assert float((masked == 0).float().mean()) == pytest.approx(share, abs=0.005)
    assert torch.equal(masked[masked != 0], x[masked != 0])


def test_no_noise_is_no_change():
    x = torch.rand(4, 1, 3, 3)
    assert add_noise(x, "none", 0.5, clip=True) is x
    assert add_noise(x, "gaussian", 0.0, clip=True) is x


@pytest.mark.parametrize("noise", ["gaussian", "mask"])
@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_corrupt_puts_on_the_noise_of_training_on_the_datas_own_scale(noise, output):
    model, x = make(noise=noise, noise_amount=0.4, output=output), torch.rand(200, 1, 8, 8)
    assert isinstance(model, Corrupts)
    if output == "linear":
        model.inputs.deviation.fill_(100)
        x = 100 * x
    inputs = []
    model.encoders[0].register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    torch.manual_seed(3)
    model.loss(batch_of(x))
    torch.manual_seed(3)
    noisy = model.corrupt(x)
    torch.testing.assert_close(model.inputs(noisy), inputs[0])
    assert noisy.shape == x.shape
    assert not torch.allclose(noisy, model.corrupt(x))
    if output == "sigmoid":
        assert (noisy.min(), noisy.max() <= 1) == (0, True)
    elif noise == "gaussian":
        assert float((noisy - x).std()) == pytest.approx(40, rel=0.05)


def test_without_noise_corrupt_changes_nothing():
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(make().corrupt(x), x)
    model = make(output="linear")
    model.inputs.deviation.fill_(0.3)
    assert torch.equal(model.corrupt(x), x)


@pytest.mark.parametrize("noise", ["gaussian", "mask"])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_the_target_is_clean_while_the_input_is_noisy(noise, loss):
    model, x = make(noise=noise, noise_amount=0.4, loss=loss), torch.rand(10, 1, 8, 8)
    inputs = []
    model.encoders[0].register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    with torch.no_grad():
        value = model.loss(batch_of(x))
        assert not torch.allclose(inputs[0], x)
        assert (inputs[0].min() >= 0, inputs[0].max() <= 1) == (True, True)
        y = model.decode(model(inputs[0]))
    by_torch = {"mse": F.mse_loss, "bce": F.binary_cross_entropy}[loss]
    assert float(value) == pytest.approx(float(by_torch(y, x)), rel=1e-5)
    assert float(value) != pytest.approx(float(by_torch(y, inputs[0])), rel=1e-3)


def test_the_best_epochs_weights_come_back(tmp_path):
    """At so high a rate the loss goes up again: the least is not the last."""
    data = pictures()
    settings = {
        "lr": 0.5,
        "optimizer": "sgd",
        "momentum": 0.99,
        "schedule": "constant",
        "epochs": 12,
        "code_scale": None,
    }
    model = fit(make(**settings), data, tmp_path / "kept")
    last = fit(make(**settings, keep_best=False), data, tmp_path / "last")
    stage = tmp_path / "kept" / "reconstruct"
    lines = log_of(stage)
    best = min(lines, key=lambda line: line["loss"])
    assert best is not lines[-1]
    saved = checkpoint.load(stage / "best.pt")
    assert saved["iteration"] == best["iteration"]
    short = fit(
        make(**{**settings, "epochs": lines.index(best) + 1}, keep_best=False), data, tmp_path / "short"
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved["models"][""][name]), name
        assert torch.equal(value, short.state_dict()[name]), name  # a training that ended at that epoch
    assert not torch.equal(model.code.weight, last.code.weight)
    assert not (tmp_path / "last" / "reconstruct" / "best.pt").exists()


def test_training_reconstructs(tmp_path):
    data = pictures(n=200)
    for name, settings in [("a", {}), ("b", {"bridge": "gap", "loss": "bce"}), ("c", {"output": "linear"})]:
        model = fit(make(**settings, filters=(8, 8), epochs=40, lr=5e-3), data, tmp_path / name)
        with torch.no_grad():
            error = (model.decode(embed(model, data)) - data.x).square().mean()
        assert error < 0.4 * data.x.var(0).mean(), name


def test_the_code_gets_its_variance_and_reconstructions_stay(tmp_path):
    data = pictures()
    plain = fit(make(code_scale=None), data, tmp_path / "a")
    scaled = fit(make(code_scale=5.0), data, tmp_path / "b")
    z, z_plain = embed(scaled, data), embed(plain, data)
    assert float(z.var(0, correction=0).sum()) == pytest.approx(25.0, rel=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(scaled.decode(z), plain.decode(z_plain), atol=1e-4, rtol=1e-4)


def test_a_linear_output_takes_values_of_any_scale(tmp_path):
    x = pictures(n=200).x
    errors = []
    for name, factor in [("small", 1.0), ("large", 1000.0)]:
        data = Data(factor * (x - 0.5), name)
        model = fit(make(output="linear", filters=(8, 8), epochs=20, lr=5e-3), data, tmp_path / name)
        with torch.no_grad():
            errors.append(float((model.decode(embed(model, data)) - data.x).square().mean()) / factor**2)
    assert errors[0] == pytest.approx(errors[1], rel=0.05)
    assert errors[0] < 0.8 * float(x.var())


def test_the_learning_rate_follows_its_schedule(tmp_path):
    rates = {}
    for schedule in ("cosine", "constant"):
        fit(make(schedule=schedule, epochs=4), pictures(), tmp_path / schedule)
        rates[schedule] = [line["lr"] for line in log_of(tmp_path / schedule / "reconstruct")]
    lr = CAEConfig().lr
    assert rates["constant"] == [lr] * 4
    expected = [lr * (1 + math.cos(math.pi * i / 4)) / 2 for i in (1, 2, 3, 4)]
    assert rates["cosine"] == pytest.approx(expected, rel=0.2, abs=0.01 * lr)


def test_a_seed_repeats_the_bits_and_a_stopped_training_goes_on(tmp_path):
    data, settings = pictures(), {"noise": "gaussian", "shift": 0.1, "epochs": 4}
    whole = fit(make(**settings), data, tmp_path / "whole").state_dict()
    again = fit(make(**settings), data, tmp_path / "again").state_dict()
    other = fit(make(**settings), data, tmp_path / "other", seed=1).state_dict()
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert not torch.equal(whole["encoders.0.weight"], other["encoders.0.weight"])

    class Stopped(CAE):
        steps = 0

        def loss(self, batch):
            self.steps += 1
            if self.steps > 9:  # of 16
                raise RuntimeError("stopped")
            return super().loss(batch)

    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="stopped"):
        Stopped(CAEConfig(**{**TINY, **settings}), (1, 8, 8)).fit(
            data, Run(tmp_path / "cut", quiet=True, snapshot_seconds=0)
        )
    resumed = fit(make(**settings), data, tmp_path / "cut").state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_augmentation_only_where_asked():
    x = torch.rand(4, 1, 8, 8)
    assert make(shift=0.0, rotation=0.0).augment(x) is x
    moved = make(shift=0.2, rotation=10.0).augment(x)
    assert moved.shape == x.shape
    assert not torch.allclose(moved, x)


def test_rows_and_impossible_settings_are_refused_in_one_sentence():
    for shape in [(12,), (3, 4)]:
        with pytest.raises(InvalidData, match=r"needs images \(C, H, W\)"):
            make(shape)
    with pytest.raises(InvalidSetting, match="encoder.output=sigmoid"):
        make(loss="bce", output="linear")
    with pytest.raises(InvalidSetting, match="at least one"):
        make(filters=())


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0])
def test_values_that_a_sigmoid_cannot_give_are_refused_before_training(tmp_path, value):
    x = pictures().x.clone()
    x[-1, 0, -1, -1] = value
    with pytest.raises(InvalidData, match="encoder.output=linear"):
        fit(make(), Data(x, "outside"), tmp_path)
    assert not list(tmp_path.iterdir())
    fit(make(output="linear"), Data(x, "outside"), tmp_path)


@pytest.mark.parametrize(("n", "shape"), [(2, (1, 8, 8)), (3, (1, 1, 1)), (5, (3, 7, 4))])
def test_fewer_samples_than_a_batch_and_bytes_are_fine(tmp_path, n, shape):
    data = Data(torch.randint(0, 256, (n, *shape), dtype=torch.uint8), "bytes")
    model = fit(make(shape), data, tmp_path)
    assert torch.isfinite(embed(model, data)).all()


@pytest.mark.slow
def test_bf16_trains_close_to_float32(tmp_path):
    data, errors = pictures(n=200), {}
    for precision in ("float32", "bf16"):
        model = fit(make(filters=(8, 8), epochs=40, lr=5e-3), data, tmp_path / precision, precision=precision)
        z = embed(model, data)
        assert z.dtype == torch.float32
        with torch.no_grad():
            errors[precision] = float((model.decode(z) - data.x).square().mean() / data.x.var())
    assert errors["bf16"] < errors["float32"] + 0.1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5)])
@pytest.mark.parametrize("settings", [{}, {"preset": "denoise"}, {"output": "linear", "noise": "mask"}])
def test_it_keeps_an_encoders_promises(tmp_path, shape, settings):
    check_encoder("cae", tmp_path, shape=shape, **settings)


@pytest.mark.parametrize("name", ["kmeans", "dec", "idec"])
def test_clusterers_work_with_it(tmp_path, name):
    check_clusterer(name, tmp_path, encoder="cae")


def test_dark_images_do_not_end_as_black_everywhere(tmp_path):
    """A few bright strokes on black, as MNIST's: the mean square of the data is what black costs."""
    x = torch.zeros(400, 1, 16, 16)
    for i in range(400):
        x[i, :, 2 + i % 11 : 4 + i % 11, 3:12] = 1.0
        x[i, :, 4:12, 2 + i % 7] = 1.0
    data = Data(x, "strokes")
    model = fit(make((1, 16, 16), filters=(16, 32, 64), lr=3e-3, epochs=6, batch_size=32), data, tmp_path)
    with torch.no_grad():
        error = (model.decode(model(x)) - x).square().mean()
    assert error < 0.5 * x.square().mean()


@pytest.mark.parametrize("restore", [True, False])
def test_what_was_shifted_is_to_be_restored_or_kept(restore, monkeypatch):
    model, x = make(shift=0.2, restore=restore), pictures().x
    moved = x.roll(2, dims=3)
    monkeypatch.setattr(model, "augment", lambda samples: moved)
    target = x if restore else moved
    with torch.no_grad():
        expected = (model.decode(model(moved)) - target).square().mean()
        assert torch.allclose(model.loss(batch_of(x)), expected, rtol=1e-5)
