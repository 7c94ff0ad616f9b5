"""The report: what it says held against naive counts, every kind of data, and a real browser."""

import base64
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepclust.core import Data, InvalidSetting, Preparation, Result, Truth
from deepclust.core.config import build
from deepclust.core.registry import installed
from deepclust.core.testing import check_evaluator
from deepclust.plugins.report.column import describe_columns
from deepclust.plugins.report.decoding import decode_samples
from deepclust.plugins.report.history import read_count, read_stages
from deepclust.plugins.report.map import make_map
from deepclust.plugins.report.neighbour import nearest
from deepclust.plugins.report.picture import Pictures
from deepclust.plugins.report.sheet import MOST_EXAMPLES
from deepclust.plugins.report.summary import confuse
from deepclust.plugins.report.svg import inline
from deepclust.plugins.report.text import percent, shorten

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = '<script>document.title="run"</script>"&\'.png'


class Halves(nn.Module):
    """An encoder that keeps the first values, and decodes them with zeros behind."""

    def __init__(self, shape, latent_dim):
        super().__init__()
        self.shape, self.latent_dim = shape, latent_dim

    def forward(self, x):
        return x.flatten(1)[:, : self.latent_dim]

    def decode(self, z):
        size = int(np.prod(self.shape))
        return nn.functional.pad(z, (0, size - self.latent_dim)).unflatten(1, self.shape)


def make_result(folder, n=60, k=3, shape=(1, 6, 6), dim=4, truth="known", dtype="float32", **changes):
    """A result with groups that show; changes: fields of Result that are to be others."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    x = 0.5 + 0.3 * rng.normal(size=(k, *shape))[labels] + 0.05 * rng.normal(size=(n, *shape))
    x = np.clip(x, 0, 1)
    x = (x * 255).astype(np.uint8) if dtype == "uint8" else x.astype(np.float32)
    z = (3 * rng.normal(size=(k, dim))[labels] + rng.normal(size=(n, dim))).astype(np.float32)
    centers = np.stack([z[labels == c].mean(axis=0) for c in range(k)])
    confidence = rng.uniform(0.5, 1, n).astype(np.float32)
    codes = np.where(rng.random(n) < 0.8, (labels + 1) % k, rng.integers(0, k, n))
    made = {
        "z": z, "labels": labels, "confidence": confidence, "second": (labels + 1) % k,
        "second_confidence": (1 - confidence) * rng.random(n).astype(np.float32),
        "distance": np.linalg.norm(z - centers[labels], axis=1), "centers": centers, "n_clusters": k,
        "truth": Truth(codes, tuple(f"class {c}" for c in range(k))) if truth == "known" else truth,
        "data": Data(torch.from_numpy(x), f"{n} samples").seal(), "encoder": nn.Identity(),
        "clusterer": None, "folder": folder, "seed": 0, "quiet": True,
    }  # fmt: skip
    return Result(**{**made, **changes})


def report(result, **settings):
    """The page of a result, as text."""
    cls = installed().load("evaluator", "report")
    assert cls(build(cls.Config, {"map": "none", **settings}, "report")).evaluate(result) == {}
    return (result.folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The elements of a page, its text, and the rows of its tables."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self.rows, self.open = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == [], "each element is closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data.strip()

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def check_page(page):
    """What must hold of every page: well formed, nothing from outside, pictures with a text."""
    assert "http://" not in page
    assert "https://" not in page
    assert re.findall(r"url\((?!#)", page) == []
    reader = Reader(page)
    assert "script" not in {tag for tag, _ in reader.elements}
    assert reader.all("link") == []
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert [i for i, count in Counter(ids).items() if count > 1] == []
    for tag, attributes in reader.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:image/")), (tag, attributes[name])
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    for attributes in reader.all("img"):
        assert attributes["alt"]
        Image.open(io.BytesIO(base64.b64decode(attributes["src"].split(",")[1]))).verify()
    assert len(page) < 15e6
    return reader


def test_it_keeps_an_evaluators_promises(tmp_path):
    check_evaluator("report", tmp_path)
    reader = check_page((tmp_path / "report.html").read_text())
    assert len([a for a in reader.all("section") if a["id"] == "decoded"]) == 1


def test_majority_and_share_are_counts(tmp_path):
    rng = np.random.default_rng(1)
    n, k = 200, 4
    labels, codes = rng.integers(0, k, n), rng.integers(-1, 6, n)
    truth = Truth(codes, tuple("abcdef"))
    rows = check_page(report(make_result(tmp_path, n=n, k=k, labels=labels, truth=truth))).rows
    for cluster in range(k):
        known = [truth.names[c] for c, own in zip(codes, labels, strict=True) if own == cluster and c >= 0]
        counts = Counter(known)
        row = next(r for r in rows if r[0] == str(cluster))
        assert row[1] == str((labels == cluster).sum())
        assert counts[row[3]] == max(counts.values())
        assert row[4] == f"{100 * max(counts.values()) / len(known):.1f} %"


@pytest.mark.parametrize("classes", [2, 5, 9])
def test_the_confusion_counts_every_known_sample_once(classes):
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, 5, 300)
    codes = rng.integers(-1, classes, 300)
    found = confuse(Truth(codes, tuple(map(str, range(classes)))), labels, 5)
    assert found.counts.sum() == (codes >= 0).sum()
    assert sorted(found.rows) == list(range(classes))
    assert sorted(found.columns) == list(range(5))
    for c in range(classes):
        for k in range(5):
            assert found.counts[c, k] == ((codes == c) & (labels == k)).sum()
    assert found.matched == min(classes, 5)
    cls = installed().load("evaluator", "clustering")
    score = cls(build(cls.Config, {}, "clustering")).evaluate(
        make_result(None, n=300, k=5, labels=labels, truth=Truth(codes, tuple(map(str, range(classes)))))
    )
    right = np.trace(found.ordered()[: found.matched, : found.matched])
    assert right / (codes >= 0).sum() == pytest.approx(score["accuracy"])
    assert confuse(None, labels, 5) is None
    assert confuse(Truth(np.full(300, -1), ()), labels, 5) is None


@pytest.mark.parametrize(("n", "dim", "neighbours"), [(50, 3, 8), (5, 1, 8), (3000, 2, 3)])
def test_neighbours_are_those_of_brute_force(n, dim, neighbours, monkeypatch):
    monkeypatch.setattr("deepclust.plugins.report.neighbour.CHUNK", 97)
    z = np.random.default_rng(n).normal(size=(n, dim)).astype(np.float32)
    queries = np.array([0, n // 2, n - 1])
    found = nearest(z, queries, neighbours)
    for query, index, distance in zip(queries, found.index, found.distance, strict=True):
        far = np.sqrt(((z.astype(np.float64) - z[query]) ** 2).sum(axis=1))
        far[query] = np.inf
        assert index.tolist() == np.argsort(far)[: min(neighbours, n - 1)].tolist()
        assert distance == pytest.approx(far[index], rel=1e-5)


def test_neighbours_of_equal_codes_are_others():
    found = nearest(np.ones((40, 3), np.float32), np.array([0, 20, 39]), 6)
    assert found.index.shape == (3, 6)
    for query, index in zip([0, 20, 39], found.index, strict=True):
        assert query not in index
        assert len(set(index.tolist())) == 6


def test_prototypes_are_the_most_confident_and_doubtful_the_least_decided(tmp_path):
    result = make_result(tmp_path, truth=None)
    page = report(result, prototypes="2", doubtful="1", neighbours="0")
    alts = [a["alt"] for a in check_page(page).all("img")]
    expected = []
    for cluster in range(3):
        members = np.flatnonzero(result.labels == cluster)
        best = members[np.argsort(-result.confidence[members])][:2]
        margin = (result.confidence - result.second_confidence)[members]
        expected += [f"sample {i}" for i in [*best, members[margin.argmin()]]]
    assert alts == expected
    assert re.search(r"<figcaption>1 or 2</figcaption>", page)


def test_the_map_is_seeded_and_holds_as_many_as_asked():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 5)).astype(np.float32)
    centers = np.vstack([z[:2], np.full((1, 5), np.nan)])
    first, again = (make_map(z, centers, "tsne", 40, 2**63 - 1) for _ in range(2))
    assert len(set(first.index.tolist())) == len(first.points) == 40
    assert np.array_equal(first.points, again.points)
    assert np.isfinite(first.points).all()
    assert np.isfinite(first.centers).all(axis=1).tolist() == [True, True, False]
    assert not np.array_equal(first.index, make_map(z, centers, "tsne", 40, 1).index)


def test_the_map_keeps_groups_together():
    labels = np.arange(90) % 3
    z = (np.eye(3, 6)[labels] * 20 + np.random.default_rng(0).normal(size=(90, 6))).astype(np.float32)
    where = make_map(z, np.eye(3, 6) * 20, "tsne", 90, 0)
    far = np.linalg.norm(where.points[:, None] - where.points[None], axis=2)
    np.fill_diagonal(far, np.inf)
    assert (labels[far.argmin(axis=1)] == labels).mean() > 0.98
    nearest_center = np.linalg.norm(where.points[:, None] - where.centers[None], axis=2).argmin(axis=1)
    assert (nearest_center == labels).mean() > 0.98


@pytest.mark.parametrize("n", [3, 4, 10])
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_small_and_equal_codes_have_a_map(n, dim):
    for z in (np.random.default_rng(0).normal(size=(n, dim)), np.ones((n, dim))):
        where = make_map(z.astype(np.float32), z[:2], "tsne", 2000, 0)
        assert where.points.shape == (n, 2)
        assert np.isfinite(where.points).all()
        if dim == 2:
            assert where.points == pytest.approx(z)


def test_umap_that_is_not_installed_is_one_sentence(monkeypatch):
    cls = installed().load("evaluator", "report")
    find = "deepclust.plugins.report.evaluator.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name: None)
    with pytest.raises(InvalidSetting, match=r"pip install 'deepclust\[umap\]'"):
        cls(build(cls.Config, {"map": "umap"}, "report"))


@pytest.mark.slow
def test_umap_draws_a_map():
    pytest.importorskip("umap")
    for n in (6, 60):
        z = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
        first, again = (make_map(z, z[:2], "umap", 50, 3) for _ in range(2))
        assert np.array_equal(first.points, again.points)
        assert np.isfinite(first.points).all()


def test_columns_are_in_the_users_units():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 4)) * [1, 10, 100, 0] + [0, 5, 1e4, 7]
    labels = rng.integers(0, 3, 500)
    rows[labels == 1, 2] += 500
    std = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1)
    prepared = Preparation((4,), "float32", tuple("abcd"), tuple(rows.mean(axis=0)), tuple(std))
    scaled = torch.from_numpy(prepared.standardise(rows))
    found = describe_columns(Data(scaled, "rows", prepared=prepared), labels, 4)
    assert found.mean == pytest.approx(rows.mean(axis=0), rel=1e-4, abs=1e-3)
    assert found.std == pytest.approx(rows.std(axis=0), rel=1e-4, abs=1e-3)
    for k in range(3):
        assert found.means[k] == pytest.approx(rows[labels == k].mean(axis=0), rel=1e-4, abs=1e-2)
    assert np.isnan(found.means[3]).all()
    assert found.distinguishing(1, 2)[0] == 2
    assert found.difference(1)[3] == 0
    data = Data(scaled, "rows", prepared=prepared)
    assert found.values(data, np.array([3, 1])) == pytest.approx(rows[[3, 1]], rel=1e-4, abs=1e-2)


def test_rows_are_shown_as_tables(tmp_path):
    prepared = Preparation((3,), "float32", ("height", "<b>weight</b>", "age"), (10.0, 0, 0), (2.0, 1, 1))
    x = torch.zeros(30, 3)
    x[::3, 0] = 5.0
    data = Data(x, "people", prepared=prepared).seal()
    names = [f"person-{i}" for i in range(30)]
    page = report(make_result(tmp_path, n=30, data=data, shape=(3,), files=names, key="id"))
    reader = check_page(page)
    assert reader.all("img") == []
    heights = [row for row in reader.rows if row[0] == "height"]
    assert [row[1:3] for row in heights] == [["20.00", "13.33"], ["10.00", "13.33"], ["10.00", "13.33"]]
    assert "<b>weight</b>" not in page
    assert "person-3" in {row[0] for row in reader.rows}
    assert "id" in {row[0] for row in reader.rows}


def test_pictures_show_the_values():
    x = torch.zeros(5, 3, 4, 6, dtype=torch.uint8)
    x[2, 0], x[2, 1, 0, 0] = 200, 77
    pictures = Pictures(Data(x, "images"), 0)
    pictures.make(np.array([2, 4, 2]))
    uri = pictures[2]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
    assert image.tolist() == x[2].permute(1, 2, 0).tolist()
    assert len(pictures) == 2
    assert pictures.notes == []


def test_pictures_of_other_values_and_channels():
    rng = np.random.default_rng(0)
    wide = Pictures(Data(torch.from_numpy(rng.normal(size=(50, 2, 5, 5)).astype(np.float32)) * 30, "x"), 0)
    wide.make(np.arange(50))
    assert any("mean of the 2 channels" in note for note in wide.notes)
    assert any("black" in note for note in wide.notes)
    large = Pictures(Data(torch.rand(3, 3, 400, 300), "x"), 0)
    large.make(np.array([1]))
    shown = Image.open(io.BytesIO(base64.b64decode(large[1].split(",")[1])))
    assert shown.size == (84, 112)
    for values in (torch.full((4, 1, 3, 3), 7.0), torch.full((4, 1, 3, 3), -1.0)):
        Pictures(Data(values, "x"), 0).make(np.arange(4))


def test_what_the_decoder_makes_is_measured():
    shape, n = (1, 4, 4), 12
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    index = np.array([1, 5, 7, 11])
    made = decode_samples(Halves(shape, 8), Data(x, "x"), index, 0)
    chosen = x[index].flatten(1)
    lost = float(chosen[:, 8:].square().sum()) / chosen.numel()
    assert made.error(made.reconstruction) == pytest.approx(lost, rel=1e-5)
    masked = (made.noisy.flatten(1) != chosen).float().mean()
    assert 0.05 < masked < 0.4
    assert torch.equal(made.noisy[made.noisy != 0], made.original[made.noisy != 0])
    assert made.variance() == pytest.approx(float(chosen.var(0, correction=0).mean()), rel=1e-5)
    assert decode_samples(nn.Identity(), Data(x, "x"), index, 0) is None


def write_logs(folder):
    for stage, loss in (("encoder/layer0", 1.0), ("encoder/finetune", 100.0), ("clusterer/refine", 0.0)):
        (folder / stage).mkdir(parents=True)
        lines = [
            {"iteration": 8 * i, "epoch": i, "seconds": 0.1, "lr": 0.1, "loss": loss / i**3, "change": 0.1}
            for i in range(1, 9)
        ]
        text = "\n".join(json.dumps(line) for line in lines)
        (folder / stage / "log.jsonl").write_text(text + '\n{"iteration": 72, "ep')


def test_the_curves_of_every_stage_are_read(tmp_path):
    write_logs(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/encoder").symlink_to(tmp_path / "elsewhere/encoder")
    stages = read_stages(tmp_path / "run")
    assert [s.name for s in stages] == ["encoder/layer0", "encoder/finetune"]
    assert stages[0].unit == "epoch"
    assert set(stages[0].curves) == {"loss", "change"}
    x, y = stages[1].curves["loss"]
    assert x == list(range(1, 9))
    assert y == pytest.approx([100 / i**3 for i in range(1, 9)])


def test_figures_open_and_stages_and_counts_are_shown(tmp_path):
    write_logs(tmp_path)
    tried = [{"n_clusters": k, "score": 1 / k, "stability": 0.5} for k in range(2, 6)]
    count = {"n_clusters": 3, "sure": "<i>quite</i>", "tried": tried}
    (tmp_path / "clusters.json").write_text(json.dumps(count))
    assert read_count(tmp_path)["tried"] == tried
    page = report(make_result(tmp_path), map="tsne")
    check_page(page)
    assert "&lt;i&gt;quite&lt;/i&gt;" in page
    for stage in ("encoder/layer0", "encoder/finetune", "clusterer/refine"):
        assert f"<b>{stage}</b>" in page
    names = {p.stem for p in (tmp_path / "figures").iterdir()}
    assert names == {
        "map-clusters", "map-classes", "confusion", "sizes", "clusters",
        "loss-encoder-layer0", "loss-encoder-finetune", "loss-clusterer-refine",
    }  # fmt: skip
    for path in (tmp_path / "figures").iterdir():
        if path.suffix == ".png":
            Image.open(path).verify()
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("}svg")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"n_clusters": 3}', '{"tried": [3, {"n_clusters": 2}]}'])
def test_a_count_that_cannot_be_read_is_left_out(tmp_path, text):
    (tmp_path / "clusters.json").write_text(text)
    assert read_count(tmp_path) is None


def test_the_same_result_gives_the_same_page(tmp_path):
    pages = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        pages.append(report(make_result(tmp_path / name), map="tsne"))
    assert pages[0] == pages[1]
    for path in (tmp_path / "first/figures").iterdir():
        assert path.read_bytes() == (tmp_path / "second/figures" / path.name).read_bytes()


def with_empty_clusters(folder):
    result = make_result(folder, k=6)
    labels = np.where(result.labels > 2, 0, result.labels)
    centers = np.where(np.arange(6)[:, None] > 2, np.nan, result.centers)
    return make_result(folder, k=6, labels=labels, centers=centers, truth=None)


KINDS = {
    "no truth": lambda f: make_result(f, truth=None),
    "nothing known": lambda f: make_result(f, truth=Truth(np.full(60, -1), ())),
    "some unknown": lambda f: make_result(f, truth=Truth(np.arange(60) % 4 - 1, ("a", "b", "c"))),
    "two clusters": lambda f: make_result(f, k=2),
    "a hundred clusters": lambda f: make_result(f, n=2400, k=100),
    "empty clusters": with_empty_clusters,
    "one filled cluster": lambda f: make_result(f, labels=np.zeros(60, np.int64)),
    "ten samples": lambda f: make_result(f, n=10),
    "one dimension": lambda f: make_result(f, dim=1),
    "two dimensions": lambda f: make_result(f, dim=2),
    "equal codes": lambda f: make_result(f, z=np.ones((60, 4), np.float32)),
    "many classes": lambda f: make_result(
        f, n=400, truth=Truth(np.arange(400) % 200, tuple(f"a long class name {i}" for i in range(200)))
    ),
    "bytes of three channels": lambda f: make_result(f, shape=(3, 60, 40), dtype="uint8"),
    "five channels": lambda f: make_result(f, shape=(5, 7, 7)),
    "rows": lambda f: make_result(f, shape=(9,), truth=None),
    "rows of bytes": lambda f: make_result(f, shape=(9,), dtype="uint8"),
    "one column": lambda f: make_result(f, shape=(1,)),
    "another shape": lambda f: make_result(f, shape=(4, 3), encoder=Halves((4, 3), 4)),
    "decoded rows": lambda f: make_result(f, shape=(9,), encoder=Halves((9,), 4)),
    "dollars": lambda f: make_result(f, truth=Truth(np.arange(60) % 3, ("$\\frac", "$", "_^{"))),
    "half characters": lambda f: make_result(
        f, files=[f"a\udcff\x00\n{i}.png" for i in range(60)],
        truth=Truth(np.arange(60) % 3, ("\udcff", "\x00\x1b", "\uffff"))),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_has_a_report(tmp_path, kind):
    check_page(report(KINDS[kind](tmp_path), map="tsne", map_samples="60"))


def test_many_samples_and_clusters_make_a_bounded_page(tmp_path):
    n, k = 100_000, 150
    result = make_result(tmp_path, n=n, k=k, shape=(3, 6, 6), dtype="uint8")
    reader = check_page(report(result, map="tsne", map_samples="50"))
    assert len([a for a in reader.all("article")]) == k
    assert MOST_EXAMPLES / 2 < len(reader.all("img")) < MOST_EXAMPLES + 400
    assert "fewer are shown" in "".join(reader.text)


def test_names_with_markup_are_shown_as_text(tmp_path):
    page = report(make_nasty(tmp_path), map="tsne")
    reader = check_page(page)
    assert NASTY in {a["alt"] for a in reader.all("img")}
    assert "<img src=x" in "".join(reader.text)
    assert NASTY in unescape(page)


def make_nasty(folder):
    """Every text that comes from a user holds markup, and some are long."""
    write_logs(folder)
    names = ("<img src=x onerror=alert(1)>", '"><b>', "{{ 7 * 7 }}" + "long" * 40)
    files = [NASTY if i % 2 else f"{'long-name' * 20}{i}.png" for i in range(60)]
    result = make_result(
        folder, truth=Truth(np.arange(60) % 3, names), files=files, encoder=Halves((1, 6, 6), 4),
        record={
            "command": ["run", "--data", NASTY, "--out", "x" * 200],
            "request": {"encoder": {"name": "</style>", "settings": {"hidden": [5, 6], "x": None}}},
            "versions": {"plugins": {"a": "b" * 300}},
        },
        scores={"protocol": {"trained on": "<i>data</i>"}, "clustering": {"accuracy": 0.5, "<u>": 3}},
    )  # fmt: skip
    return replace(result, data=Data(result.data.x, '</title><script>alert("title")</script>').seal())


def test_an_svg_is_put_into_the_page_in_its_colours():
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" '
        b'viewBox="0 0 9 9"><metadata>x</metadata><style>*{}</style><path id="a" style="fill: #1e2227"/>'
        b'<use xlink:href="#a" clip-path="url(#c)"/><text>id="a" &lt;b&gt;</text></svg>'
    )
    page = inline(svg, "name", 'an "alt"')
    assert "http" not in page
    assert "metadata" not in page
    assert "fill: currentColor" in page
    assert 'href="#name-a"' in page
    assert "url(#name-c)" in page
    assert 'id="a" &lt;b&gt;' in page


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0 %"), (1e-5, "< 0.1 %"), (0.5, "50.0 %"), (0.99999, "99.9 %"), (1, "100 %")]
)
def test_only_none_and_all_are_0_and_100_percent(share, shown):
    assert percent(share) == shown


def test_names_are_cut_where_they_do_not_differ():
    assert shorten("short", 5) == "short"
    assert shorten("a-long-prefix-of-all-7.png", 11) == "a-lon\u20267.png"
    for length in range(2, 12):
        assert len(shorten("x" * 40, length)) == length


PROBE = """<script>
const found = {errors: []};
addEventListener("error", e => found.errors.push(String(e.message || e.target.outerHTML)), true);
addEventListener("load", () => {
  const images = [...document.images];
  found.images = images.length;
  found.broken = images.filter(i => !i.complete || !i.naturalWidth).length;
  found.width = document.documentElement.clientWidth;
  found.scroll = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  found.wide = [...document.querySelectorAll("body *")].filter(e => {
    for (let p = e; p; p = p.parentElement) if (p.classList.contains("scroll")) return false;
    return e.getBoundingClientRect().right > found.width + 1;
  }).map(e => e.outerHTML.slice(0, 200));
  found.title = document.title;
  found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  found.colours = [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor];
  found.svg = [...document.querySelectorAll("svg text")].map(e => getComputedStyle(e).fill);
  parent.postMessage(JSON.stringify(found), "*");
});
</script>"""


def browse(page: Path, width: int, *, dark: bool = False) -> tuple[dict, list[str]]:
    """What a headless browser finds in a page of that width, and the lines of its console."""
    copy = page.with_name("probe.html")
    text = re.sub(r"<meta http-equiv[^>]*>", PROBE, page.read_text(encoding="utf-8"))  # it forbids scripts
    copy.write_text(text, encoding="utf-8")
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<body><iframe src="probe.html" style="width:{width}px;height:800px;border:0"></iframe>'
        '<pre id="o"></pre>'
        "<script>onmessage = e => { document.getElementById('o').textContent = e.data }</script>"
    )
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--enable-logging=stderr", "--v=0",
        "--hide-scrollbars",
        "--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="o">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(found[1])), console


def luminance(colour: str) -> float:
    red, green, blue = (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
@pytest.mark.parametrize("kind", ["pictures", "rows"])
def test_a_browser_shows_it(tmp_path, width, dark, kind):
    result = make_nasty(tmp_path)
    if kind == "rows":
        columns = tuple(f"{'a-very-long-column' * 4}{i}" for i in range(8))
        data = Data(torch.rand(60, 8), "rows", prepared=Preparation((8,), "float32", columns))
        result = replace(result, data=data.seal(), encoder=nn.Identity())
    page = report(result, map="tsne")
    found, console = browse(tmp_path / "report.html", width, dark=dark)
    assert console == []
    assert found["errors"] == []
    assert found["images"] == len(Reader(page).all("img"))
    assert found["broken"] == 0
    assert found["width"] == width
    assert found["scroll"] <= width, found["wide"]
    assert found["wide"] == []
    assert found["title"] != "run"
    assert found["dark"] is dark
    ink, paper = (luminance(colour) for colour in found["colours"])
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
    assert (ink > paper) is dark
    assert any(fill == found["colours"][0] for fill in found["svg"])
