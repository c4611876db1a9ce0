"""Nothing from a file runs as code or names a place outside the output directories."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ostcal.errors import OstcalError
from ostcal.series.reader import open_series
from support import night as n
from support.night import Night, ostcal

NASTY = (
    "../../x", "/tmp/x", "..", "a/../../b", "x" * 300, ".", "a\\..\\b", "C:\\x", "CON", "~root", "$(touch x)", "`id`",
    "a\tb", "-rf", "%2e%2e%2f", "\N{FULLWIDTH SOLIDUS}x", "a b", "*", "",
)  # fmt: skip


def outside(root: Path, *allowed: Path) -> list[Path]:
    """Return the files below a folder that are in none of those named."""
    return [path for path in root.rglob("*") if path.is_file() and not any(a in path.parents for a in allowed)]


# ---- what runs as code ----


@pytest.mark.parametrize("name", ["zarr.json", "frames/zarr.json"])
@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle", "vlen-utf8", "json2", "numcodecs.msgpack2"])
def test_stored_objects_are_refused(tmp_path: Path, name: str, codec: str) -> None:
    night = Night(tmp_path)
    n.write_darks(Night(tmp_path / "raw"), 5.0)
    assert ostcal("import", tmp_path / "raw" / "darks", "--config", n.write_config(night)).exit_code == 0
    location = night.darks / "exp_5.000s.zarr"
    metadata = json.loads((location / "frames" / "zarr.json").read_text())
    metadata["codecs"] = [{"name": codec, "configuration": {}}]
    metadata["data_type"] = "object"
    (location / name).write_text(json.dumps(metadata))
    with pytest.raises(OstcalError, match=r"exp_5\.000s\.zarr"):
        open_series(location).read_frame(0)


# ---- what names a place ----


@pytest.mark.parametrize("word", ["FILTER", "INSTRUME", "CAMERAID", "READOUTM", "OBJECT"])
def test_no_word_of_a_header_leads_out_of_the_output_directories(tmp_path: Path, word: str) -> None:
    night = Night(tmp_path / "a" / "b" / "night")
    night.root.mkdir(parents=True)
    texts = NASTY if word == "FILTER" else NASTY[:5]
    for number, nasty in enumerate(texts):
        cards = {word: nasty.encode("ascii", "replace").decode().replace("\t", " ")}
        n.write_frames(night.darks, n.dark_frames(2.0, 3), "Dark Frame", 2.0, stem=f"dark{number}", **cards)
        n.write_frames(night.flats, n.flat_frames(2.0, [20000] * 3), "Flat Frame", 2.0, stem=f"flat{number}", **cards)
    n.write_frames(night.root / "lights", n.dark_frames(2.0, 1), "Light Frame", 2.0, stem="light", **cards)
    before = set(outside(tmp_path))
    masters = n.run_command(night)
    assert masters.exit_code in (0, 1, 3), masters.text
    config, series = night.root / "c.yaml", night.root / "series"
    values = json.loads(config.read_text())
    values["dark_capture"]["output_dir"] = values["flat_capture"]["output_dir"] = str(series)
    (night.root / "import.yaml").write_text(json.dumps(values))
    assert ostcal("import", night.darks, night.flats, "--config", night.root / "import.yaml").exit_code == 0
    for location in series.glob("*.zarr"):
        assert ostcal("export", location, "--to", night.root / "exported").exit_code == 0
    calibrated = ostcal("calibrate", night.root / "lights", "--config", config, "--flat", "none",
                        "--output-dir", night.root / "calibrated")  # fmt: skip
    assert calibrated.exit_code in (0, 1), calibrated.text
    places = (night.masters, series, night.root / "exported", night.root / "calibrated")
    assert set(outside(tmp_path, *places)) == before | {config, night.root / "import.yaml"}
    assert [path for path in tmp_path.rglob("*") if len(path.name.encode()) > 255 or ".." in path.parts] == []


@pytest.mark.parametrize("nasty", ["../../x.fits", "/tmp/x.fits", "a/b.fits", "..", "", "x" * 400, "a\x00b"])
def test_no_word_of_a_record_leads_out_of_the_directory_of_an_export(tmp_path: Path, nasty: str) -> None:
    night = Night(tmp_path / "a" / "night")
    night.root.mkdir(parents=True)
    n.write_darks(Night(tmp_path / "raw"), 5.0)
    assert ostcal("import", tmp_path / "raw" / "darks", "--config", n.write_config(night)).exit_code == 0
    location = night.darks / "exp_5.000s.zarr"
    path = location / "ledger" / "000001.json"
    text = path.read_text()

    def changed(value: object) -> object:
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value]
        return nasty if isinstance(value, str) and not value.startswith(("crc", "20")) and len(value) != 80 else value

    path.write_text(json.dumps(changed(json.loads(text))))
    before = set(outside(tmp_path))
    outcome = ostcal("export", location, "--to", night.root / "exported")
    assert outcome.exit_code in (0, 1), outcome.text
    assert set(outside(tmp_path, night.root / "exported")) == before
    assert len(list((night.root / "exported").glob("*.fits"))) in (6, 7)


@pytest.mark.parametrize("nasty", ["../../x.fits", "/tmp/x.fits", "a/b.fits", "..", ""])
def test_no_attribute_of_a_master_leads_out_of_its_directory(tmp_path: Path, nasty: str) -> None:
    night = Night(tmp_path / "a" / "night")
    night.root.mkdir(parents=True)
    n.write_darks(night, 5.0)
    assert n.run_command(night, "--darks-only").exit_code == 0
    (stored,) = (night.masters / "masters.zarr").glob("master_dark*")
    metadata = json.loads((stored / "zarr.json").read_text())
    attributes = metadata["attributes"]
    metadata["attributes"] = {
        key: [nasty]
        if key == "files"
        else nasty
        if isinstance(value, str) and key not in ("format", "made_at")
        else value
        for key, value in attributes.items()
    }
    metadata["attributes"]["files"] = [nasty]
    del metadata["attributes"]["checksum"]
    (stored / "zarr.json").write_text(json.dumps(metadata))
    n.write_frames(night.root / "lights", n.dark_frames(5.0, 1), "Light Frame", 5.0, stem="light")
    before = {path: path.read_bytes() for path in outside(tmp_path, night.masters)}
    config = night.root / "c.yaml"
    for arguments in (
        ("report", "--config", config),
        ("library", "--config", config),
        ("verify", night.masters),
        ("masters", "--config", config, "--no-confirm"),
        ("calibrate", night.root / "lights", "--config", config, "--flat", "none", "--output-dir", night.root / "out"),
    ):
        outcome = ostcal(*arguments)
        assert outcome.exit_code in (0, 1, 3), outcome.text
    after = {path: path.read_bytes() for path in outside(tmp_path, night.masters, night.root / "out")}
    assert after == before


def test_sizes_in_headers_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    night = Night(tmp_path)
    stack = n.write_darks(night, 5.0)
    for number, (width, height) in enumerate(((2**31, 2**31), (60_000, 60_000), (2**62, 1), (9576, 6388))):
        path = night.darks / "exp_5.000s" / f"huge_{number}.fits"
        data = (night.darks / "exp_5.000s" / "dark_000.fits").read_bytes()
        for keyword, value in (("NAXIS1", width), ("NAXIS2", height)):
            data = re.sub(keyword.encode() + rb" *=.{21}", f"{keyword:8}= {value:>20}".encode(), data)
        path.write_bytes(data)
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0
    assert len(re.findall(r"warning: .*huge_\d\.fits", outcome.stderr)) == 4
    (master,) = night.masters.glob("*.fits")
    np.testing.assert_array_equal(n.read_with_astropy(master)[0], n.combined(stack).mean)
