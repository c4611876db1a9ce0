"""One science frame on its way: its masters opened, its header, its noise, and the calibrated file."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal._version import __version__
from ostcal.engine.calibrate_rows import (
    BYTES_PER_PIXEL,
    ROUNDING_VARIANCE_ADU2,
    Calibration,
    FlagReader,
    FrameNoise,
    Repair,
    Term,
    usable_flat,
)
from ostcal.engine.levels import PlaneReader
from ostcal.errors import InputError
from ostcal.fits.cards import Header, format_card
from ostcal.fits.read import FitsFrame, inspect_extension
from ostcal.fits.unpack import unpack
from ostcal.fits.write import ImagePlane, remove_partial_files, write_fits
from ostcal.frames import FrameType
from ostcal.library.find import FitsPlane, LibraryMaster, StorePlane
from ostcal.library.master_header import Card
from ostcal.library.store import MasterStore
from ostcal.measure.estimators import chi_square_quantile
from ostcal.measure.masters.defects import Defect
from ostcal.places.paths import directories_in, is_remote, remove_tree
from ostcal.science.match import DarkMix, MatchedMasters
from ostcal.science.synthetic_dark import PRIOR_SAMPLES, SyntheticDark

logger = logging.getLogger(__name__)

SATURATION_MARGIN_ADU = 15
"""Samples of 12 and 14 bits shifted to 16 end at 65520 and 65532."""

UNUSABLE_SHARE = 0.01
"""A flat with more pixels than this at zero, below, or not finite is refused: dead pixels and a dead column or two
are far fewer, an unfinished or wrong file has far more."""

STRIP_PIXELS = 500_000
"""36 MB for a worker; larger strips are not faster."""
LARGEST_STRIP_PIXELS = 1_500_000
"""Strips are whole chunks of the stored masters up to here; of larger chunks, parts are unpacked more than once."""
SCRATCH_PREFIX = ".ostcal-unpacked-"
"""Of directories beside the calibrated frames, where a packed frame is while it is calibrated."""

SAMPLED_ROWS = 32
"""Of a dark, for what is typical of it."""

LEAST_ADU_SCALE = 1.0
"""Bias and darks whose highest value is not above this are on a scale from 0 to 1, not in ADU."""

REPAIRED = Defect.HOT | Defect.DEAD


@dataclass(frozen=True, kw_only=True)
class ScaledPlane:
    """A plane times a number; implements `PlaneReader`."""

    plane: PlaneReader
    factor: float

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows ``start`` to ``stop``."""
        return self.plane.read_rows(start, stop) * np.float32(self.factor)


@dataclass(frozen=True, kw_only=True)
class StoredSpread:
    """Standard deviation of the samples of a stored master, or that of their mean; implements `PlaneReader`."""

    store: str
    name: str
    of_mean: bool

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows ``start`` to ``stop``."""
        master = MasterStore(self.store).open(self.name)
        std: NDArray[np.float32] = master.read_rows("std", start, stop)
        if self.of_mean:
            std = std / np.sqrt(np.maximum(master.read_rows("n_used", start, stop), 1), dtype=np.float32)
        return std


@dataclass(frozen=True, kw_only=True)
class StoredFlags:
    """The flags of a stored master; implements `FlagReader`."""

    store: str
    name: str

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Give rows ``start`` to ``stop``."""
        rows: NDArray[np.uint8] = MasterStore(self.store).open(self.name).read_rows("dq", start, stop)
        return rows


@dataclass(frozen=True, kw_only=True)
class SteadySpread:
    """Scatter of few samples drawn towards the typical one of the master; implements `PlaneReader`.

    The variance of five samples alone is off by 70 %, and is zero where they are equal by chance.
    """

    plane: PlaneReader
    typical_adu2: float
    freedom: int
    """Degrees of freedom of a pixel's own variance."""

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows ``start`` to ``stop``."""
        variance = np.square(self.plane.read_rows(start, stop))
        variance *= np.float32(self.freedom)
        variance += np.float32(PRIOR_SAMPLES * self.typical_adu2)
        variance /= np.float32(self.freedom + PRIOR_SAMPLES)
        spread: NDArray[np.float32] = np.sqrt(variance)
        return spread


@dataclass(frozen=True, kw_only=True)
class SyntheticError:
    """Standard error of a synthetic dark; implements `PlaneReader`."""

    dark: SyntheticDark

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Give rows ``start`` to ``stop``."""
        return self.dark.read_uncertainty(start, stop)


@dataclass(frozen=True, kw_only=True)
class OpenedMaster:
    """A master with its header and the planes that it has."""

    name: str
    plane: PlaneReader
    header: Header
    calibration_id: str
    input_digest: str
    error: PlaneReader | None = None
    spread: PlaneReader | None = None
    flags: FlagReader | None = None
    chunk_rows: int = 1
    """Rows that are read for the price of one."""
    scale: float = 1.0
    """What its pixels are multiplied by: flats of other programs are brought to a mean of 1."""
    warnings: tuple[str, ...] = ()

    def term(self, weight: float = 1.0) -> Term:
        """Give its part in the arithmetic."""
        return Term(plane=self.plane, weight=weight * self.scale, error=self.error, spread=self.spread)


def label_of(master: LibraryMaster) -> str:
    """Give what tells the masters of a frame apart: files of one name may lie in different folders."""
    return f"{master.key.frame_type} {master.record.name}"


def open_master(master: LibraryMaster) -> OpenedMaster:
    """Open a master: find its header, and the planes beside its image.

    Raises
    ------
    OstcalError
        If it cannot be read.
    """
    if isinstance(master.plane, StorePlane):
        return _open_stored(master.plane, master.record.name)
    fits = master.plane.fits
    cards = fits.cards if isinstance(fits, FitsFrame) else ()
    header = Header(cards)
    error = _extension(fits.path, "UNCERT")
    n_frames = header.number("NCOMBINE", "STACKCNT", low=1)
    return OpenedMaster(
        name=master.record.name,
        plane=master.plane,
        header=header,
        calibration_id=header.text("CALID") or "",
        input_digest=header.text("INPDIGST") or "",
        error=error,
        spread=ScaledPlane(plane=error, factor=math.sqrt(n_frames)) if error is not None and n_frames else None,
        flags=_extension(fits.path, "DQ"),
    )


def _open_stored(plane: StorePlane, name: str) -> OpenedMaster:
    store = MasterStore(plane.store)
    attributes = store.attributes(name)
    stored = store.open(name)
    return OpenedMaster(
        name=name,
        plane=plane,
        header=Header([image for card in attributes.get("cards", ()) for image in format_card(*card)]),
        calibration_id=str(attributes.get("calibration_id") or ""),
        input_digest=str(attributes.get("input_digest") or ""),
        error=StoredSpread(store=plane.store, name=name, of_mean=True),
        spread=StoredSpread(store=plane.store, name=name, of_mean=False),
        flags=StoredFlags(store=plane.store, name=name) if stored.has("dq") else None,
        chunk_rows=stored.chunk_rows,
    )


def _extension(path: str, name: str) -> FitsPlane | None:
    pixels = inspect_extension(path, name)
    return FitsPlane(fits=pixels) if pixels is not None else None


def checked_flat(opened: OpenedMaster, height: int, width: int) -> OpenedMaster:
    """Read a flat once: bring it to a mean of 1 where another program made it, and name its unusable pixels.

    Raises
    ------
    InputError
        If more than `UNUSABLE_SHARE` of its pixels are zero, negative or not finite.
    """
    total, usable = 0.0, 0
    rows = _rows_of_strip(width, opened.chunk_rows)
    for start in range(0, height, rows):
        strip = usable_flat(opened.plane.read_rows(start, min(start + rows, height)), 1.0)
        usable += int(np.count_nonzero(np.isfinite(strip)))
        total += float(np.nansum(strip, dtype=np.float64))
    bad = height * width - usable
    if bad > UNUSABLE_SHARE * height * width:
        raise InputError(
            f"flat {opened.name}: {bad} of {height * width} pixels ({bad / (height * width):.1%}, limit "
            f"{UNUSABLE_SHARE:.0%}) are zero, negative or not finite; make the flat again or name another with --flat"
        )
    warnings = list(opened.warnings)
    if bad:
        warnings.append(f"flat {opened.name}: {bad} pixels are zero, negative or not finite and become NaN")
    scale = 1.0
    if "NORMTYPE" not in opened.header and "FLATSCAL" not in opened.header:
        scale = usable / total
        warnings.append(f"flat {opened.name}: was made by another program and is divided by its mean {1 / scale:.6g}")
    return replace(opened, scale=scale, warnings=tuple(warnings))


def checked_dark(opened: OpenedMaster, height: int) -> OpenedMaster:
    """Look at some rows of a bias or dark: is it in ADU, and what is its typical noise.

    Raises
    ------
    InputError
        If the rows hold nothing above `LEAST_ADU_SCALE`.
    """
    chosen = sorted({(2 * i + 1) * height // (2 * SAMPLED_ROWS) for i in range(SAMPLED_ROWS)})
    highest = np.nanmax([np.nanmax(np.abs(opened.plane.read_rows(row, row + 1)), initial=0.0) for row in chosen])
    if 0 < highest <= LEAST_ADU_SCALE:
        raise InputError(
            f"{opened.name}: its values reach {highest:.4g} only, it is on a scale from 0 to 1 and the frames are in "
            "ADU; take the master in ADU"
        )
    n_frames = opened.header.number("NCOMBINE", "STACKCNT", low=2)
    if opened.spread is None or n_frames is None:
        return opened
    rows = np.concatenate([opened.spread.read_rows(row, row + 1) for row in chosen])
    typical_adu2 = float(np.nanmedian(rows)) ** 2 / chi_square_quantile(0.0, int(n_frames) - 1)
    steady = SteadySpread(plane=opened.spread, typical_adu2=typical_adu2, freedom=int(n_frames) - 1)
    return replace(opened, spread=steady)


# --- one frame ---


@dataclass(frozen=True, kw_only=True)
class FrameTask:
    """A science frame with what calibrates it, ready to run anywhere; picklable."""

    fits: FitsFrame
    target: str
    masters: MatchedMasters
    opened: dict[str, OpenedMaster]
    """By `label_of`."""
    uncertainty: bool = False
    dq: bool = False
    interpolate: bool = False
    saturation_adu: float | None = None
    overwrite: bool = False
    rows: int = 64


@dataclass(frozen=True, kw_only=True)
class CalibratedFrame:
    """A frame that was calibrated."""

    source: str
    target: str
    masters: tuple[str, ...]
    calibration_status: str


def strip_rows(width: int, height: int, opened: Sequence[OpenedMaster]) -> int:
    """Give the height of the strips that a frame is calibrated in: whole chunks of its stored masters."""
    chunk_rows = max((master.chunk_rows for master in opened), default=1)
    return min(_rows_of_strip(width, chunk_rows), height)


def _rows_of_strip(width: int, chunk_rows: int) -> int:
    rows = max(16, STRIP_PIXELS // width, chunk_rows) // chunk_rows * chunk_rows
    while rows > 16 and rows * width > LARGEST_STRIP_PIXELS:
        rows = -(-rows // 2)
    return rows


def strip_bytes(task: FrameTask) -> int:
    """Give the memory that a worker needs for a frame."""
    return BYTES_PER_PIXEL * task.fits.width * task.rows


def calibrate_frame(task: FrameTask) -> CalibratedFrame:
    """Calibrate one frame, strip by strip, and write it; the file is complete or absent.

    Raises
    ------
    OstcalError
        If the frame or a master cannot be read, the uncertainty lacks a number, or the file cannot be written.
    """
    if task.fits.packed == "none":
        return _calibrate(task, task.fits)
    beside = None if is_remote(task.target) else os.path.dirname(task.target) or "."
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=beside) as scratch:
        return _calibrate(task, unpack(task.fits, scratch))


def sweep_unfinished(output_dir: str) -> None:
    """Remove what killed runs left half written in a directory of calibrated frames; only for who holds its lock."""
    remove_partial_files(output_dir)
    if is_remote(output_dir):
        return
    for directory in directories_in(output_dir):
        if directory.name.startswith(SCRATCH_PREFIX):
            remove_tree(directory, ignore_errors=True)


def _calibrate(task: FrameTask, fits: FitsFrame) -> CalibratedFrame:
    header = Header(fits.cards)
    noise, noise_history = _noise(task, fits, header) if task.uncertainty else (None, [])
    dark, flat = task.masters.dark, task.masters.flat
    used = _used(task)
    saturation_adu = task.saturation_adu or saturation_of(fits, header)
    calibration = Calibration(
        science=FitsPlane(fits=fits),
        height=fits.height,
        width=fits.width,
        dark=_terms(dark, task.opened),
        flat=task.opened[label_of(flat)].term() if flat is not None else None,
        flags=tuple(master.flags for master in used if master.flags is not None),
        saturation_adu=saturation_adu,
        noise=noise,
        repair=Repair(bits=int(REPAIRED), step=2 if fits.metadata.bayer_pattern else 1) if task.interpolate else None,
    )
    status = _status_letters(task.masters, fits)
    cards = [*_frame_cards(header, status, saturation_adu), *_master_cards(task)]
    write_fits(
        task.target,
        _planes(task, calibration, cards),
        kept_cards=fits.cards,
        history=[*_history(task, calibration), *noise_history],
        rows_per_write=task.rows,
        overwrite=task.overwrite,
    )
    names = tuple(master.name for master in used)
    return CalibratedFrame(source=fits.source, target=task.target, masters=names, calibration_status=status)


def _planes(task: FrameTask, calibration: Calibration, cards: list[Card]) -> list[ImagePlane]:
    size: dict[str, Any] = {"height": calibration.height, "width": calibration.width}
    planes = [ImagePlane(dtype="float32", cards=cards, read_rows=calibration.values, **size)]
    if task.uncertainty:
        own: list[Card] = [("BUNIT", "adu", "standard deviation"), ("UTYPE", "StdDevUncertainty", "")]
        planes.append(ImagePlane(name="UNCERT", dtype="float32", cards=own, read_rows=calibration.uncertainty, **size))
    if task.dq:
        planes.append(ImagePlane(name="DQ", dtype="int16", cards=_flag_cards(), read_rows=calibration.dq, **size))
    return planes


def _flag_cards() -> list[Card]:
    meanings = [(int(defect), (defect.name or "").lower().replace("_", " ")) for defect in Defect]
    meanings.append((256, "interpolated"))
    return [(f"DQBIT{bit.bit_length() - 1}", bit, meaning) for bit, meaning in meanings]


def saturation_of(fits: FitsFrame, header: Header) -> float:
    """Give the level from which on a pixel is saturated: SATURATE of the header, else the end of 16 (or 8) bits."""
    stated = header.number("SATURATE", "SATLEVEL", low=1.0)
    if stated is not None:
        return stated
    if fits.bitpix == 16 and fits.is_whole:
        return fits.bzero + 32767 - SATURATION_MARGIN_ADU
    return 255.0 if fits.bitpix == 8 and fits.is_whole else math.inf


def _terms(dark: DarkMix | None, opened: dict[str, OpenedMaster]) -> tuple[Term, ...]:
    if dark is None:
        return ()
    if dark.synthetic is not None:
        return (Term(plane=dark.synthetic, error=SyntheticError(dark=dark.synthetic)),)
    return tuple(opened[label_of(part.master)].term(part.weight) for part in dark.parts)


def _used(task: FrameTask) -> list[OpenedMaster]:
    """Give the masters of the arithmetic, the dark's first."""
    dark, flat = task.masters.dark, task.masters.flat
    masters = [part.master for part in dark.parts] if dark is not None else []
    if flat is not None:
        masters.append(flat)
    return [task.opened[label_of(master)] for master in masters]


# --- noise ---


def _noise(task: FrameTask, fits: FitsFrame, header: Header) -> tuple[FrameNoise, list[str]]:
    """Find gain and read noise: measured ones of the masters before what the frame's header states."""
    used = _used(task)
    headers = [header, *(master.header for master in used)]
    gain = _first_number(headers[1:], "GAINMEAS") or _first_number(headers, "EGAIN", "E-GAIN", "CVF")
    if gain is None:
        raise InputError(
            f"{fits.source}: its uncertainty needs the gain in e-/ADU, and neither the frame nor its masters say it "
            "(EGAIN); write EGAIN into the header, or leave --uncertainty out"
        )
    zero = _terms(task.masters.dark, task.opened)
    history = [f"uncertainty: gain {gain:.6g} e-/ADU"]
    unlit = None
    read_noise_adu = _read_noise_adu(headers, gain)
    if read_noise_adu is not None:
        unlit = read_noise_adu**2 + (ROUNDING_VARIANCE_ADU2 if fits.is_whole else 0.0)
        history.append(f"uncertainty: read noise {read_noise_adu:.6g} adu")
        bias = task.masters.bias
        if bias is not None and not fits.metadata.bias_subtracted:
            zero = (task.opened[label_of(bias)].term(),)
            history.append(f"uncertainty: photon noise counts from bias {bias.record.name}")
    elif zero and all(term.spread is not None for term in zero):
        history.append("uncertainty: read noise and dark current from the scatter of the dark frames")
    else:
        raise InputError(
            f"{fits.source}: its uncertainty needs the read noise, and neither the frame nor its masters say it "
            "(RDNOISE, or the extension UNCERT of a master dark); write RDNOISE (e-) into the header"
        )
    history += [f"uncertainty: {m.name} has none of its own and counts as exact" for m in used if m.error is None]
    return FrameNoise(gain_e_per_adu=gain, unlit_variance_adu2=unlit, zero=zero), history


def _first_number(headers: Sequence[Header], *keywords: str) -> float | None:
    numbers = (header.number(*keywords, low=1e-6, high=1e6) for header in headers)
    return next((number for number in numbers if number is not None), None)


def _read_noise_adu(headers: Sequence[Header], gain_e_per_adu: float) -> float | None:
    """Give the read noise: as measured for the masters, else as the frame or a master states it in electrons."""
    measured = _first_number(headers[1:], "RDNADU")
    if measured is not None:
        return measured
    stated_e = _first_number(headers, "RDNOISE")
    return stated_e / gain_e_per_adu if stated_e is not None else None


# --- header ---


def _status_letters(masters: MatchedMasters, fits: FitsFrame) -> str:
    """Give CALSTAT: B bias, D dark, F flat; a dark holds the bias too."""
    letters = set()
    if masters.dark is not None:
        letters |= {"B", "D"} if masters.dark.has_dark_current else {"B"}
    if masters.flat is not None:
        letters.add("F")
    if fits.metadata.bias_subtracted:
        letters.add("B")
    return "".join(letter for letter in "BDF" if letter in letters)


def _frame_cards(header: Header, status: str, saturation_adu: float) -> list[Card]:
    return [
        ("BUNIT", "adu", "unit of the pixel values"),
        ("CALSTAT", status, "done: B bias, D dark, F flat"),
        ("SATURATE", saturation_adu, "[adu] saturated pixels have at least this"),
        ("CALPROG", f"ostcal {__version__}", "program that calibrated this frame"),
    ]


def _master_cards(task: FrameTask) -> list[Card]:
    """Name the masters: NAME, ID (CALID) and DIG (INPDIGST) after BIAS, DARK, DRK2, DRK3, ... and FLAT."""
    cards: list[Card] = []
    n_darks = 0
    dark, flat = task.masters.dark, task.masters.flat
    for part in dark.parts if dark is not None else ():
        if part.master.key.frame_type is FrameType.BIAS:
            prefix, what = "BIAS", "bias"
        else:
            n_darks += 1
            prefix, what = ("DARK" if n_darks == 1 else f"DRK{n_darks}"), "dark"
        cards += _identity(prefix, what, task.opened[label_of(part.master)])
        if part.weight != 1.0:
            cards.append((f"{prefix}SCAL", part.weight, f"how many times the {what} was subtracted"))
    if dark is not None and dark.synthetic is not None:
        cards.append(("SYNTHDRK", True, "the dark comes from a fit over exposures"))
    if flat is not None:
        cards += _identity("FLAT", "flat", task.opened[label_of(flat)])
    return cards


def _identity(prefix: str, what: str, master: OpenedMaster) -> list[Card]:
    return [
        (f"{prefix}NAME", master.name, f"master {what}"),
        (f"{prefix}ID", master.calibration_id or None, f"CALID of the master {what}"),
        (f"{prefix}DIG", master.input_digest or None, f"INPDIGST of the master {what}"),
    ]


def _history(task: FrameTask, calibration: Calibration) -> list[str]:
    dark, flat = task.masters.dark, task.masters.flat
    lines = [f"ostcal {__version__}: calibrated, (science - dark) / flat in ADU"]
    if dark is not None:
        lines.append(f"master dark: {dark.description}")
        if dark.scaled:
            lines.append("dark current was scaled to the exposure of this frame")
    else:
        lines.append("dark: left out")
    lines.append(f"master flat: {flat.record.name}" if flat is not None else "flat: left out")
    if flat is not None and task.opened[label_of(flat)].scale != 1.0:
        lines.append(f"the flat was multiplied by {task.opened[label_of(flat)].scale:.8g}")
    if calibration.repair is not None:
        step = calibration.repair.step
        lines.append(f"hot and dead pixels: median of good neighbours at a distance of {step} pixel{'s'[: step - 1]}")
    return lines
