"""`ostcal calibrate` and `ostcal library`: what they make, what they refuse and how they say it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from support import night as n
from support.fits_samples import gzipped, read_with_astropy, write_images
from support.night import Night, Outcome

SHAPE = n.SHAPE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night with masters: bias, darks of 2 and 5 s, flats of filter L; and two science frames of 5 s."""
    night = Night(tmp_path_factory.mktemp("cli"))
    n.write_bias(night)
    n.write_darks(night, 2.0)
    n.write_darks(night, 5.0, n.dark_frames(5.0, seed=4))
    n.write_flats(night, 2.0, FILTER="L")
    status = night.run()
    assert not status.is_error, status.details
    return night


@pytest.fixture
def night(made: Night, tmp_path: Path) -> Night:
    """A copy of that night, to be spoiled."""
    root = tmp_path / "night"
    shutil.copytree(made.root, root)
    night = Night(root)
    lights(night)
    return night


def lights(night: Night, count: int = 2, exposure_s: float = 5.0, stem: str = "m31", **cards: Any) -> list[Path]:
    """Write science frames: 500 ADU of sky above the dark."""
    image = 1500 + exposure_s * np.linspace(0, 4, SHAPE[1])
    stack = n.samples(count, image, seed=60)
    return n.write_frames(
        night.root / "lights", stack, "Light Frame", exposure_s, stem=stem, **{"FILTER": "L", **cards}
    )


def calibrate(night: Night, *arguments: str | Path, **keys: Any) -> Outcome:
    return n.ostcal("calibrate", *arguments, "--config", n.write_config(night, **keys))


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def one_line(outcome: Outcome, *words: str) -> str:
    """Return the only error line; it must hold all the words."""
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line, line
    return line


@pytest.fixture
def nothing_changes(night: Night) -> Iterator[None]:
    """See that a refused command changes no file and makes none, its log aside."""
    before = snapshot(night)
    yield
    assert snapshot(night) == before


def snapshot(night: Night) -> dict[str, int]:
    files = [path for path in night.root.rglob("*") if path.is_file() and path.suffix not in (".log", ".yaml")]
    return {str(path): path.stat().st_mtime_ns for path in files}


# --- what it makes ---


def test_a_folder_of_frames_is_calibrated_beside_the_masters(night: Night) -> None:
    outcome = calibrate(night, night.root / "lights")
    assert outcome.exit_code == 0, outcome.text
    assert files_of(night.root / "calibrated") == ["m31_000_cal.fits", "m31_001_cal.fits"]
    values, header = read_with_astropy(night.root / "calibrated" / "m31_000_cal.fits")
    assert np.median(values) == pytest.approx(500, rel=0.05)
    assert header["CALSTAT"] == "BDF"
    assert "2 frames calibrated" in outcome.stderr
    assert "master_dark_5.000s" in outcome.stdout


def test_patterns_files_and_folders_are_taken_once_each(night: Night) -> None:
    pattern = str(night.root / "lights" / "m31*.fits")
    outcome = calibrate(night, pattern, night.root / "lights", night.root / "lights" / "m31_000.fits")
    assert outcome.exit_code == 0, outcome.text
    assert len(files_of(night.root / "calibrated")) == 2


def test_calibration_frames_in_a_folder_are_left_out(night: Night) -> None:
    outcome = calibrate(night, night.root, "--output-dir", night.root / "out")
    assert outcome.exit_code == 0, outcome.text
    assert files_of(night.root / "out") == ["m31_000_cal.fits", "m31_001_cal.fits"]
    assert "left out: bias, dark, flat, master or calibrated frames" in outcome.stderr
    again = calibrate(night, night.root, "--output-dir", night.root / "out", "--overwrite")
    assert again.exit_code == 0, "what lies in the output directory is no science frame"
    elsewhere = calibrate(night, night.root, "--output-dir", night.root / "elsewhere")
    assert elsewhere.exit_code == 0, elsewhere.text
    assert len(files_of(night.root / "elsewhere")) == 2, "calibrated frames in a folder are left out too"


def test_masters_can_be_named_by_file_or_by_their_name_in_the_library(night: Night) -> None:
    (dark,) = night.masters.glob("master_dark_2.000s*.fits")
    (bias,) = night.masters.glob("master_bias*.fits")
    frame = night.root / "lights" / "m31_000.fits"
    outcome = calibrate(night, frame, "--dark", dark.stem, "--bias", bias, "--flat", "none")
    assert outcome.exit_code == 0, outcome.text
    _, header = read_with_astropy(night.root / "calibrated" / "m31_000_cal.fits")
    assert (header["CALSTAT"], header["DARKNAME"], header["BIASNAME"]) == ("BD", dark.stem, bias.name)
    assert header["DARKSCAL"] == pytest.approx(4.999 / 1.999)
    assert "dark current is scaled" in outcome.stderr


def test_extensions_come_on_request(night: Night) -> None:
    for frame in (night.root / "lights").iterdir():
        fits.setval(frame, "EGAIN", value=1.0)
    outcome = calibrate(night, night.root / "lights", "--uncertainty", "--mask", "--interpolate", "--no-confirm")
    assert outcome.exit_code == 0, outcome.text
    with fits.open(night.root / "calibrated" / "m31_000_cal.fits", checksum=True) as hdus:
        assert [(hdu.name, hdu.data.dtype.name) for hdu in hdus] == [
            ("PRIMARY", "float32"), ("UNCERT", "float32"), ("DQ", "int16"),
        ]  # fmt: skip


@pytest.mark.parametrize("is_gzip", [False, True])
def test_a_science_frame_of_several_images_takes_no_masters_of_one_image(night: Night, is_gzip: bool) -> None:
    values, _ = read_with_astropy(night.root / "lights" / "m31_000.fits")
    images = [("im1", values), ("im2", values)]
    path = write_images(night.root / "lights" / "amps.fits", *images, IMAGETYP="Light Frame", EXPTIME=5.0, FILTER="L")
    if is_gzip:
        gzipped(path)
        path.unlink()
    outcome = calibrate(night, night.root / "lights", "--no-confirm")
    assert outcome.exit_code == 1
    one_line(outcome, "amps.fits", "[IM1]", "extension none against IM1")
    assert files_of(night.root / "calibrated") == ["m31_000_cal.fits", "m31_001_cal.fits"]


def test_one_bad_frame_does_not_stop_the_others(night: Night) -> None:
    (night.root / "lights" / "broken.fits").write_bytes(b"SIMPLE  = nothing")
    outcome = calibrate(night, night.root / "lights")
    assert outcome.exit_code == 1
    one_line(outcome, "broken.fits", "cut short")
    assert len(files_of(night.root / "calibrated")) == 2


# --- what it refuses: each is named, explained, and nothing is changed ---


@pytest.mark.usefixtures("nothing_changes")
def test_masters_of_another_size_are_refused(night: Night, tmp_path: Path) -> None:
    fits.PrimaryHDU(np.ones((8, 9), np.float32)).writeto(tmp_path / "small_flat.fits")
    outcome = calibrate(night, night.root / "lights" / "m31_000.fits", "--flat", tmp_path / "small_flat.fits")
    assert outcome.exit_code == 1
    one_line(outcome, "m31_000.fits", "small_flat.fits is 9 x 8, the frame is 28 x 20")


@pytest.mark.usefixtures("nothing_changes")
def test_frames_of_another_size_name_the_nearest_master(night: Night, tmp_path: Path) -> None:
    stack = n.samples(1, 1500.0, seed=1, shape=(10, 14))
    (frame,) = n.write_frames(tmp_path, stack, "Light Frame", 5.0, FILTER="L")
    outcome = calibrate(night, frame)
    assert outcome.exit_code == 1
    one_line(outcome, "no master dark fits (5 s)", "nearest is master_dark_5.000s", "size 28 x 20 against 14 x 10")


@pytest.mark.usefixtures("nothing_changes")
def test_a_flat_with_zeros_is_refused(night: Night, tmp_path: Path) -> None:
    image = np.ones(SHAPE, np.float32)
    image[3:9] = 0
    fits.PrimaryHDU(image).writeto(tmp_path / "zero_flat.fits")
    outcome = calibrate(night, night.root / "lights" / "m31_000.fits", "--flat", tmp_path / "zero_flat.fits")
    assert outcome.exit_code == 1
    one_line(outcome, "zero_flat.fits: 168 of 560 pixels (30.0%, limit 1%) are zero, negative or not finite")


@pytest.mark.usefixtures("nothing_changes")
def test_a_missing_filter_is_named(night: Night, tmp_path: Path) -> None:
    (frame,) = n.write_frames(tmp_path, n.samples(1, 1500.0, seed=1), "Light Frame", 5.0, FILTER="SII")
    outcome = calibrate(night, frame)
    assert outcome.exit_code == 1
    one_line(outcome, "no master flat fits (filter SII)", "nearest is master_flat", "filter L against SII", "--flat")


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("card", "value", "quantity"),
    [("EXPTIME", "long", "exposure"), ("GAIN", "high", "gain"), ("CCD-TEMP", True, "temperature")],
)
def test_header_values_of_the_wrong_type_are_named(
    night: Night, tmp_path: Path, card: str, value: object, quantity: str
) -> None:
    cards = {"FILTER": "L", "SET_TEMP": None, card.replace("-", "_"): value}
    frame_cards = {key: cards[key] for key in cards if key != "EXPTIME"}
    (frame,) = n.write_frames(tmp_path, n.samples(1, 1500.0, seed=1), "Light Frame", 5.0, **frame_cards)
    fits.setval(frame, card, value=value)
    outcome = calibrate(night, frame)
    assert outcome.exit_code == 1
    one_line(outcome, str(frame), f"{card} is {value!r}, no number: its {quantity} is not known; repair the header")


@pytest.mark.usefixtures("nothing_changes")
def test_a_science_frame_without_exposure_is_named(night: Night, tmp_path: Path) -> None:
    (frame,) = n.write_frames(tmp_path, n.samples(1, 1500.0, seed=1), "Light Frame", 5.0, FILTER="L")
    fits.delval(frame, "EXPTIME")
    outcome = calibrate(night, frame)
    assert outcome.exit_code == 1
    one_line(outcome, str(frame), "its exposure is not known (no EXPTIME, EXPOSURE", "--dark")


@pytest.mark.parametrize("plane", ["master", "std"])
def test_a_corrupt_master_is_named_and_no_file_is_left(night: Night, plane: str) -> None:
    for frame in (night.root / "lights").iterdir():
        fits.setval(frame, "EGAIN", value=1.0)
    (folder,) = (night.masters / "masters.zarr").glob("master_dark_5.000s*")
    chunk = next((folder / plane).glob("c.*"))
    chunk.write_bytes(chunk.read_bytes()[:20])
    outcome = calibrate(night, night.root / "lights" / "m31_000.fits", "--uncertainty")
    assert outcome.exit_code == 1
    one_line(outcome, "m31_000.fits", str(chunk), "damaged", "make the master again")
    assert files_of(night.root / "calibrated") == []


def test_a_master_whose_attributes_are_damaged_is_warned_of_and_another_is_found(night: Night) -> None:
    (folder,) = (night.masters / "masters.zarr").glob("master_dark_5.000s*")
    (folder / "zarr.json").write_text("{", encoding="utf-8")
    outcome = calibrate(night, night.root / "lights" / "m31_000.fits")
    assert outcome.exit_code == 0, outcome.text
    assert f"warning: {folder}" in outcome.stderr, outcome.stderr
    _, header = read_with_astropy(night.root / "calibrated" / "m31_000_cal.fits")
    assert header["DARKNAME"].startswith("master_dark_5.000s"), "its FITS file is whole"


def test_existing_results_are_refused_before_any_work_begins(night: Night) -> None:
    (night.root / "calibrated").mkdir()
    (night.root / "calibrated" / "m31_001_cal.fits").write_text("mine", encoding="utf-8")
    outcome = calibrate(night, night.root / "lights")
    assert outcome.exit_code == 1
    one_line(outcome, "m31_001_cal.fits: exists already and nothing was begun", "--overwrite")
    assert files_of(night.root / "calibrated") == ["m31_001_cal.fits"]
    assert (night.root / "calibrated" / "m31_001_cal.fits").read_text(encoding="utf-8") == "mine"
    assert calibrate(night, night.root / "lights", "--overwrite").exit_code == 0


def test_calibrated_frames_are_refused(night: Night) -> None:
    assert calibrate(night, night.root / "lights").exit_code == 0
    before = snapshot(night)
    outcome = calibrate(night, night.root / "calibrated" / "m31_000_cal.fits", "--output-dir", night.root / "again")
    assert outcome.exit_code == 1
    one_line(outcome, "m31_000_cal.fits: it is calibrated already (BDF)")
    assert snapshot(night) == before


def test_two_frames_of_one_name_get_the_names_of_their_folders(night: Night, tmp_path: Path) -> None:
    other = tmp_path / "second"
    other.mkdir()
    shutil.copy(night.root / "lights" / "m31_000.fits", other)
    outcome = calibrate(night, night.root / "lights", other / "m31_000.fits")
    assert outcome.exit_code == 0, outcome.stderr
    names = {path.name for path in (night.root / "calibrated").glob("*m31_000*")}
    assert names == {"lights_m31_000_cal.fits", "second_m31_000_cal.fits"}


@pytest.mark.usefixtures("nothing_changes")
def test_rows_that_are_upside_down_to_the_masters_are_refused(night: Night, tmp_path: Path) -> None:
    (dark,) = night.masters.glob("master_dark_5.000s*.fits")
    shutil.copy(dark, tmp_path / "dark.fits")
    fits.setval(tmp_path / "dark.fits", "ROWORDER", value="BOTTOM-UP")
    (frame,) = n.write_frames(tmp_path, n.samples(1, 1500.0, seed=1), "Light Frame", 5.0, ROWORDER="TOP-DOWN")
    outcome = calibrate(night, frame, "--dark", tmp_path / "dark.fits", "--flat", "none")
    assert outcome.exit_code == 1
    one_line(outcome, "rows are TOP-DOWN", "dark.fits BOTTOM-UP (ROWORDER)")


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere: does not exist"]),
        (["LIGHT", "--dark", "nothing"], ["--dark nothing: there is no such file, and no master of this name"]),
        (["LIGHT", "--dark", "FLAT"], ["is a flat, not a dark"]),
        (["LIGHT", "--dark", "none", "--flat", "none"], ["there is nothing to do"]),
    ],
)
def test_what_is_not_there_or_of_the_wrong_kind_is_named(night: Night, arguments: list[str], words: list[str]) -> None:
    (flat,) = night.masters.glob("master_flat*.fits")
    words_of = {"LIGHT": str(night.root / "lights" / "m31_000.fits"), "FLAT": str(flat)}
    outcome = calibrate(night, *(words_of.get(argument, argument) for argument in arguments))
    assert outcome.exit_code == 1
    one_line(outcome, *words)


def test_wrong_usage_and_disabled_calibration_have_their_codes(night: Night) -> None:
    assert n.ostcal("calibrate", "--config", n.write_config(night)).exit_code == 2
    assert calibrate(night, "x", "--nonsense").exit_code == 2
    outcome = calibrate(night, night.root / "lights", enable_calibration=False)
    assert outcome.exit_code == 1
    one_line(outcome, "calibration is disabled: master_frames.enable_calibration is false")


# --- the library ---


def library(night: Night, *options: str) -> Outcome:
    return n.ostcal("library", "--config", n.write_config(night), *options)


def test_the_library_lists_masters_with_their_settings(night: Night) -> None:
    outcome = library(night)
    assert outcome.exit_code == 0
    for word in ("master_dark_5.000s", "-10 C", "28x20", "1x1", "100", "30", "0 d", "2026-11-2", "L"):
        assert word in outcome.stdout, word


def test_the_library_fits_80_columns_and_names_have_lines_of_their_own(night: Night) -> None:
    title, *lines = library(night).stdout.splitlines()
    assert title == f"Masters in {night.masters}"
    assert max(map(len, lines)) <= 80
    names = {master["name"] for master in json.loads(library(night, "--json").stdout)["masters"]}
    assert {line.strip() for line in lines if line.startswith("    master_")} == names
    (first,) = (line for line in lines if line.startswith("flat 2 s L"))
    assert first == "flat 2 s L, 28x20 1x1, gain 100, offset 30, -10 C, 5 frames, warn"


def test_the_library_as_json(night: Night) -> None:
    listed = json.loads(library(night, "--json").stdout)
    kinds = [master["kind"] for master in listed["masters"]]
    assert kinds == sorted(kinds)
    (flat,) = [master for master in listed["masters"] if master["kind"] == "flat"]
    expected = {"filter": "L", "exposure_time_s": 2.0, "gain": 100, "offset": 30, "binning": [1, 1], "frames": 5}
    assert {key: flat[key] for key in expected} == expected
    assert 0 <= flat["age_days"] < 0.1
    taken = datetime.fromisoformat(flat["taken_at"])
    assert n.START + timedelta(hours=8) < taken < n.START + timedelta(hours=9)
    assert flat["taken_age_days"] == pytest.approx((datetime.now(UTC) - taken).total_seconds() / 86400, abs=0.01)


def test_the_library_shows_verdicts_and_names_damaged_masters(night: Night) -> None:
    (bias,) = night.masters.glob("master_bias*.fits")
    shutil.copy(bias, night.masters / "another.fits")
    fits.setval(night.masters / "another.fits", "QCVERD", value="FAIL")
    (night.masters / "master_torn.fits").write_bytes(bias.read_bytes()[:3000])
    outcome = library(night, "--json")
    verdicts = {master["name"]: master["verdict"] for master in json.loads(outcome.stdout)["masters"]}
    assert verdicts["another"] == "fail"
    assert "warning: " in outcome.stderr
    assert "master_torn.fits" in outcome.stderr


def test_a_library_that_does_not_exist_is_named(tmp_path: Path) -> None:
    outcome = library(Night(tmp_path))
    assert outcome.exit_code == 1
    one_line(outcome, "masters: there is no such directory of masters; set master_frames.output_dir")


# ---- words in --output-dir, and masters that are elsewhere ----


def test_the_night_of_the_newest_light_is_filled_in(night: Night) -> None:
    lights(night, 1, stem="late", start=datetime(2026, 11, 22, 2, tzinfo=UTC))
    target = night.root / "calibrated" / "{night}" / "{date}_{camera}"
    site = ("--set", "site.latitude=50", "--set", "site.longitude=0")
    outcome = calibrate(night, night.root / "lights", "--out", target, *site)
    assert outcome.exit_code == 0, outcome.text
    assert files_of(night.root / "calibrated") == ["2026-11-21"]
    assert files_of(night.root / "calibrated" / "2026-11-21") == ["2026-11-22_Synthetic"]
    assert len(files_of(night.root / "calibrated" / "2026-11-21" / "2026-11-22_Synthetic")) == 3


def test_words_that_nothing_stands_for_are_refused_before_any_work(night: Night) -> None:
    outcome = calibrate(night, night.root / "lights", "--output-dir", night.root / "{nigth}")
    assert outcome.exit_code == 2
    assert "nothing stands for {nigth}; the words are {night}, {date}, {camera}" in outcome.stderr
    assert not (night.root / "{nigth}").exists()


@pytest.mark.parametrize("command", [["library"], ["coverage", "lights"], ["report"], ["prune", "--keep", "1"]])
def test_commands_that_use_masters_are_told_where_they_are(
    night: Night, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(night.root)
    Path("masters").rename("mine")
    outcome = n.ostcal(*command, "--masters", "mine", "--json")
    assert outcome.exit_code in (0, 3), outcome.text
    assert "there is no such directory" not in outcome.text
