"""Whatever happens to metrics, a release that is as good as what was there before is never turned off."""

from __future__ import annotations

from collections import Counter

import numpy as np

from tests.outages import FAULTS, LENGTH, run, script


def test_of_two_hundred_outages_none_turns_a_good_release_off() -> None:
    found = run(range(200))
    assert found["scripts"] == 200
    assert found["kills"] == 0
    assert found["no_data"] > 200, "and what could not be read is not called healthy"
    assert found["healthy"] == 0


def test_scripts_hold_every_fault_and_are_outages_a_third_of_the_time_at_least() -> None:
    happened = Counter(fault for seed in range(200) for fault in script(np.random.default_rng(seed)))
    assert set(FAULTS) < set(happened)
    assert happened[""] < 200 * LENGTH * 2 / 3
