"""Blocks whose rows have an overscan level: words of half ADU and floats give what exact arithmetic gives."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from ostcal.engine.combine import BlockResult, Correction, RowLevels, combine_block
from ostcal.engine.rejection import RejectionMethod, SeriesNoise, SigmaClip
from ostcal.errors import PlanError
from ostcal.frames import SampleEncoding
from support.strategies import METHODS, reference_of

BIG_ENDIAN = SampleEncoding(dtype="uint16", byte_swapped=True, sign_flipped=True, zero_adu=0)
FLOAT = SampleEncoding(dtype="float32")
NOISE = SeriesNoise(noise_adu=3.0)


def stored(samples: Any) -> Any:
    return (samples ^ 0x8000).byteswap()


def frames_with_levels(seed: int, n: int, rows: int, width: int) -> tuple[Any, Any]:
    """Return raw samples uint16 and levels in 1/256 ADU, whole numbers of half ADU; some pixels are saturated."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(2 * 500, 2 * 1500, (n, rows)) * 128
    signal = rng.normal(30, 4, (n, rows, width)) + (rng.random((n, rows, width)) < 0.05) * 300
    raw = np.clip(np.rint(signal + levels[:, :, None] / 256), 0, 65535).astype(np.uint16)
    raw[:, 0, 0] = 65535
    raw[rng.integers(n), 0, width - 1] = 65535
    raw[:, rows - 1, 0] = 0
    return raw, levels


def whole_rows(raw: Any, levels: Any) -> list[RowLevels]:
    return [RowLevels(quanta=levels, left=0, width=raw.shape[2])]


def equal(a: BlockResult, b: BlockResult) -> None:
    np.testing.assert_array_equal(a.n_used, b.n_used)
    np.testing.assert_allclose(a.master, b.master, rtol=2e-7, atol=1e-5)
    np.testing.assert_allclose(a.std, b.std, rtol=2e-6, atol=1e-5)
    np.testing.assert_array_equal(a.low, b.low)
    np.testing.assert_array_equal(a.high, b.high)
    np.testing.assert_array_equal(a.rejected_per_frame, b.rejected_per_frame)


METHOD = st.sampled_from(sorted(METHODS)).map(METHODS.__getitem__)


@given(method=METHOD, seed=st.integers(0, 2**32 - 1), n=st.integers(1, 24), width=st.integers(2, 70))
def test_words_of_half_adu_give_what_fractions_give(method: RejectionMethod, seed: int, n: int, width: int) -> None:
    raw, levels = frames_with_levels(seed, n, 2, width)
    try:
        method = method.resolved(n)
    except PlanError:
        reject()
    found = combine_block(stored(raw), BIG_ENDIAN, method, noise=NOISE, levels=whole_rows(raw, levels))
    literal = reference_of(method, n, NOISE)
    values = [
        [[Fraction(int(v)) - Fraction(int(k), 256) for v in row] for row, k in zip(frame, ks, strict=True)]
        for frame, ks in zip(raw, levels, strict=True)
    ]
    for y in range(2):
        for x in range(width):
            samples = [frame[y][x] for frame in values]
            expected = literal(samples)
            assert (found.n_used[y, x], found.low[y, x], found.high[y, x]) == (
                expected.n_used,
                float(expected.low),
                float(expected.high),
            )
            assert found.master[y, x] == np.float32(float(expected.mean))


@given(method=METHOD, seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12))
def test_flats_are_corrected_from_their_overscan_on(method: RejectionMethod, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    raw, levels = frames_with_levels(seed, n, 3, 65)
    levels += rng.integers(0, 128, levels.shape)
    correction = Correction(
        scale=rng.uniform(0.9, 1.1, n),
        exposure_time_s=rng.uniform(1, 2, n),
        dark_offset=rng.normal(3, 1, (3, 65)).astype(np.float32),
    )
    found = combine_block(
        stored(raw), BIG_ENDIAN, method, noise=NOISE, levels=whole_rows(raw, levels), correction=correction
    )
    plain = (raw - levels[:, :, None] / 256).astype(np.float32)
    equal(found, combine_block(plain, FLOAT, method, noise=NOISE, correction=correction))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 1, 3)])
def test_a_level_of_its_own_leaves_each_frame_the_same_image(order: tuple[int, ...]) -> None:
    image = np.arange(2 * 40).reshape(2, 40)
    offsets = np.array([100, 900, 350, 41, 2000])
    raw = (image[None] + offsets[:, None, None]).astype(np.uint16)[list(order)]
    levels = np.repeat(offsets[list(order)][:, None] * 256, 2, axis=1)
    result = combine_block(raw, SampleEncoding(dtype="uint16"), SigmaClip(), levels=whole_rows(raw, levels))
    np.testing.assert_array_equal(result.master, image)
    np.testing.assert_array_equal(result.std, 0)
    assert result.n_used.min() == 5


@given(
    method=METHOD,
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 12),
    widths=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    gaps=st.lists(st.integers(0, 5), min_size=5, max_size=5),
    is_flat=st.booleans(),
)
def test_amplifiers_side_by_side_are_what_each_is_alone(
    method: RejectionMethod, seed: int, n: int, widths: list[int], gaps: list[int], is_flat: bool
) -> None:
    try:
        method = method.resolved(n)
    except PlanError:
        reject()
    rng = np.random.default_rng(seed)
    parts = [frames_with_levels(seed + place, n, 3, width) for place, width in enumerate(widths)]
    correction = Correction(
        scale=rng.uniform(0.9, 1.1, n),
        exposure_time_s=np.ones(n),
        dark_offset=rng.normal(3, 1, (3, sum(widths))).astype(np.float32),
        dark_rate=rng.normal(0, 1, (3, sum(widths))).astype(np.float32),
    )
    pieces, levels, column = [], [], 0
    for (raw, quanta), gap in zip(parts, gaps, strict=False):
        pieces += [rng.integers(0, 65536, (n, 3, gap), np.uint16), raw]
        column += gap
        levels.append(RowLevels(quanta=quanta, left=column, width=raw.shape[2]))
        column += raw.shape[2]
    whole = np.concatenate([*pieces, rng.integers(0, 65536, (n, 3, gaps[-1]), np.uint16)], axis=2)
    found = combine_block(
        stored(whole), BIG_ENDIAN, method, noise=NOISE, levels=levels, correction=correction if is_flat else None
    )
    start, rejected = 0, np.zeros(n, np.int64)
    for raw, quanta in parts:
        columns = slice(start, start + raw.shape[2])
        alone = combine_block(
            stored(raw),
            BIG_ENDIAN,
            method,
            noise=NOISE,
            levels=whole_rows(raw, quanta),
            correction=correction.rows(0, 3, columns) if is_flat else None,
        )
        for plane in ("master", "std", "n_used", "low", "high"):
            np.testing.assert_array_equal(getattr(found, plane)[:, columns], getattr(alone, plane))
        rejected += alone.rejected_per_frame
        start += raw.shape[2]
    np.testing.assert_array_equal(found.rejected_per_frame, rejected)
