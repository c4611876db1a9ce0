"""The package as programs use it: what it exports, `MasterFrameCreator` and its `Status`, and masters as arrays."""

from __future__ import annotations

import dataclasses
import doctest
import enum
import importlib
import inspect
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpydoc.validate import validate

import ostcal
from ostcal import (
    MasterFrameCreator,
    OstcalError,
    Status,
    load_config,
    load_master_bias,
    load_master_dark,
    load_master_flat,
)
from ostcal.errors import ConfigError, InputError
from ostcal.science.api import CalibrationKeywords
from ostcal.science.choose_masters import CalibrationOptions
from support import night as n
from support.fits_samples import read_with_astropy
from support.night import Night


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


@pytest.fixture
def made(night: Night) -> Night:
    """Return a night whose masters are made."""
    n.whole_night(night.root)
    assert night.run().is_success
    return night


# --- what the package exports ---


def test_all_names_are_there_and_sorted() -> None:
    assert ostcal.__all__ == sorted(ostcal.__all__)
    assert dir(ostcal) == ostcal.__all__
    for name in ostcal.__all__:
        assert getattr(ostcal, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ostcal.nonsense


def test_importing_the_package_loads_nothing_large() -> None:
    large = {"numpy", "numba", "zarr", "astropy", "dask", "pydantic"}
    code = f"import sys, ostcal; print(*sorted({large} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=n.command_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_errors_have_one_root() -> None:
    errors = importlib.import_module("ostcal.errors")
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(value, OstcalError) for value in classes)


PUBLIC = [name for name in ostcal.__all__ if not isinstance(getattr(ostcal, name), str)]


def members(name: str) -> list[str]:
    """Return the public methods and properties of a public class, inherited ones of the package too."""
    obj = getattr(ostcal, name)
    own = [b for b in (obj.__mro__ if inspect.isclass(obj) else ()) if b.__module__.startswith("ostcal.")]
    found = {
        member for base in own for member, value in vars(base).items() if callable(value) or isinstance(value, property)
    }
    return sorted(f"{name}.{member}" for member in found if not member.startswith("_"))


@pytest.mark.parametrize("name", [*PUBLIC, *(member for name in PUBLIC for member in members(name))])
def test_every_public_name_has_its_sections_of_numpydoc(name: str) -> None:
    """A docstring; all parameters in their order with type and description; what is returned; an example of each."""
    codes = {"GL08", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03", "YD01", "SS05"}
    if name in PUBLIC:
        codes.add("EX01")
    if inspect.isclass(obj := getattr(ostcal, name.partition(".")[0])) and issubclass(obj, enum.Enum):
        codes -= {"PR01"}  # the parameters of the class of all enumerations
    wrong = [text for code, text in validate(f"ostcal.{name}")["errors"] if code in codes]
    assert not wrong


@pytest.mark.parametrize("name", PUBLIC)
def test_the_examples_of_public_names_run(name: str) -> None:
    obj = getattr(ostcal, name)
    tests = doctest.DocTestFinder(recurse=False).find(obj, name)
    assert [test.name for test in tests] == [name]
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(tests[0]).failed == 0


def test_keywords_of_calibrating_are_the_options() -> None:
    names = {field.name for field in dataclasses.fields(CalibrationOptions)}
    assert CalibrationKeywords.__annotations__.keys() == names


# --- MasterFrameCreator ---


def test_a_configuration_may_be_a_dict_a_path_a_text_or_loaded(night: Night) -> None:
    n.write_darks(night, 5.0)
    path = n.write_config(night)
    for source in (night.config(), path, str(path), load_config(path)):
        status = MasterFrameCreator(source).create_master_darks()
        assert status.is_success, status.message


def test_without_a_configuration_the_defaults_count(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    n.write_darks(night, 5.0)
    monkeypatch.chdir(night.root)
    status = MasterFrameCreator().create_master_darks()
    assert status.details["output_dir"] == "master_frames"
    assert len(list((night.root / "master_frames").glob("*.fits"))) == 1


@pytest.mark.parametrize("wrong", [{"master_frames": {"min_frames": -1}}, "absent.yaml", 5, ["a"]])
def test_a_wrong_configuration_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        MasterFrameCreator(wrong)


def test_a_status_tells_what_was_made(night: Night) -> None:
    n.whole_night(night.root)
    creator = MasterFrameCreator(night.config())
    status = creator.create_all_master_frames()
    assert isinstance(status, Status)
    assert (status.is_success, status.is_warning, status.is_error) == (True, False, False)
    assert "5 masters made (1 bias, 3 dark, 1 flat)" in status.message
    assert set(status.data) == {"bias", "dark", "flat"}
    assert all(Path(path).is_file() for files in status.data.values() for path in files)
    details = status.details
    assert details["counts"] == {"bias": 1, "dark": 3, "flat": 1}
    assert details["exposures"] == {"bias": [0.001], "dark": [0.001, 2.0, 5.0], "flat": [2.0]}
    assert details["output_dir"] == str(night.masters)
    assert (details["warnings"], details["errors"]) == ([], [])
    by_file = {path: s for s in details["masters"].values() for path in s["files"]}
    for files in status.data.values():
        for path in files:
            image, header = read_with_astropy(path)
            assert by_file[path]["mean"] == pytest.approx(float(image.astype(np.float64).mean()))
            assert by_file[path]["n_frames"] == header["NCOMBINE"]
            assert by_file[path]["rejected_share"] == pytest.approx(header["REJSHARE"], abs=1e-8)
    assert creator.get_status() == status.as_dict()
    json.dumps(creator.get_status())  # for programs that pass it on


def test_the_status_before_any_call_says_that_nothing_was_made(night: Night) -> None:
    status = MasterFrameCreator(night.config()).get_status()
    assert status["message"] == "nothing made yet"
    assert set(status) >= {"is_success", "is_warning", "is_error", "message", "data", "details"}


def test_darks_and_flats_can_be_made_one_after_the_other(night: Night) -> None:
    n.whole_night(night.root)
    creator = MasterFrameCreator(night.config())
    darks = creator.create_master_darks()
    assert {kind: len(files) for kind, files in darks.data.items()} == {"bias": 1, "dark": 3, "flat": 0}
    flats = creator.create_master_flats()
    assert {kind: len(files) for kind, files in flats.data.items()} == {"bias": 0, "dark": 0, "flat": 1}
    assert creator.get_status() == flats.as_dict()


def test_warnings_and_errors_are_in_the_status(night: Night) -> None:
    n.write_darks(night, 5.0)
    (night.darks / "bad.fits").write_bytes(b"nothing")
    warned = MasterFrameCreator(night.config()).create_master_darks()
    assert warned.is_warning
    assert any("bad.fits" in line for line in warned.details["warnings"])
    n.write_flats(night, 100.0)
    failed = MasterFrameCreator(night.config()).create_all_master_frames()
    assert failed.is_error
    assert any("no dark for the flat" in line for line in failed.details["errors"])
    assert len(failed.data["dark"]) == 1


def test_a_call_that_fails_leaves_nothing_of_the_one_before(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    n.write_darks(night, 5.0)
    creator = MasterFrameCreator(night.config())
    assert creator.create_master_darks().is_success
    shutil.rmtree(night.darks)
    caplog.clear()
    status = creator.create_master_darks()
    assert status.is_error
    assert status.data == {"bias": [], "dark": [], "flat": []}
    assert creator.get_status()["is_error"]
    assert creator.report is None
    assert sum("No input files found" in record.getMessage() for record in caplog.records) == 1


def test_the_given_logger_is_told_the_outcome(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    n.write_darks(night, 5.0)
    (night.darks / "bad.fits").write_bytes(b"nothing")
    logger = logging.getLogger("observatory")
    with caplog.at_level(logging.INFO, logger="observatory"):
        MasterFrameCreator(night.config(), logger).create_master_darks()
    messages = [record.getMessage() for record in caplog.records if record.name == "observatory"]
    assert any("1 master made" in message for message in messages)
    assert any("bad.fits" in message for message in messages)


def test_both_arguments_have_their_names(night: Night) -> None:
    n.write_darks(night, 5.0)
    creator = MasterFrameCreator(config=night.config(), logger=logging.getLogger("x"))
    assert creator.create_master_darks().is_success


# --- masters as arrays ---


def test_loaded_masters_calibrate_a_science_frame(made: Night) -> None:
    y, x = np.mgrid[: n.SHAPE[0], : n.SHAPE[1]]
    light = 1 - 0.3 * ((y / n.SHAPE[0] - 0.5) ** 2 + (x / n.SHAPE[1] - 0.5) ** 2)
    science = 1000 + 5 * np.linspace(0, 4, n.SHAPE[1]) + 8000 * light / light.mean()
    dark = load_master_dark(5.0, made.config())
    flat = load_master_flat(config=made.config())
    for array in (dark, flat):
        assert (array.shape, array.dtype) == (n.SHAPE, np.dtype(np.float32))
        assert array.dtype.isnative
        assert array.flags.writeable
    calibrated = (science - dark) / flat
    # noise: the flat's, 70 / 20500 / sqrt(5) = 0.15 % of 8000 = 12 ADU, and the dark's 6 / sqrt(7) = 2.3 ADU
    assert calibrated.mean() == pytest.approx(8000, rel=0.002)
    assert calibrated.std() < 20


@pytest.mark.parametrize("kept", ["zarr", "fits"])
def test_masters_are_loaded_from_the_store_or_from_files(made: Night, kept: str) -> None:
    expected = {
        "dark": read_with_astropy(next(made.masters.glob("master_dark_2.000s*.fits")))[0],
        "bias": read_with_astropy(next(made.masters.glob("master_bias*.fits")))[0],
        "flat": read_with_astropy(next(made.masters.glob("master_flat*.fits")))[0],
    }
    if kept == "zarr":
        for path in made.masters.glob("*.fits"):
            path.unlink()
    else:
        shutil.rmtree(made.masters / "masters.zarr")
    config = made.config()
    np.testing.assert_array_equal(load_master_dark(2.0, config), expected["dark"])
    np.testing.assert_array_equal(load_master_dark(0.001, config), expected["bias"])
    np.testing.assert_array_equal(load_master_bias(config), expected["bias"])
    np.testing.assert_array_equal(load_master_flat(None, config), expected["flat"])


def test_the_nearest_exposure_within_the_tolerance_is_loaded(night: Night) -> None:
    for exposure_s in (1.9, 2.05):
        n.write_darks(night, exposure_s)
    night.run_darks()
    near = read_with_astropy(next(night.masters.glob("master_dark_2.050s*.fits")))[0]
    np.testing.assert_array_equal(load_master_dark(2.0, night.config()), near)
    with pytest.raises(InputError, match=r"no master dark of 4 s within 10%.*1\.9 s, 2\.05 s"):
        load_master_dark(4.0, night.config())
    assert load_master_dark(4.0, night.config(calibration_tolerance=0.9)).shape == n.SHAPE


def test_the_newest_of_equal_masters_is_loaded(night: Night) -> None:
    for level in (1000, 1100):
        shutil.rmtree(night.darks, ignore_errors=True)
        n.write_darks(night, 5.0, n.dark_frames(5.0, level=level))
        night.run_darks()
    assert load_master_dark(5.0, night.config()).mean() > 1100
    shutil.rmtree(night.masters / "masters.zarr")
    assert load_master_dark(5.0, night.config()).mean() > 1100


def test_masters_are_chosen_by_their_settings(night: Night) -> None:
    n.write_darks(night, 5.0, n.dark_frames(5.0, level=1000))
    start = {"GAIN": 200, "XBINNING": 2, "YBINNING": 2, "SET_TEMP": -20.0, "CCD_TEMP": -20.0}
    n.write_frames(night.darks / "other", n.dark_frames(5.0, level=2000), "Dark Frame", 5.0, **start)
    night.run_darks()
    wanted: list[tuple[dict[str, Any], int]] = [
        ({"gain": 100}, 1010), ({"gain": 200}, 2010), ({"binning": 1}, 1010), ({"binning": (2, 2)}, 2010),
        ({"binning": [2, 2]}, 2010), ({"temperature_c": -19}, 2010), ({"camera": "Synthetic", "gain": 200}, 2010),
        ({"width": n.SHAPE[1], "offset": 30, "gain": 100}, 1010),
    ]  # fmt: skip
    for settings, mean in wanted:
        assert load_master_dark(5.0, night.config(), **settings).mean() == pytest.approx(mean, abs=5)
    with pytest.raises(InputError, match=r"no master dark or bias in .* has gain=300"):
        load_master_dark(5.0, night.config(), gain=300)
    with pytest.raises(InputError, match=r"gains.*known are camera, camera_id, gain"):
        load_master_dark(5.0, night.config(), gains=300)


def test_a_dark_of_another_exposure_is_said_with_its_error(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    n.write_bias(night)
    n.write_darks(night, 60.0)  # 0 to 4 ADU/s along a row
    night.run_darks()
    load_master_dark(60.04, night.config())
    assert not [record for record in caplog.records if "as it is" in record.message]
    assert load_master_dark(65.0, night.config()).shape == n.SHAPE
    (line,) = [record.message for record in caplog.records if "as it is" in record.message]
    assert "no dark of 65 s" in line
    assert float(line.split("leaves ")[1].split(" ADU")[0]) == pytest.approx(5 * 2.0, abs=1)


def test_what_is_not_asked_for_must_be_the_same_in_all_masters(night: Night) -> None:
    for gain, level in ((100, 1000), (200, 2000)):
        stack = n.dark_frames(5.0, level=level)
        n.write_frames(night.darks / f"{gain}", stack, "Dark Frame", 5.0, GAIN=gain)
    for set_c, level in ((0.0, 1300), (-20.0, 1100)):
        cards = {"GAIN": 300, "SET_TEMP": set_c, "CCD_TEMP": set_c}
        n.write_frames(night.darks / f"t{set_c}", n.dark_frames(5.0, level=level), "Dark Frame", 5.0, **cards)
    night.run_darks()
    with pytest.raises(InputError, match=r"gains 100, 200, 300 fit; say which: gain="):
        load_master_dark(5.0, night.config())
    assert load_master_dark(5.0, night.config(), gain=200).mean() == pytest.approx(2010, abs=5)
    with pytest.raises(InputError, match=r"temperatures -20, 0 fit; say which: temperature_c="):
        load_master_dark(5.0, night.config(), gain=300)
    assert load_master_dark(5.0, night.config(), gain=300, temperature_c=-20).mean() == pytest.approx(1110, abs=5)


def test_flats_are_chosen_by_their_light_path(night: Night) -> None:
    n.write_bias(night)
    cases = {
        (10.0, "Esprit 100", 550.0): 1.0, (100.0, "Esprit 100", 550.0): 0.9, (10.0, "RC 8", 1600.0): 0.8,
        (10.0, "RC 8", 1000.0): 0.7,
    }  # fmt: skip
    for (angle, telescope, length), edge in cases.items():
        stack = n.flat_frames(1.0, [20000.0] * 4)
        stack[:, :, 0] = (1000 + (stack[:, :, 0] - 1000.0) * edge).astype(np.uint16)
        cards = {"ROTATANG": angle, "TELESCOP": telescope, "FOCALLEN": length, "FILTER": "R"}
        n.write_frames(night.flats, stack, "Flat Frame", 1.0, stem=f"f{angle:g}{length:g}{edge}", **cards)
    night.run()
    config = night.config()
    for wanted, telescopes in (
        ({}, "telescopes"),
        ({"telescope": "RC 8"}, "focal lengths"),
        ({"telescope": "Esprit 100"}, "angles"),
    ):
        with pytest.raises(InputError, match=f"{telescopes} .* fit; say which"):
            load_master_flat("R", config, **wanted)  # type: ignore[arg-type]
    for keys, edge in (
        ({"telescope": "Esprit-100", "rotation_deg": 370.4}, 1.0),
        ({"telescope": "Esprit 100", "rotation_deg": 100.0}, 0.9),
        ({"focal_length_mm": 1602.0}, 0.8), ({"focal_length_mm": 1000.0}, 0.7),
    ):  # fmt: skip
        image = load_master_flat("R", config, **keys)  # type: ignore[arg-type]
        assert image[:, 0].mean() / image[:, 1].mean() == pytest.approx(edge, abs=0.02)
    with pytest.raises(InputError, match="no master flat"):
        load_master_flat("R", config, rotation_deg=55.0)
    with pytest.raises(InputError, match="do not see the light path"):
        load_master_bias(config, telescope="RC 8")


def test_flats_are_chosen_by_their_filter(night: Night) -> None:
    n.write_darks(night, 2.0)
    for name, edge in (("R", 1.0), ("V", 0.5)):
        stack = n.flat_frames(2.0, (20000, 20500, 21000))
        stack[:, :, 0] = 1000 + (stack[:, :, 0] - 1000.0) * edge
        n.write_flats(night, 2.0, stack, FILTER=name)
    night.run()
    red, visual = (load_master_flat(name, night.config()) for name in ("r", "V"))
    assert visual[:, 0].mean() < 0.6 < 0.9 < red[:, 0].mean()
    with pytest.raises(InputError, match=r"filters R, V fit; say which: filter="):
        load_master_flat(config=night.config())
    with pytest.raises(InputError, match=r"filter B.*R, V"):
        load_master_flat("B", night.config())
    assert load_master_flat(config=night.config(), filter="R").shape == n.SHAPE


@pytest.mark.parametrize(
    "call", [lambda c: load_master_dark(5.0, c), load_master_bias, lambda c: load_master_flat("R", c)]
)
@pytest.mark.parametrize("there", [True, False])
def test_where_there_is_no_master_the_error_says_so(night: Night, call: Any, there: bool) -> None:
    if there:
        night.masters.mkdir()
    with pytest.raises(InputError, match=r"no master|no such directory") as caught:
        call(night.config())
    assert str(night.masters) in str(caught.value)


def test_a_damaged_master_does_not_hide_the_others(made: Night) -> None:
    (record,) = made.masters.glob("masters.zarr/master_dark_5.000s*/zarr.json")
    record.write_text("{}")
    for path in made.masters.glob("master_dark_5.000s*.fits"):
        path.write_bytes(path.read_bytes()[:4000])
    assert load_master_dark(2.0, made.config()).shape == n.SHAPE
    with pytest.raises(InputError, match="no master dark of 5 s"):
        load_master_dark(5.0, made.config())
