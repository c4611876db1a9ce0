"""Combine one block of samples in memory: the engine's only door to the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine import kernels
from ostcal.engine.rejection import KernelParameters, RejectionMethod, SeriesNoise
from ostcal.frames import SampleEncoding

_NO_NOISE = SeriesNoise()
_SIGN_BIT = np.uint16(0x8000)


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What is done to the samples of flats before rejection: ``(x - offset - rate * exposure_i) * scale_i``.

    Attributes
    ----------
    scale : (n_frames,) float64
        Factor that brings each frame to the common level.
    exposure_time_s : (n_frames,) float64
    dark_offset : (rows, width) float32 or None
        Bias or dark in ADU; none is zero.
    dark_rate : (rows, width) float32 or None
        Dark current in ADU/s; none is zero.
    """

    scale: NDArray[np.float64]
    exposure_time_s: NDArray[np.float64]
    dark_offset: NDArray[np.float32] | None = None
    dark_rate: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class BlockResult:
    """Planes of a combined block, each of shape (rows, width), and counts.

    `master`, `std` (sample standard deviation of the kept), `low` and `high` (the kept range) are float32, `n_used` is
    uint16, `rejected_per_frame` is int64 of shape (n_frames,): samples outside the kept range or not finite.
    """

    master: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rejected_per_frame: NDArray[np.int64]
    invalid: int
    """Samples that were not finite."""


def combine_block(
    block: NDArray[Any],
    encoding: SampleEncoding,
    method: RejectionMethod,
    *,
    noise: SeriesNoise = _NO_NOISE,
    correction: Correction | None = None,
) -> BlockResult:
    """Combine a block of samples pixel by pixel.

    Parameters
    ----------
    block : (n_frames, rows, width) uint16, float32 or float64
        Raw samples as `FrameStack.read_rows` delivers them.
    encoding : SampleEncoding
        How raw samples become ADU.
    method : RejectionMethod
    noise : SeriesNoise
        Noise and step of the series, for methods whose spread has a floor.
    correction : Correction, optional
        Dark subtraction and scaling of every frame before rejection (flats).

    Returns
    -------
    BlockResult
    """
    n, rows, width = block.shape
    parameters = method.resolved(n).parameters(noise)
    flat_block = np.ascontiguousarray(block).reshape(n, rows * width)
    planes = {name: np.empty(rows * width, np.float32) for name in ("master", "std", "low", "high")}
    n_used = np.empty(rows * width, np.uint16)
    rejected = np.zeros(n, np.int64)
    outputs = (planes["master"], n_used, planes["std"], planes["low"], planes["high"], rejected)
    invalid = 0
    if encoding.is_integer and correction is None:
        _combine_words(flat_block, encoding, parameters, outputs)
    else:
        samples = flat_block if correction is None else corrected(flat_block, encoding, correction)
        invalid = samples.size - int(np.count_nonzero(np.isfinite(samples)))
        _combine_floats(samples, parameters, outputs)
    shape = (rows, width)
    return BlockResult(
        **{name: plane.reshape(shape) for name, plane in planes.items()},
        n_used=n_used.reshape(shape),
        rejected_per_frame=rejected,
        invalid=invalid,
    )


def corrected(samples: NDArray[Any], encoding: SampleEncoding, correction: Correction) -> NDArray[np.float32]:
    """Apply a correction to samples of shape (n_frames, n_pixels); gives float32 of the same shape."""
    n, size = samples.shape
    zeros = np.zeros(size, np.float32)
    offset = zeros if correction.dark_offset is None else correction.dark_offset.reshape(-1)
    rate = zeros if correction.dark_rate is None else correction.dark_rate.reshape(-1)
    out = np.empty((n, size), np.float32)
    if encoding.is_integer:
        flip = _SIGN_BIT if encoding.sign_flipped else np.uint16(0)
        kernels.correct_words(
            samples, encoding.byte_swapped, flip, encoding.zero_adu,
            offset, rate, correction.exposure_time_s, correction.scale, out,
        )  # fmt: skip
        return out
    for i in range(n):
        dark = offset.astype(np.float64) + rate.astype(np.float64) * correction.exposure_time_s[i]
        out[i] = (samples[i] - dark) * correction.scale[i]
    return out


def _combine_words(
    block: NDArray[Any], encoding: SampleEncoding, p: KernelParameters, outputs: tuple[NDArray[Any], ...]
) -> None:
    flip = _SIGN_BIT if encoding.sign_flipped else np.uint16(0)
    kernels.combine_words(
        block, encoding.byte_swapped, flip, encoding.zero_adu, kernels.sorting_network(block.shape[0]),
        p.code, p.center_is_median, p.spread_is_mad, p.iterations,
        p.low_numerator, p.low_denominator, p.high_numerator, p.high_denominator, p.min_keep, p.n_low, p.n_high,
        p.floor_micro_adu, p.step_micro_adu, p.is_modelled, p.variance_adu2, p.signal_zero_adu, p.variance_per_adu,
        *outputs,
    )  # fmt: skip


def _combine_floats(block: NDArray[Any], p: KernelParameters, outputs: tuple[NDArray[Any], ...]) -> None:
    kernels.combine_floats(
        block, kernels.sorting_network(block.shape[0]),
        p.code, p.center_is_median, p.spread_is_mad, p.iterations,
        p.low_numerator / p.low_denominator, p.high_numerator / p.high_denominator, p.min_keep, p.n_low, p.n_high,
        p.floor_micro_adu / 1e6, p.step_micro_adu / 2e6,
        p.is_modelled, p.variance_adu2, p.signal_zero_adu, p.variance_per_adu, *outputs,
    )  # fmt: skip
