"""What is given to be combined, frame by frame: arrays, `CCDData`, HDUs, files and series."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.arrays.array_stack import ArrayStack, MaskedStack, Plane
from ostcal.arrays.file_frames import FileFrame, frames_of_place
from ostcal.errors import InputError, NoFramesError
from ostcal.fits.astropy_objects import is_hdu, is_hdu_list, is_nddata, is_quantity, unit_of_card
from ostcal.fits.hdus import is_companion, refuse_several
from ostcal.fits.sections import OverscanRule
from ostcal.frames import FrameStack
from ostcal.inputs.gather import stack_of
from ostcal.series.concatenated import ConcatenatedStack


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenFrame:
    """One frame, as it was given."""

    label: str
    """``frames[3]``, or its file."""
    samples: Any = None
    """An array of two axes; ``None`` for a frame of a file or series."""
    file: FileFrame | None = None
    mask: NDArray[np.bool_] | None = None
    unit: Any = None
    """A unit, or the text of a BUNIT that is none; ``None`` where it has none."""
    unit_decides: bool = False
    """Whether its unit makes the result a `CCDData`: that of a `CCDData` or `Quantity`, not a card of a header."""
    meta: Mapping[str, Any] | None = None
    wcs: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width)``."""
        return self.file.shape if self.file is not None else tuple(self.samples.shape)


def given_frames(frames: Any, overscan: OverscanRule) -> list[GivenFrame]:
    """List the frames that are given, and look at all of them but their samples.

    Raises
    ------
    NoFramesError
        If there are none.
    InputError
        If one of them is no frame, or is unlike the first in size or unit.
    """
    found = list(_every_frame(frames, overscan))
    if not found:
        raise NoFramesError("no frames to combine; give a list of arrays, CCDData or paths, or an array of three axes")
    first = found[0]
    for frame in found:
        if len(frame.shape) != 2 or 0 in frame.shape:
            axes = " x ".join(map(str, frame.shape)) or "no axes"
            raise InputError(f"{frame.label}: is an array of {axes}; give frames of two axes, or one array of three")
        if frame.shape != first.shape:
            (height, width), (first_height, first_width) = frame.shape, first.shape
            raise InputError(
                f"{frame.label}: is {width} x {height}, {first.label} is {first_width} x {first_height}; "
                "give frames of one size"
            )
    return found


def stack_of_given(frames: Sequence[GivenFrame]) -> FrameStack:
    """Return one stack of frames that may be arrays, files and frames of series, in their order."""
    parts: list[FrameStack] = []
    start = 0
    while start < len(frames):
        stop, is_file = start, frames[start].file is not None
        while stop < len(frames) and (frames[stop].file is not None) == is_file:
            stop += 1
        parts.append(_stack_of_run(frames[start:stop]))
        start = stop
    stack = parts[0] if len(parts) == 1 else ConcatenatedStack(tuple(parts))
    masks = tuple(frame.mask for frame in frames)
    return stack if all(mask is None for mask in masks) else MaskedStack(stack, masks)


def common_unit(frames: Sequence[GivenFrame], stated: Any) -> tuple[Any, bool]:
    """Return the unit of all frames, and whether the result has one: `stated`, or that of `CCDData` and quantities.

    Raises
    ------
    InputError
        If the units of frames differ, or some have one and others none.
    """
    named = [frame for frame in frames if frame.unit is not None]
    unit = stated if stated is not None else named[0].unit if named else None
    for frame in named:
        if frame.unit != unit:
            other = "unit=" if stated is not None else f"that of {named[0].label}"
            raise InputError(f"{frame.label}: its unit is {frame.unit}, {other} is {unit}; convert it first")
    decides = [frame for frame in frames if frame.unit_decides]
    if decides and stated is None:
        bare = next((frame for frame in frames if frame.unit is None), None)
        if bare is not None:
            raise InputError(
                f"{bare.label}: has no unit, {decides[0].label} is in {unit}; give unit='{unit}' if it is too"
            )
    return unit, stated is not None or bool(decides)


# ---- one by one ----


def _every_frame(frames: Any, overscan: OverscanRule) -> Iterator[GivenFrame]:
    if isinstance(frames, (str, os.PathLike)):
        yield from _of_place(frames, overscan)
    elif is_hdu_list(frames):
        yield from _of_hdus(list(frames), "frames")
    elif _is_array(frames) and not _holds_objects(frames):
        yield from _of_cube(frames)
    elif isinstance(frames, Iterable) and not isinstance(frames, bytes) and not hasattr(frames, "keys"):
        for index, frame in enumerate(frames):
            yield from _of_one(frame, f"frames[{index}]", overscan)
    else:  # of what has keys, such as a Dataset or a zarr group, only names would be iterated over
        names = ", ".join(map(repr, itertools.islice(frames, 3))) if isinstance(frames, Iterable) else ""
        by_name = f"what it has by name ({names}), " if names and hasattr(frames, "keys") else ""
        raise InputError(
            f"frames: {_named(frames)} holds no frames; give {by_name}a list of arrays, CCDData or paths, or an array"
            " of three axes"
        )


def _of_one(frame: Any, label: str, overscan: OverscanRule) -> Iterator[GivenFrame]:
    if isinstance(frame, (str, os.PathLike)):
        yield from _of_place(frame, overscan)
    elif is_hdu_list(frame):
        images = list(_of_hdus(list(frame), label))
        refuse_several([image.label for image in images], label)
        yield from images
    elif is_hdu(frame):
        yield _of_hdu(frame, label)
    elif _is_array(frame):
        yield _of_array(frame, label)
    else:
        raise InputError(f"{label}: {_named(frame)} is no frame; give an array, a CCDData, an HDU or a path")


def _of_place(place: str | os.PathLike[str], overscan: OverscanRule) -> Iterator[GivenFrame]:
    for file in frames_of_place(os.fspath(place), overscan):
        yield GivenFrame(label=file.label, file=file, unit=unit_of_card(file.unit), meta=file.meta)


def _of_hdus(hdus: Sequence[Any], label: str) -> Iterator[GivenFrame]:
    """Return the images of an open file that are no companions of others, such as masks."""
    images = [
        _of_hdu(hdu, f"{label}[{number}]")
        for number, hdu in enumerate(hdus)
        if is_hdu(hdu) and not is_companion(hdu.name) and getattr(_samples(hdu, label), "ndim", 0) >= 2
    ]
    if not images:
        raise InputError(f"{label}: has no image of two axes; give another")
    yield from images


def _samples(hdu: Any, label: str) -> Any:
    """Return the samples of an HDU, which are read when they are first asked for; ``None`` where it has none."""
    try:
        return hdu.data
    except (ValueError, OSError, TypeError) as error:  # TypeError: astropy, of a file that is cut short
        raise InputError(
            f"{label}: its samples cannot be read ({error}); keep the file open, or give its path"
        ) from error


def _of_hdu(hdu: Any, label: str) -> GivenFrame:
    if _samples(hdu, label) is None:
        raise InputError(f"{label}: is an HDU without samples; give the one that holds the image")
    unit = unit_of_card(str(hdu.header.get("BUNIT", "")))
    return GivenFrame(label=label, samples=hdu.data, unit=unit, meta=hdu.header)


def _of_array(array: Any, label: str) -> GivenFrame:
    """Return an array, a masked one, a quantity or a `CCDData` as a frame."""
    if is_nddata(array):
        return GivenFrame(
            label=label,
            samples=array.data,
            mask=_mask(array.mask, array.data.shape, label),
            unit=array.unit,
            unit_decides=array.unit is not None,
            meta=array.meta,
            wcs=array.wcs,
        )
    if is_quantity(array):
        return GivenFrame(label=label, samples=array.value, unit=array.unit, unit_decides=True)
    if isinstance(array, np.ma.MaskedArray):
        mask = _mask(np.ma.getmaskarray(array), array.shape, label)
        return GivenFrame(label=label, samples=array.data, mask=mask)
    return GivenFrame(label=label, samples=array if hasattr(array, "__getitem__") else np.asarray(array))


def _of_cube(array: Any) -> Iterator[GivenFrame]:
    """Split an array of three axes, in memory or stored."""
    shape = array.data.shape if is_nddata(array) else array.shape
    if len(shape) != 3:
        axes = " x ".join(map(str, shape))
        raise InputError(f"frames is one array of {axes}; give (n_frames, height, width), or a list of frames")
    labels = [f"frames[{index}]" for index in range(shape[0])]
    if is_nddata(array):
        masks = _mask(array.mask, shape, "frames")
        for index, label in enumerate(labels):
            yield GivenFrame(
                label=label,
                samples=np.asarray(array.data)[index],
                mask=_mask(None if masks is None else masks[index], shape[1:], label),
                unit=array.unit,
                unit_decides=array.unit is not None,
                meta=array.meta,
            )
        return
    for index, label in enumerate(labels):
        is_in_memory = isinstance(array, np.ndarray)
        yield _of_array(array[index] if is_in_memory else Plane(array, index), label)


def _stack_of_run(frames: Sequence[GivenFrame]) -> FrameStack:
    if frames[0].file is not None:
        return stack_of([frame.file.source for frame in frames if frame.file is not None])
    return ArrayStack(tuple(frame.samples for frame in frames), tuple(frame.label for frame in frames))


def _mask(mask: Any, shape: tuple[int, ...], label: str) -> NDArray[np.bool_] | None:
    """Return a mask of the shape of a frame; ``None`` where nothing is masked."""
    if mask is None or mask is np.ma.nomask:
        return None
    values = np.asarray(mask)
    if values.ndim and values.shape != shape:
        raise InputError(f"{label}: its mask is {values.shape}, its samples are {shape}; give a mask of the same shape")
    marked = np.broadcast_to(values.astype(bool), shape)
    return marked if marked.any() else None


def _is_array(value: Any) -> bool:
    """Return whether a value has a shape and samples: of numpy, zarr, astropy and others."""
    return is_nddata(value) or (hasattr(value, "shape") and hasattr(value, "dtype"))


def _holds_objects(array: Any) -> bool:
    """Return whether an array holds paths or other objects, not samples."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "OUS"


def _named(value: object) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"
