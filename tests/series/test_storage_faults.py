"""Full disks, refused writes and broken disks at random moments: nothing committed is lost, nothing wrong is left.

A small library between Python and the system's C library lets calls below one folder fail, as a full disk (ENOSPC), a
folder that may not be written (EACCES) or a dying disk (EIO) do; the program itself is the one that is shipped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ostcal.library.find import store_location
from ostcal.library.store import MasterStore
from ostcal.series.reader import open_series
from support.fits_samples import read_with_astropy
from support.folders import TESTS
from support.forking import ForkServer, forking
from support.night import Night, dark_frames, ostcal, run_command, whole_night, write_config, write_darks, write_frames

TRIALS = int(os.environ.get("OSTCAL_FAULT_TRIALS") or 4)
"""Of each kind of fault; more by hand."""
FOREVER = 1_000_000
CREATE, WRITE, RENAME, REMOVE = 1, 2, 4, 8

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long counter;

static long number(const char *name) { const char *text = getenv(name); return text ? atol(text) : 0; }

static int fails(const char *path, long kind)
{
    const char *below = getenv("FAULT_BELOW");
    if (!below || !*below || !path || strncmp(path, below, strlen(below)) || !(kind & number("FAULT_KINDS"))) return 0;
    long call = __sync_add_and_fetch(&counter, 1), first = number("FAULT_AT");
    if (call < first || call >= first + number("FAULT_COUNT")) return 0;
    errno = (int)number("FAULT_ERRNO");
    return 1;
}

static int fails_at(int directory, const char *name, long kind)
{
    char link[64], path[8192];
    if (name[0] == '/') return fails(name, kind);
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, path, 4096);
    if (length < 0) return 0;
    snprintf(path + length, sizeof path - length, "/%s", name);
    return fails(path, kind);
}

static int fails_fd(int file, long kind)
{
    char link[64], path[4097];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, 4096);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path, kind);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, #name)
#define WRITES(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))
#define MODE \
    int mode = 0; va_list rest; va_start(rest, flags); if (flags & O_CREAT) mode = va_arg(rest, int); va_end(rest)
#define OPEN(name) \
    int name(const char *p, int flags, ...) \
    { MODE; REAL(name); return WRITES(flags) && fails(p, 1) ? -1 : real(p, flags, mode); }

OPEN(open)
OPEN(open64)
int openat(int d, const char *p, int flags, ...)
{ MODE; REAL(openat); return WRITES(flags) && fails_at(d, p, 1) ? -1 : real(d, p, flags, mode); }
int mkdir(const char *p, mode_t m) { REAL(mkdir); return fails(p, 1) ? -1 : real(p, m); }
ssize_t write(int f, const void *b, size_t n) { REAL(write); return n && fails_fd(f, 2) ? -1 : real(f, b, n); }
ssize_t writev(int f, const struct iovec *v, int n) { REAL(writev); return fails_fd(f, 2) ? -1 : real(f, v, n); }
int fsync(int f) { REAL(fsync); return fails_fd(f, 2) ? -1 : real(f); }
int rename(const char *a, const char *b) { REAL(rename); return fails(b, 4) ? -1 : real(a, b); }
int unlink(const char *p) { REAL(unlink); return fails(p, 8) ? -1 : real(p); }
int unlinkat(int d, const char *p, int flags) { REAL(unlinkat); return fails_at(d, p, 8) ? -1 : real(d, p, flags); }
int rmdir(const char *p) { REAL(rmdir); return fails(p, 8) ? -1 : real(p); }

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("FAULT_REPORT");
    FILE *file = path && *path && counter ? fopen(path, "w") : NULL;
    if (file) { fprintf(file, "%ld", counter); fclose(file); }
}
"""

# Starting Python and importing takes 1 to 2 s: so one process imports, and each run is a fork of it.
RUNNER = """
    import json, os, sys, threading
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    from support.direct_camera import DirectCamera, small_sensor
    from ostcal.clock import SystemClock
    from ostcal.capture.series_plan import CaptureWatcher, SeriesPlan, SeriesSink
    from ostcal.capture.series import capture_series
    from ostcal.cli import main
    import ostcal.cli.calibrate, ostcal.cli.exclude, ostcal.cli.report, ostcal.cli.import_export, ostcal.science.api
    import ostcal.cli.masters, ostcal.build.run, ostcal.build.api, ostcal.report.making
    import dask.delayed, dask.multiprocessing, dask.threaded
    from ostcal.engine.combine import combine_block
    from ostcal.engine.rejection import SeriesNoise, SigmaClip
    from ostcal.frames import CameraSettings, FrameType, SampleEncoding

    def capture(folder, seed, n_frames, export):
        clock = SystemClock()
        camera = DirectCamera(small_sensor(width=64, height=48), clock, seed=int(seed))

        def given(digest):
            with open(Path(folder, "given.txt"), "a") as log:
                log.write(digest + "\\n")

        camera.on_download = given
        plan = SeriesPlan(
            name="exp_0.001s", frame_type=FrameType.DARK, exposure_time_s=0.001, n_frames=int(n_frames),
            settings=CameraSettings(camera="direct", gain=100.0), light=False,
        )
        sink = SeriesSink(directory=Path(folder, "darks"), export_frames=export == "export")
        outcome = capture_series(camera, plan, sink, clock, CaptureWatcher())
        print("OUTCOME", json.dumps([str(outcome.end), outcome.present]), flush=True)

    stack = np.arange(7 * 4 * 28, dtype=np.uint16).reshape(7, 4, 28)
    combine_block(stack, SampleEncoding(dtype="uint16"), SigmaClip().resolved(7), noise=SeriesNoise(noise_adu=1.0))
    print("ready", threading.active_count(), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.update(order["environment"])
            screen = os.open(order["screen"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(screen, 1)
            os.dup2(screen, 2)
            if order["arguments"][0] == "capture":
                capture(*order["arguments"][1:])
                sys.exit(0)
            main(order["arguments"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and LD_PRELOAD (Linux)")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What fails, and for how long."""

    number: int
    kinds: int
    count: int = FOREVER


FAULTS = {
    "full disk": Fault(number=errno.ENOSPC, kinds=CREATE | WRITE | RENAME),
    "full for a moment": Fault(number=errno.ENOSPC, kinds=CREATE | WRITE | RENAME, count=1),
    "refused": Fault(number=errno.EACCES, kinds=CREATE | RENAME | REMOVE),
    "refused once": Fault(number=errno.EACCES, kinds=CREATE | RENAME | REMOVE, count=1),
    "broken disk": Fault(number=errno.EIO, kinds=WRITE, count=1),
}
KINDS = ["full disk", *(pytest.param(kind, marks=pytest.mark.slow) for kind in list(FAULTS)[1:])]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a run ended."""

    exit_code: int
    screen: str
    calls: int
    """Calls below the folder that could have failed."""


class Runner:
    """Runs commands whose writes fail at a chosen call."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def run(self, *arguments: str, below: Path, fault: Fault | None = None, at: int = FOREVER) -> Run:
        """Run a command; the call number `at` below a folder fails, and as many after it as the fault says."""
        fault = fault or Fault(number=errno.ENOSPC, kinds=CREATE | WRITE | RENAME | REMOVE)
        screen, report = self._folder / "screen.txt", self._folder / "calls.txt"
        report.unlink(missing_ok=True)
        environment = {
            "FAULT_BELOW": str(below),
            "FAULT_KINDS": str(fault.kinds),
            "FAULT_AT": str(at),
            "FAULT_COUNT": str(fault.count),
            "FAULT_ERRNO": str(fault.number),
            "FAULT_REPORT": str(report),
        }
        order = {"environment": environment, "screen": str(screen), "arguments": arguments}
        code = self._server.ask(json.dumps(order))
        calls = int(report.read_text()) if report.exists() else 0
        return Run(exit_code=code, screen=screen.read_text(errors="replace"), calls=calls)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Runner]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "shim.c").write_text(SHIM)
    build = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    if subprocess.run(build, capture_output=True, check=False).returncode:
        pytest.skip("the C compiler makes no shared library here")
    tests = TESTS
    environment = {**os.environ, "PYTHONPATH": str(tests.parent), "LD_PRELOAD": str(folder / "shim.so")}
    with forking(RUNNER, str(tests), environment=environment, cwd=tests.parent) as server:
        yield Runner(server, folder)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("runner")) as runner:
        yield runner


def findings_below(folder: Path) -> list[str]:
    """Return what `ostcal verify` finds, strays and half-written files among it."""
    result = ostcal("verify", folder)
    return [] if result.exit_code == 0 else result.text.splitlines()


# ---- capture ----

N_FRAMES = 5


def committed(folder: Path) -> list[str]:
    """Return the checksums of the frames of the series, each verified; none where there is no series."""
    location = folder / "darks" / "exp_0.001s.zarr"
    if not location.exists():
        return []
    series = open_series(location)
    assert series.problems == ()
    for record in series.records:
        series.read_frame(record.index)
    return [record.pixels.checksum for record in series.records]


@pytest.mark.parametrize("kind", KINDS)
def test_capture_loses_no_committed_frame(runner: Runner, tmp_path: Path, kind: str) -> None:
    fault, moments = FAULTS[kind], random.Random(f"capture {kind}")
    (tmp_path / "whole").mkdir()
    whole = runner.run(
        "capture", str(tmp_path / "whole"), "0", str(N_FRAMES), "export", below=tmp_path / "whole" / "darks",
        fault=fault,
    )  # fmt: skip
    assert whole.calls > 20
    failed = 0
    for trial in range(TRIALS):
        folder = tmp_path / str(trial)
        folder.mkdir()
        export = "export" if trial % 2 else "plain"
        arguments = ("capture", str(folder), str(trial), str(N_FRAMES), export)
        at = moments.randint(1, whole.calls)
        run = runner.run(*arguments, below=folder / "darks", fault=fault, at=at)
        assert run.exit_code == 0, (trial, at, run.screen)
        assert "Traceback" not in run.screen
        end, present = json.loads(run.screen.rsplit("OUTCOME", 1)[1])
        failed += end == "storage failed"
        given = (folder / "given.txt").read_text().split() if (folder / "given.txt").exists() else []
        kept = committed(folder)
        assert len(kept) >= present
        assert set(kept) <= set(given)
        again = runner.run(*arguments, below=folder / "darks")
        assert "complete" in again.screen, (trial, at, again.screen)
        everything = committed(folder)
        assert everything[: len(kept)] == kept
        assert len(everything) == N_FRAMES
        assert set(everything) <= set((folder / "given.txt").read_text().split())
        assert findings_below(folder / "darks") == [], (trial, at)
        if export == "export":
            assert len(list((folder / "darks").rglob("*.fits"))) == N_FRAMES
        shutil.rmtree(folder)
    assert failed


# ---- masters ----


@dataclass(frozen=True)
class MadeNight:
    """A night, and the masters that it gives when nothing fails."""

    night: Night
    images: dict[str, NDArray[np.float32]]


def images_of(masters: Path) -> dict[str, NDArray[np.float32]]:
    """Return the images of the FITS masters by their names without the time."""
    return {path.name.rsplit("_", 2)[0]: read_with_astropy(path)[0] for path in sorted(masters.glob("*.fits"))}


def stored_images(masters: Path) -> dict[str, NDArray[np.float32]]:
    store = MasterStore(store_location(str(masters)))
    return {name.rsplit("_", 2)[0]: store.open(name).array() for name in store.names()}


@pytest.fixture(scope="module")
def made_night(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> MadeNight:
    night = whole_night(tmp_path_factory.mktemp("night"))
    run = runner.run("masters", "--config", str(write_config(night)), "--no-confirm", below=night.masters)
    assert run.exit_code == 0, run.screen
    images = images_of(night.masters)
    assert len(images) == 5  # bias, its dark, two darks, a flat
    return MadeNight(night=night, images=images)


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_master_and_no_stray_file(runner: Runner, made_night: MadeNight, tmp_path: Path, kind: str) -> None:
    fault, moments = FAULTS[kind], random.Random(f"masters {kind}")
    night = made_night.night
    config = json.loads(write_config(night).read_text())

    def run(masters: Path, fault: Fault | None = None, at: int = FOREVER) -> Run:
        config["master_frames"]["output_dir"] = str(masters)
        path = tmp_path / "c.yaml"
        path.write_text(json.dumps(config))
        return runner.run("masters", "--config", str(path), "--no-confirm", below=masters, fault=fault, at=at)

    calls = run(tmp_path / "whole", fault).calls
    assert calls > 50
    failed = 0
    for trial in range(TRIALS):
        masters = tmp_path / str(trial)
        at = moments.randint(1, calls)
        first = run(masters, fault, at)
        assert first.exit_code in (0, 1), (trial, at, first.screen)
        failed += first.exit_code == 1
        assert "Traceback" not in first.screen, (trial, at, first.screen)
        for images in (images_of(masters), stored_images(masters)):
            for name, image in images.items():
                np.testing.assert_array_equal(image, made_night.images[name])
        second = run(masters)
        assert second.exit_code == 0, (trial, at, second.screen)
        assert images_of(masters).keys() == made_night.images.keys()
        for name, image in images_of(masters).items():
            np.testing.assert_array_equal(image, made_night.images[name])
        assert findings_below(masters) == [], (trial, at)
        shutil.rmtree(masters)
    assert failed or fault.count == 1


def test_a_log_file_on_a_full_disk_makes_no_traceback(runner: Runner, tmp_path: Path) -> None:
    night = whole_night(tmp_path)
    arguments = ("masters", "--config", str(write_config(night)), "--no-confirm")
    calls = runner.run(*arguments, below=night.masters, fault=FAULTS["full disk"]).calls
    shutil.rmtree(night.masters)
    run = runner.run(*arguments, below=night.masters, fault=FAULTS["full disk"], at=calls // 2)
    assert run.exit_code == 1
    assert "Traceback" not in run.screen


# ---- the other commands ----


@dataclass(frozen=True, kw_only=True)
class Other:
    """A command, the folder it writes into, and what is complete there when it ended well."""

    arguments: tuple[str, ...]
    below: Path
    pattern: str


def prepared(folder: Path, kind: str) -> Other:
    """Make what a command needs."""
    night, out = Night(folder / "night"), folder / "out"
    night.root.mkdir()
    config = str(write_config(night))
    match kind:
        case "calibrate":
            write_darks(night, 5.0)
            assert run_command(night, "--darks-only").exit_code == 0
            write_frames(night.root / "lights", dark_frames(5.0, 3, seed=5), "Light Frame", 5.0, stem="light")
            lights = str(night.root / "lights")
            options = ("--config", config, "--output-dir", str(out), "--flat", "none", "--overwrite")
            return Other(arguments=("calibrate", lights, *options), below=out, pattern="*.fits")
        case "report":
            write_darks(night, 5.0)
            assert run_command(night, "--darks-only").exit_code == 0
            return Other(arguments=("report", "--config", config), below=night.masters, pattern="*.html")
        case "import":
            write_darks(Night(folder / "raw"), 5.0)
            raw = str(folder / "raw" / "darks")
            return Other(arguments=("import", raw, "--config", config), below=night.darks, pattern="frames/c/*/0/0")
    write_darks(Night(folder / "raw"), 5.0)
    assert ostcal("import", folder / "raw" / "darks", "--config", config).exit_code == 0
    series = str(night.darks / "exp_5.000s.zarr")
    if kind == "export":
        return Other(arguments=("export", series, "--to", str(out)), below=out, pattern="*.fits")
    arguments = ("exclude", series, "--frame", "1", "--frame", "4", "--why", "clouds")
    return Other(arguments=arguments, below=night.darks, pattern="*.excluded.json")


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """Return the files of a pattern without what says when they were made."""
    when = re.compile(rb"20\d\d-\d\d-\d\d[ T][0-9:.]+|20\d{6}_\d{6}|DATASUM .{72}|CHECKSUM.{72}")
    is_history = pattern.endswith(".json")
    return {
        str(path.relative_to(folder)): b"" if is_history else when.sub(b"", path.read_bytes())
        for path in folder.rglob(pattern)
    }


@pytest.mark.parametrize("command", ["calibrate", "report", "import", "export", "exclude"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_other_commands_are_complete_or_absent(
    runner: Runner, tmp_path: Path, kind: str, command: str
) -> None:
    fault, moments = FAULTS[kind], random.Random(f"{command} {kind}")
    other = prepared(tmp_path, command)
    fresh = tmp_path / "fresh"
    if other.below.exists():
        shutil.copytree(other.below, fresh)

    def start_anew() -> None:
        shutil.rmtree(other.below, ignore_errors=True)
        if fresh.exists():
            shutil.copytree(fresh, other.below)

    start_anew()
    whole = runner.run(*other.arguments, below=other.below, fault=fault)
    assert whole.exit_code == 0, whole.screen
    truth = contents(other.below, other.pattern)
    assert truth
    assert whole.calls > 2
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and not inside(path, other)}
    failed = 0
    for trial in range(-(-TRIALS // 2)):
        start_anew()
        at = moments.randint(1, whole.calls)
        run = runner.run(*other.arguments, below=other.below, fault=fault, at=at)
        assert run.exit_code in (0, 1), (trial, at, run.screen)
        assert "Traceback" not in run.screen, (trial, at, run.screen)
        failed += run.exit_code == 1
        if command != "report":
            there = contents(other.below, other.pattern)
            assert there.items() <= truth.items(), (trial, at, sorted(there.keys() - truth.keys()))
        if command == "export":
            shutil.rmtree(other.below, ignore_errors=True)  # it overwrites no file
        second = runner.run(*other.arguments, below=other.below)
        assert second.exit_code == 0, (trial, at, second.screen)
        if command != "report":
            assert contents(other.below, other.pattern) == truth, (trial, at)
        left = [path for path in other.below.rglob("*") if "partial" in path.name or ".lock" in path.name]
        assert left == [], (trial, at)
        if command in ("import", "exclude"):
            assert findings_below(other.below) == [], (trial, at)
    assert failed or fault.count == 1
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and not inside(path, other)}
    assert {path: data for path, data in after.items() if path in before} == before


def inside(path: Path, other: Other) -> bool:
    return other.below in path.parents or path.suffix in (".log", ".so", ".txt")
