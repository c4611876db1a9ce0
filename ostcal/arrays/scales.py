"""Factors of frames: levels that are measured, numbers, or what a function returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.in_memory import stack_levels
from ostcal.engine.levels import FrameLevels
from ostcal.errors import InputError
from ostcal.frames import FrameStack, read_adu
from ostcal.vocabulary import FlatScaling

Scale = FlatScaling | Sequence[float] | NDArray[Any] | Callable[[NDArray[Any]], float] | None


def scales_of(scale: Scale, stack: FrameStack, labels: Sequence[str], workers: int) -> tuple[float, ...] | None:
    """Return the factor of each frame; ``None`` where nothing is scaled."""
    if scale is None or (isinstance(scale, str) and scale == "none"):
        return None
    if isinstance(scale, str):
        if scale not in ("mean", "median"):
            raise InputError(f"scale={scale!r} is not known; write 'mean', 'median', numbers or a function")
        return lit_scales(stack_levels(stack, scale, workers), labels)
    if callable(scale):
        of_frames = [scale(read_adu(stack.select([i]), 0, stack.shape[1])[0]) for i in range(stack.shape[0])]
        return checked_scales(of_frames, len(labels))
    return checked_scales(scale, len(labels))


def scale_of_dask(scale: Scale, n_frames: int) -> tuple[float, ...] | FlatScaling | None:
    """Return the factors of the frames of a Dask array, or by what level they are scaled when it is computed."""
    if callable(scale):
        raise InputError("scale: a function would load Dask arrays; write 'mean', 'median' or numbers")
    if isinstance(scale, str):
        if scale not in ("mean", "median", "none"):
            raise InputError(f"scale={scale!r} is not known; write 'mean', 'median' or numbers")
        return None if scale == "none" else scale
    return None if scale is None else checked_scales(scale, n_frames)


def checked_scales(scale: Any, n_frames: int) -> tuple[float, ...]:
    """Return factors as floats; InputError where they are no numbers, or not as many as frames."""
    try:
        numbers_given = np.asarray(scale, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"scale={scale!r} is not known; write 'mean', 'median', numbers or a function") from error
    if numbers_given.shape != (n_frames,):
        raise InputError(f"scale has the shape {numbers_given.shape} for {n_frames} frames; give one number for each")
    wrong = np.flatnonzero(~(np.isfinite(numbers_given) & (numbers_given != 0)))
    if wrong.size:
        raise InputError(f"scale[{wrong[0]}] is {numbers_given[wrong[0]]}; give finite numbers other than 0")
    return tuple(numbers_given.tolist())


def lit_scales(levels: FrameLevels, labels: Sequence[str]) -> tuple[float, ...]:
    """Return the factors of levels; InputError for a frame without light, which no factor brings to the others."""
    for index in levels.left_out:
        raise InputError(
            f"{labels[index]}: its level of {levels.levels_adu[index]:.6g} is below zero or 2 % of the others' and "
            "cannot be scaled to them; leave it out, or use scale=None"
        )
    return levels.scales
