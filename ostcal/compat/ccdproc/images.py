"""Images that are given to `combine`: `CCDData`, and FITS files that are read row by row where that is exact."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.io.registry import IORegistryError
from astropy.nddata import CCDData

from ostcal.arrays.array_stack import ArrayStack, encoding_of
from ostcal.compat.ccdproc.combiner import check_like_first
from ostcal.errors import OstcalError
from ostcal.fits.cards import Header
from ostcal.fits.read import FitsFrame, FitsStack, inspect_images
from ostcal.frames import FrameStack
from ostcal.series.concatenated import ConcatenatedStack

_READ_KEYWORDS = frozenset(
    {"unit", "hdu", "hdu_uncertainty", "hdu_mask", "hdu_flags", "key_uncertainty_type", "hdu_psf", "format"}
)
"""Keywords of `CCDData.read` that do not change the samples of an image; with others astropy reads every file."""


class Image:
    """One image: in memory, or a file that astropy reads."""

    def __init__(self, given: Any, keywords: Mapping[str, Any]) -> None:
        self.ccd: CCDData | None = given if isinstance(given, CCDData) else None
        self._path, self._keywords = given, keywords
        self.fits = None if self.ccd is not None else _plain_frame(given, keywords)

    @property
    def has_mask(self) -> bool:
        """Whether samples of it may be masked; files with a mask are read by astropy."""
        return self.ccd is not None and self.ccd.mask is not None

    @property
    def label(self) -> str:
        """What messages call it."""
        return "image" if self.ccd is not None else str(self._path)

    def read(self) -> CCDData:
        """Return the whole image."""
        if self.ccd is not None:
            return self.ccd
        try:
            return CCDData.read(self._path, **self._keywords)
        except IORegistryError as error:  # one line, where astropy's has a table of formats
            raise IORegistryError(f"{self._path}: is no file that astropy reads as an image; leave it out") from error
        except FileNotFoundError:
            raise
        except (OSError, TypeError) as error:  # TypeError: astropy, of a file that is cut short
            raise OSError(
                f"{self._path}: cannot be read as an image ({error}); copy it again or leave it out"
            ) from error

    def rows(self, rows: slice) -> CCDData:
        """Return rows of the image."""
        return self.read()[rows].copy()

    def mask_rows(self, start: int, stop: int) -> Any:
        """Return the mask of some rows; a mask of one value is that of all."""
        mask = np.asarray(self.ccd.mask) if self.ccd is not None else np.zeros((), bool)
        return mask[start:stop] if mask.ndim else mask


def images_of(given: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[list[Image], CCDData]:
    """Return images, all of them like the first in shape and unit, and the first as astropy reads it.

    Raises
    ------
    TypeError
        If one is of another shape or unit.
    """
    for number, one in enumerate(given):
        if not isinstance(one, (CCDData, str, bytes, os.PathLike)) and not hasattr(one, "read"):
            raise TypeError(
                f"img_list[{number}]: an object of type {type(one).__name__} is no image; give CCDData objects or paths"
                " (ostcal.combine takes arrays and HDUs)"
            )
    images = [Image(one, keywords) for one in given]
    first = images[0].read()
    for image in images[1:]:
        if image.ccd is not None or not _is_like(image.fits, images[0].fits, first, keywords):
            check_like_first(image.read(), first, image.label)
    return images, first


def stack_of_images(images: Sequence[Image], shape: tuple[int, ...]) -> FrameStack | None:
    """Return the samples of images as a stack; ``None`` where astropy must read one, or convert its samples."""
    parts: list[FrameStack] = []
    for image in images:
        if image.fits is not None:
            parts.append(FitsStack((image.fits,)))
        elif image.ccd is None or not _is_exact(image.ccd.data) or image.ccd.shape != shape:
            return None
        else:
            parts.append(ArrayStack((image.ccd.data,), (image.label,)))
    if all(image.fits is not None for image in images):
        return FitsStack(tuple(image.fits for image in images if image.fits is not None))
    if all(image.ccd is not None for image in images):
        return ArrayStack(tuple(image.read().data for image in images), tuple(image.label for image in images))
    return ConcatenatedStack(tuple(parts))


def _is_exact(data: Any) -> bool:
    """Return whether samples are those of the stack, to the last bit."""
    dtype = data.dtype if isinstance(data, np.ndarray) else np.dtype(object)
    is_number = dtype.kind in "uif" and (dtype.itemsize < 8 or dtype.kind == "f") and dtype.itemsize <= 8
    return is_number and encoding_of([dtype]).dtype in ("uint16", "float32", "float64")


def _plain_frame(path: Any, keywords: Mapping[str, Any]) -> FitsFrame | None:
    """Return the image that `CCDData.read` would read, if its samples can be read in place and are the same numbers."""
    hdu, mask_name = keywords.get("hdu", 0), keywords.get("hdu_mask", "MASK")
    if not set(keywords) <= _READ_KEYWORDS or type(hdu) is not int or keywords.get("format", "fits") != "fits":
        return None
    try:
        images = inspect_images(path)
    except (OstcalError, TypeError):  # astropy says what is wrong
        return None
    wanted = [image for image in images if image.hdu_index == hdu]
    if hdu == 0 and not wanted and len(images) == 1 and images[0].hdu_index == 1:
        wanted = list(images)  # the first image extension behind an empty primary HDU
    if len(wanted) != 1 or not _is_plain(wanted[0]):
        return None
    beside = " ".join([*wanted[0].unused, *(image.extension or "" for image in images)]).upper()
    return None if mask_name is not None and str(mask_name).upper() in beside else wanted[0]


def _is_plain(frame: FitsFrame) -> bool:
    """Return whether stored samples are the numbers that astropy makes of them."""
    zeros = {8: (0.0,), 16: (0.0, 32768.0), 32: (0.0, 2.0**31), -32: (0.0,), -64: (0.0,)}.get(frame.bitpix, ())
    is_unscaled = frame.bscale == 1.0 and frame.bzero in zeros and frame.blank is None
    return frame.packed == "none" and frame.block is None and frame.plane is None and is_unscaled


def _is_like(frame: FitsFrame | None, first: FitsFrame | None, ccd: CCDData, keywords: Mapping[str, Any]) -> bool:
    """Return whether a file is like the first image by its header alone."""
    if frame is None or (frame.height, frame.width) != ccd.shape:
        return False
    if keywords.get("unit") is not None:
        return ccd.unit == keywords["unit"] or str(ccd.unit) == str(keywords["unit"])
    return first is not None and Header(frame.cards).text("BUNIT") == Header(first.cards).text("BUNIT") is not None
