"""FITS files as cameras and programs write them, made with astropy (never with our own writer)."""

from __future__ import annotations

import gzip
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from ostcal.fits.cards import Header

BLOCK = 2880


def frame_values(shape: tuple[int, int] = (37, 53), *, seed: int = 1) -> NDArray[np.uint16]:
    """Return uint16 values over the whole range, with both ends among them."""
    values = np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)
    values.flat[0], values.flat[-1] = 0, 65535
    return values


def write_frame(path: Path, values: NDArray[Any], **cards: object) -> Path:
    """Write values as a primary HDU; a keyword with an underscore gets a hyphen (``DATE_OBS``)."""
    hdu = fits.PrimaryHDU(values)
    for keyword, value in cards.items():
        if keyword == "HISTORY":
            hdu.header.add_history(str(value))
        else:
            hdu.header[keyword.replace("_", "-")] = value
    hdu.writeto(path)
    return path


def write_stored(path: Path, stored: NDArray[Any], **cards: object) -> Path:
    """Write integers as they are to be stored, with BZERO, BSCALE and BLANK as given and no conversion."""
    path.write_bytes(header_block(bitpix_of(stored), stored.shape, **cards) + data_block(stored))
    return path


def header_block(bitpix: int, shape: tuple[int, ...], **cards: object) -> bytes:
    """Return a header as bytes."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", bitpix), ("NAXIS", len(shape))])
    for number, length in enumerate(reversed(shape), 1):
        header[f"NAXIS{number}"] = length
    header.update(cards)
    return header.tostring().encode("ascii")


def data_block(stored: NDArray[Any]) -> bytes:
    """Return samples as they stand in a file, padded."""
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    return data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")


def bitpix_of(stored: NDArray[Any]) -> int:
    """Return BITPIX for a dtype."""
    return stored.dtype.itemsize * (8 if stored.dtype.kind in "iu" else -8)


def write_extension(path: Path, values: NDArray[Any], *, primary: dict[str, Any], own: dict[str, Any]) -> Path:
    """Write values as an IMAGE extension behind an empty primary HDU."""
    first, second = fits.PrimaryHDU(), fits.ImageHDU(values, name="RAW")
    first.header.update(primary)
    second.header.update(own)
    fits.HDUList([first, second]).writeto(path)
    return path


def write_images(
    path: Path, *images: tuple[str, NDArray[Any]], primary: NDArray[Any] | None = None, **cards: Any
) -> Path:
    """Write named IMAGE extensions behind a primary HDU, with cards in the primary header."""
    first = fits.PrimaryHDU(primary)
    for keyword, value in cards.items():
        first.header[keyword.replace("_", "-")] = value
    fits.HDUList([first, *(fits.ImageHDU(values, name=name) for name, values in images)]).writeto(path)
    return path


def gzipped(path: Path) -> Path:
    """Pack a file with gzip."""
    target = path.with_name(path.name + ".gz")
    with path.open("rb") as source, gzip.open(target, "wb") as packed:
        shutil.copyfileobj(source, packed)
    return target


def tile_compressed(path: Path, values: NDArray[Any], kind: str = "RICE_1", **cards: object) -> Path:
    """Write values as a tile-compressed image."""
    hdu = fits.CompImageHDU(values, compression_type=kind)
    for keyword, value in cards.items():
        hdu.header[keyword.replace("_", "-")] = value
    hdu.writeto(path)
    return path


def read_with_astropy(path: Path | str, index: int = 0, *, stored: bool = False) -> tuple[NDArray[Any], fits.Header]:
    """Read an image back, checksums and the standard verified; any remark of astropy is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True, memmap=False, do_not_scale_image_data=stored) as hdus:
            hdus.verify("exception")
            return np.asarray(hdus[index].data), hdus[index].header


def header_of(**cards: object) -> Header:
    """Return a header of our own with these cards; a double underscore is a hyphen; a list makes several cards."""
    header = fits.Header()
    for keyword, value in cards.items():
        name = keyword.replace("__", "-")
        if name == "HISTORY":
            for line in value if isinstance(value, list) else [value]:
                header.add_history(str(line))
        else:
            header[name] = value
    text = header.tostring(endcard=False, padding=False)
    return Header([text[start : start + 80] for start in range(0, len(text), 80)])


def row_reader(values: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    """Return a function that reads rows of an array."""
    return lambda start, stop: values[start:stop]
