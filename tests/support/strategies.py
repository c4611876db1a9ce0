"""What the tests of the kernels draw from: encodings, stacks of samples, methods, and how two results are compared."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

import naive
from ostcal.engine.combine import BlockResult
from ostcal.engine.rejection import Median as MedianMethod
from ostcal.engine.rejection import (
    MinMax,
    NoiseModel,
    NoRejection,
    Percentile,
    RejectionMethod,
    SeriesNoise,
    SigmaClip,
    WinsorizedSigmaClip,
    exact_threshold,
)
from ostcal.errors import PlanError
from ostcal.frames import SampleEncoding

INTEGER_ENCODINGS = {
    "native uint16": SampleEncoding(dtype="uint16"),
    "FITS uint16": SampleEncoding(dtype="uint16", byte_swapped=True, sign_flipped=True),
    "FITS int16": SampleEncoding(dtype="uint16", byte_swapped=True, sign_flipped=True, zero_adu=-32768),
    "native int16": SampleEncoding(dtype="uint16", sign_flipped=True, zero_adu=-32768),
}
FLOAT_ENCODINGS = {
    "float32": SampleEncoding(dtype="float32"),
    "float64": SampleEncoding(dtype="float64"),
}
ENCODINGS = INTEGER_ENCODINGS | FLOAT_ENCODINGS

METHODS: dict[str, RejectionMethod] = {
    "mean/std once": SigmaClip(center="mean", spread="std", iterations=1),
    "mean/std twice": SigmaClip(center="mean", spread="std", iterations=2, low=Fraction("1.5"), high=Fraction(2)),
    "mean/std to convergence": SigmaClip(center="mean", spread="std", iterations=None, high=Fraction("2.7")),
    "median/std": SigmaClip(center="median", spread="std", iterations=5, low=Fraction("1.25"), high=Fraction("1.9999")),
    "mean/mad": SigmaClip(center="mean", spread="mad", iterations=None, low=Fraction("0.5"), high=Fraction("0.75")),
    "median/mad once": SigmaClip(center="median", spread="mad", iterations=1),
    "median/mad to convergence": SigmaClip(center="median", spread="mad", iterations=None, low=Fraction("1.3")),
    "median/mad that keeps five": SigmaClip(
        center="median", spread="mad", iterations=None, low=Fraction("0.1"), high=Fraction("0.1"), min_keep=5
    ),
    "median/noise": SigmaClip(
        center="median",
        spread="noise",
        iterations=None,
        model=NoiseModel(read_noise_adu=1.2, gain_e_per_adu=0.8, bias_level_adu=995.0),
    ),
    "mean/noise": SigmaClip(
        center="mean", spread="noise", iterations=3, model=NoiseModel(read_noise_adu=0.3, gain_e_per_adu=100.0)
    ),
    "auto": SigmaClip(),
    "winsorized": WinsorizedSigmaClip(low=Fraction("2.2"), high=Fraction("2.5")),
    "winsorized that keeps six": WinsorizedSigmaClip(low=Fraction(1), high=Fraction("0.5"), min_keep=6),
    "minmax": MinMax(),
    "minmax 2 and 3": MinMax(n_low=2, n_high=3),
    "minmax 0 and 1": MinMax(n_low=0, n_high=1),
    "percentile": Percentile(),
    "percentile 0.25 and 0.4": Percentile(n_low=Fraction("0.25"), n_high=Fraction("0.4")),
    "median": MedianMethod(),
    "none": NoRejection(),
}
"""One table for all comparisons: a new method is a row here."""

LARGEST_ADU = 65535


# --- the reference of a method ---


def reference_of(
    method: RejectionMethod, n_frames: int, noise: SeriesNoise
) -> Callable[[list[naive.Sample]], naive.PixelResult]:
    """Return the literal function of a method's pixel; ``auto`` is mean/std from 21 frames on, else median/MAD."""
    floor = naive.Noise(noise_adu=noise.noise_adu, step_adu=noise.step_adu)
    if isinstance(method, SigmaClip):
        center = ("mean" if n_frames >= 21 else "median") if method.center == "auto" else method.center
        spread = ("std" if n_frames >= 21 else "mad") if method.spread == "auto" else method.spread
        return lambda samples: naive.sigma_clip(
            samples,
            center=center,
            spread=spread,
            iterations=method.iterations,
            low=method.low,
            high=method.high,
            min_keep=method.min_keep,
            noise=floor,
            model=None
            if method.model is None
            else naive.Model(
                read_noise_adu=method.model.read_noise_adu,
                gain_e_per_adu=method.model.gain_e_per_adu,
                bias_level_adu=method.model.bias_level_adu,
            ),
        )
    if isinstance(method, WinsorizedSigmaClip):
        return lambda samples: naive.winsorized_sigma_clip(
            samples, low=method.low, high=method.high, min_keep=method.min_keep, noise=floor
        )
    if isinstance(method, MinMax):
        return lambda samples: naive.minmax(samples, n_low=method.n_low, n_high=method.n_high)
    if isinstance(method, Percentile):
        return lambda samples: naive.percentile(samples, n_low=method.n_low, n_high=method.n_high)
    return naive.median if isinstance(method, MedianMethod) else naive.no_rejection


def assert_same_bits(actual: BlockResult, expected: naive.StackResult | BlockResult) -> None:
    """Compare every plane and count of two results bit by bit; one NaN is as good as another."""
    expected_mean = expected.mean if isinstance(expected, naive.StackResult) else expected.master
    _assert_same_plane("n_used", actual.n_used, expected.n_used)
    _assert_same_plane("low", actual.low, expected.low)
    _assert_same_plane("high", actual.high, expected.high)
    _assert_same_plane("master", actual.master, expected_mean)
    _assert_same_plane("std", actual.std, expected.std)
    _assert_same_plane("rejected_per_frame", actual.rejected_per_frame, expected.rejected_per_frame)
    assert actual.invalid == expected.invalid


def _assert_same_plane(name: str, actual: NDArray[np.generic], expected: NDArray[np.generic]) -> None:
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype}, not {expected.dtype}"
    assert actual.shape == expected.shape, f"{name}: {actual.shape}, not {expected.shape}"
    if actual.dtype == np.float32:
        same = (actual.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(actual) & np.isnan(expected))
    else:
        same = actual == expected
    if not same.all():
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(f"{name}{first}: {actual[first]!r}, not {expected[first]!r}")


# --- samples ---


def encode(adu: NDArray[np.int32], encoding: SampleEncoding) -> NDArray[np.generic]:
    """Return ADU as the raw samples that a stack of this encoding delivers."""
    if not encoding.is_integer:
        return adu.astype(encoding.dtype)
    words = (adu - encoding.zero_adu).astype(np.uint16)
    if encoding.sign_flipped:
        words ^= np.uint16(0x8000)
    return words.byteswap() if encoding.byte_swapped else words


shapes = st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 3), (3, 7)])
n_frames = st.integers(1, 12) | st.integers(1, 70)


@st.composite
def integer_stacks(draw: st.DrawFn, zero_adu: int = 0) -> NDArray[np.int32]:
    """Draw ADU of 16 bits: a few neighbouring values (full of ties), saturation, or anything; some hot samples."""
    lowest, highest = draw(
        st.sampled_from([(0, 1), (0, 3), (498, 500), (LARGEST_ADU - 2, LARGEST_ADU), (980, 1020), (0, LARGEST_ADU)])
    )
    shape = (draw(n_frames), *draw(shapes))
    words = draw(npst.arrays(np.int32, shape, elements=st.integers(lowest, highest)))
    for _ in range(draw(st.integers(0, 3))):
        y, x = draw(st.integers(0, shape[1] - 1)), draw(st.integers(0, shape[2] - 1))
        words[draw(st.integers(0, shape[0] - 1)), y, x] = draw(st.integers(0, LARGEST_ADU))
    return words + np.int32(zero_adu)


@st.composite
def float_stacks(draw: st.DrawFn, dtype: str) -> NDArray[np.generic]:
    """Draw floats: scaled integers (ties up to rounding), anything of a wide range; some NaN and infinities."""
    shape = (draw(n_frames), *draw(shapes))
    if draw(st.booleans()):
        scale = draw(st.sampled_from([0.1, 1 / 3, 1.0, 1.0037, 1e-6]))
        base = draw(st.sampled_from([-1, 0, 498, 30000]))
        stack = (draw(npst.arrays(np.int32, shape, elements=st.integers(base, base + 3))) * scale).astype(dtype)
    else:
        bound = draw(st.sampled_from([1.0, 100.0, 2.0**24, 2.0**60]))
        width: Literal[32, 64] = 32 if dtype == "float32" else 64
        stack = draw(npst.arrays(dtype, shape, elements=st.floats(-bound, bound, width=width, allow_subnormal=False)))
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, shape[1] - 1)), draw(st.integers(0, shape[2] - 1))
        bad = draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 65535.0]))
        stack[draw(st.integers(0, shape[0] - 1)), y, x] = bad
    return stack


# --- methods ---


def _is_allowed(value: Fraction) -> bool:
    try:
        exact_threshold(value)
    except PlanError:
        return False
    return True


@st.composite
def thresholds(draw: st.DrawFn) -> Fraction:
    """Draw a threshold of up to four decimals, most often one that a user would write."""
    decimals = draw(st.integers(0, 4))
    whole = draw(st.sampled_from([1, 2, 3, 4, 10, 1000]))
    digits = draw(st.integers(1, whole * 10**decimals))
    return Fraction(digits, 10**decimals)


usual_thresholds = st.sampled_from([Fraction(3), Fraction("2.7"), Fraction(2), Fraction("1.5")])
allowed_thresholds = usual_thresholds | thresholds().filter(_is_allowed)

sigma_clips = st.builds(
    SigmaClip,
    center=st.sampled_from(["mean", "median"]),
    spread=st.sampled_from(["std", "mad", "noise"]),
    model=st.builds(
        NoiseModel,
        read_noise_adu=st.sampled_from([0.0, 0.3, 1.2, 10.0]),
        gain_e_per_adu=st.sampled_from([0.05, 0.8, 100.0]),
        bias_level_adu=st.sampled_from([-100.0, 0.0, 495.0, 70000.0]),
    ),
    iterations=st.sampled_from([1, 2, 5, None]),
    low=allowed_thresholds,
    high=allowed_thresholds,
    min_keep=st.sampled_from([1, 1, 2, 3, 10]),
)
winsorized_clips = st.builds(
    WinsorizedSigmaClip, low=allowed_thresholds, high=allowed_thresholds, min_keep=st.sampled_from([1, 1, 2, 5])
)
minmaxes = st.builds(MinMax, n_low=st.integers(0, 4), n_high=st.integers(0, 4))
fractions = st.integers(0, 4999).map(lambda n: Fraction(n, 10_000))
percentiles = st.builds(Percentile, n_low=fractions, n_high=fractions)
methods = sigma_clips | winsorized_clips | minmaxes | percentiles | st.sampled_from([MedianMethod(), NoRejection()])

noises = st.builds(
    SeriesNoise,
    noise_adu=st.sampled_from([0.0, 0.5, 1.2]) | st.floats(0, 100, allow_subnormal=False),
    step_adu=st.just(1.0),
)
float_noises = st.builds(
    SeriesNoise,
    noise_adu=st.sampled_from([0.0, 0.5, 1.2]) | st.floats(0, 100, allow_subnormal=False),
    step_adu=st.sampled_from([0.0, 1.0]),
)
