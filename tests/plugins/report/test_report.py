"""The report's page: its numbers held against naive counts, and every kind of data."""

import base64
import io
import json
import re
from collections import Counter
from html import escape
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from deepclust.core import Data, Preparation, Truth
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.testing import check_evaluator
from deepclust.plugins.report.history import read_count
from deepclust.plugins.report.sheet import MOST_EXAMPLES
from deepclust.plugins.report.summary import confuse
from made_result import Halves, make_result, write_logs


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
    assert alts[-len(expected) :] == expected
    assert len(alts) == len(expected) + 3 * 2  # the prototypes stand in the table as well
    assert re.search(r"<figcaption>1 or 2</figcaption>", page)


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


def test_rows_of_the_neighbours_that_clusters_were_learned_from(tmp_path):
    result = make_result(tmp_path)
    assert "learned from" not in report(result)
    neighbours = (torch.arange(60)[:, None] + torch.tensor([3, 1, 6])) % 60  # clusters are i % 3
    neighbours[0, 1:] = -1
    page = report(make_result(tmp_path, clusterer=SimpleNamespace(neighbours=neighbours)), neighbours="2")
    check_page(page)
    part = page[page.index("learned from") : page.index("</section>", page.index("learned from"))]
    rows = part.split('<div class="row">')[1:]
    assert len(rows) == 6
    for row in rows:
        query, *near = (int(i) for i in re.findall(r'title="sample (\d+)', row))
        assert near == [i for i in neighbours[query, :2].tolist() if i >= 0]
        assert row.count(f"in {(query + 1) % 3}") == (len(near) == 2)
    there = [len(re.findall("title=", row)) - 1 for row in rows]
    assert f"{100 * len(rows) / sum(there):.1f}" in part  # all the first ones are in the cluster


def test_notices_stand_at_the_top_and_each_cluster_has_prototypes_in_the_table(tmp_path):
    said = "2 of 5 clusters are empty: <ask> for fewer."
    result = make_result(tmp_path, protocol={"trained on": "60", "notices": [said]})
    page = report(result)
    check_page(page)
    assert page.index("2 of 5 clusters are empty: &lt;ask&gt; for fewer.") < page.index('id="clusters"')
    assert "notices:" not in page
    assert "Notice" not in report(make_result(tmp_path))
    table = page[page.index('<section id="clusters">') : page.index("</table>")]
    for cluster in range(3):
        row = table[table.index(f"#cluster-{cluster}") :]
        best = sorted(range(cluster, 60, 3), key=lambda i: -result.confidence[i])[:3]
        assert re.findall(r'alt="sample (\d+)"', row[: row.index("</tr>")]) == [str(i) for i in best]


def test_an_unhealthy_result_has_a_banner_above_all_else(tmp_path):
    ill, other = "2 of 5 clusters are empty: <ask> for fewer.", "Self-labelling was undone."
    said = {
        "protocol": {"trained on": "60", "notices": [other, ill]},
        "health": {"healthy": False, "reasons": [ill]},
    }
    page = report(make_result(tmp_path, **said))
    assert check_page(page).all("section")[0]["class"] == "ill"
    banner = page[page.index("<body>") : page.index("<header>")]
    assert "Unhealthy result" in banner
    assert escape(ill) in banner
    assert other not in banner
    assert page.count(escape(ill)) == 1
    assert f"<b>Notice</b> {other}" in page
    said["health"] = {"healthy": True, "reasons": []}
    for fine in (said, {}):
        page = report(make_result(tmp_path, **fine))
        assert "Unhealthy" not in page
        assert "healthy" not in "".join(check_page(page).text)
