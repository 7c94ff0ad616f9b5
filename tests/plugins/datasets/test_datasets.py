"""Data from files: every layout that NumPy and torchvision write, and every way in which they fail."""

import bz2
import itertools
import json
import pickle
import struct

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import sparse
from sklearn.datasets import load_digits

from deepclust.cli import main
from deepclust.core import Data, InvalidData, Storage
from deepclust.core.contract.config import build
from deepclust.core.contract.registry import installed


def load(name: str, root="nowhere", **settings) -> Data:
    cls = installed().load("dataset", name)
    return cls(build(cls.Config, settings, "data")).load(Storage(root))


def read(path, **settings) -> Data:
    return load("array", path=str(path), **settings)


RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(10, 4)).astype(np.float32)
LABELS = np.arange(10) % 3


def test_digits_are_scikit_learns():
    data = load("digits")
    bunch = load_digits()
    assert data.x.shape == (1797, 1, 8, 8)
    assert data.x.dtype == torch.float32
    assert np.allclose(data.x.flatten(1).numpy() * 16, bunch.data)
    assert np.array_equal(data.truth.labels, bunch.target)
    assert len(data.truth.names) == 10


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y"), ("data", "target"), ("images", "labels")])
def test_the_usual_names_in_an_archive(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (ROWS, LABELS), strict=True)), other=np.zeros(3))
    data = read(tmp_path / "a.npz")
    assert np.array_equal(data.x.numpy(), ROWS)
    assert np.array_equal(data.truth.labels, LABELS)
    assert "10 samples" in data.description


def test_names_that_the_user_gives(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", rows=ROWS, kinds=LABELS, x=np.zeros((10, 2)))
    data = read(tmp_path / "a.npz", x="rows", y="kinds")
    assert np.array_equal(data.x.numpy(), ROWS)
    assert np.array_equal(data.truth.labels, LABELS)
    assert read(tmp_path / "a.npz").truth is None
    with pytest.raises(InvalidData, match="rows, kinds, x.*data.x=NAME"):
        read(tmp_path / "a.npz", x="nothing")
    with pytest.raises(InvalidData, match="'nothing'"):
        read(tmp_path / "a.npz", y="nothing")


@pytest.mark.parametrize(("split", "rows"), [("all", range(10)), ("train", range(7)), ("test", range(7, 10))])
def test_splits_of_an_archive(tmp_path, split, rows):
    np.savez(tmp_path / "a.npz", x_train=ROWS[:7], x_test=ROWS[7:], y_train=LABELS[:7], y_test=LABELS[7:])
    data = read(tmp_path / "a.npz", split=split)
    assert np.array_equal(data.x.numpy(), ROWS[list(rows)])
    assert np.array_equal(data.truth.labels, LABELS[list(rows)])
    assert ("train and test" if split == "all" else f"split {split}") in data.description


def test_the_only_array_of_an_archive_is_the_samples(tmp_path):
    np.savez(tmp_path / "a.npz", ROWS)
    assert np.array_equal(read(tmp_path / "a.npz").x.numpy(), ROWS)


def test_labels_from_their_own_file(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    np.save(tmp_path / "y.npy", np.array(list("abcabcabca")))
    data = read(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"))
    assert data.truth.names == ("a", "b", "c")
    assert np.array_equal(data.truth.labels, LABELS)
    with pytest.raises(InvalidData, match=r"none\.npy"):
        read(tmp_path / "x.npy", labels=str(tmp_path / "none.npy"))


@pytest.mark.parametrize("labels", [LABELS[:9], LABELS[:0], np.tile(LABELS, 2)])
def test_a_label_for_each_sample(tmp_path, labels):
    np.savez(tmp_path / "a.npz", x=ROWS, y=labels)
    with pytest.raises(InvalidData, match=f"10 samples but {len(labels)} labels"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["f8", "i4", "u2", "?", ">f4", ">i8", "i1"])
def test_numbers_become_float32(tmp_path, dtype):
    x = (ROWS * 50).astype(dtype) if dtype != "?" else ROWS > 0
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "images.npy", x[:, None])
    for data in (read(tmp_path / "x.npy", scale="none"), read(tmp_path / "images.npy")):
        assert data.x.dtype == torch.float32
        assert np.array_equal(data.x.numpy().reshape(x.shape), x.astype(np.float32))
    data = read(tmp_path / "x.npy")
    assert data.x.dtype in (torch.float32, torch.float64)
    assert np.array_equal(data.x.numpy(), x), "no value of rows is rounded before they are scaled"
    assert data.batch(torch.arange(10)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.float64])
def test_a_file_of_the_right_type_is_mapped_and_not_copied(tmp_path, dtype):
    x = (ROWS * 20 + 100).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    data = read(tmp_path / "x.npy")
    assert data.x.numpy().dtype == dtype
    with (tmp_path / "x.npy").open("r+b") as file:  # what is written to the file shows in the samples
        file.seek(-x.itemsize, 2)
        file.write(dtype(77).tobytes())
    assert data.x[-1, -1] == 77
    assert np.array_equal(data.x.numpy().ravel()[:-1], x.ravel()[:-1])


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((5, 6, 7, 3), "auto", (5, 3, 6, 7)),
        ((5, 6, 7, 1), "auto", (5, 1, 6, 7)),
        ((5, 3, 6, 7), "auto", (5, 3, 6, 7)),
        ((5, 6, 7, 2), "last", (5, 2, 6, 7)),
        ((5, 3, 6, 4), "first", (5, 3, 6, 4)),
        ((5, 6, 7), "auto", (5, 1, 6, 7)),
        ((5, 6), "auto", (5, 6)),
    ],
)
def test_images_become_channels_first(tmp_path, shape, channels, expected):
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    data = read(tmp_path / "x.npy", channels=channels, scale="none")
    assert tuple(data.x.shape) == expected
    moved = np.moveaxis(x, 3, 1) if len(shape) == 4 and shape != expected else x.reshape(expected)
    assert np.array_equal(data.x.numpy(), moved)
    batch = data.batch(torch.tensor([4, 1]))
    assert np.allclose(batch.numpy() * 255, moved[[4, 1]])


def test_channels_last_is_a_view_of_the_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8, 3), np.uint8))
    x = read(tmp_path / "x.npy").x
    assert x.stride() == (8 * 8 * 3, 1, 8 * 3, 3)


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_objects_are_never_unpickled(tmp_path):
    trap = tmp_path / "trap"
    bombs = np.array([Bomb(trap), None], dtype=object)
    np.save(tmp_path / "x.npy", bombs)
    np.savez(tmp_path / "x.npz", x=bombs)
    np.savez(tmp_path / "y.npz", x=ROWS[:2], y=bombs)
    np.save(tmp_path / "rows.npy", ROWS[:2])
    for path, more in (("x.npy", {}), ("x.npz", {}), ("y.npz", {}),
                       ("rows.npy", {"labels": str(tmp_path / "x.npy")})):  # fmt: skip
        with pytest.raises(InvalidData, match="never unpickled"):
            read(tmp_path / path, **more)
    assert not trap.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert trap.exists(), "the trap works"


def broken_files(folder):
    """Files that cannot be read, by what is wrong with them."""
    np.save(folder / "good.npy", ROWS)
    np.savez_compressed(folder / "good.npz", x=RNG.normal(size=(200, 9)))
    npy, npz = (folder / "good.npy").read_bytes(), (folder / "good.npz").read_bytes()
    flipped = bytearray(npz)
    for i in range(300, 330):
        flipped[i] ^= 0xFF
    yield "empty.npy", b""
    yield "cut-header.npy", npy[:20]
    yield "cut-values.npy", npy[:-8]
    yield "text.npy", b"1,2,3\n4,5,6\n"
    yield "archive.npy", npz
    yield "empty.npz", b""
    yield "cut.npz", npz[:-40]
    yield "cut-early.npz", npz[:100]
    yield "flipped.npz", bytes(flipped)
    yield "array.npz", npy
    yield "text.npz", b"hello"


def test_broken_files_are_named(tmp_path):
    for name, content in broken_files(tmp_path):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidData) as caught:
            read(tmp_path / name)
        assert name in str(caught.value)
        assert "Python objects" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "x",
    [
        np.array(3.0),
        np.zeros(5),
        np.zeros((2, 2, 2, 2, 2)),
        np.zeros((3, 2), complex),
        np.array([["a", "b"]]),
        np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]),
        np.array(["2020-01-01"], dtype="M8[D]").reshape(1, 1),
    ],
    ids=lambda x: f"{x.dtype.kind}{x.ndim}",
)
@pytest.mark.parametrize("labelled", [False, True])
def test_arrays_that_are_no_samples(tmp_path, x, labelled):
    np.savez(tmp_path / "x.npz", x=x, **({"y": LABELS[:2]} if labelled else {}))
    np.save(tmp_path / "x.npy", x)
    for name in ("x.npz", "x.npy"):
        with pytest.raises(InvalidData, match=name):
            read(tmp_path / name)


def test_a_single_number_is_no_labels(tmp_path):
    np.savez(tmp_path / "x.npz", x=ROWS, y=np.array(3))
    with pytest.raises(InvalidData, match="label"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dia", "bsr"])
@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8, np.bool_])
def test_sparse_matrices_are_made_dense(tmp_path, form, dtype):
    wanted = np.random.default_rng(0).integers(0, 4, (30, 8)) * (np.arange(8) % 3 == 0)
    wanted = wanted.astype(dtype)
    sparse.save_npz(tmp_path / "x.npz", sparse.coo_matrix(wanted).asformat(form))
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    data = read(tmp_path / "x.npz", labels=str(tmp_path / "y.npy"))
    assert data.x.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
    assert data.x.numpy().tolist() == wanted.astype(float).tolist()
    assert data.truth.labels.tolist() == [i % 3 for i in range(30)]
    assert "sparse" in data.description


def test_sparse_matrices_that_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    sparse.save_npz(path, sparse.csr_matrix((10**6, 10**5)))
    with pytest.raises(
        InvalidData, match=r"1,000,000 rows of 100,000, which takes 372.5 GiB .* TruncatedSVD"
    ):
        read(path)
    sparse.save_npz(path, sparse.csr_matrix(np.eye(3) * 1j))
    with pytest.raises(InvalidData, match="complex128; numbers are needed"):
        read(path)
    whole = {"format": b"csr", "shape": (2, 6), "data": np.ones(2), "indptr": [0, 1, 2], "indices": [0, 5]}
    np.savez(path, **whole)
    assert read(path).x.sum() == 2
    for broken in ({"indices": [0, 900]}, {"indices": [0, -9]}, {"indptr": [0, 5, 2]}, {"format": b"xyz"},
                   {"format": np.ones(3)}, {"shape": (2, -6)}):  # fmt: skip
        np.savez(path, **{**whole, **broken})
        with pytest.raises(InvalidData, match="cannot be read"):
            read(path)


def test_paths_that_are_no_array(tmp_path):
    (tmp_path / "rows.csv").write_text("1,2")
    with pytest.raises(InvalidData, match="is a folder"):
        read(tmp_path)
    with pytest.raises(InvalidData, match=r"ends in '\.csv'"):
        read(tmp_path / "rows.csv")
    with pytest.raises(InvalidData, match=r"none\.npy"):
        read(tmp_path / "none.npy")
    with pytest.raises(InvalidData, match="--data"):
        read("")


def write_idx(path, array):
    """The idx format of LeCun's page: two zeros, type, dimensions, big-endian sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def tiny_mnist(root, folder="MNIST"):
    images = RNG.integers(0, 256, (80, 28, 28), dtype=np.uint8)
    labels = (np.arange(80) % 10).astype(np.uint8)
    for split, rows in (("train", slice(0, 60)), ("t10k", slice(60, 80))):
        write_idx(root / folder / "raw" / f"{split}-images-idx3-ubyte", images[rows])
        write_idx(root / folder / "raw" / f"{split}-labels-idx1-ubyte", labels[rows])
    return images, labels


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_through_torchvision(tmp_path, name, folder):
    images, labels = tiny_mnist(tmp_path, folder)
    for split, rows in (("all", slice(0, 80)), ("train", slice(0, 60)), ("test", slice(60, 80))):
        data = load(name, tmp_path, split=split)
        assert data.x.dtype == torch.uint8
        assert np.array_equal(data.x.numpy()[:, 0], images[rows])
        assert data.x.shape[1:] == (1, 28, 28)
        assert np.array_equal(data.truth.labels, labels[rows])
        assert len(data.truth.names) == 10
    apart = load(name, tmp_path, split="train-test", leave_out=data.truth.names[3])
    kept = labels[:60] != 3
    assert np.array_equal(apart.x.numpy()[:, 0], images[:60][kept])
    assert np.array_equal(apart.truth.labels, labels[:60][kept])
    assert np.array_equal(apart.test.x.numpy()[:, 0], images[60:])
    assert np.array_equal(apart.test.truth.labels, labels[60:])


def test_mnist_files_that_are_cut(tmp_path):
    tiny_mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    for file, keep in itertools.product(
        ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), (0, 3, 12, 23)
    ):
        whole = (raw / file).read_bytes()
        (raw / file).write_bytes(whole[:keep])
        with pytest.raises(InvalidData, match="MNIST could not be read"):
            load("mnist", tmp_path)
        (raw / file).write_bytes(whole)
    load("mnist", tmp_path)


def test_usps_through_torchvision(tmp_path):
    images = RNG.integers(0, 256, (30, 16, 16))
    for name, rows in (("usps.bz2", range(20)), ("usps.t.bz2", range(20, 30))):
        lines = (
            " ".join(
                [str(i % 10 + 1), *(f"{j + 1}:{v / 127.5 - 1:.6f}" for j, v in enumerate(images[i].flat))]
            )
            for i in rows
        )
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    data = load("usps", tmp_path)
    assert data.x.shape == (30, 1, 16, 16)
    assert np.abs(data.x[:, 0].numpy().astype(int) - images).max() <= 1
    assert data.truth.labels.tolist() == [i % 10 for i in range(30)]
    (tmp_path / "usps.t.bz2").write_bytes(b"no bz2")
    with pytest.raises(InvalidData, match="USPS could not be read"):
        load("usps", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion-mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte"),
        ("usps", "usps.t.bz2"),
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("cifar100", "cifar-100-python/train"),
        ("stl10", "stl10_binary/test_X.bin"),
        ("stl10", "stl10_binary/unlabeled_X.bin"),
    ],
)
def test_missing_files_are_named_with_the_way_to_get_them(tmp_path, name, file):
    with pytest.raises(InvalidData) as caught:
        load(name, tmp_path)
    for word in (file, str(tmp_path), "--data-root", "--download"):
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_files_of_other_content_are_refused_unread(tmp_path, name):
    """torchvision unpickles CIFAR's files, so it must have compared their checksums before."""
    trap = tmp_path / "trap"
    for file in installed().load("dataset", name).files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(pickle.dumps(Bomb(trap)))
    with pytest.raises(InvalidData, match="corrupted"):
        load(name, tmp_path)
    assert not trap.exists()


def test_copies_share_their_cluster(tmp_path):
    """Wherever they stand in a batch, and at more clusters than there are groups."""
    rng = np.random.default_rng(0)
    copied = rng.integers(0, 9, 301)
    np.savez(tmp_path / "x.npz", x=rng.normal(size=(9, 6)).astype(np.float32)[copied])
    arguments = [
        "run", "--data", str(tmp_path / "x.npz"), "--clusters", "7", "--out", str(tmp_path / "run"), "-q",
        "--epochs-scale", "0.1", "-s", "encoder.hidden=16", "--evaluator", "clustering",
    ]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    labels = np.array([line.split(",")[1] for line in (tmp_path / "run/labels.csv").read_text().split()[1:]])
    assert all(len({*labels[copied == i]}) == 1 for i in range(9))
    notices = json.loads((tmp_path / "run/scores.json").read_text())["protocol"]["notices"]
    assert any("292 of the 301 samples are copies of others" in notice for notice in notices)
