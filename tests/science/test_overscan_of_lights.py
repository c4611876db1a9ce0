"""Masters whose overscan was subtracted, and lights of which nothing says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal import CalibrationApplier
from support import night as n
from support.night import Night

HEIGHT, WIDTH, COLUMNS = 40, 70, 10
CARDS = {"BIASSEC": "[71:80,1:40]", "TRIMSEC": "[1:70,1:40]"}
SAID = "nothing says so of this frame"


def frames(signal_adu: float, n_frames: int, seed: int) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    image = rng.normal(1000, 3, (n_frames, HEIGHT, WIDTH + COLUMNS))
    image[:, :, :WIDTH] += rng.poisson(signal_adu, (n_frames, HEIGHT, WIDTH))
    return np.rint(image).astype(np.uint16)


def night_with_darks(root: Path, **cards: Any) -> Night:
    night = Night(root)
    n.write_frames(night.darks, frames(2, 5, seed=1) if cards else frames(2, 5, 1)[:, :, :WIDTH], "Dark", 10.0, **cards)
    assert not night.run().is_error
    return night


def calibrate(night: Night, light: NDArray[Any], **cards: Any) -> None:
    (path,) = n.write_frames(night.root / "lights", light, "Light", 10.0, **cards)
    done = CalibrationApplier(night.config()).calibrate_files([path], night.root / "done", flat="none")
    assert not done.is_error, done


def test_a_light_that_was_cut_without_a_card_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    night = night_with_darks(tmp_path, **CARDS)
    calibrate(night, frames(300, 1, seed=2)[:, :, :WIDTH])
    (line,) = (line for line in caplog.messages if SAID in line)
    assert "light_000.fits" in line
    assert "master_dark" in line
    assert "master_frames.overscan" in line


@pytest.mark.parametrize(
    "done", [{"CALSTAT": "OT"}, {"OVERSCAN": "Overscan section is [71:80,1:40]"}, {"SUBOVER": True}]
)
def test_a_light_that_says_so_is_not_named(
    tmp_path: Path, done: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    night = night_with_darks(tmp_path, **CARDS)
    calibrate(night, (frames(300, 1, seed=2) - 950)[:, :, :WIDTH], **done)
    assert not any(SAID in line for line in caplog.messages)


def test_a_light_with_its_overscan_is_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibrate(night_with_darks(tmp_path, **CARDS), frames(300, 1, seed=2), **CARDS)
    assert not any(SAID in line for line in caplog.messages)


def test_frames_without_overscan_are_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibrate(night_with_darks(tmp_path), frames(300, 1, seed=2)[:, :, :WIDTH])
    assert not any(SAID in line for line in caplog.messages)
