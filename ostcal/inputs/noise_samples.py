"""The noise of a frame in a few of its samples, by which two files of one exposure are known.

Differences of neighbouring pixels, which a level or a slope that was subtracted does not change. A copy may have been
trimmed, binned, mirrored or turned: a view says where its samples lie in the other frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameStack, read_adu

_SAMPLED_ROWS = 4
_SAMPLED_COLUMNS = 1024
_BLOCK = 64
"""Side of the square of pixels that is looked for in another frame."""
_LEAST_SAMPLES = 100
"""Of a frame: fewer are alike by chance."""
_CLIPPED_SIGMAS = 4.0
_STEP = 2
"""Distance of the pixels that are compared: of one colour."""

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Differences of neighbouring samples."""

    values: Float
    """In units of their spread, with outlying ones clipped."""
    spread_adu: float


@dataclass(frozen=True, kw_only=True)
class Window:
    """Rows and columns of a frame, from the first to the one after the last."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, kw_only=True)
class View:
    """Where the samples of a copy lie in another frame: it is turned, mirrored, trimmed and binned, in this order."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False
    down: int = 0
    """Rows that were cut off before the first one, once it is turned."""
    right: int = 0
    binned: int = 1

    @property
    def needs_block(self) -> bool:
        """Return whether rows of the copy are columns of the frame, of which few are read at once."""
        return self.transposed

    def read(self, stack: FrameStack, window: Window) -> Float:
        """Return the samples of a frame that a window of the copy shows."""
        _, height, width = stack.shape
        if self.transposed:
            height, width = width, height
        top, bottom = self.down + self.binned * window.top, self.down + self.binned * window.bottom
        left, right = self.right + self.binned * window.left, self.right + self.binned * window.right
        if self.rows_reversed:
            top, bottom = height - bottom, height - top
        if self.columns_reversed:
            left, right = width - right, width - left
        if self.transposed:
            values = read_adu(stack, left, right)[0, :, top:bottom].astype(np.float64).T
        else:
            values = read_adu(stack, top, bottom)[0, :, left:right].astype(np.float64)
        values = values[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]
        if self.binned == 1:
            return values
        rows, columns = values.shape
        cells = values.reshape(rows // self.binned, self.binned, columns // self.binned, self.binned)
        return np.asarray(cells.mean(axis=(1, 3)))


AS_IT_IS = View()
TURNS = tuple(
    View(transposed=transposed, rows_reversed=rows, columns_reversed=columns)
    for transposed in (False, True)
    for rows in (False, True)
    for columns in (False, True)
)


def sampled_windows(height: int, width: int, *, block: bool) -> tuple[Window, ...]:
    """Return the windows of a frame that are compared: rows spread over it, or a square in its middle."""
    if block:
        return (middle_of(height, width),)
    rows = sorted({height * (2 * i + 1) // (2 * _SAMPLED_ROWS) for i in range(_SAMPLED_ROWS)})
    n_columns = min(width, _SAMPLED_COLUMNS)
    left = (width - n_columns) // 2
    return tuple(Window(top=row, bottom=row + 1, left=left, right=left + n_columns) for row in rows)


def middle_of(height: int, width: int) -> Window:
    """Return the square in the middle of a frame."""
    rows, columns = min(height, _BLOCK), min(width, _BLOCK)
    top, left = (height - rows) // 2, (width - columns) // 2
    return Window(top=top, bottom=top + rows, left=left, right=left + columns)


def noise_of(stack: FrameStack, windows: tuple[Window, ...], view: View = AS_IT_IS) -> Noise | None:
    """Return the differences of neighbouring samples; ``None`` where there are none to compare.

    Raises
    ------
    FrameError
        If the frame cannot be read.
    """
    parts = [_differences(view.read(stack, window)) for window in windows]
    return _normalized(np.concatenate([part.ravel() for part in parts]))


def place_in(stack: FrameStack, block: Float, window: Window, view: View, cut: tuple[int, int]) -> tuple[float, View]:
    """Look for a block of a copy, from a window of it, in a frame of which so many rows and columns were cut off.

    Return the highest correlation, and the view of the frame at it.

    Raises
    ------
    FrameError
        If the frame cannot be read.
    """
    down, right = cut
    wide = Window(top=window.top, bottom=window.bottom + down, left=window.left, right=window.right + right)
    ours, theirs = _differences(block), _differences(view.read(stack, wide))
    template, region = _normalized(ours.ravel()), _normalized(theirs.ravel())
    if template is None or region is None:
        return 0.0, view
    small, large = template.values.reshape(ours.shape), region.values.reshape(theirs.shape)
    places = theirs.shape[0] - ours.shape[0] + 1, theirs.shape[1] - ours.shape[1] + 1
    products = _sums(large, small)[: places[0], : places[1]]
    energies = _sums(large**2, np.ones_like(small))[: places[0], : places[1]]
    correlation = products / np.sqrt(np.maximum(energies, 1e-9) * float(np.sum(small**2)))
    at = np.unravel_index(int(np.argmax(correlation)), correlation.shape)
    found = replace(view, down=int(at[0]), right=int(at[1]))
    return float(correlation[at]), found


def _sums(large: Float, small: Float) -> Float:
    """Return the sums of products of the smaller array with each part of the larger one."""
    spectrum = np.fft.rfft2(large) * np.conj(np.fft.rfft2(small, s=large.shape))
    return np.asarray(np.fft.irfft2(spectrum, s=large.shape))


def _differences(values: Float) -> Float:
    return values[:, _STEP:] - values[:, :-_STEP]


def _normalized(values: Float) -> Noise | None:
    """Return values less their median, in their spread; ``None`` where they are few, or all alike."""
    finite = np.isfinite(values)
    if values.size < _LEAST_SAMPLES or np.count_nonzero(finite) < values.size // 2:
        return None
    values = np.where(finite, values, np.median(values[finite]))
    values -= np.median(values)
    spread = 1.4826 * float(np.median(np.abs(values))) or float(np.std(values))
    if not spread > 0:
        return None
    return Noise(values=np.clip(values / spread, -_CLIPPED_SIGMAS, _CLIPPED_SIGMAS), spread_adu=spread)
