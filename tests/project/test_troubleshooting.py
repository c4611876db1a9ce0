"""Every error of docs/troubleshooting.md is provoked with the real command and printed as the page shows it.

An entry of the page is a heading, the command with its exit code, and the lines that are printed, in which ``<words>``
stand for paths, numbers and names, and an indented line goes on where the one before it ends.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.io import fits

from ostcal.places.locking import LOCK_FILE, locked, series_locked
from ostcal.places.objects import ObjectPath
from ostcal.raw import reader
from ostcal.simulator.options import CoverKind, Light, SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from ostcal.workflow.schedule import LOCK_FILE as SCHEDULE_LOCK
from support import night as n
from support.absent_packages import EXTRAS, run_without
from support.bombs import one_tile, with_card
from support.dng_samples import write_dng
from support.fits_samples import header_block, write_frame
from support.folders import ROOT
from support.hook_server import hook_server
from support.mosaics import Image, hdu_of, write_mosaic, write_mosaics
from support.night import Night, Outcome
from support.object_samples import fresh_bucket, write_series
from support.object_server import FaultyProxy, credentials, free_port, put_object, s3_server
from support.odd_servers import Answer, OddServer, Refusal, odd_camera
from support.series_samples import new_series
from support.simulator_client import SMALL
from support.xisf_samples import write_xisf

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CHAPTERS = (
    "No input files",
    "Exposure mismatch",
    "Poor masters",
    "Light leak",
    "Masters and science frames that do not go together",
    "Disk space",
    "Permissions",
    "Object stores",
    "Camera",
    "Configuration",
    "Automation",
)
SCALE = 400.0
"""How much faster simulated time passes."""


# ---- the page ----


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One error of the page."""

    chapter: str
    title: str
    command: str
    exit_code: int
    lines: tuple[str, ...]
    advice: str
    """What comes below the lines."""


def parsed(page: str) -> list[Entry]:
    return [
        entry_of(chapter.partition("\n")[0], part)
        for chapter in page.split("\n## ")[1:]
        for part in chapter.split("\n### ")[1:]
    ]


def entry_of(chapter: str, part: str) -> Entry:
    found = re.fullmatch(
        r"(?P<title>.+)\n\n`ostcal (?P<command>\w+)`, exit code (?P<code>\d)\n\n"
        r"```text\n(?P<lines>.+?)\n```\n\n(?P<advice>.+)",
        part.rstrip("\n"),
        flags=re.DOTALL,
    )
    assert found is not None, f"{chapter}: this is not written as an entry:\n{part}"
    return Entry(
        chapter=chapter,
        title=found["title"],
        command=found["command"],
        exit_code=int(found["code"]),
        lines=tuple(re.sub(r"\n +", " ", found["lines"]).split("\n")),
        advice=found["advice"],
    )


ENTRIES = parsed(PAGE)


def pattern_of(line: str) -> re.Pattern[str]:
    """Return what a printed line must be like: ``<...>`` is anything but nothing, all else is literal."""
    return re.compile(
        "".join(".+?" if part.startswith("<") else re.escape(part) for part in re.split(r"(<[^<>]+>)", line))
    )


# ---- provoking ----


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command and how it ended."""

    command: str
    outcome: Outcome


Provoke = Callable[[Path], Ran]
PROVOKED: dict[str, Provoke] = {}
SLOW: set[str] = set()
"""Those that wait for pauses of real time."""


def provokes(title: str, *, slow: bool = False) -> Callable[[Provoke], Provoke]:
    """Register what provokes the entry of a title."""

    def register(function: Provoke) -> Provoke:
        assert title not in PROVOKED
        PROVOKED[title] = function
        if slow:
            SLOW.add(title)
        return function

    return register


def run(command: str, *arguments: str | Path) -> Ran:
    return Ran(command=command, outcome=n.ostcal(command, *arguments))


def masters(night: Night, *options: str, **keys: Any) -> Ran:
    return run("masters", "--config", n.write_config(night, **keys), "--no-confirm", *options)


def calibrate(night: Night, *arguments: str | Path) -> Ran:
    return run("calibrate", *arguments, "--config", n.write_config(night))


def capture(command: str, folder: Path, **sections: dict[str, Any]) -> Ran:
    """Run a capturing command against the simulated camera, or what `video` says."""
    values: dict[str, dict[str, Any]] = {
        "dark_capture": {
            "num_darks": 2,
            "flat_exposure_time": 0.1,
            "science_exposure_time": 0.1,
            "exposure_factors": [1.0],
            "output_dir": str(folder / "darks"),
        },
        "flat_capture": {"num_flats": 2, "output_dir": str(folder / "flats")},
        "master_frames": {"output_dir": str(folder / "masters")},
        "video": {"camera_type": "simulator", "simulator": {"time_scale": SCALE}},
    }
    for section, keys in sections.items():
        values[section] = {**values.get(section, {}), **keys}
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return run(command, "--config", path, "--no-confirm")


def write_values(folder: Path, values: dict[str, Any]) -> Path:
    """Write a configuration."""
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def alpaca(port: int, **keys: Any) -> dict[str, Any]:
    return {"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": port, **keys}}


def simulated(*faults: str, **keys: Any) -> dict[str, Any]:
    return {"simulator": {"time_scale": SCALE, "faults": list(faults)}, "alpaca": keys}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A night with masters and a science frame, not to be changed."""
    night = Night(tmp_path_factory.mktemp("made"))
    n.write_darks(night, 5.0)
    n.write_darks(night, 2.0, n.dark_frames(2.0, seed=5))
    n.write_flats(night, 2.0, FILTER="L")
    status = night.run()
    assert not status.is_error, status.details
    return night


@pytest.fixture
def library(made: Night, tmp_path: Path) -> Night:
    """A copy of it, to be spoiled; in the folder that the provoking functions are given."""
    shutil.copytree(made.masters, tmp_path / "masters")
    return Night(tmp_path)


def fresh(folder: Path) -> Night:
    """Return a night beside the one that has masters."""
    night = Night(folder / "own")
    night.root.mkdir()
    return night


def light(folder: Path, name: str = "m31.fits", exposure_s: float = 5.0, **cards: Any) -> Path:
    """Write a science frame."""
    (path,) = n.write_frames(
        folder / "lights",
        n.samples(1, 1500.0, seed=8),
        "Light Frame",
        exposure_s,
        stem="m31",
        **{"FILTER": "L", **cards},
    )
    return path.rename(path.with_name(name))


# No input files


@provokes("There are no frames")
def no_frames(folder: Path) -> Ran:
    night = fresh(folder)
    night.darks.mkdir()
    return masters(night)


@provokes("A folder of frames is not there")
def no_folder(folder: Path) -> Ran:
    return run("masters", folder / "nothere", "--out", folder / "own")


@provokes("Nothing says what the frames are")
def no_kind(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_frames(night.root / "raw", n.dark_frames(5.0), "?", 5.0, stem="img", IMAGETYP=None)
    path = n.write_config(night)
    path.write_text(path.read_text().replace(str(night.darks), str(night.root / "raw")))
    return run("masters", "--config", path, "--no-confirm")


@provokes("Too few frames")
def too_few(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0, n.dark_frames(5.0, 2))
    return masters(night)


@provokes("Darks that are too long")
def too_long(folder: Path) -> Ran:
    return capture("darks", folder, dark_capture={"exposure_factors": [1.0, 1000.0]})


@provokes("A kind of frames that was asked for is not there")
def no_flats(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    return masters(night, create_master_flats=True)


@provokes("Lights alone")
def lights_alone(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_frames(night.darks, n.dark_frames(5.0, 3), "Light Frame", 5.0)
    return masters(night)


@provokes("A damaged frame")
def damaged(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    path = night.darks / "exp_5.000s" / "dark_003.fits"
    path.write_bytes(path.read_bytes()[:-2000])
    return masters(night, "--darks-only")


@provokes("A card that cannot be read")
def unreadable_card(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    fits.setval(night.darks / "exp_5.000s" / "dark_003.fits", "EXPTIME", value="five")
    return masters(night, "--darks-only")


@provokes("A frame that Siril calibrated")
def calibrated_by_siril(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    path = night.darks / "exp_5.000s" / "dark_003.fits"
    fits.setval(path, "PROGRAM", value="Siril 1.2.1")
    path.rename(path.with_name("pp_dark_003.fits"))
    return masters(night, "--darks-only")


@provokes("Cards and names that contradict each other")
def contradictory(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, IMAGETYP="Light Frame")
    return masters(night)


@provokes("A header that is not filled up")
def not_filled_up(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    path = night.darks / "exp_5.000s" / "dark_003.fits"
    whole = path.read_bytes()
    end = next(at for at in range(0, 2880, 80) if whole[at : at + 4] == b"END ")
    path.write_bytes(whole[: end + 80] + whole[2880:])
    return masters(night, "--darks-only")


@provokes("Frames that somebody put away")
def put_away(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    n.write_frames(night.darks / "rejected", n.dark_frames(5.0), "Dark Frame", 5.0)
    return masters(night, "--darks-only")


@provokes("Samples that do not fit their checksum")
def changed_samples(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    said = {"IMAGETYP": "'Dark Frame'", "EXPTIME": "5.0"}
    path = write_xisf(night.darks / "dark_007.xisf", n.dark_frames(5.0)[0], checksum="sha-1", keywords=said)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return masters(night, "--darks-only")


@provokes("Files of kinds that are not read")
def other_kinds(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    for name in ("a.jpg", "b.jpg", "c.ser"):
        (night.darks / name).write_bytes(b"x")
    return masters(night, "--darks-only")


@provokes("A record or samples of a series that changed")
def changed_series(folder: Path) -> Ran:
    night = fresh(folder)
    location = night.darks / "exp_5.000s.zarr"
    write_series(location, 6)
    record = location / "ledger" / "000001.json"
    record.write_text(record.read_text().replace('"gain": 100', '"gain": 108'))
    shutil.copy(location / "frames" / "c" / "3" / "0" / "0", location / "frames" / "c" / "2" / "0" / "0")
    signed = night.darks / "signed.zarr"
    hot = n.dark_frames(5.0, 3)
    hot[:, 1, 2] = 60000
    new_series(signed, hot)
    array = signed / "frames" / "zarr.json"
    array.write_text(array.read_text().replace('"uint16"', '"int16"'))
    return masters(night, "--darks-only")


@provokes("A raw file of a camera that is damaged")
def damaged_raw(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    path = write_dng(night.darks / "dark_007.dng", n.dark_frames(5.0)[0])
    path.write_bytes(path.read_bytes()[:-100])
    return masters(night, "--darks-only")


@provokes("Raw files of cameras without the extra that reads them")
def raw_without_extra(folder: Path) -> Ran:
    night = fresh(folder)
    night.darks.mkdir()
    (night.darks / "a.cr2").write_bytes(b"x")
    with pytest.MonkeyPatch.context() as patch:
        reader.can_read_raw.cache_clear()
        patch.setattr(reader, "find_spec", lambda name: None)
        ran = masters(night)
    reader.can_read_raw.cache_clear()
    return ran


@provokes("A file that lacks an extension")
def without_an_extension(folder: Path) -> Ran:
    night = fresh(folder)
    images = [Image("im1", 1000), Image("im2", 1100)]
    write_mosaics(night.darks, "Dark", 5.0, images)
    few = [hdu_of(Image("im1", 1000), n.dark_frames(5.0)[0]), hdu_of(Image("im3", 1000), n.dark_frames(5.0)[1])]
    write_mosaic(night.darks / "few.fits", few, IMAGETYP="Dark", EXPTIME=5.0)
    return masters(night, "--darks-only")


@provokes("A science frame that lacks an extension")
def science_frame_without_an_extension(folder: Path) -> Ran:
    night = fresh(folder)
    images = [Image("im1", 1000), Image("im2", 1100)]
    write_mosaics(night.darks, "Dark", 5.0, images)
    masters(night, "--darks-only")
    write_mosaics(night.root / "lights", "Light", 5.0, images[:1], n=1, seed=2)
    return calibrate(night, night.root / "lights", "--flat", "none")


@provokes("A stack of frames in one image")
def of_three_axes(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    write_frame(night.darks / "cube.fits", n.dark_frames(5.0, 3), IMAGETYP="Dark Frame", EXPTIME=5.0)
    return masters(night, "--darks-only")


@provokes("An overscan section that does not fit")
def section_that_does_not_fit(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_bias(night)
    n.write_frames(night.darks, n.bias_frames(1, seed=9), "Bias Frame", 0.0, stem="reversed", BIASSEC="[33:28,1:20]")
    return masters(night)


@provokes("A damaged compressed frame")
def damaged_inside(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    path = night.darks / "exp_5.000s" / "dark_003.fits"
    path.with_suffix(".fits.gz").write_bytes(gzip.compress(path.read_bytes())[:-300])
    path.unlink()
    return masters(night, "--darks-only")


@provokes("A compressed image in one tile that is too large")
def too_large_a_tile(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    cards = {"IMAGETYP": "Dark Frame", "EXPTIME": 5.0, **n.CAMERA}
    path = one_tile(night.darks / "large.fits.fz", n.dark_frames(5.0, 1, seed=8)[0], "RICE_1", **cards)
    with with_card(path, PCOUNT=10**8).open("ab") as file:
        file.truncate(10**8 + 2**17)
    return masters(night, "--darks-only", compute={"memory_limit": "400MB"})


@provokes("A packed file that unpacks to too much")
def unpacks_to_too_much(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    (night.darks / "bomb.fits.gz").write_bytes(gzip.compress(header_block(-64, (40_000, 40_000))))
    return masters(night, "--darks-only")


@provokes("A frame of another size")
def of_another_size(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    n.write_frames(night.darks, np.full((1, 10, 12), 1000, np.uint16), "Dark Frame", 5.0, stem="odd")
    return masters(night, "--darks-only")


@provokes("Frames of another month are too few")
def of_another_month(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_bias(night)
    before = n.START - timedelta(days=200)
    n.write_frames(night.darks / "before", n.bias_frames(2, seed=9), "Bias Frame", 0.001, start=before)
    return masters(night, "--darks-only")


@provokes("The level of a camera changed between two nights")
def level_changed(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_bias(night)
    after = n.START + timedelta(days=6)
    n.write_frames(night.darks / "after", n.bias_frames(7, seed=9, level=1030), "Bias Frame", 0.001, start=after)
    return masters(night, "--darks-only")


@provokes("Nobody knows where nights end")
def nights_not_known(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_bias(night)
    for day in range(2):
        for hour in (6, 22):
            start = n.START.replace(hour=hour, minute=0) + timedelta(days=day)
            n.write_frames(
                night.flats, n.flat_frames(1.0, [20000] * 5), "Flat Frame", 1.0, stem=f"f{day}{hour}", start=start
            )
    return masters(night)


@provokes("A master that failed and is not made again")
def still_failed(folder: Path) -> Ran:
    night = fresh(folder)
    too_bright_flats(night)
    masters(night)
    return masters(night)


@provokes("A clock that was never set")
def never_set(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_bias(night)
    reset = n.START.replace(year=2000, month=1, day=1)
    n.write_frames(night.darks / "reset", n.bias_frames(2, seed=9), "Bias Frame", 0.001, start=reset)
    return masters(night, "--darks-only")


@provokes("A clock that is ahead")
def ahead(folder: Path) -> Ran:
    night = fresh(folder)
    start = datetime.now(UTC) + timedelta(days=1000)
    n.write_frames(night.darks, n.bias_frames(4, seed=9), "Bias Frame", 0.001, start=start)
    return masters(night, "--darks-only")


@provokes("A clock that jumped")
def jumped(folder: Path) -> Ran:
    night = fresh(folder)
    paths = n.write_frames(night.darks, n.bias_frames(7), "Bias Frame", 0.001)
    with fits.open(paths[3], mode="update") as opened:
        opened[0].header["DATE-OBS"] = (n.START + timedelta(days=3)).isoformat()[:19]
    return masters(night, "--darks-only")


@provokes("A date that is local")
def local_date(folder: Path) -> Ran:
    night = fresh(folder)
    for i, frame in enumerate(n.bias_frames(7)):
        start = n.START + timedelta(minutes=i)
        julian = round(2440587.5 + (start.timestamp() - 7200) / 86400, 6)
        n.write_frames(night.darks, frame[None], "Bias Frame", 0.001, stem=f"b{i}", start=start, JD=julian)
    return masters(night, "--darks-only")


@provokes("There are no science frames")
def no_science(folder: Path) -> Ran:
    (folder / "masters").mkdir(exist_ok=True)
    return calibrate(Night(folder), folder / "lights")


@provokes("There is no folder of masters")
def no_library(folder: Path) -> Ran:
    night = Night(folder)
    return run("library", "--config", n.write_config(night, output_dir=str(folder / "elsewhere")))


@provokes("There is nothing to report on")
def nothing_to_report(folder: Path) -> Ran:
    night = fresh(folder)
    night.masters.mkdir()
    return run("report", "--config", n.write_config(night))


# Exposure mismatch


@provokes("No dark fits the flats")
def no_dark_for_flats(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 60.0)
    n.write_flats(night, 2.0)
    return masters(night)


@provokes("No dark fits the science frame")
def no_dark_for_science(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    assert not night.run_darks().is_error
    return calibrate(night, light(night.root, exposure_s=300.0))


@provokes("No dark of this temperature")
def no_dark_of_the_temperature(folder: Path) -> Ran:
    return calibrate(Night(folder), light(folder, SET_TEMP=-20.0, CCD_TEMP=-20.0))


@provokes("A setting that the science frame does not record")
def setting_not_recorded(folder: Path) -> Ran:
    night = fresh(folder)
    for gain in (0, 100):
        n.write_frames(
            night.darks / f"gain{gain}", n.dark_frames(5.0, seed=gain), "Dark Frame", 5.0, stem=f"g{gain}", GAIN=gain
        )
    assert not night.run_darks().is_error
    frame = light(night.root)
    fits.delval(frame, "GAIN")
    return calibrate(night, frame)


@provokes("A master beyond its age")
def beyond_its_age(folder: Path) -> Ran:
    frame = light(folder)
    fits.setval(frame, "DATE-OBS", value="2027-11-21T22:00:00")
    path = n.write_config(Night(folder))
    limits = {"matching": {"max_age_days": {"dark": 180}, "strict": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | limits), encoding="utf-8")
    return run("calibrate", frame, "--config", path)


@provokes("A named dark of another exposure")
def named_dark(folder: Path) -> Ran:
    (dark,) = (folder / "masters").glob("master_dark_2.000s*.fits")
    return calibrate(Night(folder), light(folder), "--dark", dark)


@provokes("A science frame without exposure")
def without_exposure(folder: Path) -> Ran:
    frame = light(folder)
    fits.delval(frame, "EXPTIME")
    return calibrate(Night(folder), frame)


@provokes("A header value of the wrong type")
def wrong_type(folder: Path) -> Ran:
    frame = light(folder)
    fits.setval(frame, "EXPTIME", value="long")
    return calibrate(Night(folder), frame)


# Poor masters


def too_bright_flats(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, n.samples(7, 64000.0, noise=120.0, seed=9), FILTER="L")


@provokes("A master fails its quality control")
def failed_master(folder: Path) -> Ran:
    night = fresh(folder)
    too_bright_flats(night)
    return masters(night)


@provokes("A master that failed is left out")
def failed_is_left_out(folder: Path) -> Ran:
    night = fresh(folder)
    too_bright_flats(night)
    assert masters(night).outcome.exit_code == 3
    return calibrate(night, light(night.root, exposure_s=2.0))


@provokes("Flats without light")
def flats_without_light(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, n.samples(4, 950.0, seed=9))
    return masters(night)


@provokes("One frame is unlike the others")
def unlike_the_others(folder: Path) -> Ran:
    night = fresh(folder)
    shape = (64, 96)
    stack = n.samples(10, 1000.0, seed=1, shape=shape)
    stack[3, 20:40, 30:60] += 200
    n.write_frames(night.darks, stack, "Dark Frame", 5.0)
    return masters(night)


@provokes("The noise of the camera is not known")
def noise_not_known(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_frames(night.darks, n.samples(5, 1000.0, seed=1, shape=(64, 96)), "Dark Frame", 5.0)
    return masters(night, "--darks-only", clip_spread="noise")


# Light leak


@provokes("Light in a dark")
def light_in_a_dark(folder: Path) -> Ran:
    night = fresh(folder)
    stack = n.samples(12, 1000.0, seed=1, shape=(64, 96))
    stack[8] += 90
    n.write_frames(night.darks, stack, "Dark Frame", 5.0)
    return masters(night)


@provokes("Darks are not taken because it is not dark")
def not_dark(folder: Path) -> Ran:
    options = SimulatorOptions(
        cover=CoverKind.NONE, shutter=False, time_scale=SCALE, light=Light(panel_e_per_s=60000.0), sensor=SMALL
    )
    with SimulatedObservatory(options) as observatory:
        return capture("darks", folder, video=alpaca(observatory.port))


# Masters and science frames that do not go together


@provokes("A master of another size")
def master_of_another_size(folder: Path) -> Ran:
    fits.PrimaryHDU(np.ones((8, 9), np.float32)).writeto(folder / "small.fits")
    return calibrate(Night(folder), light(folder), "--flat", folder / "small.fits")


@provokes("No flat of this filter")
def no_flat_of_the_filter(folder: Path) -> Ran:
    return calibrate(Night(folder), light(folder, FILTER="SII"))


@provokes("No flat of this angle of the camera")
def camera_turned(folder: Path) -> Ran:
    night = n.whole_night(folder / "turned")
    shutil.rmtree(night.flats)
    n.write_flats(night, 2.0, FILTER="L", ROTATANG=45.0)
    masters(night)
    return calibrate(night, light(folder, ROTATANG=135.0))


@provokes("A flat with zeros")
def flat_with_zeros(folder: Path) -> Ran:
    image = np.ones(n.SHAPE, np.float32)
    image[3:9] = 0
    fits.PrimaryHDU(image).writeto(folder / "flat.fits")
    return calibrate(Night(folder), light(folder), "--flat", folder / "flat.fits")


@provokes("A corrupt master")
def corrupt_master(folder: Path) -> Ran:
    (store,) = (folder / "masters" / "masters.zarr").glob("master_dark_5.000s*")
    chunk = next((store / "master").glob("c.*"))
    chunk.write_bytes(chunk.read_bytes()[:20])
    return calibrate(Night(folder), light(folder))


@provokes("A master whose description is damaged")
def damaged_description(folder: Path) -> Ran:
    (store,) = (folder / "masters" / "masters.zarr").glob("master_dark_5.000s*")
    (store / "zarr.json").write_text("{", encoding="utf-8")
    return calibrate(Night(folder), light(folder))


@provokes("Rows that are upside down")
def upside_down(folder: Path) -> Ran:
    (dark,) = (folder / "masters").glob("master_dark_5.000s*.fits")
    shutil.copy(dark, folder / "dark.fits")
    fits.setval(folder / "dark.fits", "ROWORDER", value="BOTTOM-UP")
    return calibrate(
        Night(folder), light(folder, ROWORDER="TOP-DOWN"), "--dark", folder / "dark.fits", "--flat", "none"
    )


@provokes("A frame that is calibrated already")
def calibrated_already(folder: Path) -> Ran:
    frame = light(folder)
    assert calibrate(Night(folder), frame).outcome.exit_code == 0
    return calibrate(Night(folder), folder / "calibrated" / "m31_cal.fits", "--output-dir", folder / "again")


@provokes("A result that exists")
def exists_already(folder: Path) -> Ran:
    frame = light(folder)
    assert calibrate(Night(folder), frame).outcome.exit_code == 0
    return calibrate(Night(folder), frame)


@provokes("A plan that exists")
def plan_exists(folder: Path) -> Ran:
    plan = folder / "plan.yaml"
    plan.write_text("mine")
    return run("coverage", light(folder), "--config", n.write_config(Night(folder)), "--plan", plan)


@provokes("A page that is no page of the library")
def page_exists(folder: Path) -> Ran:
    page = folder / "library.html"
    page.write_text("mine")
    light(folder)
    return run("library", "--config", n.write_config(Night(folder)), "--html", page)


@provokes("Floats between 0 and 1")
def floats_between_0_and_1(folder: Path) -> Ran:
    path = light(folder)
    with fits.open(path) as hdus:
        data, header = hdus[0].data, hdus[0].header
    fits.writeto(path, (data / 50000.3).astype("f4"), header, overwrite=True)
    return calibrate(Night(folder), path)


@provokes("No response to linearize with")
def no_response(folder: Path) -> Ran:
    return calibrate(Night(folder), light(folder), "--linearize")


@provokes("No gain for the uncertainty")
def no_gain(folder: Path) -> Ran:
    for path in (folder / "masters").glob("*.fits"):
        for card in ("EGAIN", "GAINMEAS", "GAINERR"):
            with fits.open(path, mode="update") as hdus:
                hdus[0].header.remove(card, ignore_missing=True)
    shutil.rmtree(folder / "masters" / "masters.zarr")
    return calibrate(Night(folder), light(folder), "--uncertainty")


# Disk space


@provokes("Too little disk for the frames")
def too_little_disk(folder: Path) -> Ran:
    video = {"simulator": {"time_scale": SCALE, "sensor": "qhy600m"}}
    return capture("darks", folder, video=video, dark_capture={"num_darks": 999_999})


@provokes("The disk is full while masters are written")
def full_disk(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_frames(night.darks, n.samples(4, 1000, seed=1, shape=(700, 500)), "Dark Frame", 5.0)
    with small_disk(night.root / "disk") as disk:  # room for the store, not for the FITS file too
        return masters(night, "--darks-only", output_dir=str(disk / "masters"))


@provokes("No room to unpack frames")
def no_room(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    for path in n.write_frames(night.darks, np.zeros((5, 1500, 1000), np.uint16), "Dark Frame", 60.0):
        path.with_suffix(".fits.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    with small_disk(night.root / "disk", 20) as disk:
        return masters(night, "--darks-only", output_dir=str(disk / "masters"))


@contextmanager
def small_disk(place: Path, n_mib: int = 2) -> Iterator[Path]:
    """Return a file system of 2 MiB, or another size."""
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("a small file system can only be made with mount")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={n_mib}m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@provokes("Too little memory")
def too_little_memory(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    return masters(night, compute={"memory_limit": "100MiB"})


@provokes("Too little address space")
def too_little_address_space(folder: Path) -> Ran:
    return in_shell("ulimit -v 300000; ostcal", "library", "--masters", folder)


@provokes("What is shown cannot be written")
def full_output(folder: Path) -> Ran:
    return in_shell("ostcal >/dev/full", "config", "show")


def in_shell(line: str, command: str, *arguments: str | Path) -> Ran:
    """Run a line of bash in which ``ostcal`` stands for the command."""
    if sys.platform != "linux":
        pytest.skip("needs /dev/full and the limits of Linux")
    words = shlex.join(n.command_line(command, *arguments))
    done = subprocess.run(
        ["bash", "-c", line.replace("ostcal", words)],
        env=n.command_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Ran(command=command, outcome=Outcome(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr))


# Permissions: a file where a directory is wanted, because to an administrator every directory is writable


@provokes("Masters or their log cannot be written")
def log_not_writable(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    (night.root / "blocker").write_text("a file")
    return masters(night, output_dir=str(night.root / "blocker" / "masters"))


@provokes("The folder latest is of another program")
def latest_is_not_ours(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    night.masters.mkdir()
    (night.masters / "latest").write_text("a file")
    return masters(night)


@provokes("The store of masters cannot be used")
def store_is_a_file(folder: Path) -> Ran:
    night = fresh(folder)
    n.write_darks(night, 5.0)
    night.masters.mkdir()
    (night.masters / "masters.zarr").write_text("a file")
    return masters(night)


@provokes("Frames cannot be stored")
def frames_not_writable(folder: Path) -> Ran:
    (folder / "blocker").write_text("a file")
    return capture("darks", folder, dark_capture={"output_dir": str(folder / "blocker" / "darks")})


@provokes("Calibrated frames cannot be written")
def results_not_writable(folder: Path) -> Ran:
    (folder / "blocker").write_text("a file")
    return calibrate(Night(folder), light(folder), "--output-dir", folder / "blocker" / "out")


@provokes("Another run is writing there")
def two_at_once(folder: Path) -> Ran:
    night, out = Night(folder), folder / "out"
    out.mkdir()
    with locked(out / LOCK_FILE, what=str(out)):
        return calibrate(night, light(folder), "--output-dir", out)


# Object stores


def upload(folder: Path, endpoint: str, location: str = "s3://bucket/darks") -> Ran:
    """Upload a series of two frames, with the credentials of the tests."""
    write_series(folder / "darks" / "exp_5.000s.zarr", 2)
    path = folder / "s3.yaml"
    path.write_text(f"storage: {{endpoint: '{endpoint}', retries: 1, timeout: 2}}\n", encoding="utf-8")
    with credentials():
        return Ran(command="upload", outcome=n.ostcal("upload", folder / "darks", location, "--config", path))


@provokes("No package for object stores")
def no_package(folder: Path) -> Ran:
    write_series(folder / "darks" / "exp_5.000s.zarr", 2)
    (folder / "obstore.py").write_text("raise ImportError('not installed')\n")
    environment = n.command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    command = n.command_line("upload", folder / "darks", "s3://bucket/darks")
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    return Ran(command="upload", outcome=Outcome(exit_code=ended.returncode, stdout=ended.stdout, stderr=ended.stderr))


@provokes("No package for cameras")
def no_package_for_cameras(folder: Path) -> Ran:
    (folder / "night.yaml").write_text("video: {camera_type: alpaca}\n", encoding="utf-8")
    return Ran(command="darks", outcome=run_without(folder, EXTRAS["capture"], "darks", "--config", "night.yaml"))


@provokes("No package for a cluster")
def no_package_for_a_cluster(folder: Path) -> Ran:
    night = n.whole_night(folder)
    config = n.write_config(night, compute={"scheduler": "distributed"})
    words = ("masters", "--config", config, "--no-confirm")
    return Ran(command="masters", outcome=run_without(folder, EXTRAS["cluster"], *words))


@provokes("No credentials")
def no_credentials(folder: Path) -> Ran:
    write_series(folder / "darks" / "exp_5.000s.zarr", 2)
    # where a virtual machine would give them: nobody is there
    nobody = {"AWS_METADATA_ENDPOINT": f"http://127.0.0.1:{free_port()}", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    # a bucket of its own: a process keeps what it has connected to
    with credentials(nobody, without=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")):
        return Ran(command="upload", outcome=n.ostcal("upload", folder / "darks", "s3://without-credentials/darks"))


@provokes("The store refuses")
def store_refuses(folder: Path) -> Ran:
    with FaultyProxy("http://127.0.0.1:1", lambda method, path, number: "403") as proxy:
        return upload(folder, proxy.endpoint)


@provokes("There is no bucket")
def no_bucket(folder: Path) -> Ran:
    with s3_server() as endpoint:
        return upload(folder, endpoint)


@provokes("The store does not answer")
def store_does_not_answer(folder: Path) -> Ran:
    return upload(folder, f"http://127.0.0.1:{free_port()}")


@provokes("An object with an odd key")
def object_with_an_odd_key(folder: Path) -> Ran:
    with s3_server() as endpoint, credentials():
        bucket = fresh_bucket(endpoint)
        put_object(endpoint, f"{bucket.removeprefix('s3://')}/darks//frame.fits")
        path = folder / "s3.yaml"
        path.write_text(f"storage: {{endpoint: '{endpoint}'}}\n", encoding="utf-8")
        return run("verify", f"{bucket}/darks", "--config", path)


@provokes("A copy that is not whole")
def copy_is_not_whole(folder: Path) -> Ran:
    with s3_server() as endpoint, credentials():
        bucket = fresh_bucket(endpoint)
        ObjectPath.of(f"{bucket}/exp_5.000s.zarr/frames/c/0/0/0").write_bytes(b"samples")
        path = folder / "s3.yaml"
        path.write_text(f"storage: {{endpoint: '{endpoint}'}}\n", encoding="utf-8")
        return run("export", f"{bucket}/exp_5.000s.zarr", "--to", folder / "fits", "--config", path)


@provokes("A password in a location")
def password_in_a_location(folder: Path) -> Ran:
    return upload(folder, "http://127.0.0.1:1", "s3://name:password@bucket/darks")


@provokes("Captured into an object store")
def captured_into_a_store(folder: Path) -> Ran:
    path = folder / "c.yaml"
    masters = folder / "masters"
    path.write_text(f"dark_capture: {{output_dir: 's3://b/darks'}}\nmaster_frames: {{output_dir: '{masters}'}}\n")
    return Ran(command="darks", outcome=n.ostcal("darks", "--config", path, "--no-confirm"))


# Camera


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@provokes("No server answers")
def no_server(folder: Path) -> Ran:
    return capture("darks", folder, video=alpaca(closed_port()))


@provokes("Something listens and says nothing")
def silent_server(folder: Path) -> Ran:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return capture("darks", folder, video=alpaca(listener.getsockname()[1], reply_timeout=0.5))


class WebServer(OddServer):
    """Something that speaks HTTP and shows the same page to whatever it is asked."""

    def reply(self, method: str, path: str, values: Any) -> Answer:
        return Answer(body=b"<html>Router login</html>", content_type="text/html", status=200)


@provokes("The port of another program")
def wrong_port(folder: Path) -> Ran:
    with WebServer({}) as server:
        at = {"host": "127.0.0.1", "port": server.port}
        return capture("darks", folder, video={"camera_type": "alpaca", "alpaca": at, "cooling": UNCOOLED})


@provokes("The server has no such camera")
def no_camera(folder: Path) -> Ran:
    options = SimulatorOptions(sensor=SMALL, time_scale=SCALE)
    with SimulatedObservatory(options) as observatory:
        return capture("darks", folder, video=alpaca(observatory.port, device_id=3))


@provokes("No camera has the name")
def no_camera_of_this_name(folder: Path) -> Ran:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=SCALE)) as observatory:
        return capture("darks", folder, video=alpaca(observatory.port, camera_name="QHY600M"))


@provokes("Another program holds the camera")
def camera_held(folder: Path) -> Ran:
    return capture("darks", folder, video=simulated("connect-refused"))


@provokes("The gain is refused")
def gain_refused(folder: Path) -> Ran:
    return capture("darks", folder, video=simulated(gain=1000))


@provokes("The exposure is outside the limits of the camera")
def exposure_outside(folder: Path) -> Ran:
    return capture("flats", folder, flat_capture={"min_exposure": 4000.0, "max_exposure": 5000.0})


UNCOOLED = {"enable_cooling": False}


@provokes("The camera refuses the exposure")
def exposure_refused(folder: Path) -> Ran:
    device = odd_camera(HasShutter=True, StartExposure=Refusal(number=0x401, text="too short for me"))
    with OddServer({"camera/0": device}) as server:
        at = {"host": "127.0.0.1", "port": server.port}
        return capture("darks", folder, video={"camera_type": "alpaca", "alpaca": at, "cooling": UNCOOLED})


@provokes("The wheel has no such filter")
def no_such_filter(folder: Path) -> Ran:
    video = {**simulated(filter_wheel_id=0), "alpaca": {"filter_wheel_id": 0}}
    return capture("flats", folder, video=video, flat_capture={"filters": ["L", "SIII"]})


@provokes("The image is not one")
def garbage(folder: Path) -> Ran:
    return capture("darks", folder, video=simulated("garbage"))


@provokes("The image claims an absurd size")
def absurd_size(folder: Path) -> Ran:
    return capture("darks", folder, video=simulated("huge"))


@provokes("The image is cut short")
def cut_short(folder: Path) -> Ran:
    return capture("darks", folder, video=simulated("short"))


@provokes("The camera falls silent once")
def silent_once(folder: Path) -> Ran:
    options = SimulatorOptions(sensor=SMALL, time_scale=SCALE, faults=("silence@startexposure:once",))
    with SimulatedObservatory(options) as observatory:
        return capture("darks", folder, video=alpaca(observatory.port, reply_timeout=1.0))


@provokes("Every image stays away", slow=True)
def silent_images(folder: Path) -> Ran:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=SCALE, faults=("silence",))) as observatory:
        video = alpaca(observatory.port, silence_timeout=0.5)
        return capture("darks", folder, video=video, dark_capture={"min_exposure": 0.1})


@provokes("The cooler misses its target")
def cooler_misses(folder: Path) -> Ran:
    cooling = {"enable_cooling": True, "target_temperature": -10.0, "cooling_timeout": 600.0}
    return capture("darks", folder, video={**simulated("cooler-miss"), "cooling": cooling})


@provokes("The light of the flats is too bright")
def too_bright(folder: Path) -> Ran:
    options = SimulatorOptions(cover=CoverKind.NONE, time_scale=SCALE, light=Light(panel_e_per_s=1e8), sensor=SMALL)
    with SimulatedObservatory(options) as observatory:
        return capture("flats", folder, video=alpaca(observatory.port), flat_capture={"min_exposure": 5.0})


@provokes("The light of the flats is too faint")
def too_faint(folder: Path) -> Ran:
    return capture("flats", folder, flat_capture={"min_exposure": 0.001, "max_exposure": 0.01})


NULL_POINT = {"twilight": True, "sky": {"pointing": "null_point"}}


@provokes("No mount is configured")
def no_mount(folder: Path) -> Ran:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as observatory:
        return capture("flats", folder, video=alpaca(observatory.port), flat_capture=NULL_POINT)


@provokes("The mount is parked")
def parked_mount(folder: Path) -> Ran:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL)) as observatory:
        observatory.telescope.parked = True
        mount = {"port": observatory.port, "device_id": 0}
        return capture("flats", folder, video=alpaca(observatory.port), flat_capture={**NULL_POINT, "mount": mount})


@provokes("The mount does not arrive")
def endless_slew(folder: Path) -> Ran:
    keys = {**NULL_POINT, "mount": {"slew_timeout": 30}}
    return capture("flats", folder, video=simulated("slew-endless"), flat_capture=keys)


@provokes("The mount is elsewhere")
def mount_elsewhere(folder: Path) -> Ran:
    site = {"latitude": 28.76, "longitude": -17.88}
    return capture("flats", folder, flat_capture=NULL_POINT, site=site)


@provokes("camera_type ascom is for Windows")
def ascom_elsewhere(folder: Path) -> Ran:
    return capture("darks", folder, video={"camera_type": "ascom"})


# Configuration


@provokes("A key that is not known")
def unknown_key(folder: Path) -> Ran:
    path = folder / "night.yaml"
    path.write_text("master_frames:\n  rejection_metod: median\n", encoding="utf-8")
    return run("masters", "--config", path)


@provokes("A section that looks like one of ours")
def misnamed_section(folder: Path) -> Ran:
    return run("masters", "--config", write_text(folder, "masters: {method: median}\n"))


@provokes("A Windows path in double quotes")
def windows_path(folder: Path) -> Ran:
    text = 'master_frames:\n  output_dir: "C:\\astro\\new"\n'
    return run("masters", "--config", write_text(folder, text))


@provokes("A wrong value of --set")
def wrong_setting(folder: Path) -> Ran:
    return run("masters", folder, "--set", "master_frames.sigma_treshold=3")


@provokes("A wrong variable of the environment")
def wrong_variable(folder: Path) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSTCAL__MASTER_FRAMES__SIGMA_TRESHOLD", "3")
        return run("masters", folder)


def write_text(folder: Path, text: str) -> Path:
    path = folder / "night.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@provokes("No configuration file")
def no_config(folder: Path) -> Ran:
    return run("workflow", "--config", folder / "night.yaml")


# Automation


@provokes("A hook is not told")
def refused_hook(folder: Path) -> Ran:
    night = n.whole_night(folder)
    with hook_server([404]) as server:
        path = n.write_config(night)
        values = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**values, "hooks": {"url": server.url}}), encoding="utf-8")
        return run("masters", "--config", path, "--no-confirm")


@provokes("A key of a capture plan is wrong")
def wrong_plan(folder: Path) -> Ran:
    plan = folder / "plan.yaml"
    plan.write_text("series:\n- {kind: dark, exposure: 60, count: 20, temprature: -10}\n", encoding="utf-8")
    return run("capture", "--plan", plan, "--config", write_values(folder, {}), "--no-confirm")


@provokes("A capture plan does not fit into the night")
def long_plan(folder: Path) -> Ran:
    plan = folder / "plan.yaml"
    series = [{"kind": "dark", "exposure": 1, "count": 2}, {"kind": "dark", "exposure": 60, "count": 90}]
    plan.write_text(yaml.safe_dump({"series": series}), encoding="utf-8")
    values: dict[str, Any] = {
        "dark_capture": {"output_dir": str(folder / "darks")},
        "master_frames": {"output_dir": str(folder / "masters")},
        "video": {"camera_type": "simulator", **simulated()},
    }
    config = write_values(folder, values)
    return run("capture", "--plan", plan, "--max-hours", "0.5", "--config", config, "--no-confirm", "--dry-run")


def schedule(folder: Path, when: str, option: str) -> Ran:
    values = {"schedule": {"when": when}, "master_frames": {"output_dir": str(folder / "masters")}}
    return run("schedule", "--config", write_values(folder, values), option)


@provokes("It is not safe to expose")
def never_safe(folder: Path) -> Ran:
    with SimulatedObservatory(SimulatorOptions(sensor=SMALL, time_scale=SCALE)) as observatory:
        observatory.safety_monitor.safe = False
        safety = {"port": observatory.port, "device_id": 0}
        return capture("darks", folder, video=alpaca(observatory.port), safety=safety, schedule={"max_hours": 0.0003})


@provokes("The site of a schedule is not known")
def no_site(folder: Path) -> Ran:
    return schedule(folder, "dusk -6", "--dry-run")


@provokes("The time of a schedule never comes")
def no_such_day(folder: Path) -> Ran:
    return schedule(folder, "0 18 30 2 *", "--dry-run")


@provokes("Another schedule works there")
def second_schedule(folder: Path) -> Ran:
    with locked(folder / "masters" / SCHEDULE_LOCK, what="the other"):
        return schedule(folder, "18:30", "--once")


@provokes("The watched folder is not there")
def nothing_to_watch(folder: Path) -> Ran:
    return run("watch", folder / "incoming", "--config", n.write_config(Night(folder)), "--once")


@provokes("A light has the name of another")
def two_lights(folder: Path) -> Ran:
    words = ("--config", n.write_config(Night(folder)), "--once", "--calibrate", "--poll", "0.1")
    first = light(folder)
    run("watch", first.parent, *words)
    first.unlink()
    other = light(folder / "other", DATE_OBS="2026-05-05T05:05:05")
    return run("watch", other.parent, *words)


@provokes("Nothing is there to prune")
def nothing_to_prune(folder: Path) -> Ran:
    return run("prune", "--config", n.write_config(Night(folder), output_dir=str(folder / "nowhere")), "--keep", "1")


@provokes("A series is written while it is to be removed")
def series_in_use(folder: Path) -> Ran:
    night, raw = fresh(folder), Night(folder / "raw")
    n.write_darks(raw, 2.0)
    config = n.write_config(night)
    run("import", raw.darks, "--config", config)
    night.run()
    with series_locked(night.darks / "exp_2.000s.zarr"):
        return run("prune", "--config", config, "--keep", "0", "--apply")


# ---- the tests ----


def test_every_entry_is_provoked_and_every_error_that_is_provoked_has_an_entry() -> None:
    titles = [entry.title for entry in ENTRIES]
    assert len(set(titles)) == len(titles)
    assert set(titles) == set(PROVOKED)


def test_the_chapters_are_those_that_are_promised() -> None:
    assert list(dict.fromkeys(entry.chapter for entry in ENTRIES)) == list(CHAPTERS)


def test_every_entry_says_what_it_means_and_what_to_do() -> None:
    for entry in ENTRIES:
        meaning, _, advice = entry.advice.partition("**Do:** ")
        assert meaning.strip(), entry.title
        assert len(advice.split()) >= 4, entry.title
        assert all(line.startswith(("error: ", "warning: ")) for line in entry.lines), entry.title


@pytest.mark.parametrize(
    "entry",
    [pytest.param(entry, marks=[pytest.mark.slow] if entry.title in SLOW else [], id=entry.title) for entry in ENTRIES],
)
@pytest.mark.usefixtures("library")
def test_what_the_page_shows_is_what_is_printed(entry: Entry, tmp_path: Path) -> None:
    ran = PROVOKED[entry.title](tmp_path)
    printed = ran.outcome.stderr.splitlines()
    assert ran.command == entry.command
    assert ran.outcome.exit_code == entry.exit_code, ran.outcome.text
    assert "Traceback" not in ran.outcome.text
    patterns = [pattern_of(line) for line in entry.lines]
    for line, pattern in zip(entry.lines, patterns, strict=True):
        assert any(pattern.fullmatch(one) for one in printed), f"not printed: {line}\n{ran.outcome.stderr}"
    for one in printed:
        if one.startswith("error: "):
            assert any(pattern.fullmatch(one) for pattern in patterns), f"not in the page: {one}"
