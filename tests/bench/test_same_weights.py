"""What same_weights calls the same."""

from __future__ import annotations

from bench.same_weights import EXPLAINED, differences


def test_times_and_renamed_keys_are_left_out_and_all_else_is_told():
    old = {"seconds": 1.0, "loss": [0.5, 0.25], "1-nme": 0.9, "gone": 1}
    new = {"seconds": 2.0, "loss": [0.5, 0.26], "fresh": 2}
    assert list(differences(old, new, "history")) == [
        "history.loss[1]: 0.25 became 0.26",
        "history.gone: only in old",
        "history.fresh: only in new",
    ]
    assert not list(differences(old, dict(old, seconds=9.0), "history"))


def test_no_value_is_explained_away():
    """Intervals may be, values never."""
    import re

    pattern, _ = EXPLAINED["keypoints"]
    assert re.match(pattern, "report.metrics.scalars.nme.low: 1 became 2")
    assert not re.match(pattern, "report.metrics.scalars.nme.value: 1 became 2")
    assert not re.match(pattern, "weights fc.weight: by up to 1")
