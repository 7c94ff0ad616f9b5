"""Folders of images: true classes from their folders, and folders that are splits."""

import re

import pytest

from deepclust.core import InvalidData
from made_photo import load, noise, photos, save

pytestmark = pytest.mark.usefixtures("photo_folder")


def tree(*folders):
    for folder in folders:
        save(f"{folder}/1.png", noise(32, 32))


def test_the_folder_that_directly_holds_the_file():
    tree("train/even", "train/odd", "val/even", "val/odd/x")
    save("top.png", noise())
    data = load(labels="parent")
    assert data.truth.names == ("even", "odd", "x")
    assert dict(zip(data.files, data.truth.labels.tolist(), strict=True)) == {
        "top.png": -1, "train/even/1.png": 0, "train/odd/1.png": 1, "val/even/1.png": 0, "val/odd/x/1.png": 2,
    }  # fmt: skip
    assert not data.notices


@pytest.mark.parametrize("labels", ["folders", "parent"])
def test_a_folder_without_folders(labels):
    photos(2)
    with pytest.raises(InvalidData, match="directly in"):
        load(labels=labels)


SPLITS = {
    "train and val": ("train/even", "train/odd", "val/even"),
    "capitals": ("Train/a", "TEST/b"),
    "years": ("train2017/a", "val_2017/b"),
    "one split": ("training/a", "training/b"),
    "the same folders": ("monday/cat", "monday/dog", "tuesday/cat", "tuesday/dog"),
}


@pytest.mark.parametrize("case", SPLITS)
def test_splits_are_named_with_what_helps(case):
    tree(*SPLITS[case])
    (notice,) = load(labels="folders").notices
    for folder in SPLITS[case]:
        assert all(f"'{name}'" in notice for name in folder.split("/"))
    asked = re.search(r"-s data\.labels=(\w+)", notice)[1]
    data = load(labels=asked)
    assert set(data.truth.names) == {folder.split("/")[1] for folder in SPLITS[case]}
    assert not data.notices
    assert not load().notices


def test_splits_without_folders_are_no_classes():
    tree("train", "test")
    (notice,) = load(labels="folders").notices
    assert "leave --labels out" in notice
    assert "parent" not in notice


@pytest.mark.parametrize(
    "folders",
    [
        ("cat", "dog"),
        ("cat/a", "cat/b", "dog/a"),
        ("cat/images", "dog/images"),
        ("cat/a", "cat/b"),
        ("train/a", "bus/b"),
        ("trainer/a", "testament/b"),
    ],
)
def test_classes_that_are_classes(folders):
    tree(*folders)
    assert not load(labels="folders").notices


def test_many_names_are_cut_short():
    tree(*(f"train/c{i}" for i in range(9)))
    (notice,) = load(labels="folders").notices
    assert "'c0', 'c1', 'c2' and 6 more" in notice
