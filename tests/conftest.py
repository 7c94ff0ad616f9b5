"""Fixtures that several files of tests take."""

import itertools
import signal
import sys
from textwrap import dedent

import pytest

NUMBERS = itertools.count()
HEADER = "from deepclust.core import Component, hookimpl\n"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks are slower on several, whose idle threads spin."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def hear_ctrl_c():
    """A shell has what it puts in the background ignore SIGINT, and so does every child of that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """A function that writes a distribution with one plugin where Python finds it; returns its module."""
    from deepclust.core.contract.registry import BLOCK, installed

    site = tmp_path_factory.mktemp("site-packages")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delenv(BLOCK, raising=False)
    before = set(sys.modules)

    def write(distribution, code, *, plugin=None, version="1.2", **modules):
        module = f"third_party_{next(NUMBERS)}"
        (site / module).mkdir()
        for name, text in {"__init__": HEADER + dedent(code), **modules}.items():
            source = dedent(text).replace("MODULE", module)
            (site / module / f"{name}.py").write_text(source)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        plugin = plugin or distribution.removeprefix("deepclust-")
        (info / "entry_points.txt").write_text(f"[deepclust]\n{plugin} = {module}\n")
        installed.cache_clear()
        return module

    yield write
    installed.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("third_party_"):
            del sys.modules[name]


ONE = """
from dataclasses import dataclass
import torch
from deepclust.core import Clusterer

@dataclass(frozen=True)
class OneConfig:
    pass

class One(Clusterer):
    Config = OneConfig
    def fit(self, encoder, data, run):
        run.child("start").notice("Nothing was here.")
        run.notice("Nothing was [learned] either.")
        return self
    def forward(self, z):
        first = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        return torch.nn.functional.one_hot(first, self.n_clusters).float()
"""


@pytest.fixture
def collapsing(install):
    """The name of a clusterer, a third party's, that leaves all but the first cluster empty, with notices."""
    hook = """
    @hookimpl
    def deepclust_clusterers():
        yield Component("one", "MODULE.model:One", "one cluster")
    """
    install("deepclust-one", hook, model=ONE)
    return "one"


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
    monkeypatch.setattr(decoding, "decode", lambda content, *how: calls.append(how[0]) or real(content, *how))
    return calls
