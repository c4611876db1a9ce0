"""What is wrong with the input is said in one line that names it; the rest goes on, and nothing is left half done."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal import MasterFrameCreator
from ostcal.build.request import Watcher
from ostcal.library.index import MASTERS_INDEX
from ostcal.series.series_writer import create_series
from support import night as n
from support.fits_samples import read_with_astropy, tile_compressed, write_frame, write_images
from support.night import Night, Outcome

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """Return a night; at the end no output may be half written and no input may have changed."""
    night = Night(tmp_path)
    yield night
    assert half_written(night.masters) == []


def half_written(masters: Path) -> list[str]:
    """Return what lies in a directory of masters and is not complete."""
    if not masters.is_dir():
        return []
    hidden = [path for path in masters.rglob("*") if "partial" in path.name or path.name.startswith(".")]
    left = [str(path) for path in hidden if path.name != MASTERS_INDEX]
    store = masters / "masters.zarr"
    groups = [path for path in store.iterdir() if path.is_dir()] if store.is_dir() else []
    return left + [str(path) for path in groups if not (path / "zarr.json").exists()]


def digests(*folders: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def said(outcome: Outcome, *words: str) -> str:
    """Return the one line that holds all the words; there is no traceback."""
    assert "Traceback" not in outcome.text, outcome.text
    lines = [line for line in outcome.stderr.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, outcome.stderr
    return lines[0]


# --- frames that cannot be used ---


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def cut_in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_other_contents(path: Path) -> None:
    path.write_bytes(b"<html>404 not found</html>" * 1000)


def of_three_colours(path: Path) -> None:
    path.unlink()
    write_frame(path, np.ones((3, *n.SHAPE), np.uint16), IMAGETYP="Dark Frame", EXPTIME=5.0)


def of_a_table(path: Path) -> None:
    path.unlink()
    header = write_frame(path, np.zeros((0,), np.uint16), IMAGETYP="Dark Frame")
    assert header == path


def of_two_images(path: Path) -> None:
    values, _ = read_with_astropy(path)
    path.unlink()
    write_images(path, ("im1", values), ("im2", values), IMAGETYP="Dark Frame", EXPTIME=5.0)


def of_absurd_size(path: Path) -> None:
    data = path.read_bytes().replace(b"NAXIS1  =                   28", b"NAXIS1  =           2800000000")
    path.write_bytes(data)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "notes.txt").write_text("a folder with the name of a frame")


def a_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.fits")


DAMAGES: list[Callable[[Path], None]] = [
    cut_short, cut_in_header, emptied, of_other_contents, of_three_colours, of_a_table, of_absurd_size, a_broken_link,
    of_two_images,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_frame_is_named_and_left_out(night: Night, damage: Callable[[Path], None]) -> None:
    stack = n.write_darks(night, 5.0)
    damaged = night.darks / "exp_5.000s" / "dark_003.fits"
    damage(damaged)
    before = digests(night.darks)
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0, outcome.text
    assert said(outcome, "dark_003.fits").startswith("warning: ")
    (master,) = night.masters.glob("*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(np.delete(stack, 3, axis=0)).mean)
    assert digests(night.darks) == before


def test_a_folder_with_the_name_of_a_frame_is_searched(night: Night) -> None:
    n.write_darks(night, 5.0)
    a_directory(night.darks / "exp_5.000s" / "dark_003.fits")
    assert n.run_command(night, "--darks-only").exit_code == 0


@pytest.mark.parametrize("packing", ["gz", "fz"])
def test_a_damaged_compressed_frame_is_named_and_left_out(night: Night, packing: str) -> None:
    stack = n.write_darks(night, 5.0)
    plain = night.darks / "exp_5.000s" / "dark_003.fits"
    packed = plain.with_name(plain.name + "." + packing)
    values, header = read_with_astropy(plain)
    if packing == "gz":
        packed.write_bytes(gzip.compress(plain.read_bytes())[:-300])
    else:
        cards = {k: header[k] for k in ("IMAGETYP", "EXPTIME", "DATE-OBS", "INSTRUME", "GAIN", "OFFSET", "SET-TEMP")}
        tile_compressed(packed, values.astype(np.uint16), **cards)
        data = bytearray(packed.read_bytes())
        data[-2880:-2400] = b"\xff" * 480
        packed.write_bytes(bytes(data))
    plain.unlink()
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0, outcome.text
    assert said(outcome, packed.name)
    (master,) = night.masters.glob("*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(np.delete(stack, 3, axis=0)).mean)


def test_where_every_frame_is_damaged_all_are_named_and_the_run_fails(night: Night) -> None:
    n.write_darks(night, 5.0)
    for path in (night.darks / "exp_5.000s").iterdir():
        cut_short(path)
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert "Traceback" not in outcome.text
    for index in range(6):
        assert f"dark_{index:03d}.fits" in outcome.text
    assert "and 1 more" in outcome.text


def test_with_debug_there_is_a_traceback(night: Night) -> None:
    n.write_darks(night, 5.0)
    cut_short(night.darks / "exp_5.000s" / "dark_003.fits")
    assert "Traceback" in n.run_command(night, "--darks-only", "--debug").text
    (log,) = night.masters.glob("*.log")
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_frame_of_another_size_is_named_and_left_out(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    other = np.full((10, 12), 1000, np.uint16)
    n.write_frames(night.darks, other[None], "Dark Frame", 5.0, stem="odd")
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0
    line = said(outcome, "odd_000.fits")
    assert "12 x 10" in line
    (master,) = night.masters.glob("*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(stack).mean)


def test_a_frame_of_nothing_but_nan_does_no_harm(night: Night) -> None:
    stack = n.dark_frames(5.0).astype(np.float32)
    stack[2] = np.nan
    n.write_darks(night, 5.0, stack)
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0
    assert said(outcome, "not finite")
    (master,) = night.masters.glob("*.fits")
    assert np.isfinite(read_with_astropy(master)[0]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_of_nothing_but_nan_are_said_in_lines(night: Night, value: float) -> None:
    nothing = np.full((4, *n.SHAPE), value, np.float32)
    n.write_bias(night, nothing)
    n.write_darks(night, 2.0, nothing)
    n.write_flats(night, 2.0, nothing)
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert said(outcome, "error: master_flat", "no flat frame holds light")
    assert said(outcome, "warning: master_bias", "FAILED: no data")
    for word in ("RuntimeWarning", "copies of one", "interference"):
        assert word not in outcome.text
    records = [json.loads(path.read_text()) for path in night.masters.glob("masters.zarr/*/zarr.json")]
    assert {record["attributes"]["camera_properties"]["bias_level_adu"] for record in records} == {None}


def test_flats_of_nothing_but_nan_fail_and_the_darks_are_made(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, np.full((4, *n.SHAPE), np.nan, np.float32))
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert said(outcome, "error: master_flat")
    assert [path.name[:11] for path in night.masters.glob("*.fits")] == ["master_dark"]


def test_flats_without_light_fail_and_say_so(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, n.samples(4, 950, seed=9))  # a little darker than the darks
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert said(outcome, "error: ", "no flat frame holds light")


@pytest.mark.parametrize("scaling", ["mean", "median", "none"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_flats_darker_than_their_dark_fail_and_say_so(night: Night, scaling: str, dtype: str) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0, n.samples(5, 500, seed=9).astype(dtype), CALSTAT="X")
    status = night.run(flat_scaling=scaling)
    # taken as dark-subtracted with a warning, or refused: never a flat with a wrong zero in silence
    assert status.is_error or any("dark-subtracted" in line for line in status.details["warnings"])


def test_names_that_are_no_text_do_no_harm(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    folder = night.darks / "exp_5.000s"
    odd, bad = (os.fsencode(folder) + b"/" + name for name in (b"dark_\xff\xfe.fits", b"bad_\xff.fits"))
    try:
        os.rename(folder / "dark_003.fits", odd)
    except OSError:
        pytest.skip("this file system takes no such names")
    shutil.copy(n.write_config(night), bad)
    outcome = n.run_command(night, "--darks-only", "--debug")
    assert outcome.exit_code == 0, outcome.text
    assert "bad_" in outcome.stderr
    (master,) = night.masters.glob("*.fits")
    np.testing.assert_array_equal(read_with_astropy(master)[0], n.combined(stack).mean)
    assert n.ostcal("import", night.darks, "--config", n.write_config(night)).exit_code == 0
    before = {path.read_bytes() for path in folder.glob("dark*")}
    assert n.ostcal("export", night.darks / "exp_5.000s.zarr", "--to", night.root / "out").exit_code == 0
    assert {path.read_bytes() for path in (night.root / "out").iterdir()} == before


@pytest.mark.parametrize("name", ["M31 [red] raw", "x[/bold]", "größe Ω", "a 'quoted' name", "two  blanks"])
def test_odd_names_are_shown_as_they_are(night: Night, name: str) -> None:
    n.write_frames(night.darks / name, n.dark_frames(5.0), "Dark Frame", 5.0)
    output_dir = str(night.root / f"masters {name}")
    outcome = n.run_command(night, "--darks-only", output_dir=output_dir)
    assert outcome.exit_code == 0, outcome.text
    assert str(night.darks / name / "dark_000.fits") in outcome.stderr
    (master,) = Path(output_dir).glob("*.fits")
    assert str(master) in outcome.stdout
    read_with_astropy(master)
    outcome = n.ostcal("import", night.darks, "--config", n.write_config(night))
    assert outcome.exit_code == 0, outcome.text


# --- nothing to work on ---


@pytest.mark.parametrize("there", [True, False], ids=["empty", "absent"])
def test_an_empty_folder_says_where_was_looked_and_for_what(night: Night, there: bool) -> None:
    if there:
        night.darks.mkdir()
        night.flats.mkdir()
        (night.darks / "notes.txt").write_text("no frames today")
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    line = said(outcome, "No input files found")
    for word in (str(night.darks), str(night.flats), ".fits", ".fit", ".fts", ".fz", ".gz", ".zarr"):
        assert word in line
    assert ("does not exist" in line) is not there


def test_one_frame_is_too_few_and_the_message_says_how_many_are_needed(night: Night) -> None:
    n.write_darks(night, 5.0, n.dark_frames(5.0, 1))
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    line = said(outcome, "error: ")
    assert "min_frames" in line
    assert "3" in line
    assert "1 frame" in line


def test_frames_of_unknown_kind_are_said_to_be_so(night: Night) -> None:
    n.write_frames(night.root / "x", n.dark_frames(5.0), "?", 5.0, stem="a", IMAGETYP=None)
    path = n.write_config(night)
    text = path.read_text().replace(str(night.darks), str(night.root / "x"))
    path.write_text(text)
    outcome = n.ostcal("masters", "--config", path, "--no-confirm")
    assert outcome.exit_code == 1
    assert "IMAGETYP" in said(outcome, "error: ")


def test_no_dark_for_a_flat_names_the_exposures_there_are(night: Night) -> None:
    n.write_darks(night, 60.0)
    n.write_flats(night, 2.0)
    outcome = n.run_command(night)
    assert outcome.exit_code == 1
    assert "60 s" in said(outcome, "no dark for the flat of 2 s")
    assert len(list(night.masters.glob("master_dark*.fits"))) == 1


def test_flats_only_without_flats_fails(night: Night) -> None:
    n.write_darks(night, 5.0)
    outcome = n.run_command(night, "--flats-only")
    assert outcome.exit_code == 1
    assert said(outcome, "error: ")


# --- the configuration ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- list\n", ["c.yaml"]),
        ("just text\n", ["c.yaml"]),
        ("master_frames: [1, 2]\n", ["c.yaml", "master_frames"]),
        ("master_frames:\n  rejection_metod: median\n", ["c.yaml", "2", "rejection_metod", "rejection_method"]),
        ("master_frames:\n  rejection_method: sigma_clipp\n", ["sigma_clipp", "sigma_clip"]),
        ("master_frames:\n  min_frames: many\n", ["min_frames", "many"]),
        ("master_frames:\n\tmin_frames: 3\n", ["c.yaml"]),
        ("master_frames: {", ["c.yaml"]),
        ("\x00\x01", ["c.yaml"]),
    ],
)
def test_a_wrong_configuration_is_a_line_with_key_and_line_number(night: Night, text: str, words: list[str]) -> None:
    path = night.root / "c.yaml"
    path.write_text(text)
    outcome = n.ostcal("masters", "--config", path, "--no-confirm")
    assert outcome.exit_code == 2
    said(outcome, *words)


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_configuration_that_is_no_file_is_named(night: Night, name: str) -> None:
    outcome = n.ostcal("masters", "--config", night.root / name, "--no-confirm")
    assert outcome.exit_code == 2
    said(outcome, str(night.root / name))


def test_with_debug_a_wrong_configuration_has_a_traceback(night: Night) -> None:
    path = night.root / "c.yaml"
    path.write_text("- a\n")
    assert "Traceback" in n.ostcal("masters", "--config", path, "--debug").text


# --- series that cannot be used ---


def series_of(night: Night) -> Path:
    """Import darks; gives the series, the files are gone."""
    folder = night.root / "fits"
    n.write_frames(folder, n.dark_frames(5.0), "Dark Frame", 5.0)
    outcome = n.ostcal("import", folder, "--config", n.write_config(night))
    assert outcome.exit_code == 0, outcome.text
    shutil.rmtree(folder)
    return night.darks / "exp_5.000s.zarr"


def without_a_shard(series: Path) -> None:
    shutil.rmtree(series / "frames" / "c" / "3")


def with_a_damaged_shard(series: Path) -> None:
    shard = series / "frames" / "c" / "3" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[: len(data) // 2] = os.urandom(len(data) // 2)
    shard.write_bytes(bytes(data))


def without_a_record(series: Path) -> None:
    (record,) = (series / "ledger").glob("*3.json")
    record.unlink()


def with_a_damaged_record(series: Path) -> None:
    (record,) = (series / "ledger").glob("*3.json")
    record.write_text("{}")


def of_another_shape(series: Path) -> None:
    metadata = series / "frames" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("28", "30"))


def without_an_array(series: Path) -> None:
    shutil.rmtree(series / "frames")


def without_a_group(series: Path) -> None:
    (series / "zarr.json").unlink()


@pytest.mark.parametrize(
    ("damage", "frames_left"),
    [
        (without_a_shard, 6),
        (without_a_record, 6),
        (with_a_damaged_record, 6),
        (of_another_shape, 0),
        (without_an_array, 0),
        (without_a_group, 0),
    ],
)
def test_a_damaged_series_is_named(night: Night, damage: Callable[[Path], None], frames_left: int) -> None:
    series = series_of(night)
    damage(series)
    n.write_darks(night, 2.0)
    outcome = n.run_command(night, "--darks-only")
    assert "Traceback" not in outcome.text
    assert outcome.exit_code == 0, outcome.text
    assert damage is without_a_record or "exp_5.000s.zarr" in outcome.stderr
    made = {path.name[12:18] for path in night.masters.glob("*.fits")}
    assert made == ({"2.000s", "5.000s"} if frames_left else {"2.000s"})


def test_a_frame_of_a_series_with_damaged_samples_is_left_out_and_named(night: Night) -> None:
    series = series_of(night)
    with_a_damaged_shard(series)
    n.write_darks(night, 2.0)
    outcome = n.run_command(night, "--darks-only")
    assert "Traceback" not in outcome.text
    assert "frame 3" in outcome.stderr
    assert outcome.exit_code == 0  # the frame is left out, and that is a warning
    assert any("2.000s" in path.name for path in night.masters.glob("*.fits"))
    (spoiled,) = night.masters.glob("*5.000s*.fits")
    assert read_with_astropy(spoiled)[1]["NCOMBINE"] == 6


def test_an_array_of_another_program_is_named(night: Night) -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(night.darks / "exp_5.000s.zarr", shape=(4, 5), dtype="uint16", chunks=(4, 5))
    array[:] = 1
    n.write_darks(night, 2.0)
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 0
    assert said(outcome, "exp_5.000s.zarr")


def test_a_series_without_frames_is_no_frame(night: Night) -> None:
    create_series(night.darks / "exp_5.000s.zarr", n_frames=4, height=4, width=5, dtype="uint16", frame_type="dark")
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 1
    assert said(outcome, "error: ")


# --- output that cannot be written ---


@pytest.mark.parametrize("place", ["below a file", "a file", "/proc"])
def test_a_directory_that_cannot_be_written_is_named(night: Night, place: str) -> None:
    n.write_darks(night, 5.0)
    blocker = night.root / "blocker"
    blocker.write_text("a file")
    if place == "/proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    output_dir = {"below a file": str(blocker / "masters"), "a file": str(blocker), "/proc": "/proc/masters"}[place]
    before = digests(night.darks)
    outcome = n.run_command(night, output_dir=output_dir)
    assert outcome.exit_code == 1
    assert "master_frames.output_dir" in said(outcome, output_dir)
    assert digests(night.darks) == before
    status = night.run(output_dir=output_dir)
    assert status.is_error
    assert output_dir in status.message


def test_a_store_that_is_a_file_is_named(night: Night) -> None:
    n.write_darks(night, 5.0)
    night.masters.mkdir()
    (night.masters / "masters.zarr").write_text("a file")
    outcome = n.run_command(night, "--darks-only")
    assert outcome.exit_code == 1
    assert said(outcome, "masters.zarr")


def run_limited(night: Night, limit_bytes: int) -> Outcome:
    """Run the command in a process that may write files of this size at the most."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}));"
        "from ostcal.cli import main; main(sys.argv[1:])"
    )
    config = n.write_config(night)
    done = subprocess.run(
        [sys.executable, "-c", code, "masters", "--config", str(config), "--no-confirm", "--darks-only"],
        env=n.command_environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return Outcome(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@POSIX_ONLY
def test_files_that_may_not_grow_fail_the_master_and_leave_nothing(night: Night) -> None:
    shape = (400, 500)
    n.write_frames(night.darks, n.samples(4, 1000, seed=1, shape=shape), "Dark Frame", 5.0)
    before = digests(night.darks)
    outcome = run_limited(night, 100_000)  # strips and log fit, the FITS file of 800 kB does not
    assert outcome.exit_code == 1, outcome.text
    assert said(outcome, "error: ", "master_dark_5.000s", "the limit of file sizes is reached; raise it (ulimit -f)")
    assert "permissions" not in outcome.text
    assert list(night.masters.glob("*.fits")) == []
    assert digests(night.darks) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("a small file system can only be made by root with mount")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("n_sets", [1, 3])
def test_a_full_disk_is_named_and_nothing_half_written_stays(night: Night, small_disk: Path, n_sets: int) -> None:
    shape = (300, 500)  # 600 kB a master as FITS, and 500 kB in the store
    for index in range(n_sets):
        stack = n.samples(4, 1000, seed=index, shape=shape)
        n.write_frames(night.darks / str(index), stack, "Dark Frame", 5.0 + index)
    masters = small_disk / "masters"
    status = night.run(output_dir=str(masters))
    assert status.is_error is (n_sets == 3)
    assert half_written(masters) == []
    if n_sets == 3:
        assert all("full" in line or "No space" in line for line in status.details["errors"])
    for path in status.data["dark"]:
        read_with_astropy(path)


# --- things that change while a run goes on ---


@pytest.mark.parametrize("change", [cut_short, os.remove], ids=["truncated", "vanished"])
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_frame_lost_during_the_run_is_left_out(night: Night, change: Callable[[Path], None], scheduler: str) -> None:
    n.write_darks(night, 5.0)
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0)
    lost = night.darks / "exp_5.000s" / "dark_003.fits"

    def planned(groups: Any, n_bytes: int) -> bool:
        change(lost)
        return True

    config = night.config(compute={"scheduler": scheduler})
    status = MasterFrameCreator(config, watcher=Watcher(planned=planned)).create_all_master_frames()
    assert status.is_warning
    (warning,) = status.details["warnings"]
    assert "dark_003.fits" in warning
    assert len(status.data["dark"]) == 2
    assert len(status.data["flat"]) == 1
    frames = {entry["exposure_time_s"]: entry["n_frames"] for entry in status.details["masters"].values()}
    assert frames[5.0] == 6


def test_flats_wait_for_the_dark_that_is_made_without_its_lost_frame(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0)

    def planned(groups: Any, n_bytes: int) -> bool:
        os.remove(night.darks / "exp_2.000s" / "dark_003.fits")
        return True

    status = MasterFrameCreator(night.config(), watcher=Watcher(planned=planned)).create_all_master_frames()
    assert status.is_warning
    assert (len(status.data["dark"]), len(status.data["flat"])) == (1, 1)


def test_flats_whose_dark_fails_fail_with_it(night: Night) -> None:
    n.write_darks(night, 2.0)
    n.write_flats(night, 2.0)

    def planned(groups: Any, n_bytes: int) -> bool:
        for index in range(5):  # two of seven are left, fewer than min_frames
            os.remove(night.darks / "exp_2.000s" / f"dark_{index:03d}.fits")
        return True

    creator = MasterFrameCreator(night.config(), watcher=Watcher(planned=planned))
    status = creator.create_all_master_frames()
    assert status.is_error
    assert status.data["flat"] == status.data["dark"] == []
    dark, flat = status.details["errors"]
    assert dark.startswith("master_dark")
    assert flat.startswith("master_flat")
    assert dark.partition(":")[0] in flat
    assert "2 could not be made" in status.message


def many_small_frames(night: Night) -> None:
    """Write frames that take a while: many files, and strips of one row."""
    shape = (500, 40)
    n.write_frames(night.darks, n.samples(120, 1000, seed=1, shape=shape), "Dark Frame", 5.0)


def started(night: Night, scheduler: str) -> subprocess.Popen[str]:
    """Start the command and wait until it writes its master."""
    path = n.write_config(night, compute={"scheduler": scheduler}, rejection_method="winsorized_sigma_clip")
    text = path.read_text()[:-1] + ', "storage": {"strip_rows": 1}}'
    path.write_text(text)
    process = subprocess.Popen(
        n.command_line("masters", "--config", path, "--no-confirm", "--darks-only"),
        env=n.command_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(night.masters.glob("masters.zarr/master_dark*/master/c.*"))) < 30:  # every worker has begun
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@POSIX_ONLY
@pytest.mark.parametrize(
    "scheduler", ["threads", *(pytest.param(name, marks=pytest.mark.slow) for name in ("processes", "distributed"))]
)
def test_an_interrupt_ends_the_run_and_leaves_no_partial_master(night: Night, scheduler: str) -> None:
    many_small_frames(night)
    process = started(night, scheduler)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr + stdout, stderr
    assert list(night.masters.glob("*.fits")) == []
    assert not night.run(rejection_method="none").is_error  # other work: the strips of this one are swept


@POSIX_ONLY
def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    night = Night(tmp_path)
    many_small_frames(night)
    process = started(night, "threads")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert half_written(night.masters) != []
    (night.masters / "master_dark_5.000s_20260101_000000.fits.partial").write_bytes(b"half")
    assert night.run(rejection_method="none").data["dark"] != []
    assert half_written(night.masters) == []


@POSIX_ONLY
def test_what_a_killed_run_unpacked_is_swept_by_the_next(night: Night) -> None:
    stack = n.write_darks(night, 5.0)
    for path in (night.darks / "exp_5.000s").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    code = (
        "import os, signal, sys; from ostcal import MasterFrameCreator; from ostcal.build.request import Watcher;"
        "MasterFrameCreator(sys.argv[1], watcher=Watcher(planned=lambda *_: os.kill(os.getpid(), signal.SIGKILL)))"
        ".create_all_master_frames()"
    )
    config = n.write_config(night)
    subprocess.run([sys.executable, "-c", code, str(config)], env=n.command_environment(), check=False, timeout=60)
    assert list(night.masters.glob(".unpacked-*/*")) != []
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)
