"""`open_series`: the frames of a series as a lazy xarray Dataset or Dask array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import InputError, StorageError
from ostcal.extras import needed_for
from ostcal.places.paths import normalized
from ostcal.series.reader import Series
from ostcal.series.reader import open_series as read_series
from ostcal.series.record import FrameRecord
from ostcal.series.stack import StoredFrames, stored_frames

Kind = Literal["xarray", "dask"]
Column = tuple[str, NDArray[Any], dict[str, str]]
"""Name, values and attributes of a coordinate."""

_CHUNK_BYTES = 16 * 2**20
"""Dask chunks are whole stored chunks of one frame, up to this size: a graph of 40 frames of 61 MP has 320 tasks."""


def open_series(
    path: str | os.PathLike[str],
    as_: Kind = "xarray",
    *,
    drop_excluded: bool = False,
    skip_damaged: bool = False,
) -> Any:
    """Open the frames of a series (``.zarr``) as a lazy xarray Dataset or Dask array.

    Only the records of the frames are read. Samples are read when they are computed: of slices the stored chunks that
    hold their rows, of lists of rows the Dask chunks (up to 16 MiB). Checksums are compared.

    Parameters
    ----------
    path : path
        A series, ``darks/exp_60.000s.zarr`` or ``s3://bucket/darks/exp_60.000s.zarr``.
    as_ : {"xarray", "dask"}, optional
        ``"xarray"`` gives a Dataset and needs xarray (``pip install 'ostcal[notebook]'``); ``"dask"`` gives the Dask
        array alone.
    drop_excluded : bool, optional
        Leave out the frames that were excluded from masters (``ostcal exclude``). By default they are there, and the
        coordinate ``excluded`` says which they are.
    skip_damaged : bool, optional
        Leave out frames whose record or samples are missing or damaged. By default they are an error.

    Returns
    -------
    xarray.Dataset or dask.array.Array
        The Dataset has the variable ``frames`` (time, y, x), a Dask array of the dtype of the camera in ADU (attribute
        ``units``). Coordinates along ``time``: ``time`` (start of the exposure, UTC), ``exposure`` (s),
        ``temperature`` and ``set_temperature`` (deg C), ``excluded``, ``exclusion_reason``, ``index`` (number of the
        frame in the series), ``mean`` and ``median`` (ADU), ``saturated`` (pixels), and ``source`` (file it was
        imported from); what no frame records is left out. Attributes: the settings that all frames share (``camera``,
        ``gain``, ``offset``, ``filter``, ``binning``, ...; those that differ are coordinates), ``frame_type``,
        ``frames_planned``, ``location``, ``software``.
        The Dask array is (n_frames, height, width).

    Raises
    ------
    StorageError
        If it is no series, has no frame yet, or is damaged. A single damaged frame is an error too, unless
        `skip_damaged` is set. Samples that turn out to be damaged when they are computed raise `FrameError`.
    InputError
        If `as_` is another word.
    MissingPackageError
        If xarray is not installed.

    Examples
    --------
    >>> import ostcal
    >>> ds = ostcal.open_series("darks/exp_60.000s.zarr")  # doctest: +SKIP
    >>> ds.frames.sel(time=~ds.excluded).isel(y=slice(0, 100)).mean("time").compute()  # doctest: +SKIP
    >>> ostcal.open_series("darks/exp_60.000s.zarr", as_="dask")[0].max().compute()  # doctest: +SKIP
    """
    if as_ not in get_args(Kind):
        raise InputError(f"as_={as_!r} is not allowed; write 'xarray' or 'dask'")
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path={path!r} is no path; give that of a series (.zarr)")
    with needed_for("open_series as xarray (as_='dask' gives a Dask array)", package="xarray", extra="notebook"):
        if as_ == "xarray":
            import xarray  # noqa: F401 before anything is read
    series = read_series(normalized(path))
    _refuse_damaged(series, skip_damaged=skip_damaged)
    chosen = [record for record in series.records if not (drop_excluded and record.index in series.excluded)]
    if not chosen:
        why = "all of its frames are excluded" if series.records else "no frame of it is complete"
        raise StorageError(f"{series.location}: {why}; there is nothing to open")
    frames = _lazy_frames(series, [record.index for record in chosen])
    return frames if as_ == "dask" else _dataset(series, chosen, frames)


def _refuse_damaged(series: Series, *, skip_damaged: bool) -> None:
    """Raise `StorageError` for a series with frames that cannot be used, unless these may be left out."""
    if series.problems and not skip_damaged:
        n_more = len(series.problems) - 1
        more = f" (and {n_more} more frame{'s' if n_more > 1 else ''})" if n_more else ""
        raise StorageError(f"{series.problems[0]}{more}; skip_damaged=True opens the others")


# ---- samples ----


@dataclass(frozen=True, kw_only=True)
class _SeriesArray:
    """Frames of a series as Dask reads arrays: small, picklable, without any samples."""

    location: str
    indices: tuple[int, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    ndim: int = 3

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read what a key of slices and numbers names: the stored chunks that hold it, and no others."""
        stored = stored_frames(self.location)
        every = [np.arange(size) for size in self.shape]
        positions, rows, columns = (axis[one] for axis, one in zip(every, _three(key), strict=True))
        wanted = np.atleast_1d(rows)
        out = np.empty((np.size(positions), wanted.size, np.size(columns)), self.dtype)
        for frame, position in enumerate(np.atleast_1d(positions)):
            for start, stop, into in _runs(wanted, stored.chunk_rows):
                block = np.empty((stop - start, self.shape[2]), self.dtype)
                stored.read(self.indices[position], start, block)
                out[frame, into] = block[wanted[into] - start][:, np.atleast_1d(columns)]
        sizes = np.shape(positions) + np.shape(rows) + np.shape(columns)
        return out.reshape(sizes)


def _three(key: Any) -> tuple[Any, Any, Any]:
    """Return a key of three axes."""
    given = key if isinstance(key, tuple) else (key,)
    padded = [*given, slice(None), slice(None)]
    return padded[0], padded[1], padded[2]


def _runs(rows: NDArray[np.intp], chunk_rows: int) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """Split rows where whole stored chunks lie between them; return first row, last row + 1 and places of each run."""
    order = np.argsort(rows, kind="stable")
    chunks = rows[order] // chunk_rows
    for into in np.split(order, np.flatnonzero(np.diff(chunks) > 1) + 1):
        if into.size:
            yield int(rows[into[0]]), int(rows[into[-1]]) + 1, into


def _lazy_frames(series: Series, indices: Sequence[int]) -> Any:
    """Return frames of a series as a Dask array whose chunks are whole stored chunks."""
    import dask.array as da
    from dask.base import tokenize

    stored = stored_frames(series.location)
    shape = (len(indices), series.height, series.width)
    source = _SeriesArray(location=series.location, indices=tuple(indices), shape=shape, dtype=np.dtype(series.dtype))
    # not the samples: a series only grows, and its frames are replaced by a restored copy alone
    name = f"series-{tokenize(series.location, stored.stamp, source.indices)}"
    return da.from_array(
        source,
        chunks=(1, _rows_of_chunk(stored), series.width),
        name=name,
        meta=np.empty((0, 0, 0), source.dtype),
        inline_array=True,
    )


def _rows_of_chunk(stored: StoredFrames) -> int:
    """Return the rows of a Dask chunk: whole stored chunks."""
    _, height, width = stored.shape
    row_bytes = width * np.dtype(stored.dtype).itemsize
    return min(height, max(1, _CHUNK_BYTES // (row_bytes * stored.chunk_rows)) * stored.chunk_rows)


# ---- what is recorded ----


def _dataset(series: Series, records: Sequence[FrameRecord], frames: Any) -> Any:
    """Return frames with what their records say."""
    import xarray

    variable = xarray.Variable(("time", "y", "x"), frames, {"units": "adu", "long_name": "raw samples"})
    shared, differing = _settings(series, records)
    columns = [*_columns(series, records), *differing]
    return xarray.Dataset(
        {"frames": variable},
        {name: xarray.Variable("time", values, attributes) for name, values, attributes in columns},
        shared,
    )


def _columns(series: Series, records: Sequence[FrameRecord]) -> Iterator[Column]:
    """Return the coordinates of the frames; those that no frame has are left out."""
    yield "time", _times([one.metadata.date_obs for one in records]), {"long_name": "start of the exposure, UTC"}
    yield "index", np.array([one.index for one in records], np.int64), {"long_name": "number of the frame"}
    yield "excluded", np.array([one.index in series.excluded for one in records]), {"long_name": "left out of masters"}
    numbers: dict[str, tuple[Callable[[FrameRecord], float | None], str]] = {
        "exposure": (lambda one: one.metadata.exposure_time_s, "s"),
        "temperature": (lambda one: one.metadata.ccd_temperature_c, "deg_C"),
        "set_temperature": (lambda one: one.metadata.set_temperature_c, "deg_C"),
        "cooler_power": (lambda one: one.cooler_power_percent, "percent"),
        "mean": (lambda one: one.pixels.statistics.mean, "adu"),
        "median": (lambda one: one.pixels.statistics.median, "adu"),
        "saturated": (lambda one: one.pixels.statistics.saturated, "pixel"),
    }
    for name, (value_of, unit) in numbers.items():
        values = [value_of(one) for one in records]
        if any(value is not None for value in values):
            yield name, _floats(values), {"units": unit}
    reasons = [series.excluded[one.index].why if one.index in series.excluded else "" for one in records]
    for name, texts in (("exclusion_reason", reasons), ("source", [one.source or "" for one in records])):
        if any(texts):
            yield name, np.array(texts), {}


def _settings(series: Series, records: Sequence[FrameRecord]) -> tuple[dict[str, Any], list[Column]]:
    """Return what all frames share as attributes, and as columns the settings that differ."""
    shared: dict[str, Any] = {"frame_type": str(series.frame_type)}
    differing: list[Column] = []
    found = [_settings_of(one) for one in records]
    for name in found[0]:
        values = [settings[name] for settings in found]
        if all(value == values[0] for value in values):
            if values[0] is not None:
                shared[name] = values[0]
        elif all(value is None or isinstance(value, int | float) for value in values):
            differing.append((name, _floats(values), {}))
        else:
            differing.append((name, np.array(["" if value is None else str(value) for value in values]), {}))
    ours = {"frames_planned": series.n_planned, "location": series.location, "software": series.software}
    return {**shared, **ours}, differing


def _settings_of(record: FrameRecord) -> dict[str, Any]:
    """Return the settings of a frame by the names that masters have them under; tuples as lists, as netCDF has them."""
    metadata = record.metadata
    optics = metadata.optics
    values = {
        **{field.name: getattr(metadata.settings, field.name) for field in fields(metadata.settings)},
        "filter": metadata.filter_name,
        "telescope": optics.telescope,
        "focal_length_mm": optics.focal_length_mm,
        "rotation_deg": optics.rotator_deg if optics.rotator_deg is not None else optics.sky_angle_deg,
        "bayer_pattern": metadata.bayer_pattern,
        "egain_e_per_adu": metadata.egain_e_per_adu,
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _floats(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return numbers; NaN where none is recorded."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _times(times: Sequence[datetime | None]) -> NDArray[np.datetime64]:
    """Return times in UTC; NaT where none is recorded."""
    plain = [None if time is None else time.astimezone(UTC).replace(tzinfo=None) for time in times]
    return np.array(plain, "datetime64[us]").astype("datetime64[ns]")
