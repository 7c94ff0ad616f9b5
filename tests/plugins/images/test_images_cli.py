"""Folders of images, from the command line."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from made_command import deepclust
from made_photo import RNG, load, noise, photos, save

pytestmark = pytest.mark.usefixtures("photo_folder")

TINY = [
    "--encoder", "sdae",
    "--evaluator", "clustering", "--device", "cpu", "--precision", "float32",
    "--clusterer", "kmeans", "--clusters", "2",
    "-s", "encoder.layer_epochs=1", "-s", "encoder.epochs=1", "-s", "encoder.hidden=8",
    "-s", "encoder.latent_dim=2", "-s", "clusterer.n_init=1",
]  # fmt: skip


def run(*arguments, code=0):
    return deepclust("run", *TINY, *arguments, code=code)


def test_a_run_on_a_folder():
    for i in range(11):
        save(f"{'ab'[i % 2]}/{i}.png", noise() // 8 + 200 * (i % 2))
    Path('photos/a/bad, "file".png').write_bytes(b"x")
    result = run("--data", "photos", "--out", "out")
    assert "1 file could not be read" in result.stderr
    assert Path("out/skipped.csv").read_text() == (
        'file,reason\n"a/bad, ""file"".png",no image in a format that Pillow reads\n'
    )
    lines = Path("out/labels.csv").read_text().splitlines()
    assert lines[0].startswith("file,cluster,")
    assert "truth" not in lines[0]
    assert [line.partition(",")[0] for line in lines[1:]] == load().files
    scores = json.loads(Path("out/scores.json").read_text())
    assert "accuracy" not in scores["evaluators"]["clustering"]

    run("--data", "photos", "--out", "labelled", "--labels", "folders", "--image-size", "4x6")
    assert "truth" in Path("labelled/labels.csv").read_text().splitlines()[0]
    assert json.loads(Path("labelled/run.json").read_text())["data"]["shape"] == [3, 4, 6]
    assert "accuracy" in json.loads(Path("labelled/scores.json").read_text())["evaluators"]["clustering"]


def test_labels_change_nothing_but_the_scores():
    for i in range(12):
        save(f"{'ab'[i % 2]}/{i}.png", noise())
    run("--data", "photos", "--out", "without")
    run("--data", "photos", "--out", "with", "--labels", "folders")
    assert np.array_equal(np.load("without/embedding.npy"), np.load("with/embedding.npy"))
    clusters = [
        [line.split(",")[1] for line in Path(out, "labels.csv").read_text().splitlines()]
        for out in ("with", "without")
    ]
    assert clusters[0] == clusters[1]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there all names are Unicode")
def test_a_run_on_names_that_are_no_unicode():
    photos(6)
    os.rename(b"photos/001.png", b"photos/cl\xe9.png")
    os.rename("photos", b"f\xf6lder")
    run("--data", os.fsdecode(b"f\xf6lder"), "--out", "out")
    assert "cl\\udce9.png" in Path("out/labels.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [[], ["a.txt", "b.csv"]])
def test_a_run_on_a_folder_without_images(content):
    for name in content:
        Path("photos", name).write_text("x")
    result = run("--data", "photos", "--out", "out", code=2)
    assert "no images in" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("out").exists()


def test_a_run_on_values_of_more_than_8_bits():
    for i in range(12):
        values = RNG.integers(0, 2000 + 2000 * (i % 2), (8, 8)).astype(np.uint16)
        save(f"{['train', 'val'][i % 3 == 0]}/{'ab'[i % 2]}/{i}.png", values)
    result = run("--data", "photos", "--out", "out", "--labels", "folders")
    low, high = load().preparation.source
    assert f"values from {low:g} to {high:g} become black to white" in result.stderr
    assert "data.labels=parent" in result.stdout + result.stderr
    made = json.loads(Path("out/run.json").read_text())["preparation"]
    assert made["source"] == [low, high]
    run("--data", "photos", "--out", "parent", "--labels", "parent", "-s", "data.range=0..4095")
    assert "truth" in Path("parent/labels.csv").read_text().splitlines()[0]
    assert json.loads(Path("parent/run.json").read_text())["preparation"]["source"] == [0, 4095]
    deepclust("predict", "parent", "photos", "-o", "new.csv", "--device", "cpu")
    columns = [
        [line.split(",")[:2] for line in Path(name).read_text().splitlines()]
        for name in ("new.csv", "parent/labels.csv")
    ]
    assert columns[0] == columns[1]


def test_a_run_with_wrong_settings():
    photos(4)
    assert "HEIGHTxWIDTH" in run("--data", "photos", "--image-size", "huge", code=2).stderr
    assert "none, folders" in run("--data", "photos", "--labels", "names", code=2).stderr
    said = run("--data", "photos", "-s", "data.range=5..2", code=2).stderr
    assert "LOW..HIGH" in said
    assert len(said.strip().splitlines()) == 1
    assert "max_skipped" in run("--data", "photos", "-s", "data.max_skipped=2", code=2).stderr
    assert not Path("runs").exists()
