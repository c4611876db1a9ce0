"""JSON of dataclasses: exact both ways, UTC, finite, and an error of one line for whatever is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import pytest

from ostcal.codec import between, from_json, from_values, matching, parse_json, to_json, to_values


class Colour(StrEnum):
    RED = "R"


@dataclass(frozen=True, kw_only=True)
class Part:
    pair: tuple[int, int] = (1, 1)
    colour: Colour | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    value: float
    part: Part = field(default_factory=Part)
    parts: tuple[Part, ...] = ()
    count: Annotated[int, between(1, 5)] = 1
    code: Annotated[str, matching("[a-z]", "a letter")] = "a"
    when: datetime | None = None
    metrics: dict[str, tuple[float | None, str]] = field(default_factory=dict)


EXAMPLE = Whole(
    value=0.1,
    part=Part(pair=(2, 3), colour=Colour.RED),
    parts=(Part(), Part(pair=(7, 8))),
    count=3,
    when=datetime(2026, 11, 21, 18, 42, tzinfo=timezone(timedelta(hours=10))),
    metrics={"noise": (3.3, "ADU"), "µ": (None, "")},
)


def test_values_come_back_as_they_were_with_times_in_utc() -> None:
    text = to_json(EXAMPLE)
    assert from_json(Whole, text) == EXAMPLE == from_values(Whole, to_values(EXAMPLE))
    assert b'"when":"2026-11-21T08:42:00Z"' in text
    assert b"\\u00b5" in text
    back = from_json(Whole, text).when
    assert back is not None
    assert back.tzinfo is UTC


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    assert to_json({"a": np.float64(1.5), "b": (np.int64(2), np.bool_(True))}) == b'{"a":1.5,"b":[2,true]}'


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float64("nan")])
def test_numbers_that_are_not_finite_are_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Whole(value=number))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "it is not a JSON object"),
        ({}, "value is missing"),
        ({"value": "1"}, "value: '1' is not a finite number"),
        ({"value": True}, "value: True is not a finite number"),
        ({"value": 1, "count": 6}, "count: 6 is not a whole number from 1 to 5"),
        ({"value": 1, "count": 2.0}, "count: 2.0 is not a whole number"),
        ({"value": 1, "code": "a\n"}, "code: 'a\\n' is not a letter"),
        ({"value": 1, "part": {"pair": [1]}}, "part: pair: [1] is not a pair of numbers"),
        ({"value": 1, "part": {"pair": [1, "x"]}}, "part: pair: 'x' is not a whole number"),
        ({"value": 1, "parts": [{}, {"colour": "G"}]}, "parts: colour: 'G' is not a valid Colour"),
        ({"value": 1, "parts": [{}, []]}, "parts: it is not a JSON object"),
        ({"value": 1, "parts": {}}, "parts: {} is not a list"),
        ({"value": 1, "when": "today"}, "when: 'today' is not a time"),
        ({"value": 1, "when": "2026-11-21T08:42:00"}, "when: '2026-11-21T08:42:00' has no time zone"),
        ({"value": 1, "metrics": {"a b.c`": [None, 3]}}, "metrics: "),
    ],
)
def test_what_is_wrong_is_named_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        from_values(Whole, values)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"NaN", b"-Infinity", b"1e999", b"1" * 400, b"\xff"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        parse_json(text)
