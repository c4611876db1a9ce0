"""Whatever takes the place of a file, a command ends soon and in order: pipes, links to themselves, devices."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.night import Night, dark_frames, ostcal, write_bias, write_config, write_darks, write_frames

WITHIN_S = 60
"""Of a busy machine; a pipe is waited for without end, and /dev/zero read without end."""

CONFIG = ("--config", "night.yaml")
MASTERS = ("masters", *CONFIG, "--no-confirm")
ANEW = (*MASTERS, "--set", "master_frames.output_dir=anew")
CALIBRATE = ("calibrate", "light.fits", *CONFIG, "--flat", "none", "--output-dir", "calibrated")
BY_FILE = {
    "night.yaml": [MASTERS],
    "light.fits": [CALIBRATE, (".",)],
    "fits/darks/exp_8.000s/dark_000.fits": [("masters", "fits", "--out", "anew"), ("fits",)],
    "darks/exp_8.000s.zarr/zarr.json": [ANEW, ("verify", "darks")],
    "darks/exp_8.000s.zarr/frames/zarr.json": [ANEW],
    "darks/exp_8.000s.zarr/frames/c/0/0/0": [
        ANEW,
        ("verify", "darks"),
        ("export", "darks/exp_8.000s.zarr", "--to", "e"),
    ],
    "darks/exp_8.000s.zarr/ledger/000000.json": [ANEW, ("verify", "darks")],
    "masters/masters.zarr/*bias*/zarr.json": [MASTERS, ("library", *CONFIG)],
    "masters/masters.zarr/*dark_8*/std/zarr.json": [MASTERS, ("verify", "masters")],
    "masters/masters.zarr/*dark_8*/master/c.0.0": [CALIBRATE, ("verify", "masters")],
    "masters/quality_history.jsonl": [("report", *CONFIG), ANEW],
    "masters/*bias*.fits": [MASTERS, ("verify", "masters"), (".",)],
    "masters/master_frames_*.log": [MASTERS],
}
UNSEEN = {
    ("masters/quality_history.jsonl", "masters"),  # another directory's
    ("masters/*bias*.fits", "masters"),  # made again
    ("masters/*bias*.fits", "."),  # a master among frames
    ("masters/masters.zarr/*bias*/zarr.json", "masters"),  # a master without it is not there: made again
    ("masters/masters.zarr/*bias*/zarr.json", "library"),
    ("light.fits", "."),  # a link to nothing is no frame
}
"""File and command that need not name it."""


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.fixture(scope="module")
def made_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with frames as FITS and as series, their masters, and a light."""
    root = tmp_path_factory.mktemp("night")
    frames = Night(root / "fits")
    write_bias(frames)
    write_darks(frames, 8.0)
    (light,) = write_frames(root, dark_frames(8.0, n=1, level=3000), "Light Frame", 8.0, stem="light")
    light.rename(root / "light.fits")
    write_config(Night(Path()), min_frames=3).rename(root / "night.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert ostcal("import", "fits", *CONFIG).exit_code == 0
        outcome = ostcal(*MASTERS)
        assert outcome.exit_code == 0, outcome.stderr
    return root


@contextmanager
def ending_within(seconds: int) -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise AssertionError(f"not at its end after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("kind", [pipe, link_to_itself, endless])
@pytest.mark.parametrize(
    ("file", "command"), [(file, command) for file, commands in BY_FILE.items() for command in commands]
)
def test_what_is_no_file_in_the_place_of_one_ends_in_order(
    made_night: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    command: tuple[str, ...],
    kind: Callable[[Path], None],
) -> None:
    root = tmp_path / "night"
    shutil.copytree(made_night, root)
    monkeypatch.chdir(root)
    (path,) = root.glob(file)
    path.unlink()
    kind(path)
    with ending_within(WITHIN_S):
        outcome = ostcal(*command)
    assert outcome.exit_code in (0, 1, 2)
    assert "Traceback" not in outcome.stderr
    if (file, command[0]) not in UNSEEN:
        assert str(path.relative_to(root)).split("/frames")[0].split("/c.")[0] in outcome.stdout + outcome.stderr
