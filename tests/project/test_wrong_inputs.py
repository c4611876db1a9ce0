"""What people give that is wrong: one line that says what, where and what to do; the right exit code or exception.

Commands run in this process. Other wrong inputs have tests of their own: cameras in
`tests/capture/test_capture_bad_input.py` and `tests/devices/test_camera_names.py`, full disks in
`tests/series/test_storage_faults.py`, damage in a frame in `tests/fits/test_fits_files.py` and
`tests/build/test_bad_input.py`, each entry of the page in `test_troubleshooting.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData

from ostcal import (
    CalibrationApplier,
    CalibrationWorkflow,
    DarkCapture,
    MasterFrameCreator,
    calibrate,
    combine,
    load_config,
    load_master_bias,
    load_master_dark,
    load_master_flat,
    open_camera,
)
from ostcal.compat.ccdproc import Combiner
from ostcal.compat.ccdproc import combine as ccdproc_combine
from ostcal.compat.ost import ConfigManager
from ostcal.errors import ConfigError, DeviceError, FrameError, InputError, NoFramesError
from support import night as n
from support.night import Night, Outcome

LONGEST = 480
"""Characters of a line: where a path is not allowed, what may be written takes 300."""

needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of frames that are right and wrong, read by all tests and changed by none."""
    root = tmp_path_factory.mktemp("wrong")
    n.whole_night(root / "good")
    assert not Night(root / "good").run().is_error
    n.write_frames(root / "lights", n.dark_frames(5.0, 3, seed=9), "Light Frame", 5.0)
    darks = n.write_frames(root / "cut", n.dark_frames(5.0, 3, seed=9), "Dark Frame", 5.0)
    for path in darks:
        path.write_bytes(path.read_bytes()[:3000])
    for ending in ("xisf", "cr2", "jpg"):
        write_files(root / ending, ending, b"nothing" * 50)
    write_files(root / "zero", "fits", b"")
    write_files(root / "text", "fits", b"hello world\n" * 500)
    (root / "empty").mkdir()
    (root / "afile").write_text("x")
    for name in ("no_image", "huge"):
        (root / name).mkdir()
        for number in range(3):
            write_odd_header(root / name / f"d{number}.fits", has_image=name == "huge")
    if os.name != "nt":
        (root / "loop").mkdir()
        (root / "loop" / "self").symlink_to(root / "loop")
        (root / "dangling").mkdir()
        (root / "dangling" / "x.fits").symlink_to(root / "nowhere")
    return root


def write_files(folder: Path, ending: str, content: bytes) -> None:
    folder.mkdir()
    for number in range(3):
        (folder / f"a{number}.{ending}").write_bytes(content)


def write_odd_header(path: Path, *, has_image: bool) -> None:
    """Write a dark without an image, or one whose header claims 81 million million pixels."""
    cards = fits.Header({"IMAGETYP": "Dark Frame", "EXPTIME": 5.0})
    fits.PrimaryHDU(np.zeros((4, 4), np.uint16) if has_image else None, cards).writeto(path)
    if has_image:
        content = path.read_bytes()
        for axis in (b"NAXIS1  = ", b"NAXIS2  = "):
            content = content.replace(axis + b"%20d" % 4, axis + b"%20d" % 9_000_000)
        path.write_bytes(content)


# --- commands ---


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A command line, and how it ends."""

    words: tuple[str, ...]
    """``@`` begins a path below the folder of the fixture."""
    code: int
    says: tuple[str, ...]
    """What stands in standard error."""
    stdin: bytes | None = None
    variables: tuple[tuple[str, str], ...] = ()
    file: str | None = None
    """Text of ``c.yaml`` in the working directory."""
    content: bytes | None = None
    """Its bytes, where they are no text."""


def masters(folder: str, code: int, *says: str, options: tuple[str, ...] = ()) -> Wrong:
    return Wrong(words=("masters", folder, "--no-confirm", *options), code=code, says=says)


def setting(text: str, *says: str) -> Wrong:
    return Wrong(words=("config", "check", "--set", text), code=2, says=("--set", *says))


def variable(name: str, value: str, *says: str) -> Wrong:
    return Wrong(words=("config", "check"), code=2, says=says, variables=((name, value),))


def piped(stdin: bytes, *says: str) -> Wrong:
    return Wrong(words=("masters", "@good", "--config", "-", "--no-confirm"), code=2, says=says, stdin=stdin)


def written(text: str, *says: str) -> Wrong:
    return Wrong(words=("config", "check", "c.yaml"), code=2, says=("c.yaml", *says), file=text)


def command(*words: str, code: int, says: tuple[str, ...]) -> Wrong:
    return Wrong(words=words, code=code, says=says)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)

FOLDERS = {
    "missing": masters("@missing", 2, "no such folder"),
    "a file of another kind": masters("@afile", 1, "afile (a file of another kind)", "name the folders"),
    "empty": masters("@empty", 1, "No input files found in", "empty", "ostcal masters FOLDER"),
    "only lights": masters("@lights", 1, "No master can be made", "all 3 frames there are lights; name the folders"),
    "only XISF that are none": masters("@xisf", 1, "a0.xisf", "XISF0100", "copy it again"),
    "only raw files that are none": masters("@cr2", 1, ".cr2", "error: No"),
    "only pictures": masters("@jpg", 1, "3 .jpg", "convert frames"),
    "no bytes": masters("@zero", 1, "is empty; leave it out", "a1.fits"),
    "cut short": masters("@cut", 1, "is cut short: 3000 bytes", "copy it again"),
    "text with the ending of FITS": masters("@text", 1, "does not begin with SIMPLE"),
    "no image": masters("@no_image", 1, "holds no image of two axes"),
    "a header that claims too much": masters("@huge", 1, "9000000 x 9000000 pixels", "the header is damaged"),
    "a pattern in quotes": masters("@go*d", 2, "go*d", "no such folder"),
    "no name": masters("", 2, "FOLDER", "is not allowed"),
    "too few frames": masters("@good", 1, "at least 90 frames", options=("--set", "master_frames.min_frames=90")),
    "science frames that are not there": command(
        "calibrate", "@missing", "--masters", "@good/masters", code=1, says=("missing: does not exist", "name files")
    ),
    "darks as science frames": command(
        "calibrate",
        "@good/darks",
        "--masters",
        "@good/masters",
        code=1,
        says=("no science frames in", "left out: bias"),
    ),
    "no masters": command(
        "calibrate", "@lights", "--masters", "@missing", code=1, says=("no such directory of masters", "ostcal masters")
    ),
    "a dark that is not there": command(
        "calibrate",
        "@lights",
        "--masters",
        "@good/masters",
        "--dark",
        "@no.fits",
        code=1,
        says=("--dark", "there is no such file", "ostcal library"),
    ),
    "lights of the coverage": command("coverage", "@missing", code=1, says=("missing: does not exist",)),
    "what is to be verified": command("verify", "@missing", code=1, says=("there is no such series",)),
    "what is to be imported": command("import", "@empty", code=1, says=("No input files found in", "name a folder")),
    "what is to be uploaded": command("upload", "@missing", "s3://x", code=1, says=("nothing to copy",)),
    "what is to be watched": command("watch", "@missing", code=1, says=("is no folder of this computer",)),
}
LINKED = {
    "a folder that links to itself": masters("@loop", 1, "No input files found in"),
    "a link to nothing": masters("@dangling", 1, "x.fits: cannot be read", "repair it or leave it out"),
}
OUTPUTS = {
    "a file": masters("@good", 1, "afile: is a file", "master_frames.output_dir", options=("--out", "@afile")),
    "below a file": masters("@good", 1, "afile", "master_frames.output_dir", options=("--out", "@afile/x")),
    "no name": masters("@good", 2, "--out", "'' is not allowed", options=("--out", "")),
    "a file for science frames": command(
        "calibrate",
        "@lights",
        "--masters",
        "@good/masters",
        "--output-dir",
        "@afile",
        code=1,
        says=("afile: the directory cannot be made", "--output-dir"),
    ),
    "the folder of the science frames": command(
        "calibrate",
        "@lights",
        "--masters",
        "@good/masters",
        "--output-dir",
        "@lights",
        code=1,
        says=("lights: not read, because calibrated frames are written there", "--output-dir"),
    ),
    "a start of a configuration that is there": command("config", "init", "@afile", code=2, says=("not overwritten",)),
    "a start in no folder": command("config", "init", "@missing/x.yaml", code=1, says=("cannot be written",)),
}
OVERRIDES = {
    "no value": setting("master_frames", "write --set section.key=value"),
    "nothing": setting("=", "write --set section.key=value"),
    "no section": setting("a.b=1", "a.b: unknown key", "section.key"),
    "a mistyped key": setting("master_frames.sigma_lw=3", "did you mean master_frames.sigma_low?"),
    "a word for a number": setting("master_frames.sigma_low=three", "three is not allowed; write a number above 0"),
    "below the limit": setting("master_frames.sigma_low=-1", "-1 is not allowed", "above 0"),
    "a section": setting("master_frames=3", "is a group of keys; set one of them"),
    "half a list": setting("flat_capture.filters=[L,", "not valid YAML"),
    "a byte of memory": setting("compute.memory_limit=1 byte", "1 byte is not allowed", "4GiB"),
    "no worker": setting("compute.workers=0", "0 is not allowed; write a whole number from 1 to 4096"),
    "too many workers": setting("compute.workers=100000", "100000 is not allowed", "4096"),
    "a number with an exponent": setting("dark_capture.num_darks=1e9", "1e9 is not allowed", "whole number"),
    "a mistyped word of a folder": setting("dark_capture.output_dir={nigth}/x", "{nigth}/x is not allowed", "{night}"),
    "limits that exclude each other": setting(
        "master_frames.max_frames=2", "2 is not allowed", "min_frames, which is 3"
    ),
    "a variable of no section": variable("OSTCAL__X", "1", "OSTCAL__X", "names no key", "OSTCAL__SECTION__KEY"),
    "a mistyped variable": variable(
        "OSTCAL__MASTER_FRAMES__SIGMA_LW", "1", "did you mean OSTCAL__MASTER_FRAMES__SIGMA_LOW?"
    ),
    "a variable in lower case": variable("ostcal__master_frames__sigma_low", "abc", "abc is not allowed"),
    "a variable of a section": variable(
        "OSTCAL__MASTER_FRAMES", "3", "is a group of keys; set one of them, such as OSTCAL__MASTER_FRAMES__"
    ),
    "nothing through a pipe": piped(b"", "standard input: --config - got nothing"),
    "bytes through a pipe": piped(b"\xe4\x00\x01", "standard input, line 1: byte 0xe4 is not UTF-8"),
    "a list through a pipe": piped(b"- a\n", "standard input, line 1: a list at the top level"),
    "no such file": command("masters", "@good", "--config", "no.yaml", code=2, says=("no.yaml", "No such file")),
    "one of several": Wrong(
        words=("masters", "@good", "--config", "c.yaml", "--config", "no.yaml"),
        code=2,
        says=("no.yaml", "No such file"),
        file="master_frames: {sigma_low: 3}\n",
    ),
    "a folder": command(
        "config", "check", "@good", code=2, says=("is a folder, not a configuration", "ostcal masters")
    ),
    "a plan": command("capture", "--plan", "no.yaml", code=2, says=("no.yaml: the plan cannot be read",)),
}
FILES = {
    "aliases that multiply": written(BOMB + "master_frames: *g\n", "more than 20000 values"),
    "a tab": written("master_frames:\n\tsigma_low: 3\n", "line 2: a tab; YAML wants spaces"),
    "a Windows path": written('master_frames:\n  output_dir: "D:\\Lights\\new"\n', "line 2", "single quotes"),
    "a variable that is not set": written("master_frames: {output_dir: $NO_SUCH/x}\n", "$NO_SUCH/x is not allowed"),
    "a section twice": written("site: {}\nsite: {}\n", "site: given twice, also on line 1; keep one"),
    "two documents": written("site: {}\n---\nsite: {}\n", "line 2: a second document begins here"),
    "braces": written("{{{{", "not valid YAML"),
    "a tag of Python": written(
        "site: !!python/object/apply:os.getcwd []\n", "is not understood; write the value itself"
    ),
    "a thousand brackets": written(f"a: {'[' * 1000}{']' * 1000}\n", "nested deeper than 64 levels"),
    "another encoding": Wrong(
        words=("config", "check", "c.yaml"),
        code=2,
        says=("byte 0xff is not UTF-8",),
        content="site: {}".encode("utf-16"),
    ),
    "another driver": written(
        "video: {camera_type: opencv}\n", "opencv is not allowed; write ascom, alpaca or simulator"
    ),
    "politeness": written("master_frames: {quality_control: yes please}\n", "yes please is not allowed; write true"),
    "a unit": written("dark_capture: {science_exposure_time: 5 min}\n", "5 min is not allowed; write a number above 0"),
    "no number": written(
        "dark_capture: {science_exposure_time: .nan}\n", ".nan is not allowed; write a number above 0"
    ),
    "a number for a list": written("dark_capture: {exposure_factors: 2}\n", "2 is not allowed; write a list"),
    "a section of another name": written("masters: {sigma_low: 3}\n", "masters", "did you mean master_frames?"),
}
OPTIONS = {
    "a negative sigma": masters(
        "@good", 2, "--sigma-threshold", "-1 is not allowed", options=("--sigma-threshold", "-1")
    ),
    "no method": masters("@good", 2, "--rejection-method", "foo is not allowed", options=("--rejection-method", "foo")),
    "no level": masters("@good", 2, "mode is not allowed; write mean", options=("--normalization-method", "mode")),
    "options that exclude each other": masters(
        "@good", 2, "exclude each other", options=("--darks-only", "--flats-only")
    ),
    "a level of the log": masters("@good", 2, "'loud' is not one of", options=("--log-level", "loud")),
    "an option of elsewhere": masters("@good", 2, "--kinds", "--set input.kinds=VALUE", options=("--kinds", "dark")),
    "a key as an option": masters("@good", 2, "--set master_frames.min_frames=VALUE", options=("--min-frames", "5")),
    "memory for no row": masters(
        "@good",
        1,
        "compute.memory_limit 1 MiB is too small",
        "set memory_limit to",
        options=("--set", "compute.memory_limit=1MiB"),
    ),
    "a mistyped command": command("mastres", code=2, says=("No such command 'mastres'", "Did you mean masters?")),
    "no time": command("cameras", "--timeout", "-1", code=2, says=("--timeout", "-1.0 is not in the range x>0")),
    "a port": command("simulate", "--port", "99999", code=2, says=("99999 is not in the range",)),
    "a sensor": command("simulate", "--sensor", "foo", code=2, says=("'foo' is not one of 'demo'",)),
    "fewer than none": command("prune", "--keep", "-1", code=2, says=("-1 is not in the range",)),
    "no reason": command("exclude", "x.fits", code=2, says=("give the reason", "--why")),
    "no folder": command("import", code=2, says=("Missing argument 'DIR...'",)),
}
COMMANDS = {
    f"{group}: {what}": wrong
    for group, table in {
        "folder": FOLDERS, "output": OUTPUTS, "override": OVERRIDES, "file": FILES, "option": OPTIONS,
    }.items()
    for what, wrong in table.items()
}  # fmt: skip


def run(wrong: Wrong, place: Path, monkeypatch: pytest.MonkeyPatch, cwd: Path) -> Outcome:
    monkeypatch.chdir(cwd)
    if wrong.file is not None:
        (cwd / "c.yaml").write_text(wrong.file, encoding="utf-8")
    if wrong.content is not None:
        (cwd / "c.yaml").write_bytes(wrong.content)
    for name, value in wrong.variables:
        monkeypatch.setenv(name, value)
    words = [str(place / word[1:]) if word.startswith("@") else word for word in wrong.words]
    return n.ostcal(*words, stdin=wrong.stdin)


def check(outcome: Outcome, wrong: Wrong) -> None:
    """Compare the exit code; there is one error, on one line, with all that it must say."""
    assert outcome.exit_code == wrong.code, outcome.text
    assert "Traceback" not in outcome.text
    said = " ".join(outcome.stderr.split())
    assert [text for text in wrong.says if text not in said] == [], outcome.stderr
    errors = [line for line in outcome.stderr.splitlines() if line.lower().startswith("error: ")]
    assert len(errors) == 1, outcome.stderr
    assert len(said) < LONGEST + 2 * sum(len(word) for word in wrong.words) + 300, said


@pytest.mark.parametrize("wrong", COMMANDS.values(), ids=COMMANDS.keys())
def test_commands(wrong: Wrong, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(run(wrong, place, monkeypatch, tmp_path), wrong)


@needs_links
@pytest.mark.parametrize("wrong", LINKED.values(), ids=LINKED.keys())
def test_links(wrong: Wrong, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(run(wrong, place, monkeypatch, tmp_path), wrong)


def test_folders_without_rights(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wrong in {
        "read": masters(str(tmp_path / "read"), 2, "is not readable"),
        "write": masters("@good", 1, "cannot be written", options=("--out", str(tmp_path / "write" / "masters"))),
    }.items():
        (tmp_path / name).mkdir(mode=0o000 if name == "read" else 0o500)
        if os.access(tmp_path / name, os.R_OK | os.W_OK):
            pytest.skip("this user may read and write everything")
        check(run(wrong, place, monkeypatch, tmp_path), wrong)
        (tmp_path / name).chmod(0o700)


def test_masters_into_the_folder_of_frames_name_what_is_not_read(tmp_path: Path) -> None:
    """Masters are not frames, so what lies beside them is passed over, and this is said."""
    night = n.whole_night(tmp_path)
    outcome = n.ostcal("masters", night.root, "--out", night.darks, "--no-confirm")
    assert outcome.exit_code == 1
    said = " ".join(outcome.stderr.split())
    assert f"and 20 more: not read, because masters are written to {night.darks}; name another directory" in said


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        (
            ("--set", "master_frames.sigma_low=2", "--set", "master_frames.sigma_low=3"), {},
            "--set gives master_frames.sigma_low 2 times; the last counts",
        ),
        ((), {"OSTCAL_MASTER_FRAMES_SIGMA_LOW": "3"}, "OSTCAL__MASTER_FRAMES__SIGMA_LOW"),
    ],
)  # fmt: skip
def test_doubtful_overrides_are_said(
    words: tuple[str, ...], variables: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = n.ostcal("config", "check", *words)
    assert outcome.exit_code == 0
    assert says in " ".join(outcome.stderr.split())


@pytest.mark.parametrize("value", ["{night}", "{night}/darks"])
def test_words_of_folders_need_no_quotes(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML takes braces for a mapping."""
    monkeypatch.chdir(tmp_path)
    outcome = n.ostcal("config", "show", "--set", f"dark_capture.output_dir={value}")
    assert outcome.exit_code == 0, outcome.text
    assert value in outcome.stdout
    assert load_config({"dark_capture": {"output_dir": {"night": None}}}).dark_capture.output_dir == "{night}"


# --- Python ---

FRAME = np.ones((4, 5))
FRAMES = [FRAME] * 3
CCD = CCDData(FRAME, unit="adu")


@dataclass(frozen=True)
class Call:
    """A call, what it raises, and what it says."""

    call: Callable[[Path], Any]
    raises: type[Exception]
    says: str


def closed_file(place: Path) -> fits.HDUList:
    opened = fits.open(place / "good" / "darks" / "bias" / "bias_000.fits")
    opened.close()
    return opened


def library(place: Path) -> dict[str, Any]:
    return Night(place / "good").config()


COMBINE = {
    "None": Call(lambda _: combine(None), InputError, "None holds no frames; give a list"),
    "number": Call(lambda _: combine(5), InputError, "an object of type int holds no frames"),
    "dict": Call(lambda _: combine({"a": FRAME}), InputError, "an object of type dict holds no frames"),
    "words": Call(lambda _: combine(["a", "b"]), FrameError, "a: there is no such file"),
    "ragged lists": Call(
        lambda _: combine([[1, 2], [3]]), InputError, r"frames[0]: an object of type list is no frame"
    ),
    "objects": Call(lambda _: combine([FRAME.astype(object)]), InputError, "frames[0]: holds object"),
    "complex": Call(lambda _: combine([FRAME * 1j]), InputError, "frames[0]: holds complex128"),
    "booleans": Call(lambda _: combine([FRAME.astype(bool)]), InputError, "frames[0]: holds bool"),
    "texts": Call(lambda _: combine([np.array([["a"]])]), InputError, "frames[0]: holds <U1"),
    "one axis": Call(
        lambda _: combine([np.ones(5)] * 3), InputError, "frames[0]: is an array of 5; give frames of two"
    ),
    "four axes": Call(
        lambda _: combine(np.ones((2, 2, 2, 2))), InputError, "one array of 2 x 2 x 2 x 2; give (n_frames"
    ),
    "two axes": Call(lambda _: combine(FRAME), InputError, "frames is one array of 4 x 5; give (n_frames"),
    "nothing": Call(lambda _: combine([]), NoFramesError, "no frames to combine"),
    "a generator of nothing": Call(lambda _: combine(iter(())), NoFramesError, "no frames to combine"),
    "no pixel": Call(lambda _: combine([np.ones((0, 5))]), InputError, "frames[0]: is an array of 0 x 5"),
    "two sizes": Call(lambda _: combine([FRAME, FRAME.T]), InputError, "frames[1]: is 4 x 5, frames[0] is 5 x 4"),
    "two units": Call(
        lambda _: combine([CCD, CCDData(FRAME, unit="electron")]), InputError, "frames[1]: its unit is electron"
    ),
    "a file that is closed": Call(
        lambda p: combine([closed_file(p)]), InputError, "frames[0]: its samples cannot be read"
    ),
    "an empty HDU list": Call(lambda _: combine([fits.HDUList()]), InputError, "frames[0]: has no image of two axes"),
    "a missing path": Call(lambda p: combine([p / "no.fits"]), FrameError, "no.fits: there is no such file"),
    "a folder": Call(lambda p: combine([p / "good"]), InputError, "is a folder; give its files"),
    "text in a file": Call(lambda p: combine([p / "text" / "a0.fits"]), FrameError, "is no FITS file"),
    "a mistyped method": Call(lambda _: combine(FRAMES, "mediann"), InputError, "did you mean median?"),
    "a negative sigma": Call(lambda _: combine(FRAMES, sigma_low=-1), InputError, "sigma_low=-1 is not allowed"),
    "factors of others": Call(
        lambda _: combine(FRAMES, scale=[1, 2]), InputError, "for 3 frames; give one number for each"
    ),
    "a factor of 0": Call(lambda _: combine(FRAMES, scale=[1, 0, 1]), InputError, "scale[1] is 0.0"),
    "memory as text": Call(lambda _: combine(FRAMES, mem_limit="1 byte"), InputError, "mem_limit='1 byte'"),
    "no thread": Call(lambda _: combine(FRAMES, workers=0), InputError, "workers=0 is not allowed"),
    "a unit that is none": Call(lambda _: combine(FRAMES, unit="foo"), InputError, "unit='foo' is no unit"),
    "a mistyped keyword": Call(lambda _: combine(FRAMES, sigmas=3), InputError, "did you mean sigma_low?"),
}
CCDPROC = {
    "None": Call(lambda _: ccdproc_combine(None), ValueError, "an object of type NoneType"),
    "nothing": Call(lambda _: ccdproc_combine([]), ValueError, "it is empty"),
    "arrays": Call(lambda _: ccdproc_combine(FRAMES, unit="adu"), TypeError, "img_list[0]: an object of type ndarray"),
    "a closed file": Call(
        lambda p: ccdproc_combine([closed_file(p)]), TypeError, "img_list[0]: an object of type HDUList"
    ),
    "a missing path": Call(lambda _: ccdproc_combine(["no.fits"], unit="adu"), FileNotFoundError, "no.fits"),
    "text in a file": Call(
        lambda p: ccdproc_combine([p / "text" / "a0.fits"], unit="adu"), Exception, "is no file that astropy reads"
    ),
    "a file cut short": Call(
        lambda p: ccdproc_combine([p / "cut" / "dark_000.fits"], unit="adu"), OSError, "cannot be read as an image"
    ),
    "no method": Call(lambda _: ccdproc_combine([CCD], method="avg"), ValueError, "'avg'; write 'average'"),
    "weights of others": Call(
        lambda _: ccdproc_combine([CCD] * 3, weights=np.ones(2)), ValueError, "2 weights for 3 images"
    ),
    "a limit as text": Call(
        lambda _: ccdproc_combine([CCD], minmax_clip=True, minmax_clip_min="a"), TypeError, "minmax_clip_min='a'"
    ),
    "more than all": Call(
        lambda _: ccdproc_combine([CCD] * 3, clip_extrema=True, nlow=5),
        ValueError,
        "nlow=5, nhigh=1: there are 3 images",
    ),
    "two sizes": Call(lambda _: ccdproc_combine([CCD, CCDData(FRAME.T, unit="adu")]), TypeError, "not the same size"),
    "Combiner of numbers": Call(lambda _: Combiner([1, 2]), TypeError, "ccd_iter[0]: is of type int"),
}
CALIBRATE = {
    "None": Call(lambda _: calibrate(None), InputError, "science is None"),
    "a path": Call(lambda _: calibrate("x.fits"), InputError, "science is a path"),
    "ragged lists": Call(
        lambda _: calibrate([[1, 2], [3]], FRAME), InputError, "science: its rows are of different lengths"
    ),
    "complex": Call(lambda _: calibrate(FRAME * 1j, FRAME), InputError, "science holds complex128"),
    "one axis": Call(lambda _: calibrate(np.ones(5)), InputError, "science has 1 axes"),
    "a dark of another size": Call(
        lambda _: calibrate(FRAME, FRAME.T), InputError, "dark is (5, 4), science is (4, 5)"
    ),
    "a flat of NaN": Call(lambda _: calibrate(FRAME, flat=FRAME * np.nan), InputError, "100.0% of the flat is zero"),
    "a flat in ADU": Call(
        lambda _: calibrate(CCD, flat=CCDData(FRAME * 9e3, unit="adu")), InputError, "flat: its level"
    ),
    "a dark of another unit": Call(
        lambda _: calibrate(CCD, CCDData(FRAME, unit="electron")), InputError, "dark: its unit is electron"
    ),
    "a level as text": Call(lambda _: calibrate(FRAME, saturation_adu="x"), InputError, "saturation_adu='x'"),
    "a level below 0": Call(lambda _: calibrate(FRAME, saturation_adu=-5), InputError, "saturation_adu=-5"),
}
LOAD = {
    "no exposure": Call(lambda p: load_master_dark(None, library(p)), InputError, "exposure_time=None is no time"),
    "a length": Call(lambda p: load_master_dark(5 * u.m, library(p)), InputError, "is no time; give seconds"),
    "several": Call(lambda p: load_master_dark([5, 6], library(p)), InputError, "exposure_time=[5, 6] is no time"),
    "a negative exposure": Call(
        lambda p: load_master_dark(-5, library(p)), InputError, "exposure_time=-5 is not allowed"
    ),
    "NaN": Call(lambda p: load_master_dark(np.nan, library(p)), InputError, "exposure_time=nan is not allowed"),
    "an exposure that is not there": Call(
        lambda p: load_master_dark(77, library(p)), InputError, "no master dark of 77 s within 10%"
    ),
    "a gain as text": Call(
        lambda p: load_master_dark(5, library(p), gain="high"), InputError, "gain='high' is no number"
    ),
    "a gain that is not there": Call(lambda p: load_master_dark(5, library(p), gain=7), InputError, "has gain=7"),
    "binning as text": Call(lambda p: load_master_dark(5, library(p), binning="2x2"), InputError, "binning='2x2'"),
    "cold": Call(lambda p: load_master_bias(library(p), temperature_c="cold"), InputError, "temperature_c='cold'"),
    "a mistyped setting": Call(lambda p: load_master_dark(5, library(p), gian=5), InputError, "gian: not a setting"),
    "yesterday": Call(
        lambda p: load_master_dark(5, library(p), taken_at="yesterday"), InputError, "taken_at: 'yesterday'"
    ),
    "a number as filter": Call(lambda p: load_master_flat(5, library(p)), InputError, "filter=5 is no text"),
    "a filter that is not there": Call(lambda p: load_master_flat("Ha", library(p)), InputError, "of filter Ha"),
    "no folder": Call(
        lambda p: load_master_bias({"master_frames": {"output_dir": str(p / "no")}}), InputError, "no such directory"
    ),
}
CLASSES = {
    "a number": Call(lambda _: MasterFrameCreator(5), ConfigError, "must be a file, a dict or a loaded configuration"),
    "bytes": Call(lambda _: MasterFrameCreator(b"a.yaml"), ConfigError, "not a bytes"),
    "a missing path": Call(lambda p: MasterFrameCreator(p / "no.yaml"), ConfigError, "No such file"),
    "a missing path of before": Call(lambda p: ConfigManager(p / "no.yaml"), ConfigError, "No such file"),
    "a key of keys": Call(
        lambda _: MasterFrameCreator({"master_frames": {"sigma_low": {}}}), ConfigError, "master_frames.sigma_low"
    ),
    "inputs that are None": Call(
        lambda p: MasterFrameCreator(library(p)).create_masters_of(None), InputError, "inputs: None is no path"
    ),
    "inputs that are numbers": Call(
        lambda p: MasterFrameCreator(library(p)).create_masters_of([5]), InputError, "inputs[0]: an object of type int"
    ),
    "no inputs": Call(lambda p: MasterFrameCreator(library(p)).create_masters_of([]), InputError, "inputs is empty"),
    "no kind": Call(
        lambda p: MasterFrameCreator(library(p)).create_masters_of(["x"], kinds=["foo"]), InputError, "kinds: 'foo'"
    ),
    "a camera that is None": Call(lambda _: DarkCapture().initialize(None), TypeError, "type NoneType is no camera"),
    "a camera that is a word": Call(lambda _: DarkCapture().initialize("cam"), TypeError, "give open_camera(config)"),
    "no camera": Call(lambda _: DarkCapture().plan(), DeviceError, "call initialize(open_camera(config)) first"),
    "no server": Call(
        lambda _: open_camera({"video": {"alpaca": {"port": 1}}}), DeviceError, "127.0.0.1:1: no Alpaca server answers"
    ),
    "no step": Call(lambda _: CalibrationWorkflow().run("foo"), InputError, "step='foo' is not known; write darks"),
}
CALLS = {
    f"{group}: {what}": call
    for group, table in {
        "combine": COMBINE, "ccdproc": CCDPROC, "calibrate": CALIBRATE, "load": LOAD, "classes": CLASSES,
    }.items()
    for what, call in table.items()
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("wrong", CALLS.values(), ids=CALLS.keys())
def test_calls(wrong: Call, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(wrong.raises) as caught:
        wrong.call(place)
    text = str(caught.value)
    assert wrong.says in text
    assert "\n" not in text
    assert len(text) < LONGEST
    assert not isinstance(caught.value, AttributeError)


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        (None, {}, "paths: None is no path"),
        ([], {}, "no science frames in nothing"),
        ("@lights", {"darks": 3}, "darks: no option of calibrating"),
        ("@lights", {"dark": FRAME}, "dark: an object of type ndarray is no file"),
    ],
)
def test_the_applier_says_it_in_its_status(
    given: Any, options: dict[str, Any], says: str, place: Path, tmp_path: Path
) -> None:
    paths = place / given[1:] if isinstance(given, str) else given
    status = CalibrationApplier(library(place)).calibrate_files(paths, tmp_path / "out", **options)
    assert status.is_error
    assert says in status.message


def test_one_path_is_one_path_and_not_its_characters(place: Path, tmp_path: Path) -> None:
    """The first character of an absolute path is the root of the disk."""
    config = {**library(place), "master_frames": {"output_dir": str(tmp_path / "masters")}}
    made = MasterFrameCreator(config).create_masters_of(str(place / "good" / "darks" / "exp_5.000s"))
    assert [Path(path).name[:15] for path in made.data["dark"]] == ["master_dark_5.0"]
    applied = CalibrationApplier(library(place)).calibrate_files(str(place / "lights"), tmp_path / "out", flat="none")
    assert len(applied.data["calibrated"]) == 3, applied.message


def test_samples_without_a_value_are_nan_and_no_error() -> None:
    """Frames of NaN alone are a result, not a mistake: pixels without a sample have no value."""
    assert np.isnan(combine([FRAME * np.nan] * 3)).all()
    assert np.isnan(combine([np.ma.masked_all((4, 5))] * 3)).all()
    assert (combine(frame for frame in FRAMES) == 1).all()
