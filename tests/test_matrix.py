"""Every installed encoder with every clusterer it can work with, and every evaluator, on tiny images."""

import csv
import json

import numpy as np
import pytest

from deepclust.core import Decodes, Storage, has_ability
from deepclust.core.contract.registry import installed
from deepclust.core.errors import ImpossiblePair
from deepclust.core.run.pipeline import run
from deepclust.core.run.plan import request_from
from deepclust.plugins.evaluate.evaluation import carry_out as evaluate
from deepclust.plugins.predict.prediction import carry_out

SMALL = {
    "sdae": {"hidden": (16,), "latent_dim": 4},
    "cae": {"filters": (4, 4), "latent_dim": 4},
    "cnn": {"filters": (4,), "hidden": 8},
    "resnet": {"blocks": (1, 1), "width": 4},
    "simclr": {
        "backbone": {"name": "cae", "filters": [4], "latent_dim": 4},
        "decoder_epochs": 1,
    },
    "vae": {"latent_dim": 2},
}
EVALUATORS = {"report": {"map": "none"}, "svm": {"heads": ("logistic",)}}


def names(kind: str) -> list[str]:
    return [e.component.name for e in installed().entries(kind)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three kinds of 8x8 pictures in two colours' channels, fewer than a batch; a test split of 21."""
    rng = np.random.default_rng(0)
    patterns = rng.random((3, 3, 8, 8))
    x = np.clip(patterns[np.arange(60) % 3] + rng.normal(0, 0.05, (60, 3, 8, 8)), 0, 1)
    x, y = (x * 255).astype(np.uint8), np.arange(60) % 3
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x_train=x[:39], y_train=y[:39], x_test=x[39:], y_test=y[39:])
    return path


def request(path, encoder: str, clusterer: str):
    evaluators = sorted(names("evaluator"), key=lambda name: name == "report")  # it looks at the others
    settings = {"encoder": SMALL.get(encoder, {}), "data": {"split": "train-test", "channels": "first"}}
    return request_from(
        {},
        {
            "data": str(path), "encoder": encoder, "clusterer": clusterer, "clusters": 3,
            "evaluators": evaluators, "epochs_scale": 0.03, "settings": {**settings, **EVALUATORS},
        },
    )  # fmt: skip


@pytest.mark.parametrize("clusterer", names("clusterer"))
@pytest.mark.parametrize("encoder", names("encoder"))
def test_the_pair_runs_to_its_scores_report_and_predictions(images, tmp_path, encoder, clusterer):
    asked = request(images, encoder, clusterer)
    needs = installed().load("clusterer", clusterer).needs
    if not all(has_ability(installed().load("encoder", encoder), ability) for ability in needs):
        with pytest.raises(ImpossiblePair, match=f"'{clusterer}' needs.*'{encoder}'"):
            run(asked, Storage(tmp_path), tmp_path / "out", quiet=True)
        assert not (tmp_path / "out").exists()
        return

    out = tmp_path / "out"
    outcome = run(asked, Storage(tmp_path), out, quiet=True)
    scores = outcome.scores
    assert set(names("evaluator")) == set(scores)
    supervised = installed().find("encoder", encoder).component.supervised
    assert outcome.summary["protocol"]["labels used in training"] is supervised
    assert 0 < scores["clustering"]["test_accuracy"] <= 1
    assert scores["svm"]["test_samples"] == 21
    assert json.loads((out / "scores.json").read_text()) == outcome.summary
    again = evaluate(out, Storage(tmp_path, quiet=True)).scores
    assert again == scores, "the opened model has all that evaluators look at"
    page = (out / "report.html").read_text()
    decodes = has_ability(installed().load("encoder", encoder), Decodes)
    assert ("reconstruction" in page.lower()) is decodes

    with (out / "labels-test.csv").open() as file:
        said = [int(row["cluster"]) for row in csv.DictReader(file)]
    with np.load(images) as archive:
        np.save(tmp_path / "new.npy", archive["x_test"])
    place = Storage(tmp_path, quiet=True)
    carry_out(out, str(tmp_path / "new.npy"), place, settings={"data": {"channels": "first"}},
              labels=tmp_path / "new.csv")  # fmt: skip
    with (tmp_path / "new.csv").open() as file:
        assert [int(row["cluster"]) for row in csv.DictReader(file)] == said
    assert np.isfinite(np.load(out / "embedding.npy")).all()
