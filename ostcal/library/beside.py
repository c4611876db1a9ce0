"""What a master has beside its image: header, standard error, scatter, samples, bits of defects; to be read later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.levels import PlaneReader
from ostcal.fits.cards import Header, format_card
from ostcal.fits.hdus import companion_name
from ostcal.fits.read import FitsFrame, inspect_extension
from ostcal.library.find import FitsPlane, LibraryMaster, StorePlane
from ostcal.library.planes import Plane
from ostcal.library.store import MasterStore


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """A plane of a stored master beside its image; implements `PlaneReader` (ADU) and `FlagReader`."""

    store: str
    name: str
    plane: Plane
    of_mean: bool = False
    """Whether standard deviations of samples become those of their mean."""

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows ``start`` to ``stop``, (stop - start, width)."""
        master = MasterStore(self.store).open(self.name)
        rows = master.read_rows(self.plane, start, stop)
        if self.of_mean:
            rows = rows / np.sqrt(np.maximum(master.read_rows("n_used", start, stop), 1), dtype=np.float32)
        return rows


@dataclass(frozen=True, kw_only=True)
class MasterPlanes:
    """A master with its header and the planes that it has."""

    plane: PlaneReader
    header: Header
    calibration_id: str
    input_digest: str
    error: PlaneReader | None = None
    """Standard error, in the unit of the image; ``None`` where there is none, as of the others."""
    spread: PlaneReader | None = None
    """Standard deviation of the samples, in the unit of the image."""
    n_used: PlaneReader | None = None
    """Samples of each pixel."""
    flags: PlaneReader | None = None
    """Bits of defects."""
    chunk_rows: int = 1
    """Rows that are read for the price of one."""

    @property
    def is_normalised(self) -> bool:
        """Return whether a flat is normalised to 1, as its header says."""
        return "NORMTYPE" in self.header or "FLATSCAL" in self.header


def header_of(master: LibraryMaster) -> Header:
    """Return the header of a master."""
    if isinstance(master.plane, StorePlane):
        return _header_in(MasterStore(master.plane.store).attributes(master.record.name))
    fits = master.plane.fits
    return Header(fits.cards if isinstance(fits, FitsFrame) else ())


def planes_of(master: LibraryMaster) -> MasterPlanes:
    """Find the header of a master and the planes beside its image.

    Raises
    ------
    OstcalError
        If it cannot be read.
    """
    if isinstance(master.plane, StorePlane):
        return _planes_in_store(master.plane, master.record.name)
    fits, scale = master.plane.fits, master.plane.scale
    header = header_of(master)
    label = master.key.settings.extension

    def beside(what: str, factor: float = 1.0) -> FitsPlane | None:
        found = inspect_extension(fits.path, what if label is None else companion_name(label, what))
        return FitsPlane(fits=found, scale=factor) if found is not None else None

    error = beside("UNCERT", scale)
    n_frames = header.number("NCOMBINE", "STACKCNT", low=1)
    return MasterPlanes(
        plane=master.plane,
        header=header,
        calibration_id=header.text("CALID") or "",
        input_digest=header.text("INPDIGST") or "",
        error=error,
        spread=replace(error, scale=scale * math.sqrt(n_frames)) if error is not None and n_frames else None,
        n_used=beside("NUSED"),
        flags=beside("DQ"),
    )


def _planes_in_store(plane: StorePlane, name: str) -> MasterPlanes:
    store = MasterStore(plane.store)
    attributes = store.attributes(name)
    stored = store.open(name)

    def beside(what: Plane, *, of_mean: bool = False) -> StoredRows:
        return StoredRows(store=store.location, name=name, plane=what, of_mean=of_mean)

    return MasterPlanes(
        plane=plane,
        header=_header_in(attributes),
        calibration_id=str(attributes.get("calibration_id") or ""),
        input_digest=str(attributes.get("input_digest") or ""),
        error=beside("std", of_mean=True),
        spread=beside("std"),
        n_used=beside("n_used"),
        flags=beside("dq") if stored.has("dq") else None,
        chunk_rows=stored.chunk_rows,
    )


def _header_in(attributes: Mapping[str, Any]) -> Header:
    """Return the header that is stored with a master."""
    return Header([image for card in attributes.get("cards", ()) for image in format_card(*card)])
