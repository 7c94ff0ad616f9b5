"""Tables: what is read is what a plain reader reads, and what is wrong is named by line and column."""

import csv
import io
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core import DeepclustError, Preparation, Storage
from deepclust.core.contract.config import build
from deepclust.core.testing import conformance
from deepclust.plugins.table.table import Table, TableConfig

HERE = Storage(Path())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text, name="t.csv", encoding="utf-8"):
    Path(name).write_bytes(text.encode(encoding))
    return name


def load(path="t.csv", like=None, **settings):
    table = Table(build(TableConfig, {"path": path, **settings}, "data"))
    return table.load(HERE) if like is None else table.load_like(HERE, like)


def test_columns_are_standardised_or_left():
    write("a,b,c\n1,10,5\n2,20,5\n6,0,5\n")
    plain = load(scale="none")
    assert plain.x.tolist() == [[1, 10, 5], [2, 20, 5], [6, 0, 5]]
    numbers = {name: {"kind": "number", "fill": fill} for name, fill in (("a", 2), ("b", 10), ("c", 5))}
    assert plain.preparation == Preparation(
        (3,), "float32", ("a", "b", "c"), seen=((0, 20),), encoding=numbers
    )
    assert plain.said == ["numbers: a, b, c"]
    data = load(scale="standard")
    assert data.x.dtype == torch.float32
    for j, column in enumerate(([1, 2, 6], [10, 20, 0])):
        center, width = statistics.fmean(column), statistics.pstdev(column)
        assert data.x[:, j].tolist() == pytest.approx([(v - center) / width for v in column])
    assert data.x[:, 2].tolist() == [0, 0, 0]  # constant: no division by 0
    assert data.preparation.std[2] == 1
    assert data.said == ["numbers: a, b, c", "3 columns: each to mean 0 and deviation 1"]
    assert data.files is None
    assert data.truth is None


def test_columns_of_one_kind_keep_their_proportions_and_others_do_not():
    rows = np.random.default_rng(0).normal(size=(40, 3)) * [1, 2, 3] + [0, 5, 9]
    write(table_of(rows.tolist()))
    data = load()
    assert data.x.numpy() == pytest.approx((rows - rows.mean(0)) / np.sqrt(rows.var(0).mean()), abs=1e-6)
    assert "all divided by" in data.said[1]
    rows[:, 1] *= 5000
    write(table_of(rows.tolist()))
    data = load()
    assert data.x.numpy() == pytest.approx((rows - rows.mean(0)) / rows.std(0), abs=1e-6)
    assert "because their ranges differ" in data.said[1]


def test_an_absurd_value_is_named_by_its_column():
    rows = np.random.default_rng(0).normal(size=(40, 3)).tolist()
    rows[6][1] = 1e20
    write(table_of(rows))
    data = load()
    assert "sample 6, column 'b'" in data.notices[0]
    assert data.x.abs().max() < 20
    write(table_of([[5.0, 400.0, 1.0], [1.0, 2.0, 3.0]]), "new.csv")
    assert "1 of 6 values (17%)" in load("new.csv", like=data.preparation).notices[0]


def test_values_far_from_zero_keep_their_differences():
    start = 1_700_000_000  # seconds: float32 knows these only to 128
    write("time\n" + "".join(f"{start + i}\n" for i in range(50)))
    steps = np.diff(load().x[:, 0].numpy())
    assert steps == pytest.approx(np.full(49, 1 / statistics.pstdev(range(50))), rel=1e-4)
    write("x\n" + "0.1\n" * 7)
    assert load().x.abs().max() == 0  # although the mean of 0.1s may not be 0.1


def quoted(cell, delimiter, generator):
    special = any(c in cell for c in (delimiter, '"', "\n", "\r"))
    return '"' + cell.replace('"', '""') + '"' if special or generator.random() < 0.3 else cell


@pytest.mark.parametrize("seed", range(12))
def test_a_table_is_read_as_a_plain_reader_does(seed):
    """Quotes, line ends, delimiters, blank lines and byte order marks, drawn at random."""
    generator = np.random.default_rng(seed)
    delimiter = str(generator.choice([",", ";", "\t", "|"]))
    end = str(generator.choice(["\n", "\r\n"]))
    texts = ["plain", f"a{delimiter}b", 'say "x"', "two\nlines", "ünï", " spaced ", ""]
    rows = [
        [
            texts[generator.integers(len(texts))] + str(i),
            *(f"{value:.7g}" for value in generator.normal(size=3) * 1e3),
            str(generator.choice(texts)),
        ]
        for i in range(40)
    ]
    header = ["na me", "x", "y y", f"z{delimiter}1", "note"]
    lines = [delimiter.join(quoted(c, delimiter, generator) for c in row) for row in [header, *rows]]
    lines.insert(7, "")
    text = end.join(lines) + (end if seed % 2 else "")
    write(text, encoding="utf-8-sig" if seed % 3 == 0 else "utf-8")
    data = load(id="na me", columns=("x", "y y", f"z{delimiter}1"), scale="none")
    plain = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    assert list(data.files) == [row["na me"] for row in plain]
    wanted = [[float(row[name]) for name in ("x", "y y", f"z{delimiter}1")] for row in plain]
    assert data.x.numpy() == pytest.approx(np.array(wanted, np.float32), abs=0)
    assert data.key == "na me"


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".TSV"])
def test_endings_and_delimiters(ending):
    for delimiter in (",", ";", "\t"):
        path = write(f"a{delimiter}b\n1{delimiter}2\n3{delimiter}4\n", f"t{ending}")
        assert load(path, scale="none").x.tolist() == [[1, 2], [3, 4]]
    assert load(write("only\n1\n2\n", f"t{ending}"), scale="none").x.tolist() == [[1], [2]]
    assert load(write('"a, b";c\n1;2\n', f"t{ending}"), scale="none").preparation.columns == ("a, b", "c")


def test_decimal_commas():
    write("a;b\n1,5;-2\n0,25;1e3\n")
    assert load(decimal="comma", scale="none").x.tolist() == [[1.5, -2], [0.25, 1000]]
    assert load(scale="none").x.tolist() == [[1.5, -2], [0.25, 1000]]
    with pytest.raises(DeepclustError, match=r"line 2, column 'a': '1,5' is not written .* -s data.decimal="):
        load(decimal="point")
    write("a;b\n1,5;2\n1.000,5;3\n")
    assert load(decimal="comma", scale="none").x.tolist() == [[1.5, 2], [1000.5, 3]]
    with pytest.raises(DeepclustError, match=r"line 3, column 'a': '1.000,5' is not written"):
        load(decimal="comma", thousands="none")


@pytest.mark.parametrize("mark", ["sep=;", "\ufeffsep=;", '"sep=;"', "SEP=;"])
def test_the_hint_of_excel_says_the_delimiter(mark):
    write(mark + '\r\n"a,b,c";d\r\n1;2\r\n3;5\r\n')
    data = load(scale="none")
    assert (data.preparation.columns, data.x.tolist()) == (("a,b,c", "d"), [[1, 2], [3, 5]])
    assert load(like=data.preparation).x.tolist() == data.x.tolist()
    write("sep=,d\n1,2\n3,5\n")  # a column's name
    assert load(scale="none").preparation.columns == ("sep=", "d")


def test_large_integers_that_can_be_told_apart_are_numbers():
    write("a\n" + "\n".join(str(10**18 + i * 10**12) for i in range(5)))
    assert load().x.std(correction=0) == pytest.approx(1)
    write(f"a,b\n{10**18},1\n{10**18},2\n")
    assert load().x[:, 0].tolist() == [0, 0]


FAULTS = {
    "text": ("a,b\n1,2\n3,cat\n", {}, "line 3, column 'b': 'cat' is no number"),
    "how to": ("a,b\n1,cat\n2,3\n", {}, "-s data.id=b, -s data.labels=b or -s data.categories=b, else leave"),
    "first of two": ("a,b\n1,2\nx,3\n4,y\n", {}, "line 3, column 'a': 'x'"),
    "inf": ("a,b\n1,2\n-inf,1\n", {}, "line 3, column 'a': '-inf' is no finite number"),
    "too large": ("a,b\n1,2\n1e999,1\n", {}, "line 3, column 'a': '1e999' is no finite number"),
    "underscore": ("a\n1\n1_000\n", {}, "line 3, column 'a': '1_000' is no number"),
    "after blank lines": ("a,b\n1,2\n\n\n3,x\n", {}, "line 5, column 'b': 'x'"),
    "after a cell of three lines": ('n,b\n"p\nq\nr",2\ns,x\n', {"id": "n"}, "line 5, column 'b': 'x'"),
    "windows lines": ("a,b\r\n1,2\r\n3,x\r\n", {}, "line 3, column 'b': 'x'"),
    "too few": ("a,b\n1,2\n3\n", {}, "line 3: 1 cell, but the header names 2 columns"),
    "too many": ("a,b\n1,2\n3,4,5\n", {}, "line 3: 3 cells, but the header names 2 columns"),
    "all too many": ("a,b\n3,4,5\n3,4,5\n", {}, "line 2: 3 cells, but the header names 2 columns"),
    "too few unused": ("a,b,c\n1,2,3\n3,4\n", {"columns": ("a",)}, "line 3: 2 cells"),
    "ends in a delimiter": ("a,b\n1,2,\n", {}, "the row ends in a delimiter"),
    "nothing": ("", {}, "is empty"),
    "only lines": ("\n\n", {}, "is empty"),
    "header only": ("a,b\n", {}, "has a header but no rows"),
    "no header": ("1.5,2\n3,4\n", {}, "begins with numbers (1.5, 2); its first line must name the columns"),
    "twice": ("a,b,a\n1,2,3\n", {}, "the columns 1 and 3 are both named 'a'"),
    "no name": (",a\n0,1\n1,2\n", {}, "column 1 has no name"),
    "wrong id": ("name,b\n1,2\n", {"id": "nam"}, "no column in 't.csv' 'nam'; did you mean 'name'?"),
    "wrong labels": ("a,b\n1,2\n", {"labels": "species"}, "no column in 't.csv' 'species'. There is: a, b."),
    "wrong column": ("aa,bb\n1,2\n", {"columns": ("aa", "bc")}, "'bc'; did you mean 'bb'?"),
    "labels as column": ("a,b\n1,2\n", {"columns": ("a", "b"), "labels": "b"}, "'b', which is data.labels"),
    "column twice": ("a,b\n1,2\n", {"columns": ("a", "a")}, "names 'a' twice"),
    "no numbers": ("a,b\n1,2\n", {"id": "a", "labels": "b"}, "no column to cluster by beside id and labels"),
    "beyond float64": ("a\n1e300\n-1e300\n", {}, "column 'a', up to 1e+300, are too large"),
    "integers alike": (f"a,b\n{10**18},1\n{10**18 + 9},2\n", {}, "to 1000000000000000009, are too large"),
    "a workbook": ("PK\x03\x04\x14", {}, "is no text but a workbook"),
    "below a hint": ("sep=;\na;b\n1;2\n3;x\n", {}, "line 4, column 'b': 'x'"),
    "a hint alone": ("sep=;\n", {}, "is empty"),
    "a wrong hint": ("sep=|\na;b\n1;2\n", {}, "left out: a;b (names the rows)"),
    "endless cell": ('a,b\n1,"' + "x" * 200_000 + '"\n', {}, "t.csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_is_named(case):
    text, settings, reason = FAULTS[case]
    write(text)
    with pytest.raises(DeepclustError) as error:
        load(**settings)
    assert reason in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "the cell is empty"),
        ("  ", "the cell is empty"),
        ("nan", "'nan' is no finite number"),
        ("NA", "'NA' is no finite number"),
    ],
)
def test_a_model_that_knows_no_medians_refuses_missing_cells(cell, reason):
    write(f"a,b\n1,2\n3,{cell}\n")
    for columns in (("a", "b"), None):
        with pytest.raises(DeepclustError, match=f"line 3, column 'b': {reason}"):
            load(like=Preparation((2,), "float32", columns))


def test_files_that_are_none():
    Path("t.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(DeepclustError, match="not UTF-8 .byte 0xf6"):
        load()
    Path("t.csv").write_bytes(b"a,b\n" + b"1,2\n" * 9999 + b"1,\xff\n")
    with pytest.raises(DeepclustError, match="not UTF-8 .byte 0xff"):
        load()
    write("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(DeepclustError, match="UTF-16; save it as UTF-8"):
        load()
    with pytest.raises(DeepclustError, match="No such file"):
        load("gone.csv")
    with pytest.raises(DeepclustError, match="give its path as --data"):
        load("")


def test_years_may_be_columns():
    write("2019,2020\n1,2\n3,5\n")
    assert load().preparation.columns == ("2019", "2020")


def test_columns_that_are_left_out_may_hold_anything():
    write(",a,b,note\n0,1,2,x\n1,3,4,\n")
    data = load(columns=("b", "a"), scale="none")
    assert data.x.tolist() == [[2, 1], [4, 3]]
    assert data.preparation.columns == ("b", "a")


@pytest.mark.parametrize(
    ("cells", "labels", "names"),
    [
        (["b", "a", "", "b "], [1, 0, -1, 1], ("a", "b")),
        (["10", "9", "-1", "", "10"], [1, 0, -1, -1, 1], ("9", "10")),
        (["1", "-1", "", "+1"], [1, 0, -1, 1], ("-1", "1")),
        (["1.5", "x", "1.5"], [0, 1, 0], ("1.5", "x")),
        (["", ""], [-1, -1], ()),
    ],
)
def test_labels_become_classes_and_no_numbers(cells, labels, names):
    write("x,kind\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    data = load(labels="kind")
    assert data.truth.labels.tolist() == labels
    assert data.truth.names == names
    assert data.preparation.columns == ("x",)
    assert data.shape == (1,)


def table_of(rows, names=("a", "b", "c")):
    return ",".join(names) + "\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows)


def test_new_rows_get_the_bits_that_training_gave_them():
    rows = np.random.default_rng(0).normal(3, 7, (50, 3)).tolist()
    write(table_of(rows))
    trained = load()
    write(table_of([row[::-1] + [9.0] for row in rows[10:20]], ("c", "b", "a", "more")), "new.csv")
    again = load("new.csv", like=trained.preparation)
    assert torch.equal(again.x, trained.x[10:20])
    assert again.preparation == trained.preparation
    assert load("new.csv", like=trained.preparation, id="more").files == ["9.0"] * 10
    assert load("new.csv", like=trained.preparation, id="a").files == [repr(row[0]) for row in rows[10:20]]


def test_new_rows_that_do_not_fit():
    write("aa,b,c\n1,2,x\n3,4,y\n")
    trained = load(columns=("aa", "b"))
    write("ab,b\n1,2\n", "new.csv")
    with pytest.raises(DeepclustError, match="no column in 'new.csv' 'aa'; did you mean 'ab'"):
        load("new.csv", like=trained.preparation)
    rows = Preparation((2,), "float32")
    assert load("new.csv", like=rows).x.tolist() == [[1, 2]]  # a model of .npy rows
    with pytest.raises(DeepclustError, match="rows of 2 values are given, but .* rows of 3 values"):
        load("new.csv", like=Preparation((3,), "float32"))
    with pytest.raises(DeepclustError, match="rows of 2 values are given, but .* grey images of 8x8"):
        load("new.csv", like=Preparation((1, 8, 8), "uint8"))


def test_it_conforms():
    write(table_of(np.random.default_rng(0).normal(size=(20, 3)).tolist()))
    conformance.check_dataset("table", HERE, path="t.csv")


def test_a_run_names_its_rows():
    rows = np.random.default_rng(0).normal(size=(30, 3)) + np.arange(30)[:, None] % 2 * 6
    lines = [
        f"p{i},{','.join(map(repr, row.tolist()))},{'odd' if i % 2 else 'even'}" for i, row in enumerate(rows)
    ]
    write("name,a,b,c,kind\n" + "\n".join(lines) + "\n")
    arguments = [
        "run", "--evaluator", "clustering", "--data", "t.csv", "--labels", "kind", "-s", "data.id=name",
        "--clusters", "2", "--out", "run", "--clusterer", "kmeans", "--epochs-scale", "0.1", "-q",
        "-s", "encoder.hidden=16", "--device", "cpu",
    ]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    table = list(csv.DictReader(Path("run/labels.csv").read_text().splitlines()))
    assert [row["name"] for row in table] == [f"p{i}" for i in range(30)]
    assert [row["truth"] for row in table] == ["even", "odd"] * 15
    assert all(math.isfinite(float(row["distance"])) for row in table)
