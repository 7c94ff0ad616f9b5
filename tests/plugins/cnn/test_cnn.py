"""The convolutional classifier, and what all encoders that learn from labels share."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core import Augments, Decodes, InvalidData, InvalidSetting, Run, embed, truth_of
from deepclust.core.contract.config import build
from deepclust.core.engine import checkpoint
from deepclust.core.run.bundle import load
from deepclust.core.testing import check_encoder
from deepclust.plugins.classifier.supervised import Head, labelled
from deepclust.plugins.cnn.model import CNN, CNNConfig
from made_command import deepclust
from made_picture import labelled_pictures
from made_training import fit, log_of

TINY = {"filters": (4, 4), "hidden": 8, "epochs": 3, "batch_size": 16}


def make(shape=(1, 8, 8), **settings) -> CNN:
    torch.manual_seed(0)
    return CNN(CNNConfig(**{**TINY, **settings}), shape)


def accuracy(model, data) -> float:
    with torch.no_grad():
        guess = model.eval().logits(data.slice(0, len(data))).argmax(1).numpy()
    return float((guess == data.truth.labels).mean())


def test_the_network_is_the_tutorials_by_default():
    model = CNN(build(CNNConfig, {"preset": "tutorial"}, "encoder"), (3, 32, 32))
    shapes = [tuple(p.shape) for n, p in model.named_parameters() if n.startswith("blocks") and p.ndim == 4]
    assert shapes == [(32, 3, 2, 2), (32, 32, 2, 2), (32, 32, 2, 2), (32, 32, 2, 2)]
    # 32 -> 31 -> 30 -> 15 -> 14 -> 13 -> 6 pixels
    assert (model.hidden.in_features, model.hidden.out_features, model.latent_dim) == (32 * 6 * 6, 512, 512)
    c = model.config
    assert (c.lr, c.batch_size, c.epochs, c.validation, c.dropout) == (1e-3, 128, 20, 0.2, 0.2)
    assert CNN(CNNConfig(), (1, 28, 28)).hidden.in_features == 32 * 5 * 5


def test_forward_is_two_blocks_and_the_hidden_layer():
    model, x = make((2, 13, 11)).eval(), torch.rand(5, 2, 13, 11)
    w = model.state_dict()
    h = x
    for block in range(2):
        for i in (0, 2):
            name = f"blocks.{6 * block + i}"
            patches = F.unfold(h, 2)  # a convolution as a product with all its patches
            h = torch.einsum("fp,bpl->bfl", w[f"{name}.weight"].flatten(1), patches).unflatten(
                2, (h.shape[2] - 1, h.shape[3] - 1)
            )
            h = (h + w[f"{name}.bias"][:, None, None]).clamp_min(0)
        rows, columns = h.shape[2] // 2 * 2, h.shape[3] // 2 * 2
        h = torch.stack([h[:, :, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]).amax(0)
    z = (h.flatten(1) @ w["hidden.weight"].T + w["hidden.bias"]).clamp_min(0)
    torch.testing.assert_close(model(x), z)
    model.head.resize(4)
    torch.testing.assert_close(model.logits(x), z @ model.head.weight.T + model.head.bias)
    assert model.logits(x).shape == (5, 4)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 2, 5), (5, 9, 9), (1, 10, 10), (2, 1, 40), (4, 33, 64), (1, 512, 512)]
)
def test_any_channels_and_sizes(shape):
    model, x = make(shape), torch.rand(2, *shape)
    assert model(x).shape == (2, 8)
    assert model.augment(x) is x
    assert isinstance(model, Augments)
    assert not isinstance(model, Decodes)
    assert model.hidden.in_features <= 4 * 16 * 16


def test_the_size_of_the_network_follows_from_its_settings():
    model = make((3, 32, 32), filters=(2, 4, 8), hidden=6)
    assert [m.out_channels for m in model.blocks if isinstance(m, torch.nn.Conv2d)] == [2, 2, 4, 4, 8, 8]
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 6)


@pytest.mark.parametrize("shape", [(7,), (4, 4)])
def test_rows_are_refused_in_one_sentence(shape):
    with pytest.raises(InvalidData, match=r"encoder 'cnn' takes images .*\(.*\); take an encoder of rows"):
        make(shape)


@pytest.mark.parametrize("truth", [None, truth_of(np.full(60, -1))])
def test_data_without_labels_are_refused(tmp_path, truth):
    with pytest.raises(
        InvalidData, match="'cnn' learns from labels, and there are none in pictures.*--labels"
    ):
        fit(make(), replace(labelled_pictures(), revealed=truth), tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_class_is_refused(tmp_path):
    with pytest.raises(InvalidData, match="only one"):
        fit(make(), labelled_pictures(classes=1), tmp_path)


def test_no_epochs_need_no_labels(tmp_path):
    before, data = make(epochs=0), labelled_pictures().seal()
    after = fit(make(epochs=0), data, tmp_path)  # a look at the truth would raise
    assert all(torch.equal(v, dict(after.named_parameters())[k]) for k, v in before.named_parameters())
    assert float(after.inputs(data.x).square().mean()) == pytest.approx(1, rel=0.01)


def test_it_learns_the_classes(tmp_path):
    data = labelled_pictures(n=120)
    model = fit(make(epochs=25, lr=0.01, dropout=0.0), data, tmp_path)
    assert accuracy(model, data) > 0.95
    line = log_of(tmp_path / "train")[-1]
    assert line["epoch"] == 25
    assert line["accuracy"] > 0.9
    assert line["validation/accuracy"] > 0.9


def test_unknown_labels_are_left_out_of_everything(tmp_path):
    """What stands in the unlabelled samples changes no bit of the training."""
    unknown = [0, 7, 8, 31, 59]
    data = labelled_pictures(unknown=unknown)
    changed = data.x.clone()
    changed[unknown] = 1e6
    first = fit(make(), data, tmp_path / "a").state_dict()
    second = fit(make(), replace(data, x=changed), tmp_path / "b").state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    known = labelled(data, "cnn")
    assert sorted(set(range(60)) - set(known.indices.tolist())) == unknown
    batch = torch.tensor([3, 0])
    assert torch.equal(known.batch(batch), data.x[known.indices[batch]])
    assert known.y[batch].tolist() == [data.truth.labels[4], data.truth.labels[1]]


def test_a_class_without_samples_keeps_its_place(tmp_path):
    data = labelled_pictures(classes=3)
    some = replace(data.truth, labels=np.where(data.truth.labels == 1, -1, data.truth.labels))
    model = fit(make(), replace(data, revealed=some), tmp_path)
    assert model.logits(data.x[:2]).shape == (2, 3)


@pytest.mark.parametrize(
    ("n", "share", "held"), [(50, 0.2, 10), (50, 0.5, 25), (50, 0.0, 0), (4, 0.1, 1), (2, 0.5, 0)]
)
def test_the_validation_share_is_held_back(n, share, held):
    known = labelled(labelled_pictures(n=n, classes=2), "cnn")
    seen, rest = known.split(share, seed=3)
    indices = [seen.indices.tolist(), [] if rest is None else rest.indices.tolist()]
    assert len(indices[1]) == held
    assert sorted(indices[0] + indices[1]) == list(range(n))
    for part in (seen, rest):
        if part is not None:
            assert torch.equal(part.y, torch.arange(n)[part.indices] % 2)
    if 0 < held < 25 and n == 50:
        assert known.split(share, seed=3)[0].indices.tolist() == indices[0]
        assert known.split(share, seed=4)[0].indices.tolist() != indices[0]


def test_the_validation_values_are_those_of_the_held_back_samples(tmp_path):
    data = labelled_pictures(n=50)
    model = fit(make(batch_size=16), data, tmp_path).eval()
    line = log_of(tmp_path / "train")[-1]
    _, held = labelled(data, "cnn").split(0.2, Run(tmp_path).seed_for("train/validation"))
    with torch.no_grad():
        scores = model.logits(data.x[held.indices])
    own = scores[torch.arange(10), held.y]
    assert line["validation/loss"] == pytest.approx(float((scores.logsumexp(1) - own).mean()), rel=1e-4)
    assert line["validation/accuracy"] == pytest.approx(float((own == scores.amax(1)).float().mean()))
    # what was held back is not trained on
    changed = data.x.clone()
    changed[held.indices] += 1
    other = fit(make(batch_size=16), replace(data, x=changed), tmp_path / "changed").state_dict()
    assert all(torch.equal(v, other[k]) for k, v in model.state_dict().items())


def test_the_best_weights_are_put_back_where_asked(tmp_path):
    settings = {"epochs": 8, "lr": 0.2, "dropout": 0.0}  # a rate at which the loss goes up and down
    data = labelled_pictures(n=50)
    model = fit(make(keep_best=True, **settings), data, tmp_path / "best").eval()
    losses = [line["validation/loss"] for line in log_of(tmp_path / "best" / "train")]
    assert losses.index(min(losses)) < 7, "the last epoch is the best: the test would show nothing"
    _, held = labelled(data, "cnn").split(0.2, Run(tmp_path).seed_for("train/validation"))
    with torch.no_grad():
        loss = F.cross_entropy(model.logits(data.x[held.indices]), held.y)
    assert float(loss) == pytest.approx(min(losses), rel=1e-4)
    with pytest.raises(InvalidSetting, match=r"encoder\.validation above 0"):
        fit(make(keep_best=True, validation=0.0), data, tmp_path / "none")


def test_tiny_data_and_a_last_batch_of_one(tmp_path):
    fit(make(), labelled_pictures(n=2, classes=2), tmp_path / "two")
    fit(make(batch_size=16, validation=0.0), labelled_pictures(n=17), tmp_path / "rest")
    fit(make(batch_size=1, validation=0.0), labelled_pictures(n=5), tmp_path / "ones")


def test_a_seed_repeats_the_bits_and_another_does_not(tmp_path):
    data, settings = labelled_pictures(), {"shift": 0.1, "rotation": 10.0}
    first = fit(make(**settings), data, tmp_path / "a").state_dict()
    second = fit(make(**settings), data, tmp_path / "b").state_dict()
    other = fit(make(**settings), data, tmp_path / "c", seed=1).state_dict()
    plain = fit(make(), data, tmp_path / "d").state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["hidden.weight"], other["hidden.weight"])
    assert not torch.equal(first["hidden.weight"], plain["hidden.weight"])


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, monkeypatch):
    data, settings = labelled_pictures(), {"epochs": 5, "shift": 0.1, "keep_best": True}
    whole = fit(make(**settings), data, tmp_path / "whole").state_dict()
    real, steps = CNN.logits, []

    def failing(self, x):
        steps.append(len(x))
        if len(steps) == 11:  # in the third epoch of three batches and a validation each
            raise RuntimeError("killed")
        return real(self, x)

    run = Run(tmp_path / "cut", quiet=True, snapshot_seconds=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(CNN, "logits", failing)
        with pytest.raises(RuntimeError, match="killed"):
            make(**settings).fit(data, run)
    assert 0 < checkpoint.load(tmp_path / "cut/train/snapshot.pt")["updater"]["iteration"] < 15
    cut = make(**settings).fit(data, run).state_dict()
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    drop = [
        [{k: v for k, v in x.items() if k != "seconds"} for x in log_of(tmp_path / f / "train")]
        for f in ("whole", "cut")
    ]
    assert drop[0] == drop[1]


def test_the_head_takes_its_size_from_what_is_loaded():
    first, second = Head(5), Head(5)
    first.resize(3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.weight, first.weight)
    assert second.bias.shape == (3,)
    with pytest.raises(RuntimeError, match="size mismatch"):
        Head(4).load_state_dict(first.state_dict())


def test_bf16_trains_too(tmp_path):
    data = labelled_pictures(n=120)
    model = fit(make(epochs=20, lr=0.01, dropout=0.0), data, tmp_path, precision="bf16")
    assert accuracy(model, data) > 0.9
    assert embed(model, data).dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 14, 12)])
def test_it_keeps_an_encoders_promises(tmp_path, shape):
    check_encoder("cnn", tmp_path, shape=shape, **TINY)


def run_command(*arguments):
    """The command with a tiny network; what it says, and its exit code."""
    options = [
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--evaluator",
        "clustering",
        "-q",
        "--clusters",
        "3",
    ]
    options += ["-s", "encoder.filters=4", "-s", "encoder.hidden=8", "-s", "encoder.epochs=2"]
    result = CliRunner().invoke(main, ["run", "--encoder", "cnn", *options, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working directory with labelled and unlabelled images."""
    monkeypatch.chdir(tmp_path)
    data = labelled_pictures(shape=(6, 6, 3))
    x = (data.x.clamp(0, 1) * 255).to(torch.uint8).numpy()
    np.savez("labelled.npz", x=x, y=data.truth.labels)
    np.save("x.npy", x)
    np.save("rows.npy", x.reshape(60, -1).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize(("file", "says"), [("x.npy", "learns from labels"), ("rows.npy", "takes images")])
def test_the_command_says_what_is_missing_in_one_sentence(files, file, says):
    result = run_command("--data", file, "--clusterer", "kmeans", "--out", "out")
    assert result.exit_code == 2
    assert says in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not [p for p in (files / "out").rglob("*") if p.suffix in (".csv", ".safetensors", ".pt", ".npy")]


@pytest.mark.parametrize("clusterer", ["kmeans", "dec"])
def test_a_run_says_that_labels_were_used_and_its_model_sorts_new_data(files, clusterer):
    more = ["-s", "clusterer.epochs=1"] if clusterer == "dec" else []
    result = run_command("--data", "labelled.npz", "--clusterer", clusterer, "--out", "out", *more)
    assert result.exit_code == 0, result.output
    scores = json.loads((files / "out/scores.json").read_text())
    assert scores["protocol"]["labels used in training"] is True
    bundle = load(files / "out", torch.device("cpu"))
    x = np.load("x.npy").transpose(0, 3, 1, 2).copy()
    z, _ = bundle.predict(replace(labelled_pictures(), x=torch.from_numpy(x), revealed=None))
    assert np.array_equal(z.numpy(), np.load("out/embedding.npy"))
    assert bundle.encoder.logits(torch.rand(2, 3, 6, 6)).shape == (2, 3)


def test_a_clusterer_that_decodes_is_refused(files):
    result = run_command("--data", "labelled.npz", "--clusterer", "idec", "--out", "out")
    assert result.exit_code == 2
    assert "decode" in result.output
    assert "sdae" in result.output
    assert not (files / "out").exists()


def test_a_run_that_trains_nothing_does_not_say_that_it_learned_from_labels(tmp_path):
    """Whether there are labels or not: it looks at none, so the result is the same."""
    data = labelled_pictures()
    for name, y in (("with", data.revealed.labels), ("without", None)):
        np.savez(tmp_path / f"{name}.npz", x=data.x.numpy(), **({} if y is None else {"y": y}))
        given = ["--data", tmp_path / f"{name}.npz", "--clusters", "3", "--evaluator", "clustering"]
        frozen = ["--encoder", "cnn", "--clusterer", "kmeans", "-s", "encoder.epochs=0"]
        given += ["-s", "data.channels=first"]
        said = deepclust("run", *given, *frozen, "--out", tmp_path / name).output
        assert "learn" not in said
        scores = json.loads((tmp_path / name / "scores.json").read_text())
        assert scores["protocol"]["labels used in training"] is False
    codes = [np.load(tmp_path / name / "embedding.npy") for name in ("with", "without")]
    assert np.array_equal(*codes)
