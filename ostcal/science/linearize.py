"""Science frames and flats brought to what they would be if levels grew in proportion with the light.

The response was measured on a ladder of flats and stands in the headers of the masters of that run (LINC1, LINHIGH).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ostcal.engine.calibrate_rows import Term
from ostcal.engine.levels import PlaneReader, colour_planes
from ostcal.errors import InputError
from ostcal.fits.cards import Header
from ostcal.fits.read import FitsFrame
from ostcal.inputs.grouping import GroupKey, settings_differ
from ostcal.library.beside import header_of
from ostcal.library.find import LibraryMaster
from ostcal.library.master_header import Card, linearity_of
from ostcal.response import LinearityCurve
from ostcal.science.opened_masters import OpenedMaster

BEYOND_SHARE = 0.001
"""A frame with more of its pixels above the levels of the response, but not saturated, is refused."""
_ROWS_AT_ONCE = 256
_DONE = ("LINCORR", "LINEARTY", "LINEARIZ", "NONLIN")
"""Cards in which programs say that a frame was linearized already."""
_YES = frozenset({"T", "TRUE", "YES", "DONE", "COMPLETE", "1"})


@dataclass(frozen=True, kw_only=True)
class LinearFlat:
    """A master flat as it would be of a sensor of linear response; implements `PlaneReader`."""

    plane: PlaneReader
    response: LinearityCurve
    levels_adu: tuple[tuple[float, float], tuple[float, float]]
    """What became 1, ADU above the dark, for the 2 x 2 cell of colours; all the same without colours."""

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``, (stop - start, width)."""
        rows = self.plane.read_rows(start, stop).astype(np.float64)
        for row in (0, 1):
            for column in (0, 1):
                pixels = rows[(row - start) % 2 :: 2, column::2]
                level = self.levels_adu[row][column]
                one = float(self.response.true_signal(np.array([level]))[0])
                pixels[...] = self.response.true_signal(pixels * level) / one
        return rows.astype(np.float32)


def stored_response(key: GroupKey, masters: Iterable[LibraryMaster]) -> LinearityCurve | None:
    """Return the response of a camera from the first master of its settings that has one."""
    for master in masters:
        other = master.key
        if (other.width, other.height) != (key.width, key.height) or settings_differ(other.settings, key.settings):
            continue
        response = linearity_of(header_of(master))
        if response is not None:
            return response
    return None


def refuse_done(frame: FitsFrame) -> None:
    """Refuse a frame that another program linearized already.

    Raises
    ------
    InputError
        If its header says so.
    """
    header = Header(frame.cards)
    for card in _DONE:
        if (header.text(card) or "").strip().upper() in _YES or header.value(card) is True:
            raise InputError(f"--linearize: {card} says that it was linearized already; leave --linearize out")


def refuse_not_covered(science: PlaneReader, height: int, response: LinearityCurve, saturation_adu: float) -> None:
    """Refuse a frame of which many pixels are brighter than the flats that showed the response.

    Raises
    ------
    InputError
        If more than `BEYOND_SHARE` of them are, and not saturated.
    """
    beyond = total = 0
    for start in range(0, height, _ROWS_AT_ONCE):
        rows = science.read_rows(start, min(start + _ROWS_AT_ONCE, height))
        beyond += int(np.count_nonzero((rows > response.highest_level_adu) & (rows < saturation_adu)))
        total += rows.size
    if beyond > BEYOND_SHARE * total:
        raise InputError(
            f"--linearize: {100 * beyond / total:.2g} % of its pixels are above {response.highest_level_adu:.5g} ADU, "
            f"up to which the response is known (limit {100 * BEYOND_SHARE:g} %); take a ladder of brighter flats, or "
            "leave --linearize out"
        )


def linear_flat(flat: OpenedMaster, response: LinearityCurve) -> Term:
    """Return a master flat as a term, linearized with the level that it was made at.

    Raises
    ------
    InputError
        If its header does not say the level (NORMLV), or the response is not known up to it.
    """
    pattern = flat.header.text("BAYERPAT")
    levels = [[0.0, 0.0], [0.0, 0.0]]
    for colour, offsets in colour_planes(pattern).items():
        level = flat.header.number(f"NORMLV{colour}"[:8], low=1e-9)
        if level is None:
            raise InputError(
                f"--linearize: flat {flat.name} does not say at which level it was made (NORMLV{colour}); make it "
                "again, or leave --linearize out"
            )
        for row, column in offsets or [(row, column) for row in (0, 1) for column in (0, 1)]:
            levels[row][column] = level
    highest = max(map(max, levels))
    if highest > response.high_adu:
        raise InputError(
            f"--linearize: flat {flat.name} was made at {highest:.5g} ADU, and the response is known up to "
            f"{response.high_adu:.5g} ADU; take a ladder of brighter flats, or leave --linearize out"
        )
    plane = LinearFlat(
        plane=flat.plane, response=response, levels_adu=((levels[0][0], levels[0][1]), (levels[1][0], levels[1][1]))
    )
    return replace(flat.term(), plane=plane)


def linearity_cards(response: LinearityCurve) -> list[Card]:
    """Return what the header of a linearized frame says."""
    return [
        ("LINCORR", True, "levels are linearized with a measured response"),
        ("LINHIGH", float(f"{response.high_adu:.8g}"), "[adu] signal up to which the response is known"),
        ("LINERR", float(f"{response.uncertainty_percent:.3g}"), "[%] standard deviation of the response"),
    ]


def linearity_history(response: LinearityCurve) -> str:
    """Return the line of HISTORY of a linearized frame."""
    terms = " ".join(f"{value:+.6g} x^{power}" for power, value in enumerate(response.coefficients, 1))
    zero, high = f"{response.zero_adu:.6g}", f"{response.high_adu:.6g}"
    return f"linearized, flat too: s (1 {terms}), s level above {zero} adu, x = s / {high}"


def no_response(key: GroupKey) -> InputError:
    """Say that no response is known of a camera."""
    return InputError(
        f"--linearize: no master of {key.settings.camera_label or 'this camera'} at these settings has a response "
        "(LINC1); `ostcal masters` measures it where there are flats of five exposures of a steady lamp and more, from "
        "a quarter of the brightest level down; leave --linearize out, or take them"
    )
