"""Overscan is subtracted and trimmed while frames are read: exact, and the same for every way of reading."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ostcal.engine.overscan import UNKNOWN_LEVEL, OverscanMethod, fitted_levels, line_levels
from ostcal.fits.sections import Amplifier, Readout, Section
from ostcal.frames import LevelledReader, SampleEncoding
from ostcal.inputs.trimmed import TrimmedStack
from support.memory_stack import NATIVE, MemoryStack


def section(left: int, right: int, bottom: int, top: int) -> Section:
    return Section(left=left, right=right, bottom=bottom, top=top)


def right_of(columns: int, overscan: int, rows: int, method: OverscanMethod | None = None) -> Readout:
    kept, beside = section(0, columns, 0, rows), section(columns, columns + overscan, 0, rows)
    return Readout(amplifiers=(Amplifier(kept=kept, overscan=beside),), method=method or OverscanMethod())


def read(stack: TrimmedStack, *cuts: int) -> NDArray[Any]:
    n, height, width = stack.shape
    out = np.full((n, height, width), np.nan, stack.encoding.dtype)
    for start, stop in pairwise((0, *cuts, height)):
        with stack.opened(start, stop) as reader:
            reader.read_rows(start, stop, out[:, start:stop])
    return out


def naive(frames: NDArray[Any], readout: Readout, level: str) -> list[Any]:
    """Subtract each row's overscan level in fractions, with the rule as docs/methods.md has it."""
    (amplifier,) = readout.amplifiers
    kept, overscan = amplifier.kept, amplifier.overscan
    assert overscan is not None
    images = []
    for frame in frames.tolist():
        rows = []
        for y in range(kept.bottom, kept.top):
            values = sorted(frame[y][overscan.left : overscan.right])
            n = len(values)
            exact = Fraction(sum(values), n) if level == "mean" else Fraction(values[(n - 1) // 2] + values[n // 2], 2)
            rounded = Fraction(round(exact * 256), 256)
            rows.append([float(Fraction(value) - rounded) for value in frame[y][kept.left : kept.right]])
        images.append(rows)
    return images


@given(seed=st.integers(0, 2**32 - 1), level=st.sampled_from(["median", "mean"]), cut=st.integers(1, 8))
def test_levels_of_rows_are_subtracted_exactly(seed: int, level: Any, cut: int) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 65536, (3, 9, 7 + int(rng.integers(1, 9))), np.uint16)
    readout = right_of(7, frames.shape[2] - 7, 9, OverscanMethod(level=level))
    stack = TrimmedStack(MemoryStack(frames, NATIVE), readout)
    found = read(stack, cut)
    assert found.dtype == np.float32
    assert found.tolist() == naive(frames, readout, level)


def test_the_level_of_each_frame_goes_out_of_every_pixel() -> None:
    signal = np.arange(20 * 30).reshape(20, 30)
    frames = np.zeros((2, 20, 34), np.uint16)
    frames[:, :, :30] = signal
    frames[0] += 1040
    frames[1] += 805
    stack = TrimmedStack(MemoryStack(frames, NATIVE), right_of(30, 4, 20))
    np.testing.assert_array_equal(read(stack), [signal, signal])
    np.testing.assert_array_equal(read(stack.select([1])), [signal])


def test_two_amplifiers_have_levels_of_their_own() -> None:
    left = Amplifier(kept=section(0, 5, 0, 6), overscan=section(5, 8, 0, 6))
    right = Amplifier(kept=section(11, 16, 0, 6), overscan=section(8, 11, 0, 6))
    frames = np.full((1, 6, 16), 1000, np.uint16)
    frames[:, :, 8:] = 1300
    frames[:, :, 0:5] += 7
    frames[:, :, 11:16] += 9
    image = read(TrimmedStack(MemoryStack(frames, NATIVE), Readout(amplifiers=(left, right))), 2, 3)
    np.testing.assert_array_equal(image[0], np.repeat([[7.0] * 5 + [9.0] * 5], 6, axis=0))


def test_rows_above_the_image_give_a_level_for_each_column() -> None:
    frames = np.empty((2, 10, 6), np.uint16)
    frames[:] = 500 + 10 * np.arange(6)
    frames[1] += 40
    frames[:, :8] += 3
    readout = Readout(amplifiers=(Amplifier(kept=section(0, 6, 0, 8), overscan=section(0, 6, 8, 10)),))
    image = read(TrimmedStack(MemoryStack(frames, NATIVE), readout), 3)
    np.testing.assert_array_equal(image, np.full((2, 8, 6), 3.0))


def test_kept_rows_in_two_runs_are_read_as_one() -> None:
    below = Amplifier(kept=section(0, 4, 0, 3), overscan=section(0, 4, 3, 5))
    above = Amplifier(kept=section(0, 4, 7, 10), overscan=section(0, 4, 5, 7))
    frames = np.full((1, 10, 4), 100, np.uint16)
    frames[:, 5:] = 300
    frames[:, :3] += 1
    frames[:, 7:] += 2
    stack = TrimmedStack(MemoryStack(frames, NATIVE), Readout(amplifiers=(below, above)))
    for cuts in ((), (1,), (3,), (2, 4)):
        np.testing.assert_array_equal(read(stack, *cuts)[0, :, 0], [1, 1, 1, 2, 2, 2])


@pytest.mark.parametrize("fit", ["mean", "median", "polynomial", "spline"])
def test_a_fit_finds_a_level_that_is_what_it_describes(fit: Any) -> None:
    lines = np.full(200, 1000 * 256, np.int64)
    if fit in ("polynomial", "spline"):
        lines += np.rint(np.linspace(0, 40 * 256, 200)).astype(np.int64)
    found = fitted_levels(lines, OverscanMethod(fit=fit, degree=1))
    assert np.abs(found - lines).max() <= 1


def test_a_polynomial_of_two_follows_a_parabola_and_one_of_one_does_not() -> None:
    x = np.linspace(-1, 1, 300)
    lines = np.rint((1000 + 30 * x**2) * 256).astype(np.int64)
    assert np.abs(fitted_levels(lines, OverscanMethod(fit="polynomial", degree=2)) - lines).max() <= 1
    assert np.abs(fitted_levels(lines, OverscanMethod(fit="polynomial", degree=1)) - lines).max() > 10 * 256


def test_fits_lower_the_noise_of_levels() -> None:
    rng = np.random.default_rng(3)
    samples = rng.normal(1000, 5, (400, 32)).round().astype(np.int64)
    rows = line_levels(samples, OverscanMethod(level="mean"))
    for fit, degree in (("mean", 0), ("polynomial", 3), ("spline", 0)):
        fitted = fitted_levels(rows, OverscanMethod(level="mean", fit=fit, degree=degree))  # type: ignore[arg-type]
        assert np.std(fitted / 256 - 1000) < 0.5 * np.std(rows / 256 - 1000)


@pytest.mark.parametrize("fit", ["none", "median", "polynomial"])
def test_strips_do_not_matter_for_a_fit(fit: Any) -> None:
    frames = np.random.default_rng(5).integers(900, 1100, (4, 40, 20), np.uint16)
    stack = TrimmedStack(MemoryStack(frames, NATIVE), right_of(14, 6, 40, OverscanMethod(fit=fit)))
    whole = read(stack)
    np.testing.assert_array_equal(whole, read(stack, 1, 7, 39))
    np.testing.assert_array_equal(whole[2:3], read(stack.select([2])))


def test_float_frames_are_corrected_in_float64(tmp_path: Path) -> None:
    frames = np.random.default_rng(6).normal(1000, 5, (2, 8, 12)).astype(np.float32)
    frames[0, 3, 2] = np.nan
    stack = TrimmedStack(MemoryStack(frames, SampleEncoding(dtype="float32")), right_of(8, 4, 8))
    image = read(stack)
    assert image.dtype == np.float64
    expected = frames[:, :, :8] - np.median(frames[:, :, 8:].astype(np.float64), axis=2)[:, :, None]
    np.testing.assert_allclose(image, expected, atol=1 / 256)


@pytest.mark.parametrize("flip", [False, True])
def test_the_engine_gets_raw_words_and_levels_that_say_the_same(flip: bool) -> None:
    frames = np.random.default_rng(7).integers(0, 65536, (3, 12, 20), np.uint16)
    encoding = SampleEncoding(dtype="uint16", byte_swapped=True, sign_flipped=True) if flip else NATIVE
    stored = (frames ^ 0x8000).byteswap() if flip else frames
    kept, overscan = section(3, 15, 2, 11), section(15, 20, 0, 12)
    stack = TrimmedStack(MemoryStack(stored, encoding), Readout(amplifiers=(Amplifier(kept=kept, overscan=overscan),)))
    with stack.opened(4, 9) as reader:
        assert isinstance(reader, LevelledReader)
        ((left, right),) = reader.kept_columns
        block = np.empty((3, 5, reader.raw_width), np.uint16)
        (levels,) = reader.read_levelled(4, 9, block)
        plain = reader.raw_encoding.decode(block[:, :, left:right]) - levels[:, :, None] / 256
    np.testing.assert_array_equal(plain, read(stack)[:, 4:9])


@pytest.mark.parametrize("method", [OverscanMethod(level="mean"), OverscanMethod(fit="mean")])
def test_levels_that_are_no_halves_are_subtracted_while_reading(method: OverscanMethod) -> None:
    frames = np.random.default_rng(7).integers(0, 65536, (3, 12, 20), np.uint16)
    with TrimmedStack(MemoryStack(frames, NATIVE), right_of(16, 4, 12, method)).opened(0, 12) as reader:
        assert not isinstance(reader, LevelledReader)


GRIDS = {
    "two, overscan in the middle": [((0, 7), (0, 12), (7, 10)), ((13, 20), (0, 12), (10, 13))],
    "two, overscan at the sides, odd widths": [((3, 8), (1, 11), (0, 3)), ((8, 15), (1, 11), (15, 20))],
    "three, one without overscan": [((0, 4), (0, 12), (4, 6)), ((6, 9), (0, 12), None), ((9, 16), (0, 12), (16, 20))],
    "four, a gap between the rows": [
        ((2, 9), (0, 5), (0, 2)),
        ((9, 18), (0, 5), (18, 20)),
        ((2, 9), (8, 12), (0, 2)),
        ((9, 18), (8, 12), (18, 20)),
    ],
}


@pytest.mark.parametrize("grid", sorted(GRIDS))
@pytest.mark.parametrize("cuts", [(0, 3, 9), (0, 1, 2, 9), (0, 5, 7, 9), (0, 9)])
def test_amplifiers_on_a_grid_are_read_as_words_with_levels(grid: str, cuts: tuple[int, ...]) -> None:
    amplifiers = tuple(
        Amplifier(kept=section(*x, *y), overscan=None if over is None else section(*over, *y))
        for x, y, over in GRIDS[grid]
    )
    frames = np.random.default_rng(8).integers(0, 65536, (3, 12, 20), np.uint16)
    encoding = SampleEncoding(dtype="uint16", byte_swapped=True, sign_flipped=True)
    stack = TrimmedStack(MemoryStack((frames ^ 0x8000).byteswap(), encoding), Readout(amplifiers=amplifiers))
    whole = read(stack)
    literal = np.full(whole.shape, np.nan)
    for amplifier in amplifiers:
        kept, over = amplifier.kept, amplifier.overscan
        left = sum(b - a for a, b in stack.readout.columns if b <= kept.left)
        left += sum(kept.left - a for a, b in stack.readout.columns if a <= kept.left < b)
        bottom = kept.bottom if kept.bottom < 8 else kept.bottom - 3
        bottom -= stack.readout.rows[0][0]
        values = frames[:, kept.bottom : kept.top, kept.left : kept.right].astype(float)
        if over is not None:
            strip = frames[:, kept.bottom : kept.top, over.left : over.right]
            values -= np.median(strip, axis=2)[:, :, None]
        literal[:, bottom : bottom + kept.height, left : left + kept.width] = values
    np.testing.assert_array_equal(whole, literal)
    for start, stop in pairwise(cut for cut in cuts if cut < stack.shape[1]):
        with stack.opened(start, stop) as reader:
            assert isinstance(reader, LevelledReader)
            block = np.empty((3, stop - start, reader.raw_width), np.uint16)
            levels = reader.read_levelled(start, stop, block)
            parts = [
                reader.raw_encoding.decode(block[:, :, left:right]) - quanta[:, :, None] / 256
                for (left, right), quanta in zip(reader.kept_columns, levels, strict=True)
            ]
        np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole[:, start:stop])


@pytest.mark.parametrize("level", ["median", "mean"])
@pytest.mark.parametrize("nothing", [np.nan, np.inf])
def test_a_line_without_finite_overscan_has_no_level(level: Any, nothing: float) -> None:
    frames = np.full((2, 8, 12), 1000, np.float32)
    frames[:, :, :8] += 50
    frames[1, 3:5, 8:] = nothing
    frames[0, 6, 8:10] = np.nan
    stack = TrimmedStack(
        MemoryStack(frames, SampleEncoding(dtype="float32")), right_of(8, 4, 8, OverscanMethod(level=level))
    )
    image = read(stack, 4)
    expected = np.full((2, 8, 8), 50.0)
    expected[1, 3:5] = np.nan
    np.testing.assert_array_equal(image, expected)


def test_a_column_without_finite_overscan_has_no_level() -> None:
    frames = np.full((1, 10, 6), 500, np.float64)
    frames[:, :8] += 3
    frames[0, 8:, 2] = np.nan
    readout = Readout(amplifiers=(Amplifier(kept=section(0, 6, 0, 8), overscan=section(0, 6, 8, 10)),))
    image = read(TrimmedStack(MemoryStack(frames, SampleEncoding(dtype="float64")), readout), 3)
    assert np.isnan(image[0, :, 2]).all()
    np.testing.assert_array_equal(np.delete(image[0], 2, axis=1), np.full((8, 5), 3.0))


@pytest.mark.parametrize("fit", ["mean", "median", "polynomial", "spline"])
def test_a_fit_gives_unknown_lines_the_level_of_the_others(fit: Any) -> None:
    levels = np.full(40, 1000 * 256, np.int64)
    levels[[0, 7, 8, 39]] = UNKNOWN_LEVEL
    found = fitted_levels(levels, OverscanMethod(fit=fit, degree=3))
    assert np.abs(found - 1000 * 256).max() <= 1
    nothing = np.full(40, UNKNOWN_LEVEL)
    np.testing.assert_array_equal(fitted_levels(nothing, OverscanMethod(fit=fit)), nothing)
