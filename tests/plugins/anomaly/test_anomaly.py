"""The anomaly evaluator: AUROC against definitions, what is missing in words, its table and figures."""

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from deepclust.cli import main
from deepclust.core import Data, Result, Truth
from deepclust.core.testing import check_evaluator
from deepclust.plugins.anomaly.evaluator import Anomaly, AnomalyConfig

NAMES = ("cat", "dog", "fox & $1", "owl")


class Plain(nn.Module):
    """Codes are the first two values; it can do nothing else."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.largest = 0
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        assert not self.training
        self.largest = max(self.largest, len(x))
        return x.flatten(1)[:, :2]


class Decoding(Plain):
    """Decodes every code to zeros, so that a sample's error is its own mean square."""

    shape = (1, 4, 4)

    def decode(self, z):
        return torch.zeros(len(z), *self.shape, device=z.device)


class Finding(Decoding):
    """Finds large means strange."""

    def anomaly_score(self, x):
        assert not torch.is_grad_enabled()
        return x.flatten(1).mean(1) * self.factor

    factor = 1.0


def result_of(x, labels, folder, encoder, seen=None, files=None, **more) -> Result:
    """x: (N, ...) samples; labels: (N,) classes or None."""
    x = torch.as_tensor(x, dtype=torch.float32)
    n = len(x)
    truth = None if labels is None else Truth(np.asarray(labels), NAMES)
    return Result(
        z=x.flatten(1)[:, :2].numpy(), labels=np.zeros(n, np.int64), confidence=np.ones(n),
        second=np.ones(n, np.int64), second_confidence=np.zeros(n),
        distance=x.flatten(1)[:, :2].norm(dim=1).numpy(), centers=np.zeros((2, 2), np.float32),
        second_distance=np.zeros(n),
        truth=truth, data=Data(x, "made", files=files).seal(), encoder=encoder, clusterer=None,
        folder=folder, seed=0, files=files, quiet=True, **more,
    )  # fmt: skip


def samples(labels, strange=3, offset=0.0, shape=(1, 4, 4), seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.rand(len(labels), *shape, generator=g)
    x[torch.as_tensor(labels) == strange] += offset
    return x


def split(folder, encoder, offset, shape=(1, 4, 4), n=400, **more) -> Result:
    """Training on classes 0 to 2; class 3 is in the test split alone, ``offset`` brighter."""
    train, test = np.arange(n) % 3, np.arange(n) % 4
    held_out = result_of(samples(test, offset=offset, shape=shape, seed=1), test, folder, encoder, **more)
    return result_of(samples(train, shape=shape), train, folder, encoder, test=held_out)


def evaluate(result, **settings):
    return dict(Anomaly(AnomalyConfig(**settings)).evaluate(result))


def table_of(folder: Path) -> list[list[str]]:
    with (folder / "anomalies.csv").open(newline="") as file:
        return list(csv.reader(file))


KINDS = ("encoder", "reconstruction", "distance")


def test_a_class_that_is_plainly_apart_is_found_by_every_score(tmp_path):
    scores = evaluate(split(tmp_path, Finding(), offset=0.5))
    for kind in KINDS:
        assert scores[f"auroc_{kind}"] == 1
        assert scores[f"average_precision_{kind}"] == pytest.approx(1)
    assert (scores["unseen_samples"], scores["other_samples"]) == (100, 300)
    assert scores["unseen_classes"] == "owl"
    assert scores["ordered_by"] == "encoder"


def test_a_class_like_the_others_is_not_found(tmp_path):
    scores = evaluate(split(tmp_path, Finding(), offset=0.0, n=4000))
    for kind in KINDS:
        assert scores[f"auroc_{kind}"] == pytest.approx(0.5, abs=0.05)
        assert scores[f"average_precision_{kind}"] == pytest.approx(0.25, abs=0.05)


def test_auroc_is_the_share_of_pairs_in_their_order(tmp_path):
    result = split(tmp_path, Finding(), offset=0.02)
    scores = evaluate(result)
    x, y = result.test.data.x.flatten(1), result.test.truth.labels
    for kind, s in (("encoder", x.mean(1)), ("reconstruction", x.square().mean(1)),
                    ("distance", x[:, :2].square().sum(1).sqrt())):  # fmt: skip
        above = s[y == 3][:, None].double() - s[y != 3][None].double()
        share = float(((above > 0).double() + 0.5 * (above == 0).double()).mean())
        assert 0.5 < share < 1
        assert scores[f"auroc_{kind}"] == pytest.approx(share, abs=1e-4)


def test_the_table_has_every_test_sample_by_falling_score(tmp_path):
    names = [f"{i}, odd.png" for i in range(400)]
    result = split(tmp_path, Finding(), offset=0.05, files=names, key="file")
    evaluate(result)
    header, *rows = table_of(tmp_path)
    assert header == ["file", "score", "class"]
    values = result.test.data.x.flatten(1).mean(1)
    assert sorted(row[0] for row in rows) == sorted(names)
    for name, value, its_class in rows:
        i = names.index(name)
        assert float(value) == pytest.approx(float(values[i]), rel=1e-4)
        assert its_class == NAMES[i % 4]
    falling = [float(row[1]) for row in rows]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    ("encoder", "kinds"), [(Plain, KINDS[2:]), (Decoding, KINDS[1:]), (Finding, KINDS)]
)  # fmt: skip
def test_only_the_scores_that_an_encoder_has(tmp_path, encoder, kinds):
    scores = evaluate(split(tmp_path, encoder(), offset=0.5))
    assert tuple(k.removeprefix("auroc_") for k in scores if k.startswith("auroc_")) == kinds
    assert scores["ordered_by"] == kinds[0]


def test_what_is_missing_is_said_with_the_settings_that_give_it(tmp_path):
    labels = np.arange(40) % 3
    alone = result_of(samples(labels), labels, tmp_path / "a", Finding())
    both = result_of(samples(labels), labels, tmp_path / "b", Finding(),
                     test=result_of(samples(labels), labels, tmp_path / "b", Finding()))  # fmt: skip
    unlabelled = result_of(samples(labels), None, tmp_path / "c", Finding(),
                           test=result_of(samples(labels), None, tmp_path / "c", Finding()))  # fmt: skip
    nothing = result_of(samples(labels), None, tmp_path / "d", Finding())
    expected = {
        "a": "a test split with a class that training never saw, "
        "as with -s data.split=train-test -s data.leave_out='fox & $1'",
        "b": "a class in the test split that training never saw, "
        "as with -s data.split=train-test -s data.leave_out='fox & $1'",
        "c": "the classes of the samples",
        "d": "a test split with a class that training never saw, "
        "as with -s data.split=train-test -s data.leave_out=CLASS",
    }
    for name, result in zip("abcd", (alone, both, unlabelled, nothing), strict=True):
        (tmp_path / name).mkdir()
        scores = evaluate(result)
        assert expected[name] in scores["missing_for_auroc"]
        assert not [key for key in scores if key.startswith("auroc")]
        header, *rows = table_of(tmp_path / name)
        assert header == (["index", "score", "class"] if result.truth else ["index", "score"])
        assert len(rows) == 40
        assert (tmp_path / name / "figures" / "anomaly-scores.png").exists()


def test_classes_may_be_named_instead(tmp_path):
    result = split(tmp_path, Finding(), offset=0.5)
    scores = evaluate(result, classes=("owl", "cat"))
    assert scores["unseen_samples"] == 200
    assert scores["unseen_classes"] == "cat, owl"
    assert 0.6 < scores["auroc_encoder"] < 0.9
    assert "class 'cow' of anomaly.classes" in evaluate(result, classes=("cow",))["missing_for_auroc"]
    assert "cat, dog" in evaluate(result, classes=("cow",))["missing_for_auroc"]
    assert "does not count as strange" in evaluate(result, classes=NAMES)["missing_for_auroc"]


def test_samples_of_unknown_class_are_ordered_but_not_counted(tmp_path):
    result = split(tmp_path, Finding(), offset=0.5)
    result.test.truth.labels[:50] = -1
    scores = evaluate(result)
    assert scores["auroc_encoder"] == 1
    assert scores["unseen_samples"] + scores["other_samples"] == 350
    rows = table_of(tmp_path)[1:]
    assert len(rows) == 400
    assert sum(row[2] == "" for row in rows) == 50


def test_scores_that_are_not_finite_are_left_out_in_words(tmp_path):
    encoder = Finding()
    encoder.factor = float("inf")
    scores = evaluate(split(tmp_path, encoder, offset=0.5))
    assert "not finite" in scores["without_encoder"]
    assert "auroc_encoder" not in scores
    assert scores["auroc_reconstruction"] == 1
    assert scores["ordered_by"] == "reconstruction"


def test_samples_go_through_the_encoder_in_bounded_batches_in_eval_mode(tmp_path):
    encoder = Finding()
    encoder.shape = (3, 64, 64)
    encoder.train()
    evaluate(split(tmp_path, encoder, offset=0.5, shape=(3, 64, 64), n=600))
    assert 1 < encoder.largest < 300
    assert encoder.training


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 7), (2, 300, 30), (9,)])
def test_figures_are_written_and_say_the_same_bytes_twice(tmp_path, shape):
    encoder = Finding()
    encoder.shape = shape
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        evaluate(split(tmp_path / name, encoder, offset=0.5, shape=shape, n=40), pictures=12)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name / "figures").iterdir()})
    assert made[0] == made[1]
    expected = {"anomaly-scores"} | ({"anomaly-samples"} if len(shape) == 3 else set())
    assert set(made[0]) == {f"{name}.{kind}" for name in expected for kind in ("png", "svg")}
    for name in expected:
        with Image.open(tmp_path / "one" / "figures" / f"{name}.png") as picture:
            assert picture.size[0] > 300
        ET.parse(tmp_path / "one" / "figures" / f"{name}.svg")
    svg = (tmp_path / "one" / "figures" / "anomaly-scores.svg").read_text()
    assert "unseen: owl" in svg


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_fewest_samples(tmp_path, n):
    labels = np.array([0, 3, 1])[:n]
    train = np.array([0, 1])
    test = result_of(samples(labels, offset=0.5), labels, tmp_path, Finding())
    scores = evaluate(result_of(samples(train), train, tmp_path, Finding(), test=test))
    assert len(table_of(tmp_path)) == n + 1
    assert ("auroc_encoder" in scores) == (n > 1)


def test_no_pictures_where_none_are_asked_for(tmp_path):
    evaluate(split(tmp_path, Finding(), offset=0.5), pictures=0)
    assert not list((tmp_path / "figures").glob("anomaly-samples*"))


def test_it_keeps_an_evaluators_promises(tmp_path):
    check_evaluator("anomaly", tmp_path)


def test_a_run_finds_the_class_that_it_was_trained_without(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    g = torch.Generator().manual_seed(0)
    centers = torch.rand(4, 8, generator=g)
    y, y_test = torch.arange(200) % 4, torch.arange(80) % 4
    x, x_test = (centers[c] + 0.05 * torch.randn(len(c), 8, generator=g) for c in (y, y_test))
    np.savez("made.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    ran = CliRunner().invoke(
        main,
        ["run", "--data", "made.npz", "-s", "data.split=train-test", "-s", "data.leave_out=3",
         "--encoder", "vae", "--clusterer", "kmeans", "--clusters", "3", "--evaluator", "anomaly",
         "-s", "encoder.hidden=16", "-s", "encoder.latent_dim=2", "-s", "encoder.lr=0.01",
         "-s", "encoder.epochs=30", "-s", "encoder.batch_size=32", "--out", "run", "--device", "cpu"],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    scores = json.loads(Path("run/scores.json").read_text())["evaluators"]["anomaly"]
    assert scores["auroc_encoder"] > 0.95
    assert scores["unseen_classes"] == "3"
    rows = table_of(tmp_path / "run")
    assert len(rows) == 81
    assert sum(row[2] == "3" for row in rows[1:21]) >= 16
