"""Lines of frames whose overscan has no finite sample: their level is unknown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError
from ostcal.fits.sections import Amplifier
from ostcal.frames import FrameStack, read_adu
from ostcal.inputs.gather import Source
from ostcal.inputs.trimmed import TrimmedStack

_ROWS_AT_ONCE = 256
_ALL_UNKNOWN = "its overscan has no finite sample, its level is unknown: leave it out"


def with_known_overscan(sources: dict[str, Source], left_out: list[str], workers: int) -> dict[str, Source]:
    """Return the frames without those whose overscan has no finite sample at all, which `left_out` names.

    Name in `left_out` too which have rows or columns of unknown level; frames with equally many share a line. Only
    frames of floats are read: integers without BLANK always have a level.
    """
    with_overscan = [source for source in sources.values() if source.readout is not None]
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        found = list(pool.map(_unknown_of_source, with_overscan))
    labels: dict[str, list[str]] = defaultdict(list)
    for source, said in zip(with_overscan, found, strict=True):
        if said:
            labels[said].append(source.frame.label)
    left_out += [_named(those, said) for said, those in labels.items()]
    nothing_known = set(labels[_ALL_UNKNOWN])
    return {label: source for label, source in sources.items() if label not in nothing_known}


def unknown_overscan(stack: TrimmedStack, label: str) -> str:
    """Return what is said of the lines of a science frame whose level is unknown; "" where there are none.

    Raises
    ------
    FrameError
        If no level is known, or the frame cannot be read.
    """
    said = _unknown(stack)
    if said == _ALL_UNKNOWN:
        raise FrameError(f"{label}: {said}")
    return said


def _unknown(stack: TrimmedStack) -> str:
    """Return what is said of the lines of a single frame whose level is unknown; "" where there are none."""
    if stack.stack.encoding.is_integer:
        return ""
    lines: dict[str, set[int]] = {"rows": set(), "columns": set()}
    are_all = []
    for amplifier in stack.readout.amplifiers:
        unknown = set(_unknown_lines(stack.stack, amplifier))
        lines[amplifier.axis] |= unknown
        are_all.append(len(unknown) == (amplifier.kept.height if amplifier.axis == "rows" else amplifier.kept.width))
    counts = " and ".join(f"{len(n)} {axis if len(n) > 1 else axis[:-1]}" for axis, n in lines.items() if n)
    if not counts:
        return ""
    if all(are_all):
        return _ALL_UNKNOWN
    fit = stack.readout.method.fit
    if any(are_all):
        end = "nothing says the level of an amplifier, its pixels become NaN; leave the frame out"
    elif fit == "none":
        end = "the level is unknown, the pixels become NaN; master_frames.overscan.fit takes it from the other lines"
    else:
        end = f"the level is that of the fit ({fit}) through the other lines"
    return f"{counts} without a finite sample in the overscan: {end}"


def _named(labels: list[str], said: str) -> str:
    more = f", and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f"{labels[0]}{more}: {said}"


def _unknown_of_source(source: Source) -> str:
    try:
        stack = source.stack()
        return _unknown(stack) if isinstance(stack, TrimmedStack) else ""
    except FrameError:  # combining names it
        return ""


def _unknown_lines(stack: FrameStack, amplifier: Amplifier) -> Iterator[int]:
    """Yield the kept rows, or columns, beside which no overscan sample is finite."""
    overscan, kept = amplifier.overscan, amplifier.kept
    if overscan is None:
        return
    if amplifier.axis == "rows":
        for start in range(kept.bottom, kept.top, _ROWS_AT_ONCE):
            rows = read_adu(stack, start, min(start + _ROWS_AT_ONCE, kept.top))[0]
            unknown = ~np.isfinite(rows[:, overscan.left : overscan.right]).any(axis=1)
            yield from (start + np.flatnonzero(unknown)).tolist()
        return
    known: NDArray[np.bool_] = np.zeros(kept.width, np.bool_)
    for start in range(overscan.bottom, overscan.top, _ROWS_AT_ONCE):
        rows = read_adu(stack, start, min(start + _ROWS_AT_ONCE, overscan.top))[0]
        known |= np.isfinite(rows[:, kept.left : kept.right]).any(axis=0)
    yield from (kept.left + np.flatnonzero(~known)).tolist()
