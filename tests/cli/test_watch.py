"""`ostcal watch`: another program writes frames; nothing is used too early, made twice or lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostcal.config import load_config
from ostcal.workflow.watch_folder import FolderWatch, WatchCallbacks, WatchRules
from support import night as n
from support.direct_camera import FakeClock
from support.fits_samples import read_with_astropy
from support.night import Night

QUIET_S = 60.0
POLL_S = 5.0


class Watched:
    """A folder that is watched by steps of a clock of its own."""

    def __init__(self, root: Path, **rules: Any) -> None:
        self.night = Night(root)
        self.folder = root / "incoming"
        self.folder.mkdir(exist_ok=True)
        self.rules = WatchRules(**{"quiet_s": QUIET_S, "poll_s": POLL_S, **rules})
        self.builds: list[list[str]] = []
        """The masters of each build that it made anew."""
        self.unchanged: list[int] = []
        self.start()

    def start(self) -> None:
        """Begin, or begin again as after a restart."""
        self.clock = FakeClock()
        callbacks = WatchCallbacks(masters=self._masters)
        config = load_config(self.night.config())
        self.watch = FolderWatch(config, str(self.folder), self.rules, callbacks, self.clock)

    def _masters(self, creator: Any, status: Any) -> None:
        report = creator.report
        self.builds.append([] if report is None else sorted(made.name for made in report.made))
        self.unchanged.append(0 if report is None else len(report.unchanged))

    def step(self, seconds: float = POLL_S) -> None:
        self.clock.sleep(seconds)
        self.watch.look()
        self.watch.make()

    def until_quiet(self) -> None:
        for _ in range(3):
            self.step()
        self.step(QUIET_S)
        self.step()

    @property
    def masters(self) -> list[str]:
        return sorted(path.name.rsplit("_", 2)[0] for path in self.night.masters.glob("master_*.fits"))

    @property
    def calibrated(self) -> list[str]:
        folder = self.night.root / "calibrated"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*_cal.fits"))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def write_darks(folder: Path, exposure_s: float = 5.0, count: int = 7, **options: Any) -> list[Path]:
    return n.write_frames(folder, n.dark_frames(exposure_s, count), "Dark Frame", exposure_s, **options)


def write_flats(folder: Path) -> list[Path]:
    return n.write_frames(folder, n.flat_frames(5.0, (20000, 21000, 19500, 22000)), "Flat Frame", 5.0, stem="flat")


def combined_frames(watched: Watched) -> list[int]:
    """Return the numbers of frames of the master darks on disk."""
    return sorted(read_with_astropy(path)[1]["NCOMBINE"] for path in watched.night.masters.glob("master_dark*.fits"))


def write_lights(folder: Path, count: int = 2, **options: Any) -> list[Path]:
    stack = n.samples(count, 1500 + 5 * np.linspace(0, 4, n.SHAPE[1]), seed=60)
    return n.write_frames(folder, stack, "Light Frame", 5.0, stem="m31", **options)


def test_a_group_is_combined_when_no_frame_has_come_for_a_time(watched: Watched) -> None:
    frames = write_darks(watched.folder)
    watched.step()
    watched.step()
    assert watched.builds == []
    watched.step(QUIET_S)
    assert watched.masters == ["master_dark_5.000s"]
    (path,) = watched.night.masters.glob("master_dark*.fits")
    image, header = read_with_astropy(path)
    assert header["NCOMBINE"] == len(frames)
    np.testing.assert_array_equal(image, n.combined(n.dark_frames(5.0)).mean)


def test_a_group_is_combined_when_it_has_as_many_frames_as_asked(tmp_path: Path) -> None:
    watched = Watched(tmp_path, complete_after=5)
    frames = write_darks(tmp_path / "elsewhere", count=12)
    for path in frames[:4]:
        shutil.move(path, watched.folder)
    watched.step()
    watched.step()
    assert watched.builds == []
    shutil.move(frames[4], watched.folder)
    watched.step()
    watched.step()
    assert [len(made) for made in watched.builds] == [1]
    for path in frames[5:8]:  # too few for another time
        shutil.move(path, watched.folder)
        watched.step()
    assert len(watched.builds) == 1
    watched.until_quiet()
    assert [len(made) for made in watched.builds] == [1, 1]


def test_frames_that_keep_coming_make_a_group_wait(watched: Watched) -> None:
    frames = write_darks(watched.night.root / "elsewhere", count=6)
    for path in frames:
        shutil.move(path, watched.folder)
        watched.step(QUIET_S / 2)
        watched.step(1)
    assert watched.builds == []
    watched.until_quiet()
    assert [len(made) for made in watched.builds] == [1]


def test_a_file_that_grows_slowly_is_not_used_before_it_is_complete(watched: Watched) -> None:
    *complete, last = write_darks(watched.night.root / "elsewhere", count=6)
    for path in complete:
        shutil.move(path, watched.folder)
    content, growing = last.read_bytes(), watched.folder / "dark_growing.fits"
    for length in range(0, 3900, 300):  # its data end at 4000
        growing.write_bytes(content[:length])
        watched.step(QUIET_S / 4)
    assert combined_frames(watched) == [5]
    growing.write_bytes(content)
    watched.until_quiet()
    assert combined_frames(watched) == [5, 6]


def test_a_file_that_stays_cut_short_is_named_once_and_left_out(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    *_, last = write_darks(watched.folder, count=6)
    content = last.read_bytes()
    last.write_bytes(content[:3500])
    for _ in range(4):
        watched.until_quiet()
    lines = [record.getMessage() for record in caplog.records if "is cut short" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(str(last))
    assert combined_frames(watched) == [5]
    last.write_bytes(content)
    watched.until_quiet()
    assert combined_frames(watched) == [5, 6]


def test_once_names_what_it_leaves_out_as_nobody_looks_again(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    *_, last = write_darks(watched.folder, count=6)
    last.write_bytes(last.read_bytes()[:3500])
    watched.watch.run_once()
    lines = [record.getMessage() for record in caplog.records if "is cut short" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(str(last))
    assert lines[0].endswith("it is left out")
    assert combined_frames(watched) == [5]


@pytest.mark.parametrize("temporary", ["dark_009.fits.tmp", ".dark_009.fits", "dark_009.part"])
def test_a_file_is_used_under_its_final_name(watched: Watched, temporary: str) -> None:
    *frames, last = write_darks(watched.night.root / "elsewhere", count=6)
    for path in frames:
        shutil.move(path, watched.folder)
    shutil.copy(last, watched.folder / temporary)
    watched.step()
    (watched.folder / temporary).rename(watched.folder / "dark_009.fits")
    watched.until_quiet()
    assert combined_frames(watched) == [6]


def test_files_that_vanish_and_a_folder_that_vanishes_end_nothing(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    frames = write_darks(watched.folder, count=6)
    watched.step()
    frames[0].unlink()
    watched.step()
    aside = watched.folder.rename(watched.night.root / "aside")
    for _ in range(3):
        watched.step()
    assert sum("the folder is not there" in record.getMessage() for record in caplog.records) == 1
    aside.rename(watched.folder)
    watched.until_quiet()
    assert combined_frames(watched) == [5]


def test_nothing_is_made_twice_whatever_happens_to_the_frames(watched: Watched) -> None:
    frames = write_darks(watched.folder, count=8)
    watched.until_quiet()
    assert [len(made) for made in watched.builds] == [1]
    frames[0].rename(watched.folder / "renamed.fits")
    watched.until_quiet()
    frames[1].unlink()  # its master is not made again of the rest
    watched.until_quiet()
    write_darks(watched.folder / "others", 2.0)
    watched.until_quiet()
    assert [len(made) for made in watched.builds] == [1, 1]
    assert watched.masters == ["master_dark_2.000s", "master_dark_5.000s"]


def test_nothing_is_made_twice_after_a_restart(watched: Watched) -> None:
    write_darks(watched.folder)
    n.write_frames(watched.folder, n.bias_frames(), "Bias Frame", 0.001)
    watched.until_quiet()
    assert len(watched.builds[0]) == 2
    for _ in range(3):
        watched.start()
        watched.until_quiet()
    assert [made for made in watched.builds[1:] if made] == []
    assert watched.unchanged[1:] == [2, 2, 2]


def test_a_flat_is_made_again_when_its_dark_comes_later(watched: Watched) -> None:
    n.write_frames(watched.folder, n.bias_frames(), "Bias Frame", 0.001)
    n.write_frames(watched.folder / "flats", n.flat_frames(2.0, (20000, 21000, 19500, 22000)), "Flat Frame", 2.0)
    watched.until_quiet()
    write_darks(watched.folder, 2.0)
    watched.until_quiet()
    kinds = [sorted(name.split("_")[1] for name in made) for made in watched.builds]
    assert kinds == [["bias", "flat"], ["dark", "flat"]]


def test_lights_are_calibrated_as_they_come_once_and_in_their_folders(tmp_path: Path) -> None:
    watched = Watched(tmp_path, calibrate=True)
    write_darks(watched.folder)
    write_flats(watched.folder)
    write_lights(watched.folder / "m31", 1)
    watched.step()
    watched.step()
    assert watched.calibrated == []  # darks may still be coming
    watched.step(QUIET_S)
    watched.step()
    assert watched.calibrated == ["m31/m31_000_cal.fits"]
    before = (tmp_path / "calibrated" / "m31" / "m31_000_cal.fits").stat().st_mtime_ns
    for path in write_lights(tmp_path / "elsewhere", 3)[1:]:
        shutil.move(path, watched.folder / "m31")
    watched.step()
    watched.step()
    assert watched.calibrated == [f"m31/m31_00{i}_cal.fits" for i in range(3)]
    watched.start()
    watched.until_quiet()
    assert (tmp_path / "calibrated" / "m31" / "m31_000_cal.fits").stat().st_mtime_ns == before


def test_lights_without_masters_are_named_once_and_calibrated_when_there_are_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(tmp_path, calibrate=True)
    (light,) = write_lights(watched.folder, 1)
    for _ in range(5):
        watched.step()
    assert watched.calibrated == []
    assert sum(record.getMessage().startswith(str(light)) for record in caplog.records) == 1
    write_darks(watched.folder / "darks")
    write_flats(watched.folder / "flats")
    watched.until_quiet()
    watched.step()
    assert watched.calibrated == ["m31_000_cal.fits"]


def test_two_lights_of_one_name_are_not_one_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(tmp_path, calibrate=True)
    write_darks(watched.folder)
    write_flats(watched.folder)
    (light,) = write_lights(watched.folder, 1)
    watched.until_quiet()
    watched.step()
    shutil.copy(light, light.with_suffix(".fit"))
    for _ in range(3):
        watched.step()
    assert watched.calibrated == ["m31_000_cal.fits"]
    lines = [record.getMessage() for record in caplog.records if "not calibrated, " in record.getMessage()]
    assert len(lines) == 1
    assert "m31_000.fit: " in lines[0]


def lights_of_one_folder(tmp_path: Path) -> tuple[Watched, Path, Path]:
    """Return a watch that has calibrated one light, that light, and its calibrated file."""
    watched = Watched(tmp_path, calibrate=True)
    write_darks(watched.folder / "darks")
    write_flats(watched.folder / "flats")
    (light,) = write_lights(watched.folder, 1)
    watched.until_quiet()
    watched.step()
    assert watched.calibrated == ["m31_000_cal.fits"]
    return watched, light, tmp_path / "calibrated" / "m31_000_cal.fits"


def other_light(folder: Path, **options: Any) -> Path:
    """Write a light of another sky under the same name."""
    stack = n.samples(1, 2500 + 5 * np.linspace(0, 4, n.SHAPE[1]), seed=61)
    (folder / "m31_000.fits").unlink(missing_ok=True)
    return n.write_frames(folder, stack, "Light Frame", 5.0, stem="m31", **options)[0]


def lines_about(caplog: pytest.LogCaptureFixture, light: Path) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    return [line for line in lines if line.startswith(f"{light}: not calibrated, ")]


@pytest.mark.parametrize("place", ["same folder", "other folder"])
def test_after_a_restart_a_light_is_not_taken_for_one_that_was_calibrated_into_its_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    watched, light, calibrated = lights_of_one_folder(tmp_path)
    before = calibrated.read_bytes()
    second = other_light(tmp_path / "second", start=n.START + timedelta(minutes=1))
    if place == "same folder":
        second = second.rename(light.with_suffix(".fit"))
    else:
        watched.folder = second.parent
    watched.start()
    for _ in range(2):
        watched.until_quiet()
    assert calibrated.read_bytes() == before
    (line,) = lines_about(caplog, second)
    assert str(calibrated) in line
    assert lines_about(caplog, light) == []
    if place == "other folder":  # what the line says to do, does it
        calibrated.rename(tmp_path / "kept_cal.fits")
        watched.step()
        assert read_with_astropy(calibrated)[0].mean() == pytest.approx(2500 - 1000, rel=0.5)


@pytest.mark.parametrize("restarts", [False, True])
def test_a_light_that_is_written_again_is_calibrated_again(tmp_path: Path, restarts: bool) -> None:
    watched, _, calibrated = lights_of_one_folder(tmp_path)
    before = read_with_astropy(calibrated)[0]
    other_light(watched.folder)
    if restarts:
        watched.start()
    watched.until_quiet()
    assert watched.calibrated == ["m31_000_cal.fits"]
    assert read_with_astropy(calibrated)[0].mean() - before.mean() == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("restarts", [False, True])
def test_another_exposure_of_the_same_name_does_not_replace_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, restarts: bool
) -> None:
    watched, light, calibrated = lights_of_one_folder(tmp_path)
    before = calibrated.read_bytes()
    other_light(watched.folder, start=n.START + timedelta(minutes=1))
    if restarts:
        watched.start()
    for _ in range(2):
        watched.until_quiet()
    assert calibrated.read_bytes() == before
    (line,) = lines_about(caplog, light)
    assert str(calibrated) in line


def test_a_light_that_was_copied_and_touched_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched, light, calibrated = lights_of_one_folder(tmp_path)
    before = calibrated.stat().st_mtime_ns
    content = light.read_bytes()
    light.unlink()
    light.write_bytes(content)
    watched.start()
    watched.until_quiet()
    assert calibrated.stat().st_mtime_ns == before
    assert lines_about(caplog, light) == []


def test_a_calibrated_file_that_cannot_be_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched, light, calibrated = lights_of_one_folder(tmp_path)
    calibrated.write_bytes(calibrated.read_bytes()[:1000])
    watched.start()
    watched.until_quiet()
    assert len(lines_about(caplog, light)) == 1


def test_masters_and_results_inside_the_folder_are_not_frames(tmp_path: Path) -> None:
    night = Night(tmp_path / "incoming")
    watched = Watched(tmp_path, calibrate=True, output_dir=str(tmp_path / "incoming" / "calibrated"))
    watched.night = night
    watched.start()
    write_darks(watched.folder / "darks")
    write_flats(watched.folder / "flats")
    write_lights(watched.folder / "lights")
    for _ in range(3):
        watched.until_quiet()
    assert [len(made) for made in watched.builds] == [2]
    assert len(list((watched.folder / "calibrated").rglob("*.fits"))) == 2


# ---- the command ----


def config_of(root: Path) -> Path:
    return n.write_config(Night(root))


def test_once_makes_what_is_there_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    write_darks(folder)
    write_flats(folder)
    write_lights(folder)
    words = ("watch", folder, "--config", config_of(tmp_path), "--once", "--calibrate", "--poll", "0.1", "--json")
    outcome = n.ostcal(*words)
    assert outcome.exit_code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert [master["state"] for master in document["masters"]] == ["made", "made"]
    assert len(document["calibrated"]) == 2
    again = json.loads(n.ostcal(*words).stdout)
    assert [master["state"] for master in again["masters"]] == ["unchanged", "unchanged"]
    assert again["calibrated"] == []


@pytest.mark.parametrize("place", ["nothing", "s3://bucket/incoming"])
def test_a_folder_that_is_none_is_one_line(tmp_path: Path, place: str) -> None:
    place = place if "://" in place else str(tmp_path / place)
    outcome = n.ostcal("watch", place, "--config", config_of(tmp_path), "--once")
    assert outcome.exit_code == 1
    assert f"error: {place}: is no folder of this computer" in outcome.stderr


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    outcome = n.ostcal("watch", tmp_path / "incoming", "--config", config_of(tmp_path), "--once", "--poll", "0.1")
    assert outcome.exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_hooks_were_told_meanwhile(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    path = config_of(tmp_path)
    told = tmp_path / "told"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["hooks"] = {"command": ["sh", "-c", f"cat >> {told}"], "on": "master_made"}
    path.write_text(json.dumps(values), encoding="utf-8")
    words = n.command_line("watch", folder, "--config", path, "--poll", "0.2", "--quiet", "0.5", "--json")
    process = subprocess.Popen(
        words, env=n.command_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for frame in write_darks(tmp_path / "elsewhere"):
            os.replace(frame, folder / frame.name)
        deadline = time.monotonic() + 90

        def is_waiting() -> bool:
            """Return whether the build has ended, which hooks hear of while it goes on."""
            lines = "".join(log.read_text(encoding="utf-8") for log in (tmp_path / "masters").glob("watch_*.log"))
            return told.exists() and "finished in" in lines and "report: " in lines

        while not is_waiting() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert process.poll() is None, process.communicate()
        time.sleep(0.5)  # to the pause between two looks
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    (event,) = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    assert event["masters"][0]["kind"] == "dark"
    assert [master["state"] for master in json.loads(stdout)["masters"]] == ["made"]
