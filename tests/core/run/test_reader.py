"""Which data set reads a path: several may, one says that it is its own, the user has the last word."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepclust.core.contract.component import Component
from deepclust.core.contract.registry import Registry, installed
from deepclust.core.run.reader import choose_data, split_name, stem_of
from made_command import deepclust

HOOK = """
@hookimpl
def deepclust_datasets():
    yield Component("NAME", "MODULE.data:Reader", "what it reads", reads=READS)
"""
READER = """
import os
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import torch
from deepclust.core import Data, Dataset, setting

@dataclass(frozen=True)
class ReaderConfig:
    path: str = setting("", "where")
    columns: int = setting(4, "values of a row", low=1)

class Reader(Dataset):
    Config = ReaderConfig
    @classmethod
    def sniff(cls, path):
        SNIFF
    def load(self, place):
        path = Path(self.config.path)
        files = [path] if path.is_file() else sorted(path.glob("*.raw"))
        x = np.concatenate([np.fromfile(f, np.float32) for f in files]).reshape(-1, self.config.columns)
        return Data(torch.from_numpy(x), f"{path.name}, {len(x)} rows by NAME")
"""
TINY = [
    "--encoder", "sdae", "--clusterer", "kmeans", "--evaluator", "clustering", "--clusters", "3",
    "--epochs-scale", "0.02", "-s", "encoder.hidden=8", "-s", "encoder.latent_dim=2", "--device", "cpu",
]  # fmt: skip
OWN = "return any(name.endswith('.raw') for name in os.listdir(path))"


@pytest.fixture
def reads(install):
    """A function that installs a plugin with one data set, which reads such paths."""

    def add(name, sniff=OWN, reads=("/",), distribution=None):
        code, text = (t.replace("NAME", name).replace("READS", repr(reads)) for t in (HOOK, READER))
        install(distribution or f"deepclust-{name}", code, data=text.replace("SNIFF", sniff))

    return add


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Folders of both kinds, of each kind and of none, and a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPCLUST_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, 4)) + 9 * (np.arange(60) % 3)[:, None]).astype(np.float32)
    for folder in ("photos/deep/er", "rows", "both", "none"):
        Path(folder).mkdir(parents=True)
    for folder in ("rows", "both"):
        x.tofile(f"{folder}/a.raw")
    for folder in ("photos/deep/er", "both"):
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(f"{folder}/{i}.PNG")
    Path("none/a.txt").write_text("nothing")
    x.tofile("x.raw")
    x.tofile("x.dat")


def chosen(asked, **more):
    """Kind, name and settings of what would read it."""
    return choose_data(asked, installed(), lambda part, kind, name, **given: (kind, name, given), **more)


def refused(*arguments):
    said = deepclust(*arguments, code=2).output.strip()
    assert said.startswith("Error: ")
    assert len(said.splitlines()) == 1
    return said


def test_the_one_that_says_that_it_is_its_own_reads(reads):
    reads("rows")
    for asked, name in (("photos", "images"), ("rows/", "rows"), ("./rows", "rows")):
        assert chosen(asked) == ("dataset", name, {"path": str(Path(asked).resolve())})
    deepclust("run", "--data", "rows", *TINY, "--out", "out")
    data = json.loads(Path("out/run.json").read_text())["data"]
    assert (data["name"], data["settings"]["path"]) == ("rows", str(Path("rows").resolve()))
    deepclust("predict", "out", "rows", "-o", "labels.csv")
    labels = [line.split(",")[1] for line in Path("labels.csv").read_text().splitlines()]
    assert labels == [line.split(",")[1] for line in Path("out/labels.csv").read_text().splitlines()]


def test_where_both_or_none_say_so_one_sentence_offers_both(reads):
    reads("rows")
    said = refused("run", "--data", "both")
    assert "'both', a folder: the data sets 'images' (plugin 'images', deepclust " in said
    assert "'rows' (plugin 'rows', deepclust-rows 1.2) each say that it is theirs" in said
    assert "--data images:both or --data rows:both" in said
    said = refused("run", "--data", "none")
    assert "do not know it as theirs" in said
    assert "--data images:none or --data rows:none" in said
    said = refused("compare", "--data", "both", "--out", "c")
    assert "--data rows:both" in said
    assert not Path("c").exists()


def test_alone_it_reads_unasked(reads):
    reads("rows", sniff="raise AssertionError", reads=(".raw",))
    assert chosen("x.raw")[1] == "rows"
    assert "there are no images in" in refused("run", "--data", "none")


FAULTY = {
    "raises": ("return 1 / 0", "ZeroDivisionError: division by zero"),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "cannot be imported": ("return True\n    import no_such_module_anywhere", "no_such_module_anywhere"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_one_that_fails_is_a_note_and_takes_nothing_away(reads, case, capsys):
    sniff, reason = FAULTY[case]
    reads("rows", sniff)
    for _ in range(3):
        assert chosen("photos")[1] == "images"
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("Note: the data set 'rows' (plugin 'rows', deepclust-rows 1.2) could not say")
    assert reason in notes[0]
    said = deepclust("run", "--data", "none", code=2).output
    assert "there are no images in" in said  # as it is where images are all that is installed


def test_two_of_the_same_name_take_nothing_away_either(reads, capsys):
    reads("rows")
    reads("rows", distribution="deepclust-more")
    assert chosen("photos")[1] == "images"
    assert "'rows' is offered by" in capsys.readouterr().err
    assert "DEEPCLUST_BLOCK" in refused("run", "--data", "rows:rows")


def test_three_that_read_folders(reads):
    reads("rows")
    reads("texts", "return any(name.endswith('.txt') for name in os.listdir(path))")
    assert [chosen(path)[1] for path in ("photos", "rows", "none")] == ["images", "rows", "texts"]


def test_a_name_says_what_reads_whatever_the_ending(reads):
    reads("rows", reads=(".raw", "/"))
    for asked in ("rows:both", "rows:x.dat", "rows:./x.dat", "images:both", "images:none"):
        name, _, path = asked.partition(":")
        assert chosen(asked) == ("dataset", name, {"path": str(Path(path).resolve())})
    assert "nothing installed reads 'x.dat'" in refused("run", "--data", "x.dat")
    deepclust("run", "--data", "rows:x.dat", *TINY)
    (folder,) = Path("runs").iterdir()
    assert folder.name == "x-sdae-kmeans-k3-seed0"
    assert "finished already" in deepclust("run", "--data", "rows:x.dat", *TINY).output
    Path("c.toml").write_text('[run]\ndata = "rows:x.dat"\n[data]\ncolumns = 4\n')
    assert "finished already" in deepclust("run", "--config", "c.toml", *TINY).output
    Path("x.dat").rename("y.dat")
    deepclust("predict", folder, "rows:y.dat", "-o", "labels.csv")
    assert "'y.dat' is the data" in refused("predict", folder, "rows:y.dat", "-o", "y.dat", "--overwrite")
    assert len(Path("labels.csv").read_text().splitlines()) == 61
    deepclust("compare", "--data", "rows:y.dat", "--seeds", "1", *TINY)
    assert json.loads(Path("runs/y-compare/compare.json").read_text())["data"]["name"] == "rows"


WRONG = {
    "rwos:both": "there is no data set 'rwos'; did you mean 'rows'?",
    "Images:photos": "there is no data set 'Images'; did you mean 'images'?",
    "rows:nowhere": "the data path 'nowhere' does not exist",
    "rows:": "'rows:' lacks the path; say --data rows:PATH",
    "digits:both": "the data set 'digits' reads no paths; say --data digits without 'both'",
    "texts": "the data set 'texts' reads .text, and there is no path 'texts'; say --data texts:PATH",
    "digit": "there is no data set or path 'digit'; did you mean 'digits'?",
    "image": "there is no data set or path 'image'; did you mean 'images'?",
    "C:\\photos": "the data path 'C:\\photos' does not exist",
    "C:/photos": "the data path 'C:/photos' does not exist",
    "https://far.away/photos": "the data path 'https://far.away/photos' does not exist",
    "no/rows:both": "the data path 'no/rows:both' does not exist",
    ":both": "there is no data set or path ':both'",
    "x.dat": "--data NAME:PATH has the data set NAME read it all the same",
}


@pytest.mark.parametrize("asked", WRONG)
def test_what_is_no_data_is_a_sentence_also_with_several_that_read_folders(reads, asked):
    reads("rows")
    reads("texts", reads=(".text",))
    assert WRONG[asked] in refused("run", "--data", asked)


def test_a_path_that_is_there_is_a_path_whatever_its_colons(reads):
    reads("rows")
    for name in ("rows:both", "C:", "a:b:c"):
        Path(name).mkdir()
        Path("x.raw").rename(f"{name}/x.raw")
        assert chosen(name) == ("dataset", "rows", {"path": str(Path(name).resolve())})
        assert chosen(f"images:{name}")[1:] == ("images", {"path": str(Path(name).resolve())})
        assert split_name(name) == (None, name)
        Path(f"{name}/x.raw").rename("x.raw")
    assert split_name("images:photos/a:b") == ("images", "photos/a:b")
    assert [stem_of(asked) for asked in ("mnist", "images:some/photos", "rows.npy", ".")] == [
        "mnist", "photos", "rows", "data",
    ]  # fmt: skip
    Path("images").mkdir()  # also called as a data set is
    Image.new("L", (4, 4)).save("images/a.png")
    assert chosen("images")[2] == {"path": str(Path("images").resolve())}


def test_a_name_with_the_path_among_the_settings(reads):
    reads("rows")
    deepclust("run", "--data", "rows", "-s", "data.path=both", *TINY, "--out", "out")  # rows is a folder, too
    Path("rows").rename("other")
    deepclust("run", "--data", "rows", "-s", "data.path=other", *TINY, "--out", "out2")
    assert json.loads(Path("out2/run.json").read_text())["data"]["settings"]["path"] == "other"


def test_the_runs_own_reader_has_the_say_in_predict(reads):
    reads("rows")
    deepclust("run", "--data", "rows:both", *TINY, "--out", "out")
    deepclust("predict", "out", "both", "-o", "labels.csv")
    assert len(Path("labels.csv").read_text().splitlines()) == 61
    said = refused("predict", "out", "none")
    assert "say which is to read it: images:none or rows:none." in said
    assert chosen("both", usual="images")[1] == "images"


def test_a_list_shows_what_is_read(reads):
    reads("rows", reads=(".raw", "/"))
    listed = {
        c["name"]: c["reads"] for c in json.loads(deepclust("list", "dataset", "--json").output)["components"]
    }
    assert (listed["rows"], listed["digits"]) == ([".raw", "/"], [])
    shown = deepclust("list", "dataset").output
    assert "what it reads (reads .raw, folders)" in shown
    assert "It reads .raw, folders; --data rows:PATH" in deepclust("info", "rows").output


@pytest.mark.parametrize("wrong", [".csv", ("csv",), (".CSV",), ("a/b",), ("",)])
def test_endings_of_another_form_are_the_authors_fault(wrong):
    with pytest.raises(ValueError, match="component mine: reads is a tuple of endings"):
        Component("mine", "a:B", "", reads=wrong)


def test_endings_of_two_parts(reads):
    reads("scans", reads=(".nii.gz",))
    Path("a.NII.gz").touch()
    Path("b.gz").touch()
    assert [e.component.name for e in Registry().readers(Path("a.NII.gz"))] == ["scans"]
    assert Registry().readers(Path("b.gz")) == []
