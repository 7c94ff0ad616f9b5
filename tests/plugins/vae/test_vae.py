"""The variational autoencoder: its bound, its draws, sizes, losses, refusals, clustering with it."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from deepclust.core import (
    Augments,
    Data,
    Decodes,
    FindsAnomalies,
    Generates,
    InvalidData,
    InvalidSetting,
    Run,
    embed,
)
from deepclust.core.contract.config import build
from deepclust.core.testing import check_clusterer, check_encoder
from deepclust.plugins.vae.model import VAE, Posterior, VAEConfig
from made_picture import pictures
from made_training import batch_of, fit, log_of

TINY = {"filters": (4, 3), "hidden": (8,), "latent_dim": 3, "epochs": 2, "batch_size": 16}


def make(shape=(1, 8, 8), **settings) -> VAE:
    torch.manual_seed(0)
    return VAE(VAEConfig(**{**TINY, **settings}), shape)


def stirred(shape=(1, 8, 8), **settings) -> VAE:
    """A network whose parameters are all away from where they begin."""
    model = make(shape, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def table(n=200, columns=7, seed=0) -> Data:
    """Standardised rows on a plane, with a little noise."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=g) @ torch.randn(2, columns, generator=g)
    x = x + 0.1 * torch.randn(n, columns, generator=g)
    return Data((x - x.mean(0)) / x.std(0), "table")


SHAPES = [
    (1, 1, 1), (2, 1, 7), (1, 9, 1), (3, 2, 2), (4, 5, 3), (1, 28, 28), (3, 33, 17), (13, 15, 16),
    (1, 1, 300), (7,), (1,), (3, 4),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"filters": ()}, {"filters": (3, 4, 5, 6), "hidden": ()}, {"hidden": (6, 5), "output": "linear"}],
)
def test_samples_of_any_shape_come_back(shape, settings):
    model, x = make(shape, **settings), torch.rand(2, *shape)
    z = model(x)
    assert z.shape == (2, 3)
    assert z.dtype == torch.float32
    with torch.no_grad():
        assert model.decode(z).shape == x.shape
        assert model.anomaly_score(x).shape == (2,)
    for ability in (Decodes, Augments, Generates, FindsAnomalies):
        assert isinstance(model, ability)


@pytest.mark.parametrize("dimensions", [1, 2, 10])
def test_the_divergence_is_torchs_and_what_draws_say(dimensions):
    torch.manual_seed(0)
    mean, log_variance = torch.randn(5, dimensions).double(), torch.randn(5, dimensions).double()
    q = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    posterior = Posterior(mean, log_variance)
    torch.testing.assert_close(posterior.kl(), kl_divergence(q, prior))
    z = posterior.sample().new_empty(20_000, 5, dimensions)
    for i in range(len(z)):
        z[i] = posterior.sample()
    torch.testing.assert_close(z.mean(0), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(z.var(0).log(), log_variance, atol=0.08, rtol=0)
    drawn = q.log_prob(z) - prior.log_prob(z)
    error = 5 * drawn.std(0) / math.sqrt(len(z))
    assert ((drawn.mean(0) - posterior.kl()).abs() < error).all()
    assert Posterior(torch.zeros(1, dimensions), torch.zeros(1, dimensions)).kl().item() == 0


def test_the_draws_gradient_is_that_of_the_expectation():
    """E[sum z^3] under N(m, s^2) is sum m^3 + 3 m s^2, whose gradients are known."""
    torch.manual_seed(0)
    mean = torch.tensor([[0.5, -1.0]], dtype=torch.double, requires_grad=True)
    log_variance = torch.tensor([[-1.0, 0.3]], dtype=torch.double, requires_grad=True)
    many = Posterior(mean.expand(400_000, 2), log_variance.expand(400_000, 2))
    (many.sample() ** 3).sum(1).mean().backward()
    variance = log_variance.detach().exp()
    torch.testing.assert_close(mean.grad, 3 * mean.detach() ** 2 + 3 * variance, atol=0.05, rtol=0)
    torch.testing.assert_close(log_variance.grad, 3 * mean.detach() * variance, atol=0.08, rtol=0)


def test_the_draws_gradient_is_that_of_finite_differences():
    model, x = stirred(), torch.rand(4, 1, 8, 8)

    def loss():
        torch.manual_seed(3)
        return model.loss(batch_of(x))

    loss().backward()
    for name in (
        "mean.bias",
        "mean.weight",
        "log_variance.bias",
        "log_variance.weight",
        "wide.0.bias",
        "up.1.bias",
    ):
        parameter = model.get_parameter(name)
        direction = parameter.grad / parameter.grad.norm()
        values = []
        for step in (3e-3, -6e-3):
            with torch.no_grad():
                parameter.add_(step * direction)
                values.append(float(loss()))
        slope = (values[0] - values[1]) / 6e-3
        assert float(parameter.grad.norm()) == pytest.approx(slope, rel=0.03, abs=2e-3), name
        with torch.no_grad():
            parameter.add_(3e-3 * direction)


def bound_by_torch(model: VAE, x, z) -> torch.Tensor:
    """-log p(x|z) + KL from torch's distributions and the public decode alone."""
    posterior = model.posterior(x)
    q = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1)
    y = model.decode(z)
    if model.likelihood == "bce":
        likely = Bernoulli(probs=y.double(), validate_args=False).log_prob(x.double())
    else:
        likely = Normal(y, model.variance.sqrt()).log_prob(x)
    return kl - likely.flatten(1).sum(1)


KINDS = [
    {}, {"loss": "mse"}, {"loss": "mse", "variance": 0.04}, {"output": "linear"},
    {"output": "linear", "variance": 2.5}, {"filters": ()},
]  # fmt: skip


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5)])
def test_the_score_is_the_negative_bound(settings, shape):
    model, x = stirred(shape, **settings), torch.rand(9, *shape)
    if model.output == "linear":
        model.inputs.deviation.fill_(0.6)
    if "variance" not in settings:
        model.variance.fill_(0.3)
    with torch.no_grad():
        expected = bound_by_torch(model, x, model(x))
        torch.testing.assert_close(model.anomaly_score(x).double(), expected.double(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("settings", KINDS)
def test_the_loss_is_the_mean_bound_and_reports_its_parts(settings):
    model, x = stirred(**settings), torch.rand(9, 1, 8, 8)
    draws = []
    with torch.no_grad():
        for seed in range(4):
            torch.manual_seed(seed)
            loss = model.loss(batch_of(x))
            torch.manual_seed(seed)
            z = model.posterior(x).sample()
            assert float(loss) == pytest.approx(float(bound_by_torch(model, x, z).mean()), rel=1e-4)
            draws.append(float(loss))
        assert len(set(draws)) == 4
        weighted = make(**settings, beta=3.0)
        weighted.load_state_dict(model.state_dict())
        torch.manual_seed(3)
        heavy = weighted.loss(batch_of(x))
        expected = bound_by_torch(weighted, x, z).mean() + 2 * model.posterior(x).kl().mean()
        assert float(heavy) == pytest.approx(float(expected), rel=1e-4)


def test_more_draws_come_near_the_expectation_and_never_depend_on_the_batch():
    model, x = stirred(score_draws=400), torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        score = model.anomaly_score(x)
        torch.manual_seed(1)
        losses = [bound_by_torch(model, x, model.posterior(x).sample()) for _ in range(400)]
        drawn = torch.stack(losses)
        assert ((drawn.mean(0) - score).abs() < 7 * drawn.std(0) / 20).all()
        torch.testing.assert_close(model.anomaly_score(x[2:4]), score[2:4])
        assert torch.equal(model.anomaly_score(x), score), "the same at every call"


def test_scores_stay_finite_for_the_strangest_samples():
    for settings in KINDS:
        model = stirred(**settings)
        for x in (torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 1e4), torch.full((1, 1, 8, 8), -1e4)):
            assert torch.isfinite(model.anomaly_score(x)).all(), settings


def test_new_samples_are_decoded_draws_of_the_prior():
    for shape in [(1, 8, 8), (7,)]:
        model = stirred(shape)
        made = model.generate(5, torch.Generator().manual_seed(4))
        z = torch.randn(5, 3, generator=torch.Generator().manual_seed(4))
        assert made.shape == (5, *shape)
        assert not made.requires_grad
        with torch.no_grad():
            assert torch.equal(made, model.decode(z))
        assert torch.equal(made, model.generate(5, torch.Generator().manual_seed(4)))
        assert not torch.equal(made, model.generate(5, torch.Generator().manual_seed(5)))
        before = torch.random.get_rng_state()
        model.generate(2, torch.Generator().manual_seed(0))
        assert torch.equal(before, torch.random.get_rng_state()), "no other generator is drawn from"


@pytest.mark.parametrize("settings", [*KINDS, {"optimizer": "adamw", "filters": (3, 4, 5), "hidden": (6, 5)}])
def test_gradients_reach_every_parameter(settings):
    model = stirred((3, 16, 16), **settings)
    model.loss(batch_of(torch.rand(16, 3, 16, 16))).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_it_learns_images_and_rows(tmp_path):
    data = pictures(n=200)
    model = fit(make(filters=(8, 8), hidden=(32,), loss="mse", epochs=25, lr=5e-3), data, tmp_path / "images")
    with torch.no_grad():
        error = (model.decode(embed(model, data)) - data.x).square().mean()
    assert error < 0.4 * data.x.var(0).mean()
    lines = log_of(tmp_path / "images" / "reconstruct")
    assert lines[-1]["loss"] < lines[0]["loss"]
    for line in lines:
        assert line["loss"] == pytest.approx(line["reconstruction"] + line["kl"], rel=1e-5)
        assert line["kl"] >= 0
    rows = table()
    model = fit(make((7,), latent_dim=2, hidden=(32,), epochs=60, lr=1e-2), rows, tmp_path / "rows")
    with torch.no_grad():
        error = (model.decode(embed(model, rows)) - rows.x).square().mean()
    assert error < 0.1
    assert error < model.variance < 2 * error + 0.02, "the learned variance is the error of draws"


def test_strange_samples_score_higher_after_training(tmp_path):
    model = fit(make(filters=(8, 8), loss="mse", epochs=20, lr=5e-3), pictures(n=200), tmp_path)
    usual, strange = pictures(n=100, seed=1).x, torch.rand(100, 1, 8, 8)
    assert model.anomaly_score(usual).quantile(0.9) < model.anomaly_score(strange).quantile(0.1)


def test_a_large_weight_closes_the_code_and_none_opens_it(tmp_path):
    kl = {}
    for beta in (0.0, 1.0, 100.0):
        fit(make((7,), hidden=(16,), beta=beta, epochs=25, lr=1e-2), table(), tmp_path / str(beta))
        kl[beta] = log_of(tmp_path / str(beta) / "reconstruct")[-1]["kl"]
    assert kl[0.0] > kl[1.0] > kl[100.0]
    assert kl[100.0] < 0.2 * kl[1.0]


def test_the_weight_rises_during_the_warm_up(tmp_path):
    fit(make(beta=2.0, warmup=0.5, epochs=8, keep_best=False), pictures(), tmp_path)
    lines = log_of(tmp_path / "reconstruct")
    shares = [(line["loss"] - line["reconstruction"]) / (2.0 * line["kl"]) for line in lines]
    assert shares[:4] == pytest.approx([0.09, 0.34, 0.59, 0.84], abs=0.07)  # 4 batches in an epoch
    assert shares[4:] == pytest.approx([1.0] * 4, abs=1e-4)
    for line in lines:
        assert line["bound"] == pytest.approx(line["reconstruction"] + 2 * line["kl"], rel=1e-5)


def test_the_best_epoch_is_that_of_the_full_weight(tmp_path):
    fit(make(beta=20.0, warmup=1.0, epochs=6), pictures(), tmp_path)
    lines = log_of(tmp_path / "reconstruct")
    best = min(lines, key=lambda line: line["bound"])
    saved = torch.load(tmp_path / "reconstruct" / "best.pt", weights_only=True)
    assert saved["iteration"] == best["iteration"]


def test_a_linear_output_takes_values_of_any_scale(tmp_path):
    rows, errors, scores = table(), [], []
    for name, factor in [("small", 1.0), ("large", 1000.0)]:
        data = Data(factor * rows.x, name)
        model = fit(make((7,), epochs=20, lr=1e-2), data, tmp_path / name)
        with torch.no_grad():
            errors.append(float((model.decode(embed(model, data)) - data.x).square().mean()) / factor**2)
            scores.append(float(model.anomaly_score(data.x).mean()))
    assert errors[0] == pytest.approx(errors[1], rel=0.05)
    assert scores[1] - scores[0] == pytest.approx(7 * math.log(1000), rel=0.01), "densities are of the data"


def test_a_seed_repeats_the_bits_and_a_stopped_training_goes_on(tmp_path):
    data, settings = pictures(), {"shift": 0.1, "epochs": 4, "warmup": 0.7}
    whole = fit(make(**settings), data, tmp_path / "whole").state_dict()
    again = fit(make(**settings), data, tmp_path / "again").state_dict()
    other = fit(make(**settings), data, tmp_path / "other", seed=1).state_dict()
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert not torch.equal(whole["down.0.weight"], other["down.0.weight"])

    class Stopped(VAE):
        steps = 0

        def loss(self, batch, share=1.0):
            self.steps += 1
            if self.steps > 9:  # of 16
                raise RuntimeError("stopped")
            return super().loss(batch, share)

    torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="stopped"):
        Stopped(VAEConfig(**{**TINY, **settings}), (1, 8, 8)).fit(
            data, Run(tmp_path / "cut", quiet=True, snapshot_seconds=0)
        )
    resumed = fit(make(**settings), data, tmp_path / "cut").state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_augmentation_only_where_asked_and_never_of_rows():
    x = torch.rand(4, 1, 8, 8)
    assert make().augment(x) is x
    moved = make(shift=0.2, rotation=10.0).augment(x)
    assert moved.shape == x.shape
    assert not torch.allclose(moved, x)
    rows = torch.rand(4, 7)
    assert make((7,), shift=0.2).augment(rows) is rows


def test_likelihood_and_output_follow_the_data_and_each_other():
    assert (make().output, make().likelihood) == ("sigmoid", "bce")
    assert (make((7,)).output, make((7,)).likelihood) == ("linear", "mse")
    assert make((7,), output="sigmoid").likelihood == "bce"
    assert make(output="linear").likelihood == "mse"
    made = build(VAEConfig, {"output": "linear", "loss": "none", "variance": "0.5"}, "encoder")
    assert (made.output, made.loss, made.variance) == ("linear", None, 0.5)


def test_impossible_settings_and_values_are_refused_in_one_sentence(tmp_path):
    for shape, settings in [((1, 8, 8), {"loss": "bce", "output": "linear"}), ((7,), {"loss": "bce"})]:
        with pytest.raises(InvalidSetting, match="encoder.output=sigmoid"):
            make(shape, **settings)
    for value in (-0.01, 1.01, 255.0):
        x = pictures().x.clone()
        x[-1, 0, -1, -1] = value
        with pytest.raises(InvalidData, match="encoder.output=linear"):
            fit(make(), Data(x, "outside"), tmp_path)
        assert not list(tmp_path.iterdir())
    fit(make(output="linear"), Data(x, "outside"), tmp_path)


@pytest.mark.parametrize(("n", "shape"), [(2, (1, 8, 8)), (3, (1, 1, 1)), (5, (3, 7, 4))])
def test_fewer_samples_than_a_batch_and_bytes_are_fine(tmp_path, n, shape):
    data = Data(torch.randint(0, 256, (n, *shape), dtype=torch.uint8), "bytes")
    for name, settings in [("bce", {}), ("learned", {"loss": "mse"}), ("linear", {"output": "linear"})]:
        model = fit(make(shape, **settings), data, tmp_path / name)
        assert torch.isfinite(embed(model, data)).all()
        assert torch.isfinite(model.anomaly_score(data.slice(0, n))).all()


def test_data_without_any_variance_do_not_break_a_learned_variance(tmp_path):
    for name, value in [("zeros", 0.0), ("ones", 1.0)]:
        data = Data(torch.full((20, 7), value), name)
        model = fit(make((7,), epochs=30, lr=0.1), data, tmp_path / name)
        assert torch.isfinite(model.anomaly_score(data.x)).all()


def test_bf16_trains_close_to_float32(tmp_path):
    data, loss = pictures(n=200), {}
    for precision in ("float32", "bf16"):
        model = fit(make(loss="mse", epochs=10, lr=5e-3), data, tmp_path / precision, precision=precision)
        assert embed(model, data).dtype == torch.float32
        loss[precision] = log_of(tmp_path / precision / "reconstruct")[-1]["loss"]
    assert loss["bf16"] == pytest.approx(loss["float32"], abs=2)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5), (7,)])
@pytest.mark.parametrize("settings", [{}, {"loss": "mse", "latent_dim": 2, "warmup": 0.3}])
def test_it_keeps_an_encoders_promises(tmp_path, shape, settings):
    check_encoder("vae", tmp_path, shape=shape, **settings)


@pytest.mark.parametrize("name", ["kmeans", "dec", "idec"])
def test_clusterers_work_with_it(tmp_path, name):
    check_clusterer(name, tmp_path, encoder="vae")
