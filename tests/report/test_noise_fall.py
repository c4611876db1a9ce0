"""How the noise falls with the number of frames: measured on series whose noise is known, and shown on the page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.config import load_config, resolved_values
from ostcal.frames import FrameType
from ostcal.report.document import NoiseFall
from ostcal.report.noise_fall import noise_fall, target_share
from support.night import ostcal
from support.series_samples import new_series

SHAPE = (96, 400)


def write_series(path: Path, noise: list[float], kind: FrameType = FrameType.DARK, level: float = 1000.0) -> list[str]:
    """Write frames with a pattern, hot pixels and Gaussian noise of these sigmas; return their labels."""
    rng = np.random.default_rng(len(noise))
    pattern = level + rng.normal(0, 40, SHAPE)
    pattern[::7, ::11] += 5000
    frames = [np.rint(pattern + rng.normal(0, sigma, SHAPE)) for sigma in noise]
    new_series(path, np.clip(frames, 0, 65535).astype(np.uint16), frame_type=kind)
    return [f"{path}#{index}" for index in range(len(noise))]


def fall_of(labels: list[str], kind: FrameType = FrameType.DARK) -> NoiseFall:
    found = noise_fall(labels, kind, 0.1)
    assert found is not None
    return found


@pytest.mark.parametrize("n_frames", [4, 7, 16, 40])
def test_the_noise_of_darks_falls_with_the_square_root_of_their_number(tmp_path: Path, n_frames: int) -> None:
    fall = fall_of(write_series(tmp_path / "exp_5.000s.zarr", [8.0] * n_frames))
    sigma = math.sqrt(8.0**2 + 1 / 12)
    assert fall.frames[0] == 1
    assert fall.frames[-1] == n_frames - n_frames % 2
    assert list(fall.frames) == sorted(set(fall.frames))
    assert fall.single_frame == pytest.approx(sigma, rel=0.02)
    for count, noise in zip(fall.frames, fall.noise, strict=True):
        assert noise == pytest.approx(sigma / math.sqrt(count), rel=0.03)
    assert (fall.unit, fall.target_frames, fall.target_share) == ("ADU", n_frames, 0.1)


def test_noisier_frames_at_the_end_show_above_the_line(tmp_path: Path) -> None:
    fall = fall_of(write_series(tmp_path / "exp_5.000s.zarr", [5.0] * 16 + [30.0] * 16))
    expected = [fall.single_frame / math.sqrt(count) for count in fall.frames]
    assert fall.noise[4] is not None
    assert fall.noise[4] < 0.4 * expected[4]  # the first 16 are better than the mean of all
    assert fall.noise[-1] == pytest.approx(math.sqrt((25 + 900) / 2 / 32), rel=0.03)


def test_flats_are_divided_by_their_levels(tmp_path: Path) -> None:
    labels = write_series(tmp_path / "L_exp_1.000s.zarr", [100.0] * 8, FrameType.FLAT, level=20000.0)
    fall = fall_of(labels, FrameType.FLAT)
    assert fall.unit == "%"
    assert fall.noise[-1] == pytest.approx(100 * 100 / 20065 / math.sqrt(8), rel=0.03)


def test_series_that_are_gone_files_and_few_frames_show_nothing(tmp_path: Path) -> None:
    labels = write_series(tmp_path / "exp_5.000s.zarr", [8.0] * 5)
    assert noise_fall(labels[:3], FrameType.DARK, 0.1) is None
    assert noise_fall([*labels, "darks/dark_001.fits"], FrameType.DARK, 0.1) is None
    assert noise_fall([label.replace("5.000", "6.000") for label in labels], FrameType.DARK, 0.1) is None
    two = write_series(tmp_path / "exp_5.000s_20261122.zarr", [8.0] * 3)
    assert fall_of([*labels, *two]).frames == (1, 2, 4, 8)


def test_the_share_is_that_of_the_kind_where_its_number_is_automatic() -> None:
    sections: dict[str, Any] = {
        "dark_capture": {"num_darks": "auto", "target": {"noise_share": 0.05}},
        "flat_capture": {"num_flats": 20, "target": {"noise_share": 0.02}},
    }
    settings = resolved_values(load_config(sections))
    assert target_share(settings, FrameType.DARK) == target_share(settings, FrameType.BIAS) == 0.05
    assert target_share(settings, FrameType.FLAT) is None
    assert target_share({}, FrameType.DARK) is None


@pytest.mark.parametrize("number", ["auto", 12])
def test_the_page_and_its_numbers_show_it_where_the_number_was_automatic(tmp_path: Path, number: str | int) -> None:
    (tmp_path / "darks").mkdir()
    write_series(tmp_path / "darks" / "exp_5.000s.zarr", [8.0] * 12)
    config = {
        "dark_capture": {"num_darks": number, "output_dir": str(tmp_path / "darks")},
        "flat_capture": {"output_dir": str(tmp_path / "flats")},
        "master_frames": {"output_dir": str(tmp_path / "masters")},
        "compute": {"workers": 1},
    }
    path = tmp_path / "night.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    shown = ostcal("masters", "--config", path, "--no-confirm", "--json")
    report = json.loads(shown.stdout)["report"]
    (master,) = json.loads(Path(report["json"]).read_text(encoding="utf-8"))["masters"]
    page = Path(report["html"]).read_text(encoding="utf-8")
    if number == "auto":
        assert master["noise_fall"]["frames"] == [1, 2, 4, 8, 12]
        assert master["noise_fall"]["target_frames"] == 12
        assert "Noise by number of frames" in page
        assert re.search(r"marks 12 frames, at which\s+target\.noise_share \(10\s*% of the noise of a light\)", page)
    else:
        assert master["noise_fall"] is None
        assert "Noise by number of frames" not in page
