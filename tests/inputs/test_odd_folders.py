"""Folders as people keep them: rejected frames, recycle bins, packed files, faulty headers, kinds that nothing says."""

from __future__ import annotations

import bz2
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ostcal import MasterFrameCreator, load_config
from ostcal.errors import ConfigError, FrameError
from ostcal.fits.read import FitsStack, find_fits, inspect_fits, search_fits
from ostcal.fits.sections import OverscanRule
from ostcal.frames import FrameType, read_adu
from ostcal.inputs.forced_kinds import with_forced_kind
from ostcal.inputs.gather import gather_inputs
from ostcal.inputs.science_frames import output_files, science_frames
from ostcal.places.paths import files_below
from ostcal.printable import is_in_log_only
from ostcal.series.reader import find_series
from support import night as n
from support.fits_samples import frame_values, read_with_astropy, write_frame
from support.night import Night
from support.object_samples import write_series

CARDS = {"IMAGETYP": "Dark Frame", "EXPTIME": 5.0}


@pytest.mark.parametrize("folder", ["rejected", "Rejected", "bad", "#recycle", "$RECYCLE.BIN", "trash", "_REJECTED"])
def test_folders_of_rejected_frames_are_passed_over_with_a_word(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    write_frame(tmp_path / folder / "dark_1.fits", frame_values(), **CARDS)
    kept = write_frame(tmp_path / "dark_2.fits", frame_values(), **CARDS)
    found = search_fits([tmp_path])
    assert found.files == (str(kept),)
    (line,) = found.passed_over
    assert folder in line
    assert "passed over" in line
    assert find_fits([tmp_path / folder]) == [str(tmp_path / folder / "dark_1.fits")]  # named itself, it is meant


def test_bad_files_and_bzip2_are_passed_over_with_a_word(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "dark_1.fits", frame_values(), **CARDS)
    (tmp_path / "dark_2.fits.bz2").write_bytes(bz2.compress(path.read_bytes()))
    (tmp_path / "BAD_dark_3.fits").write_bytes(path.read_bytes())
    found = search_fits([tmp_path])
    assert found.files == (str(path),)
    assert ["BAD_dark_3" in line or "bzip2" in line for line in found.passed_over] == [True, True]
    inputs = gather_inputs([str(tmp_path)], exclude=str(tmp_path / "masters"))
    assert len(inputs.sources) == 1
    assert inputs.left_out == found.passed_over


def test_of_many_folders_a_kind_is_one_line_and_the_log_has_the_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kinds = (b"", b"a text", b"SIMPLE  =" + b" " * 700, *(b"SIMPLE  =" + b" " * n for n in range(3000, 3009)))
    for folder in range(6):
        (tmp_path / str(folder)).mkdir()
        write_frame(tmp_path / str(folder) / "good.fits", frame_values(seed=folder), **CARDS)
        for index, data in enumerate(kinds):
            (tmp_path / str(folder) / f"x{folder}_{index}.fits").write_bytes(data)
    inputs = gather_inputs([str(tmp_path)], exclude=str(tmp_path / "masters"))
    assert len(inputs.sources) == 6
    said = [line for line in inputs.left_out if "x0_" in line]
    assert len(said) == len(inputs.left_out) <= len(kinds)
    assert next(line for line in said if ": is empty" in line).endswith(
        "; the same of x1_0.fits, x2_0.fits, x3_0.fits, x4_0.fits, x5_0.fits"
    )
    logged = [record for record in caplog.records if is_in_log_only(record)]
    text = " ".join(record.getMessage() for record in logged)
    assert all(f"x{folder}_{index}.fits" in text for folder in range(6) for index in range(len(kinds)))


def test_files_that_are_refused_for_one_reason_share_a_line(tmp_path: Path) -> None:
    beyond = {**CARDS, "BIASSEC": "[900:999,1:6]"}
    for folder, count in (("a", 25), ("b", 1)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            write_frame(tmp_path / folder / f"dark_{index:02d}.fits", frame_values(), **beyond)
    write_frame(tmp_path / "a" / "dark_99.fits", frame_values(), **{**beyond, "BIASSEC": "[8:7,1:6]"})
    write_frame(tmp_path / "a" / "good.fits", frame_values(), **CARDS)
    inputs = gather_inputs([str(tmp_path)], exclude=str(tmp_path / "masters"), overscan=OverscanRule(source="auto"))
    assert len(inputs.sources) == 1
    assert len(inputs.left_out) == 3
    many, other, alone = inputs.left_out
    assert many.startswith(f"{tmp_path}/a/dark_00.fits: BIASSEC is '[900:999,1:6]'")
    assert "; the same of dark_01.fits, dark_02.fits, " in many
    assert many.endswith("dark_05.fits and 19 more")
    assert other.startswith(f"{tmp_path}/a/dark_99.fits: BIASSEC is '[8:7,1:6]'")
    assert alone.startswith(f"{tmp_path}/b/dark_00.fits: BIASSEC")
    assert "the same of" not in alone


def damaged_header(path: Path, filling: bytes) -> Path:
    """Replace the blanks behind END."""
    data = bytearray(path.read_bytes())
    end = next(at for at in range(0, 2880, 80) if data[at : at + 8] == b"END     ")
    start = end + 3 if filling == b"\0" else end + 80
    data[start:2880] = (filling * 2880)[: 2880 - start]
    path.write_bytes(bytes(data))
    return path


def test_a_header_that_is_not_filled_up_is_refused(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "dark.fits", frame_values(), **CARDS)
    whole = path.read_bytes()
    end = next(at for at in range(0, 2880, 80) if whole[at : at + 8] == b"END     ")
    path.write_bytes(whole[: end + 80] + whole[2880:])
    with pytest.raises(FrameError, match=r"dark\.fits: its header is not filled up to 2880 bytes"):
        inspect_fits(path)
    with pytest.raises(FrameError, match="not filled up"):
        inspect_fits(damaged_header(write_frame(tmp_path / "d2.fits", frame_values(), **CARDS), b"\x80\x01"))


def test_nul_bytes_are_read_as_blanks_with_a_remark(tmp_path: Path) -> None:
    path = damaged_header(write_frame(tmp_path / "dark.fits", frame_values(), **CARDS), b"\0")
    frame = inspect_fits(path)
    assert "NUL bytes" in frame.metadata.remarks[0]
    other = write_frame(tmp_path / "other.fits", frame_values(), FILTER="R.......", **CARDS)
    other.write_bytes(other.read_bytes().replace(b"R.......", b"R\0\0\0\0\0\0\0"))
    frame = inspect_fits(other)
    assert frame.metadata.filter_name == "R"
    assert "NUL bytes" in frame.metadata.remarks[0]
    left_out = gather_inputs([str(tmp_path)], exclude=str(tmp_path / "masters")).left_out
    assert any("and 1 more: its header has NUL bytes" in line for line in left_out)


# ---- kinds that the user states ----


def test_kinds_are_stated_for_folders_and_patterns(tmp_path: Path) -> None:
    metadata = inspect_fits(write_frame(tmp_path / "a.fits", frame_values())).metadata
    rules = {str(tmp_path / "one"): FrameType.DARK, "two": FrameType.BIAS, "*_f.fits": FrameType.FLAT}
    for path, kind in (
        ("one/x.fits", FrameType.DARK), ("one/below/x.fits", FrameType.DARK), ("two/x_f.fits", FrameType.BIAS),
        ("three/x_f.fits", FrameType.FLAT), ("three/x.fits", None), ("oneself/x.fits", None),
    ):  # fmt: skip
        assert with_forced_kind(metadata, str(tmp_path / path), rules).frame_type is kind


def test_a_stated_kind_goes_before_the_header_and_is_named(tmp_path: Path) -> None:
    metadata = inspect_fits(write_frame(tmp_path / "a.fits", frame_values(), IMAGETYP="LIGHT")).metadata
    forced = with_forced_kind(metadata, str(tmp_path / "a.fits"), {str(tmp_path): FrameType.FLAT})
    assert forced.frame_type is FrameType.FLAT
    assert forced.remarks == ("header or name say light: taken as flat, as input.kinds says",)


def test_masters_are_made_of_frames_whose_kind_is_stated(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_frames(night.darks / "night", n.dark_frames(5.0), "?", 5.0, stem="img", IMAGETYP=None)
    config = {**night.config(), "input": {"kinds": {"darks/night": "dark"}}}
    status = MasterFrameCreator(config).create_master_darks()
    assert not status.is_error, status.message
    assert len(status.data["dark"]) == 1


@pytest.mark.parametrize("pattern", ["darks/*.zarr", "darks", "series.zarr", "*ies.zarr"])
def test_kinds_are_stated_for_series_too(tmp_path: Path, pattern: str) -> None:
    write_series(tmp_path / "darks" / "series.zarr", 2, FrameType.LIGHT)
    inputs = gather_inputs([str(tmp_path)], exclude="", kinds={pattern: FrameType.DARK})
    assert {source.frame.metadata.frame_type for source in inputs.sources.values()} == {FrameType.DARK}
    assert any("taken as dark, as input.kinds says" in line for line in inputs.left_out)


def test_folders_of_stated_kinds_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert load_config({"input": {"kinds": {"~/darks": "dark"}}}).input.kinds == {"/home/anna/darks": "dark"}


@pytest.mark.parametrize("kinds", [{"a": "darks"}, ["a"], {"a": None}, {"": "dark"}])
def test_kinds_that_are_none_are_refused(kinds: object) -> None:
    with pytest.raises(ConfigError, match="kinds"):
        load_config({"input": {"kinds": kinds}})


# ---- locations ----


def test_directories_of_the_configuration_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("DATA", "/data")
    config = load_config({"dark_capture": {"output_dir": "~/darks"}, "flat_capture": {"output_dir": "$DATA/flats"}})
    assert (config.dark_capture.output_dir, config.flat_capture.output_dir) == ("/home/anna/darks", "/data/flats")
    monkeypatch.delenv("DATA")
    with pytest.raises(ConfigError, match="DATA"):
        load_config({"dark_capture": {"output_dir": "$DATA/darks"}})


# ---- science frames ----


def test_equal_names_in_two_folders_get_the_names_of_their_folders(tmp_path: Path) -> None:
    for night in ("one", "two"):
        (tmp_path / night).mkdir()
        write_frame(tmp_path / night / "m31.fits", frame_values(), IMAGETYP="LIGHT", EXPTIME=1.0)
    write_frame(tmp_path / "one" / "m33.fits", frame_values(), IMAGETYP="LIGHT", EXPTIME=1.0)
    frames, warnings, errors = science_frames(
        [tmp_path / "one", tmp_path / "two"], str(tmp_path / "out"), OverscanRule()
    )
    assert (warnings, errors) == ([], [])
    names = [
        Path(path).name for path in output_files([images[0].source for images in frames], str(tmp_path / "out"), False)
    ]
    assert sorted(names) == ["m33_cal.fits", "one_m31_cal.fits", "two_m31_cal.fits"]


def test_names_that_differ_in_case_or_ending_only_get_a_number() -> None:
    targets = output_files(["/a/R.fits", "/a/r.fits", "/a/r.fit", "/b/x.fits"], "/out", False)
    assert [Path(target).name for target in targets] == ["R_cal.fits", "r_2_cal.fits", "r_3_cal.fits", "x_cal.fits"]


def test_brackets_in_patterns_may_be_part_of_names(tmp_path: Path) -> None:
    (tmp_path / "night[1]").mkdir()
    path = write_frame(tmp_path / "night[1]" / "m31.fits", frame_values(), IMAGETYP="LIGHT", EXPTIME=1.0)
    frames, _, errors = science_frames([tmp_path / "night[1]" / "*.fits"], str(tmp_path / "out"), OverscanRule())
    assert ([images[0].source for images in frames], errors) == ([str(path)], [])


# ---- masters end to end ----


def warnings_of(night: Night) -> list[str]:
    return list(night.run().details["warnings"])


def test_an_unreadable_exposure_is_left_out_and_named(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_bias(night)
    n.write_darks(night, 5.0)
    odd = n.write_frames(
        night.darks / "odd", n.dark_frames(5.0, 2, seed=9), "Dark Frame", 5.0, stem="x_0,0s", EXPTIME="5 o"
    )
    lines = warnings_of(night)
    for path in odd:
        assert any(str(path) in line and "EXPTIME is '5 o'" in line for line in lines)


def test_rows_in_another_order_are_another_master(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 5.0, ROWORDER="TOP-DOWN")
    n.write_frames(night.darks / "turned", n.dark_frames(5.0, seed=8), "Dark Frame", 5.0, ROWORDER="BOTTOM-UP")
    status = night.run_darks()
    names = sorted(Path(path).name for path in status.data["dark"])
    assert len(names) == 2
    assert any("top-down" in name for name in names)
    assert any("bottom-up" in name for name in names)


@pytest.mark.parametrize(("card", "value"), [("COADDS", 10), ("ISOSPEED", 800), ("ROWORDER", "BOTTOM-UP")])
def test_a_light_takes_no_dark_of_other_settings(tmp_path: Path, card: str, value: object) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 5.0, **{card: {"COADDS": 1, "ISOSPEED": 100, "ROWORDER": "TOP-DOWN"}[card]})
    assert not night.run_darks().is_error
    (light,) = n.write_frames(tmp_path / "lights", n.samples(1, 1500.0, seed=8), "Light Frame", 5.0, **{card: value})
    outcome = n.ostcal("calibrate", light, "--config", n.write_config(night))
    assert outcome.exit_code == 1
    assert card in outcome.stderr or card.lower()[:3] in outcome.stderr


def test_the_kind_of_orion_camera_studio_makes_one_bias(tmp_path: Path) -> None:
    night = Night(tmp_path)
    rng = np.random.default_rng(5)
    night.darks.mkdir()
    for i in range(6):
        values = np.rint(770 + rng.normal(0, 7, (20, 28))).astype(np.float32)
        write_frame(
            night.darks / f"x{i}.fit", values, IMAGTYP="Bias Frame", EXPTIME=0.001, INSTRUME="G",
            DATE_OBS=f"2021-09-17 T10:25:{10 + i}",
        )  # fmt: skip
    status = night.run_darks()
    assert not status.is_error, status.message
    assert len(status.data["bias"]) == 1


def test_a_pedestal_is_taken_off(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 2.0)
    light = np.tile(np.linspace(4000, 8000, 28), (20, 1))
    for pedestal, folder in ((0, "plain"), (-100, "raised")):
        stack = n.samples(5, light, seed=3) + np.uint16(abs(pedestal))
        n.write_frames(night.flats / folder, stack, "Flat", 2.0, CALSTAT="D", PEDESTAL=pedestal, FILTER=folder)
    status = night.run()
    images = [read_with_astropy(Path(path))[0] for path in status.data["flat"]]
    assert len(images) == 2
    assert np.abs(images[0] - images[1]).max() < 1e-6


def test_settings_beside_frames_of_sharpcap_stand_in_for_cards(tmp_path: Path) -> None:
    folder = tmp_path / "20_11_12"
    folder.mkdir()
    settings = (
        "[ZWO ASI183MM]\nFrameType=Dark\nBinning=2\nTemperature=-9.9\nExposure=315.0ms\nGain=125\nBlack Level=20\n"
    )
    (tmp_path / "20_11_12.CameraSettings.txt").write_text(settings, encoding="utf-8")
    first = write_frame(folder / "a_00001.fits", frame_values(), SWCREATE="SharpCap v4.1", GAIN=100)
    found = inspect_fits(first).metadata
    assert (found.frame_type, found.exposure_time_s) == (FrameType.DARK, 0.315)
    assert (found.settings.gain, found.settings.offset, found.settings.binning) == (100.0, 20.0, (2, 2))
    assert found.ccd_temperature_c == -9.9
    other = write_frame(folder / "a_00002.fits", frame_values(), SWCREATE="Other 1.0")
    assert inspect_fits(other).metadata.exposure_time_s is None


@pytest.mark.parametrize(
    ("frame", "settings"),
    [
        ("20_11_12/rawframes/a.fits", "20_11_12/20_11_12.CameraSettings.txt"),
        ("20_11_12/rawframes/a.fits", "20_11_12.CameraSettings.txt"),
        ("20_11_12/a.fits", "20_11_12/20_11_12.CameraSettings.txt"),
        ("20_11_12/a.fits", "20_11_12/Capture.CameraSettings.txt"),
        ("20_11_12/a.fits", "20_11_12/a.CameraSettings.txt"),
    ],
)
def test_settings_of_sharpcap_are_found_where_it_writes_them(tmp_path: Path, frame: str, settings: str) -> None:
    path = tmp_path / frame
    path.parent.mkdir(parents=True)
    write_frame(path, frame_values(), SWCREATE="SharpCap v4.1")
    (tmp_path / settings).write_text("Exposure=315.0ms\n", encoding="utf-8")
    assert inspect_fits(path).metadata.exposure_time_s == 0.315


def test_two_files_of_settings_say_nothing_of_other_frames(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", frame_values(), SWCREATE="SharpCap v4.1")
    for name, exposure in (("b", "1.0s"), ("c", "2.0s")):
        (tmp_path / f"{name}.CameraSettings.txt").write_text(f"Exposure={exposure}\n", encoding="utf-8")
    assert inspect_fits(path).metadata.exposure_time_s is None


def test_a_pedestal_of_a_bias_subtracted_light_is_taken_off(tmp_path: Path) -> None:
    light = write_frame(
        tmp_path / "m31.fits",
        np.full((20, 28), 600, np.uint16),
        IMAGETYP="LIGHT",
        EXPTIME=5.0,
        CALSTAT="B",
        PEDESTAL=100,
    )
    frames, _, errors = science_frames([light], str(tmp_path / "out"), OverscanRule())
    assert errors == []
    ((frame,),) = frames
    assert read_adu(FitsStack((frame,)), 0, 1).max() == 500
    assert not any(card.startswith("PEDESTAL") for card in frame.cards)


@pytest.fixture
def deep_folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with 2,100 levels below it, more than a path can name; pytest itself could not remove them."""
    top = tmp_path / "deep"
    top.mkdir()
    code = "import os, sys; os.chdir(sys.argv[1])\nfor _ in range(2100): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", code, str(top)], check=True)
    yield top
    subprocess.run(["rm", "-rf", str(top)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs paths of 4,096 bytes (Linux)")
def test_folders_of_two_thousand_levels_are_searched_as_far_as_they_have_names(
    deep_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`os.walk` of Python 3.11 calls itself for each level."""
    place = Path(deep_folder, *["d"] * 1500)
    (place / "frame.fits").write_bytes(b"")
    (deep_folder / "frame.fits").write_bytes(b"")
    found = search_fits([deep_folder])
    assert found.files == tuple(sorted(str(folder / "frame.fits") for folder in (deep_folder, place)))
    (line,) = [record.message for record in caplog.records if "cannot be searched" in record.message]
    assert line.endswith("File name too long")
    assert find_series([str(deep_folder)]) == []
    assert len(files_below(deep_folder)) == 2
