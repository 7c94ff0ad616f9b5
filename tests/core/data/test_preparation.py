"""What new samples must match, said so that one knows what to do."""

import json

import numpy as np
import pytest
import torch

from deepclust.core import Data, InvalidData, Preparation


def test_a_record_of_it_is_json_and_comes_back_equal():
    rng = np.random.default_rng(0)
    mean, std = (tuple(rng.normal(size=3).tolist()) for _ in range(2))
    for made in (
        Preparation((1, 28, 28), "uint8"),
        Preparation((3,), "float32", ("a", "b", "c"), mean, std),
    ):
        assert Preparation.from_record(json.loads(json.dumps(made.record()))) == made


def test_data_say_their_own():
    assert Data(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "x").preparation == Preparation(
        (3, 4, 4), "uint8"
    )
    assert Data(torch.zeros(2, 5), "x").preparation == Preparation((5,), "float32")


def test_standardised_rows_have_the_deviations_they_were_told():
    rows = np.random.default_rng(0).normal(3, 7, (50, 4))
    scaled = Preparation((4,), "float32", None, tuple(rows.mean(0)), tuple(rows.std(0))).standardise(rows)
    assert scaled.dtype == np.float32
    assert np.allclose(scaled.mean(0), 0, atol=1e-6)
    assert np.allclose(scaled.std(0), 1, atol=1e-6)
    assert Preparation((4,), "float32").standardise(rows) is rows


REFUSED = {
    "channels": (((1, 28, 28), "uint8"), ((3, 28, 28), "uint8", 0), "convert them to grey"),
    "colour": (((3, 8, 8), "uint8"), ((1, 8, 8), "uint8", 0), "convert them to RGB"),
    "size": (((1, 28, 28), "uint8"), ((1, 32, 32), "uint8", 0), "resize them"),
    "flat": (((1, 28, 28), "uint8"), ((784,), "uint8", 0), "shape (N, 1, 28, 28)"),
    "columns": (((4,), "float32"), ((5,), "float32", 0), "the same columns"),
    "bytes for floats": (((4,), "float32"), ((4,), "uint8", 0), "the same scale"),
    "floats up to 255": (((4,), "uint8"), ((4,), "float32", 255), "divide them by 255"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_match_is_explained(case):
    trained, given, advice = REFUSED[case]
    with pytest.raises(InvalidData) as caught:
        Preparation(*trained).check(*given, "photos")
    message = str(caught.value)
    assert message.startswith("photos: ")
    assert advice in message


def test_what_matches_passes():
    Preparation((4,), "uint8").check((4,), "float32", 1.0, "x")
    Preparation((4,), "uint8").check((4,), "uint8", 255, "x")
    Preparation((4,), "float32").check((4,), "float32", 1e9, "x")
