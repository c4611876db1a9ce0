"""What was asked for and not made ends with 1 and one line that says why; warnings are said once, with what helps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ostcal.inputs.remarks import folded_lines
from support import night as n
from support.fits_samples import frame_values, write_frame
from support.night import Night


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.chdir(tmp_path)
    return Night(tmp_path)


def masters(*words: str | Path) -> n.Outcome:
    return n.ostcal("masters", *words, "--no-confirm")


# ---- nothing to work on ----


def test_a_folder_without_frames_leaves_nothing_behind(night: Night) -> None:
    Path("notes").mkdir()
    Path("notes/read.txt").touch()
    outcome = masters("notes")
    assert outcome.exit_code == 1
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: No input files found in notes; looked in")
    assert sorted(path.name for path in night.root.iterdir()) == ["notes"]
    document = json.loads(n.ostcal("masters", "notes", "--json").stdout)
    assert (document["exit_code"], document["log_file"]) == (1, None)


def test_a_log_is_kept_where_the_directory_was_there(night: Night) -> None:
    Path("notes").mkdir()
    Path("master_frames").mkdir()
    assert "log: master_frames" in masters("notes").stderr


@pytest.mark.parametrize("name", ["image_{}.xisf", "IMG_{}.CR2", "dark_{}.fits"])
def test_files_that_cannot_be_read_are_one_line_and_an_error(night: Night, name: str) -> None:
    Path("frames").mkdir()
    for number in range(60):
        Path("frames", name.format(number)).write_bytes(b"no image" * 500)
    outcome = masters("frames")
    assert outcome.exit_code == 1
    warning, error = outcome.stderr.splitlines()
    assert name.format(0) in warning
    assert warning.endswith("and 54 more")
    assert error.endswith("frames: none of the files there can be used")
    assert not Path("master_frames").exists()


def test_lights_alone_are_an_error_that_says_what_to_name(night: Night) -> None:
    n.write_frames(night.root / "lights", n.dark_frames(5.0, 2), "Light Frame", 5.0)
    outcome = masters("lights")
    assert outcome.exit_code == 1
    (line,) = outcome.stderr.splitlines()
    assert "all 2 frames there are lights; name the folders of bias frames, darks and flats" in line


# ---- kinds that were asked for ----


def test_kinds_of_the_defaults_that_have_no_frame_are_no_error(night: Night) -> None:
    n.write_darks(night, 5.0)
    assert masters("darks").exit_code == 0


@pytest.mark.parametrize("kind", ["flat", "bias"])
def test_a_kind_that_is_asked_for_and_has_no_frame_ends_with_1(night: Night, kind: str) -> None:
    n.write_darks(night, 5.0)
    key = {"flat": "create_master_flats", "bias": "create_master_bias"}[kind]
    outcome = masters("darks", "--set", f"master_frames.{key}=true")
    assert outcome.exit_code == 1
    line = f"no {kind} frames in darks: no master {kind} is made; take more, or set master_frames.{key} to false"
    assert outcome.stderr.count(line) == 1
    assert f"error: {line}" in outcome.stderr
    assert len(list(Path("master_frames").glob("*.fits"))) == 1  # the dark is made all the same


def test_a_kind_of_which_there_are_too_few_is_told_apart(night: Night) -> None:
    n.write_darks(night, 5.0)
    n.write_flats(night, 2.0, n.flat_frames(2.0, (20000, 20100)))
    outcome = masters("darks", "flats", "--set", "master_frames.create_master_flats=true")
    assert outcome.exit_code == 1
    assert "no group of flat frames in darks, flats is large enough: no master flat is made" in outcome.stderr


# ---- warnings ----


def test_files_of_an_unknown_kind_are_one_line(night: Night) -> None:
    n.write_darks(night, 5.0)
    Path("other").mkdir()
    for number in range(60):
        write_frame(Path("other", f"x{number:02d}.fits"), frame_values(seed=number), EXPTIME=5.0, INSTRUME="Other")
    outcome = masters("darks", "other")
    assert outcome.exit_code == 0
    (line,) = [line for line in outcome.stderr.splitlines() if "other/" in line]
    assert line.startswith("warning: other/x00.fits: left out, its kind is not known")
    assert line.endswith("; the same of x01.fits, x02.fits, x03.fits, x04.fits, x05.fits and 54 more")
    (log,) = night.root.rglob("*.log")
    (names,) = [each for each in log.read_text().splitlines() if "x58.fits" in each]
    assert all(f"x{number:02d}.fits" in names for number in range(60))


def test_a_driver_that_writes_one_set_point_does_not_make_frames_leave(night: Night) -> None:
    for index in range(8):
        temperatures = {"SET_TEMP": 0.0, "CCD_TEMP": -10 + 0.05 * index}
        n.write_frames(night.darks, n.samples(1, 1000, seed=index), "Dark", 60.0, stem=f"dark_{index}", **temperatures)
    outcome = masters("darks")
    (line,) = [line for line in outcome.stderr.splitlines() if "set point" in line]
    assert "at -9.8 C in all 8 frames" in line
    assert "the driver of the camera always writes this one" in line
    assert "nothing is to be done" in line
    assert "exclude" not in line


def test_what_most_frames_have_is_not_to_be_left_out(night: Night) -> None:
    rng = np.random.default_rng(3)
    dim = [np.rint(rng.normal(1300, 15, n.SHAPE)).astype(np.uint16) for _ in range(5)]
    n.write_bias(night)
    n.write_frames(night.flats, np.array(dim), "Flat Field", 2.0)
    outcome = masters("darks", "flats")
    (line,) = [line for line in outcome.stderr.splitlines() if "flat level" in line]
    assert "change the exposure time or the lamp" in line
    assert "exclude" not in line


def test_lines_that_are_alike_are_folded() -> None:
    alike = [f"a/{number}.fits: is no FITS file; leave it out" for number in range(60)]
    assert folded_lines(alike) == [f"{alike[0]}; the same of 1.fits, 2.fits, 3.fits, 4.fits, 5.fits and 54 more"]
    assert folded_lines(alike[:3]) == alike[:3]


def test_lines_that_differ_in_numbers_are_folded_where_they_are_many() -> None:
    few = [f"a/{number}.fits: its level is {number}.5 ADU" for number in range(5)]
    assert folded_lines(few) == few
    many = [*few, "a/9.fits: its level is 1e+04 ADU", "b: another"]
    assert folded_lines(many) == [f"{few[0]}; the same of 1.fits, 2.fits, 3.fits, 4.fits, 9.fits", "b: another"]


def test_lines_that_say_different_things_stay() -> None:
    lines = ["a: one", "b: two", "no colon", "c: one two"]
    assert folded_lines(lines) == lines
    assert folded_lines(["same", "same"]) == ["same"]


def test_frames_of_one_series_are_counted_and_not_named_by_it_again_and_again() -> None:
    lines = [f"darks/{name}.zarr: frame {index} cannot be used" for name in "ab" for index in range(6)]
    assert folded_lines(lines) == [f"{lines[0]}; the same of b.zarr (6 times), a.zarr (5 times)"]


# ---- folders that are called like commands ----


def test_a_folder_called_like_a_command_is_pointed_out(night: Night) -> None:
    Path("masters").mkdir()
    outcome = n.ostcal("masters")
    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines()[-1] == "masters is a command; for the folder of that name: ostcal ./masters"
    assert "is a command" not in masters("masters").stderr
    assert "is a command" not in n.ostcal("masters", "--set", "input.dirs=[masters]").stderr


# ---- darks ----


@pytest.mark.parametrize("matrix", [{}, {"gains": [100]}])
def test_darks_beyond_the_longest_exposure_end_with_1(night: Night, matrix: dict[str, object]) -> None:
    config = {
        "video": {"camera_type": "simulator", "simulator": {"time_scale": 400.0}},
        "dark_capture": {
            "num_darks": 1, "science_exposure_time": 4.0, "exposure_factors": [1, 20], "flat_exposure_time": 4.0,
            **({"matrix": matrix} if matrix else {}),
        },
    }  # fmt: skip
    path = n.write_night(night.root, config, {})
    outcome = n.ostcal("darks", "--config", path, "--no-confirm")
    assert outcome.exit_code == 1
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.match(r"error: darks of 80 s .*60 s are possible \(.*dark_capture.max_exposure", errors[0])
    assert Path("darks/exp_4.000s.zarr").is_dir()
