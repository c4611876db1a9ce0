"""`combine`: frames in memory and on disk, with the methods and the arithmetic of `ostcal masters`."""

from __future__ import annotations

import contextlib
import math
import numbers
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostcal.arrays.file_frames import ready_frames, with_words
from ostcal.arrays.given_frames import GivenFrame, common_unit, given_frames, stack_of_given
from ostcal.arrays.method_words import method_of
from ostcal.arrays.scales import Scale, scale_of_dask, scales_of
from ostcal.engine.combine import BlockPlanes
from ostcal.engine.execution import default_workers
from ostcal.engine.in_memory import combine_stack
from ostcal.engine.rejection import RejectionMethod
from ostcal.errors import InputError
from ostcal.fits.astropy_objects import ccd_data, common_meta, common_wcs, is_instance, unit_of
from ostcal.fits.sections import OverscanRule
from ostcal.inputs.overscan_words import median_variance_factor
from ostcal.progress import ProgressBar

_DEFAULT_LIMIT = 4 * 2**30


class CombinedPlanes(NamedTuple):
    """The planes of a combined image, each (height, width); Dask arrays of Dask arrays.

    Attributes
    ----------
    master : float32
        Mean (or median) of the samples that were kept; NaN where there is none.
    std : float32
        Sample standard deviation of the samples that were kept.
    n_used : uint16
        How many samples were kept.
    """

    master: Any
    std: Any
    n_used: Any

    def __repr__(self) -> str:
        height, width = self.master.shape
        return f"<CombinedPlanes (master, std, n_used) of {width} x {height} pixels>"


def combine(
    frames: Any,
    method: str = "sigma_clip",
    *,
    scale: Scale = None,
    unit: Any = None,
    overscan: Literal["auto", "none"] = "auto",
    mem_limit: float = _DEFAULT_LIMIT,
    workers: int | None = None,
    full_output: bool = False,
    progress: bool | None = None,
    **keywords: Any,
) -> Any:
    """Combine frames pixel by pixel, with outliers rejected.

    The methods, the arithmetic and the bits of the result are those of ``ostcal masters``, whatever the kind of the
    frames. NaN, infinities and masked samples do not count.

    Parameters
    ----------
    frames : sequence of frames, or one array of three axes
        Frames are arrays of two axes (numpy, masked, memory-mapped, zarr, quantities), `CCDData`, HDUs or open FITS
        files, and paths of FITS, XISF and raw files and of series (``.zarr``), also mixed. A Dask array of three axes,
        or a list of Dask arrays, is combined chunk by chunk when the result is computed; so are those that xarray has.
    method : str, optional
        ``sigma_clip``, ``winsorized_sigma_clip``, ``minmax``, ``percentile``, ``median`` or ``none`` (the mean).
    scale : {"mean", "median"}, sequence of float, or callable, optional
        Factor of each frame, applied before samples are rejected: what brings its level to the mean of all levels, or
        numbers, or a function that returns the number for an array. ``None`` scales nothing.
    unit : str or Unit, optional
        Unit of the samples; the result is then a `CCDData`, as it is of `CCDData` and quantities.
    overscan : {"auto", "none"}, optional
        Whether the overscan that headers of files name is subtracted and trimmed. Objects in memory are taken as they
        are.
    mem_limit : float, optional
        Memory for the strips of all frames that are in work at a time, in bytes; the result comes on top.
    workers : int, optional
        Threads; by default one more than processors. Dask arrays are computed by Dask.
    full_output : bool, optional
        Whether the standard deviation and the number of samples of each pixel are returned too. A `CCDData` has both.
    progress : bool, optional
        Whether progress is shown; by default in notebooks alone. Dask shows its own for Dask arrays
        (``dask.diagnostics.ProgressBar``).
    **keywords : number or str
        Keys of the method as in the configuration: ``sigma_threshold``, ``sigma_low``, ``sigma_high``,
        ``clip_center``, ``clip_spread``, ``clip_iterations``, ``min_keep``; ``n_low``, ``n_high``;
        ``percentile_low``, ``percentile_high``.

    Returns
    -------
    float32 array, CombinedPlanes, CCDData, or Dask array
        An array of (height, width); with `full_output` the named tuple ``(master, std, n_used)``. A `CCDData` has
        the standard error as its uncertainty, a mask of pixels without a sample, the cards that all frames share as
        its meta, and the attribute ``n_used``. Of Dask arrays, Dask arrays that nothing is computed of yet.

    Raises
    ------
    InputError
        If there are no frames, they differ in size or unit, one is no frame, or a keyword or its value is wrong.
    FrameError
        If a file cannot be read.
    PlanError
        If the memory is too small for a single row.

    Examples
    --------
    >>> import numpy as np
    >>> from ostcal import combine
    >>> frames = [np.full((2, 2), level, np.uint16) for level in (99, 100, 101, 65535)]
    >>> combine(frames, "median").tolist()
    [[100.5, 100.5], [100.5, 100.5]]
    >>> combine(frames).tolist()
    [[100.0, 100.0], [100.0, 100.0]]
    >>> combine(["dark_001.fits", "dark_002.fits"], unit="adu").uncertainty  # doctest: +SKIP
    """
    chosen = method_of(method, keywords)
    limit_bytes, threads = _limit(mem_limit), _threads(workers)
    if overscan not in ("auto", "none"):
        raise InputError(f"overscan={overscan!r} is not allowed; write 'auto' or 'none'")
    wanted = unit_of(unit)
    dask_array = _dask_array(frames)
    if dask_array is not None:
        if wanted is not None:
            raise InputError(
                "unit= makes a CCDData, which Dask arrays are not; compute the result and give it its unit"
            )
        from ostcal.arrays.dask_frames import combine_dask

        n_frames = dask_array.shape[0]
        planes = CombinedPlanes(*combine_dask(dask_array, chosen, scale_of_dask(scale, n_frames)))
        return planes if full_output else planes.master
    given = given_frames(frames, OverscanRule(source=overscan))
    unit, has_unit = common_unit(given, wanted)
    with contextlib.ExitStack() as opened:
        bar = opened.enter_context(ProgressBar("combining", progress))
        if not all(frame.file is None or frame.file.is_ready for frame in given):
            given = _ready(given, opened.enter_context(tempfile.TemporaryDirectory(prefix="ostcal-")), limit_bytes)
        given = _with_words(given, threads)
        stack = stack_of_given(given)
        scales = scales_of(scale, stack, [frame.label for frame in given], threads)
        bar.start(stack.shape[1])
        result = combine_stack(
            stack, chosen, scales=scales, memory_limit_bytes=limit_bytes, workers=threads, on_rows=bar.advance
        )
    if has_unit:
        return _ccd_data(result.planes, given, chosen, unit)
    planes = CombinedPlanes(result.planes.master, result.planes.std, result.planes.n_used)
    return planes if full_output else planes.master


def _limit(mem_limit: Any) -> int:
    """Return a memory limit in bytes."""
    limit_bytes = float(mem_limit) if isinstance(mem_limit, numbers.Real) else math.nan
    if not 0 < limit_bytes < math.inf:
        raise InputError(f"mem_limit={mem_limit!r} is not allowed; write a number of bytes such as 4e9")
    return int(limit_bytes)


def _threads(workers: Any) -> int:
    """Return the number of threads."""
    if workers is None:
        return default_workers("threads")
    if not isinstance(workers, numbers.Integral) or workers < 1:
        raise InputError(f"workers={workers!r} is not allowed; write a whole number of at least 1, or None")
    return int(workers)


def _dask_array(frames: Any) -> Any:
    """Return the Dask array that is given, or that a list of them makes; ``None`` for all other frames.

    Raises
    ------
    InputError
        If only some frames are Dask arrays.
    """
    if not isinstance(frames, (list, tuple)):
        return _lazy(frames)
    arrays = [_lazy(frame) for frame in frames]
    absent = next((index for index, array in enumerate(arrays) if array is None), None)
    if absent is None and arrays:
        from ostcal.arrays.dask_frames import stacked

        return stacked(arrays)
    if any(array is not None for array in arrays):
        raise InputError(f"frames[{absent}]: is no Dask array as others are; give Dask arrays alone")
    return None


def _lazy(frame: Any) -> Any:
    """Return a Dask array, or that of an xarray DataArray; ``None`` for anything else."""
    if is_instance(frame, "xarray", "DataArray") and frame.chunks is not None:
        frame = frame.data
    return frame if is_instance(frame, "dask.array", "Array") else None


def _ready(frames: Sequence[GivenFrame], directory: str, memory_bytes: int) -> list[GivenFrame]:
    """Unpack files that are compressed."""
    ready = iter(ready_frames([frame.file for frame in frames if frame.file is not None], directory, memory_bytes))
    return [frame if frame.file is None else replace(frame, file=next(ready)) for frame in frames]


def _with_words(frames: Sequence[GivenFrame], workers: int) -> list[GivenFrame]:
    """Mark the files that store whole numbers of 16 bits as floats."""

    def marked(frame: GivenFrame) -> GivenFrame:
        return frame if frame.file is None else replace(frame, file=with_words(frame.file))

    with ThreadPoolExecutor(workers, thread_name_prefix="ostcal") as pool:
        return list(pool.map(marked, frames))


# ---- CCDData ----


def _ccd_data(planes: BlockPlanes, frames: Sequence[GivenFrame], method: RejectionMethod, unit: Any) -> Any:
    metas: list[Mapping[str, Any]] = []
    for frame in frames:
        metas.append(frame.file.meta if frame.file is not None else frame.meta if frame.meta is not None else {})
    resolved = method.resolved(len(frames))
    own = [
        ("NCOMBINE", len(frames), "frames combined"),
        ("COMBTYPE", method.combined_as, "how kept samples were combined"),
        ("REJTYPE", resolved.label, "how outliers were rejected"),
        *resolved.cards(),
    ]
    return ccd_data(
        planes.master,
        uncertainty=standard_error(planes, is_median=method.combined_as == "median"),
        mask=planes.n_used == 0,
        n_used=planes.n_used,
        unit=unit,
        meta=common_meta(metas, own),
        wcs=common_wcs([frame.wcs for frame in frames]),
    )


def standard_error(planes: BlockPlanes, *, is_median: bool) -> NDArray[np.float32]:
    """Return the standard error of each pixel, float32; NaN where fewer than two samples were kept."""
    most = int(planes.n_used.max(initial=0))
    factors = np.full(most + 1, np.nan, np.float32)
    for n in range(2, most + 1):
        factors[n] = math.sqrt(median_variance_factor(n, is_median=is_median) / n)
    error: NDArray[np.float32] = planes.std * factors[planes.n_used]
    return error
