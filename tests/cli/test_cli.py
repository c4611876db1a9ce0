"""The command as its users meet it: help, options, what it says where, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ostcal import __version__
from ostcal.series.reader import open_series
from support import night as n
from support.fits_samples import gzipped, read_with_astropy, tile_compressed, write_frame, write_stored
from support.folders import ROOT
from support.mosaics import Image, write_mosaics
from support.night import Night

HEAVY = ("numpy", "numba", "zarr", "astropy", "dask", "distributed", "pydantic")


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


@pytest.fixture
def darks(night: Night) -> Night:
    n.write_darks(night, 5.0)
    return night


def run_process(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), env=n.command_environment(**variables), capture_output=True, text=True, check=False,
        timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


# --- help, version, start ---


@pytest.mark.parametrize("command", [(), ("masters",), ("import",), ("export",)])
def test_help_has_examples_and_the_options(command: tuple[str, ...]) -> None:
    outcome = n.ostcal(*command, "--help")
    assert outcome.exit_code == 0
    assert "Examples:" in outcome.stdout
    assert f"ostcal {command[0] if command else 'masters'}" in outcome.stdout
    if command == ("masters",):
        for option in (
            "--config", "--darks-only", "--flats-only", "--rejection-method", "--sigma-threshold",
            "--normalization-method", "--no-confirm", "--debug", "--log-level",
        ):  # fmt: skip
            assert option in outcome.stdout


def test_the_version_is_told() -> None:
    outcome = n.ostcal("--version")
    assert (outcome.exit_code, __version__ in outcome.stdout) == (0, True)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("masters", "--help")])
def test_help_does_not_wait_for_large_libraries(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom ostcal.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print('MODULES', *sys.modules)\n"
    )
    done = run_process(sys.executable, "-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert loaded & set(HEAVY) == set()


def test_help_of_no_command_waits_for_large_libraries() -> None:
    """All in one process; the choices of the simulator, the last one, are those of its sensors, which are numpy's."""
    code = (
        "import sys\nfrom ostcal.cli import COMMANDS, main\n"
        "for name in sorted(COMMANDS, key=lambda name: name == 'simulate'):\n"
        "    main([name, '--help'], standalone_mode=False)\n"
        f"    loaded = set(sys.modules) & set({HEAVY!r}) - ({{'numpy'}} if name == 'simulate' else set())\n"
        "    assert not loaded, (name, loaded)\n"
        "print('HELP OF', len(COMMANDS))"
    )
    done = run_process(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.rpartition("HELP OF ")[2]) > 15


def test_completion_of_the_shell_knows_commands_and_options() -> None:
    variables = {"_OSTCAL_COMPLETE": "bash_complete", "COMP_WORDS": "ostcal masters --fl", "COMP_CWORD": "2"}
    code = "from ostcal.cli import main; main(prog_name='ostcal')"
    done = run_process(sys.executable, "-c", code, **variables)
    assert "--flats-only" in done.stdout
    variables |= {"COMP_WORDS": "ostcal ", "COMP_CWORD": "1"}
    assert {"masters", "import", "export"} <= set(re.findall(r"plain,(\w+)", run_process(
        sys.executable, "-c", code, **variables).stdout))  # fmt: skip


@pytest.mark.parametrize("module", ["ostcal", "ostcal.cli"])
def test_the_package_can_be_run_as_a_module(module: str) -> None:
    assert __version__ in run_process(sys.executable, "-m", module, "--version").stdout


# --- exit codes and usage ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate",),
        ("nonsense",),
        ("masters", "--config", "c.yaml", "--no-such-option"),
        ("masters", "--config", "c.yaml", "--darks-only", "--flats-only"),
        ("masters", "--config", "c.yaml", "--log-level", "loud"),
        ("import", "--config", "c.yaml"),
        ("export", "series.zarr"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(arguments: tuple[str, ...]) -> None:
    outcome = n.ostcal(*arguments)
    assert outcome.exit_code == 2
    assert "Error: " in outcome.stderr
    assert "Traceback" not in outcome.text


def test_exclusive_options_are_named(darks: Night) -> None:
    outcome = n.run_command(darks, "--darks-only", "--flats-only")
    assert outcome.exit_code == 2
    assert "--darks-only" in outcome.stderr
    assert "--flats-only" in outcome.stderr
    assert not darks.masters.exists()


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--sigma-threshold", "many", "number"),
        ("--sigma-threshold", "-1", "above 0"),
        ("--sigma-threshold", "2.71828", "4 decimals"),
        ("--rejection-method", "sigma_clp", "sigma_clip"),
        ("--normalization-method", "mode", "median"),
    ],
)
def test_a_wrong_value_names_its_option(darks: Night, option: str, value: str, hint: str) -> None:
    outcome = n.run_command(darks, f"{option}={value}")
    assert outcome.exit_code == 2
    assert option in outcome.stderr, outcome.stderr
    assert hint in outcome.stderr
    assert value in outcome.stderr
    assert not darks.masters.exists()


def test_what_is_made_ends_with_0_even_if_frames_are_left_out(darks: Night) -> None:
    (darks.darks / "bad.fits").write_bytes(b"nothing")
    outcome = n.run_command(darks, "--darks-only")
    assert outcome.exit_code == 0
    assert "bad.fits" in outcome.stderr


def test_what_could_not_be_made_ends_with_1(darks: Night) -> None:
    n.write_flats(darks, 100.0)
    assert n.run_command(darks).exit_code == 1


# --- overrides ---


def test_options_override_the_configuration(darks: Night) -> None:
    n.write_flats(darks, 5.0)
    outcome = n.run_command(
        darks, "--sigma-threshold", "2.5", "--rejection-method", "winsorized_sigma_clip", "--normalization-method",
        "median", rejection_method="median", sigma_threshold=4,
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.text
    (flat,) = darks.masters.glob("master_flat*.fits")
    image, header = read_with_astropy(flat)
    assert (header["REJTYPE"], header["SIGLOW"], header["SIGHIGH"]) == ("winsorized_sigma_clip", 2.5, 2.5)
    assert header["NORMTYPE"] == "median"
    assert np.median(image) == pytest.approx(1, abs=1e-7)


def test_a_threshold_given_as_option_counts_for_both_sides(darks: Night) -> None:
    """The configuration's ``sigma_low`` would otherwise silently beat the option."""
    n.run_command(darks, "--sigma-threshold", "2.5", sigma_low=4.0)
    (dark,) = darks.masters.glob("master_dark*.fits")
    _, header = read_with_astropy(dark)
    assert (header["SIGLOW"], header["SIGHIGH"]) == (2.5, 2.5)


@pytest.mark.parametrize(
    ("option", "kinds"),
    [("--darks-only", {"bias", "dark"}), ("--flats-only", {"flat"}), (None, {"bias", "dark", "flat"})],
)
def test_only_what_is_asked_is_made(night: Night, option: str | None, kinds: set[str]) -> None:
    n.whole_night(night.root)
    if option == "--flats-only":
        n.run_command(night, "--darks-only", save_individual_masters=False)
    outcome = n.run_command(night, *([option] if option else []))
    assert outcome.exit_code == 0
    assert {path.name.split("_")[1] for path in night.masters.glob("*.fits")} == kinds


def test_darks_only_says_nothing_about_flats(darks: Night) -> None:
    outcome = n.run_command(darks, "--darks-only")
    assert "flat" not in outcome.text
    assert "warning" not in outcome.text


# --- what is said where ---


def test_without_a_terminal_there_are_plain_lines(darks: Night) -> None:
    n.write_flats(darks, 5.0)
    outcome = n.run_command(darks)
    assert "\x1b" not in outcome.text
    assert "\r" not in outcome.text
    for path in darks.masters.glob("*.fits"):
        assert str(path) in outcome.stdout  # in one piece, whatever the width
    for word in ("kind", "frames", "rejected", "quality", "7", "5"):
        assert word in outcome.stdout


def test_progress_without_a_terminal_is_a_line_with_rate_and_time_left() -> None:
    from rich.console import Console

    from ostcal.cli.console import RunProgress

    console = Console(file=sys.stderr, width=200)
    line = RunProgress(console, "masters")
    line.start(1000)
    assert line._line("x") == "x: 0 %"  # no rate yet
    line.advance(100, "x")
    line.advance(450, "x")
    assert re.fullmatch(r"x: 50 %, \d+ MB/s, \d+ s left", line._line("x"))


def test_the_log_level_chooses_what_is_on_the_screen(darks: Night) -> None:
    assert "group dark 5 s" not in n.run_command(darks).stderr
    assert "group dark 5 s" in n.run_command(darks, "--log-level", "debug").stderr
    quiet = n.run_command(darks, "--darks-only", "--log-level", "error").stderr
    assert "log:" not in quiet


def test_the_log_file_tells_the_run(darks: Night) -> None:
    n.run_command(darks, "--darks-only")
    (log,) = darks.masters.glob("*.log")
    assert re.fullmatch(r"master_frames_\d{8}\.log", log.name)
    text = log.read_text(encoding="utf-8")
    assert "1 master made" in text
    assert " DEBUG " not in text


def test_the_log_of_debug_has_configuration_files_timing_and_statistics(darks: Night) -> None:
    n.run_command(darks, "--darks-only", "--debug", sigma_threshold=2.5)
    (log,) = darks.masters.glob("*.log")
    text = log.read_text(encoding="utf-8")
    assert "sigma_threshold: 2.5" in text
    for path in (darks.darks / "exp_5.000s").iterdir():
        assert re.search(rf"group dark 5 s.*{re.escape(str(path))}", text)
    for stage in ("inspect", "group", "plan", "combine"):
        assert re.search(rf"timing: {stage} \d", text)
    assert re.search(r"master_dark_5\.000s_\S+: .*rejected", text), "statistics of each master"
    assert re.search(r"master_dark_5\.000s_\S+: .*read .* s, combine .* s, write .* s", text), "timing of each master"


def test_debug_logs_the_traceback_of_a_failed_master(darks: Night) -> None:
    n.write_flats(darks, 5.0, n.samples(4, 950, seed=9))
    outcome = n.run_command(darks, "--debug")
    assert outcome.exit_code == 1
    assert "Traceback" in outcome.stderr
    assert "CombineError" in outcome.stderr


def test_messages_of_the_same_error_are_not_repeated(night: Night) -> None:
    outcome = n.run_command(night)
    assert outcome.stderr.count("No input files found") == 1


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is needed")
def test_on_a_terminal_there_are_colours_and_a_question(darks: Night) -> None:
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        n.command_line("masters", "--config", n.write_config(darks), "--darks-only"),
        stdin=child, stdout=child, stderr=child, env=n.command_environment(TERM="xterm-256color", COLUMNS="100"),
    )  # fmt: skip
    os.close(child)
    text = ""
    for part in _terminal_output(parent):
        text += part
        if "Make these masters?" in text and "answered" not in text:
            os.write(parent, b"y\n")
            text += "answered"
    assert process.wait(timeout=60) == 0, text
    assert "\x1b[" in text
    assert len(list(darks.masters.glob("*.fits"))) == 1


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is needed")
def test_on_a_terminal_no_is_an_answer(darks: Night) -> None:
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        n.command_line("masters", "--config", n.write_config(darks), "--darks-only"),
        stdin=child, stdout=child, stderr=child, env=n.command_environment(TERM="xterm-256color"),
    )  # fmt: skip
    os.close(child)
    text = ""
    for part in _terminal_output(parent):
        text += part
        if "Make these masters?" in text and "answered" not in text:
            os.write(parent, b"n\n")
            text += "answered"
    assert process.wait(timeout=60) in (0, 1)
    assert "declined" in text
    assert list(darks.masters.glob("*.fits")) == []


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is needed")
def test_in_a_cell_of_jupyter_nobody_is_asked(darks: Night) -> None:
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        n.command_line("masters", "--config", n.write_config(darks), "--darks-only"),
        stdin=child, stdout=child, stderr=child, env=n.command_environment(JPY_PARENT_PID="1"),
    )  # fmt: skip
    os.close(child)
    text = "".join(_terminal_output(parent))
    assert process.wait(timeout=60) == 0, text
    assert "Make these masters?" not in text
    assert len(list(darks.masters.glob("*.fits"))) == 1


def _terminal_output(parent: int) -> Iterator[str]:
    try:
        while data := os.read(parent, 65536):
            yield data.decode(errors="replace")
    except OSError:  # the other end was closed: Linux says so by an error
        pass
    finally:
        os.close(parent)


# --- the script ---


def test_the_script_takes_the_same_options(darks: Night) -> None:
    script = ROOT / "scripts" / "master_frame_runner.py"
    config = n.write_config(darks)
    done = run_process(
        sys.executable, script, "--config", config, "--darks-only", "--sigma-threshold", "2.5", "--no-confirm"
    )
    assert done.returncode == 0, done.stderr
    (dark,) = darks.masters.glob("master_dark*.fits")
    assert read_with_astropy(dark)[1]["SIGLOW"] == 2.5
    wrong = run_process(sys.executable, script, "--config", config, "--sigma-threshold", "x", "--no-confirm")
    assert wrong.returncode == 2


def test_directories_are_relative_to_the_working_directory(darks: Night) -> None:
    config = darks.root / "elsewhere" / "c.yaml"
    config.parent.mkdir()
    config.write_text(json.dumps({"master_frames": {"output_dir": "here"}}))
    done = subprocess.run(
        n.command_line("masters", "--config", config, "--darks-only"), cwd=darks.root, env=n.command_environment(),
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((darks.root / "here").glob("*.fits"))) == 1


# --- import and export ---


def test_what_is_imported_is_exported_bit_for_bit(night: Night) -> None:
    folder = night.root / "fits"
    n.write_frames(folder, n.dark_frames(5.0), "Dark Frame", 5.0, OBSERVER="O'Neil", LONGSTR="long " * 30)
    before = {path.read_bytes() for path in folder.iterdir()}
    outcome = n.ostcal("import", folder, "--config", n.write_config(night))
    assert outcome.exit_code == 0, outcome.text
    series = night.darks / "exp_5.000s.zarr"
    assert str(series) in outcome.stdout
    out = night.root / "out"
    outcome = n.ostcal("export", series, "--to", out)
    assert outcome.exit_code == 0, outcome.text
    assert {path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in out.iterdir())[0] == "dark_20261121_180000_000.fits"


def test_strip_rows_are_those_of_the_chunks_of_imported_series(night: Night) -> None:
    folder = night.root / "fits"
    n.write_frames(folder, n.dark_frames(5.0), "Dark Frame", 5.0)
    config = n.write_config(night)
    config.write_text(json.dumps(night.config() | {"storage": {"strip_rows": 8}}))
    assert n.ostcal("import", folder, "--config", config).exit_code == 0
    assert open_series(night.darks / "exp_5.000s.zarr").stack().row_step == 8


def test_all_kinds_are_imported_and_make_the_same_masters(night: Night) -> None:
    n.whole_night(night.root)
    n.write_flats(night, 2.0, n.flat_frames(2.0, (20000, 21000, 22000), seed=8), FILTER="R")
    from_files = night.run()
    images = [read_with_astropy(path)[0] for kind in from_files.data.values() for path in sorted(kind)]
    moved = night.root / "fits"
    moved.mkdir()
    night.darks.rename(moved / "darks")
    night.flats.rename(moved / "flats")
    assert n.ostcal("import", moved, "--config", n.write_config(night)).exit_code == 0
    assert sorted(path.name for path in night.flats.iterdir()) == ["R_exp_2.000s.zarr", "exp_2.000s.zarr"]
    from_series = night.run(output_dir=str(night.root / "masters2"))
    again = [read_with_astropy(path)[0] for kind in from_series.data.values() for path in sorted(kind)]
    assert len(again) == len(images) == 6
    for image, expected in zip(again, images, strict=True):
        np.testing.assert_array_equal(image, expected)


def test_an_import_that_is_run_again_copies_nothing_twice(night: Night) -> None:
    folder = night.root / "fits"
    n.write_frames(folder, n.dark_frames(5.0), "Dark Frame", 5.0)
    config = n.write_config(night)
    n.ostcal("import", folder, "--config", config)
    outcome = n.ostcal("import", folder, "--config", config)
    assert outcome.exit_code == 0
    assert n.run_command(night, "--darks-only").exit_code == 0
    (dark,) = night.masters.glob("master_dark*.fits")
    assert read_with_astropy(dark)[1]["NCOMBINE"] == 7


def other_samples(folder: Path) -> list[Path]:
    """Write darks of every sample type."""
    folder.mkdir()
    cards: dict[str, Any] = {"IMAGETYP": "Dark Frame"}
    signed = np.arange(30, dtype=np.int16).reshape(5, 6) - 15
    paths = [
        write_frame(folder / "signed.fits", signed, EXPTIME=1.0, **cards),
        write_frame(folder / "long.fits", signed.astype(np.int32) * 70000, EXPTIME=2.0, **cards),
        write_frame(folder / "float.fits", np.where(signed > 3, np.nan, signed / 7).astype("f4"), EXPTIME=3.0, **cards),
        write_frame(folder / "double.fits", signed / 7, EXPTIME=4.0, **cards),
        write_frame(folder / "byte.fits", signed.astype(np.uint8), EXPTIME=5.0, **cards),
        write_stored(folder / "scaled.fits", signed, BSCALE=2.0, BZERO=100.0, EXPTIME=6.0, **cards),
    ]
    return paths


def test_frames_of_every_sample_type_come_back_bit_for_bit(night: Night) -> None:
    paths = other_samples(night.root / "fits")
    before = {path.read_bytes() for path in paths}
    outcome = n.ostcal("import", night.root / "fits", "--config", n.write_config(night))
    assert outcome.exit_code == 0, outcome.text
    out = night.root / "out"
    for index, series in enumerate(sorted(night.darks.glob("*.zarr"))):
        assert n.ostcal("export", series, "--to", out / str(index)).exit_code == 0
    assert {path.read_bytes() for path in out.rglob("*.fits")} == before


def test_compressed_frames_are_imported(night: Night) -> None:
    folder = night.root / "fits"
    stack = n.dark_frames(5.0, 4)
    paths = n.write_frames(folder, stack, "Dark Frame", 5.0)
    gzipped(paths[0])
    _, header = read_with_astropy(paths[1])
    cards = {
        k: header[k] for k in ("IMAGETYP", "EXPTIME", "DATE-OBS", "INSTRUME", "GAIN", "OFFSET", "SET-TEMP", "CCD-TEMP")
    }
    tile_compressed(paths[1].with_name("packed.fits.fz"), stack[1], **cards)
    paths[0].unlink()
    paths[1].unlink()
    outcome = n.ostcal("import", folder, "--config", n.write_config(night))
    assert outcome.exit_code == 0, outcome.text
    status = night.run()
    np.testing.assert_array_equal(n.image_of(status, "dark"), n.combined(stack).mean)


@pytest.mark.parametrize(
    "words", [("export", "absent.zarr", "--to", "out"), ("import", "absent", "--config", "c.yaml")]
)
def test_what_is_absent_is_named(night: Night, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    n.write_config(night)
    monkeypatch.chdir(night.root)
    outcome = n.ostcal(*words)
    assert outcome.exit_code == 1
    assert "absent" in outcome.stderr
    assert "Traceback" not in outcome.text


def test_nothing_is_overwritten_by_an_export(night: Night) -> None:
    folder = night.root / "fits"
    n.write_frames(folder, n.dark_frames(5.0), "Dark Frame", 5.0)
    n.ostcal("import", folder, "--config", n.write_config(night))
    series, out = night.darks / "exp_5.000s.zarr", night.root / "out"
    assert n.ostcal("export", series, "--to", out).exit_code == 0
    assert n.ostcal("export", series, "--to", out).exit_code == 0  # the same files, as after a kill
    next(out.iterdir()).write_bytes(b"precious")
    outcome = n.ostcal("export", series, "--to", out)
    assert outcome.exit_code == 1
    assert "exists already" in outcome.stderr


def test_an_import_keeps_extensions_and_an_export_gives_them_back(night: Night) -> None:
    folder = night.root / "fits"
    images = [Image("im1", 1000), Image("im2", 1050, (11, 17), dtype="float32"), Image("SCI", 900, version=3)]
    stacks = write_mosaics(folder, "Dark", 5.0, images, n=4)
    config = n.write_config(night)
    outcome = n.ostcal("import", folder, "--config", config)
    assert outcome.exit_code == 0, outcome.text
    series = sorted(night.darks.glob("*.zarr"))
    assert [path.name for path in series] == ["exp_5.000s_SCI.zarr", "exp_5.000s_im1.zarr", "exp_5.000s_im2.zarr"]
    status = night.run_darks(quality_control=False)
    assert not status.is_error, status.message
    with fits.open(n.one_file(status, "dark")) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "im1", "im2", "SCI"]
        assert hdus[0].header["OBSERVAT"] == "Somewhere"
        for hdu, stack in zip(hdus[1:], stacks, strict=True):
            assert np.array_equal(hdu.data, n.combined(stack).mean)
    out = night.root / "out"
    assert n.ostcal("export", series[1], "--to", out).exit_code == 0
    exported = sorted(out.glob("*.fits"))
    assert len(exported) == 4
    for index, path in enumerate(exported):
        with fits.open(path) as hdus, fits.open(sorted(folder.glob("*.fits"))[index]) as originals:
            assert hdus[0].header.tostring() == originals[0].header.tostring()
            for hdu, original in zip(hdus[1:], originals[1:], strict=True):
                assert hdu.name == original.name
                assert hdu.data.dtype == original.data.dtype
                assert np.array_equal(hdu.data, original.data)


def test_an_import_names_what_it_leaves_out(night: Night) -> None:
    folder = night.root / "fits"
    n.write_frames(folder, n.dark_frames(5.0), "Dark Frame", 5.0)
    (folder / "bad.fits").write_bytes(b"nothing")
    shutil.copy(folder / "dark_001.fits", folder / "copy.fits")
    outcome = n.ostcal("import", folder, "--config", n.write_config(night))
    assert outcome.exit_code == 0
    assert "bad.fits" in outcome.stderr
    assert "counts once" in outcome.stderr
