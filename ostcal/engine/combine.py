"""Combine one block of samples in memory: the engine's only door to the kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine import kernels
from ostcal.engine.rejection import RejectionMethod, SeriesNoise
from ostcal.frames import SampleEncoding

_NO_NOISE = SeriesNoise()


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What is done to the samples of flats before rejection: ``(x - offset - rate * exposure_i) * scale_i``."""

    scale: NDArray[np.float64]
    """(n_frames,): factor that brings each frame to the common level."""
    exposure_time_s: NDArray[np.float64]
    """(n_frames,)."""
    dark_offset: NDArray[np.float32] | None = None
    """(rows, width): bias or dark in ADU; none is zero."""
    dark_rate: NDArray[np.float32] | None = None
    """(rows, width): dark current in ADU/s; none is zero."""

    def rows(self, start: int, stop: int) -> Correction:
        """Return the correction of some rows."""
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
        """Return some rows, as views."""
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

    `block` has raw samples as `FrameStack.read_rows` delivers them, (n_frames, rows, width) uint16, float32 or float64.
    `noise` is that of the series, for methods whose spread has a floor. A `correction` is applied to every frame before
    rejection (flats). With `planes`, the result lies there, and `low` and `high` are empty.
    """
    n, rows, width = block.shape
    rule = method.resolved(n).rule(noise)
    samples = np.ascontiguousarray(block).reshape(n, rows * width)
    low, high = (np.empty((rows, width) if planes is None else (0, width), np.float32) for _ in range(2))
    planes = planes or BlockPlanes.empty((rows, width))
    rejected = np.zeros(n, np.int64)
    out = kernels.Planes(
        master=planes.master.reshape(-1),
        n_used=planes.n_used.reshape(-1),
        std=planes.std.reshape(-1),
        low=low.reshape(-1),
        high=high.reshape(-1),
        rejected=rejected,
    )
    network = kernels.sorting_network(n)
    invalid = 0
    if encoding.is_integer and correction is None:
        combine_words = kernels.average_words if rule.is_average else kernels.combine_words
        combine_words(samples, coding_of(encoding), network, rule, out)
    elif encoding.is_integer and correction is not None:
        combine_corrected = kernels.average_corrected if rule.is_average else kernels.combine_corrected
        how = _corrected(encoding, correction, rows * width)
        invalid = combine_corrected(samples, how, network, rule, out)
    else:
        samples = samples if correction is None else corrected(samples, encoding, correction)
        invalid = kernels.combine_floats(samples, network, rule, out)
    return BlockResult(
        master=planes.master,
        n_used=planes.n_used,
        std=planes.std,
        low=low,
        high=high,
        rejected_per_frame=rejected,
        invalid=int(invalid),
    )


def corrected(samples: NDArray[Any], encoding: SampleEncoding, correction: Correction) -> NDArray[np.float32]:
    """Apply a correction to samples (n_frames, n_pixels) uint16 or float; return float32 of the same shape."""
    n, size = samples.shape
    how = _corrected(encoding, correction, size)
    out = np.empty((n, size), np.float32)
    if encoding.is_integer:
        kernels.correct_words(samples, how, out)
        return out
    for i in range(n):
        dark = how.offset.astype(np.float64) + how.rate.astype(np.float64) * how.exposure[i]
        out[i] = (samples[i] - dark) * how.scale[i]
    return out


def coding_of(encoding: SampleEncoding) -> kernels.Coding:
    """Return how the kernels decode raw 16-bit samples."""
    flip = np.uint16(0x8000 if encoding.sign_flipped else 0)
    return kernels.Coding(swapped=encoding.byte_swapped, flip=flip, zero=encoding.zero_adu)


def _corrected(encoding: SampleEncoding, correction: Correction, size: int) -> kernels.Corrected:
    """Return how the kernels correct `size` pixels; a dark that is missing is zero."""
    offset, rate = correction.dark_offset, correction.dark_rate
    zeros = np.zeros(size if offset is None or rate is None else 0, np.float32)
    return kernels.Corrected(
        coding=coding_of(encoding),
        offset=zeros if offset is None else offset.reshape(-1),
        rate=zeros if rate is None else rate.reshape(-1),
        exposure=correction.exposure_time_s,
        scale=correction.scale,
    )
