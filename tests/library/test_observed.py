"""When the frames of a master were taken is read from stores and files of any age, and decides what is loaded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import load_master_bias, load_master_dark, load_master_flat
from ostcal.errors import InputError
from ostcal.inputs.observed import Observed
from ostcal.library.find import find_masters
from ostcal.library.master_header import observed_in
from support import night as n
from support.fits_samples import read_with_astropy, write_frame
from support.night import Night

DAY = datetime(2026, 1, 10, 20, tzinfo=UTC)


def write_master(folder: Path, name: str, kind: str, level: float, taken: str | None, **cards: Any) -> None:
    """Write a master of another program: made in the order in which it is written."""
    folder.mkdir(exist_ok=True)
    made = f"2026-12-{len(list(folder.iterdir())) + 1:02d}T12:00:00"
    values = {"IMAGETYP": kind, "EXPTIME": 60.0, "DATE": made, "DATE_OBS": taken, **cards}
    image = np.full((8, 12), 1.0, np.float32)
    image[:4] = level
    write_frame(
        folder / f"{name}.fits",
        image,
        **{key: value for key, value in values.items() if value is not None},
    )


@pytest.mark.parametrize(
    ("kind", "load"),
    [
        ("Master Bias", load_master_bias),
        ("Master Dark", lambda config, **keys: load_master_dark(60.0, config, **keys)),
        ("Master Flat", lambda config, **keys: load_master_flat("L", config, **keys)),
    ],
)
def test_the_master_that_was_taken_nearest_is_loaded_not_the_one_made_last(
    tmp_path: Path, kind: str, load: Any
) -> None:
    cards = {"FILTER": "L"} if "Flat" in kind else {}
    masters = tmp_path / "masters"
    for name, level, taken in (
        ("june", 6.0, "2026-06-10T20:00:00"),
        ("march", 3.0, "2026-03-10T20:00:00"),
        ("january", 1.0, "2026-01-10T20:00:00"),
        ("unknown", 9.0, None),
    ):
        write_master(masters, f"master_{name}", kind, level, taken, **cards)
    config = {"master_frames": {"output_dir": str(masters)}}

    def level(**keys: Any) -> float:
        image = load(config, **keys)
        return float(image[0, 0] / image[-1, 0])  # flats of other programs are divided by their mean

    assert level() == 6.0
    assert level(taken_at="2026-01-20T00:00:00") == 1.0
    assert level(taken_at=datetime(2026, 4, 1, tzinfo=UTC)) == 3.0
    assert level(taken_at="2025-01-01") == 1.0
    assert level(taken_at="2026-04-24T23:00:00-05:00") == 3.0  # 46 days after March, 47 before June
    with pytest.raises(InputError, match="taken_at: 'tonight' is not a time; write it as 2026-01-10T22:00:00"):
        level(taken_at="tonight")


FROM, TO = "2026-01-10T20:00:00", "2026-01-10T22:00:00"


@pytest.mark.parametrize(
    ("cards", "hours"),
    [
        ({"DATE-OBS": FROM}, (0, 0, 0)),
        ({"DATE-OBS": FROM, "DATE-END": TO}, (0, 1, 2)),
        ({"DATE-OBS": f"{FROM}Z", "DATE-END": "2026-01-10T22:00:00+01:00"}, (0, 0.5, 1)),
        ({"DATE-OBS": FROM, "DATE-END": "2026-01-10T19:00:00"}, (0, 0, 0)),
        ({"DATE-OBS": FROM, "DATE-END": TO, "DATE-AVG": "2026-01-10T21:45:00"}, (0, 1.75, 2)),
        ({"DATE-OBS": FROM, "DATE-END": TO, "DATE-AVG": "2026-01-10T23:00:00"}, (0, 1, 2)),
        ({"DATE-OBS": FROM, "DATE-END": TO, "DATE-AVG": "soon"}, (0, 1, 2)),
        ({"DATE-OBS": "yesterday"}, None),
        ({"DATE-END": TO}, None),
        ({}, None),
    ],
)
def test_the_cards_of_any_program_say_when_its_frames_were_taken(
    cards: dict[str, str], hours: tuple[float, float, float] | None
) -> None:
    wanted = None
    if hours is not None:
        first, middle, last = (DAY + timedelta(hours=h) for h in hours)
        wanted = Observed(first=first, middle=middle, last=last)
    assert observed_in(cards.get) == wanted


def test_a_master_keeps_the_time_of_its_frames_in_the_store_and_in_its_file(tmp_path: Path) -> None:
    night = Night(tmp_path)
    n.write_darks(night, 2.0)
    made = night.run_darks()
    (stored,) = find_masters(str(night.masters))
    assert stored.record.observed is not None
    first = n.START + timedelta(minutes=2)
    assert stored.record.observed.first == first
    assert stored.record.observed.last == first + timedelta(seconds=6 * 5 + 2)
    assert stored.record.observed.middle == first + timedelta(seconds=3 * 5 + 1)
    _, header = read_with_astropy(n.one_file(made, "dark"))
    assert header["DATE-AVG"] == "2026-11-21T18:02:16.000"
    # a store of an older version has the cards alone, without the median
    (path,) = night.masters.glob("masters.zarr/*/zarr.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["attributes"]["observed"], document["attributes"]["checksum"]
    document["attributes"]["cards"] = [c for c in document["attributes"]["cards"] if c[0] != "DATE-AVG"]
    path.write_text(json.dumps(document), encoding="utf-8")
    (older,) = find_masters(str(night.masters))
    assert older.record.observed == stored.record.observed
    for broken in ("cards", {"DATE-OBS": 5}, [["DATE-OBS"], [1, 2], "odd", ["DATE-OBS", 7.0]]):
        document["attributes"]["cards"] = broken
        path.write_text(json.dumps(document), encoding="utf-8")
        (damaged,) = find_masters(str(night.masters))
        assert damaged.record.observed is None


def test_ages_are_in_the_header_and_what_is_older_than_a_month_is_one_line(tmp_path: Path) -> None:
    masters, lights = tmp_path / "masters", tmp_path / "lights"
    write_master(masters, "master_dark", "Master Dark", 500.0, "2026-06-01T22:00:00")
    write_master(masters, "master_flat_june", "Master Flat", 1.0, "2026-06-12T22:00:00", FILTER="L")
    write_master(masters, "master_flat_january", "Master Flat", 1.0, "2026-01-10T22:00:00", FILTER="R")
    lights.mkdir()
    for name in ("L", "R"):
        write_frame(
            lights / f"light_{name}.fits",
            np.full((8, 12), 1500, np.uint16),
            IMAGETYP="Light Frame",
            EXPTIME=60.0,
            DATE_OBS="2026-06-10T22:00:00",
            FILTER=name,
        )
    config = tmp_path / "c.yaml"
    values: dict[str, Any] = {"master_frames": {"output_dir": str(masters)}}
    config.write_text(json.dumps(values), encoding="utf-8")
    said = n.ostcal("calibrate", lights, "--config", config, "--output-dir", tmp_path / "cal")
    assert said.exit_code == 0
    (line,) = [line for line in said.stderr.splitlines() if "month" in line]
    assert line.endswith(f"flat master_flat_january 151 days before {lights / 'light_R.fits'}")
    ages = {}
    for name in ("L", "R"):
        _, header = read_with_astropy(tmp_path / "cal" / f"light_{name}_cal.fits")
        ages[name] = header["AGEDARK"], header["AGEFLAT"], header.get("AGEBIAS")
    assert ages == {"L": (9.0, -2.0, None), "R": (9.0, 151.0, None)}
    config.write_text(json.dumps(values | {"matching": {"max_age_days": {"flat": 90}}}), encoding="utf-8")
    said = n.ostcal("calibrate", lights, "--config", config, "--output-dir", tmp_path / "again")
    (warning,) = [line for line in said.stderr.splitlines() if "max_age_days" in line]
    assert warning.startswith("warning: flat master_flat_january: its frames were taken 151 days before")
