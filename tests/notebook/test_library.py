"""`Library`: the masters of directories, selected, matched and shown by the rules of `ostcal calibrate`."""

from __future__ import annotations

import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

import ostcal
from ostcal import CalibrationApplier, Library
from ostcal.errors import ConfigError, InputError
from ostcal.science.coverage_api import coverage_of
from support import night as n
from support.night import START, Night


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return a night with a bias, darks of 2 and 5 s, darks of 5 s of gain 200, flats, and lights."""
    night = n.whole_night(tmp_path_factory.mktemp("night"))
    other = n.dark_frames(5.0, level=2000)
    n.write_frames(night.darks / "gain_200", other, "Dark Frame", 5.0, start=START, GAIN=200)
    assert not night.run().is_error
    for gain in (100, 200):
        stack = n.dark_frames(5.0, 2, seed=gain) + 500
        n.write_frames(
            night.root / "lights", stack, "Light Frame", 5.0, stem=f"light_{gain}",
            start=START + timedelta(days=1), GAIN=gain,
        )  # fmt: skip
    return night


@pytest.fixture
def library(made: Night) -> Library:
    return Library(made.masters)


def light(night: Night, gain: int) -> Path:
    return night.root / "lights" / f"light_{gain}_000.fits"


def files_in(folder: Path) -> set[tuple[str, int, int]]:
    """Return all files with their sizes and times."""
    return {(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


# ---- masters ----


def test_a_library_has_its_masters(library: Library) -> None:
    assert len(library) == 6
    assert [master.kind for master in library] == ["bias", "dark", "dark", "dark", "dark", "flat"]
    assert (len(library.biases), len(library.darks), len(library.flats)) == (1, 4, 1)
    (flat,) = library.flats
    assert library[flat.name].data.mean() == pytest.approx(1, abs=0.01)
    with pytest.raises(KeyError, match="there is no master nonsense"):
        library["nonsense"]


@pytest.mark.parametrize(
    ("settings", "n_masters"),
    [
        ({"kind": "dark", "exposure": 5}, 2), ({"kind": "dark", "exposure": 5 * u.s, "gain": 200}, 1),
        ({"exposure": 0.0833333333 * u.min, "kind": "dark"}, 2), ({"temperature_c": -9}, 6), ({"temperature_c": 5}, 0),
        ({"camera": "Synthetic", "offset": 30, "binning": 1}, 6), ({"gain": None}, 6), ({"filter": "Ha"}, 0),
    ],
)  # fmt: skip
def test_masters_are_selected_by_their_settings(library: Library, settings: dict[str, Any], n_masters: int) -> None:
    assert len(library.select(**settings)) == n_masters


def test_selections_can_be_narrowed_and_cut(library: Library) -> None:
    of_gain = library.darks.select(gain=100)
    assert [one.exposure.value for one in of_gain] == [0.001, 2.0, 5.0]
    assert [one.exposure.value for one in of_gain[1:]] == [2.0, 5.0]
    assert np.isfinite(of_gain[-1].data).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gains": 100}, r"gains: not a setting of masters; known are kind, exposure, filter"),
        ({"kind": "light"}, "kind='light' is not allowed; write bias, dark or flat"),
        ({"exposure": "long"}, "exposure='long' is no time"),
        ({"exposure": 5 * u.m}, "is no time"),
    ],
)
def test_a_wrong_selection_is_named(library: Library, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        library.select(**settings)


def test_a_library_is_fresh_and_writes_nothing(made: Night, tmp_path: Path) -> None:
    masters = shutil.copytree(made.masters, tmp_path / "masters")
    before = files_in(tmp_path)
    library = Library(masters)
    library.match(light(made, 100))
    library.coverage(made.root / "lights")
    assert len(library) == 6
    assert files_in(tmp_path) == before
    (flat,) = library.flats
    shutil.rmtree(masters / "masters.zarr" / flat.name)
    for file in masters.glob(f"{flat.name}*.fits"):
        file.unlink()
    assert len(library) == 5
    shutil.rmtree(masters)
    with pytest.raises(InputError, match="masters: there is no such directory of masters"):
        len(library)


def test_several_directories_are_one_library(made: Night, tmp_path: Path) -> None:
    for name, pattern in (("darks", "master_[bd]*"), ("flats", "master_flat*")):
        (tmp_path / name).mkdir()
        for file in made.masters.glob(f"{pattern}.fits"):
            shutil.copy(file, tmp_path / name)
    library = Library(tmp_path / "darks", tmp_path / "flats")
    assert (len(library.darks), len(library.flats)) == (4, 1)
    match = library.match(light(made, 100))
    assert match.flat is not None
    assert match.dark is not None
    assert library.coverage(made.root / "lights").masters == 6
    with pytest.raises(InputError, match="several directories cannot calibrate"):
        library.calibrate(made.root / "lights")


def test_a_library_in_an_object_store(made: Night) -> None:
    from ostcal.places.objects import ObjectPath

    for file in (made.masters / "masters.zarr").rglob("*"):
        if file.is_file():
            place = f"memory://shelf/masters/{file.relative_to(made.masters)}"
            ObjectPath.of(place).write_bytes(file.read_bytes())
    library = Library("memory://shelf/masters")
    assert len(library) == 5  # the bias is a dark of 1 ms too, in a file alone
    local = Library(made.masters)
    np.testing.assert_array_equal(library.flats[0].data, local.flats[0].data)
    opened = ostcal.open_master(library.flats[0].path)
    np.testing.assert_array_equal(opened.data, local.flats[0].data)
    assert library.match(light(made, 200), flat="none").darks[0][0].settings["gain"] == 200


def test_without_a_directory_that_of_the_configuration_is_opened(made: Night) -> None:
    assert len(Library(config=made.config())) == 6


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "words"),
    [
        (("absent",), {}, InputError, "absent: there is no such directory of masters"),
        ((), {}, InputError, "there is no such directory of masters"),
        (({"master_frames": {}},), {}, InputError, "is no path of a directory; a configuration is config="),
        (("absent",), {"config": {"master_frame": {}}}, ConfigError, "master_frame"),
    ],
)
def test_what_is_no_library_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, keywords: Any, error: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        Library(*arguments, **keywords)


# ---- matching ----


@pytest.mark.parametrize("gain", [100, 200])
def test_a_match_is_what_calibrate_takes(made: Night, library: Library, tmp_path: Path, gain: int) -> None:
    options: dict[str, Any] = {} if gain == 100 else {"flat": "none"}  # the flat is of gain 100
    match = library.match(light(made, gain), **options)
    assert match.dark is not None
    assert match.dark.settings["gain"] == gain
    status = CalibrationApplier(made.config()).calibrate_file(light(made, gain), tmp_path, **options)
    (frame,) = status.details["frames"].values()
    assert frame["masters"] == [match.dark.name, *([match.flat.name] if match.flat is not None else [])]
    found = CalibrationApplier(made.config()).find_masters(light(made, gain), **options)
    assert found.dark is not None
    assert found.dark.parts[0].master.record.name == match.dark.name


def test_a_match_says_why(made: Night, library: Library) -> None:
    match = library.match(light(made, 100))
    assert match.dark is not None
    assert match.flat is not None
    lines = repr(match).splitlines()
    assert lines[0] == "<Match"
    assert any(
        line.strip().startswith(f"{match.dark.name}: settings as of the light; taken 1.0 days") for line in lines
    )
    assert any(match.flat.name in line and "taken 0.7 days" in line for line in lines)
    assert match.flat.name in match._repr_html_()


def test_ccddata_is_matched_by_its_header(made: Night, library: Library) -> None:
    frame = CCDData.read(light(made, 200), unit="adu")
    of_object, of_file = (library.match(one, flat="none") for one in (frame, light(made, 200)))
    assert of_object.dark is not None
    assert of_object.dark.settings["gain"] == 200
    assert of_object.reasons == of_file.reasons
    with pytest.raises(InputError, match="light=ndarray is no science frame"):
        library.match(frame.data)


def test_where_nothing_fits_the_reason_is_given(made: Night, library: Library, tmp_path: Path) -> None:
    (path,) = n.write_frames(tmp_path, n.dark_frames(5.0, 1), "Light Frame", 5.0, GAIN=300)
    with pytest.raises(InputError, match=r"light_000\.fits: no master dark fits \(5 s\): .*gain 200"):
        library.match(path)
    with pytest.raises(InputError, match="is a master or a stack of frames"):
        library.match(next(made.masters.glob("master_dark*.fits")))


def test_the_overscan_of_a_light_does_not_count(tmp_path: Path) -> None:
    """A light is matched by its trimmed size, as it is calibrated."""
    night = Night(tmp_path)
    cards = {"BIASSEC": "[21:28,1:20]", "TRIMSEC": "[1:20,1:20]"}
    n.write_darks(night, 5.0, **cards)
    night.run_darks()
    (path,) = n.write_frames(tmp_path / "lights", n.dark_frames(5.0, 1), "Light Frame", 5.0, **cards)
    library = Library(night.masters)
    assert library.darks[0].shape == (20, 20)
    assert library.match(path, flat="none").dark is not None
    assert CalibrationApplier(night.config()).find_masters(path, flat="none").dark is not None


def test_a_named_master_is_taken(made: Night, library: Library) -> None:
    dark = library.select(kind="dark", gain=100, exposure=2)[0]
    match = library.match(light(made, 100), dark=dark.name, flat="none")
    assert dark.name in [one.name for one, _ in match.darks]
    assert match.flat is None
    with pytest.raises(InputError, match="darks: no option of calibrating"):
        library.match(light(made, 100), darks="x")  # type: ignore[call-arg]


# ---- coverage and calibrating ----


def test_coverage_is_that_of_the_command(made: Night, library: Library) -> None:
    coverage = library.coverage(str(made.root / "lights"))
    expected = coverage_of(made.config(), [made.root / "lights"])
    assert coverage == expected
    assert repr(coverage).startswith("<Coverage lights: 4, groups: 2; groups that lack masters: ")
    page = coverage._repr_html_()
    assert page.count("<tr>") == 3
    assert library.darks.select(gain=200, exposure=5)[0].name in page


def test_lights_that_are_not_there_are_not_covered(library: Library, tmp_path: Path) -> None:
    coverage = library.coverage(tmp_path / "absent")
    assert repr(coverage) == "<Coverage lights: 0, groups: 0; nothing to cover; unusable files: 1>"
    assert "absent" in coverage._repr_html_()


def test_lights_are_calibrated_in_one_line(made: Night, library: Library, tmp_path: Path) -> None:
    status = library.calibrate(made.root / "lights", tmp_path / "out", flat="none")
    assert len(status.data["calibrated"]) == 4
    assert float(np.median(fits.getdata(status.data["calibrated"][0]))) == pytest.approx(500, abs=10)


# ---- displays ----


def test_a_library_is_shown_in_a_line_and_as_a_table(made: Night, library: Library) -> None:
    assert repr(library) == f"<Library {made.masters}: 6 masters (1 bias, 4 dark, 1 flat)>"
    assert repr(library.darks) == "<4 masters (4 dark)>"
    page = library._repr_html_()
    assert page.count("<tr>") == 7
    for text in ("exposure", "gain", "200", "-10 C", library.flats[0].name):
        assert text in page
    assert "offset" in page
    assert ">filter<" not in page  # no master has one
    assert library.darks._repr_html_().count("<tr>") == 5


def test_a_damaged_master_is_said_and_left_out(made: Night, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masters = shutil.copytree(made.masters, tmp_path / "masters")
    (record,) = masters.glob("masters.zarr/master_flat*/zarr.json")
    record.write_text("{}")
    for file in masters.glob("master_flat*.fits"):
        file.unlink()
    with caplog.at_level(logging.WARNING):
        assert len(Library(masters)) == 5
    assert "master_flat" in caplog.text
