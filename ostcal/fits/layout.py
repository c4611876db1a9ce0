"""How the samples of a FITS image lie in the file, and what they mean in ADU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import FrameError, StorageError
from ostcal.fits.cards import Header

_STORED_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MAX_PIXELS = 2**31
"""20 times the largest sensors in use; more is a damaged header, or a file made to fill memory."""
_MAX_AXES = 999
_ADVICE = " (master_frames.cubes: frames splits a stack of frames for masters; science frames are never split)"
_LARGEST_ZERO = 2.0**53


@dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """Size and coding of an image: ``value = bzero + bscale * stored``."""

    width: int
    height: int
    bitpix: int
    bzero: float = 0.0
    bscale: float = 1.0
    blank: int | None = None
    """The stored integer that means "no value"; ``None`` too where the header names one that cannot occur."""
    file_dtype: str = ""
    """The dtype of the samples in a file that has them otherwise than FITS: ``<u2`` where the values are those of
    `bitpix` 16 with a `bzero` of 32768."""

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype of the samples in the file, in FITS big-endian."""
        return np.dtype(self.file_dtype or _STORED_DTYPES[self.bitpix])

    @property
    def stored_zero(self) -> float:
        """What is added to a stored sample: `bzero`, less the half of the range that unsigned samples have already."""
        return self.bzero - unsigned_zero(self.stored_dtype)

    @property
    def is_unsigned_word(self) -> bool:
        """Return whether samples in the file are words of 16 bits without a sign."""
        return self.bitpix == 16 and self.stored_dtype.kind == "u"

    @property
    def data_length(self) -> int:
        """Bytes of the samples, without padding."""
        return self.width * self.height * abs(self.bitpix) // 8

    @property
    def is_whole(self) -> bool:
        """Return whether every stored integer is a whole number of ADU that is always a value."""
        return self.bitpix > 0 and self.bscale == 1.0 and self.bzero.is_integer() and self.blank is None

    @property
    def is_plain_float(self) -> bool:
        """Return whether the stored samples are floats in ADU, without a scale."""
        return self.bitpix < 0 and self.bscale == 1.0 and self.bzero == 0.0


def unsigned_zero(dtype: np.dtype[Any]) -> float:
    """Return BZERO of a FITS image that has samples of this dtype: half of the range of unsigned ones, else 0."""
    return 2.0 ** (8 * dtype.itemsize - 1) if dtype.kind == "u" and dtype.itemsize > 1 else 0.0


def plane_count(header: Header, *, prefix: str = "") -> int:
    """Return the planes of a stack of frames, an image of three axes longer than one; 1 for all other images.

    `prefix` is that of `layout_from_header`.
    """
    count = int(header.number(f"{prefix}NAXIS", low=0, high=_MAX_AXES) or 0)
    axes = [int(header.number(f"{prefix}NAXIS{number}", low=0, high=2.0**48) or 0) for number in range(1, count + 1)]
    is_stack = len(axes) >= 3 and min(axes[:3]) > 1 and all(length == 1 for length in axes[3:])
    is_colour = "RGB" in (header.text("CTYPE3", "COLORSPC", "COLORTYP") or "").upper()
    return axes[2] if is_stack and not is_colour else 1


def layout_from_header(header: Header, path: str, *, prefix: str = "", of_plane: bool = False) -> ImageLayout | None:
    """Read the layout of an image; ``None`` where a header describes no image of two axes.

    `prefix` stands before BITPIX and NAXIS: ``"Z"`` in the header of a table that holds a tile-compressed image.
    `of_plane` reads that of one plane of a stack (`plane_count`).

    Raises
    ------
    FrameError
        If there are more than two axes longer than one, or a number is impossible.
    """
    count = whole_number(header, f"{prefix}NAXIS", path, high=_MAX_AXES)
    axes = [whole_number(header, f"{prefix}NAXIS{number}", path) for number in range(1, count + 1)]
    if len(axes) < 2 or 0 in axes:
        return None
    size = " x ".join(map(str, axes))
    # axes of one are dropped wherever they stand until two are left: the order of the samples stays the same
    while len(axes) > 2 and axes[-1] == 1:
        axes.pop()
    while len(axes) > 2 and 1 in axes:
        axes.remove(1)
    if of_plane:
        axes = axes[:2]
    if len(axes) > 2:
        advice = _ADVICE if plane_count(header, prefix=prefix) > 1 else ""
        raise FrameError(
            f"{path}: the image has {len(axes)} axes ({size}): a colour picture or a cube is no raw frame; "
            f"convert it to frames of one plane or leave it out{advice}"
        )
    width, height = axes
    if width * height > _MAX_PIXELS:
        raise FrameError(f"{path}: {size} pixels are more than 2^31: the header is damaged, leave it out")
    bitpix = header.value(f"{prefix}BITPIX")
    if not isinstance(bitpix, int) or bitpix not in _STORED_DTYPES:
        raise FrameError(f"{path}: BITPIX is {bitpix!r}, none of 8, 16, 32, 64, -32, -64: damaged, leave it out")
    bzero = _scale_value(header, path, "BZERO", default=0.0)
    bscale = _scale_value(header, path, "BSCALE", default=1.0)
    if bscale == 0.0 or abs(bzero) > _LARGEST_ZERO:
        raise FrameError(f"{path}: BSCALE {bscale:g} with BZERO {bzero:g} makes no values: repair or leave it out")
    blank = None
    if bitpix > 0 and (number := header.number("BLANK")) is not None and number.is_integer():
        limits = np.iinfo(_STORED_DTYPES[bitpix])
        blank = int(number) if limits.min <= number <= limits.max else None
    return ImageLayout(width=width, height=height, bitpix=bitpix, bzero=bzero, bscale=bscale, blank=blank)


def _scale_value(header: Header, path: str, keyword: str, *, default: float) -> float:
    if header.value(keyword) is None:
        return default
    number = header.number(keyword)
    if number is None:
        raise FrameError(f"{path}: {keyword} is {header.value(keyword)!r}, not a number: repair it or leave it out")
    return number


def whole_number(header: Header, keyword: str, path: str, *, low: int = 0, high: float = math.inf) -> int:
    """Return an integer that says how a file is built; FrameError where it is none from `low` to `high`."""
    value = header.value(keyword)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise FrameError(f"{path}: {keyword} is {value!r}: the file is damaged, leave it out")
    return value


def decode_samples(stored: NDArray[Any], layout: ImageLayout, out: NDArray[np.float64]) -> None:
    """Convert stored samples to ADU in float64; blank samples become NaN, what is beyond float64 an infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(stored, layout.bscale, out=out)
        if layout.stored_zero:
            out += layout.stored_zero
    if layout.blank is not None:
        out[stored == layout.blank] = np.nan


def encode_samples(values: NDArray[Any], layout: ImageLayout, path: str) -> NDArray[Any]:
    """Convert ADU back to the stored samples, exactly; StorageError where a value cannot be stored in this layout."""
    if layout.bitpix < 0 and layout.bscale == 1.0 and layout.bzero == 0.0:
        return values.astype(layout.stored_dtype, copy=False)
    is_flipped = layout.bzero == 32768.0 and layout.bitpix == 16 and not layout.file_dtype
    if layout.is_whole and is_flipped and values.dtype == np.uint16:
        return (values ^ np.uint16(0x8000)).view(np.int16).astype(">i2", copy=False)
    if layout.is_whole and np.issubdtype(values.dtype, np.integer) and abs(layout.bzero) <= 2.0**32:
        return _checked(values.astype(np.int64) - int(layout.stored_zero), layout, path)
    stored = (values.astype(np.float64) - layout.stored_zero) / layout.bscale
    if layout.bitpix < 0:
        return stored.astype(layout.stored_dtype)
    stored = np.rint(stored)
    if layout.blank is not None:
        stored[np.isnan(stored)] = layout.blank
    return _checked(stored, layout, path)


def _checked(stored: NDArray[Any], layout: ImageLayout, path: str) -> NDArray[Any]:
    limits = np.iinfo(layout.stored_dtype)
    if not (stored.min() >= limits.min and stored.max() <= limits.max):
        raise StorageError(
            f"{path}: values from {stored.min()} to {stored.max()} do not fit samples of {layout.bitpix} bits with "
            f"BZERO {layout.bzero:g} and BSCALE {layout.bscale:g}: export with the frame's own header"
        )
    return stored.astype(layout.stored_dtype)
