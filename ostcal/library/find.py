"""The masters on disk: those in the zarr master store, and FITS and XISF masters beside it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import InputError, OstcalError, UnreachableError
from ostcal.fits.cards import Header, header_of
from ostcal.fits.read import FitsFrame, FitsPixels, FitsStack, find_fits, inspect_images
from ostcal.frames import FrameMetadata, FrameType, read_adu
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.observed import Observed
from ostcal.inputs.sensor_temperature import sensor_temperature_c
from ostcal.library.attributes import MasterRecord, key_from_metadata, known_verdict, record_from_attributes
from ostcal.library.master_header import SCALE_CARD, observed_in
from ostcal.library.master_names import name_of_file
from ostcal.library.store import MasterStore
from ostcal.places.file_index import FileIndex
from ostcal.places.night_folders import folders_of, has_folder, has_words
from ostcal.places.paths import is_dir, joined

logger = logging.getLogger(__name__)

STORE_NAME = "masters.zarr"


@dataclass(frozen=True, kw_only=True)
class StorePlane:
    """The image of a master in the store; implements `ostcal.engine.levels.SteppedReader`."""

    store: str
    name: str

    @property
    def row_step(self) -> int:
        """Rows that are stored together."""
        return MasterStore(self.store).open(self.name).chunk_rows

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``."""
        return MasterStore(self.store).open(self.name).read_rows("master", start, stop)


@dataclass(frozen=True, kw_only=True)
class FitsPlane:
    """An image in a FITS file; implements `ostcal.engine.levels.SteppedReader`."""

    fits: FitsPixels
    scale: float = 1.0
    """ADU that a value of 1 stands for; 65535 in masters for PixInsight."""

    @property
    def row_step(self) -> int:
        """Rows that are stored together."""
        return FitsStack((self.fits,)).row_step

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``."""
        rows: NDArray[np.float32] = read_adu(FitsStack((self.fits,)), start, stop)[0].astype(np.float32)
        return rows if self.scale == 1.0 else rows * np.float32(self.scale)


@dataclass(frozen=True, kw_only=True)
class FilePlane:
    """An image of a file whose header is read when it is asked for; implements `SteppedReader`, as `FitsPlane` does."""

    path: str
    extension: str | None
    scale: float = 1.0

    @property
    def fits(self) -> FitsFrame:
        """The image in the file."""
        images = map(_own_extension, inspect_images(self.path))
        found = next((image for image in images if image.extension == self.extension), None)
        if found is None:
            raise InputError(f"{self.path}: was changed meanwhile; run the same command again")
        return found

    @property
    def row_step(self) -> int:
        """Rows that are stored together."""
        return FitsPlane(fits=self.fits).row_step

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``."""
        return FitsPlane(fits=self.fits, scale=self.scale).read_rows(start, stop)


@dataclass(frozen=True, kw_only=True)
class KnownMaster:
    """What an index remembers of a master."""

    record: MasterRecord
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class FileMasters:
    """The masters of a file, and why others in it are not used."""

    masters: tuple[KnownMaster, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LibraryMaster:
    """A master on disk and where its image is."""

    record: MasterRecord
    plane: StorePlane | FitsPlane | FilePlane

    @property
    def key(self) -> GroupKey:
        """What a master is compared by."""
        return self.record.key

    @property
    def at_sensor_temperature(self) -> LibraryMaster:
        """It with the temperature that its frames had, where they record a set point too."""
        record, measured_c = self.record, self.record.measured_c
        if measured_c is None or measured_c == record.key.temperature_c:
            return self
        return replace(self, record=replace(record, key=replace(record.key, temperature_c=measured_c)))


def store_location(output_dir: str) -> str:
    """Return the place of the master store in the directory of the masters."""
    return joined(output_dir, STORE_NAME)


def find_masters(output_dir: str, index: FileIndex[FileMasters] | None = None) -> list[LibraryMaster]:
    """Find all masters in a directory, newest first; a damaged one is logged and left out.

    With words for nights or cameras, those of all directories that it stands for. What `index` knows of their files is
    not read again.
    """
    if has_words(output_dir) and has_folder(output_dir):
        return newest_first(master for folder in folders_of(output_dir) for master in find_masters(folder, index))
    if not is_dir(output_dir):
        return []
    index = index if index is not None else FileIndex(None, FileMasters, "")
    found = _stored_masters(MasterStore(store_location(output_dir)), index)
    known = {master.record.name for master in found}
    known |= {name_of_file(file) for m in found if m.key.settings.extension is not None for file in m.record.files}
    files = find_fits([output_dir])
    for path in files:
        if name_of_file(path) in known or (path.endswith(".xisf") and path.removesuffix(".xisf") + ".fits" in files):
            continue
        try:
            found += _masters_of_file(path, index)
        except InputError as error:
            logger.warning("%s", error)
    return newest_first(found)


def newest_first(masters: Iterable[LibraryMaster]) -> list[LibraryMaster]:
    """Sort masters by when they were made, the newest first."""

    def order(master: LibraryMaster) -> tuple[float, str]:
        made_at = master.record.made_at
        return -made_at.timestamp() if made_at else math.inf, master.record.name

    return sorted(masters, key=order)


def _stored_masters(store: MasterStore, index: FileIndex[FileMasters]) -> list[LibraryMaster]:
    found = []
    for name in store.names():

        def read(name: str = name) -> tuple[FileMasters, bool]:
            record = record_from_attributes(name, store.attributes(name))
            return FileMasters(masters=(KnownMaster(record=record),)), True

        try:
            (master,) = index.get(store.attributes_file(name), read).masters
        except UnreachableError:
            raise
        except OstcalError as error:
            logger.warning("%s", error)
        else:
            found.append(LibraryMaster(record=master.record, plane=StorePlane(store=store.location, name=name)))
    return found


def _masters_of_file(path: str, index: FileIndex[FileMasters]) -> list[LibraryMaster]:
    """Return the masters in a FITS or XISF file."""
    inspected: list[LibraryMaster] = []

    def read() -> tuple[FileMasters, bool]:
        inspected[:], remarks = masters_in_file(path)
        known = [KnownMaster(record=m.record, scale=m.plane.scale) for m in inspected if isinstance(m.plane, FitsPlane)]
        return FileMasters(masters=tuple(known), remarks=remarks), True

    content = index.get(path, read)
    for remark in content.remarks:
        logger.warning("%s: %s", path, remark)
    if inspected:
        return inspected
    return [
        LibraryMaster(
            record=master.record,
            plane=FilePlane(path=path, extension=master.record.key.settings.extension, scale=master.scale),
        )
        for master in content.masters
    ]


def masters_in_file(path: str) -> tuple[list[LibraryMaster], tuple[str, ...]]:
    """Read the headers of a file; return the masters in it, and why other masters in it are not used."""
    found, remarks = [], []
    for fits in inspect_images(path):
        if not fits.metadata.is_master:
            continue
        fits = _own_extension(fits)
        key = key_from_metadata(fits.metadata)
        if key is None:
            remarks.append("is a master and does not say of what (IMAGETYP): not used; write bias, dark or flat")
        elif fits.packed != "none":
            remarks.append("is a compressed master: not used; unpack it")
        else:
            found.append(fits_master(name_in_file(name_of_file(path), fits), key, fits))
    return found, tuple(remarks)


def _own_extension(fits: FitsFrame) -> FitsFrame:
    """Return a master of ours that is alone in its file, in an extension, as that extension: its frames had more."""
    is_ours = (header_of(fits.cards).text("PROGRAM") or "").startswith("ostcal")
    return fits.as_extension(fits.possible_labels[0]) if is_ours and fits.possible_labels else fits


def name_in_file(name: str, fits: FitsFrame) -> str:
    """Return the name of a master in a FITS file: of several images with the extension, ``master_bias[im1]``."""
    return name if fits.extension is None else f"{name}[{fits.extension}]"


def fits_master(name: str, key: GroupKey, fits: FitsFrame) -> LibraryMaster:
    """Return the master in a FITS file."""
    header = header_of(fits.cards)
    made_at = None
    with contextlib.suppress(ValueError):
        made_at = datetime.fromisoformat(header.text("DATE") or "")
        made_at = made_at if made_at.tzinfo else made_at.replace(tzinfo=UTC)
    n_frames = header.number("NCOMBINE", "STACKCNT", low=1, high=1e6)
    record = MasterRecord(
        name=name,
        key=key,
        made_at=made_at,
        calibration_id=header.text("CALID") or "",
        verdict=known_verdict(header.text("QCVERD")),
        n_frames=int(n_frames) if n_frames is not None else None,
        files=(os.path.basename(fits.path),) if fits.extension is not None else (),
        observed=_observed(fits, header),
        measured_c=_measured_c(fits.metadata),
        noise=_noise(header, key, n_frames),
    )
    scale = header.number(SCALE_CARD, low=1e-6, high=1e9)
    return LibraryMaster(record=record, plane=FitsPlane(fits=fits, scale=1.0 if scale is None else scale))


def _measured_c(metadata: FrameMetadata) -> float | None:
    """Return the temperature that the frames of a master had, where it records a set point too."""
    set_c, ccd_c = metadata.set_temperature_c, metadata.ccd_temperature_c
    return None if set_c is None or ccd_c is None else sensor_temperature_c(set_c, ccd_c)


def _observed(fits: FitsFrame, header: Header) -> Observed | None:
    """Return when the frames of a master were taken; programs have many words for the start of a frame."""
    start = fits.metadata.date_obs
    if start is None:
        return None
    return observed_in(lambda keyword: start.isoformat() if keyword == "DATE-OBS" else header.text(keyword))


def _noise(header: Header, key: GroupKey, n_frames: float | None) -> float | None:
    """Return the noise of a pixel: that of a sample over the square root of their number, of flats by their level."""
    noise_adu = header.number("SERNOISE", low=1e-9, high=1e9)
    if noise_adu is None or not n_frames:
        return None
    levels = [header.number(f"NORMLV{colour}", low=1e-9) for colour in ("", "R", "G", "B")]
    known = [level for level in levels if level is not None] if key.frame_type is FrameType.FLAT else []
    return noise_adu / math.sqrt(n_frames) / (math.fsum(known) / len(known) if known else 1.0)


def calibration_id_of(path: str, extension: str | None = None) -> str:
    """Return the identity of the master in a FITS file, "" where it says none; InputError where it is no such file."""
    images = {image.extension: image for image in inspect_images(path)}
    return (Header(images[extension].cards).text("CALID") or "") if extension in images else ""
