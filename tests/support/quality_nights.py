"""Nights of simulated sensors, whose truth is known, with faults put into single frames; and the reports on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.simulator.sensor import SENSORS, Exposure, SensorModel
from support import night as n
from support.fits_samples import write_frame
from support.night import Night

SIZE = {"width": 256, "height": 192}
DEMO = replace(SENSORS["demo"], **SIZE)
BAYER = replace(SENSORS["bayer"], **SIZE)
"""14 bits shifted to 16, four colours."""
QUIET = replace(DEMO, name="quiet", gain_e_per_adu=1.0, read_noise_e=0.5, full_well_e=60_000.0)
"""Read noise of half an ADU."""
SENSORS_TESTED = {"demo": DEMO, "bayer": BAYER, "quiet": QUIET}

DARK_EXPOSURES_S = (3.0, 20.0, 60.0)
FLAT_EXPOSURE_S = 3.0
KINDS = {"bias": "Bias Frame", "dark": "Dark Frame", "flat": "Flat Frame"}

Stack = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Frames of one kind and exposure."""

    kind: str
    exposure_s: float
    frames: Stack
    temperatures_c: tuple[float, ...] = ()
    """As the headers say; -10 where empty."""

    @property
    def stem(self) -> str:
        return f"{self.kind}_{self.exposure_s:g}s"

    def file(self, index: int) -> str:
        """Name the file of a frame."""
        return f"{self.stem}_{index:03d}.fits"

    def with_frame(self, index: int, values: NDArray[Any]) -> Simulated:
        """Return the series with other values in a frame."""
        frames = self.frames.copy()
        frames[index] = np.clip(np.rint(values), 0, 65535)
        return replace(self, frames=frames)


def bias(sensor: SensorModel, count: int = 8, seed: int = 1) -> Simulated:
    return Simulated(kind="bias", exposure_s=0.0, frames=exposed(sensor, [Exposure(exposure_time_s=0.0)] * count, seed))


def dark(
    sensor: SensorModel, exposure_s: float, count: int = 8, seed: int = 1, light_e_per_s: float = 0.0
) -> Simulated:
    exposure = Exposure(exposure_time_s=exposure_s, illumination_e_per_s=light_e_per_s)
    return Simulated(kind="dark", exposure_s=exposure_s, frames=exposed(sensor, [exposure] * count, seed))


def flat(sensor: SensorModel, count: int = 8, seed: int = 1, lamp: Sequence[float] | None = None) -> Simulated:
    """Return flats of about half of full scale; `lamp` is the light of each frame, 1 the usual one."""
    scatter = 1 + 0.003 * np.random.default_rng([seed, 77]).standard_normal(count)
    levels = scatter if lamp is None else np.asarray(lamp)
    brightest_e = min(sensor.full_well_e, (65535 - sensor.bias_level_adu) * sensor.gain_e_per_adu)
    exposures = [
        Exposure(
            exposure_time_s=FLAT_EXPOSURE_S, illumination_e_per_s=float(0.6 * brightest_e * level / FLAT_EXPOSURE_S)
        )
        for level in levels
    ]
    return Simulated(kind="flat", exposure_s=FLAT_EXPOSURE_S, frames=exposed(sensor, exposures, seed))


def exposed(sensor: SensorModel, exposures: Sequence[Exposure], seed: int) -> Stack:
    rng = np.random.default_rng([seed, len(exposures), round(1000 * exposures[0].exposure_time_s)])
    return np.stack([sensor.expose(exposure, rng) for exposure in exposures])


def clean(sensor: SensorModel, seed: int = 1, count: int = 8) -> list[Simulated]:
    """Return bias, darks of three exposures and flats without a fault."""
    darks = [dark(sensor, exposure_s, count, seed) for exposure_s in DARK_EXPOSURES_S]
    return [bias(sensor, count, seed), *darks, flat(sensor, count, seed)]


def write(night: Night, series: Sequence[Simulated], sensor: SensorModel, *, day: int = 0) -> Night:
    """Write series as FITS files, each in a folder of its own; `day` names the files of another night."""
    start = n.START + timedelta(days=day)
    for number, one in enumerate(series):
        folder = (night.flats if one.kind == "flat" else night.darks) / one.stem
        folder.mkdir(parents=True, exist_ok=True)
        for index, frame in enumerate(one.frames):
            began = start + timedelta(hours=number, seconds=index * (one.exposure_s + 3))
            write_frame(folder / one.file(index), frame, **_cards(one, index, began, sensor))
    return night


def _cards(one: Simulated, index: int, began: datetime, sensor: SensorModel) -> dict[str, Any]:
    temperature_c = one.temperatures_c[index] if one.temperatures_c else -10.0
    bayer = {"BAYERPAT": sensor.bayer.pattern} if sensor.bayer is not None else {}
    return {
        **n.CAMERA,
        "INSTRUME": sensor.name,
        "IMAGETYP": KINDS[one.kind],
        "EXPTIME": one.exposure_s,
        "DATE_OBS": began.isoformat(timespec="milliseconds")[:-6],
        "CCD_TEMP": temperature_c,
        **bayer,
    }


def clean_night(root: Path, sensor: SensorModel = DEMO, seed: int = 1, count: int = 8) -> Night:
    return write(Night(root), clean(sensor, seed, count), sensor)


def config(
    night: Night, *, quality: dict[str, Any] | None = None, storage: dict[str, Any] | None = None, **keys: Any
) -> Path:
    """Write the configuration of a night; keywords as for `Night.config`."""
    path = night.root / "c.yaml"
    # Bad frames stay in their masters here, which are judged with them; test_left_out_frames.py leaves them out.
    quality = {"leave_out": False, **(quality or {})}
    values = {**night.config(**keys), "quality": quality, "storage": storage or {}}
    values["master_frames"].setdefault("output_dir", str(night.masters))
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def run(night: Night, *options: str, **keys: Any) -> n.Outcome:
    """Run ``ostcal masters`` in this process; keywords as for `config`."""
    return n.ostcal("masters", "--config", config(night, **keys), "--no-confirm", *options)


def newest_report(night: Night) -> dict[str, Any]:
    """Read the numbers of the newest report."""
    path = max(night.masters.glob("report_*.json"), key=lambda one: one.stat().st_mtime_ns)
    numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return numbers


def alarms(report: dict[str, Any]) -> set[tuple[str, str]]:
    """Return what is no pass: kind of the master and check, but for too few frames."""
    return {
        (master["kind"], finding["check"])
        for master in report["masters"]
        for finding in master["findings"]
        if finding["outcome"] != "pass" and finding["check"] != "frames"
    }


def flagged(report: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the frames that are named: check and file."""
    return {(one["check"], Path(one["frame"]).name) for one in report["flagged_frames"]}


def master_of(report: dict[str, Any], kind: str, exposure_s: float | None = None) -> dict[str, Any]:
    """Return the only master of a kind and exposure."""
    (master,) = [
        one
        for one in report["masters"]
        if one["kind"] == kind and exposure_s in (None, one["settings"]["exposure_time_s"])
    ]
    return dict(master)
