"""How the report shows other evaluators' scores and figures, and held-out samples' confusion."""

import base64
import io
import re
from html import escape

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepclust.core import Data, Evaluator, Result, Truth
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.run.evaluation import evaluate
from deepclust.plugins.report.score import read_parts, tiles

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script></svg>'


def make_result(folder, labels, classes=None, **changes):
    """A result whose clusters are ``labels`` and whose classes are ``classes``, of three at most."""
    labels = np.asarray(labels)
    n = len(labels)
    rng = np.random.default_rng(0)
    made = {
        "z": rng.normal(size=(n, 4)).astype(np.float32), "labels": labels, "confidence": np.full(n, 0.7),
        "second": (labels + 1) % 3, "second_confidence": np.full(n, 0.2), "distance": np.ones(n),
        "centers": np.zeros((3, 4)), "second_distance": np.ones(n),
        "data": Data(torch.rand(n, 1, 3, 3), f"{n}").seal(),
        "truth": None if classes is None else Truth(np.asarray(classes), ("one", "two", "three")),
        "encoder": nn.Identity(), "clusterer": None, "folder": folder, "seed": 0, "quiet": True,
    }  # fmt: skip
    return Result(**{**made, **changes})


def make_report():
    cls = installed().load("evaluator", "report")
    return cls(build(cls.Config, {"map": "none", "neighbours": "0"}, "report"))


def report(result):
    """The page of a result, with single spaces."""
    assert make_report().evaluate(result) == {}
    return re.sub(r"\s+", " ", (result.folder / "report.html").read_text(encoding="utf-8"))


def draw(folder, name, size=(20, 10), **more):
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, "red").save(folder / name, **more)


class Drawing(Evaluator):
    """An evaluator that leaves a picture, a text, a number and a matrix."""

    def evaluate(self, result):
        draw(result.folder / "figures", "svm-confusion-matrix.png", (400, 200), dpi=(200, 200))
        return {"test_accuracy": 0.123, "kernel": "<b>rbf</b> & more", "confusion": [[1.5, 2], [3, 4]]}


def test_an_evaluators_picture_text_and_numbers_have_a_section(tmp_path):
    draw(tmp_path / "figures", "anomaly-scores.png")  # of an evaluator that is not in this run
    draw(tmp_path / "figures", "svm.png")
    result = make_result(tmp_path, np.arange(30) % 3)
    made = {"svm": Drawing(None), "report": make_report()}
    scores = evaluate(result, made, {"protocol": {"seed": 0}})["evaluators"]
    assert scores["report"] == {}
    page = re.sub(r"\s+", " ", (tmp_path / "report.html").read_text())
    section = page[page.index('<section id="scores-svm">') :]
    section = section[: section.index("</section>")]
    assert escape("<b>rbf</b> & more") in section
    assert "<b>rbf" not in page
    assert "<dt>test accuracy</dt><dd>0.123</dd>" in section
    assert "<dt>test accuracy" not in page.replace(section, "")
    assert "1.5" not in section
    images = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)" width="(\d+)">', section)
    assert [image[1:] for image in images] == [("svm: confusion matrix", "192")]  # two inches of a page
    shown = Image.open(io.BytesIO(base64.b64decode(images[0][0])))
    assert (shown.size, shown.getpixel((5, 5))) == ((400, 200), (255, 0, 0))
    assert page.count('href="#scores-svm"') == 1
    assert "scores-anomaly" not in page


def test_a_picture_belongs_to_the_evaluator_with_the_longest_name(tmp_path):
    for name in ("svm-a.png", "svm-linear-a.png", "svm-linear.png", "svmx-a.png"):
        draw(tmp_path, name)
    parts = read_parts([("svm", {}), ("svm-linear", {})], tmp_path)
    titles = {part.name: [title for title, *_ in part.figures] for part in parts}
    assert titles == {"svm": ["a", "linear"], "svm-linear": ["a"]}


def test_one_of_two_kinds_is_shown_and_broken_pictures_are_not(tmp_path):
    draw(tmp_path, "svm-both.png")
    (tmp_path / "svm-both.svg").write_bytes(SVG)
    (tmp_path / "svm-drawn.svg").write_bytes(SVG)
    (tmp_path / "svm-table.csv").write_text("1,2")
    (tmp_path / "svm-text.png").write_text("no picture")
    whole = (tmp_path / "svm-both.png").read_bytes()
    (tmp_path / "svm-cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "svm-none.png").write_bytes(b"")
    (part,) = read_parts([("svm", {})], tmp_path)
    kinds = {title: uri.split(";")[0] for title, uri, _ in part.figures}
    assert kinds == {"both": "data:image/png", "drawn": "data:image/svg+xml"}
    assert read_parts([("svm", {})], tmp_path / "missing")[0].figures == []


def test_an_svgs_script_is_not_part_of_the_page(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/svm-x.svg").write_bytes(SVG)
    page = report(make_result(tmp_path, np.arange(30) % 3, scores={"svm": {"accuracy": 0.5}}))
    assert "data:image/svg+xml;base64," in page
    assert "<script" not in page


def test_held_out_scores_have_meanings_and_others_scores_have_none():
    made = tiles("clustering", {"accuracy": 0.9, "test_accuracy": 0.8, "test_nmi": 0.7, "sizes": [1, 2]})
    assert [(t["name"], t["value"]) for t in made] == [
        ("accuracy", "0.900"), ("test accuracy", "0.800"), ("test NMI", "0.700"),
    ]  # fmt: skip
    assert "matched" in made[0]["meaning"]
    assert "held-out" in made[1]["meaning"]
    assert "held-out" in made[2]["meaning"]
    (other,) = tiles("svm", {"accuracy": 0.9})  # not matched with clusters at all
    assert other["meaning"] == ""


def cells(folder):
    """The numbers in the cells of the confusion matrix that was drawn."""
    texts = re.findall(r"<text[^>]*>(\d+)</text>", (folder / "figures/confusion.svg").read_text())
    return sorted(int(text) for text in texts if int(text) > 2)  # 0 to 2 are the clusters' names


def test_the_confusion_is_of_held_out_samples_where_their_classes_are_known(tmp_path):
    test = make_result(tmp_path, [0] * 13 + [1] * 11 + [2] * 7, [0] * 12 + [1] * 12 + [-1] * 7)
    seen = {"labels": [0] * 20 + [1] * 15, "classes": [1] * 20 + [0] * 15}
    page = report(make_result(tmp_path, **seen, test=test))
    assert "<b>24 held-out samples</b>" in page
    assert cells(tmp_path) == [11, 12]
    assert "35 samples and 31 held-out ones" in page
    unknown = make_result(tmp_path, [0] * 13 + [1] * 11)
    page = report(make_result(tmp_path, **seen, test=unknown))
    assert "clusters of 35 samples, matched" in page
    assert cells(tmp_path) == [15, 20]
    page = report(make_result(tmp_path, [0, 1, 2] * 3, test=test))  # classes of held-out samples alone
    assert "<b>24 held-out samples</b>" in page
    assert "majority class</th>" not in page


def test_clusters_are_listed_with_the_largest_first(tmp_path):
    page = report(make_result(tmp_path, [0] * 3 + [1] * 9 + [2] * 5))
    table = page[page.index('id="clusters"') : page.index("</table>")]
    assert re.findall(r'href="#cluster-(\d)"', table) == ["1", "2", "0"]
    members = re.findall(r'<article id="cluster-(\d)"', page)
    assert members == ["0", "1", "2"]


@pytest.mark.parametrize("value", [True, "text", [1, 2], [[1]]])
def test_only_single_numbers_are_tiles(value):
    assert tiles("svm", {"score": value}) == []
