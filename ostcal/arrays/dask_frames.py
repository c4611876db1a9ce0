"""Dask arrays of frames, combined chunk by chunk when the result is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from dask.graph_manipulation import clone
from numpy.typing import NDArray

from ostcal.arrays.array_stack import ArrayStack, MaskedStack, check_dtype
from ostcal.arrays.scales import lit_scales
from ostcal.engine.combine import BlockPlanes, Correction
from ostcal.engine.levels import DarkMeans, common_scales, frame_level
from ostcal.engine.noise import NoiseCells, noise_rows
from ostcal.engine.rejection import RejectionMethod, SeriesNoise
from ostcal.engine.stack_rows import combine_rows, row_noise, series_noise
from ostcal.engine.tiling import MAX_FRAMES
from ostcal.errors import InputError, NoFramesError
from ostcal.frames import FrameStack
from ostcal.vocabulary import FlatScaling

_CHUNK_BYTES = 256 * 2**20
"""Chunks of all frames that are larger are cut across the image."""
_PLANES = np.dtype([("master", np.float32), ("std", np.float32), ("n_used", np.uint16)])


def stacked(frames: Sequence[Any]) -> Any:
    """Return the Dask array of three axes that Dask arrays of two axes make."""
    for index, frame in enumerate(frames):
        if frame.ndim != 2 or frame.shape != frames[0].shape:
            raise InputError(
                f"frames[{index}]: is {' x '.join(map(str, frame.shape))}, frames[0] is "
                f"{' x '.join(map(str, frames[0].shape))}; give Dask arrays of two axes and one size"
            )
    return da.stack(list(frames))


def combine_dask(
    frames: Any, method: RejectionMethod, scale: Sequence[float] | FlatScaling | None
) -> tuple[Any, Any, Any]:
    """Return master, standard deviation and number of samples as Dask arrays of (height, width).

    Chunks of one frame are joined along the frames. What must be known of the whole series before, its noise and the
    levels of its frames, is a graph of its own, which loads the chunks again: otherwise all would be held until it is
    known.
    """
    check_frames(frames)
    n, height, width = frames.shape
    check_dtype(frames.dtype, "frames")
    joined = _joined(frames)
    labels = tuple(f"frames[{index}]" for index in range(n))
    scales: Any = scale
    if isinstance(scale, str):
        again = clone(frames)
        levels = [delayed(_level)(again[index], labels[index], scale) for index in range(n)]
        scales = delayed(_scales_of)(levels, scale, labels)
    noise: Any = SeriesNoise()
    is_spread = method.resolved(n).needs_noise
    if scales is not None or is_spread:
        rows = clone(frames)[:, noise_rows(height)].rechunk((n, "auto", width))
        cells = [delayed(_cells)(block, labels, scales) for block in rows.to_delayed().ravel()]
        empty = frames._meta[:1, :1, :1]
        noise = delayed(_noise)(cells, empty, is_scaled=scales is not None, is_spread=is_spread)
    planes = da.map_blocks(
        _combine, joined, method=method, noise=noise, scales=scales, labels=labels, drop_axis=0, dtype=_PLANES,
        meta=np.empty((0, 0), _PLANES),
    )  # fmt: skip
    return planes["master"], planes["std"], planes["n_used"]


def check_frames(frames: Any) -> None:
    """Raise `InputError` for a Dask array that is no stack of frames of known size."""
    if frames.ndim != 3:
        raise InputError(f"frames is a Dask array of {frames.ndim} axes; give (n_frames, height, width)")
    if any(math.isnan(size) for size in frames.shape):
        raise InputError("frames: the chunks have unknown sizes; call compute_chunk_sizes() before")
    if frames.shape[0] == 0:
        raise NoFramesError("no frames to combine; give a Dask array of (n_frames, height, width)")
    if 0 in frames.shape:
        raise InputError(f"frames: is {' x '.join(map(str, frames.shape))}; give frames with pixels")
    if frames.shape[0] > MAX_FRAMES:
        raise InputError(f"frames: {frames.shape[0]} frames; at most {MAX_FRAMES} can be combined")


def _joined(frames: Any) -> Any:
    """Return the frames with chunks of all of them, cut across the image where these would be large."""
    row, column = max(frames.chunks[1]), max(frames.chunks[2])
    if frames.shape[0] * row * column * frames.dtype.itemsize <= _CHUNK_BYTES:
        return frames.rechunk({0: -1})
    return frames.rechunk({0: -1, 1: "auto", 2: "auto"}, block_size_limit=_CHUNK_BYTES)


# ---- tasks ----


def _combine(
    block: NDArray[Any],
    *,
    method: RejectionMethod,
    noise: SeriesNoise,
    scales: Sequence[float] | None,
    labels: tuple[str, ...],
) -> NDArray[Any]:
    """Combine a chunk of all frames; return its planes as the fields of one array."""
    stack = _stack(block, labels)
    planes = BlockPlanes.empty(block.shape[1:])
    combine_rows(stack, method, 0, noise=noise, correction=_correction(scales), planes=planes)
    result = np.empty(block.shape[1:], _PLANES)
    result["master"], result["std"], result["n_used"] = planes.master, planes.std, planes.n_used
    return result


def _cells(block: NDArray[Any], labels: tuple[str, ...], scales: Sequence[float] | None) -> list[NoiseCells]:
    """Measure the noise of the rows of a block of all frames."""
    stack = _stack(block, labels)
    return [row_noise(stack, row, _correction(scales)) for row in range(block.shape[1])]


def _noise(parts: list[list[NoiseCells]], empty: NDArray[Any], *, is_scaled: bool, is_spread: bool) -> SeriesNoise:
    """Return the noise of the series; `empty` has the type of its arrays."""
    one = np.ones((1, 1, 1), empty.dtype)
    stack = _stack(np.ma.MaskedArray(one) if isinstance(empty, np.ma.MaskedArray) else one, ("frames",))
    cells = [cells for part in parts for cells in part]
    return series_noise(cells, stack, is_corrected=is_scaled, is_spread=is_spread)


def _level(frame: NDArray[Any], label: str, scaling: FlatScaling) -> float:
    """Measure the level of one frame."""
    return frame_level(_stack(frame[None], (label,)), 0.0, None, DarkMeans(), scaling)


def _scales_of(levels: list[float], scaling: FlatScaling, labels: tuple[str, ...]) -> tuple[float, ...]:
    return lit_scales(common_scales(levels, scaling), labels)


def _stack(block: NDArray[Any], labels: tuple[str, ...]) -> FrameStack:
    """Return a chunk of all frames as a stack; of a masked array always one of floats, whatever a chunk masks."""
    if isinstance(block, np.ma.MaskedArray):
        return MaskedStack(ArrayStack(tuple(block.data), labels), tuple(np.ma.getmaskarray(block)))
    return ArrayStack(tuple(block), labels)


def _correction(scales: Sequence[float] | None) -> Correction | None:
    return None if scales is None else Correction(scale=np.array(scales), exposure_time_s=np.zeros(len(scales)))
