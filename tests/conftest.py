"""Fixtures of the tests of folders of images."""

import pytest


@pytest.fixture
def photo_folder(tmp_path, monkeypatch):
    """The working directory is to hold the cache, and holds the folder ``photos``."""
    from deepclust.plugins.images import cache

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPCLUST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "CLOCK_STEP", 0)  # else files that were just made are always read again
    (tmp_path / "photos").mkdir()


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded since it was last cleared, as a list of their shapes."""
    from deepclust.plugins.images import decoding

    calls = []
    real = decoding.decode
    monkeypatch.setattr(
        decoding, "decode", lambda content, shape: calls.append(shape) or real(content, shape)
    )
    return calls
