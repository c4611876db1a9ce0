"""Combine one block of samples in memory: the engine's only door to the kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    def rows(self, start: int, stop: int) -> Correction:
        """Give the correction of some rows."""
        offset = None if self.dark_offset is None else self.dark_offset[start:stop]
        rate = None if self.dark_rate is None else self.dark_rate[start:stop]
        return replace(self, dark_offset=offset, dark_rate=rate)


@dataclass(frozen=True, kw_only=True)
class BlockPlanes:
    """The planes of a master: `master` and `std` float32, `n_used` uint16, (rows, width) in C order."""

    master: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> BlockPlanes:
        """Make room for rows of a master."""
        return cls(
            master=np.empty(shape, np.float32), n_used=np.empty(shape, np.uint16), std=np.empty(shape, np.float32)
        )

    def rows(self, start: int, stop: int) -> BlockPlanes:
        """Give some rows, as views."""
        return BlockPlanes(master=self.master[start:stop], n_used=self.n_used[start:stop], std=self.std[start:stop])


@dataclass(frozen=True, kw_only=True)
class BlockResult:
    """Planes of a combined block, each of shape (rows, width), and counts.

    `master`, `std` (sample standard deviation of the kept), `low` and `high` (the kept range; empty where it was not
    asked for) are float32, `n_used` is uint16, `rejected_per_frame` is int64 of shape (n_frames,): samples outside
    the kept range or not finite.
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
    planes: BlockPlanes | None = None,
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
    planes : BlockPlanes, optional
        Where the result is to lie; then `low` and `high` are not given.

    Returns
    -------
    BlockResult
    """
    n, rows, width = block.shape
    parameters = method.resolved(n).parameters(noise)
    flat_block = np.ascontiguousarray(block).reshape(n, rows * width)
    low, high = (np.empty((rows, width) if planes is None else (0, width), np.float32) for _ in range(2))
    planes = planes or BlockPlanes.empty((rows, width))
    rejected = np.zeros(n, np.int64)
    flat_planes = (plane.reshape(-1) for plane in (planes.master, planes.n_used, planes.std, low, high))
    outputs = (*flat_planes, rejected)
    invalid = 0
    if encoding.is_integer and correction is None:
        _combine_words(flat_block, encoding, parameters, outputs)
    elif encoding.is_integer and correction is not None:
        invalid = _combine_corrected(flat_block, encoding, correction, parameters, outputs)
    else:
        samples = flat_block if correction is None else corrected(flat_block, encoding, correction)
        invalid = _combine_floats(samples, parameters, outputs)
    return BlockResult(
        master=planes.master,
        n_used=planes.n_used,
        std=planes.std,
        low=low,
        high=high,
        rejected_per_frame=rejected,
        invalid=invalid,
    )


def corrected(samples: NDArray[Any], encoding: SampleEncoding, correction: Correction) -> NDArray[np.float32]:
    """Apply a correction to samples of shape (n_frames, n_pixels); gives float32 of the same shape."""
    n, size = samples.shape
    offset, rate = _darks(correction, size)
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


def _darks(correction: Correction, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give offset and rate of the dark of every pixel."""
    offset, rate = correction.dark_offset, correction.dark_rate
    zeros = np.zeros(size if offset is None or rate is None else 0, np.float32)
    return zeros if offset is None else offset.reshape(-1), zeros if rate is None else rate.reshape(-1)


def _combine_words(
    block: NDArray[Any], encoding: SampleEncoding, p: KernelParameters, outputs: tuple[NDArray[Any], ...]
) -> None:
    flip = _SIGN_BIT if encoding.sign_flipped else np.uint16(0)
    rule = kernels.WordRule(
        p.code, p.center_is_median, p.spread_is_mad, p.iterations,
        p.low_numerator, p.low_denominator, p.high_numerator, p.high_denominator, p.min_keep, p.n_low, p.n_high,
        p.floor_micro_adu, p.step_micro_adu, p.is_modelled, p.variance_adu2, p.signal_zero_adu, p.variance_per_adu,
    )  # fmt: skip
    *planes, rejected = outputs
    combine = kernels.average_words if p.is_average else kernels.combine_words
    network = kernels.sorting_network(block.shape[0])
    combine(block, encoding.byte_swapped, flip, encoding.zero_adu, network, rule, kernels.Planes(*planes), rejected)


def _combine_floats(block: NDArray[Any], p: KernelParameters, outputs: tuple[NDArray[Any], ...]) -> int:
    *planes, rejected = outputs
    network = kernels.sorting_network(block.shape[0])
    return int(kernels.combine_floats(block, network, _float_rule(p), kernels.Planes(*planes), rejected))


def _combine_corrected(
    block: NDArray[Any],
    encoding: SampleEncoding,
    correction: Correction,
    p: KernelParameters,
    outputs: tuple[NDArray[Any], ...],
) -> int:
    *planes, rejected = outputs
    flip = _SIGN_BIT if encoding.sign_flipped else np.uint16(0)
    how = kernels.Corrected(
        encoding.byte_swapped, flip, encoding.zero_adu, *_darks(correction, block.shape[1]),
        correction.exposure_time_s, correction.scale,
    )  # fmt: skip
    combine = kernels.average_corrected if p.is_average else kernels.combine_corrected
    network = kernels.sorting_network(block.shape[0])
    return int(combine(block, how, network, _float_rule(p), kernels.Planes(*planes), rejected))


def _float_rule(p: KernelParameters) -> kernels.FloatRule:
    return kernels.FloatRule(
        p.code, p.center_is_median, p.spread_is_mad, p.iterations,
        p.low_numerator / p.low_denominator, p.high_numerator / p.high_denominator, p.min_keep, p.n_low, p.n_high,
        p.floor_micro_adu / 1e6, p.step_micro_adu / 2e6,
        p.is_modelled, p.variance_adu2, p.signal_zero_adu, p.variance_per_adu,
    )  # fmt: skip
