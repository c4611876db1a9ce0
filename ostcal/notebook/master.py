"""`open_master`: one master as an object, whose planes are read when they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.displays import beside, facts_table, picture
from ostcal.engine.levels import PlaneReader
from ostcal.errors import InputError
from ostcal.fits.astropy_objects import header_object, quantity
from ostcal.frames import FrameType
from ostcal.library.beside import MasterPlanes, planes_of
from ostcal.library.find import FilePlane, LibraryMaster, StorePlane
from ostcal.library.master_data import ALL_BITS, ccd_data_of, read_plane, unit_in
from ostcal.library.one_master import find_master
from ostcal.library.quality_notes import findings_of
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.pictures import downsample
from ostcal.places.paths import joined
from ostcal.report.png import grey_uri
from ostcal.report.previews import in_zscale

_PICTURE_WIDTH = 320
_MOST_FINDINGS = 5
"""Findings that a display lists."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What the quality control of a master said.

    Attributes
    ----------
    verdict : str or None
        ``pass``, ``warn`` or ``fail``; ``None`` if there was no quality control.
    findings : tuple of Finding
        Each check with ``check``, ``outcome``, ``value``, ``limit``, ``unit`` and ``text``; FITS and XISF files do not
        have them.
    """

    verdict: str | None
    findings: tuple[Finding, ...] = ()

    @property
    def worst(self) -> tuple[Finding, ...]:
        """Findings that did not pass, failures first."""
        wrong = [one for one in self.findings if one.outcome is not Outcome.PASS]
        return tuple(sorted(wrong, key=lambda one: one.outcome is not Outcome.FAIL))

    def __repr__(self) -> str:
        n_wrong = len(self.worst)
        more = f", {n_wrong} of {len(self.findings)} checks not passed" if self.findings else ""
        return f"<Quality {self.verdict or 'not checked'}{more}>"


class Master:
    """A master on disk; `open_master` and `Library` return it.

    Its planes are read when they are asked for, and kept. They cannot be written to; copy them to change them.

    Parameters
    ----------
    found : LibraryMaster
        The master, as the library finds it.
    """

    def __init__(self, found: LibraryMaster) -> None:
        self._found = found

    # ---- what it is ----

    @property
    def name(self) -> str:
        """Name of the master."""
        return self._found.record.name

    @property
    def path(self) -> str:
        """Where it is: the file, or the place in the store of masters."""
        plane = self._found.plane
        if isinstance(plane, StorePlane):
            return joined(plane.store, plane.name)
        return plane.path if isinstance(plane, FilePlane) else plane.fits.path

    @property
    def kind(self) -> str:
        """``bias``, ``dark`` or ``flat``."""
        return str(self._found.key.frame_type)

    @property
    def exposure(self) -> Any:
        """Exposure of its frames, a `Quantity` in seconds."""
        return quantity(self._found.key.exposure_time_s, "s")

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self._found.key.height, self._found.key.width

    @property
    def n_frames(self) -> int | None:
        """Frames that were combined; ``None`` where that is not recorded."""
        return self._found.record.n_frames

    @property
    def verdict(self) -> str | None:
        """``pass``, ``warn`` or ``fail`` of its quality control; ``None`` if there was none."""
        return self._found.record.verdict

    @property
    def settings(self) -> dict[str, Any]:
        """What the master was taken with, by the names that `load_master_dark` and `Library.select` take.

        ``camera``, ``gain``, ``offset``, ``binning``, ``readout_mode``, ``temperature_c``, ``filter``, ...; what is
        not recorded is left out.
        """
        return settings_of(self._found)

    @property
    def taken_at(self) -> Any:
        """Middle of the time in which its frames were taken, a `datetime` in UTC; ``None`` where not recorded."""
        observed = self._found.record.observed
        return observed.middle if observed is not None else None

    @cached_property
    def header(self) -> Any:
        """Its FITS header, an `astropy.io.fits.Header`."""
        return header_object(self._planes.header)

    @cached_property
    def quality(self) -> Quality:
        """Verdict and findings of its quality control."""
        plane = self._found.plane
        if not isinstance(plane, StorePlane):
            return Quality(verdict=self.verdict)
        findings = findings_of(MasterStore(plane.store).attributes(plane.name))
        return Quality(verdict=self.verdict, findings=tuple(findings))

    # ---- planes ----

    @property
    def unit(self) -> Any:
        """Unit of the pixels: ADU, and none of a flat, whose level is 1."""
        return unit_in(self._found, self._planes)

    @cached_property
    def data(self) -> NDArray[np.float32]:
        """The image, (height, width) float32, in `unit`; NaN where no sample was kept."""
        image = self._found.plane.read_rows(0, self.shape[0])
        image.flags.writeable = False
        return image

    @cached_property
    def uncertainty(self) -> NDArray[np.float32] | None:
        """Standard error of each pixel, (height, width) float32, in `unit`; ``None`` where none is stored."""
        return self._read(self._planes.error, "float32")

    @cached_property
    def mask(self) -> NDArray[np.uint8] | None:
        """Bits of the defects of each pixel, (height, width) uint8; ``None`` where they are not stored.

        `ostcal.Defect` names the bits: ``master.mask & ostcal.Defect.HOT`` is not zero in hot pixels.
        """
        return self._read(self._planes.flags, "uint8")

    @cached_property
    def n_used(self) -> NDArray[np.uint16] | None:
        """Samples that were kept in each pixel, (height, width) uint16; ``None`` where they are not stored."""
        return self._read(self._planes.n_used, "uint16")

    def to_ccddata(self, mask_bits: int = ALL_BITS) -> Any:
        """Read the master as a `CCDData`.

        Parameters
        ----------
        mask_bits : Defect, optional
            Pixels with one of these defects are masked, and those without a value; by default all defects count.
            ``ostcal.Defect.NO_DATA`` masks those without a value alone.

        Returns
        -------
        CCDData
            Of a new array, with standard errors (`StdDevUncertainty`), a mask, the header, and the attributes
            ``flags`` (bits of defects, uint8) and ``n_used``, as far as they are stored.

        Raises
        ------
        OstcalError
            If the master cannot be read.
        """
        return ccd_data_of(self._found, mask_bits)

    @cached_property
    def _planes(self) -> MasterPlanes:
        return planes_of(self._found)

    def _read(self, plane: PlaneReader | None, dtype: str) -> NDArray[Any] | None:
        read = read_plane(plane, self._found, dtype)
        if read is not None:
            read.flags.writeable = False
        return read

    # ---- displays ----

    def __repr__(self) -> str:
        height, width = self.shape
        verdict = f", {self.verdict}" if self.verdict else ""
        return f"<Master {described(self._found)}, {width} x {height}{verdict}: {self.name}>"

    def _repr_html_(self) -> str:
        height, width = self.shape
        taken = self.taken_at
        worst = self.quality.worst[:_MOST_FINDINGS]
        facts = [
            ("kind", self.kind),
            ("exposure", f"{self._found.key.exposure_time_s:g} s"),
            ("size", f"{width} x {height} pixels"),
            ("frames", self.n_frames),
            ("taken", f"{taken:%Y-%m-%d %H:%M} UTC" if taken is not None else None),
            *((name.removesuffix("_c").replace("_", " "), shown(name, value)) for name, value in self.settings.items()),
            ("quality", self.verdict),
            *((f"{one.outcome}: {one.check}", one.text) for one in worst),
            ("place", self.path),
        ]
        table = facts_table((name, value) for name, value in facts if name not in ("width", "height"))
        return f"<b>{escape(self.name)}</b>{beside(self._picture(), table)}"

    def _picture(self) -> str:
        """Return the image as a small picture in the scale of zscale; it is read by strips."""
        is_bayer = self._found.key.bayer_pattern is not None
        small = downsample(self._found.plane.read_rows, self.shape, _PICTURE_WIDTH, bayer=is_bayer)
        grey = in_zscale(small, "" if self.kind == FrameType.FLAT else " ADU")
        levels = f"black {grey.black:.6g}{grey.unit}, white {grey.white:.6g}{grey.unit}"
        return picture(grey_uri(grey.pixels), levels)


def open_master(path: str | os.PathLike[str], *, extension: str | None = None) -> Master:
    """Open a master: a FITS or XISF file, or a master in the store of masters.

    Only its header is read; planes are read when they are asked for.

    Parameters
    ----------
    path : path
        A file such as ``master_frames/master_bias_...fits``, or ``master_frames/masters.zarr/NAME``; a store may be in
        an object store.
    extension : str, optional
        Of a file of several masters the EXTNAME of one.

    Returns
    -------
    Master
        With ``data``, ``uncertainty``, ``mask`` (bits of `ostcal.Defect`), ``n_used``, ``header``, ``kind``,
        ``exposure``, ``settings``, ``quality`` and ``to_ccddata()``; in a notebook it shows a picture.

    Raises
    ------
    InputError
        If the path names no master, or several.
    FrameError, StorageError
        If the file or the store is damaged.

    Examples
    --------
    >>> import ostcal
    >>> dark = ostcal.open_master("master_frames/masters.zarr/master_dark_60.000s")  # doctest: +SKIP
    >>> dark.exposure, dark.settings["gain"], dark.quality.verdict  # doctest: +SKIP
    >>> hot = dark.mask & ostcal.Defect.HOT != 0  # doctest: +SKIP
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path={path!r} is no path; give a FITS or XISF master, or masters.zarr/NAME")
    return Master(find_master(os.fspath(path), extension))


def settings_of(found: LibraryMaster) -> dict[str, Any]:
    """Return the settings of a master that are recorded, by the names of the keywords that choose masters."""
    key, settings, optics = found.key, found.key.settings, found.key.optics
    values = {
        "camera": settings.camera,
        "camera_id": settings.camera_id,
        "gain": settings.gain,
        "offset": settings.offset,
        "binning": settings.binning,
        "readout_mode": settings.readout_mode,
        "temperature_c": key.temperature_c,
        "filter": key.filter_name,
        "telescope": optics.telescope,
        "focal_length_mm": optics.focal_length_mm,
        "rotation_deg": optics.rotator_deg if optics.rotator_deg is not None else optics.sky_angle_deg,
        "extension": settings.extension,
        "width": key.width,
        "height": key.height,
    }
    return {name: value for name, value in values.items() if value is not None}


def described(found: LibraryMaster) -> str:
    """Return kind, exposure, filter, gain and temperature of a master in a few words."""
    key, settings = found.key, found.key.settings
    words = [
        str(key.frame_type),
        f"{key.exposure_time_s:g} s" if key.frame_type is FrameType.DARK else "",
        key.filter_name or "",
        f"gain {settings.gain:g}" if settings.gain is not None else "",
        f"{key.temperature_c:g} C" if key.temperature_c is not None else "",
    ]
    return ", ".join(word for word in words if word)


def shown(name: str, value: Any) -> str:
    """Return a setting as text with its unit."""
    units = {"temperature_c": " C", "focal_length_mm": " mm", "rotation_deg": " deg"}
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}{units.get(name, '')}" if isinstance(value, int | float) else str(value)
