"""A week of unattended evenings: each command that a night runs writes a document that keeps to the schema."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from astropy.io import fits

from ostcal.cli.document import json_schema
from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support.night import ostcal
from support.simulator_client import SMALL

NIGHTS = 7
VALIDATOR = jsonschema_rs.validator_for(json_schema())


class Week:
    """An observatory whose computer is some days back."""

    def __init__(self, folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.lights = folder / "lights"
        self.config = folder / "night.yaml"
        self.documents: list[dict[str, Any]] = []
        self._monkeypatch = monkeypatch
        values = {
            "video": {
                "camera_type": "alpaca",
                "alpaca": {"port": port, "filter_wheel_id": 0, "cover_calibrator_id": 0},
            },
            "dark_capture": {
                "num_darks": 3, "science_exposure_time": 4.0, "exposure_factors": [1.0],
                "output_dir": str(folder / "darks"),
            },
            "flat_capture": {"num_flats": 3, "filters": ["L"], "output_dir": str(folder / "flats")},
            "master_frames": {"output_dir": str(folder / "masters"), "min_frames": 3},
            "compute": {"workers": 1},
            "site": {"latitude": 51.5, "longitude": 0.0},
            "schedule": {"when": "00:00", "time_zone": "utc", "cadence_days": {"bias": 3, "dark": 5, "flat": 1}},
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(values), encoding="utf-8")

    def become(self, days: int) -> None:
        """Set the clock of the computer: to 21 h UTC of yesterday, and some days after or before."""
        now = datetime.now(UTC)
        ahead = now.replace(hour=21, minute=0) - timedelta(days=1) - now + timedelta(days=days)

        class Shifted:
            @staticmethod
            def now(zone: tzinfo) -> datetime:
                return datetime.now(zone) + ahead

        self._monkeypatch.setattr("ostcal.clock.datetime", Shifted)

    def run(self, *words: str | Path) -> dict[str, Any]:
        """Run a command; its document keeps to the schema and says how it ended."""
        outcome = ostcal(*words, "--config", self.config, "--json")
        values: dict[str, Any] = json.loads(outcome.stdout)
        VALIDATOR.validate(values)
        assert values["command"] == words[0]
        assert values["exit_code"] == outcome.exit_code
        assert bool(values["errors"]) == (outcome.exit_code not in (0, 3)), outcome.text
        self.documents.append(values)
        return values

    def take_light(self, dark: Path, night: int) -> Path:
        """Write a light as the camera program would, with the header of a dark of this night."""
        path = self.lights / f"m31_{night}.fits"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(dark, path)
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update({"IMAGETYP": "Light Frame", "FILTER": "L"})
            hdus[0].data += 500
        return path


@pytest.mark.slow
def test_a_week_of_documents_keeps_to_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=5000.0)) as observatory:
        week = Week(tmp_path, observatory.port, monkeypatch)
        for night in range(NIGHTS):
            week.become(night - NIGHTS)
            spend_night(week, night)
        assert week.run("prune", "--keep", "2")["removals"]
        week.run("prune", "--keep", "2", "--apply")
    week.become(0)
    observatory_gone = week.run("schedule", "--once")
    assert observatory_gone["exit_code"] == 1
    series = [entry for one in week.documents if one["command"] == "schedule" for entry in one["series"]]
    added = [(entry["kind"], Path(entry["location"]).name) for entry in series if entry["added"]]
    taken = Counter(
        kind for kind, name in added if kind != "dark" or name.startswith("exp_4")
    )  # not those of the flats
    assert taken == {"bias": 3, "dark": 2, "flat": NIGHTS}
    assert len(list((tmp_path / "calibrated").glob("*_cal.fits"))) == NIGHTS
    assert Counter(document["exit_code"] for document in week.documents if document is not observatory_gone)[1] == 0


def spend_night(week: Week, night: int) -> None:
    """Run what an evening and the morning after run."""
    coming = week.run("schedule", "--dry-run")["visits"]
    assert 6 <= len(coming) <= 8
    done = week.run("schedule", "--once")
    assert {master["kind"] for master in done["masters"] if master["state"] == "made"} >= {"flat"}
    (dark,) = sorted((week.folder / "darks").rglob("exp_4*.zarr"))[-1:]
    exported = week.folder / f"exported_{night}"
    files = ostcal("export", dark, "--to", exported, "--json")
    VALIDATOR.validate(json.loads(files.stdout))
    light = week.take_light(sorted(exported.iterdir())[0], night)
    assert week.run("coverage", light)["coverage"]
    (entry,) = week.run("calibrate", light)["calibrated"]
    assert {age["kind"] for age in entry["ages"]} >= {"dark", "flat"}
    assert len(week.run("library")["masters"]) >= 3
    week.run("masters", "--no-confirm")
    week.run("report")
