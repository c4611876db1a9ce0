"""Which temperatures of bias frames are one group: those of a jitter or a drift, not those of two sets."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ostcal.inputs.bias_temperatures import bias_clusters


def sets(temperatures_c: Sequence[float], widest_c: float = 20.0) -> list[list[float]]:
    found = bias_clusters(temperatures_c, near_c=2.0, widest_c=widest_c)
    return [sorted(temperatures_c[index] for index in cluster) for cluster in found]


def test_a_sensor_that_warms_up_is_one_group() -> None:
    warming = [2.0 + 0.3 * i for i in range(30)]
    assert sets(warming) == [warming]


def test_temperatures_by_turns_are_one_group() -> None:
    assert sets([0.0, 5.0] * 8) == [[0.0] * 8 + [5.0] * 8]
    assert sets([-20.0, 0.0, -10.0] * 6, 20.0) == [[-20.0] * 6 + [-10.0] * 6 + [0.0] * 6]


@pytest.mark.parametrize("nights", [1, 2])
def test_two_sets_taken_one_after_the_other_stay_apart(nights: int) -> None:
    assert sets(([-10.0] * 10 + [-20.0] * 10) * nights) == [[-20.0] * 10 * nights, [-10.0] * 10 * nights]
    assert sets([-10.0] * 3 + [-20.0] * 3) == [[-20.0] * 3, [-10.0] * 3]


def test_no_group_is_wider_than_the_limit() -> None:
    assert sets([-20.0, 5.0] * 8) == [[-20.0] * 8, [5.0] * 8]
    assert [len(group) for group in sets([float(i) for i in range(31)], 10.0)] == [11, 11, 9]
    assert sets([0.0, 1.96] * 4, 1.0) == [[0.0] * 4 + [1.96] * 4]  # the narrow rule holds all the same
