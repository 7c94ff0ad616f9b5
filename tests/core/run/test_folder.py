"""Which runs are the same run."""

from deepclust.core.run.folder import differences


def record(**settings):
    return {"request": {"encoder": {"name": "sdae", "settings": settings}, "seed": 0}, "data": {"name": "x"}}


def test_a_setting_that_an_older_version_did_not_know_counts_as_its_default():
    older, defaults = record(lr=0.1), record(lr=0.5, clip=None)
    assert differences(older, record(lr=0.1, clip=None), defaults) == ""
    assert differences(older, record(lr=0.1, clip=2.0), defaults) == "encoder.clip is None there and 2.0 here"
    assert differences(older, record(lr=0.5, clip=None), defaults) == "encoder.lr is 0.1 there and 0.5 here"


def test_a_setting_that_is_gone_is_a_difference():
    assert differences(record(lr=0.1, old=3), record(lr=0.1), record(lr=0.1)) == (
        "encoder.old is 3 there and nothing here"
    )
