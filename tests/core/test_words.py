"""Numbers and errors in sentences: one is singular, an error is one line."""

import pytest
import torch

from deepclust.core.data.data import Data
from deepclust.core.errors import InvalidData, InvalidSetting
from deepclust.core.run import device
from deepclust.core.run.plan import parse_clusters
from deepclust.core.words import counted, in_one_line


def test_one_is_singular():
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert counted(1234567, "file", ",") == "1,234,567 files"
    assert counted(0.5, "minute", "g") == "0.5 minutes"
    assert counted(1.0, "minute", "g") == "1 minute"


def test_sentences_say_it(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert device.describe(torch.device("cpu")) == "cpu, 1 thread"
    with pytest.raises(InvalidSetting, match="^1 cluster was asked for: 2 or more"):
        parse_clusters(1)
    x = torch.zeros(5, 2)
    x[3, 1] = torch.nan
    with pytest.raises(InvalidData, match="1 value is not finite, the first is nan in sample 3"):
        Data(x, "x").check_finite()


def test_an_error_is_one_line():
    assert in_one_line(ValueError("the moon\n  is full")) == "ValueError: the moon is full"
    assert in_one_line(SystemExit()) == "SystemExit"
