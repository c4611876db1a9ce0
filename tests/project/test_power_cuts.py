"""Power cuts, on real file systems: nothing that was said to be made is lost, and the same command goes on.

``OSTCAL_CUTS=40`` cuts each command so often on each file system; by default the first three are cut a few times on
ext4, where the machine lets root mount a loop device. Elsewhere `test_durability` replays what a disk may lose.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from ostcal.simulator.options import SimulatorOptions
from ostcal.simulator.server import SimulatedObservatory
from support import night as n
from support.amounts import IS_THOROUGH, amount
from support.cut_commands import Commands, Cut, Trial, clear, commands
from support.night import Night
from support.power_cut import FILE_SYSTEMS, CutDisk, cut_disk, why_no_cuts
from support.simulator_client import SMALL

CUTS = amount(2, "OSTCAL_CUTS")
IS_BY_HAND = IS_THOROUGH or "OSTCAL_CUTS" in os.environ


@dataclass(frozen=True)
class Room:
    """A disk, what runs commands on it, and a camera."""

    disk: CutDisk
    commands: Commands
    observatory: SimulatedObservatory

    @property
    def night(self) -> Night:
        return Night(self.disk.root)

    @property
    def config(self) -> Path:
        return self.disk.root / "c.yaml"

    def run(self, cut: Cut) -> None:
        """Run a command that is not cut."""
        ran = self.commands.run(cut.words)
        assert ran.code == 0, ran.said

    def cut(
        self,
        *words: str | Path,
        again: tuple[str, ...] | None = None,
        made: Callable[[str], Iterable[str]] | None = None,
        has_samples: bool = True,
    ) -> Cut:
        """Return a command with the configuration of this disk; it goes on by itself where nothing else is given."""
        given = (*map(str, words), "--config", str(self.config))
        return Cut(words=given, again=again or given, made=made, has_samples=has_samples)


@pytest.fixture(scope="module", params=FILE_SYSTEMS if IS_BY_HAND else FILE_SYSTEMS[:1])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    if reason := why_no_cuts(request.param):
        pytest.skip(f"no power cuts of {request.param}: {reason}")
    folder = tmp_path_factory.mktemp(request.param)
    warm_up = n.whole_night(folder / "warm_up")
    options = SimulatorOptions(sensor=SMALL, time_scale=50.0, seed=7)
    try:
        with (
            cut_disk(folder, request.param) as disk,
            SimulatedObservatory(options) as observatory,
            commands(disk, folder, n.write_config(warm_up)) as run,
        ):
            yield Room(disk, run, observatory)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no power cuts of {request.param}: {error}")


# ---- commands, each with what is there before it ----


def masters(room: Room) -> Cut:
    n.whole_night(room.disk.root)
    n.write_config(room.night)
    return room.cut("masters", "--no-confirm", "--debug", made=published)


def published(said: str) -> list[str]:
    """Return the masters that are in the store as the log says."""
    found = re.findall(r"timing: (\S+)_\d{8}_\d{6}\S*: statistics .*, published", said)
    return [f"masters/masters.zarr/{name}" for name in found]


def masters_again(room: Room) -> Cut:
    first = masters(room)
    room.run(first)
    return room.cut("masters", "--no-confirm", "--debug", "--all", made=published, again=tuple(first.words))


def report(room: Room) -> Cut:
    room.run(masters(room))
    return room.cut("report")


def calibrate(room: Room) -> Cut:
    room.run(masters(room))
    lights = n.flat_frames(2.0, (3000, 3100, 3200, 3300), seed=9)
    folder = room.disk.root / "lights"
    n.write_frames(folder, lights, "Light Frame", 2.0, start=n.START + timedelta(hours=3), EGAIN=1.5)
    given = room.cut("calibrate", folder, "--uncertainty")
    return room.cut("calibrate", folder, "--uncertainty", again=(*given.words, "--overwrite"))  # as its message says


def importing(room: Room) -> Cut:
    raw = Night(room.disk.root / "raw")
    n.write_bias(raw)
    n.write_darks(raw, 2.0)
    n.write_config(room.night)
    return room.cut("import", raw.darks)


def export(room: Room) -> Cut:
    room.run(importing(room))
    return room.cut("export", room.night.darks / "exp_2.000s.zarr", "--to", room.disk.root / "exported")


def exclude(room: Room) -> Cut:
    room.run(importing(room))
    frames = ("--frame", "1", "--frame", "3")
    return room.cut("exclude", room.night.darks / "exp_2.000s.zarr", *frames, "--why", "cloud")


def prune(room: Room) -> Cut:
    first = masters(room)
    room.run(first)
    room.run(room.cut("masters", "--no-confirm", "--all"))
    return room.cut("prune", "--keep", "1", "--apply")


def capture(room: Room) -> Cut:
    values = {
        "dark_capture": {
            "num_darks": 4, "science_exposure_time": 0.2, "exposure_factors": [0.5, 1.0], "flat_exposure_time": 0.3,
            "output_dir": str(room.night.darks),
        },
        "master_frames": {"output_dir": str(room.night.masters)},
        "storage": {"export_frames": True},
        "video": {"camera_type": "alpaca", "alpaca": {"host": "127.0.0.1", "port": room.observatory.port}},
    }  # fmt: skip
    room.config.write_text(yaml.safe_dump(values), encoding="utf-8")
    return room.cut("darks", "--no-confirm", "--debug", has_samples=False)


COMMANDS: tuple[Callable[[Room], Cut], ...] = (
    masters, export, capture, calibrate, report, prune, masters_again, importing, exclude,
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS if IS_BY_HAND else COMMANDS[:3], ids=lambda command: command.__name__)
def test_what_a_command_said_it_made_survives_a_power_cut_and_the_command_goes_on(
    room: Room, command: Callable[[Room], Cut], tmp_path: Path
) -> None:
    clear(room.disk.root)
    trial = Trial(room.disk, room.commands, command(room), tmp_path / "state")
    moments, found = random.Random(19), []
    for number in range(CUTS):
        call = moments.randint(1, trial.n_calls) if number else trial.n_calls + 1  # first when all is said to be made
        journal_is_written = moments.random() < 0.6
        problems = trial.problems_of_cut(call, journal_is_written=journal_is_written)
        where = f"cut at call {call} of {trial.n_calls}{', journal written' if journal_is_written else ''}"
        found += [f"{where}: {line}" for line in problems]
    assert found == []
