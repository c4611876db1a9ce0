"""Masters opened for calibration: image, errors, scatter, flags and header of each, checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.calibrate_rows import Term, usable_flat
from ostcal.engine.levels import PlaneReader
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.library.beside import MasterPlanes, planes_of
from ostcal.library.find import LibraryMaster
from ostcal.library.quality_notes import repeated_warnings
from ostcal.measure.estimators import chi_square_quantile
from ostcal.science.synthetic_dark import PRIOR_SAMPLES

UNUSABLE_SHARE = 0.01
"""A flat with more pixels than this at zero, below, or not finite is refused: dead pixels and a dead column or two
are far fewer, an unfinished or wrong file has far more."""

STRIP_PIXELS = 500_000
"""36 MB for a worker; larger strips are not faster."""
LARGEST_STRIP_PIXELS = 1_500_000
"""Strips are whole chunks of the stored masters up to here; parts of larger chunks are unpacked more than once."""

SAMPLED_ROWS = 32
"""Rows of a dark that are read for what is typical of it."""

LEAST_ADU_SCALE = 1.0
"""Bias and darks whose highest value is not above this are on a scale from 0 to 1, not in ADU."""


@dataclass(frozen=True, kw_only=True)
class SteadySpread:
    """Scatter of few samples, drawn towards the typical one of the master, ADU; implements `PlaneReader`.

    The variance of five samples alone is off by 70 %, and is zero if they are equal by chance.
    """

    plane: PlaneReader
    typical_adu2: float
    freedom: int
    """Degrees of freedom of a pixel's own variance."""

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``, (stop - start, width)."""
        variance = np.square(self.plane.read_rows(start, stop))
        variance *= np.float32(self.freedom)
        variance += np.float32(PRIOR_SAMPLES * self.typical_adu2)
        variance /= np.float32(self.freedom + PRIOR_SAMPLES)
        spread: NDArray[np.float32] = np.sqrt(variance)
        return spread


@dataclass(frozen=True, kw_only=True)
class OpenedMaster(MasterPlanes):
    """A master with its header and the planes that it has, whose values were looked at."""

    name: str
    scale: float = 1.0
    """What its pixels are multiplied by: flats of other programs are brought to a mean of 1."""
    warnings: tuple[str, ...] = ()

    def term(self, weight: float = 1.0) -> Term:
        """Return its part in the arithmetic."""
        return Term(plane=self.plane, weight=weight * self.scale, error=self.error, spread=self.spread)


def open_master(master: LibraryMaster) -> OpenedMaster:
    """Open a master: find its header and the planes beside its image, and check that its values can be used.

    What its quality control warned of is among its warnings.

    Raises
    ------
    OstcalError
        If it cannot be read, or its values cannot be used.
    """
    key, planes = master.key, planes_of(master)
    opened = OpenedMaster(**vars(planes), name=master.record.name, warnings=tuple(repeated_warnings(master)))
    if key.frame_type is FrameType.FLAT:
        return checked_flat(opened, key.height, key.width)
    return checked_dark(opened, key.height)


def checked_flat(opened: OpenedMaster, height: int, width: int) -> OpenedMaster:
    """Read a flat once: bring it to a mean of 1 if another program made it, and warn of its unusable pixels.

    Raises
    ------
    InputError
        If more than `UNUSABLE_SHARE` of its pixels are zero, negative or not finite.
    """
    total, usable = 0.0, 0
    rows = rows_of_strip(width, opened.chunk_rows)
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
    if not opened.is_normalised:
        scale = usable / total
        warnings.append(f"flat {opened.name}: was made by another program and is divided by its mean {1 / scale:.6g}")
    return replace(opened, scale=scale, warnings=tuple(warnings))


def checked_dark(opened: OpenedMaster, height: int) -> OpenedMaster:
    """Check in some rows of a bias or dark that it is in ADU, and measure its typical noise.

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


def rows_of_strip(width: int, chunk_rows: int) -> int:
    """Return the height of the strips that planes of some width are read in: whole chunks where they are not huge."""
    rows = max(16, STRIP_PIXELS // width, chunk_rows) // chunk_rows * chunk_rows
    while rows > 16 and rows * width > LARGEST_STRIP_PIXELS:
        rows = -(-rows // 2)
    return rows
