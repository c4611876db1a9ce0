"""Play three new users with the wheel in a fresh environment, and time each step: ``python scripts/three_users.py``.

An observer has a folder of frames as N.I.N.A. writes them, an engineer a pipeline, an astronomer Python. They use what
stands in the README and in docs/, and nothing else: the program ends with 1 if a command does not, or fails. It needs
numpy and astropy to write the frames, and the network (or ``PIP_FIND_LINKS``) for pip, so that it is no part of the
checks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (1096, 1936)
"""Pixels of the frames, 4.2 MB each: 60 of them are 0.25 GB."""
SETS = {"BIAS": (20, 0.0, 0, 500.0, 4.0), "DARK": (20, 60.0, 60, 512.0, 4.5), "FLAT": (20, 1.5, 240, 30_000.0, 160.0)}
"""Frames, exposure in seconds, begin in minutes after dusk, level and noise in ADU, by the word of N.I.N.A."""
LIGHT = (4, 60.0, 120, 1_500.0, 40.0)
DUSK = datetime(2026, 11, 21, 18, tzinfo=UTC)
TIME_LIMIT_S = 600


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a user types, and the page where it stands."""

    user: str
    words: tuple[str, ...]
    page: str
    shown: str
    """What the page has of it."""
    exit_code: int = 0
    stdin: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Path, str], str] = lambda folder, printed: ""
    """Looks at the folder and at standard output, and returns what is worth saying."""

    @property
    def name(self) -> str:
        """What the table calls it: the command, or the first line of Python code, which is a comment."""
        return self.words[2].splitlines()[0].strip("# ") if self.words[0] == "python" else " ".join(self.words)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Time by the clock and of the processors, in seconds; the latter is 0 on Windows."""

    clock_s: float
    cpu_s: float

    @classmethod
    def begin(cls) -> Cost:
        """Return the time now."""
        times = os.times()
        return cls(clock_s=time.monotonic(), cpu_s=times.children_user + times.children_system)

    def end(self) -> Cost:
        """Return what was used since."""
        now = Cost.begin()
        return Cost(clock_s=now.clock_s - self.clock_s, cpu_s=now.cpu_s - self.cpu_s)

    def __add__(self, other: Cost) -> Cost:
        return Cost(clock_s=self.clock_s + other.clock_s, cpu_s=self.cpu_s + other.cpu_s)

    def __str__(self) -> str:
        return f"{self.clock_s:.1f} s, {self.cpu_s:.1f} s of the processors"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The fresh environment."""

    folder: Path

    @property
    def binaries(self) -> Path:
        """Where its programs are."""
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    def variables(self) -> dict[str, str]:
        """Return the variables of a new login: nothing of a checkout, and no compiled kernels."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NUMBA", "OSTCAL"))}
        return {**kept, "PATH": f"{self.binaries}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(self.folder)}

    def run(self, step: Step, cwd: Path) -> tuple[Cost, str]:
        """Run a step; return its cost and what it printed. Ends the program if it does not end as it should."""
        program = self.binaries / step.words[0]
        cost = Cost.begin()
        done = subprocess.run(
            [str(program), *step.words[1:]],
            cwd=cwd,
            env={**self.variables(), **step.variables},
            input=step.stdin or "",
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=TIME_LIMIT_S,
        )
        cost = cost.end()
        if done.returncode != step.exit_code:
            sys.exit(f"{' '.join(step.words)[:200]}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return cost, done.stdout


# --- frames ---


def write_frames(folder: Path) -> int:
    """Write a night as N.I.N.A. names and describes it; return its bytes."""
    n_bytes = 0
    for word, numbers in {**SETS, "LIGHT": LIGHT}.items():
        place = folder / ("lights" if word == "LIGHT" else f"frames/{word}")
        place.mkdir(parents=True)
        for number in range(numbers[0]):
            n_bytes += write_frame(place, word, number, *numbers[1:])
    return n_bytes


def write_frame(place: Path, word: str, number: int, exposure_s: float, after: int, level: float, noise: float) -> int:
    """Write one frame; return its bytes."""
    began = DUSK + timedelta(minutes=after, seconds=number * (exposure_s + 2))
    rng = np.random.default_rng([after, number])
    samples = np.clip(np.rint(rng.normal(level, noise, SHAPE)), 0, 65535).astype(np.uint16)
    header = fits.Header()
    header["IMAGETYP"], header["EXPOSURE"], header["EXPTIME"] = word, exposure_s, exposure_s
    header["DATE-LOC"] = (began + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000")
    header["DATE-OBS"] = began.strftime("%Y-%m-%dT%H:%M:%S.000")
    header["XBINNING"], header["YBINNING"], header["GAIN"], header["OFFSET"], header["EGAIN"] = 1, 1, 100, 50, 1.2
    header["INSTRUME"], header["SET-TEMP"], header["CCD-TEMP"] = "ZWO ASI462MM", -10.0, -10.1
    if word in ("FLAT", "LIGHT"):
        header["FILTER"] = "L"
    header["ROWORDER"], header["SWCREATE"] = "TOP-DOWN", "N.I.N.A. 3.1.2.9001 (x64)"
    path = place / f"{began:%Y-%m-%d_%H-%M-%S}__-10.00_{exposure_s:.2f}s_{number:04d}.fits"
    fits.PrimaryHDU(samples, header).writeto(path)
    return path.stat().st_size


# --- users ---


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def block_with(page: str, text: str) -> str:
    """Return the first Python block of a page that has a text."""
    return next(block for block in blocks(page) if text in block)


def ostcal(user: str, line: str, page: str, **others: object) -> Step:
    """Return a command that stands on a page as it is typed."""
    return Step(user=user, words=tuple(line.split()), page=page, shown=line, **others)  # type: ignore[arg-type]


def observer() -> list[Step]:
    """Combine a folder of frames, and calibrate lights."""
    return [
        Step(user="observer", words=("ostcal", "frames"), page="README.md", shown="`ostcal FOLDER`"),
        ostcal("observer", "ostcal masters frames --out masters", "README.md", check=masters_made),
        ostcal(
            "observer",
            "ostcal calibrate lights --masters masters --output-dir calibrated",
            "README.md",
            check=calibrated,
        ),
    ]


def engineer() -> list[Step]:
    """Run a pipeline: a configuration from a program, JSON, exit codes, names that stay."""
    config = json.dumps({"input": {"dirs": ["frames"]}, "master_frames": {"output_dir": "piped"}})
    shown = "ostcal masters --config night.yaml --no-confirm --json"
    words = tuple(shown.replace("night.yaml", "-").split())
    lower = {"OSTCAL__MASTER_FRAMES__SIGMA_LOW": "2.7"}
    return [
        Step(
            user="engineer", words=words, page="docs/automation.md", shown=shown, stdin=config, variables=lower,
            check=json_of_masters,
        ),
        Step(
            user="engineer", words=words, page="docs/automation.md", shown=shown, stdin=config, variables=lower,
            check=nothing_made_again,
        ),
        Step(
            user="engineer", words=words, page="docs/configuration.md", shown="`OSTCAL__MASTER_FRAMES__SIGMA_LOW=2.7`",
            stdin=config, variables={"OSTCAL__MASTER_FRAMES__SIGMA_LOW": "many"}, exit_code=2, check=refused,
        ),
    ]  # fmt: skip


def astronomer() -> list[Step]:
    """Use frames in memory, the function of ccdproc, and a master as an object."""
    page, other = "docs/python.md", "docs/migration.md"
    names = blocks(page)[0]
    ccd, write, opened = (block_with(page, text) for text in ("CCDData(frame", "writeto(", "ostcal.open_master(path)"))
    ccdproc = block_with(other, "from ostcal.compat.ccdproc import combine")
    return [
        python("combine", names, page, names),
        python("combine of CCDData", ccd, page, names + ccd),
        python("compat.ccdproc.combine", ccdproc, other, ccdproc),
        python("frames of its own", write, page, names + write),
        ostcal("astronomer", "ostcal masters frames --out masters", page),
        python("open_master", opened, page, f"{names}\nfrom pathlib import Path\n{opened}"),
    ]


def python(name: str, shown: str, page: str, code: str) -> Step:
    """Return lines of Python that stand on a page."""
    return Step(user="astronomer", words=("python", "-c", f"# {name}\n{code}"), page=page, shown=shown)


# --- what must be there afterwards ---


def masters_made(folder: Path, printed: str) -> str:
    """Expect bias, dark and flat."""
    found = sorted(path.name.split("_2")[0] for path in (folder / "masters").glob("master_*.fits"))
    assert {"master_bias", "master_dark_60.000s", "master_flat_1.500s"} <= set(found), found
    return f"{len(found)} masters"


def calibrated(folder: Path, printed: str) -> str:
    """Expect every light."""
    found = list((folder / "calibrated").glob("*_cal.fits"))
    assert len(found) == LIGHT[0], found
    return f"{len(found)} lights"


def json_of_masters(folder: Path, printed: str) -> str:
    """Expect one document, and names that stay."""
    document = json.loads(printed)
    assert document["exit_code"] == 0
    latest = folder / "piped" / "latest"
    assert (latest / "index.json").is_file()
    return f"{len(document['masters'])} masters as JSON, {len(list(latest.iterdir()))} names in latest/"


def nothing_made_again(folder: Path, printed: str) -> str:
    """Expect that nothing is made twice."""
    states = {master["state"] for master in json.loads(printed)["masters"]}
    assert states == {"unchanged"}, states
    return "unchanged"


def refused(folder: Path, printed: str) -> str:
    """Expect the error in the document too."""
    document = json.loads(printed)
    assert document["exit_code"] == 2
    assert len(document["errors"]) == 1, document["errors"]
    return "exit code 2, one error"


# --- the play ---


def main() -> None:
    """Build the wheel, install it, play, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras to install, such as capture,notebook")
    parser.add_argument("--check", action="store_true", help="only look whether all commands stand in the docs")
    arguments = parser.parse_args()
    steps = [*observer(), *engineer(), *astronomer()]
    if missing := [step for step in steps if step.shown not in (ROOT / step.page).read_text(encoding="utf-8")]:
        sys.exit("\n".join(f"{step.page} does not have: {step.shown}" for step in missing))
    if arguments.check:
        print(f"{len(steps)} steps stand in the docs")
        return
    with tempfile.TemporaryDirectory(prefix="three-users-") as folder:
        play(Path(folder), steps, f"[{arguments.extras}]" if arguments.extras else "")


def play(folder: Path, steps: list[Step], extras: str) -> None:
    """Do all of it below a folder."""
    environment = Environment(folder=folder / "venv")
    timed("wheel", [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", str(folder / "dist"), str(ROOT)])
    (wheel,) = (folder / "dist").glob("*.whl")
    timed("environment", [sys.executable, "-m", "venv", str(environment.folder)])
    pip = [str(environment.binaries / "python"), "-m", "pip", "install", "-qq", f"{wheel}{extras}"]
    installed = timed(f"pip install ostcal{extras}", pip)
    for user in ("observer", "astronomer"):
        (folder / user).mkdir()
    print(f"frames: {write_frames(folder / 'observer') / 1e9:.2f} GB")
    for step in steps:
        cwd = folder / ("observer" if step.user == "engineer" else step.user)
        cost, printed = environment.run(step, cwd)
        show(step.user, cost, step.name, step.check(cwd, printed))
        if step.check is masters_made:
            first = installed + cost
    print(f"first masters after pip install began: {first}")


def show(user: str, cost: Cost, name: str, said: str = "") -> None:
    """Print a line of the table."""
    print(f"{user:<11} {cost.clock_s:6.1f} s {cost.cpu_s:6.1f} s CPU  {name:<72} {said}".rstrip(), flush=True)


def timed(name: str, words: list[str]) -> Cost:
    """Run a command and print its time."""
    cost = Cost.begin()
    subprocess.run(words, check=True, timeout=TIME_LIMIT_S)
    cost = cost.end()
    show("", cost, name)
    return cost


if __name__ == "__main__":
    main()
