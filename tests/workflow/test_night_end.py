"""A plan that is longer than the night says so before its first frame."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ostcal import load_config
from ostcal.workflow.night_end import beyond_night
from support.jumping_clock import JumpingClock

GREENWICH = {"site": {"latitude": 51.48, "longitude": 0.0}}
HOUR_S = 3600.0


def clock_at(text: str) -> JumpingClock:
    start = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return JumpingClock(start, start + timedelta(days=1))


@pytest.mark.parametrize(("site", "now", "left_h", "what"), [
    # Almanacs: the sun rises over London at 4:43 BST on 21 June, 3:43 UTC.
    (GREENWICH, "2026-06-20T22:00:00", 5.72, "sunrise, 2026-06-21 03:4"),
    # By day, and where the sun does not rise, the nights part at noon.
    (GREENWICH, "2026-06-21T09:00:00", 3.0, "noon, 2026-06-21 12:00"),
    ({"site": {"latitude": 80.0, "longitude": 0.0}}, "2026-12-21T13:00:00", 23.0, "noon, 2026-12-22 12:00"),
    # Local noon of 150 degrees east is at 2:00 UTC.
    ({"site": {"latitude": 80.0, "longitude": 150.0}}, "2026-12-21T01:00:00", 1.0, "noon, 2026-12-21 02:00"),
])  # fmt: skip
def test_a_plan_longer_than_the_rest_of_the_night_is_said(
    site: dict[str, Any], now: str, left_h: float, what: str
) -> None:
    config = load_config(site)
    assert beyond_night(config, clock_at(now), (left_h - 0.1) * HOUR_S) is None
    line = beyond_night(config, clock_at(now), (left_h + 0.1) * HOUR_S)
    assert line is not None
    assert f"takes about {left_h + 0.1:.1f} hours" in line
    assert what in line


def test_without_a_site_the_night_ends_at_the_noon_of_this_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-10")  # ten hours east of Greenwich
    time.tzset()
    try:
        line = beyond_night(load_config({}), clock_at("2026-03-20T21:00:00"), 6 * HOUR_S)
        assert line is not None
        assert "ends in 5.0 hours (noon, 2026-03-21 02:00 UTC)" in line
    finally:
        monkeypatch.undo()
        time.tzset()
