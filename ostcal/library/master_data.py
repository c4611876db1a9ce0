"""Planes of a master as arrays, and all of it as `CCDData`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.levels import PlaneReader
from ostcal.fits.astropy_objects import ccd_data, header_object, unit_of, unit_of_card
from ostcal.frames import FrameType
from ostcal.library.beside import MasterPlanes, planes_of
from ostcal.library.find import LibraryMaster
from ostcal.library.master_header import SCALE_CARD
from ostcal.measure.masters.defects import Defect

ALL_BITS = Defect(0xFF)


def read_plane(plane: PlaneReader | None, master: LibraryMaster, dtype: str) -> NDArray[Any] | None:
    """Read a whole plane of a master, (height, width) of `dtype`; ``None`` where it has none."""
    return None if plane is None else plane.read_rows(0, master.key.height).astype(dtype, copy=False)


def unit_in(master: LibraryMaster, planes: MasterPlanes) -> Any:
    """Return the unit of the pixels: none of a flat that is normalised, that of BUNIT or ADU of others."""
    is_flat = master.key.frame_type is FrameType.FLAT
    if is_flat and planes.is_normalised:
        return unit_of("")
    stated = unit_of_card(planes.header.text("BUNIT"))
    return unit_of("adu") if stated is None or isinstance(stated, str) else stated


def flat_level(master: LibraryMaster) -> float:
    """Return the mean of the pixels of a flat that can be divided by."""
    image = master.plane.read_rows(0, master.key.height)
    return float(np.mean(image[np.isfinite(image) & (image > 0)], dtype=np.float64))


def ccd_data_of(master: LibraryMaster, mask_bits: int = ALL_BITS, *, level: float = 1.0) -> Any:
    """Read a master as `CCDData`: standard error, mask, bits of defects (``flags``), header, ``n_used``.

    Pixels are masked that have one of `mask_bits`, or no value. A flat that is not normalised is divided by `level`.
    """
    planes = planes_of(master)
    data = master.plane.read_rows(0, master.key.height)
    error = read_plane(planes.error, master, "float32")
    flags = read_plane(planes.flags, master, "uint8")
    meta = header_object(planes.header, of_samples=False)
    meta.remove(SCALE_CARD, ignore_missing=True)  # the values are in ADU already
    mask = ~np.isfinite(data)
    if flags is not None:
        mask |= (flags & np.uint8(mask_bits)) != 0
    if level != 1.0:
        data = data / np.float32(level)
        error = None if error is None else error / np.float32(level)
    return ccd_data(
        data,
        uncertainty=error,
        mask=mask,
        flags=flags,
        unit=unit_in(master, planes) if level == 1.0 else unit_of(""),
        meta=meta,
        n_used=read_plane(planes.n_used, master, "uint16"),
    )
