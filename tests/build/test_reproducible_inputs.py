"""Frames with overscan, of several images and of whole floats: the literal master, in every order and strip."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

import naive
from ostcal import MasterFrameCreator
from support import night as n
from support.mosaics import Image, hdu_of, write_mosaic
from support.night import Night

N_FRAMES = 7
SHAPE = (14, 23)
Part = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Rows and columns of the image and of the overscan of each amplifier, and the cards that say so."""

    shape: tuple[int, int]
    amplifiers: tuple[tuple[Part, Part | None], ...]
    cards: dict[str, str]


PLAIN = Layout(shape=SHAPE, amplifiers=((np.s_[0:14, 0:23], None),), cards={})
RIGHT = Layout(
    shape=(14, 30),
    amplifiers=((np.s_[0:14, 0:23], np.s_[0:14, 23:30]),),
    cards={"BIASSEC": "[24:30,*]", "TRIMSEC": "[1:23,*]"},
)
ABOVE = Layout(
    shape=(20, 23),
    amplifiers=((np.s_[0:14, 0:23], np.s_[14:20, 0:23]),),
    cards={"BIASSEC": "[*,15:20]", "TRIMSEC": "[*,1:14]"},
)
TWO = Layout(
    shape=(14, 31),
    amplifiers=((np.s_[0:14, 0:11], np.s_[0:14, 11:15]), (np.s_[0:14, 19:31], np.s_[0:14, 15:19])),
    cards={
        "BIASSECA": "[12:15,*]",
        "TRIMSECA": "[1:11,*]",
        "BIASSECB": "[16:19,*]",
        "TRIMSECB": "[20:31,*]",
    },
)
KINDS: dict[str, tuple[tuple[Layout, ...], str]] = {
    "overscan": ((RIGHT,), "uint16"),
    "overscan above": ((ABOVE,), "uint16"),
    "two amplifiers": ((TWO,), "uint16"),
    "extensions": ((PLAIN, RIGHT, TWO), "uint16"),
    "whole floats": ((PLAIN,), "float32"),
    "whole floats with overscan": ((RIGHT,), "float32"),
}
LEVELS = {"Bias Frame": (0.0, 0), "Dark Frame": (5.0, 12), "Flat Frame": (5.0, 9000)}


def raw(layout: Layout, signal: float, seed: int) -> NDArray[Any]:
    """Return frames of one kind; each row, column, amplifier and frame has its own level."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(1000, 4, (N_FRAMES, *layout.shape))
    frames += 9 * np.arange(N_FRAMES)[:, None, None] + rng.normal(0, 3, (N_FRAMES, layout.shape[0], 1))
    for place, (image, _) in enumerate(layout.amplifiers):
        frames[(slice(None), *image)] += signal * (1 + 0.1 * place) + 20 * place
    frames[1, 3, 5] += 400  # a cosmic ray
    return np.clip(np.rint(frames), 0, 65535)


def write(night: Night, kind: str) -> dict[str, list[NDArray[Any]]]:
    """Write the frames of all kinds; return the samples of the images of each."""
    layouts, dtype = KINDS[kind]
    written = {}
    for place, (frame_kind, (exposure_s, signal)) in enumerate(LEVELS.items()):
        stacks = [raw(layout, signal, 10 * place + k) for k, layout in enumerate(layouts)]
        folder = night.flats if frame_kind == "Flat Frame" else night.darks
        if len(layouts) == 1:
            n.write_frames(folder, stacks[0].astype(dtype), frame_kind, exposure_s, **layouts[0].cards)
        else:
            for index in range(N_FRAMES):
                hdus = [
                    hdu_of(Image(f"im{k}", 0, cards=layout.cards), stack[index].astype(dtype))
                    for k, (layout, stack) in enumerate(zip(layouts, stacks, strict=True))
                ]
                stamp = f"2026-11-21T{18 + place}:00:{index:02d}"
                path = folder / f"{frame_kind.split()[0]}_{index}.fits"
                write_mosaic(path, hdus, IMAGETYP=frame_kind, EXPTIME=exposure_s, DATE_OBS=stamp)
        written[frame_kind] = stacks
    return written


def literal(stack: NDArray[Any], layout: Layout, combine: Callable[[list[Any]], naive.PixelResult]) -> NDArray[Any]:
    """Subtract medians and combine pixel by pixel, in fractions."""
    parts = []
    for image, overscan in layout.amplifiers:
        kept = stack[(slice(None), *image)]
        values = [[[Fraction(int(v)) for v in row] for row in frame] for frame in kept]
        if overscan is not None:
            strip = stack[(slice(None), *overscan)]
            beside = strip.shape[1] == kept.shape[1]
            medians = np.median(strip, axis=2 if beside else 1)
            for i, frame in enumerate(values):
                for y, row in enumerate(frame):
                    frame[y] = [v - Fraction(float(medians[i, y if beside else x])) for x, v in enumerate(row)]
        rows, columns = kept.shape[1:]
        pixels = [[combine([frame[y][x] for frame in values]).mean for x in range(columns)] for y in range(rows)]
        parts.append(np.array([[np.float32(float(value)) for value in row] for row in pixels]))
    return np.hstack(parts)


def images_of(path: str | Path) -> list[NDArray[Any]]:
    with fits.open(path, memmap=False) as hdus:
        return [np.array(hdu.data) for hdu in hdus if hdu.data is not None]


def bits_of(status: Any) -> dict[str, list[bytes]]:
    assert not status.is_error, status.message
    files = [path for paths in status.data.values() for path in paths]
    return {
        re.sub(r"_\d{8}_\d{6}\.fits$", "", Path(path).name): [image.tobytes() for image in images_of(path)]
        for path in files
    }


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("method", ["minmax", "median", "none"])
def test_masters_are_the_literal_result(tmp_path: Path, kind: str, method: str) -> None:
    night = Night(tmp_path)
    written = write(night, kind)
    rules = {"minmax": naive.minmax, "median": naive.median, "none": naive.no_rejection}
    status = night.run_darks(quality_control=False, rejection_method=method)
    found = images_of(n.one_file(status, "bias"))
    assert len(found) == len(KINDS[kind][0])
    for image, stack, layout in zip(found, written["Bias Frame"], KINDS[kind][0], strict=True):
        np.testing.assert_array_equal(image, literal(stack, layout, rules[method]))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_order_strips_workers_and_scheduler_change_no_bit(tmp_path: Path, kind: str) -> None:
    night = Night(tmp_path)
    write(night, kind)
    before = bits_of(night.run(extensions=True, quality_control=False))
    assert len(before) == 3
    for strip_rows, compute in ((1, {"workers": 3}), (5, {"workers": 1}), (1000, {"scheduler": "processes"})):
        config = night.config(extensions=True, quality_control=False, compute=compute)
        again = MasterFrameCreator(config | {"storage": {"strip_rows": strip_rows}}).create_all_master_frames()
        assert bits_of(again) == before
    rng = np.random.default_rng(5)
    for folder in (night.darks, night.flats):
        for first in ("bias", "dark", "flat"):
            paths = sorted(path for path in folder.glob("*.fits") if path.name.lower().startswith(first))
            stamps = [fits.getval(path, "DATE-OBS") for path in paths]
            for index, (path, stamp) in enumerate(zip(paths, rng.permutation(stamps), strict=True)):
                fits.setval(path, "DATE-OBS", value=str(stamp))  # frames are sorted by date, then by name
                path.rename(path.with_name(f"{first}_{rng.integers(1 << 40)}_{index}.fits"))
    assert bits_of(night.run(extensions=True, quality_control=False)) == before
