"""What a table's columns are taken for, from their cells alone, and what new rows become with it."""

import csv
import datetime
import itertools
import json
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
from deepclust.plugins.table.table import Table, TableConfig

HERE = Storage(Path())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(columns, name="t.csv", delimiter=","):
    """A table from its columns of cells."""
    with open(name, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return name


def load(path="t.csv", like=None, **settings):
    table = Table(build(TableConfig, {"path": path, **settings}, "data"))
    return table.load(HERE) if like is None else table.load_like(HERE, like)


def office(n=60):
    rng = np.random.default_rng(3)
    return {
        "id": [str(1000 + i) for i in rng.permutation(n)],
        "name": [f"Item {i}" for i in range(n)],
        "city": [("Kyoto", "Lyon", "Porto")[i % 3] for i in range(n)],
        "joined": [f"2024-0{1 + i % 9}-1{i % 8}" for i in range(n)],
        "price": ["" if i % 10 == 3 else f"{v:.2f}" for i, v in enumerate(rng.normal(20, 5, n))],
        "paid": [("yes", "No")[i // 2 % 2] for i in range(n)],
        "size": [f"{v:.3f}" for v in rng.normal(size=n)],
        "currency": ["EUR"] * n,
        "note": [f"see {i % 45}" for i in range(n)],
    }


def values(data):
    """The values of a table's rows by their names, as they were before they were standardised."""
    made = data.preparation
    plain = data.x.double().numpy() * np.array(made.std) + np.array(made.mean)
    return dict(zip(made.columns, plain.T, strict=True))


def test_an_office_table_goes_in_and_says_what_was_taken_for_what():
    table = office()
    write(table)
    data = load()
    found = values(data)
    assert [*found] == ["city=Kyoto", "city=Lyon", "city=Porto", "joined", "price", "paid", "size"]
    for city in ("Kyoto", "Lyon", "Porto"):
        assert found[f"city={city}"] == pytest.approx([float(c == city) for c in table["city"]], abs=1e-6)
    start = datetime.date(1970, 1, 1)
    days = [(datetime.date.fromisoformat(cell) - start).days for cell in table["joined"]]
    assert found["joined"] == pytest.approx(days, abs=0.01)
    median = statistics.median(float(cell) for cell in table["price"] if cell)
    assert found["price"] == pytest.approx([float(cell or median) for cell in table["price"]], abs=1e-5)
    assert found["paid"] == pytest.approx([float(cell == "yes") for cell in table["paid"]], abs=1e-6)
    assert data.said[:-1] == [
        "numbers: price (6 empty cells filled with the median), size",
        "categories: city (3)",
        "yes or no: paid",
        "dates: joined",
        "the rows are named by: id",
        "left out: name (names the rows), currency (is the same in all rows), "
        "note (holds 45 different texts)",
    ]
    assert (data.key, list(data.files)) == ("id", table["id"])
    assert not data.notices
    assert data.description == "t.csv, 60 rows of 5 columns (7 values)"
    assert load(like=data.preparation).description == data.description
    assert load(columns=("size", "price")).description == "t.csv, 60 rows of 2 columns"
    assert load(columns=("size",)).description == "t.csv, 60 rows of 1 column"


@pytest.mark.parametrize("k", [2, 3, 7, 20])
def test_a_category_weighs_as_much_as_a_number_and_a_rare_one_no_more(k):
    n = 20 * k
    write({"number": [str(v) for v in np.random.default_rng(k).normal(size=n)],
           "even": [f"text {i % k}" for i in range(n)],
           "rare": ["odd one" if i == 5 else "usual" for i in range(n)],
           "spoken": ["yes" if i % 2 else "no" for i in range(n)]})  # fmt: skip
    data = load()
    names, x = np.array(data.preparation.columns), data.x.double()

    def apart(column):  # the mean square by which two rows differ in a column
        own = x[:, [name.partition("=")[0] == column for name in names]]
        return float(torch.cdist(own, own).square().mean())

    for column in ("number", "even", "spoken"):
        assert apart(column) == pytest.approx(2, rel=1e-5), column
    assert apart("rare") < 2 / 10
    assert float(x.abs().max()) < 6
    assert float(x[:, [name.startswith(("rare", "even")) for name in names]].abs().max()) < 1.5


def test_new_rows_are_encoded_as_the_training_was():
    table = office()
    write(table)
    trained = load()
    kept = Preparation.from_record(json.loads(json.dumps(trained.preparation.record())))
    assert kept == trained.preparation
    some = dict(reversed([(name, cells[20:30]) for name, cells in table.items()]))  # another order
    again = load(write(some, "new.csv"), like=kept)
    assert torch.equal(again.x, trained.x[20:30])
    assert again.files == table["id"][20:30]
    assert list(again.notices) == ["empty cells were filled with the medians of the training: price (1)"]

    strange = {**some, "city": ["Oslo", "", *some["city"][2:]], "size": [*some["size"][:9], "NA"]}
    data = load(write(strange, "new.csv"), like=kept)
    found = values(data)
    for city in ("Kyoto", "Lyon", "Porto"):
        assert found[f"city={city}"][:2] == pytest.approx([0, 0], abs=1e-6)
    assert found["size"][9] == pytest.approx(statistics.median(map(float, table["size"])), abs=1e-6)
    assert "price (1), size (1)" in data.notices[0]
    assert data.notices[1].endswith("city (1)"), "the empty one is none that the training had not"

    del some["id"]
    assert load(write(some, "new.csv"), like=kept).files is None, "names may be missing"
    with pytest.raises(DeepclustError, match="no column in 'new.csv' 'paid'"):
        load(write({k: v for k, v in some.items() if k != "paid"}, "new.csv"), like=kept)
    with pytest.raises(DeepclustError, match="line 4, column 'joined': '17.5.24' is no date"):
        load(write({**some, "joined": ["2024-05-17"] * 2 + ["17.5.24"] * 8}, "new.csv"), like=kept)
    with pytest.raises(DeepclustError, match="line 2, column 'size': 'big' is no number"):
        load(write({**some, "size": ["big"] * 10}, "new.csv"), like=kept)


@pytest.mark.parametrize(("n_bad", "refused"), [(1, True), (5, True), (20, False)])
def test_a_typo_makes_no_categories_of_a_column_of_numbers(n_bad, refused):
    cells = [str(i % 7) for i in range(50)]
    cells[10 : 10 + n_bad] = ["1O"] * n_bad
    write({"a": cells, "b": [f"{i}.5" for i in range(50)]})
    if refused:
        with pytest.raises(DeepclustError, match="line 12, column 'a': '1O' is no number"):
            load()
    else:
        data = load()
        assert "categories: a (8)" in data.said
        assert data.notices == (
            "column 'a' was taken for categories, as 20 of its cells are texts and 30 are numbers",
        )


def test_a_date_that_is_none_is_named():
    write({"a": ["2024-02-27"] * 30 + ["2024-02-30", ""] + ["2024-03-01"] * 9})
    with pytest.raises(DeepclustError, match="line 32, column 'a': '2024-02-30' is no date"):
        load()


KINDS = {
    "yes and no": (["YES", "no", "Yes", "NA"] * 5, [1, 0, 1, 0.5] * 5),
    "ticks": (["x", "", "", "x"] * 5, [1, 0, 0, 1] * 5),
    "true and false": (["True", "False", "False", "False"] * 5, [1, 0, 0, 0] * 5),
    "missing numbers": (["1", "NA", "?", "3", "-", "none", "2", "1", "nan", "3", "2"] * 2,
                        [1, 2, 2, 3, 2, 2, 2, 1, 2, 3, 2] * 2),
    "dates with a time": (["2024-01-01T06:00", "2024-01-02 12:00:00Z", "2024-01-01 01:00+01:00", ""] * 5,
                          [19723.25, 19724.5, 19723, 19723.25] * 5),
    "day first": (["13/02/2024", "01/03/2024"] * 5, [19766, 19783] * 5),
    "month first": (["02/13/2024", "03/01/2024"] * 5, [19766, 19783] * 5),
    "month by its name": (["13 Feb 2024", "01 Mar 2024"] * 5, [19766, 19783] * 5),
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS)
def test_cells_become_values(case):
    cells, wanted = KINDS[case]
    write({"it": cells, "b": [f"{i % 5}.5" for i in range(len(cells))]})
    assert values(load())["it"].tolist() == pytest.approx(wanted, abs=0.01)


LEFT = {
    "counts from 0": (map(str, range(30)), "counts the rows"),
    "counts from 1, in another order": (map(str, range(30, 0, -1)), "counts the rows"),
    "row_id": ((str(7 * i) for i in range(30)), "names the rows"),
    "texts": ((f"t{i}" for i in range(30)), "names the rows"),
    "same": (["x"] * 30, "is the same in all rows"),
    "nothing": ([""] * 30, "is empty"),
    "missing": (["NA", "-"] * 15, "is empty"),
    "mostly missing": (["1.5", "", ""] * 10, "is empty in more than half of the rows"),
    "no number mostly": (["1.5", "nan", "nan"] * 10, "is empty in more than half of the rows"),
    "hardly dates": (["2024-05-01", "", "?"] * 10, "is empty in more than half of the rows"),
    "many": ((f"t{i % 20}" for i in range(30)), "holds 20 different texts"),
    "either": (["01/02/2024", "03/04/2024", "05/04/2024"] * 10, "day and month cannot be told apart"),
    "": (map(str, range(30)), "counts the rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_columns_that_nothing_can_be_learnt_from_are_left_out(name):
    cells, reason = LEFT[name]
    write({name: [*cells], "b": [f"{i % 5}.5" for i in range(30)]})
    data = load()
    assert data.preparation.columns == ("b",)
    naming = reason in ("counts the rows", "names the rows") and name
    assert data.key == (name if naming else "file")
    if not naming:
        assert f"{name or 'column 1'} (" in " ".join(data.said)
        assert reason in " ".join(data.said)


@pytest.mark.parametrize("cells", [["cat", "dog", "cow"] * 10, ["0", "1", "2"] * 10])
def test_classes_are_not_clustered_by_unless_the_user_says_so(cells):
    write({"a": [f"{i % 5}.5" for i in range(30)], "Label": cells})
    data = load()
    assert data.preparation.columns == ("a",)
    assert "left out: Label (may be the true classes: --labels Label)" in data.said
    assert data.truth is None
    assert load(labels="Label").truth.names == tuple(sorted({*cells}))
    assert load(columns=("a", "Label")).shape[0] > 1
    assert load(categories=("Label",)).shape == (4,)


def test_names_that_say_that_numbers_count_nothing():
    for names, is_id in ((("customerID", "shop-id", "Id", "GUID"), True), (("paid", "GRID", "idle"), False)):
        for name in names:
            write({"b": [f"{i % 5}.5" for i in range(30)], name: [str(i % 3) for i in range(30)]})
            assert (f"categories: {name} (3)" in load().said) == is_id


def test_what_only_looks_like_a_count_of_the_rows_is_used():
    """Few rows, another beginning, a number twice."""
    for cells in (range(1, 10), range(5, 35), [*range(1, 30), 29]):
        write({"a": map(str, cells), "b": ["1.5", "2.5", "2.5"] * (len(cells) // 3)})
        assert load().preparation.columns == ("a", "b")


def test_the_user_decides():
    table = {"id": [str(i % 5) for i in range(30)], "zip": [str(10 + i % 3) for i in range(30)],
             "row": [str(i) for i in range(30)], "name": [f"n{i}" for i in range(30)]}  # fmt: skip
    write(table)
    assert "categories: id (5)" in load().said, "the numbers of an id count nothing"
    data = load(columns=("row", "id"))
    assert data.preparation.columns == ("row", "id")
    assert values(data)["id"].tolist() == pytest.approx([i % 5 for i in range(30)], abs=1e-5)
    assert data.files is None
    data = load(columns=("zip",), categories=("zip",))
    assert data.preparation.columns == ("zip=10", "zip=11", "zip=12")
    assert load(categories=("name",)).shape == (5 + 1 + 30,)
    with pytest.raises(DeepclustError, match="column 'name' cannot be used: it names the rows"):
        load(columns=("row", "name"))
    with pytest.raises(DeepclustError, match="data.categories names 'id', which data.columns does not"):
        load(columns=("row",), categories=("id",))
    with pytest.raises(DeepclustError, match="no column in 't.csv' 'zap'; did you mean 'zip'"):
        load(categories=("zap",))
    write({"name": table["name"], "same": ["x"] * 30})
    with pytest.raises(
        DeepclustError, match=r"no column to cluster by; left out: .*same \(is the same in all rows\)"
    ):
        load()


def grouped(value, mark, sign, digits):
    """A number as people write it, by Python's own formatting."""
    return f"{value:,.{digits}f}".replace(",", "\0").replace(".", sign).replace("\0", mark)


@pytest.mark.parametrize(("mark", "sign"), [(".", ","), (",", "."), (" ", ","), ("\u202f", "."), ("'", ".")])
@pytest.mark.parametrize("digits", [0, 1, 2])
def test_numbers_are_read_as_they_are_written(mark, sign, digits):
    rng = np.random.default_rng(digits)
    wanted = np.round(rng.normal(0, 10 ** rng.uniform(0, 7, (40, 2))), digits) + 0.0
    wanted[0] = 1234567, -7654321  # of two groups, which no decimals have
    columns = {
        name: [grouped(v, mark, sign, digits) for v in column]
        for name, column in zip("ab", wanted.T, strict=True)
    }
    write(columns, delimiter=";")
    assert load(scale="none").x.numpy() == pytest.approx(wanted, rel=1e-6)
    names = {".": "point", ",": "comma", " ": "space", "\u202f": "space", "'": "apostrophe"}
    data = load(scale="none", thousands=names[mark], decimal=names[sign])
    assert data.x.numpy() == pytest.approx(wanted, rel=1e-6)


DOUBT = [
    # delimiter, cells of two columns, what they are: None where it cannot be told
    (";", ["1.234", "345"], ["7", "5.678"], None),
    (";", ["1.234", "12.345"], ["5.678", "1.111"], None),
    ("\t", ["1,234", "345"], ["7", "5.678"], None),
    (",", ["1,234", "345"], ["7", "8"], None),
    (",", ["1.234", "345"], ["7", "5.678"], [[1.234, 7], [345, 5.678]]),  # commas part the cells
    (";", ["1.234", "345"], ["0.5", "5.678"], [[1.234, 0.5], [345, 5.678]]),
    (";", ["1.234", "0.345"], ["7", "8"], [[1.234, 7], [0.345, 8]]),
    (";", ["1.234", "34567"], ["7", "8"], [[1.234, 7], [34567, 8]]),  # else it would be 34.567
    (";", ["1.234", "345"], ["7,5", "8"], [[1234, 7.5], [345, 8]]),
    (";", ["1.234", "345"], ["1.234.567", "8"], [[1234, 1234567], [345, 8]]),
    (",", ["1,234", "345"], ["0.5", "8"], [[1234, 0.5], [345, 8]]),
    (";", ["1.234,50", "345"], ["7", "8"], [[1234.5, 7], [345, 8]]),
]


@pytest.mark.parametrize(("delimiter", "a", "b", "wanted"), DOUBT)
def test_points_and_commas_are_read_where_they_are_certain(delimiter, a, b, wanted):
    write({"a": a, "b": b}, delimiter=delimiter)
    if wanted is not None:
        assert load(scale="none").x.numpy() == pytest.approx(np.array(wanted, np.float32), abs=0)
        return
    with pytest.raises(DeepclustError, match="line 2, column 'a': '1[.,]234' may be 1") as error:
        load()
    first, second = str(error.value).split("data.thousands=")[1:]
    ways = [float(load(scale="none", thousands=text.split()[0]).x[0, 0]) for text in (first, second)]
    assert sorted(ways) == pytest.approx([1.234, 1234]), "each of the two ways out leads to one of them"


@pytest.mark.parametrize(("hint", "first"), [("0.5", 1.234), ("7,5", 1234), ("1.234.567", 1234)])
def test_new_numbers_in_doubt_are_written_as_those_of_the_training(hint, first):
    write({"a": ["1.234", "345"], "b": [hint, "8"]}, delimiter=";")
    trained = load(scale="none")
    kept = Preparation.from_record(json.loads(json.dumps(trained.preparation.record())))
    write({"a": ["1.234"], "b": ["8"]}, "new.csv", delimiter=";")
    with pytest.raises(DeepclustError, match="may be"):
        load("new.csv")
    assert load("new.csv", like=kept).x.tolist() == [[pytest.approx(first), 8]]
    write({"a": ["1.5"], "b": ["8"]}, "new.csv", delimiter=";")
    assert load("new.csv", like=kept).x.tolist() == [[1.5, 8]], "where it is certain that does not matter"


def test_numbers_are_the_same_with_and_without_texts_beside_them():
    """NumPy's parser reads tables of numbers alone, a slower one the others."""
    rng = np.random.default_rng(0)
    columns = {
        name: [repr(v) for v in rng.normal(0, 10.0**k, 40).tolist()] for k, name in enumerate("abcd", -2)
    }
    write(columns)
    plain = load()
    write({**columns, "name": [f"n{i}" for i in range(40)]})
    assert torch.equal(load().x, plain.x)
    write({**columns, "a": ["", *columns["a"][1:]]})
    assert torch.equal(load().x[1:, 1:], plain.x[1:, 1:])


def test_few_columns_are_listed():
    write({f"c{i}": [str(i), "2.5", "1.5"] for i in range(500)})
    assert load().said[:1] == ["numbers: c0, c1, c2, c3, c4, c5, c6, c7 and 492 more"]


def test_an_office_table_from_its_path_to_new_labels():
    table = office()
    shift = itertools.cycle((0, 40, 80))
    table["price"] = [
        cell and f"{float(cell) + by:.2f}" for cell, by in zip(table["price"], shift, strict=False)
    ]
    write(table)
    run = ["run", "--data", "t.csv", "--clusters", "3", "--out", "run", "--clusterer", "kmeans",
           "--epochs-scale", "0.1", "-s", "encoder.hidden=16", "--device", "cpu"]  # fmt: skip
    result = CliRunner().invoke(main, run)
    assert result.exit_code == 0, result.output
    assert "categories: city (3)" in result.output
    assert "2024-0" in Path("run/report.html").read_text(encoding="utf-8"), "dates are shown as such"
    result = CliRunner().invoke(main, ["predict", "run", "t.csv", "-o", "again.csv", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "medians of the training: price (6)" in result.output
    assert Path("again.csv").read_bytes() == Path("run/labels.csv").read_bytes()
    rows = list(csv.DictReader(Path("again.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == table["id"]
    assert all(math.isfinite(float(row["distance"])) for row in rows)


POOLS = [
    cells.split("|")
    for cells in (
        "1|2|-4|1e3", "1,5|2,25", "1.234|99", "1.234,5|77", "|1|2.5", "NA|?|3", "yes|NO|", "a|b|c", "x|", "x",
        "",
        "2024-01-02|2024-02-03", "3 Jan 2024|", "01/02/2024|13/02/2024", "1 234|5", "a|1|2|3", "none|pool",
        "0|1", "inf|1",
    )
]  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_any_table_is_refused_or_becomes_what_its_own_model_makes_of_it(seed):
    """Columns drawn at random: an error is one for the user, values are finite, and none is lost."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(12, 40))
    columns = {name: [str(cell) for cell in rng.choice(POOLS[rng.integers(len(POOLS))], n)] for name in "abc"}
    columns["id"] = [f"n{i}" for i in rng.permutation(n)]
    if seed % 3 == 0:
        columns["b"] = [f"{v:.3f}" for v in rng.normal(size=n)]
    write(columns, delimiter=",;\t"[seed % 3])
    try:
        data = load()
    except DeepclustError as error:
        text = str(error)
        assert "t.csv" in text
        assert len(text) < 500
        return
    assert torch.isfinite(data.x).all()
    assert data.shape == (len(data.preparation.columns),)
    kept = Preparation.from_record(json.loads(json.dumps(data.preparation.record())))
    assert torch.equal(load(like=kept).x, data.x)
    about = " ".join(data.said)
    assert all(f" {name}" in about for name in columns), "each column is spoken of"
