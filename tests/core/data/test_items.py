"""Items: the ids, texts and pictures of rows, in labels.csv, in the report and in folders of links."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from deepclust.cli import main
from deepclust.core import Data, Dataset, InvalidData, Storage
from deepclust.core.contract.registry import installed
from deepclust.core.errors import InvalidSetting
from deepclust.core.toolbox.items import give_items

N = 24
PAIR = ["--encoder", "identity", "--clusterer", "kmeans", "--clusters", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows() -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(N, 70)).astype(np.float16)
    x[::2] += 9
    return x


def items(name="items/items.csv", **change):
    """A table of ids, texts and thumbnails beside it, red and blue ones."""
    folder = Path(name).parent
    folder.mkdir(exist_ok=True)
    for i in range(N):
        Image.new("RGB", (200, 90), ("red", "blue")[i % 2]).save(folder / f"{i}.png")
    columns = {
        "ID": [f"doc-{i:02d}" for i in range(N)],
        "text": [f"the {('red', 'blue')[i % 2]} one\nof row {i} " + "word " * 60 for i in range(N)],
        "path": [f"{i}.png" for i in range(N)],
    } | change
    columns = {key: cells for key, cells in columns.items() if cells is not None}
    table = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if name.endswith(".jsonl"):
        Path(name).write_text("\n".join(map(json.dumps, table)))
    elif name.endswith(".parquet"):
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), name)
    else:
        with open(name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(table)
    return name


def load(**settings) -> Data:
    np.save("x.npy", rows())
    return installed().make("dataset", "array", settings={"path": "x.npy", **settings}).load(Storage(Path()))


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("name", ["items/i.csv", "items/i.parquet", "items/i.jsonl"])
def test_a_table_of_any_kind_says_what_the_rows_are(name):
    data = load(items=items(name))
    assert (data.key, list(data.files[:2]), data.root) == ("ID", ["doc-00", "doc-01"], None)
    assert data.said[0] == f"{Path(name).name}: ids in ID, texts in text, pictures in path"
    assert data.items.texts[1].startswith("the blue one\nof row 1")
    assert (data.items.root / data.items.paths[3]).samefile("items/3.png")
    hidden = data.seal()
    assert hidden.items is hidden.files is None


def test_what_is_not_there_stays_as_it_was():
    only_paths = load(items=items(ID=None, text=None))
    assert (only_paths.key, only_paths.files[2]) == ("path", "2.png")
    only_texts = load(items=items(ID=None, path=None))
    assert only_texts.files is None
    assert only_texts.items.paths is None


def test_rows_of_a_table_and_of_two_splits_have_items_too():
    x = rows()
    np.savez("x.npz", x_train=x[:20], x_test=x[20:])
    data = installed().make(
        "dataset", "array", settings={"path": "x.npz", "split": "train-test", "items": items()}
    )
    data = data.load(Storage(Path()))
    assert (data.files[19], data.test.files[0]) == ("doc-19", "doc-20")
    assert data.test.items.texts[0].startswith("the red one\nof row 20")
    np.savetxt("t.csv", x[:, :3], delimiter=",", header="a,b,c", comments="")
    table = installed().make("dataset", "table", settings={"path": "t.csv", "items": items()})
    assert table.load(Storage(Path())).files[5] == "doc-05"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ID": [f"{i % 23}" for i in range(N)]}, "the rows 1 and 24 have the same id, '0'"),
        ({"ID": ["", *map(str, range(N - 1))]}, "row 1: the id is empty"),
        ({"path": ["nowhere.png", *(f"{i}.png" for i in range(1, N))]}, r"1 file of 24 is not there.*row 1"),
        ({"ID": None, "text": None, "path": None, "x": [1] * N}, "has the columns x; .* id, text or path"),
    ],
)
def test_wrong_items_are_one_sentence(change, words):
    with pytest.raises(InvalidData, match=words):
        load(items=items(**change))


def test_another_number_of_rows_no_file_and_no_table_are_sentences():
    few = Data(torch.zeros(7, 3), "few")
    with pytest.raises(InvalidData, match="24 rows, but there are 7 samples"):
        give_items(few, items())
    with pytest.raises(InvalidData, match=r"items 'no.csv' does not exist"):
        give_items(few, "no.csv")
    np.save("a.npy", rows())
    with pytest.raises(InvalidSetting, match=r"nothing installed reads 'a.npy' as a table"):
        give_items(few, "a.npy")
    assert give_items(few, None) is few
    assert Dataset.cells(Path("a.npy")) is None


def test_data_that_know_of_no_items_refuse_the_option():
    found = invoke("run", "--data", "digits", "--items", items(), *PAIR)
    assert found.exit_code == 2
    assert "--items (data.items) has no effect" in found.output


def test_a_run_shows_faces_and_links_files(tmp_path):
    load()
    lost = Path("items/3.png")
    table = items()
    lost.write_bytes(b"no picture")
    found = invoke("run", "--data", "x.npy", "--items", table, *PAIR, "--out", "run", "--sort-into", "sorted")
    assert found.exit_code == 0, found.output
    with open("run/labels.csv", newline="") as file:
        labels = list(csv.DictReader(file))
    assert [row["ID"] for row in labels] == [f"doc-{i:02d}" for i in range(N)]
    assert labels[1]["text"].startswith("the blue one of row 1 word")
    assert max(len(row["text"]) for row in labels) == 120
    colours = [{row["cluster"] for row in labels[i::2]} for i in (0, 1)]
    assert sorted(map(len, colours)) == [1, 1]
    page = Path("run/report.html").read_text()
    assert page.count("data:image/jpeg") >= 10
    assert "doc-00" in page
    assert "the red one of row" in page
    links = list(Path("sorted").glob("cluster-*/*.png"))
    assert len(links) == N
    assert all(link.resolve().parent == (tmp_path / "items").resolve() for link in links)
    assert {
        labels[int(link.name.split(".")[0])]["cluster"] for link in Path("sorted/cluster-00").iterdir()
    } == {"0"}
    new = invoke("predict", "run", "x.npy", "-s", f"data.items={table}", "-o", "new.csv", "-q")
    assert new.exit_code == 0, new.output
    assert Path("new.csv").read_text().startswith("ID,cluster")


def test_texts_alone_are_shown_as_words():
    load()
    table = items(path=None, ID=None)
    found = invoke("run", "--data", "x.npy", "--items", table, *PAIR, "--out", "run", "-q")
    assert found.exit_code == 0, found.output
    page = Path("run/report.html").read_text()
    assert '<th scope="col">text</th>' in page
    assert "the blue one of row" in page


def test_samples_without_a_file_are_not_sorted():
    load()
    table = items(path=["", *(f"{i}.png" for i in range(1, N))])
    found = invoke(
        "run", "--data", "x.npy", "--items", table, *PAIR, "--out", "run", "--sort-into", "s", "-q"
    )
    assert found.exit_code == 2
    assert "1 sample of 24 has none among the items" in found.output
    assert not Path("run").exists()
