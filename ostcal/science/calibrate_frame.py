"""One science frame with its opened masters: arithmetic, noise, header, and the calibrated file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal._version import __version__
from ostcal.engine.calibrate_rows import BYTES_PER_PIXEL, ROUNDING_VARIANCE_ADU2, Calibration, FrameNoise, Repair, Term
from ostcal.engine.levels import PlaneReader
from ostcal.engine.tiling import PROCESS_BYTES
from ostcal.errors import InputError
from ostcal.fits.cards import Header
from ostcal.fits.hdus import companion_name, name_and_version
from ostcal.fits.read import FitsFrame
from ostcal.fits.sections import readout_cards, readout_status, without_sections
from ostcal.fits.tiles import RUN_BYTES, UNLIMITED_BYTES, TileReader
from ostcal.fits.unpack import unpack
from ostcal.fits.write import PARTIAL_FITS, ImagePlane, write_fits
from ostcal.inputs.trimmed import TrimmedPlane, overscan_level_adu
from ostcal.inputs.unknown_overscan import unknown_overscan
from ostcal.inputs.whole_floats import science_words
from ostcal.library.find import FitsPlane
from ostcal.library.master_header import Card
from ostcal.library.master_names import name_of_file
from ostcal.measure.masters.defects import Defect
from ostcal.places.durable import sweep_partial_files
from ostcal.places.fingerprint import file_digest
from ostcal.places.paths import directories_in, is_remote, path_of, remove_tree
from ostcal.science.choose_masters import CalibrationOptions, FrameMasters
from ostcal.science.dark_of_temperature import TemperatureDark
from ostcal.science.level_check import CameraNoise, LevelWatch
from ostcal.science.linearize import linear_flat, linearity_cards, linearity_history, refuse_not_covered
from ostcal.science.master_cards import master_cards
from ostcal.science.opened_masters import rows_of_strip
from ostcal.science.saturation import SATURATION_CARDS, Saturation, measured_saturation, saturation_of
from ostcal.science.synthetic_dark import LEAST_HELD_BYTES, STRIP_HELD_BYTES, SyntheticDark

SCRATCH_PREFIX = ".ostcal-unpacked-"
"""Name of directories beside the calibrated frames that hold a packed frame while it is calibrated."""

RAW_DIGEST_CARD = "RAWDIG"
"""Of a calibrated frame: tells the raw file that it was made of."""

REPAIRED = Defect.HOT | Defect.DEAD
INTERPOLATED = 256
"""Flag of pixels whose value comes from their neighbours."""


@dataclass(frozen=True, kw_only=True)
class SyntheticError:
    """Standard error of a synthetic dark, ADU; implements `PlaneReader`."""

    dark: SyntheticDark | TemperatureDark

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``, (stop - start, width)."""
        return self.dark.read_with_uncertainty(start, stop)[1]


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """An image of a science frame with its masters."""

    fits: FitsFrame
    masters: FrameMasters

    @property
    def rows(self) -> int:
        """Height of the strips that the image is calibrated in: whole chunks of its stored masters."""
        chunk_rows = max((master.chunk_rows for master in self.masters.all), default=1)
        metadata = self.fits.metadata
        return min(rows_of_strip(metadata.width, chunk_rows), metadata.height)

    @property
    def n_bytes(self) -> int:
        """Memory that a worker needs for it: a strip, and the rows of masters that a dark nobody took is made of."""
        dark = self.masters.chosen.dark
        made = dark.synthetic if dark is not None else None
        held = 0 if made is None else min(made.ladder.row_bytes * self.rows, STRIP_HELD_BYTES)
        return self._strip_bytes + held

    def within(self, n_bytes: int) -> ImageTask:
        """Return the task for a worker that has so much memory."""
        dark = self.masters.chosen.dark
        if dark is None or dark.synthetic is None:
            return self
        held_bytes = min(STRIP_HELD_BYTES, max(LEAST_HELD_BYTES, n_bytes - self._strip_bytes))
        made = replace(dark, synthetic=replace(dark.synthetic, held_bytes=held_bytes))
        return replace(self, masters=replace(self.masters, chosen=replace(self.masters.chosen, dark=made)))

    @property
    def _strip_bytes(self) -> int:
        return BYTES_PER_PIXEL * self.fits.width * self.rows


@dataclass(frozen=True, kw_only=True)
class FrameTask:
    """A science frame with what calibrates it, ready to run anywhere; picklable."""

    images: tuple[ImageTask, ...]
    """Most often one."""
    target: str
    options: CalibrationOptions

    @property
    def source(self) -> str:
        """The file of the frame."""
        return self.images[0].fits.source

    @property
    def data_length(self) -> int:
        """Bytes of the samples."""
        return sum(image.fits.data_length for image in self.images)

    @property
    def n_bytes(self) -> int:
        """Memory that a worker needs for the frame: to calibrate it, and before that to unpack it."""
        tiles = [image.fits.tiling.memory_bytes for image in self.images if image.fits.tiling is not None]
        return max(*tiles, *(image.n_bytes for image in self.images), 0)


@dataclass(frozen=True, kw_only=True)
class CalibratedFrame:
    """A frame that was calibrated."""

    source: str
    target: str
    masters: tuple[str, ...]
    master_files: tuple[str, ...]
    """Names of the files of the masters; the masters of several images share one."""
    calibration_status: str
    warnings: tuple[str, ...] = ()


def calibrate_frame(
    task: FrameTask, memory_limit_bytes: int = UNLIMITED_BYTES, worker_bytes: int = UNLIMITED_BYTES
) -> CalibratedFrame:
    """Calibrate one frame, strip by strip, and write it; the file is complete or absent.

    A frame whose tiles take more than `memory_limit_bytes` when they are decoded is refused. Darks that nobody took are
    made within `worker_bytes`.

    Raises
    ------
    OstcalError
        If the frame or a master cannot be read, the uncertainty lacks a number, or the file cannot be written.
    """
    task = replace(task, images=tuple(image.within(worker_bytes) for image in task.images))
    if all(image.fits.is_ready for image in task.images):
        return _calibrate(task)
    beside = None if is_remote(task.target) else os.path.dirname(task.target) or "."
    tile_bytes = memory_limit_bytes - RUN_BYTES
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=beside) as scratch, TileReader(tile_bytes) as tiles:
        unpacked = tuple(replace(image, fits=unpack(image.fits, scratch, tiles)) for image in task.images)
        return _calibrate(replace(task, images=unpacked))


def calibrate_within(
    memory_limit_bytes: int, tasks: Sequence[FrameTask], workers: int, *, is_shared: bool
) -> tuple[Callable[[FrameTask], CalibratedFrame], int]:
    """Return `calibrate_frame` with a memory limit, which can be pickled, and how many workers the memory allows.

    They are at most `workers`; where the limit is not shared, each has it for itself.
    """
    free_bytes = memory_limit_bytes - PROCESS_BYTES
    if is_shared:
        workers = max(1, min(workers, free_bytes // max(task.n_bytes for task in tasks)))
        free_bytes //= workers
    return partial(calibrate_frame, memory_limit_bytes=memory_limit_bytes, worker_bytes=free_bytes), workers


def sweep_unfinished(output_dir: str) -> None:
    """Remove half-written files of killed runs from a directory of calibrated frames; the caller holds its lock."""
    sweep_partial_files(path_of(output_dir), PARTIAL_FITS)
    if is_remote(output_dir):
        return
    for directory in directories_in(output_dir):
        if directory.name.startswith(SCRATCH_PREFIX):
            remove_tree(directory, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class _Calibrated:
    """What is written of one image."""

    planes: tuple[ImagePlane, ...]
    """The image, its uncertainty and its flags."""
    cards: tuple[Card, ...]
    """Of the image."""
    history: tuple[str, ...]
    status: str
    level: LevelWatch
    """Of the image, when it is written."""
    unknown_overscan: str = ""
    """What is said of its lines without a level of the overscan."""
    full_scale: str = ""
    """What is said of the full scale of its masters."""


def _calibrate(task: FrameTask) -> CalibratedFrame:
    made = [_calibrated(image, task.options) for image in task.images]
    masters = dict.fromkeys(master.name for image in task.images for master in image.masters.used)
    fits = task.images[0].fits
    planes = [plane for image in made for plane in image.planes[:1]]
    planes += [plane for image in made for plane in image.planes[1:]]
    primary: list[Card] | None = None
    kept_cards, history = _kept_cards(fits, fits.cards), made[0].history
    if fits.extension is not None and fits.own_cards and fits.extension != "0":
        primary = [card for card in made[0].cards if all(card in image.cards for image in made)]
        kept_cards, history = _kept_cards(fits, fits.primary_cards), ()
    elif fits.extension is not None:  # the first image is in the primary HDU
        planes[0] = replace(planes[0], kept_cards=(), history=())
    write_fits(
        task.target,
        planes,
        kept_cards=kept_cards,
        history=history,
        overwrite=task.options.overwrite,
        primary=primary,
    )
    done = {letter for image in made for letter in image.status}
    status = "".join(letter for letter in "OTBDF" if letter in done)
    return CalibratedFrame(
        source=task.source,
        target=task.target,
        masters=tuple(masters),
        master_files=tuple(dict.fromkeys(name for image in task.images for name in _file_names(image.masters))),
        calibration_status=status,
        warnings=tuple(_warnings(task, made)),
    )


def _file_names(masters: FrameMasters) -> Iterator[str]:
    for master in masters.chosen.used:
        is_shared = master.key.settings.extension is not None and master.record.files
        yield name_of_file(master.record.files[0]) if is_shared else master.record.name


def _warnings(task: FrameTask, made: Sequence[_Calibrated]) -> Iterator[str]:
    """Yield a line for each image with lines of unknown level, and for each whose level is none that light has."""
    for image, calibrated in zip(task.images, made, strict=True):
        extension = f" [{image.fits.extension}]" if image.fits.extension is not None else ""
        if calibrated.unknown_overscan:
            yield f"{image.fits.source}{extension}: {calibrated.unknown_overscan}"
        if calibrated.full_scale:
            yield f"{image.fits.source}{extension}: {calibrated.full_scale}"
        darks = " and ".join(master.name for master in image.masters.darks)
        warning = calibrated.level.warning(darks, _camera_noise(image)) if darks else ""
        if warning:
            yield f"{image.fits.source}{extension}: {warning}"


def _camera_noise(image: ImageTask) -> CameraNoise | None:
    """Return the noise of the camera as its masters have it; ``None`` where it is not known or the frame not raw."""
    of_masters = [master.header for master in image.masters.used]
    gain, noise_adu = _first_number(of_masters, "GAINMEAS"), _first_number(of_masters, "RDNADU")
    n_combined = Header(image.fits.cards).number("NCOMBINE", "STACKCNT", low=1) or 1
    if gain is None or noise_adu is None or not image.fits.is_whole or n_combined > 1:
        return None
    return CameraNoise(gain_e_per_adu=gain, read_noise_adu=noise_adu)


def _kept_cards(fits: FitsFrame, cards: Sequence[str]) -> Sequence[str]:
    """Return the cards of a raw frame that are still true."""
    return cards if fits.readout is None else without_sections(cards)


def _calibrated(image: ImageTask, options: CalibrationOptions) -> _Calibrated:
    masters, header = image.masters, Header(image.fits.cards)
    fits = science_words(image.fits) if masters.darks else image.fits
    noise, noise_history = _noise(masters, fits, header) if options.uncertainty else (None, [])
    science, saturation = _science_plane(fits, masters, header, options)
    saturation_adu = saturation.adu
    response = masters.response
    if response is not None:
        if fits.metadata.bias_subtracted:
            response = replace(response, zero_adu=0.0)
        refuse_not_covered(science, fits.metadata.height, response, saturation_adu)
        ends = np.array([min(saturation_adu, response.highest_level_adu)])
        saturation_adu = float(response.true_level(ends)[0])
    calibration = Calibration(
        science=science,
        height=fits.metadata.height,
        width=fits.metadata.width,
        dark=_dark_terms(masters),
        flat=_flat_term(masters),
        response=response,
        flags=tuple(master.flags for master in masters.used if master.flags is not None),
        saturation_adu=saturation_adu,
        noise=noise,
        repair=Repair(bits=int(REPAIRED), step=2 if fits.metadata.bayer_pattern else 1)
        if options.interpolate
        else None,
    )
    status = masters.chosen.calibration_status(bias_subtracted=fits.metadata.bias_subtracted)
    status = readout_status(fits.readout) + status
    cards: list[Card] = [
        ("BUNIT", "adu", "unit of the pixel values"),
        ("CALSTAT", status, "done: B bias, D dark, F flat, O overscan, T trim"),
        ("SATURATE", saturation_adu, "[adu] saturated pixels have at least this"),
        ("CALPROG", f"ostcal {__version__}", "program that calibrated this frame"),
        (RAW_DIGEST_CARD, _raw_digest(image.fits.source), "digest of parts of the raw file"),
        *(readout_cards(fits.readout, header) if fits.readout is not None else []),
        *(linearity_cards(response) if response is not None else []),
        *master_cards(masters),
    ]
    linear = [linearity_history(response)] if response is not None else []
    history = (*_history(masters, calibration), *linear, *noise_history)
    size: dict[str, Any] = {
        "height": fits.metadata.height,
        "width": fits.metadata.width,
        "rows_per_write": image.rows,
    }
    label = fits.extension
    beside: Callable[[str], str] = partial(companion_name, label) if label is not None else str
    name, version = name_and_version(label) if label is not None else (None, None)
    stated = Header(fits.own_cards).number("EXTVER", low=1, high=1e9)
    version = int(stated) if stated is not None and version is None else version
    level = LevelWatch(values=calibration.values, height=fits.metadata.height)
    first = ImagePlane(name=name, version=version, dtype="float32", cards=cards, read_rows=level.read_rows, **size)
    kept = _kept_cards(fits, fits.own_cards)
    planes = [replace(first, kept_cards=kept, history=history) if label is not None else first]
    planes += _planes_beside(calibration, options, beside, size)
    return _Calibrated(
        planes=tuple(planes),
        cards=tuple(cards),
        history=history,
        status=status,
        level=level,
        unknown_overscan=unknown_overscan(science.stack, fits.label) if isinstance(science, TrimmedPlane) else "",
        full_scale=saturation.warning,
    )


def _raw_digest(source: str) -> str | None:
    """Return what tells a raw file from others; ``None`` in an object store, where each piece would be a request."""
    if is_remote(source):
        return None
    with suppress(OSError):  # it was removed meanwhile
        return file_digest(source)
    return None


def _science_plane(
    fits: FitsFrame, masters: FrameMasters, header: Header, options: CalibrationOptions
) -> tuple[PlaneReader, Saturation]:
    """Return the samples of a frame without overscan, and the level from which these are saturated."""
    saturation_adu, overscan_adu = options.saturation_adu or saturation_of(fits, header), 0.0
    science: PlaneReader = FitsPlane(fits=fits)
    if fits.readout is not None:
        science = TrimmedPlane(frame=fits, readout=fits.readout)
        overscan_adu = overscan_level_adu(science.stack.stack, fits.readout)
        saturation_adu -= overscan_adu
    if options.saturation_adu is not None or header.number(*SATURATION_CARDS, low=1.0) is not None:
        return science, Saturation(adu=saturation_adu)
    return science, measured_saturation(
        masters, science, fits.metadata.height, saturation_adu=saturation_adu, overscan_adu=overscan_adu
    )


def _planes_beside(
    calibration: Calibration, options: CalibrationOptions, beside: Callable[[str], str], size: dict[str, Any]
) -> list[ImagePlane]:
    """Return the extensions of a calibrated image: its uncertainty and its flags, where they are wanted."""
    planes = []
    if options.uncertainty:
        own: list[Card] = [("BUNIT", "adu", "standard deviation"), ("UTYPE", "StdDevUncertainty", "")]
        planes.append(
            ImagePlane(name=beside("UNCERT"), dtype="float32", cards=own, read_rows=calibration.uncertainty, **size)
        )
    if options.dq:
        meanings = [(int(defect), (defect.name or "").lower().replace("_", " ")) for defect in Defect]
        bits: list[Card] = [
            (f"DQBIT{bit.bit_length() - 1}", bit, meaning)
            for bit, meaning in (*meanings, (INTERPOLATED, "interpolated"))
        ]
        planes.append(ImagePlane(name=beside("DQ"), dtype="int16", cards=bits, read_rows=calibration.dq, **size))
    return planes


def _flat_term(masters: FrameMasters) -> Term | None:
    """Return what the frame is divided by."""
    if masters.flat is None or masters.response is None:
        return masters.flat.term() if masters.flat is not None else None
    return linear_flat(masters.flat, masters.response)


def _dark_terms(masters: FrameMasters) -> tuple[Term, ...]:
    """Return what is subtracted."""
    dark = masters.chosen.dark
    if dark is None:
        return ()
    if dark.synthetic is not None:
        return (Term(plane=dark.synthetic, error=SyntheticError(dark=dark.synthetic)),)
    return tuple(master.term(part.weight) for part, master in zip(dark.parts, masters.darks, strict=True))


def _noise(masters: FrameMasters, fits: FitsFrame, header: Header) -> tuple[FrameNoise, list[str]]:
    """Find gain and read noise: those measured for the masters come before those stated by headers."""
    of_masters = [master.header for master in masters.used]
    headers = [header, *of_masters]
    gain = _first_number(of_masters, "GAINMEAS") or _first_number(headers, "EGAIN", "E-GAIN", "CVF")
    if gain is None:
        raise InputError(
            f"{fits.source}: its uncertainty needs the gain in e-/ADU, and neither the frame nor its masters say it "
            "(EGAIN); write EGAIN into the header, or leave --uncertainty out"
        )
    zero = _dark_terms(masters)
    history = [f"uncertainty: gain {gain:.6g} e-/ADU"]
    unlit_adu2 = None
    read_noise_adu, read_noise_e = _first_number(of_masters, "RDNADU"), _first_number(headers, "RDNOISE")
    if read_noise_adu is None and read_noise_e is not None:
        read_noise_adu = read_noise_e / gain
    if read_noise_adu is not None:
        unlit_adu2 = read_noise_adu**2 + (ROUNDING_VARIANCE_ADU2 if fits.is_whole or fits.word_scale else 0.0)
        history.append(f"uncertainty: read noise {read_noise_adu:.6g} adu")
        if masters.bias is not None and not fits.metadata.bias_subtracted:
            zero = (masters.bias.term(),)
            history.append(f"uncertainty: photon noise counts from bias {masters.bias.name}")
    elif zero and all(term.spread is not None for term in zero):
        history.append("uncertainty: read noise and dark current from the scatter of the dark frames")
    else:
        raise InputError(
            f"{fits.source}: its uncertainty needs the read noise, and neither the frame nor its masters say it "
            "(RDNOISE, or the extension UNCERT of a master dark); write RDNOISE (e-) into the header"
        )
    exact = [master.name for master in masters.used if master.error is None]
    history += [f"uncertainty: {name} has none of its own and counts as exact" for name in exact]
    return FrameNoise(gain_e_per_adu=gain, unlit_variance_adu2=unlit_adu2, zero=zero), history


def _first_number(headers: Sequence[Header], *keywords: str) -> float | None:
    numbers = (header.number(*keywords, low=1e-6, high=1e6) for header in headers)
    return next((number for number in numbers if number is not None), None)


def _history(masters: FrameMasters, calibration: Calibration) -> list[str]:
    dark, flat = masters.chosen.dark, masters.flat
    lines = [f"ostcal {__version__}: calibrated, (science - dark) / flat in ADU"]
    lines.append(f"master dark: {dark.description}" if dark is not None else "dark: left out")
    if dark is not None and dark.scaled:
        lines.append("dark current was scaled to the exposure of this frame")
    lines.append(f"master flat: {flat.name}" if flat is not None else "flat: left out")
    if flat is not None and flat.scale != 1.0:
        lines.append(f"the flat was multiplied by {flat.scale:.8g}")
    if calibration.repair is not None:
        step = calibration.repair.step
        lines.append(f"hot and dead pixels: median of good neighbours at a distance of {step} pixel{'s'[: step - 1]}")
    return lines
