"""Classifiers on codes: known scores, no leak, and data that lack what they need."""

import _thread
import csv
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from deepclust.core import Data, DeepclustError, Result, Truth
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.run.evaluation import evaluate as evaluate_all
from deepclust.core.testing import check_evaluator


def result_of(z, y, folder, names=None, **more) -> Result:
    z, n = np.asarray(z, dtype=np.float32), len(z)
    truth = None
    if y is not None:
        y = np.asarray(y, dtype=np.int64)
        truth = Truth(y, tuple(names or (f"class {i}" for i in range(y.max() + 1))))
    given = {
        "z": z, "labels": np.zeros(n, np.int64), "confidence": np.ones(n), "second": np.zeros(n, np.int64),
        "second_confidence": np.zeros(n), "distance": np.zeros(n), "centers": np.zeros((2, z.shape[1])),
        "second_distance": np.zeros(n), "truth": truth,
        "data": Data(torch.from_numpy(z), f"codes, {n} samples").seal(),
        "encoder": None, "clusterer": None, "folder": folder, "seed": 0, "quiet": True,
    }  # fmt: skip
    return Result(**{**given, **more})


def svm(**settings):
    cls = installed().load("evaluator", "svm")
    return cls(build(cls.Config, settings, "svm"))


def rows_of(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def confusion(folder, head: str) -> np.ndarray:
    rows = [r for r in rows_of(folder / "svm-confusion.csv") if r["head"] == head]
    return np.array([[int(v) for k, v in r.items() if k not in ("head", "class")] for r in rows])


@pytest.fixture(scope="module")
def digits():
    """Train codes, train classes, test codes, test classes: raw pixels, which SVMs know well."""
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.3, stratify=y, random_state=1)
    return train_x, train_y, test_x, test_y


@pytest.fixture
def held_out(digits, tmp_path):
    train_x, train_y, test_x, test_y = digits
    return result_of(train_x, train_y, tmp_path, test=result_of(test_x, test_y, tmp_path))


@pytest.fixture
def blobs(tmp_path):
    """Three groups of 40 codes that a line separates; no test split."""
    y = np.arange(120) % 3
    z = np.eye(3, 4)[y] * 6 + np.random.default_rng(0).normal(size=(120, 4))
    return result_of(z, y, tmp_path)


def test_the_conformance_kit(tmp_path):
    check_evaluator("svm", tmp_path)


def test_digits_score_what_is_known_of_them(held_out, digits):
    scores = svm().evaluate(held_out)
    assert scores["svc_accuracy"] >= 0.975
    assert scores["forest_accuracy"] >= 0.955
    assert scores["linear_accuracy"] >= 0.92
    assert scores["logistic_accuracy"] >= 0.94
    assert (scores["train_samples"], scores["test_samples"]) == (1257, 540)
    assert "no training saw" in scores["split"]
    train_x, train_y, test_x, test_y = digits
    mean, spread = train_x.mean(0), np.where(train_x.std(0) > 0, train_x.std(0), 1)
    alone = SVC().fit((train_x - mean) / spread, train_y)
    assert scores["svc_accuracy"] == pytest.approx(alone.score((test_x - mean) / spread, test_y), abs=0.004)


def test_tables_and_figures_agree_with_the_scores(held_out):
    scores = svm(heads="logistic,svc").evaluate(held_out)
    folder = held_out.folder
    report = rows_of(folder / "svm.csv")
    assert [r["head"] for r in report] == ["logistic"] * 10 + ["svc"] * 10
    for head in ("logistic", "svc"):
        counts = confusion(folder, head)
        assert counts.sum() == 540
        assert np.trace(counts) / 540 == pytest.approx(scores[f"{head}_accuracy"])
        for place, row in enumerate(r for r in report if r["head"] == head):
            right, told, there = counts[place, place], counts[:, place].sum(), counts[place].sum()
            assert row["class"] == f"class {place}"
            assert float(row["precision"]) == pytest.approx(right / told, abs=1e-6)
            assert float(row["recall"]) == pytest.approx(right / there, abs=1e-6)
            assert float(row["f1"]) == pytest.approx(2 * right / (told + there), abs=1e-6)
            assert int(row["support"]) == there
    assert (folder / "figures" / "svm-confusion.png").read_bytes().startswith(b"\x89PNG")
    drawing = (folder / "figures" / "svm-confusion.svg").read_text(encoding="utf-8")
    assert "class 7" in drawing
    assert f"logistic: {scores['logistic_accuracy']:.1%} of 540" in drawing


def test_the_test_labels_never_reach_a_head(held_out):
    settings = {"heads": "linear,svc,forest,logistic", "grid": True, "labels": 15}
    svm(**settings).evaluate(held_out)
    before = {h: confusion(held_out.folder, h).sum(0) for h in ("linear", "svc", "forest", "logistic")}
    rng, test = np.random.default_rng(0), held_out.test
    other = replace(test, truth=Truth(rng.permutation(test.truth.labels), test.truth.names))
    scores = svm(**settings).evaluate(replace(held_out, test=other))
    for head, told in before.items():
        assert (confusion(held_out.folder, head).sum(0) == told).all()
        assert 0.04 < scores[f"{head}_accuracy"] < 0.18


def test_permuted_training_labels_give_chance(held_out):
    truth = held_out.truth
    wrong = Truth(np.random.default_rng(0).permutation(truth.labels), truth.names)
    scores = svm().evaluate(replace(held_out, truth=wrong))
    for head in ("linear", "svc", "forest", "logistic"):
        assert 0.03 < scores[f"{head}_accuracy"] < 0.19


def test_few_labels_are_worse_than_all(held_out):
    few = svm(labels=3, heads="svc,linear").evaluate(held_out)
    more = svm(labels=30, heads="svc,linear").evaluate(held_out)
    every = svm(heads="svc,linear").evaluate(held_out)
    assert few["train_samples"] == 30
    assert more["train_samples"] == 300
    assert few["test_samples"] == every["test_samples"]
    for head in ("svc_accuracy", "linear_accuracy"):
        assert 0.4 < few[head] < more[head] - 0.05 < every[head]
    assert "3 labels per class" in few["split"]


def test_the_same_seed_gives_the_same_scores_and_another_draws_others(held_out, blobs):
    first, again = (svm(labels=5).evaluate(held_out) for _ in range(2))
    assert first == again
    table = (held_out.folder / "svm.csv").read_bytes()
    svm(labels=5).evaluate(replace(held_out, seed=2**62))
    assert (held_out.folder / "svm.csv").read_bytes() != table
    assert svm().evaluate(blobs) == svm().evaluate(blobs)


def test_a_head_does_not_depend_on_the_others(held_out):
    together = svm(labels=5).evaluate(held_out)
    for head in ("forest", "svc"):
        alone = svm(labels=5, heads=head).evaluate(held_out)
        assert alone[f"{head}_accuracy"] == together[f"{head}_accuracy"]


def test_without_a_test_split_a_share_of_each_class_is_held_back(blobs):
    scores = svm(test_share=0.25).evaluate(blobs)
    assert (scores["train_samples"], scores["test_samples"]) == (90, 30)
    assert scores["linear_accuracy"] > 0.95
    assert confusion(blobs.folder, "linear").sum(1).tolist() == [10, 10, 10]
    assert "all labels among 75% of each class, scored on the other 25%" in scores["split"]


@pytest.mark.parametrize(
    ("learned", "says"),
    [(True, "no held-out accuracy"), (False, "without their labels"), (None, "scored on the other 20%")],
)
def test_what_the_encoder_saw_is_said(blobs, learned, says):
    protocol = {} if learned is None else {"labels used in training": learned}
    split = svm(heads="linear").evaluate(replace(blobs, protocol=protocol))["split"]
    assert says in split
    assert ("no held-out accuracy" in split) == (learned is True)


def test_an_encoder_with_labels_is_scored_held_out_on_a_test_split(held_out):
    protocol = {"labels used in training": True}
    scores = svm(heads="linear", labels=5).evaluate(replace(held_out, protocol=protocol))
    assert "no held-out accuracy" not in scores["split"]
    assert "learned from more labels than the 5 per class" in scores["notes"]


def test_samples_without_a_class_are_left_out(blobs):
    y = blobs.truth.labels.copy()
    clean = svm(heads="linear").evaluate(blobs)
    far = np.full((30, 4), 1e6, np.float32)  # would ruin the scaling
    more = result_of(
        np.concatenate([blobs.z, far]), np.concatenate([y, np.full(30, -1)]), blobs.folder, blobs.truth.names
    )
    scores = svm(heads="linear").evaluate(more)
    assert scores["linear_accuracy"] == clean["linear_accuracy"]
    assert scores["train_samples"] + scores["test_samples"] == 120
    assert "30 samples without a class are left out" in scores["notes"]


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (None, "no labels in codes"),
        ([-1] * 6, "no labels in codes"),
        ([0, 0, 0, 0, -1, -1], "only one class, 'class 0'"),
        ([0, 1, 2, 3, 4, 5], "no class has two labelled samples"),
        ([3, 0, 0, 0, 0, 0], None),
    ],
)
def test_data_that_lack_what_heads_need(tmp_path, y, says):
    scores = svm().evaluate(result_of(np.eye(6), y, tmp_path))
    if says is None:
        assert "'class 3' with one labelled sample" in scores["notes"]
        assert (scores["train_samples"], scores["test_samples"]) == (5, 1)
        return
    assert says in scores["missing"]
    assert list(scores) == ["missing"]
    assert not list(tmp_path.iterdir())


def test_a_test_split_without_labels(blobs):
    scores = svm().evaluate(replace(blobs, test=replace(blobs, truth=None)))
    assert "nothing to score" in scores["missing"]


def test_classes_that_were_not_trained_on_count_as_wrong_and_are_named(blobs):
    kept = blobs.truth.labels != 1
    train = result_of(blobs.z[kept], blobs.truth.labels[kept], blobs.folder, blobs.truth.names)
    scores = svm(heads="linear,svc,forest,logistic").evaluate(replace(train, test=blobs))
    for head in ("linear", "svc", "forest", "logistic"):
        assert 0.6 < scores[f"{head}_accuracy"] <= 80 / 120
    assert "class 'class 1' not among the training samples" in scores["notes"]
    assert "40 scored samples" in scores["notes"]
    assert confusion(blobs.folder, "svc")[:, 1].sum() == 0


def test_classes_of_the_two_splits_meet_by_name(blobs):
    names = ("class 1", "class 2", "another", "class 0")
    test = result_of(blobs.z, np.array([3, 0, 1])[blobs.truth.labels], blobs.folder, names)
    assert svm(heads="linear").evaluate(replace(blobs, test=test))["linear_accuracy"] > 0.95


def test_the_grid_finds_better_than_a_bad_c(held_out):
    bad = {"heads": "svc,logistic", "labels": 30, "C": 1e-6}
    before = svm(**bad).evaluate(held_out)
    after = svm(**bad, grid=True).evaluate(held_out)
    assert before["svc_accuracy"] < after["svc_accuracy"] - 0.05
    assert before["logistic_accuracy"] < after["logistic_accuracy"]
    assert "grid" not in before
    assert "svc: C=" in after["grid"]
    assert "gamma=" in after["grid"]
    assert "logistic: C=" in after["grid"]
    assert "3-fold cross-validation on 300 samples" in after["grid"]


def test_a_grid_needs_two_samples_of_each_class(blobs):
    scores = svm(heads="linear,forest", labels=1, grid=True).evaluate(blobs)
    assert scores["grid"] == "linear: not searched, for a class has one training sample"


def test_the_cap_is_drawn_by_class_and_said(held_out):
    scores = svm(max_samples=200).evaluate(held_out)
    assert "svc is trained on 19" in scores["notes"]
    assert "linear" not in scores["notes"]
    assert scores["svc_accuracy"] > 0.9
    assert "notes" not in svm(max_samples=0, heads="svc").evaluate(held_out)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"heads": "svc,svcc"}, "no head of svm 'svcc'; did you mean 'svc'? There is: forest, linear"),
        ({"heads": ""}, "names no head"),
        ({"C": "-1"}, "svm.C"),
        ({"folds": "1"}, "svm.folds"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, says):
    with pytest.raises(DeepclustError, match=".") as refusal:
        svm(**settings)
    assert says in str(refusal.value)


def test_codes_without_spread_are_scored(tmp_path):
    scores = svm().evaluate(result_of(np.ones((20, 3)), np.arange(20) % 2, tmp_path))
    assert scores["svc_accuracy"] == 0.5


def test_names_that_drawing_or_tables_could_stumble_over(blobs):
    names = ('a "quoted", one', "$x_1$", "line\nbreak" * 9)
    given = replace(blobs, truth=Truth(blobs.truth.labels, names))
    svm(heads="linear").evaluate(given)
    assert [r["class"] for r in rows_of(blobs.folder / "svm.csv")] == list(names)


def test_scores_survive_being_written(blobs):
    known = {"protocol": {"labels used in training": False}}
    summary = evaluate_all(blobs, {"svm": svm(grid=True)}, known)
    assert json.loads(json.dumps(summary)) == summary
    assert "without their labels" in summary["evaluators"]["svm"]["split"]


def test_ctrl_c_does_not_wait_for_a_solver_and_errors_come_back():
    from deepclust.plugins.svm.head import aside

    never = threading.Event()
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        aside(lambda: never.wait(60), lambda count: None)
    assert not never.is_set()
    never.set()
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0, lambda count: None)
    assert aside(lambda: 7, lambda count: None) == 7


def test_the_encoders_own_classes_are_scored_beside_the_heads(held_out):
    """The own head is a fitted scikit-learn model's coefficients, whose score is known."""
    from sklearn.linear_model import LogisticRegression

    known = LogisticRegression(max_iter=2000).fit(held_out.z, held_out.truth.labels)

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(*known.coef_.shape[::-1])
            self.head.weight.data = torch.from_numpy(known.coef_).float()
            self.head.bias.data = torch.from_numpy(known.intercept_).float()

        def classify(self, z):
            return self.head(z)

    scores = svm(heads=("linear",)).evaluate(replace(held_out, encoder=Own()))
    expected = known.score(held_out.test.z, held_out.test.truth.labels)
    assert scores["softmax_accuracy"] == pytest.approx(expected, abs=2e-3)
    assert "softmax_accuracy" not in svm(heads=("linear",)).evaluate(held_out)
