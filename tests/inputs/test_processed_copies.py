"""Copies of raw frames that another program changed are recognised by their noise; other frames never are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.inputs.gather import gather_inputs
from ostcal.inputs.processed_copies import without_processed_copies
from support.fits_samples import write_frame

SHAPE = (120, 160)
Image = NDArray[Any]


def raw_flats(
    n: int, *, seed: int, response: float = 0.01, level: float = 7000, shape: tuple[int, int] = SHAPE
) -> Image:
    """Give flats with vignetting and a response of each pixel that all share."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, shape[1])
    light = level * (1 - 0.3 * x**2) * (1 + response * np.random.default_rng(99).normal(size=shape))
    return np.rint(rng.poisson(np.broadcast_to(light, (n, *shape))) + 300 + rng.normal(0, 3, (n, *shape))).astype(
        np.uint16
    )


def write(
    folder: Path, frames: Image, stem: str = "flat", kind: str = "flat", exposure_s: float = 30.0, **cards: Any
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_frame(folder / f"{stem}_{i:02d}.fits", frame, IMAGETYP=kind, EXPTIME=exposure_s, **cards)
        for i, frame in enumerate(frames)
    ]


def kept(folder: Path) -> tuple[set[str], list[str]]:
    """Give the names of the folders and files that are used, and what is said of the others."""
    sources = gather_inputs([str(folder)], exclude=str(folder / "masters")).sources
    lines: list[str] = []
    used = without_processed_copies(sources, lines)
    return {str(Path(label).relative_to(folder)) for label in used}, lines


FLAT = 1 - 0.3 * np.linspace(-1, 1, SHAPE[1]) ** 2
BIAS = np.random.default_rng(5).normal(300, 1, SHAPE)

PROCESSED: dict[str, Callable[[Image], Image]] = {
    "a level subtracted": lambda raw: raw.astype("f8") - 300.2,
    "a bias subtracted": lambda raw: (raw - BIAS).astype("f4"),
    "a bias subtracted, whole": lambda raw: np.clip(np.rint(raw - BIAS), 0, 65535).astype(np.uint16),
    "normalised": lambda raw: (raw / raw.mean(axis=(1, 2), keepdims=True)).astype("f4"),
    "divided by a flat": lambda raw: ((raw - 300) / FLAT).astype("f4"),
    "floats from 0 to 1": lambda raw: (raw / 65535).astype("f4"),
    "nearly the same in floats": lambda raw: raw.astype("f4") * np.float32(1.0001),
    "trimmed": lambda raw: raw[:, 7:111, 12:150],
    "trimmed and bias-subtracted": lambda raw: (raw - BIAS)[:, :, 32:].astype("f4"),
    "levels of rows subtracted": lambda raw: raw - 300 - np.random.default_rng(1).normal(0, 9, (*raw.shape[:2], 1)),
    "divided by the exposure": lambda raw: (raw - 300) / 30,
    "upside down": lambda raw: raw[:, ::-1].astype("f4"),
    "mirrored": lambda raw: raw[:, :, ::-1],
    "turned by half": lambda raw: (raw - BIAS)[:, ::-1, ::-1].astype("f4"),
    "turned by a quarter": lambda raw: np.rot90(raw - 300, axes=(1, 2)).astype("f8"),
    "turned and trimmed": lambda raw: raw[:, ::-1][:, 5:115, 9:].astype("f4"),
    "binned": lambda raw: raw.reshape(-1, 60, 2, 80, 2).mean(axis=(2, 4)).astype("f4"),
    "binned by three": lambda raw: raw[:, :, :159].reshape(-1, 40, 3, 53, 3).sum(axis=(2, 4)).astype("f4"),
}


@pytest.mark.parametrize("how", PROCESSED)
@pytest.mark.parametrize("n", [3, 12])
def test_processed_copies_are_left_out_by_name(tmp_path: Path, how: str, n: int) -> None:
    raw = raw_flats(n, seed=1)
    write(tmp_path / "raw", raw)
    write(tmp_path / "reduced", PROCESSED[how](raw), stem="flat_b")
    names, lines = kept(tmp_path)
    assert names == {f"raw/flat_{i:02d}.fits" for i in range(n)}
    (line,) = lines
    assert str(tmp_path / "reduced" / "flat_b_00.fits") in line
    assert f"flat_b_{n - 1:02d}.fits" in line
    assert str(tmp_path / "raw" / "flat_00.fits") in line


def test_copies_beside_the_raw_frames_in_one_folder_are_left_out(tmp_path: Path) -> None:
    raw = raw_flats(8, seed=2)
    write(tmp_path, raw)
    write(tmp_path, raw[2:4].astype("f4") - 300, stem="flat_sub")
    names, lines = kept(tmp_path)
    assert names == {f"flat_{i:02d}.fits" for i in range(8)}
    assert len(lines) == 1


def test_copies_without_their_raw_frames_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "raw", raw_flats(5, seed=1))
    write(tmp_path / "reduced", raw_flats(5, seed=2).astype("f4") - 300)
    names, lines = kept(tmp_path)
    assert len(names) == 10
    assert lines == []


@pytest.mark.parametrize("response", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_frames_of_one_sensor_are_no_copies(tmp_path: Path, response: float, n: int) -> None:
    """The response of the pixels is the same in all flats, and 0.1 is eight times their noise."""
    frames = raw_flats(2 * n, seed=3, response=response)
    write(tmp_path / "a", frames[:n])
    write(tmp_path / "b", frames[n:].astype("f4"))
    names, lines = kept(tmp_path)
    assert len(names) == 2 * n
    assert lines == []


def test_hot_pixels_and_changing_columns_make_no_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    hot = np.where(rng.random(SHAPE) < 0.02, rng.exponential(2000, SHAPE), 0)
    columns = 40 * rng.normal(size=SHAPE[1])
    darks = 500 + hot + rng.normal(0, 5, (12, *SHAPE)) + np.where(np.arange(12) % 2, 1, 0)[:, None, None] * columns
    write(tmp_path, np.clip(np.rint(darks), 0, 65535).astype(np.uint16), kind="dark", stem="dark")
    names, lines = kept(tmp_path)
    assert len(names) == 12
    assert lines == []


def test_frames_of_another_filter_are_kept(tmp_path: Path) -> None:
    raw = raw_flats(5, seed=6)
    write(tmp_path / "a", raw, FILTER="R")
    write(tmp_path / "b", raw.astype("f4") - 300, FILTER="V")
    write(tmp_path / "d", raw.astype("f4") - 200, FILTER="R", GAIN=7)
    write(tmp_path / "a" / "gain", raw.astype("f4") - 100, FILTER="R", GAIN=9)
    names, _ = kept(tmp_path)
    assert sum(name.startswith(("a/flat", "b/")) for name in names) == 10


def test_frames_that_were_divided_by_their_exposure_say_another_one(tmp_path: Path) -> None:
    raw = raw_flats(5, seed=6)
    write(tmp_path / "raw", raw)
    write(tmp_path / "other", raw_flats(5, seed=7), exposure_s=2.0)
    write(tmp_path / "rates", (raw - 300) / 30, exposure_s=1.0)
    names, lines = kept(tmp_path)
    assert len(names) == 10
    assert not any(name.startswith("rates") for name in names)
    assert len(lines) == 1


def test_binned_copies_may_say_their_binning(tmp_path: Path) -> None:
    raw = raw_flats(5, seed=8)
    write(tmp_path / "raw", raw)
    write(tmp_path / "small", PROCESSED["binned"](raw), XBINNING=2, YBINNING=2)
    assert len(kept(tmp_path)[0]) == 5


def test_a_start_that_another_program_changed_hides_no_copy(tmp_path: Path) -> None:
    for i, frame in enumerate(raw_flats(6, seed=9)):
        write(tmp_path / "raw", frame[None], stem=f"a{i}", DATE_OBS=f"2026-01-10T19:00:{i:02d}")
        write(tmp_path / "local", frame[None] - 300.5, stem=f"b{i}", DATE_OBS=f"2026-01-10T12:00:{i:02d}")
    names, _ = kept(tmp_path)
    assert {name.split("/")[0] for name in names} == {"raw"}
    assert len(names) == 6


def test_equal_noise_of_another_night_is_another_exposure(tmp_path: Path) -> None:
    for i, frame in enumerate(raw_flats(6, seed=9)):
        write(tmp_path / "a", frame[None], stem=f"a{i}", DATE_OBS=f"2026-01-10T19:00:{i:02d}")
        write(tmp_path / "b", frame[None] + 10, stem=f"b{i}", DATE_OBS=f"2026-01-10T22:00:{i:02d}")
        write(tmp_path / "c", frame[None] + 0.5, stem=f"c{i}", DATE_OBS=f"2026-01-11T19:00:{i:02d}")
    assert len(kept(tmp_path)[0]) == 18


def test_copies_of_copies_are_those_of_the_raw_frame(tmp_path: Path) -> None:
    raw = raw_flats(5, seed=10)
    write(tmp_path / "raw", raw)
    write(tmp_path / "b", raw - 300.5)
    write(tmp_path / "n", (raw - 300.5) / 7000)
    names, lines = kept(tmp_path)
    assert len(names) == 5
    assert [line.count(str(tmp_path / "raw" / "flat_00.fits")) for line in lines] == [1, 1]


def test_a_pattern_that_two_frames_alone_show_makes_no_copy(tmp_path: Path) -> None:
    """Two darks of ten are warm: their hot pixels correlate by 0.99; two flats have a pattern of their own."""
    rng = np.random.default_rng(11)
    hot = rng.exponential(1, SHAPE) ** 3 * 20
    warmth = np.where(np.arange(10) < 2, 3, 0.05)[:, None, None]
    darks = np.rint(300 + rng.poisson(hot * warmth) + rng.normal(0, 3, (10, *SHAPE))).astype(np.uint16)
    write(tmp_path / "darks", darks, kind="dark", stem="dark")
    write(tmp_path / "a", raw_flats(6, seed=12))
    dusty = raw_flats(2, seed=13) * (1 + 0.03 * rng.normal(size=SHAPE))
    write(tmp_path / "b", np.rint(dusty[:1]).astype(np.uint16))
    write(tmp_path / "c", np.rint(dusty[1:]).astype(np.uint16))
    names, lines = kept(tmp_path)
    assert len(names) == 18
    assert lines == []


@pytest.mark.parametrize("dated", [True, False])
def test_one_program_s_frames_of_different_times_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, dated: bool
) -> None:
    """The files are gone when copies are looked for: reading one would be said in the log of debugging."""
    for i, frame in enumerate(raw_flats(6, seed=14)):
        date = {"DATE_OBS": f"2026-01-10T19:{i:02d}:00"} if dated else {}
        write(tmp_path, frame[None], stem=f"a{i}", **date)
    sources = gather_inputs([str(tmp_path)], exclude=str(tmp_path / "masters")).sources
    for path in tmp_path.glob("*.fits"):
        path.unlink()
    caplog.set_level(logging.DEBUG, "ostcal")
    assert without_processed_copies(sources, []) == sources
    assert ("is not compared with others" in caplog.text) is not dated


def test_constant_and_empty_frames_are_kept(tmp_path: Path) -> None:
    write(tmp_path, np.full((4, *SHAPE), 500, np.uint16), kind="bias")
    write(tmp_path / "nan", np.full((4, *SHAPE), np.nan, np.float32), kind="bias")
    write(tmp_path / "tiny", np.arange(24, dtype=np.uint16).reshape(6, 2, 2), kind="bias")
    names, lines = kept(tmp_path)
    assert any(name.startswith("nan") for name in names)
    assert lines == []
