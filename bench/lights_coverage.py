"""Time of `ostcal coverage` for many lights and masters, without an index and with one.

usage: python bench/lights_coverage.py DIRECTORY [--lights 10000] [--masters 2000]

The files are as small as files can be (8 x 8 pixels): headers are read, never pixels. 40 percent of the lights are of
three filters without flats in most nights, and one exposure has no dark, so that messages are made too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2025, 1, 1, 20, 0, tzinfo=UTC)
FILTERS = ("L", "R", "G", "B", "Ha", "OIII")
EXPOSURES_S = (60.0, 120.0, 300.0)


def header(**cards: object) -> bytes:
    """Return a header and 8 x 8 samples of 16 bits."""
    first = {"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 8, "BZERO": 32768, "INSTRUME": "Bench"}
    lines = []
    for name, value in (first | cards).items():
        text = "T" if value is True else f"'{value}'" if isinstance(value, str) else str(value)
        lines.append(f"{name:<8}= {text:>20}".ljust(80))
    block = "".join([*lines, "END".ljust(80)]).encode("ascii")
    return block.ljust(-(-len(block) // 2880) * 2880) + bytes(2880)


def write_lights(folder: Path, count: int) -> None:
    """Write lights of 100 nights: 6 filters, 3 exposures and one without a dark, 2 gains, 3 temperatures."""
    per_night = -(-count // 100)
    for number in range(count):
        night, place = divmod(number, per_night)
        when = START + timedelta(days=3.6 * night, seconds=300 * place)
        directory = folder / f"{when:%Y-%m-%d}"
        directory.mkdir(parents=True, exist_ok=True)
        exposure_s = 45.0 if place % 25 == 7 else EXPOSURES_S[place // 7 % 3]
        cards = {
            "IMAGETYP": "Light Frame",
            "EXPTIME": exposure_s,
            "FILTER": FILTERS[place // 5 % 6],
            "GAIN": 100 if night % 4 else 0,
            "OFFSET": 50,
            "SET-TEMP": (-10.0, -15.0, -20.0)[night % 3],
            "CCD-TEMP": (-10.0, -15.0, -20.0)[night % 3] + 0.1 * (place % 3 - 1),
            "DATE-OBS": when.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        (directory / f"light_{number:05d}.fits").write_bytes(header(**cards))


def write_masters(folder: Path, count: int) -> None:
    """Write masters of a year: bias, darks of 3 exposures, flats of 6 filters, 2 gains and 3 temperatures each."""
    kinds = [("Bias", 0.001, "")] + [("Dark", t, "") for t in EXPOSURES_S] + [("Flat", 2.0, name) for name in FILTERS]
    settings = [(*kind, gain, temperature) for kind in kinds for gain in (0, 100) for temperature in (-10, -15, -20)]
    sessions = -(-count // len(settings))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        session, place = divmod(number, len(settings))
        kind, exposure_s, name, gain, temperature = settings[place]
        when = START + timedelta(days=365 / sessions * session)
        cards = {
            "IMAGETYP": f"Master {kind}",
            "EXPTIME": exposure_s,
            "GAIN": gain,
            "OFFSET": 50,
            "SET-TEMP": float(temperature),
            "DATE-OBS": when.strftime("%Y-%m-%dT%H:%M:%S"),
            "DATE": (when + timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M:%S"),
            "STACKCNT": 40,
        }
        cards |= {"FILTER": name} if name else {}
        (folder / f"master_{number:05d}.fits").write_bytes(header(**cards))


def run(config: Path, lights: Path) -> tuple[float, dict[str, object]]:
    """Return the seconds of the whole command, and what it found."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ostcal", "coverage", str(lights), "--config", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    return seconds, json.loads(done.stdout)["coverage"]


def main() -> None:
    """Write the files, run the command three times, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--lights", type=int, default=10_000)
    parser.add_argument("--masters", type=int, default=2_000)
    options = parser.parse_args()
    root = options.directory / f"coverage_{options.lights}_{options.masters}"
    if not root.exists():
        write_lights(root / "lights", options.lights)
        write_masters(root / "masters", options.masters)
        time.sleep(2.5)  # what changed a moment ago is not remembered
    config = root / "c.yaml"
    config.write_text(json.dumps({"master_frames": {"output_dir": str(root / "masters")}}))
    for index in (root / "masters").glob(".ostcal_*.index"):
        index.unlink()
    for what in ("without an index", "with an index", "with an index"):
        seconds, document = run(config, root / "lights")
        groups, series = document["groups"], document["frames_to_take"]
        assert isinstance(groups, list)
        assert isinstance(series, list)
        print(f"{what:<20} {seconds:5.2f} s, {len(groups)} groups, {len(series)} series to take")
    print(f"{options.lights} lights, {options.masters} masters, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
