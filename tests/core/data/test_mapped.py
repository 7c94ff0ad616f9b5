"""Memory-mapped samples: the same values as in memory, and nothing of them that stays."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deepclust.core import Data, Mapped, Storage
from deepclust.core.contract.registry import installed


def mapped_data(path: Path, n: int) -> Data:
    np.save(path, np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8))
    array = np.load(path, mmap_mode="r+")
    return Data(torch.from_numpy(array), "mapped", mapped=Mapped(array))


def resident(path: Path) -> int:
    """Bytes of a mapped file that are resident in this process, as Linux counts them."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            found = line.endswith(str(path))
        elif found and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.parametrize("by_position", [True, False], ids=["by position", "through the map"])
@pytest.mark.parametrize("layout", ["as samples", "channels last", "grey"])
def test_values_are_those_of_the_array(tmp_path, monkeypatch, layout, by_position):
    if not by_position:
        monkeypatch.delattr(os, "preadv")
    shape = {"as samples": (200, 3, 9, 8), "channels last": (200, 9, 8, 3), "grey": (200, 9, 8)}[layout]
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    cls = installed().load("dataset", "array")
    data = cls(cls.Config(path=str(tmp_path / "x.npy"))).load(Storage(tmp_path))
    assert data.mapped is not None
    axes = {"as samples": (0, 1, 2, 3), "channels last": (0, 3, 1, 2), "grey": (0, 3, 1, 2)}[layout]
    wanted = np.atleast_3d(x).reshape(200, 9, 8, -1) if layout == "grey" else x
    wanted = wanted.transpose(axes)
    held = Data(torch.from_numpy(wanted.copy()), "held")
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        index = torch.randint(0, 200, (32,), generator=generator)
        assert torch.equal(data.batch(index), held.batch(index))
        start = int(index[0])
        assert torch.equal(data.slice(start, start + 50), held.slice(start, start + 50))
    assert data.slice(200, 300).shape == (0, *held.shape)
    assert data.batch(torch.empty(0, dtype=torch.int64)).shape == (0, *held.shape)
    assert data.fingerprint() == held.fingerprint()
    assert data.mean_square() == held.mean_square()


def test_a_file_that_was_replaced_is_still_the_one_that_was_opened(tmp_path):
    data = mapped_data(tmp_path / "x.npy", 50)
    before = data.slice(0, 50)
    np.save(tmp_path / "other.npy", np.zeros((50, 3, 32, 32), np.uint8))
    os.replace(tmp_path / "other.npy", tmp_path / "x.npy")
    assert torch.equal(data.slice(0, 50), before)
    assert torch.equal(data.batch(torch.arange(50)), before)


def test_a_file_that_was_cut_is_an_error_and_no_garbage(tmp_path):
    data = mapped_data(tmp_path / "x.npy", 50)
    os.truncate(tmp_path / "x.npy", 3072 * 20)
    with pytest.raises(OSError, match="shorter"):
        data.slice(0, 50)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_that_was_read_stays(tmp_path):
    path = tmp_path / "x.npy"
    data = mapped_data(path, 10_000)
    assert data.x.nbytes > 30_000_000
    data.mean_square()
    for _ in range(100):
        data.batch(torch.randint(0, 10_000, (64,)))
    assert resident(path) < 4_000_000
    Data(data.x, "through the map").mean_square()
    assert resident(path) > 25_000_000, "the measure sees what a map leaves"
