"""Folders of images: reading that is interrupted or killed, done twice at once, or done by workers."""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from deepclust.core import Storage
from deepclust.plugins.images import cache, decoding, pool
from made_photo import (
    added,
    broke,
    cache_files,
    channels_last,
    fresh,
    load,
    photos,
    removed,
    renamed,
    same,
    save,
)

pytestmark = pytest.mark.usefixtures("photo_folder")

# Interrupted and killed


@contextmanager
def interrupted_after(count, decoded, monkeypatch):
    """Ctrl-C when so many images were decoded."""
    counting = decoding.decode

    def decode(*args):
        if len(decoded) == count:
            raise KeyboardInterrupt
        return counting(*args)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode", decode)
        yield


@pytest.mark.parametrize("where", [1, 5, 11])
def test_ctrl_c_keeps_what_was_decoded(where, decoded, monkeypatch):
    photos(12)
    monkeypatch.setattr(pool, "CHUNK_FILES", 1)
    said = f"decoding, at {where} of 12 images"
    with interrupted_after(where, decoded, monkeypatch), pytest.raises(KeyboardInterrupt, match=said):
        load()
    data = load()
    assert len(decoded) == 12
    assert same(data, fresh())
    assert cache_files() == ["index.npz", "lock", "pixels"]


CHANGES = {added: 1, removed: 0, renamed: 0, broke: 1}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_ctrl_c_and_then_another_folder(change, decoded, monkeypatch):
    photos(12)
    monkeypatch.setattr(pool, "CHUNK_FILES", 1)
    counting = decoding.decode

    def interrupted(*args):
        if len(decoded) == 8:
            raise KeyboardInterrupt
        return counting(*args)

    monkeypatch.setattr(decoding, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load()
    monkeypatch.setattr(decoding, "decode", counting)
    change()
    data = load()
    assert len(decoded) == 12 + CHANGES[change]
    assert same(data, fresh())
    assert cache_files() == ["index.npz", "lock", "pixels"]


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from deepclust.core import Storage
from deepclust.plugins.images import cache, decoding, index, pool
from deepclust.plugins.images.folder import Images, ImagesConfig

def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)

cache.SAVE_SECONDS, cache.SAVE_SHARE, pool.CHUNK_FILES = 0, float("inf"), 1
where, real, calls = sys.argv[1], decoding.decode, []
def decode(*args):
    calls.append(1)
    if where == "decoding" and len(calls) == 8:
        kill()
    if where == "slowly":
        time.sleep(0.05)
    return real(*args)
decoding.decode = decode
fsync, write = os.fsync, index.Index.write
if where == "waiting":
    os.fsync = lambda file: kill() if os.fstat(file).st_size == 11 * 192 else fsync(file)
if where == "moving":
    index.Index.write = lambda self, path, shape: kill() if self.complete else write(self, path, shape)
if where == "cleaning":
    index.Index.write = lambda self, path, shape: (
        write(self, path, shape), path.name == "index.npz" and kill()
    )
place = Storage(Path("nowhere"), cache=Path(sys.argv[2]), quiet=True)
data = Images(ImagesConfig(path="photos", max_skipped=0.5)).load(place)
print(data.fingerprint(), len(calls))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_at_any_moment(decoded):
    photos(12)
    broke()
    moments = {"decoding": 5, "moving": 6, "waiting": 0, "cleaning": 0}
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, m, f"cache-{m}"]) for m in moments]
    expected = fresh(max_skipped=0.5)
    for process, (moment, left) in zip(processes, moments.items(), strict=True):
        assert process.wait() == -signal.SIGKILL
        decoded.clear()
        place = Storage(Path("nowhere"), cache=Path(f"cache-{moment}"), quiet=True)
        assert same(load(place=place, max_skipped=0.5), expected)
        assert len(decoded) == left, moment
        assert cache_files(f"cache-{moment}") == ["index.npz", "lock", "pixels"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_before_the_pixels_were_on_the_disk(decoded):
    """What a power cut leaves: all is written down as done, and one row is not what was written."""
    photos(12)
    broke()
    assert subprocess.run([sys.executable, "-c", SCRIPT, "waiting", "cache"]).returncode == -signal.SIGKILL
    pixels = next(Path("cache").rglob("pixels-*"))
    pixels.write_bytes(pixels.read_bytes()[: 3 * 192] + bytes(192) + pixels.read_bytes()[4 * 192 :])
    data = load(max_skipped=0.5)
    assert len(decoded) == 1
    assert same(data, fresh(max_skipped=0.5))


def test_killed_after_a_part_was_moved_to_another_part(decoded, monkeypatch):
    photos(12)
    monkeypatch.setattr(pool, "CHUNK_FILES", 1)
    with interrupted_after(8, decoded, monkeypatch), pytest.raises(KeyboardInterrupt):
        load()
    added()
    with monkeypatch.context() as patch:

        def killed(*args):
            patch.setattr(cache._Update, "_save", lambda self: None)  # nothing is written from here on
            raise KeyboardInterrupt

        patch.setattr(cache, "decode_all", killed)
        with pytest.raises(KeyboardInterrupt):
            load()
    data = load()
    assert len(decoded) == 13
    assert same(data, fresh())


def test_two_processes_on_one_folder():
    photos(40)
    expected = fresh(max_skipped=0.5).fingerprint()
    command = [sys.executable, "-c", SCRIPT, "slowly", "cache"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].split() for process in processes]
    assert [fingerprint for fingerprint, _ in answers] == [expected] * 2
    assert sorted(int(count) for _, count in answers) == [0, 40]
    assert cache_files() == ["index.npz", "lock", "pixels"]


# Worker processes


@pytest.fixture
def workers(monkeypatch):
    """Everything is decoded by worker processes, four files at a time."""
    monkeypatch.setattr(pool, "FILES_A_SECOND", 1)
    monkeypatch.setattr(pool, "CHUNK_FILES", 4)
    monkeypatch.setattr(pool, "_cores", lambda: 2)


def test_workers_give_what_one_process_gives(workers, decoded):
    photos(30)
    broke()
    data = load(max_skipped=0.1)
    assert not decoded, "all was done elsewhere"
    assert [name for name, _ in data.skipped] == ["004.png"]
    pool.FILES_A_SECOND = 10**6
    assert same(data, fresh())
    assert len(decoded) == 30


def test_workers_use_the_scale_of_the_folder(workers, decoded):
    draw = np.random.default_rng(0)
    for i in range(30):
        save(f"{i}.png", draw.integers(0, 300 * (i + 1), (8, 8)).astype(np.uint16))
    data = load()
    assert not decoded
    assert data.preparation.source[1] == pytest.approx(9000, rel=0.1)
    pool.FILES_A_SECOND = 10**6
    assert same(data, fresh())
    assert same(load(range="0..255"), fresh(range="0..255"))


def test_workers_import_no_torch():
    code = "import sys, deepclust.plugins.images.worker; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "PIL.Image" in modules
    assert not {"torch", "numpy", "sklearn", "multiprocessing"} & set(modules)


PATCH = """
import os, signal, sys
import PIL.Image
real = PIL.Image.open
def open(file, *args, **more):
    if "worker" in " ".join(sys.orig_argv) and b"FATAL" in file.getvalue():
        os.kill(os.getpid(), signal.SIGSEGV)
    print("a decoder that talks")
    return real(file, *args, **more)
PIL.Image.open = open
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_file_that_kills_the_decoder_is_left_out(workers, monkeypatch, tmp_path):
    images = photos(30)
    for name in ("007.png", "008.png", "029.png"):
        with Path("photos", name).open("ab") as file:
            file.write(b"FATAL")
        del images[name]
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(PATCH)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    data = load(max_skipped=0.2)
    assert data.skipped == [(n, "the decoder crashed (signal 11)") for n in ("007.png", "008.png", "029.png")]
    assert np.array_equal(channels_last(data), np.stack(list(images.values())))


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python", ""])
def test_where_no_worker_starts_the_images_are_decoded_here(workers, decoded, monkeypatch, program):
    images = photos(10)
    monkeypatch.setattr(sys, "executable", program)
    assert np.array_equal(channels_last(load()), np.stack(list(images.values())))
    assert len(decoded) == 10


def test_ctrl_c_ends_the_workers(workers, monkeypatch):
    photos(30)
    real, seen = cache.decode_all, []

    def interrupted(*args):
        for answer in (chunks := real(*args)):
            seen.extend(answer[0])
            yield answer
            chunks.close()
            raise KeyboardInterrupt

    monkeypatch.setattr(cache, "decode_all", interrupted)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    with pytest.raises(KeyboardInterrupt, match="decoding, at 4 of 30 images"):
        load()
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    monkeypatch.setattr(cache, "decode_all", lambda *args: seen.append(list(args[3])) or real(*args))
    data = load()
    assert len(seen[-1]) == 26, "the four that were done are not decoded again"
    assert same(data, fresh())
