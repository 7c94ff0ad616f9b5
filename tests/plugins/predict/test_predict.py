"""New data through a finished run: what it says of the run's own data is what the run said."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from deepclust.core.contract.interfaces import Storage
from deepclust.core.data.data import Data
from deepclust.core.run.folder import read_record
from deepclust.core.toolbox import inference
from deepclust.plugins.predict import prediction
from deepclust.plugins.predict.prediction import carry_out
from made_command import deepclust

TINY = [
    "--encoder",
    "sdae",
    "--evaluator",
    "clustering",
    "--epochs-scale",
    "0.05",
    "-s",
    "encoder.hidden=16",
    "-s",
    "encoder.latent_dim=3",
    "--device",
    "cpu",
    "-q",
]
HEADER = ["cluster", "confidence", "distance", "second"]


def rows_of(path):
    return [[row[name] for name in HEADER] for row in csv.DictReader(Path(path).read_text().splitlines())]


def without_truth(path):
    """The bytes of a run's table of labels less its last column where that is the truth."""
    rows = list(csv.reader(Path(path).read_text().splitlines()))
    kept = [row[: len(row) - (rows[0][-1] == "truth")] for row in rows]
    return "".join(",".join(row) + "\n" for row in kept).encode()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data in several forms and a run on each."""
    folder = tmp_path_factory.mktemp("predict")
    generator = np.random.default_rng(0)
    x = (generator.normal(size=(300, 6)) + 3 * (np.arange(300) % 3)[:, None]).astype(np.float32)
    np.save(folder / "rows.npy", x)
    np.savez(folder / "rows.npz", x=x, y=np.arange(300) % 3)
    names = [f"c{i}" for i in range(6)]
    text = ["id," + ",".join(names)] + [
        f"p{i}," + ",".join(map(repr, row.tolist())) for i, row in enumerate(x)
    ]
    (folder / "rows.csv").write_text("\n".join(text) + "\n")
    np.save(folder / "bytes.npy", generator.integers(0, 256, (90, 6, 5, 3), dtype=np.uint8))
    runs = {
        "digits": ["--data", "digits", "--clusterer", "dec"],
        "npy": ["--data", folder / "rows.npy", "--clusters", 3, "--clusterer", "kmeans"],
        "table": ["--data", folder / "rows.csv", "-s", "data.id=id", "--clusters", 3, "--clusterer", "idec"],
        "images": ["--data", folder / "bytes.npy", "--clusters", 2, "--clusterer", "kmeans"],
    }
    for name, arguments in runs.items():
        deepclust("run", *arguments, *TINY, "--out", folder / name)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


SAME = {
    "digits": ["digits"],
    "npy": ["rows.npy"],
    "table": ["rows.csv", "-s", "data.id=id"],
    "images": ["bytes.npy"],
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_the_same_data_get_the_same_labels_byte_for_byte(place, name, file):
    data, *more = SAME[name]
    data = data if data == "digits" else place / data
    shown = deepclust("predict", place / name / file, data, *more, "-o", "l.csv", "--embedding", "z.npy")
    assert Path("l.csv").read_bytes() == without_truth(place / name / "labels.csv")
    assert Path("z.npy").read_bytes() == (place / name / "embedding.npy").read_bytes()
    assert "The labels are in l.csv" in shown.output
    counts = np.bincount([int(row[0]) for row in rows_of("l.csv")])
    table = [line.split() for line in shown.output.splitlines()]
    assert [row[1] for row in table[1 : len(counts) + 1]] == [f"{count:,}" for count in counts]


def test_how_the_data_are_given_does_not_matter(place):
    """Rows of a table, an array and an archive, to a run on rows and to one on a table."""
    for run in ("npy", "table"):
        tables = []
        for data in ("rows.npy", "rows.npz", "rows.csv"):
            more = ["-s", "data.id=id"] if data == "rows.csv" else []
            deepclust("predict", place / run, place / data, *more, "-o", f"{run}.{data}", "-q")
            tables.append(rows_of(f"{run}.{data}"))
        assert tables[0] == tables[1] == tables[2] == rows_of(place / run / "labels.csv")


@pytest.mark.parametrize("more", [[], ["-q"]])
def test_what_is_to_be_known_of_the_data_is_said_last_also_where_it_is_quiet(place, monkeypatch, more):
    real, said = prediction.load_data, ("Half of the values lie outside [0, 1].",)
    monkeypatch.setattr(prediction, "load_data", lambda *asked: replace(real(*asked), notices=said))
    shown = deepclust("predict", place / "npy", place / "rows.npy", *more).output.splitlines()
    assert shown[-1] == f"Note: {said[0]}"
    assert (len(shown) == 1) == bool(more)


def test_other_orders_parts_and_single_samples(place):
    x, wanted = np.load(place / "rows.npy"), [row[0] for row in rows_of(place / "npy" / "labels.csv")]
    order = np.random.default_rng(1).permutation(len(x))
    for index in (order, order[:7], order[:1]):
        np.save("part.npy", x[index])
        deepclust("predict", place / "npy", "part.npy", "-o", "l.csv", "--overwrite", "-q")
        assert [row[0] for row in rows_of("l.csv")] == [wanted[i] for i in index]


def test_bytes_and_shares_of_one_are_the_same_images(place):
    x = np.load(place / "bytes.npy")
    np.save("float.npy", x.astype(np.float32) / 255)
    deepclust("predict", place / "images", "float.npy", "-o", "l.csv", "-q")
    assert [row[0] for row in rows_of("l.csv")] == [
        row[0] for row in rows_of(place / "images" / "labels.csv")
    ]


def test_more_than_a_batch_from_a_mapped_file(place, monkeypatch):
    """Whatever the size of a batch, and never more than that of it at once."""
    x = np.load(place / "rows.npy")
    np.save("many.npy", np.tile(x, (40, 1)))
    seen = []
    deliver = Data.slice

    def slice(self, start, stop):
        rows = deliver(self, start, stop)
        seen.append(len(rows))
        return rows

    monkeypatch.setattr(Data, "slice", slice)
    monkeypatch.setattr(inference, "BATCH_VALUES", 6 * 1000)
    deepclust("predict", place / "npy", "many.npy", "-o", "l.csv", "-q")
    assert seen == [1000] * 12
    labels = [row[0] for row in rows_of(place / "npy" / "labels.csv")]
    assert [row[0] for row in rows_of("l.csv")] == labels * 40


def test_the_numbers_are_those_of_the_formulas(place):
    """Student's t around the centres, computed here in float64 from the file's tensors."""
    with safe_open(place / "table" / "model.safetensors", "numpy") as file:
        centers = file.get_tensor("clusterer.centers").astype(float)
        weights = {k: file.get_tensor(k).astype(float) for k in file.keys()}  # noqa: SIM118
        preparation = json.loads(file.metadata()["deepclust"])["preparation"]
    h = (np.load(place / "rows.npy").astype(float) - preparation["mean"]) / preparation["std"]
    h = (h - weights["encoder.inputs.mean"]) / weights["encoder.inputs.deviation"]
    assert np.abs(h).max() < weights["encoder.inputs.limit"]
    h = np.maximum(h @ weights["encoder.encoders.0.weight"].T + weights["encoder.encoders.0.bias"], 0)
    z = h @ weights["encoder.encoders.1.weight"].T + weights["encoder.encoders.1.bias"]
    squares = ((z[:, None] - centers) ** 2).sum(2)
    q = 1 / (1 + squares)
    q /= q.sum(1, keepdims=True)
    result = carry_out(place / "table", str(place / "rows.csv"), Storage(Path()),
                       settings={"data": {"columns": "c0,c1,c2,c3,c4,c5"}})  # fmt: skip
    where = result.where
    assert where.labels.tolist() == q.argmax(1).tolist()
    assert where.confidence == pytest.approx(q.max(1), abs=1e-5)
    assert where.second.tolist() == np.argsort(q, axis=1)[:, -2].tolist()
    assert where.distance == pytest.approx(np.sqrt(squares.min(1)), abs=1e-4)


def test_with_no_file_to_write_it_shows_the_clusters(place):
    before = set(place.rglob("*"))
    output = deepclust("predict", place / "npy", place / "rows.npy").output
    assert "-o labels.csv writes" in output
    assert set(place.rglob("*")) == before
    assert not list(Path().iterdir())
    assert deepclust("predict", place / "npy", place / "rows.npy", "-q").output == ""


def half_run(place):
    deepclust("run", "--data", place / "rows.npy", "--clusters", 3, *TINY, "--out", "half")
    record = read_record(Path("half"))
    Path("half/run.json").write_text(
        json.dumps({**record, "status": "running", "command": ["run", "--out", "a b"]})
    )


def cut(place):
    Path("cut.safetensors").write_bytes((place / "npy/model.safetensors").read_bytes()[:-9])


def changed(place, change, name="changed.safetensors"):
    """A copy of a model whose header and tensors ``change`` has changed."""
    with safe_open(place / "npy/model.safetensors", "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        record = json.loads(file.metadata()["deepclust"])
    record = change(record, tensors) or record
    save_file(
        tensors, name, metadata={"deepclust": record if isinstance(record, str) else json.dumps(record)}
    )


def of_another(part, key, value):
    def change(record, tensors):
        record[part][key] = value
        record["versions"]["plugins"][value if key == "name" else record[part]["name"]] = "far-plugin 9.1"

    return change


def save(name, array):
    return lambda place: np.save(name, array)


R, X = "{place}/npy", "{place}/rows.npy"
BAD = {
    "no run": (None, ["gone", X], "there is no model at 'gone'; name the folder of a finished run"),
    "a folder": (lambda p: Path("f").mkdir(), ["f", X], "'f' holds no run of deepclust"),
    "unfinished": (half_run, ["half", X], "not finished; give its command again: deepclust run --out 'a b'"),
    "text": (lambda p: Path("t.txt").write_text("x" * 99), ["t.txt", X], "is broken or no .safetensors file"),
    "truncated": (cut, ["cut.safetensors", X], "is broken or no .safetensors file"),
    "another's": (lambda p: save_file({"x": torch.zeros(2)}, "o.safetensors"), ["o.safetensors", X],
                  "'o.safetensors' is no model that deepclust wrote"),
    "header": (lambda p: changed(p, lambda r, t: "{"), ["changed.safetensors", X], "header of"),
    "half a header": (lambda p: changed(p, lambda r, t: r.pop("encoder") and None),
                      ["changed.safetensors", X], "lacks encoder; it is no whole model"),
    "no plugin": (lambda p: changed(p, of_another("encoder", "name", "sdaf")), ["changed.safetensors", X],
                  "was made with encoder 'sdaf' of far-plugin 9.1: there is no encoder 'sdaf'; did you mean"),
    "other settings": (lambda p: changed(p, of_another("encoder", "settings", {"depth": 3})),
                       ["changed.safetensors", X], "of far-plugin 9.1, whose settings are not those of"),
    "other weights": (lambda p: changed(p, lambda r, t: t.pop("encoder.inputs.limit") and None),
                      ["changed.safetensors", X], "does not fit the weights in 'changed.safetensors'"),
    "another preparation": (lambda p: changed(p, lambda r, t: r["preparation"].update(tokens=1)),
                            ["changed.safetensors", X], "was written by another version of deepclust"),
    "data": (None, [R, "gone.npy"], "the data path 'gone.npy' does not exist"),
    "name": (None, [R, "digit"], "did you mean 'digits'?"),
    "setting": (None, [R, X, "-s", "data.idd=3"], "no setting 'data.idd'"),
    "other part": (None, [R, X, "-s", "encoder.epochs=3"], "no part with settings 'encoder'"),
    "device": (None, [R, X, "--device", "gpu"], "the device 'gpu'"),
    "width": (save("w.npy", np.zeros((3, 5), np.float32)), [R, "w.npy"],
              "rows of 5 values are given, but the run was trained on rows of 6 values"),
    "shape": (None, [R, "digits"], "grey images of 8x8 are given, but the run was trained on rows of 6"),
    "channels": (save("g.npy", np.zeros((3, 6, 5), np.uint8)), ["{place}/images", "g.npy"],
                 "grey images of 6x5 are given, but the run was trained on RGB images of 6x5"),
    "bytes": (save("b.npy", np.zeros((3, 6), np.uint8)), [R, "b.npy"], "bytes are given"),
    "scale": (save("s.npy", np.full((3, 6, 5, 3), 255.0)), ["{place}/images", "s.npy"], "numbers up to 255"),
    "nan": (save("n.npy", np.array([[0, 0, 0, np.nan, 0, 0]])), [R, "n.npy"], "sample 0 at position (3,)"),
    "none": (save("e.npy", np.zeros((0, 6), np.float32)), [R, "e.npy"], "there are no samples"),
    "there already": (lambda p: Path("l.csv").touch(), [R, X, "-o", "l.csv"], "'l.csv' is there already"),
    "codes there": (lambda p: Path("z.npy").touch(), [R, X, "--embedding", "z.npy"], "is there already"),
    "no folder": (None, [R, X, "-o", "no/l.csv"], "there is no folder 'no' for 'l.csv'"),
    "to a folder": (lambda p: Path("f").mkdir(), [R, X, "-o", "f"], "'f' is a folder"),
    "one for both": (None, [R, X, "-o", "f", "--embedding", "f"], "name two files"),
    "the data itself": (save("x.npy", np.zeros((9, 6), np.float32)),
                        [R, "x.npy", "-o", "x.npy", "--overwrite"], "'x.npy' is the data"),
    "no files to sort": (None, [R, X, "--sort-into", "d"], "--sort-into links files"),
    "copies of what": (None, [R, X, "--copy"], "name the folder with --sort-into DIR"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(place, case):
    prepare, arguments, reason = BAD[case]
    if prepare is not None:
        prepare(place)
    before = {p: p.is_file() and p.read_bytes() for p in Path().rglob("*")}
    result = deepclust("predict", *[str(a).format(place=place) for a in arguments], code=2)
    assert [line for line in result.output.splitlines() if line.startswith("Error: ")] == [
        result.output.strip()
    ]
    assert reason in result.output
    assert {p: p.is_file() and p.read_bytes() for p in Path().rglob("*")} == before


def test_another_version_is_said_and_works(place, capfd):
    def older(record, tensors):
        record["versions"]["deepclust"] = "0.0.1"
        record["versions"]["plugins"]["sdae"] = "deepclust 0.0.1"

    changed(place, older)
    result = deepclust("predict", "changed.safetensors", place / "rows.npy", "-o", "l.csv")
    assert Path("l.csv").read_bytes() == without_truth(place / "npy/labels.csv")
    lines = [line for line in result.stderr.splitlines() if "0.0.1" in line]
    assert len(lines) == 1
    assert "was made with deepclust 0.0.1, now deepclust" in lines[0]


def test_a_kill_leaves_the_old_file(place, monkeypatch):
    Path("l.csv").write_text("old")

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepclust.core.run.results.csv.writer", stop)
    deepclust("predict", place / "npy", place / "rows.npy", "-o", "l.csv", "--overwrite", code=130)
    assert [(p.name, p.read_text()) for p in Path().iterdir()] == [("l.csv", "old")]


def test_a_setting_of_the_training_is_said_to_have_no_effect(place):
    plain = deepclust("predict", place / "npy", place / "rows.npy", "-o", "plain.csv")
    for scale in ("none", "standard"):
        settings = ["-s", f"data.scale={scale}", "-s", "data.channels=auto"]
        result = deepclust("predict", place / "npy", place / "rows.npy", "-o", f"{scale}.csv", *settings)
        note = "Note: data.scale has no effect here: new data are made as the run's own were."
        assert [line for line in result.stderr.splitlines() if "no effect" in line] == [note]
        assert Path(f"{scale}.csv").read_bytes() == Path("plain.csv").read_bytes()
    assert "no effect" not in plain.stderr
    result = deepclust("predict", place / "table", place / "rows.csv", "-s", "data.scale=none")
    assert "data.scale has no effect" in result.stderr


def test_what_cannot_be_read_stands_beside(place):
    pytest.importorskip("deepclust.plugins.images.folder")
    from PIL import Image

    for folder, count in (("photos", 8), ("more", 3)):
        Path(folder).mkdir()
        for i in range(count):
            pixels = np.full((8, 8), 30 * i, np.uint8)
            Image.fromarray(pixels).save(f"{folder}/{i}.png")
    deepclust(
        "run",
        "--data",
        "photos",
        "--clusters",
        2,
        "--clusterer",
        "kmeans",
        *TINY,
        "--out",
        "run",
        "--cache",
        "c",
    )
    deepclust("predict", "run", "photos", "-o", "same.csv", "--cache", "c")
    assert Path("same.csv").read_bytes() == without_truth("run/labels.csv")
    Path("more/broken.png").write_bytes(b"no image")
    skip = ["-s", "data.max_skipped=0.5"]
    result = deepclust("predict", "run", "more", "-o", "more.csv", "--cache", "c", *skip)
    skipped = list(csv.DictReader(Path("more.skipped.csv").read_text().splitlines()))
    assert [row["file"] for row in skipped] == ["broken.png"]
    assert "1 file could not be read: see more.skipped.csv" in result.output
    assert len(rows_of("more.csv")) == 3
    for quiet in ([], ["-q"]):  # no table lists them
        result = deepclust("predict", "run", "more", "--cache", "c", *skip, *quiet)
        assert "Note: 1 file could not be read: 'broken.png': no image in a format" in result.stderr
    Path("more/broken.png").unlink()
    deepclust("predict", "run", "more", "-o", "more.csv", "--cache", "c", "--overwrite")
    assert len(Path("more.skipped.csv").read_text().splitlines()) == 1  # none is left from before
