"""SimCLR: shapes and backbones, views, training, refusals, killed runs, saved models."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core import Data, Decodes, InvalidData, InvalidSetting, Run, embed, truth_of
from deepclust.core.contract.config import build, to_dict
from deepclust.core.contract.registry import installed
from deepclust.core.engine import Batch, make_optimizer
from deepclust.core.errors import UnknownName
from deepclust.core.run.bundle import load
from deepclust.core.testing import check_encoder
from deepclust.plugins.simclr.loss import nt_xent
from deepclust.plugins.simclr.model import SimCLR, SimCLRConfig
from deepclust.plugins.views import simclr_view
from made_training import log_of

SMALL = {
    "resnet": {"blocks": (1,), "width": 4},
    "cae": {"filters": (4, 4), "hidden": 8, "latent_dim": 6},
    "cnn": {"filters": (4,), "hidden": 8},
    "sdae": {"hidden": (8,), "latent_dim": 5},
}
TINY = {"hidden": 8, "projection": 4, "epochs": 2, "batch_size": 16}


def make(shape=(1, 8, 8), backbone="resnet", **settings) -> SimCLR:
    torch.manual_seed(0)
    given = {**TINY, "backbone": {"name": backbone, **SMALL[backbone]}, **settings}
    return SimCLR(build(SimCLRConfig, given, "encoder"), shape)


def pictures(n=40, shape=(1, 8, 8), classes=4) -> Data:
    """Noisy copies of a few random images, from 0 to 1."""
    g = torch.Generator().manual_seed(0)
    y = np.arange(n) % classes
    x = torch.rand(classes, *shape, generator=g)[y] + 0.05 * torch.randn(n, *shape, generator=g)
    return Data(x.clamp(0, 1), "pictures", revealed=truth_of(y))


def fit(model, data, folder, **more):
    return model.fit(data.seal(), Run(folder, quiet=True, snapshot_seconds=1e9, **more))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 28, 20), (3, 32, 32), (4, 8, 8), (3, 1, 5)])
def test_images_of_all_sides_and_channels_are_learnt_from(tmp_path, shape):
    model = fit(
        make(shape, jitter=1.0, grey=1.0, blur=1.0, shift=0.1, rotation=20, zoom=0.2),
        pictures(12, shape),
        tmp_path,
    )
    z = embed(model, pictures(12, shape))
    assert z.shape == (12, 4)
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("backbone", sorted(SMALL))
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_encoder_of_images_can_be_the_backbone(tmp_path, backbone, optimizer):
    data = pictures()
    model = make(backbone=backbone, optimizer=optimizer, weight_decay=0.1, lr=0.01)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.latent_dim == model.backbone.latent_dim
    assert fit(model, data, tmp_path) is model
    scaled = replace(data, x=(data.x - data.x.mean()) / data.x.std(correction=0))  # of one channel
    torch.testing.assert_close(embed(model, data), embed(model.backbone, scaled), rtol=1e-3, atol=1e-4)
    unused = {"cae": ("decoders", "spread"), "sdae": ("decoders",)}.get(backbone, ())
    for name, value in model.named_parameters():
        is_unused = name.split(".")[1] in (*unused, "head") and name.startswith("backbone")
        assert torch.equal(value, before[name]) == (is_unused or not value.numel()), (
            name
        )  # nor has it decayed
    again = make(backbone=backbone)
    again.load_state_dict(model.state_dict())
    assert torch.equal(embed(again, data), embed(model, data))


@pytest.mark.parametrize(
    ("shape", "settings"),
    [((1, 8, 8), {"backbone": {"blocks": [1], "width": 8}}),
     ((3, 16, 12), {"backbone": {"blocks": [1], "width": 8}}),
     ((1, 8, 8), {"preset": "digits"})],
)  # fmt: skip
def test_conformance(tmp_path, shape, settings):
    check_encoder("simclr", tmp_path, shape=shape, **settings)


def test_the_backbone_is_not_trained_by_itself_and_labels_are_never_asked_for(tmp_path, monkeypatch):
    from deepclust.plugins.resnet.model import ResNet

    monkeypatch.setattr(ResNet, "fit", lambda *_: pytest.fail("the backbone's own fit was called"))
    data = pictures().seal()
    assert data.sealed
    make().fit(data, Run(tmp_path, quiet=True))


def test_the_loss_falls_and_positives_become_the_nearest(tmp_path):
    coarse = torch.rand(64, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    data = Data(F.interpolate(coarse, (8, 8), mode="bilinear"), "64 different pictures")
    settings = {"crop": 0.8, "flip": False, "jitter": 0, "grey": 0, "lr": 0.01}
    model = make((3, 8, 8), "cae", epochs=30, batch_size=32, hidden=32, projection=16, **settings)
    fit(model, data, tmp_path)
    log = log_of(tmp_path / "contrast")
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    assert log[-1]["accuracy"] > 0.9 > log[0]["accuracy"]


def test_the_loss_is_nt_xent_of_two_independent_views_in_one_pass():
    model = make(temperature=0.3).eval()
    x = pictures(6).x
    passes = []
    model.backbone.register_forward_hook(lambda m, given, out: passes.append(given[0]))
    torch.manual_seed(5)
    loss = model.loss(Batch(x, torch.arange(6)))
    assert len(passes) == 1
    a, b = passes[0].chunk(2)
    assert not torch.equal(a, b)
    torch.manual_seed(5)
    torch.testing.assert_close((a, b), (model.view(x), model.view(x)))
    expected = nt_xent(model.head(model(a)), model.head(model(b)), 0.3)[0]
    torch.testing.assert_close(loss, expected)


def test_the_usual_views_are_those_of_small_photos():
    x = torch.rand(16, 3, 12, 12)
    for blur in (0.0, 0.5):
        ours, theirs = make((3, 12, 12), blur=blur).view, simclr_view(blur=blur)
        torch.manual_seed(1)
        torch.testing.assert_close(ours(x), theirs(x, torch.Generator().manual_seed(1)))


def test_the_view_of_digits_is_never_mirrored_and_its_grey_values_stay():
    model = SimCLR(build(SimCLRConfig, {"preset": "digits"}, "encoder"), (1, 8, 8))
    c = model.config
    assert not c.flip
    assert (c.jitter, c.grey) == (0, 0)
    left = torch.zeros(200, 1, 8, 8)
    left[..., :4] = torch.linspace(1, 0, 4)  # bright at the left edge
    view = model.view(left)
    assert (view[..., :4].mean((1, 2, 3)) > view[..., 4:].mean((1, 2, 3))).all()
    assert torch.equal(make(crop=1, flip=False, jitter=0, grey=0).view(left), left)  # nothing asked for


@pytest.mark.parametrize("n", [2, 3, 17])
def test_few_samples_are_learnt_from_whatever_the_batch(tmp_path, n):
    model = fit(make(batch_size=512), pictures(n), tmp_path)
    assert torch.isfinite(embed(model, pictures(n))).all()


def test_batches_are_as_equal_as_they_can_be(tmp_path, monkeypatch):
    sizes = []
    real = SimCLR.loss
    monkeypatch.setattr(SimCLR, "loss", lambda self, batch: sizes.append(len(batch.x)) or real(self, batch))
    fit(make(batch_size=16, epochs=1), pictures(35), tmp_path)
    assert sizes[:3] == [12, 12, 11]  # then a batch that is looked at


def test_similarities_in_pieces_train_the_same_network(tmp_path):
    whole, pieces = (fit(make(chunk=chunk), pictures(), tmp_path / str(chunk)) for chunk in (0, 5))
    torch.testing.assert_close(embed(whole, pictures()), embed(pieces, pictures()), rtol=1e-3, atol=1e-4)


def test_bf16_trains(tmp_path):
    model = fit(make(), pictures(), tmp_path, precision="bf16")
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert torch.isfinite(embed(model, pictures())).all()


def test_bytes_and_the_same_values_as_numbers_are_the_same(tmp_path):
    small = pictures()
    as_bytes = replace(small, x=(small.x * 255).round().to(torch.uint8))
    as_numbers = replace(small, x=as_bytes.x.float().div(255))
    codes = [
        embed(fit(make(), data, tmp_path / name), data) for name, data in (("a", as_bytes), ("b", as_numbers))
    ]
    assert torch.equal(*codes)


@pytest.mark.parametrize(
    ("settings", "shape", "error", "says"),
    [({"backbone": "simclr"}, (1, 8, 8), InvalidSetting, "'simclr' itself; name another encoder"),
     ({"backbone": "resnett"}, (1, 8, 8), UnknownName, "no encoder 'resnett'; did you mean 'resnet'"),
     ({"backbone": {"widht": 8}}, (1, 8, 8), UnknownName,
      "no setting 'encoder.backbone.widht'; did you mean 'encoder.backbone.width'"),
     ({"backbone.width": "wide"}, (1, 8, 8), InvalidSetting, "encoder.backbone.width is 'wide'"),
     ({"decoder_epochs": 3}, (1, 8, 8), InvalidSetting, "'resnet' has no decoder to train; say 0"),
     ({"backbone": "sdae"}, (12,), InvalidData, "takes images .* has the shape \\(12,\\)")],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(settings, shape, error, says):
    with pytest.raises(error, match=says) as caught:
        SimCLR(build(SimCLRConfig, settings, "encoder"), shape)
    assert "\n" not in str(caught.value)


def test_values_beyond_colours_are_refused(tmp_path):
    data = pictures()
    with pytest.raises(InvalidData, match="pictures: the values go from .* to 2.* from 0 to 1"):
        fit(make(), replace(data, x=data.x * 2 / data.x.max()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preset", sorted(SimCLRConfig.PRESETS))
def test_presets_can_be_made_and_changed_and_read_again(preset):
    c = build(SimCLRConfig, {"preset": preset, "temperature": "0.7"}, "encoder")
    assert c.temperature == 0.7
    written = to_dict(c)
    assert json.loads(json.dumps(written)) == written  # else a run would not be known again
    assert to_dict(build(SimCLRConfig, written, "encoder")) == written
    assert SimCLR(c, (1, 8, 8)).latent_dim > 1


def test_the_published_presets_are_as_published():
    paper, tutorial = (build(SimCLRConfig, {"preset": p}, "encoder") for p in ("paper", "tutorial"))
    assert (paper.optimizer, paper.lr, paper.momentum, paper.weight_decay) == ("sgd", 0.4, 0.9, 1e-4)
    assert (paper.batch_size, paper.epochs, paper.temperature) == (512, 500, 0.1)
    assert (paper.hidden, paper.projection, paper.crop, paper.flip, paper.blur) == (512, 128, 0.2, True, 0)
    head = SimCLR(paper, (3, 32, 32)).head
    assert [(m.in_features, m.out_features) for m in head if hasattr(m, "in_features")] == [
        (512, 512),
        (512, 128),
    ]
    assert (tutorial.optimizer, tutorial.batch_size, tutorial.epochs) == ("adamw", 512, 50)
    assert (tutorial.projection, tutorial.temperature) == (128, 0.1)


def test_optimisers_start_again_with_parameters_that_have_no_gradient():
    model = make(backbone="cae")
    for name in ("sgd", "adam", "adamw"):
        optimizers = [make_optimizer(name, model.parameters(), 0.1, weight_decay=0.1) for _ in range(2)]
        model.loss(Batch(pictures(4).x, torch.arange(4))).backward()
        optimizers[0].step()
        optimizers[1].load_state_dict(optimizers[0].state_dict())
        optimizers[1].step()
        assert all(p.grad is None for p in model.backbone.decoders.parameters())


def test_clusterers_refine_it(tmp_path):
    pytest.importorskip("deepclust.plugins.dec.model")
    data = pictures().seal()
    model = fit(make(), data, tmp_path)
    before = model.backbone.conv1.weight.clone()
    run = Run(tmp_path, quiet=True, epochs_scale=0.05)
    clusterer = installed().make("clusterer", "dec", 3, model.latent_dim, settings={})
    clusterer.fit(model, data, run)
    assert not torch.equal(model.backbone.conv1.weight, before)


def test_the_decoder_learns_to_invert_codes_that_stay_as_they_are(tmp_path):
    data = pictures()
    plain = fit(make(backbone="cae"), data, tmp_path / "plain")
    model = fit(make(backbone="cae", decoder_epochs=300, decoder_lr=1e-2), data, tmp_path / "decoding")
    assert isinstance(model, Decodes)
    assert not isinstance(plain, Decodes)
    assert torch.equal(embed(model, data), embed(plain, data))
    x = data.x
    with torch.no_grad():
        error = (model.decode(embed(model, data)) - x).square().mean()
    assert float(error) < 0.75 * float((x - x.mean(dim=0)).square().mean())  # what the mean image leaves


def test_idec_takes_it_with_a_decoder_and_is_refused_without(tmp_path):
    """What settings decide on is told before anything is written."""
    command = ["run", "-q", "--encoder", "simclr", "--clusterer", "idec", "--evaluator", "clustering"]
    command += ["-s", "encoder.preset=digits", "--epochs-scale", "0.01"]
    refused = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "refused")])
    assert refused.exit_code == 2
    assert (
        "'idec' needs an encoder with decode(z), which encoder 'simclr' has not with these" in refused.output
    )
    assert not (tmp_path / "refused").exists()
    done = CliRunner().invoke(
        main, [*command, "-s", "encoder.decoder_epochs=1", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert {"reconstruction", "kl"} <= log_of(tmp_path / "out" / "clusterer" / "refine")[-1].keys()


COMMAND = [
    "run", "--encoder", "simclr", "--clusterer", "kmeans", "--evaluator", "clustering",
    "--device", "cpu", "-q", "-s", "clusterer.n_init=2", "-s", "encoder.backbone=resnet",
    "-s", "encoder.backbone.blocks=1",
]  # fmt: skip


def test_the_command_line_gives_the_backbone_its_settings_and_predict_finds_them_again(tmp_path):
    out = tmp_path / "run"
    command = [*COMMAND, "-s", "encoder.epochs=1", "-s", "encoder.backbone.width=16"]
    command += ["--out", str(out)]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    settings = json.loads((out / "run.json").read_text())["request"]["encoder"]["settings"]
    assert settings["backbone"].items() >= {"name": "resnet", "blocks": [1], "width": 16}.items()
    bundle = load(out, torch.device("cpu"))
    assert bundle.encoder.backbone.conv1.out_channels == 16
    labels = tmp_path / "labels.csv"
    result = CliRunner().invoke(
        main, ["predict", str(out), "digits", "-o", str(labels)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output

    def column(path):
        rows = [row.split(",") for row in path.read_text().splitlines()]
        return [row[rows[0].index("cluster")] for row in rows]

    assert column(labels) == column(out / "labels.csv")
    again = CliRunner().invoke(main, command, catch_exceptions=False)  # the same command: finished already
    assert again.exit_code == 0, again.output


def test_the_command_line_refuses_before_it_writes(tmp_path):
    out = tmp_path / "run"
    for wrong in ("encoder.backbone=simclr", "encoder.backbone=nothing", "encoder.backbone.widht=4"):
        result = CliRunner().invoke(main, [*COMMAND, "-s", wrong, "--out", str(out)])
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert not out.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_run_goes_on_to_the_bytes_of_one_that_was_left_alone(tmp_path):
    settings = (
        "encoder.backbone.width=4",
        "encoder.epochs=6",
        "encoder.shift=0.1",
        "encoder.blur=0.5",
    )
    command = [sys.executable, "-m", "deepclust.cli", *COMMAND, "--snapshot-seconds", "0"]
    command += [word for setting in settings for word in ("-s", setting)]

    def start(name):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*command, "--out", str(tmp_path / name)], env=environment, cwd=tmp_path)

    whole, cut = start("whole"), start("cut")
    log = tmp_path / "cut" / "encoder" / "contrast" / "log.jsonl"
    try:
        deadline = time.monotonic() + 240
        while not (log.exists() and log.read_bytes().count(b"\n") >= 2):
            assert cut.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        cut.send_signal(signal.SIGKILL)
        cut.wait()
        assert not (tmp_path / "cut" / "labels.csv").exists()
        cut = start("cut")
        assert cut.wait(300) == 0
        assert whole.wait(300) == 0
    finally:
        for process in (whole, cut):
            process.kill()
            process.wait()
    for name in ("labels.csv", "model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    logs = [log_of(tmp_path / name / "encoder" / "contrast") for name in ("whole", "cut")]
    for line in [*logs[0], *logs[1]]:
        line.pop("seconds")
    assert logs[0] == logs[1]
