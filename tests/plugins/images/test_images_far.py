"""A file whose values are on no scale with the others' has no say in theirs, and is named."""

import numpy as np
import pytest

from deepclust.core import InvalidData
from made_photo import fresh, load, save

pytestmark = pytest.mark.usefixtures("photo_folder")
N, FAR = 20, 7


def write(**changed):
    """Images of fractions, some of them changed, by their number."""
    values = 0.5 * np.random.default_rng(0).random((N, 16, 16)).astype(np.float32) + 0.4
    for i, factor in changed.items():
        values[int(i[1:])] *= np.float32(factor)
    for i, image in enumerate(values):
        save(f"{i:03}.tif", image)


def test_a_file_of_absurd_values_is_named_and_changes_no_other():
    write()
    plain = load()
    usual = plain.x.numpy().copy()
    write(_7=1e30)
    data = fresh()
    assert [name for name, _ in data.skipped] == [f"{FAR:03}.tif"]
    assert data.skipped[0][1].startswith("values up to 8.9")
    assert data.skipped[0][1].endswith("e+29, where those of the other files go to about 1")
    assert np.array_equal(data.x.numpy(), np.delete(usual, FAR, axis=0))
    assert all(made.said[0].startswith("values from 0 to 1 become") for made in (plain, data))


def test_bright_and_black_files_and_single_values_stay():
    write(_3=1e4, _5=0)
    assert not load().skipped
    image = np.full((16, 16), 0.5, np.float32)
    image[0, 0] = 1e30
    write()
    save("000.tif", image)
    assert not load().skipped


def test_where_many_are_far_they_are_too_many_to_leave_out():
    write(**{f"_{i}": 1e30 for i in range(4)})
    with pytest.raises(InvalidData, match=r"4 of 20 images .* values up to .*e\+29, where"):
        load()
