"""Files of several images, made with astropy: amplifiers and detectors, with the samples that are in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from astropy.io import fits
from numpy.typing import NDArray

from support.night import START, samples

PRIMARY = {"INSTRUME": "Mosaic", "FILTER": "R", "OBSERVAT": "Somewhere"}


@dataclass(frozen=True)
class Image:
    """One image of a file."""

    name: str
    level: float
    shape: tuple[int, int] = (20, 28)
    version: int | None = None
    dtype: str = "uint16"
    cards: Mapping[str, Any] = field(default_factory=dict)


def hdu_of(image: Image, values: NDArray[Any], *, packed: bool = False) -> fits.ImageHDU | fits.CompImageHDU:
    """Give the extension of an image."""
    hdu = (fits.CompImageHDU if packed else fits.ImageHDU)(values)
    if image.name:
        hdu.header["EXTNAME"] = image.name
    if image.version is not None:
        hdu.header["EXTVER"] = image.version
    hdu.header.update(image.cards)
    return hdu


def write_mosaic(path: Path, hdus: Sequence[Any], primary: NDArray[Any] | None = None, **cards: Any) -> Path:
    """Write extensions behind a primary HDU."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = fits.PrimaryHDU(primary)
    for keyword, value in {**PRIMARY, **cards}.items():
        first.header[keyword.replace("_", "-")] = value
    fits.HDUList([first, *hdus]).writeto(path)
    return path


def write_mosaics(
    folder: Path,
    kind: str,
    exposure_s: float,
    images: Sequence[Image],
    *,
    n: int = 5,
    noise: float = 6.0,
    seed: int = 1,
    packed: bool = False,
    **cards: Any,
) -> list[NDArray[Any]]:
    """Write `n` files of some images; give the samples of each image, ``(n, height, width)``."""
    stacks = [
        samples(n, image.level, noise=noise, seed=100 * seed + place, shape=image.shape).astype(image.dtype)
        for place, image in enumerate(images)
    ]
    for index in range(n):
        hdus = [hdu_of(image, stack[index], packed=packed) for image, stack in zip(images, stacks, strict=True)]
        start = START + timedelta(seconds=1000 * seed + index * (exposure_s + 3))
        said = {"IMAGETYP": kind, "EXPTIME": exposure_s, "DATE_OBS": start.isoformat(timespec="milliseconds")[:-6]}
        write_mosaic(folder / f"{kind.lower()}_{seed}_{index:03d}.fits{'.fz' if packed else ''}", hdus, **said, **cards)
    return stacks
