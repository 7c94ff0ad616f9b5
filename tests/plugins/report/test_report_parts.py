"""What the report's page is made of: neighbours, maps, columns, pictures, curves and words."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepclust.core import Data, Preparation, Storage
from deepclust.core.contract.config import build
from deepclust.plugins.report.column import describe_columns
from deepclust.plugins.report.decoding import decode_samples
from deepclust.plugins.report.evaluator import Report, ReportConfig
from deepclust.plugins.report.history import read_count, read_stages
from deepclust.plugins.report.map import make_map
from deepclust.plugins.report.picture import Pictures
from deepclust.plugins.report.svg import inline
from deepclust.plugins.report.text import percent, shorten
from deepclust.plugins.table.table import Table, TableConfig
from made_result import Halves, make_result, write_logs


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


def test_umap_draws_a_map_that_keeps_groups_apart():
    n = 24
    z = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    z[: n // 2, 0] += 30
    first, again = (make_map(z, z[:2], "umap", 60, 3) for _ in range(2))
    assert np.array_equal(first.points, again.points)
    near, far = first.points[: n // 2], first.points[n // 2 :]
    between = np.linalg.norm(near.mean(axis=0) - far.mean(axis=0))
    assert between > 2 * max(near.std(axis=0).max(), far.std(axis=0).max())
    assert np.allclose(first.centers, first.points[:2], atol=1e-5)


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


def test_zeros_of_a_category_are_shown_as_such():
    rows = np.repeat(np.eye(3), [7, 5, 11], axis=0)
    prepared = Preparation((3,), "float32", tuple("abc"), tuple(rows.mean(axis=0)), tuple(rows.std(axis=0)))
    data = Data(torch.from_numpy(prepared.standardise(rows)), "rows", prepared=prepared)
    found = describe_columns(data, rows.argmax(axis=1), 3)
    every = [*found.means, *found.values(data, np.arange(len(rows)))]
    assert {found.words(j, value) for row in every for j, value in enumerate(row)} == {"0", "1.000"}


def test_cells_are_shown_as_they_were_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {
        "size": ["1.5", "", "2.5", "3", "9", "2.5"],
        "colour": ["red", "blue", "", "green", "red", "blue"],
        "paid": ["yes", "no", "yes", "", "No", "yes"],
        "joined": ["2024-01-02", "2024-03-04", "2024-05-06", "2024-01-02", "", "2024-01-02"],
        "tick": ["x", "", "", "x", "", "x"],
    }
    rows = [",".join(row) for row in zip(*(cells * 5 for cells in given.values()), strict=True)]
    Path("t.csv").write_text("\n".join([",".join(given), *rows]))
    for scale in ("auto", "none"):
        data = Table(build(TableConfig, {"path": "t.csv", "scale": scale}, "data")).load(Storage(Path()))
        found = describe_columns(data.seal(), np.arange(30) % 2, 2)
        chosen = found.distinguishing(0, 9)
        assert {found.fields[j].name for j in chosen} == {*given}, "a category is one column"
        assert len(chosen) == len(given)
        names = [field.name for field in found.fields]
        assert found.title(names.index("colour")) == "colour: blue"
        assert found.words(names.index("colour"), float(found.mean[names.index("colour")])) == "33.3 %"
        cells = found.cells(data.seal(), np.array([3, 2, 1, 4]), [names.index(name) for name in given])
        assert cells == [
            ["3.000", "green", "(empty)", "2024-01-02", "x"],
            ["2.500", "(empty)", "yes", "2024-05-06", "(empty)"],
            ["(empty)", "blue", "no", "2024-03-04", "(empty)"],
            ["9.000", "red", "no", "(empty)", "(empty)"],
        ]


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


def test_what_a_curve_is_stands_beside_it(tmp_path):
    line = {"iteration": 1, "epoch": 1, "loss": 2.0, "accuracy": 0.5}
    for stage, more in (("contrast", {}), ("train", {}), ("embed", {"pull": 1.0, "health/churn": 0.1})):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "log.jsonl").write_text(json.dumps({**line, **more}))
    found = {stage.name: dict(stage.meanings()) for stage in read_stages(tmp_path)}
    assert "no accuracy of classes" in found["contrast"]["accuracy"]
    assert found["train"] == {}, "there it is one of classes"
    assert [*found["embed"]] == ["pull", "churn"]
    result = make_result(tmp_path, clusterer=SimpleNamespace(unsupervised_loss=0.5))
    Report(build(ReportConfig, {"map": "none"}, "report")).evaluate(result)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for said in ("no accuracy of classes", "how far apart neighbours are", "less is better, among runs"):
        assert said in page


@pytest.mark.parametrize("text", ["", "{", "[]", '{"n_clusters": 3}', '{"tried": [3, {"n_clusters": 2}]}'])
def test_a_count_that_cannot_be_read_is_left_out(tmp_path, text):
    (tmp_path / "clusters.json").write_text(text)
    assert read_count(tmp_path) is None


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
