"""run.learn: what a component's training settings say is done, and each of them has an effect."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from deepclust.core import Data, Optimization, Run, Training, setting
from deepclust.core.contract.config import build, describe
from deepclust.core.contract.registry import installed
from deepclust.core.engine import Batch, Batches, Updater, checkpoint
from deepclust.core.engine.checkpoint import seed_everything
from deepclust.core.testing.conformance import CLASSES, tiny_data
from made_training import log_of, quiet


@dataclass(frozen=True)
class Small(Training):
    batch_size: int = setting(8, "samples in a batch", low=1)
    epochs: int | None = setting(3, "epochs", low=1)


def model() -> nn.Module:
    seed_everything(5)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6)).double()


def rows(n: int = 50) -> Data:
    return Data(torch.randn(n, 6, generator=torch.Generator().manual_seed(0)), "rows")


def denoising(net: nn.Module):
    """A loss that draws, so that the seed of the stage matters."""

    def loss(batch) -> torch.Tensor:
        x = batch.x.double()
        return (net(x + 0.1 * torch.randn_like(x)) - x).square().sum(1).mean()

    return loss


def by_hand(net: nn.Module, data: Data, run: Run, c: Training) -> int:
    """The same training without anything of the engine but the places in its batches; the steps taken."""
    batches, loss = run.batches(data, c.batch_size, "train"), denoising(net)
    parameters = list(net.parameters())
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[c.optimizer]
    more = {"momentum": c.momentum} if c.optimizer == "sgd" else {}
    optimizer = kind(parameters, lr=c.lr, weight_decay=c.weight_decay, **more)
    steps = c.epochs * math.ceil(len(data) / c.batch_size)
    seed_everything(run.seed_for("train"))
    for i in range(steps):
        if c.schedule == "cosine":
            optimizer.param_groups[0]["lr"] = c.lr * (1 + math.cos(math.pi * i / steps)) / 2
        place = batches[i].index
        gradients = torch.autograd.grad(loss(Batch(data.x[place], place)), parameters)
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
        shrink = c.clip / norm if c.clip is not None and norm > c.clip else 1.0
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g * shrink
        optimizer.step()
    return steps


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "constant", "lr": 3e-2, "batch_size": 16},
        {"optimizer": "sgd", "momentum": 0.7, "weight_decay": 0.01, "lr": 0.02},
        {"optimizer": "adamw", "weight_decay": 0.1, "epochs": 5},
        {"optimizer": "sgd", "clip": 0.5, "lr": 0.1},
        {"clip": 0.05},
    ],
)
def test_it_trains_as_a_loop_by_hand(tmp_path, settings):
    config, data, run = Small(**settings), rows(), quiet(tmp_path)
    net, twin = model(), model()
    trainer = run.learn("train", denoising(net), net, data, config)
    assert trainer.iteration == by_hand(twin, data, run, config)
    bound = 1e-10 if config.clip is None else 1e-4  # torch's own clipping adds 1e-6 to the norm
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=bound, atol=bound)
    assert not torch.equal(next(net.parameters()), next(model().parameters()))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_clipping_bounds_the_norm_of_all_gradients_and_keeps_their_direction(size):
    """Over several models and optimisers together."""
    x = size * torch.tensor([[3.0, -4.0, 12.0]])  # of norm 13 times the size
    a, b = nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)
    before = torch.cat([a.weight, b.weight], 1).detach().clone()
    optimizers = {name: torch.optim.SGD(m.parameters(), lr=1.0) for name, m in {"a": a, "b": b}.items()}
    updater = Updater(
        Batches(Data(x, "one"), 1, 0), {"a": a, "b": b}, optimizers,
        lambda batch: (a(batch.x[:, :2]) + b(batch.x[:, 2:])).sum(), clip=2.0,
    )  # fmt: skip
    updater.update()
    step = before - torch.cat([a.weight, b.weight], 1).detach()
    torch.testing.assert_close(step.norm(), torch.tensor(min(2.0, 13 * size)), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(step / step.norm(), x / x.norm(), rtol=1e-3, atol=1e-4)


def test_lengths_and_batches_are_those_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("deepclust.core.toolbox.length.MOST_FLOPS", 3 * 2 * 2 * 60 * 256 * 7.2)
    net, data = model().float(), rows(200)  # 60 products of a sample, and a quarter of the samples is 50

    def loss(batch):
        return net(batch.x).square().mean()

    def steps(data, stage, config, **more):
        return run.learn(stage, loss, net, data, config, **more).iteration

    run, open_length = quiet(tmp_path), Small(batch_size=256, epochs=None, least_steps=1)
    assert steps(data, "most", open_length, passes=2) == 8  # 7 steps are affordable, of 4 an epoch
    assert steps(run.batches(data, 256, "ready"), "ready", open_length, passes=2) == 36  # of 50 samples each
    assert steps(data, "usual", open_length, usual=1) == 4
    assert steps(data, "said", open_length, usual=3, most=100) == 12
    assert steps(data, "least", Small(batch_size=256, epochs=None, least_steps=30), usual=1, most=99) == 32
    assert steps(data, "epochs", Small(batch_size=256, epochs=2)) == 8
    assert steps(data, "iterations", Small(batch_size=256), length=(5, "iteration")) == 5
    assert steps(data, "ended", Small(batch_size=256), stops=[lambda trainer: trainer.iteration == 3]) == 3
    longer = quiet(tmp_path / "scaled", epochs_scale=2.0)
    assert longer.learn("train", loss, net, data, Small(batch_size=256, epochs=2)).iteration == 16


def test_settings_of_steps_alone_want_batches_and_a_length(tmp_path):
    net, run, data = model().float(), quiet(tmp_path), rows()

    def loss(batch):
        return net(batch.x).square().mean()

    batches = run.batches(data, 8, "train")
    for given, more in ((data, {"length": (4, "iteration")}), (batches, {})):
        with pytest.raises(TypeError, match="Optimization has no batch_size.*let it inherit Training"):
            run.learn("train", loss, net, given, Optimization(), **more)
    net.eval()
    trainer = run.learn("train", loss, net, batches, Optimization(lr=0.5), length=(4, "iteration"))
    assert trainer.iteration == 4
    assert net.training
    own = torch.optim.SGD(net.parameters(), lr=0.25)
    trainer = run.learn("own", loss, net, batches, Optimization(), length=(4, "iteration"), optimizer=own)
    assert trainer.updater.optimizers == {"": own}
    assert log_of(tmp_path / "own")[-1]["iteration"] == 4


def test_a_parameter_of_two_models_is_stepped_once_and_a_frozen_one_never(tmp_path):
    inner = nn.Linear(6, 6)
    outer = nn.Sequential(inner, nn.Linear(6, 6))
    outer[1].weight.requires_grad_(False)
    frozen = outer[1].weight.clone()
    trainer = quiet(tmp_path).learn(
        "train", lambda batch: outer(batch.x).square().mean(), {"outer": outer, "inner": inner}, rows(),
        Small(),
    )  # fmt: skip
    held = [p for group in trainer.updater.optimizers[""].param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(inner.weight), id(inner.bias), id(outer[1].bias)}
    assert len(held) == 3
    assert torch.equal(outer[1].weight, frozen)


def trained(kind: str) -> list[str]:
    """The names of the installed components of a kind that train by these settings."""
    registry = installed()
    names = [entry.component.name for entry in registry.entries(kind)]
    return [name for name in names if issubclass(registry.load(kind, name).Config, Optimization)]


TINY = {
    "sdae": {"hidden": (4,), "latent_dim": 3, "weights": "scaled"},
    "cae": {"filters": (2,), "hidden": 4, "latent_dim": 3},
    "vae": {"filters": (2,), "hidden": (4,), "latent_dim": 3},
    "simclr": {
        "backbone": "cae",
        "backbone_settings": {"filters": [2], "latent_dim": 3},
        "decoder_epochs": 2,
    },
    "umap": {"hidden": (4,), "steps": 40},
    "cnn": {"filters": (2,), "hidden": 4},
    "resnet": {"blocks": (1,), "width": 4, "optimizer": "adamw", "validation": 0.2},
    "scan": {"label_epochs": 2, "threshold": 0.0},
}
OTHER = {
    "lr": 3e-2, "weight_decay": 0.2, "clip": 1e-2, "batch_size": 8, "epochs": 3, "optimizer": "sgd",
}  # fmt: skip


def weights(kind: str, name: str, folder, **settings) -> dict[str, dict]:
    """What each stage ended with."""
    data, run, registry = tiny_data(), quiet(folder, epochs_scale=1.0), installed()
    cls = registry.load(kind, name)
    config = build(cls.Config, {**TINY.get(name, {}), **settings}, kind)
    seed_everything(0)
    if kind == "encoder":
        supervised = registry.find(kind, name).component.supervised
        cls(config, data.shape).fit(data if supervised else data.seal(), run)
    else:
        encoder = registry.make("encoder", "cae", data.shape, settings=TINY["cae"])
        cls(config, CLASSES, encoder.latent_dim).fit(encoder, data.seal(), run)
    found = {}
    for path in sorted(folder.glob("*/snapshot.pt")):
        found[path.parent.name] = checkpoint.load(path)["updater"]["models"]
    return found


def same(one: dict, other: dict) -> bool:
    flat = [
        {f"{model}.{key}": value for model, states in stage.items() for key, value in states.items()}
        for stage in (one, other)
    ]
    assert flat[0].keys() == flat[1].keys()
    return all(torch.equal(value, flat[1][key]) for key, value in flat[0].items())


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ("encoder", "clusterer") for name in trained(kind)]
)
def test_every_setting_of_every_component_has_an_effect(tmp_path, kind, name):
    known = {s.name: s.default for s in describe(installed().load(kind, name).Config)}
    base = {"epochs": 2} if "epochs" in known else {}
    before = weights(kind, name, tmp_path / "base", **base)
    other = {**OTHER, "schedule": "constant" if known["schedule"] == "cosine" else "cosine"}
    if name == "umap":  # which has edges and steps
        assert not {"batch_size", "epochs", "least_steps"} & set(known)
        other = {key: other[key] for key in known.keys() & other.keys()}
    assert other.keys() <= known.keys()
    for key, value in other.items():
        after = weights(kind, name, tmp_path / key, **{**base, key: value})
        kept = {stage for stage in before if same(before[stage], after[stage])}
        own = {"layer0", "layer1"} if (name, key) == ("sdae", "epochs") else set()  # layer_epochs
        assert kept == own, key
    by_sgd = [
        weights(kind, name, tmp_path / f"momentum{share}", **base, optimizer="sgd", momentum=share)
        for share in (0.0, 0.5)
    ]
    assert not any(same(by_sgd[0][stage], by_sgd[1][stage]) for stage in before)


def test_a_components_own_settings_are_shown_first():
    @dataclass(frozen=True)
    class Base(Training):
        hidden: int = setting(3, "width")
        lr: float = setting(0.1, "learning rate")

    @dataclass(frozen=True)
    class Derived(Base):
        gamma: float = setting(0.1, "weight")
        hidden: int = setting(5, "width")

    shown = describe(Derived)
    assert [s.name for s in shown] == [
        "gamma", "hidden", "batch_size", "epochs", "least_steps", "optimizer", "lr", "schedule", "momentum",
        "weight_decay", "clip",
    ]  # fmt: skip
    assert (shown[1].default, shown[6].default) == (5, 0.1)
