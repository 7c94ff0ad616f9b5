"""Parquet, JSON lines, gzipped text: the same table gives the same data; lists of numbers are samples."""

import datetime
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core import DeepclustError, InvalidData, InvalidSetting, Storage
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed
from deepclust.core.data.scaling import scaled
from deepclust.plugins.table.table import Table, TableConfig

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
HERE = Storage(Path())
N = 60


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(path, like=None, **settings):
    table = Table(build(TableConfig, {"path": path, **settings}, "data"))
    return table.load(HERE) if like is None else table.load_like(HERE, like)


def office():
    """A table of an office, with cells of their own types."""
    rng = np.random.default_rng(3)
    start = datetime.date(2024, 1, 5)
    return {
        "id": [1000 + int(i) for i in rng.permutation(N)],
        "name": [f"Item {i}" for i in range(N)],
        "city": [("Kyoto", "Lyon", "Porto")[i % 3] for i in range(N)],
        "joined": [start + datetime.timedelta(days=7 * i % 90) for i in range(N)],
        "price": [None if i % 10 == 3 else float(v) for i, v in enumerate(rng.normal(20, 5, N))],
        "paid": [i // 2 % 2 == 0 for i in range(N)],
        "size": [float(v) for v in rng.normal(size=N)],
        "count": [int(v) for v in rng.integers(0, 9, N)],
    }


def as_text(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def write(columns, name):
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if name.endswith(".parquet"):
        parquet.write_table(arrow.table(columns), name, row_group_size=17)
        return name
    if ".jsonl" in name:
        lines = [json.dumps({k: v for k, v in row.items() if v is not None}, default=str) for row in rows]
        text = "\n\n".join(lines)  # blank lines are none
    else:
        mark = "\t" if ".tsv" in name else ","
        lines = [mark.join(columns), *(mark.join(map(as_text, row.values())) for row in rows)]
        text = "\n".join(lines) + "\n"
    data = text.encode()
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return name


KINDS = ["t.csv.gz", "t.tsv.gz", "t.parquet", "t.jsonl", "t.jsonl.gz"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"labels": "city"}, {"id": "name"}, {"columns": "size,price,city"}])
def test_a_table_is_the_same_data_from_any_file(kind, settings):
    plain = load(write(office(), "t.csv"), **settings)
    other = load(write(office(), kind), **settings)
    assert torch.equal(other.x, plain.x)
    assert other.preparation == plain.preparation
    assert (other.files, other.key) == (plain.files, plain.key)
    assert list(other.said) == list(plain.said)
    assert other.description.partition(",")[2] == plain.description.partition(",")[2]
    if "labels" in settings:
        assert np.array_equal(other.truth.labels, plain.truth.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_new_rows_of_any_file_become_what_those_of_the_training_became(kind):
    trained = load(write(office(), "t.csv"))
    new = {name: cells[:7] for name, cells in office().items()}
    assert torch.equal(load(write(new, kind), trained.preparation).x, trained.x[:7])


@pytest.mark.parametrize("kind", ["t.parquet", "t.jsonl"])
def test_numbers_alone_are_read_without_texts(kind):
    rows = np.random.default_rng(0).normal(size=(50, 4))
    columns = {f"c{j}": rows[:, j].tolist() for j in range(4)}
    data = load(write(columns, kind), scale="none")
    assert np.array_equal(data.x.numpy(), rows.astype(np.float32))


@pytest.mark.parametrize("kind", ["t.parquet", "t.jsonl"])
def test_an_odd_cell_is_named_by_its_place(kind):
    columns = {"a": [str(v) for v in range(20)], "b": [f"{v}.5" for v in range(20)]}
    columns["b"][11] = "oops"
    columns["a"][0] = "7"  # else it would count the rows
    where = "row 12" if kind == "t.parquet" else "line 23"
    with pytest.raises(InvalidData, match=rf"t\.{kind[2:]}', {where}, column 'b': 'oops' is no number"):
        load(write(columns, kind), columns="a,b")


def vectors(n=40, dim=70):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, dim)).astype(np.float32) + 10 * (np.arange(n) % 2)[:, None].astype(np.float32)


def embedded(kind, x, **more):
    rows = [f"doc {i}" for i in range(len(x))]
    labels = [f"class {i % 2}" for i in range(len(x))]
    if kind == "jsonl":
        lines = [
            json.dumps({"doc": d, "kind": label, "vector": [float(v) for v in row], "tags": ["a"]})
            for d, label, row in zip(rows, labels, x, strict=True)
        ]
        Path("v.jsonl").write_text("\n".join(lines))
        return "v.jsonl"
    fixed = arrow.FixedSizeListArray.from_arrays(arrow.array(x.reshape(-1)), x.shape[1])
    column = fixed if kind == "fixed" else fixed.cast(arrow.list_(fixed.type.value_type))
    table = {"doc": rows, "kind": labels, "vector": column, "tags": [["a"]] * len(x), **more}
    parquet.write_table(arrow.table(table), "v.parquet", row_group_size=17)
    return "v.parquet"


@pytest.mark.parametrize("kind", ["list", "fixed", "jsonl"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_column_of_lists_is_the_samples(kind, dtype):
    x = vectors().astype(dtype)
    data = load(embedded(kind, x), labels="kind")
    np.save("x.npy", x.astype(np.float16 if dtype == "float16" and kind != "jsonl" else np.float32))
    plain = installed().make("dataset", "array", settings={"path": "x.npy"}).load(HERE)
    assert data.x.dtype == plain.x.dtype
    assert torch.equal(data.slice(0, len(x)), plain.slice(0, len(x)))
    assert (data.key, data.files[7]) == ("doc", "doc 7")
    assert data.truth.names == ("class 0", "class 1")
    assert data.said[0] == "samples: the lists of vector"
    assert torch.equal(load(f"v.{'jsonl' if kind == 'jsonl' else 'parquet'}", data.preparation).x, data.x)
    if kind == "list" and dtype == "float32":  # a model that was trained on the array takes them, too
        assert torch.equal(load("v.parquet", plain.preparation).slice(0, 5), plain.slice(0, 5))


def test_of_several_columns_of_lists_the_one_is_taken_that_is_named():
    x = vectors()
    other = arrow.FixedSizeListArray.from_arrays(arrow.array((2 * x).reshape(-1)), x.shape[1])
    path = embedded("fixed", x, second=other)
    with pytest.raises(InvalidSetting, match=r"2 columns of lists, vector, second; say which"):
        load(path)
    assert np.array_equal(load(path, columns="second").x.numpy(), 2 * x)
    with pytest.raises(InvalidSetting, match="whose cells are lists; name it alone"):
        load(path, columns="second,doc")


@pytest.mark.parametrize(
    ("second", "words"),
    [([1.0], "has 1 number, the first one 2 numbers"), (None, "there is no list")],
)
@pytest.mark.parametrize("kind", ["v.parquet", "v.jsonl"])
def test_lists_that_are_not_alike_are_named(kind, second, words):
    columns = {"v": [[1.0, 2.0], second, [3.0, 4.0]]}
    with pytest.raises(InvalidData, match=rf"(row|line) {'3' if 'json' in kind else '2'}.*{words}"):
        load(write(columns, kind))


def test_bytes_and_wide_integers_keep_their_type_or_become_float32():
    x = np.arange(140).reshape(70, 2)
    for kind, wanted in (("uint8", torch.uint8), ("int16", torch.float32), ("int64", torch.float32)):
        assert load(embedded("fixed", x.astype(kind))).x.dtype == wanted


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.jsonl", b'{"a": 1}\n[1]', "line 2: it is no object"),
        ("t.jsonl", b'{"a": 1}\n{"a":', "line 2: it is no JSON"),
        ("t.jsonl", b'{"a": "\xff"}', "not UTF-8"),
        ("t.jsonl.gz", b'{"a": 1}', "cannot be read"),
        ("t.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-20], "cannot be read"),
        ("t.parquet", b"a,b\n1,2\n", "cannot be read as Parquet"),
        ("t.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_broken_files_are_one_sentence(name, content, words):
    Path(name).write_bytes(content)
    with pytest.raises(DeepclustError, match=words):
        load(name)


def test_without_pyarrow_a_sentence_says_what_to_install():
    write({"a": [1, 2]}, "t.parquet")
    code = "import sys; sys.modules['pyarrow'] = None\nfrom deepclust.cli import main\nmain()"
    found = subprocess.run(
        [sys.executable, "-c", code, "run", "--data", "t.parquet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert "pip install 'deepclust[parquet]'" in found.stderr


def test_a_run_and_predict_take_parquet(tmp_path):
    embedded("fixed", vectors().astype(np.float16))
    asked = [
        "run",
        "--data",
        "v.parquet",
        "--encoder",
        "identity",
        "--clusterer",
        "kmeans",
        "--labels",
        "kind",
    ]
    asked += ["--clusters", "2", "--out", "run", "--evaluator", "clustering", "-q"]
    found = CliRunner().invoke(main, asked)
    assert found.exit_code == 0, found.output
    rows = Path("run/labels.csv").read_text().splitlines()
    assert rows[0].startswith("doc,cluster")
    found = CliRunner().invoke(main, ["predict", "run", "v.parquet", "-o", "new.csv", "-q"])
    assert found.exit_code == 0, found.output
    new = Path("new.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in new] == [row.split(",")[:2] for row in rows]


def test_scaling_of_lists_keeps_the_name_of_their_column():
    data = load(embedded("fixed", vectors()))
    assert data.preparation.extra == scaled(data).preparation.extra == {"vectors": "vector"}
