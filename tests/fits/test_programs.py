"""Headers of many programs, each understood as what it is; and the page that says so."""

from __future__ import annotations

import pytest

from ostcal.fits.headers import metadata_from_header
from ostcal.naming import night_of
from support.folders import ROOT
from support.programs import SAMPLES, Sample


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.program for sample in SAMPLES])
def test_what_a_program_writes_is_understood(sample: Sample) -> None:
    found = metadata_from_header(sample.header, width=6, height=4, path=f"/data/{sample.path}")
    said = sample.expected
    temperature_c = found.ccd_temperature_c if found.set_temperature_c is None else found.set_temperature_c
    noon_utc_s = None
    assert found.unreadable == ()
    assert (found.frame_type, found.exposure_time_s) == (said.kind, said.exposure_s)
    assert (found.settings.gain, found.settings.offset) == (said.gain, said.offset)
    assert found.settings.binning == said.binning
    assert (found.filter_name, found.settings.camera) == (said.filter_name, said.camera)
    assert temperature_c == said.temperature_c
    assert night_of(found.date_obs, noon_utc_s) == said.night
    assert found.bayer_pattern == said.bayer
    assert found.is_master == said.is_master
    for name, value in said.settings.items():
        assert getattr(found.settings, name) == value, name


def test_the_page_of_cameras_has_a_row_for_each_program() -> None:
    page = (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")}
    assert {sample.program.split(" (")[0] for sample in SAMPLES} <= {row.split(" (")[0] for row in rows}


def test_the_page_says_where_the_cards_were_seen() -> None:
    page = (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8")
    lines = [line.split("|") for line in page.splitlines() if line.count("|") == 8 and not line.startswith("|---")]
    said = {cells[1].strip().split(" (")[0]: cells[6].strip() for cells in lines[1:]}
    known: dict[str, str] = {}
    for sample in SAMPLES:
        known.setdefault(sample.program.split(" (")[0], sample.seen)
    assert said == known
