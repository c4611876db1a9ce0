"""Overscan as ccdproc subtracts and trims it: the same masters where both are defined alike."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support import night as n
from support.night import Night

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # remarks of packages on each other are theirs
    ccdproc = pytest.importorskip("ccdproc", reason="ccdproc is not installed (pip install ccdproc)")
    modeling = pytest.importorskip("astropy.modeling.models")

N_FRAMES = 7

LAYOUTS: dict[str, tuple[tuple[int, int], list[tuple[str, str]]]] = {
    "right, even": ((40, 96), [("[1:64,1:40]", "[65:96,1:40]")]),
    "right, odd": ((41, 78), [("[1:65,1:41]", "[66:78,1:41]")]),
    "left": ((40, 75), [("[12:75,1:40]", "[1:11,1:40]")]),
    "above": ((49, 64), [("[1:64,1:40]", "[1:64,41:49]")]),
    "below, odd": ((48, 63), [("[1:63,8:48]", "[1:63,1:7]")]),
    "two amplifiers, in the middle": (
        (40, 90),
        [("[1:35,1:40]", "[36:45,1:40]"), ("[56:90,1:40]", "[46:55,1:40]")],
    ),
    "four amplifiers, at the sides": (
        (44, 86),
        [
            ("[10:43,1:22]", "[1:9,1:22]"),
            ("[44:77,1:22]", "[78:86,1:22]"),
            ("[10:43,23:44]", "[1:9,23:44]"),
            ("[44:77,23:44]", "[78:86,23:44]"),
        ],
    ),
}


def frames_of(shape: tuple[int, int], n_amplifiers: int, seed: int) -> NDArray[np.uint16]:
    """Return frames of a level that drifts and bends along rows and columns."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    level = 1000 + 0.3 * y - 0.004 * (y - 20) ** 2 + 5 * np.sin(x / 11)
    if n_amplifiers > 1:
        level += 150 * (x > shape[1] / 2) + 70 * (y > shape[0] / 2)
    frames = [rng.normal(level + 13 * index, 4) for index in range(N_FRAMES)]
    return np.rint(np.stack(frames)).astype(np.uint16)


def cards_of(amplifiers: list[tuple[str, str]]) -> dict[str, str]:
    if len(amplifiers) == 1:
        return {"TRIMSEC": amplifiers[0][0], "BIASSEC": amplifiers[0][1]}
    cards = {}
    for name, (kept, overscan) in zip("ABCD", amplifiers, strict=False):
        cards |= {f"TRIMSEC{name}": kept, f"BIASSEC{name}": overscan}
    return cards


def theirs(stack: NDArray[Any], amplifiers: list[tuple[str, str]], **how: Any) -> NDArray[Any]:
    """Subtract, trim and average with ccdproc, and put the amplifiers together."""
    parts = {}
    for kept, overscan in amplifiers:
        (x1, x2), (y1, y2) = ([int(v) for v in axis.split(":")] for axis in kept.strip("[]").split(","))
        o_x, o_y = ([int(v) for v in axis.split(":")] for axis in overscan.strip("[]").split(","))
        # Beside the image: one level for each row, so the average runs along axis 1 of numpy.
        beside = o_x[1] < x1 or o_x[0] > x2
        rows, columns = (slice(y1 - 1, y2), slice(None)) if beside else (slice(None), slice(x1 - 1, x2))
        done = []
        for frame in stack:
            part = ccdproc.CCDData(frame[rows, columns].astype(float), unit="adu")
            strip = part[:, o_x[0] - 1 : o_x[1]] if beside else part[o_y[0] - 1 : o_y[1], :]
            subtracted = ccdproc.subtract_overscan(part, overscan=strip, overscan_axis=1 if beside else 0, **how)
            window = f"[{x1}:{x2},:]" if beside else f"[:,{y1}:{y2}]"
            done.append(ccdproc.trim_image(subtracted, fits_section=window))
        combiner = ccdproc.Combiner(done)
        parts[y1, x1] = np.asarray(combiner.average_combine().data)
    bottoms = sorted({y for y, _ in parts})
    return np.vstack([np.hstack([parts[key] for key in sorted(parts) if key[0] == y]) for y in bottoms])


def ours(folder: Path, stack: NDArray[Any], cards: dict[str, str], **overscan: Any) -> NDArray[Any]:
    night = Night(folder)
    n.write_frames(night.darks, stack, "Bias Frame", 0.0, **cards)
    keys = {"overscan": overscan} if overscan else {}
    return n.image_of(night.run_darks(quality_control=False, rejection_method="none", **keys), "bias")


HOW: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    "median of each line": ({}, {"median": True}, 1e-5),
    # Levels are steps of 1/256 ADU; means of other numbers of samples lie up to half a step beside them.
    "mean of each line": ({"level": "mean"}, {"median": False}, 1 / 512 + 1e-5),
    "polynomial of medians": (
        {"fit": "polynomial", "degree": 2},
        {"median": True, "model": modeling.Legendre1D(2)},
        1 / 512 + 1e-5,
    ),
    "line through means": (
        {"level": "mean", "fit": "polynomial", "degree": 1},
        {"median": False, "model": modeling.Legendre1D(1)},
        1 / 256 + 1e-5,
    ),
}


@pytest.mark.parametrize("how", sorted(HOW))
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_masters_are_those_of_ccdproc(tmp_path: Path, layout: str, how: str) -> None:
    shape, amplifiers = LAYOUTS[layout]
    overscan, arguments, tolerance_adu = HOW[how]
    stack = frames_of(shape, len(amplifiers), seed=len(layout))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their remarks on linear models
        expected = theirs(stack, amplifiers, **arguments)
    found = ours(tmp_path, stack, cards_of(amplifiers), **overscan)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance_adu)


@pytest.mark.parametrize("level", ["median", "mean"])
def test_strips_of_two_to_the_power_of_columns_are_equal_within_the_last_digit(tmp_path: Path, level: Any) -> None:
    stack = frames_of((40, 96), 1, seed=3)
    sections = [("[1:64,1:40]", "[65:96,1:40]")]
    expected = theirs(stack, sections, median=level == "median")
    found = ours(tmp_path, stack, cards_of(sections), level=level)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
