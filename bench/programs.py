"""The programs that are compared: how each is found, and the whole command with which its users make a master dark."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from machine import package_version
from page_cache import files_below, read_into_nothing
from process_tree import Command, run_measured

BENCH = Path(__file__).resolve().parent
CCDPROC_MEMORY_LIMIT_BYTES = 4_000_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """One master to make: the frames, and an empty directory for everything a program writes."""

    frames: Sequence[Path]
    directory: Path
    settings: dict[str, object] = field(default_factory=dict)
    """Further configuration sections of ostcal, such as ``{"compute": {"scheduler": "processes"}}``."""
    options: tuple[str, ...] = ()
    """Further command line options of ostcal."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that combines frames into a master."""

    name: str
    title: str
    method: str
    """How it rejects, in the words of the table."""
    install: str
    """What to do where it is missing."""
    version: Callable[[], str | None]
    """Version of the installed program, ``None`` where it is not installed."""
    command: Callable[[Job], Command]
    master: str
    """Glob pattern of the master, relative to the job's directory."""
    adu_per_unit: float = 1.0

    @property
    def is_own(self) -> bool:
        """Whether it is ostcal, whatever it reads."""
        return self.name.partition("-")[0] == "ostcal"


def ostcal_command(job: Job) -> Command:
    """``ostcal masters`` with sigma clipping to convergence; mean/std is the default centre and spread at 40 frames."""
    config: dict[str, Any] = {
        "dark_capture": {"output_dir": str(job.frames[0].parents[1])},
        "master_frames": {
            "output_dir": str(job.directory / "masters"),
            "rejection_method": "sigma_clip",
            "sigma_threshold": 3.0,
            "clip_iterations": None,
            "create_master_bias": False,
            "create_master_flats": False,
            "quality_control": False,  # no other program has it; bench/quality.py says what it costs
        },
    }
    for section, values in job.settings.items():
        config[section] = {**config.get(section, {}), **values}
    path = job.directory / "config.yaml"
    path.write_text(json.dumps(config, indent=2))  # JSON is YAML
    return Command(
        argv=(sys.executable, "-m", "ostcal.cli", "masters", "--config", str(path), "--no-confirm", *job.options),
        directory=job.directory,
        environment={"PYTHONPATH": str(BENCH.parent), "NUMBA_CACHE_DIR": str(numba_cache(job))},
    )


def ostcal_zarr_command(job: Job, compressor: str) -> Command:
    """``ostcal masters`` on the same frames as the capture stores them: a series is made, and read once, before."""
    series = imported_series(job.frames, job.directory.parents[1] / f"series-{compressor}", compressor)
    read_into_nothing(files_below(series))
    settings = {**job.settings, "dark_capture": {"output_dir": str(series.parent)}}
    return ostcal_command(replace(job, settings=settings))


def imported_series(frames: Sequence[Path], directory: Path, compressor: str = "auto") -> Path:
    """Make a zarr series of frames with ``ostcal import``, unless there is one."""
    complete = directory / "complete"
    if not complete.exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        config = directory / "import.yaml"
        settings = {"dark_capture": {"output_dir": str(directory)}, "storage": {"compressor": compressor}}
        config.write_text(json.dumps(settings))
        argv = (sys.executable, "-m", "ostcal.cli", "import", str(frames[0].parent), "--config", str(config))
        command = Command(argv=argv, directory=directory, environment={"PYTHONPATH": str(BENCH.parent)})
        usage = run_measured(command, timeout_s=1800)
        if usage.exit_code != 0:
            sys.exit(f"ostcal import ended with {usage.exit_code}, see {directory / 'log.txt'}")
        complete.touch()
    return next(directory.glob("*.zarr"))


def numba_cache(job: Job) -> Path:
    """Where a benchmark keeps compiled kernels: empty at its start, so that the first run is a cold one."""
    return job.directory.parent / "numba_cache"


def siril_command(job: Job) -> Command:
    """Link the frames as a sequence and stack it; all cores, 90 % of memory, 32-bit output: Siril's own defaults."""
    script = job.directory / "stack.ssf"
    script.write_text(
        "requires 1.0.0\n"
        "setext fits\n"
        "set32bits\n"
        f'cd "{job.frames[0].parent}"\n'
        f'link dark_ "-out={job.directory}"\n'
        f'cd "{job.directory}"\n'
        "stack dark_ rej sigma 3 3 -nonorm -out=master\n"
    )
    home = str(job.directory)  # the user's own settings must not count
    return Command(
        argv=("siril-cli", "-s", str(script)),
        directory=job.directory,
        environment={"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "XDG_DATA_HOME": home},
    )


def iraf_command(job: Job) -> Command:
    """``imcombine`` with ``sigclip``, which iterates to convergence itself."""
    (job.directory / "frames.lst").write_text("".join(f"{path}\n" for path in job.frames))
    script = job.directory / "combine.cl"
    script.write_text(
        "images\n"
        "immatch\n"
        'imcombine ("@frames.lst", "master.fits", combine="average", reject="sigclip", lsigma=3., hsigma=3.)\n'
        "logout\n"
    )
    return Command(
        argv=(_iraf_executable() or "irafcl",),
        directory=job.directory,
        environment={"HOME": str(job.directory), "USER": "bench", "TERM": "dumb"},
        stdin=script,
    )


def ccdproc_command(job: Job, center: str, spread: str) -> Command:
    """``ccdproc.combine`` on file names, with a memory limit that a laptop allows."""
    arguments = (center, spread, str(CCDPROC_MEMORY_LIMIT_BYTES), str(job.directory / "master.fits"))
    return _python_command(job, "peer_ccdproc.py", arguments)


def numpy_command(job: Job) -> Command:
    """Forty lines of numpy and astropy.io.fits."""
    return _python_command(job, "peer_numpy.py", (str(job.directory / "master.fits"),))


def _python_command(job: Job, script: str, arguments: tuple[str, ...]) -> Command:
    argv = (sys.executable, str(BENCH / script), *arguments, *(str(path) for path in job.frames))
    return Command(argv=argv, directory=job.directory, environment={})


def _ostcal_version() -> str | None:
    if not (BENCH.parent / "ostcal" / "cli").is_dir():
        return None
    return str(runpy.run_path(str(BENCH.parent / "ostcal" / "_version.py"))["__version__"])


def _siril_version() -> str | None:
    return _first_line("siril-cli", "--version", prefix="siril ")


def _iraf_executable() -> str | None:
    return shutil.which("irafcl") or shutil.which("ecl")


def _iraf_version() -> str | None:
    return _first_line(_iraf_executable() or "irafcl", "-v", prefix="Community IRAF V")


def _first_line(executable: str, option: str, *, prefix: str) -> str | None:
    path = shutil.which(executable)
    if path is None:
        return None
    answer = subprocess.run([path, option], capture_output=True, text=True, check=False, timeout=60).stdout.strip()
    return answer.splitlines()[0].removeprefix(prefix) if answer else "unknown version"


PROGRAMS = (
    Program(
        name="ostcal",
        title="ostcal",
        method="sigma clip (mean/std), to convergence",
        install="pip install -e . in the checkout",
        version=_ostcal_version,
        command=ostcal_command,
        master="masters/master_dark_*.fits",
    ),
    Program(
        name="ostcal-zarr",
        title="ostcal",
        method="the same, from zarr as captured (lz4)",
        install="pip install -e . in the checkout",
        version=_ostcal_version,
        command=lambda job: ostcal_zarr_command(job, "auto"),
        master="masters/master_dark_*.fits",
    ),
    Program(
        name="ostcal-zarr-plain",
        title="ostcal",
        method="the same, from zarr with `compressor: none`",
        install="pip install -e . in the checkout",
        version=_ostcal_version,
        command=lambda job: ostcal_zarr_command(job, "none"),
        master="masters/master_dark_*.fits",
    ),
    Program(
        name="siril",
        title="Siril",
        method="sigma clip (median/std), to convergence",
        install="apt-get install siril, or https://siril.org",
        version=_siril_version,
        command=siril_command,
        master="master.fits",
        adu_per_unit=65535.0,  # 32-bit masters of 16-bit frames lie between 0 and 1
    ),
    Program(
        name="numpy",
        title="plain numpy",
        method="sigma clip (mean/std), one pass",
        install="pip install numpy astropy",
        version=lambda: package_version("numpy"),
        command=numpy_command,
        master="master.fits",
    ),
    Program(
        name="iraf",
        title="IRAF imcombine",
        method="sigclip, to convergence",
        install="apt-get install iraf, or https://iraf-community.github.io",
        version=_iraf_version,
        command=iraf_command,
        master="master.fits",
    ),
    Program(
        name="ccdproc-mean",
        title="ccdproc.combine",
        method="sigma clip (mean/std), one pass",
        install="pip install ccdproc",
        version=lambda: package_version("ccdproc"),
        command=lambda job: ccdproc_command(job, "mean", "std"),
        master="master.fits",
    ),
    Program(
        name="ccdproc-median",
        title="ccdproc.combine",
        method="sigma clip (median/MAD), one pass",
        install="pip install ccdproc",
        version=lambda: package_version("ccdproc"),
        command=lambda job: ccdproc_command(job, "median", "mad_std"),
        master="master.fits",
    ),
)


def select_programs(text: str) -> tuple[Program, ...]:
    """Choose ostcal and the peers of a comma-separated list; ``ccdproc`` stands for both of its variants."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    known = {program.name for program in PROGRAMS} | {"ccdproc"}
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise ValueError(f"unknown peer {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return tuple(
        program
        for program in PROGRAMS
        if program.is_own or program.name in wanted or program.name.partition("-")[0] in wanted
    )
