"""The residual network: its parts, torchvision's weights, its training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from click.testing import CliRunner
from safetensors.torch import save_file

from deepclust.cli import main
from deepclust.core import Data, InvalidData, InvalidSetting, Run, embed
from deepclust.core.contract.config import build
from deepclust.core.run.bundle import load
from deepclust.core.testing import check_encoder
from deepclust.plugins.resnet.model import ResNet, ResNetConfig
from deepclust.plugins.resnet.network import BasicBlock
from made_picture import labelled_pictures
from made_training import fit, log_of

TINY = {"blocks": (1, 1), "width": 4, "epochs": 3, "batch_size": 16}
NETWORKS = ["resnet18", "resnet34", "resnet50"]


def make(shape=(1, 8, 8), **settings) -> ResNet:
    torch.manual_seed(0)
    return ResNet(ResNetConfig(**{**TINY, **settings}), shape)


def preset(name, shape=(3, 64, 64), **settings) -> ResNet:
    return ResNet(build(ResNetConfig, {"preset": name, "epochs": 0, **settings}, "encoder"), shape)


def random_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state in which no statistic of a normalisation is what it is at first."""
    g = torch.Generator().manual_seed(1)
    state = network.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=g) * 0.4 + 0.8)
            if name.endswith(("bias", "running_mean")):
                value.sub_(1)
    return state


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_as_many_as_torchvisions(name):
    theirs = getattr(torchvision.models, name)()
    theirs.fc = torch.nn.Identity()
    ours = preset(name)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert ours.latent_dim == (2048 if name == "resnet50" else 512)


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_weights_give_torchvisions_outputs(tmp_path, name):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)()
    state = random_state(theirs)
    torch.save(state, tmp_path / "w.pth")
    ours = preset(name, weights=str(tmp_path / "w.pth"), normalize="none")
    fit(ours, Data(torch.rand(2, 3, 64, 64), "images").seal(), tmp_path).eval()  # no labels are asked for
    theirs.fc = torch.nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs.eval()(x), rtol=1e-3, atol=1e-4)


def test_given_weights_get_images_as_imagenet_was(tmp_path):
    x = torch.rand(2, 3, 8, 8)
    state = random_state(make((3, 8, 8)))
    state = {k: v.contiguous() for k, v in state.items() if not k.startswith("head.")}
    save_file(state, tmp_path / "w.safetensors")
    models = {}
    for normalize in ("auto", "imagenet", "none"):
        models[normalize] = make(
            (3, 8, 8), weights=str(tmp_path / "w.safetensors"), normalize=normalize, epochs=0
        ).fit(labelled_pictures().seal(), Run(tmp_path, quiet=True))
        models[normalize].eval()
    by_hand = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(x)
    torch.testing.assert_close(models["auto"](x), models["none"](by_hand))
    torch.testing.assert_close(models["imagenet"](x), models["none"](by_hand))
    assert torch.equal(make((3, 8, 8)).inputs(x), x)  # nothing is given: it is to learn the samples' scale
    with pytest.raises(InvalidSetting, match="3 channels"):
        make((1, 8, 8), normalize="imagenet")


def wrong_weights(tmp_path, kind) -> str:
    state = make((3, 8, 8)).state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(("head.", "inputs."))}
    path = tmp_path / f"{kind}.pt"
    if kind == "lacking":
        del state["layer1.0.conv1.weight"]
    elif kind == "unknown":
        state["layer9.weight"] = torch.zeros(1)
    elif kind == "shape":
        state["conv1.weight"] = torch.zeros(4, 3, 7, 7)
    elif kind == "list":
        state = [1, 2]
    elif kind == "broken":
        path.write_bytes(b"no weights")
        return str(path)
    elif kind == "absent":
        return str(path)
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("lacking", "lacks 'layer1.0.conv1.weight'"),
        ("unknown", "unknown 'layer9.weight'"),
        ("shape", r"'conv1.weight' has the shape \(4, 3, 7, 7\) where \(4, 3, 3, 3\)"),
        ("list", "holds no state_dict"),
        ("broken", "cannot be read as weights"),
        ("absent", "there is no such file"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_sentence(tmp_path, kind, says):
    model = make((3, 8, 8), weights=wrong_weights(tmp_path, kind), epochs=0)
    with pytest.raises(InvalidSetting, match=says) as error:
        fit(model, labelled_pictures(shape=(3, 8, 8)), tmp_path)
    assert "\n" not in str(error.value)


def test_torchvisions_names_are_looked_for_in_torchs_cache_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    data = labelled_pictures(shape=(3, 64, 64))
    model = preset("resnet18", weights="IMAGENET1K_V1")
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(InvalidSetting, match=r"put https://.*/resnet18-f37072fd.pth at") as error:
        fit(model, data, tmp_path / "run")
    assert str(file) in str(error.value)
    assert not file.parent.exists()
    file.parent.mkdir()
    state = random_state(torchvision.models.resnet18())
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}  # as old files are
    torch.save(old, file)
    fit(model, data.seal(), tmp_path / "run")
    assert torch.equal(model.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    with pytest.raises(InvalidSetting, match="of resnet18 there is: IMAGENET1K_V1"):
        fit(preset("resnet18", weights="IMAGENET1K_V9"), data, tmp_path / "run")
    with pytest.raises(InvalidSetting, match="torchvision has no such network"):
        fit(make((3, 8, 8), weights="IMAGENET1K_V1"), data, tmp_path / "run")


@pytest.mark.parametrize(("into", "width", "stride"), [(4, 4, 1), (4, 6, 1), (4, 8, 2)])
def test_a_basic_block_is_two_convolutions_beside_a_shortcut(into, width, stride):
    torch.manual_seed(0)
    block, x = BasicBlock(into, width, stride), torch.randn(3, into, 7, 9)
    w = random_state(block)
    block.eval()

    def norm(h, name):
        parts = (w[f"{name}.{p}"][:, None, None] for p in ("running_mean", "running_var", "weight", "bias"))
        mean, variance, gamma, beta = parts
        return (h - mean) / (variance + 1e-5).sqrt() * gamma + beta

    h = norm(F.conv2d(x, w["conv1.weight"], stride=stride, padding=1), "bn1").clamp_min(0)
    h = norm(F.conv2d(h, w["conv2.weight"], padding=1), "bn2")
    shortcut = x
    if (into, stride) != (width, 1):
        shortcut = norm(F.conv2d(x, w["downsample.0.weight"], stride=stride), "downsample.1")
    torch.testing.assert_close(block(x), (h + shortcut).clamp_min(0), rtol=1e-4, atol=1e-5)


def test_the_stem_is_chosen_by_the_size():
    assert preset("resnet18", (3, 63, 200)).conv1.weight.shape == (64, 3, 3, 3)
    assert preset("resnet18", (3, 64, 64)).conv1.weight.shape == (64, 3, 7, 7)
    assert make((1, 8, 8), stem="large").conv1.stride == (2, 2)
    assert make((1, 99, 99), stem="small").conv1.stride == (1, 1)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (5, 9, 9), (2, 1, 70), (4, 65, 90)])
def test_any_channels_and_sizes(shape, bottleneck):
    model = make(shape, blocks=(1, 2, 1), bottleneck=bottleneck)
    assert model.latent_dim == 4 * 4 * (4 if bottleneck else 1)
    assert model(torch.rand(2, *shape)).shape == (2, model.latent_dim)


def test_rows_and_empty_networks_are_refused():
    with pytest.raises(InvalidData, match="encoder 'resnet' takes images"):
        make((7,))
    with pytest.raises(InvalidSetting, match="at least one stage"):
        make(blocks=())


def test_sub_blocks_start_as_their_shortcuts():
    model = make(blocks=(2, 1)).train()
    h = torch.rand(4, 4, 8, 8)
    assert torch.equal(model.layer1[0](h), h)
    other = make(blocks=(2, 1), zero_init=False)
    assert float(other.layer1[0].bn2.weight.detach().min()) == 1
    wide = make((16, 8, 8), blocks=(1,), width=64).conv1.weight  # variance 2 / (fan out)
    assert float(wide.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns_the_classes(tmp_path, optimizer):
    data = labelled_pictures(n=90)
    model = fit(make(epochs=15, optimizer=optimizer, lr=0.02, validation=0.2), data, tmp_path).eval()
    with torch.no_grad():
        guess = model.logits(data.x).argmax(1).numpy()
    assert (guess == data.truth.labels).mean() > 0.95
    last = log_of(tmp_path / "train")[-1]
    assert last["lr"] < 0.001  # a cosine to 0
    assert last["validation/accuracy"] > 0.9


def test_weight_decay_shrinks_what_multiplies_alone():
    optimizer = make(lr=0.1, weight_decay=0.01)._optimizer()
    decays = {g["weight_decay"]: {p.ndim for p in g["params"]} for g in optimizer.param_groups}
    assert decays == {0.01: {2, 4}, 0.0: {1}}
    assert optimizer.defaults["nesterov"]
    assert make(batch_size=64)._optimizer().defaults["lr"] == pytest.approx(0.025)


def test_tiny_data_and_a_last_batch_of_one(tmp_path):
    for n, shape in ((2, (1, 1, 1)), (17, (1, 1, 1)), (33, (1, 8, 8))):
        model = fit(make(shape), labelled_pictures(n=n, shape=shape, classes=2), tmp_path / str(n))
        assert torch.isfinite(embed(model, labelled_pictures(n=n, shape=shape))).all()
    with pytest.raises(InvalidSetting, match="2 or more"):
        build(ResNetConfig, {"batch_size": 1}, "encoder")


def test_data_without_labels_are_refused(tmp_path):
    with pytest.raises(InvalidData, match="'resnet' learns from labels"):
        fit(make(), replace(labelled_pictures(), revealed=None), tmp_path)


def test_a_seed_repeats_the_bits_and_unknown_labels_change_none(tmp_path):
    data = labelled_pictures()
    labels = data.truth.labels.copy()
    labels[:9] = -1
    data = replace(data, revealed=replace(data.truth, labels=labels))
    changed = data.x.clone()
    changed[:9] = 1e6  # would show in every normalisation
    first = fit(make(shift=0.1), data, tmp_path / "a").state_dict()
    second = fit(make(shift=0.1), replace(data, x=changed), tmp_path / "b").state_dict()
    other = fit(make(shift=0.1), data, tmp_path / "c", seed=1).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_bf16_trains_too(tmp_path):
    data = labelled_pictures(n=90)
    model = fit(make(epochs=15, lr=0.05), data, tmp_path, precision="bf16").eval()
    with torch.no_grad():
        assert (model.logits(data.x).argmax(1).numpy() == data.truth.labels).mean() > 0.9
    assert embed(model, data).dtype == torch.float32


@pytest.mark.parametrize(("shape", "bottleneck"), [((1, 8, 8), False), ((3, 6, 5), True)])
def test_it_keeps_an_encoders_promises(tmp_path, shape, bottleneck):
    check_encoder("resnet", tmp_path, shape=shape, bottleneck=bottleneck, **TINY)


@pytest.mark.parametrize("clusterer", ["kmeans", "dec"])
def test_a_run_ends_with_a_model_that_sorts_new_data(tmp_path, monkeypatch, clusterer):
    monkeypatch.chdir(tmp_path)
    data = labelled_pictures(shape=(6, 6, 3))
    x = (data.x.clamp(0, 1) * 255).to(torch.uint8).numpy()
    np.savez("labelled.npz", x=x, y=data.truth.labels)
    arguments = [
        "run", "--encoder", "resnet", "--clusterer", clusterer, "--data", "labelled.npz", "--out", "out",
        "--device", "cpu", "--precision", "float32", "--evaluator", "clustering", "-q", "--clusters", "3",
        "-s", "encoder.blocks=1,1", "-s", "encoder.width=4", "-s", "encoder.epochs=2",
    ]  # fmt: skip
    arguments += ["-s", "clusterer.epochs=1"] if clusterer == "dec" else []
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["protocol"]["labels used in training"] is True
    bundle = load(tmp_path / "out", torch.device("cpu"))
    z, _ = bundle.predict(Data(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), "new"))
    assert np.array_equal(z.numpy(), np.load("out/embedding.npy"))
