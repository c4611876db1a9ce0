"""Which frames of a series lost far more pixels to rejection than the others."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostcal.measure.frames.unlike_others import OUTLYING_FACTOR, OUTLYING_SHARE, outlying_frames

PIXELS = 10_000
counts = st.lists(st.integers(0, PIXELS), max_size=40)


def test_a_frame_that_lost_most_of_its_pixels_is_found() -> None:
    assert outlying_frames([30, 25, 4000, 28, 31], PIXELS) == [2]


def test_frames_that_lost_as_much_as_the_others_are_not() -> None:
    assert outlying_frames([2000] * 10, PIXELS) == []
    assert outlying_frames([0] * 10, PIXELS) == []


def test_a_few_per_cent_are_nothing_to_speak_of() -> None:
    assert outlying_frames([0, 0, 0, int(OUTLYING_SHARE * PIXELS)], PIXELS) == []
    assert outlying_frames([0, 0, 0, int(OUTLYING_SHARE * PIXELS) + 1], PIXELS) == [3]


def test_several_frames_are_found_while_they_are_fewer_than_half() -> None:
    assert outlying_frames([20, 5000, 20, 6000, 20], PIXELS) == [1, 3]


@pytest.mark.parametrize(("rejected", "pixels"), [([], PIXELS), ([9000], PIXELS), ([0, 9000], PIXELS), ([0, 0, 0], 0)])
def test_too_few_frames_say_nothing(rejected: list[int], pixels: int) -> None:
    assert outlying_frames(rejected, pixels) == []


@pytest.mark.parametrize("n", [6, 10, 40])
def test_a_frame_that_lost_every_pixel_is_found_under_minmax(n: int) -> None:
    # The brightest frame is always the highest of all: minmax takes it whole, and the lowest sample from the others.
    others = PIXELS // (n - 1)
    assert outlying_frames([PIXELS] + [others] * (n - 1), PIXELS) == [0]


@given(counts, st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(rejected: list[int], random: Random) -> None:
    order = list(range(len(rejected)))
    random.shuffle(order)
    found = outlying_frames([rejected[i] for i in order], PIXELS)
    assert sorted(order[i] for i in found) == outlying_frames(rejected, PIXELS)


@given(counts)
def test_who_is_found_lost_more_than_everybody_who_is_not(rejected: list[int]) -> None:
    found = outlying_frames(rejected, PIXELS)
    assert found == sorted(set(found))
    spared = [count for i, count in enumerate(rejected) if i not in found]
    assert len(spared) > len(rejected) // 2 or not found
    for i in found:
        assert rejected[i] > max(spared)
        assert rejected[i] > OUTLYING_SHARE * PIXELS


@given(counts, st.integers(1, 9))
def test_the_size_of_frames_does_not_matter(rejected: list[int], factor: int) -> None:
    larger = [count * factor for count in rejected]
    assert outlying_frames(larger, PIXELS * factor) == outlying_frames(rejected, PIXELS)


def test_the_factor_counts_where_all_lose_much() -> None:
    usual = 1000
    limit = int(OUTLYING_FACTOR * usual)
    assert outlying_frames([usual, usual, usual, limit, limit + 1], PIXELS) == [4]
