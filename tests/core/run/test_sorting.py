"""Sorting into folders: each file under its cluster, and nothing removed that was not made there."""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from deepclust.cli import main
from deepclust.core.data.data import Data
from deepclust.core.errors import DeepclustError
from deepclust.core.run.sorting import MARKER, PARTIAL, Sorting, asked_for

LONG = "/" + "é" * 60 + ".jpeg"
NAMES = [
    "a.jpg", "b/a.jpg", "b__a.jpg", "b/c/a.jpg", "A.JPG", "b/a", "noend", ".hidden", "two.dots.png",
    "ü ñ.jpg", "line\nfeed.jpg", "c/b__a.jpg", "c__b/a.jpg", "x" * 120 + LONG, "y" * 120 + LONG,
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made_data(names=NAMES, root="photos"):
    for name in names:
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return Data(torch.zeros(len(names), 2), "photos", files=list(names), root=Path(root))


def contents(folder):
    """What stands under each cluster's folder, as (cluster, text) pairs."""
    return sorted(
        (p.parent.name, p.read_text()) for p in Path(folder).glob("*/*") if p.is_file() and p.name != MARKER
    )


def wanted(names, labels):
    return sorted((f"cluster-{k:02}", f"this is {name}") for name, k in zip(names, labels, strict=True))


def tree(folder):
    """Everything under a folder, links as what they point to."""
    return {
        str(p): os.readlink(p) if p.is_symlink() else p.is_file() and p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
    }


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_every_file_is_in_its_cluster_once(copy, seed):
    data = made_data()
    before = tree("photos")
    labels = np.random.default_rng(seed).integers(0, 3, len(NAMES))
    Sorting(Path("out/sorted"), copy).sort(data, labels, 4, quiet=True)
    assert contents("out/sorted") == wanted(NAMES, labels)
    assert sorted(p.name for p in Path("out/sorted").iterdir() if p.name != MARKER) == [
        f"cluster-0{k}" for k in range(4)
    ]
    made = list(Path("out/sorted").glob("*/*"))
    assert all(p.is_symlink() != copy for p in made)
    assert len({p.name.casefold() for p in made if p.parent.name == "cluster-00"}) == np.sum(labels == 0)
    endings = {f"this is {name}": Path(name).suffix for name in NAMES}
    assert all(p.suffix == endings[p.read_text()] for p in made)
    assert tree("photos") == before


def test_links_survive_a_move_of_both():
    Path("work").mkdir()
    data = made_data(["a/b.jpg"], "work/photos")
    Sorting(Path("work/deep/er/sorted")).sort(data, np.array([1]), 2, quiet=True)
    Path("work").rename("elsewhere")
    assert contents("elsewhere/deep/er/sorted") == [("cluster-01", "this is a/b.jpg")]


def test_links_through_links():
    """A folder that is itself reached by a link has other parents than its path says."""
    Path("disk/deep/down").mkdir(parents=True)
    Path("here").symlink_to("disk/deep/down")
    data = made_data(["a.jpg"], "disk/photos")
    Path("there").symlink_to("disk/photos")
    Sorting(Path("here/sorted")).sort(
        Data(data.x, "photos", files=data.files, root=Path("there")), np.array([0]), 2
    )
    assert contents("here/sorted") == [("cluster-00", "this is a.jpg")]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
@pytest.mark.parametrize("copy", [False, True])
def test_names_that_are_no_text_are_found_by_what_tables_call_them(copy):
    Path("photos").mkdir()
    Path("photos", os.fsdecode(b"caf\xe9.jpg")).write_text("this is coffee")
    Path("photos", r"real\udce8.jpg").write_text("this is what it says")
    data = Data(torch.zeros(2, 2), "photos", files=[r"caf\udce9.jpg", r"real\udce8.jpg"], root=Path("photos"))
    for _ in range(2):
        Sorting(Path("sorted"), copy).sort(data, np.array([0, 0]), 2, quiet=True)
        assert contents("sorted") == [
            ("cluster-00", "this is coffee"),
            ("cluster-00", "this is what it says"),
        ]


@pytest.mark.parametrize("copies", [(False, False), (True, True), (False, True), (True, False)])
def test_again_replaces_its_own_and_nothing_else(copies):
    data = made_data(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    folder = Path("sorted")
    Sorting(folder, copies[0]).sort(data, np.array([0, 0, 1, 2]), 3, quiet=True)
    (folder / "mine.txt").write_text("mine")
    (folder / "cluster-00/also mine.txt").write_text("mine")
    (folder / "cluster-01/c.jpg").unlink()
    (folder / "cluster-01/c.jpg").write_text("changed by hand")
    (folder / "cluster-09").mkdir()
    Sorting(folder, copies[1]).sort(data, np.array([1, 0, 1, 1]), 2, quiet=True)
    assert contents(folder) == sorted(
        [
            ("cluster-00", "mine"),
            ("cluster-00", "this is b.jpg"),
            ("cluster-01", "changed by hand"),
            ("cluster-01", "this is a.jpg"),
            ("cluster-01", "this is c.jpg"),
            ("cluster-01", "this is d.jpg"),
        ]
    )
    assert (folder / "mine.txt").read_text() == "mine"
    assert (folder / "cluster-01/c.jpg").read_text() == "changed by hand"
    assert not (folder / "cluster-02").exists()  # ours, and empty now
    assert (folder / "cluster-09").exists()  # empty, but not ours
    once = tree(folder)
    Sorting(folder, copies[1]).sort(data, np.array([1, 0, 1, 1]), 2, quiet=True)
    assert tree(folder) == once


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("stop", range(4))
def test_a_stop_anywhere_leaves_what_the_same_command_completes(copy, stop, monkeypatch):
    data = made_data(["a.jpg", "b.jpg", "c.jpg"])
    sorting = Sorting(Path("sorted"), copy)
    name = "replace" if copy else "symlink"
    act, calls = getattr(os, name), []

    def until(*arguments, **options):
        calls.append(arguments)
        if len(calls) > stop:
            raise KeyboardInterrupt
        return act(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, name, until)
        with pytest.raises(KeyboardInterrupt):
            sorting.sort(data, np.array([0, 1, 1]), 2, quiet=True)
    sorting.sort(data, np.array([1, 1, 0]), 2, quiet=True)
    assert contents("sorted") == wanted(data.files, [1, 1, 0])
    assert not Path("sorted", PARTIAL).exists()


def test_a_system_without_links_gets_copies(monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise OSError("no links here")

    data = made_data(["a.jpg", "b.jpg"])
    monkeypatch.setattr(os, "symlink", refuse)
    Sorting(Path("sorted")).sort(data, np.array([0, 1]), 2)
    assert contents("sorted") == wanted(data.files, [0, 1])
    assert "takes no links: the files are copied" in capsys.readouterr().err


def occupied():
    Path("taken").mkdir()
    Path("taken/thesis.doc").write_text("years of work")


def broken():
    Path("taken").mkdir()
    Path("taken", MARKER).write_text("{")


REFUSED = {
    "in the data": (lambda: None, "photos/sorted", "lies in the data's own folder"),
    "the data": (lambda: None, "photos", "lies in the data's own folder"),
    "in the data by a link": (lambda: Path("link").symlink_to("photos"), "link/x", "lies in the data's own"),
    "above the data": (lambda: None, ".", "is not empty and was not made by --sort-into"),
    "not empty": (occupied, "taken", "is not empty and was not made by --sort-into"),
    "a broken marker": (broken, "taken", "is broken"),
    "a file": (lambda: Path("file").touch(), "file", "cannot sort into 'file': Not a directory"),
    "below a file": (lambda: Path("file").touch(), "file/x", "cannot sort into 'file/x': Not a directory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_made(case):
    prepare, folder, reason = REFUSED[case]
    data = made_data(["a.jpg"])
    prepare()
    before = tree(".")
    for act in (lambda s: s.check(data), lambda s: s.sort(data, np.array([0]), 2)):
        with pytest.raises(DeepclustError, match="--sort-into|cannot|broken") as error:
            act(Sorting(Path(folder)))
        assert reason in str(error.value)
    assert tree(".") == before


def test_data_without_files():
    with pytest.raises(DeepclustError, match="links files, and the data .rows. are none"):
        Sorting(Path("sorted")).check(Data(torch.zeros(3, 2), "rows", files=["p1", "p2", "p3"], key="name"))


def test_copies_without_a_folder():
    with pytest.raises(DeepclustError, match="--sort-into DIR"):
        asked_for(None, True)
    assert asked_for(None, False) is None


def test_a_marker_cannot_reach_outside():
    data = made_data(["a.jpg"])
    Path("outside").mkdir()
    Path("outside/link").symlink_to("x")
    Path("sorted").mkdir()
    Path("sorted", MARKER).write_text(
        '{"folders": ["..", "../outside"], "made": {"../outside/link": "x", "../link": "x"}}'
    )
    Path("link").symlink_to("x")
    Sorting(Path("sorted")).sort(data, np.array([0]), 2, quiet=True)
    assert Path("outside/link").is_symlink()
    assert Path("link").is_symlink()


def test_a_run_refuses_before_training():
    result = CliRunner().invoke(main, ["run", "--sort-into", "sorted", "--out", "run", "--device", "cpu"])
    assert result.exit_code == 2
    assert "Error: --sort-into links files" in result.output
    assert not list(Path().iterdir())


def images(folder, count, seed=0):
    from PIL import Image

    generator = np.random.default_rng(seed)
    for i in range(count):
        path = Path(folder, f"d{i % 3}", f"{i:02}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 60, (8, 8)) + 190 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8), "L").save(path)


def by_table(path):
    """(cluster, file's last name) of each row of a table of labels."""
    rows = csv.DictReader(Path(path).read_text().splitlines())
    return sorted((f"cluster-{int(row['cluster']):02}", Path(row["file"]).name) for row in rows)


def by_links(folder):
    return sorted(
        (p.parent.name, Path(os.path.realpath(p)).name.split("__")[-1]) for p in Path(folder).glob("*/*")
    )


def test_run_and_predict_sort_a_folder_of_images():
    pytest.importorskip("deepclust.plugins.images.folder")
    images("photos", 24)
    images("more", 6, seed=1)
    command = [
        "run", "--evaluator", "clustering", "--data", "photos", "--clusters", "2",
        "--out", "run", "--clusterer", "kmeans", "-q",
        "--epochs-scale", "0.1", "-s", "encoder.hidden=16", "--device", "cpu", "--sort-into", "sorted",
        "--cache", "cache",
    ]  # fmt: skip
    for _ in range(2):  # a finished run is sorted as well
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert by_links("sorted") == by_table("run/labels.csv")
        Path("sorted/cluster-00").rename("elsewhere")
        for link in Path("elsewhere").iterdir():
            link.unlink()
        Path("elsewhere").rmdir()
    more = ["predict", "run", "more", "-o", "more.csv", "--sort-into", "new", "--copy", "--cache", "cache"]
    result = CliRunner().invoke(main, more)
    assert result.exit_code == 0, result.output
    assert by_links("new") == by_table("more.csv")
    inside = CliRunner().invoke(main, [*command, "--sort-into", "photos/sorted"])
    assert inside.exit_code == 2
    assert "lies in the data's own folder" in inside.output
