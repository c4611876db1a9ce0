"""`ostcal calibrate`: science frames with the masters that fit them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    ConfigOptions,
    RunProgress,
    command_console,
    config_option,
    debug_option,
    import_numba,
    masters_flags,
    masters_option,
    open_config,
    open_console,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.tables import Table
from ostcal.errors import InputError

logger = logging.getLogger("ostcal")

_MOST_FILES = 3
"""Files that are listed below the masters with which they were calibrated."""

EXAMPLES = """\b
Examples:
  ostcal calibrate lights --masters masters            (no configuration)
  ostcal calibrate lights --config night.yaml
  ostcal calibrate m31_*.fits --config night.yaml --output-dir m31 --uncertainty --dq
  ostcal calibrate m31_001.fits --config night.yaml --dark dark_300s.fits --flat none
  ostcal calibrate lights --config night.yaml --interpolate --overwrite

\b
A dark with the exposure time of the frame is used. If there is none, dark current is scaled with the help of a
bias or a second dark, with a warning and cards in the header (DARKSCAL, HISTORY).
"""


@click.command("calibrate", cls=JsonCommand, epilog=EXAMPLES)
@click.argument("science", nargs=-1, required=True, metavar="SCIENCE...", type=click.Path())
@config_option
@masters_option
@click.option(
    "--output-dir",
    "--out",
    "output_dir",
    type=click.Path(),
    metavar="D",
    help="Directory of NAME_cal.fits; by default the folder 'calibrated' beside the masters. {night}, {date} and"
    " {camera} are those of the newest light.",
)
@click.option(
    "--dark", metavar="F", help="Use this master dark, a file or a name in the library; 'none' subtracts no dark."
)
@click.option(
    "--flat", metavar="F", help="Use this master flat, a file or a name in the library; 'none' divides by no flat."
)
@click.option(
    "--bias", metavar="F", help="Use this master bias, to scale a dark of another exposure time or instead of a dark."
)
@click.option("--overwrite", is_flag=True, help="Replace calibrated files that exist.")
@click.option(
    "--uncertainty", is_flag=True, help="Add the extension UNCERT: noise of photons, readout and masters, in ADU."
)
@click.option("--dq", "--mask", "dq", is_flag=True, help="Add the extension DQ: flags of saturated and bad pixels.")
@click.option("--interpolate", is_flag=True, help="Replace hot and dead pixels with neighbours of the same colour.")
@click.option(
    "--linearize",
    is_flag=True,
    help="Bring levels in proportion with the light, by the response that a ladder of flats showed.",
)
@click.option("--allow-failed", is_flag=True, help="Also use masters that failed their quality control.")
@click.option(
    "--saturation",
    "saturation_adu",
    type=click.FloatRange(min=0, min_open=True),
    metavar="ADU",
    help="Level at which a pixel is saturated; by default SATURATE of the header, else of the master dark, else 65520.",
)
@click.option("--no-confirm", is_flag=True, help="Accepted as in other commands; this command asks nothing.")
@debug_option
def calibrate_command(
    science: tuple[str, ...],
    config_options: ConfigOptions,
    masters_dir: str | None,
    output_dir: str | None,
    no_confirm: bool,
    debug: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Calibrate science frames: (science - dark) / flat.

    SCIENCE are FITS files, folders, or patterns in quotes. Matching masters are searched for in the directory of
    --masters, else in master_frames.output_dir: they have the same camera, size, binning, gain, offset and readout
    mode, flats also the same filter; the exposure time must be within calibration_tolerance, the temperature within
    temperature_tolerance.
    If several match, the one whose frames were taken nearest in time is used, before or after. The result is
    NAME_cal.fits, float32 in ADU, with all cards of the header, CALSTAT, and the names and ages of the masters.

    Pixels where the flat is zero become NaN. Saturated pixels keep at least the value of the card SATURATE.
    """
    with command_console(log_level, debug) as console:
        import_numba()
        from ostcal.build.from_config import kinds_of, overscan_of
        from ostcal.science.api import CalibrationApplier, CalibrationWatcher
        from ostcal.science.output_folder import folder_of_lights

        config = open_config(config_options, masters_flags(masters_dir))
        if not any(options[kind] for kind in ("bias", "dark", "flat")):
            _refuse_absent(config.master_frames.output_dir)
        if output_dir is not None:
            output_dir = folder_of_lights(
                output_dir, science, overscan_of(config), kinds_of(config), config.site.longitude
            )
        log_path = start_log_file(config, "calibration", debug)
        with RunProgress(console, "calibrate") as progress:
            watcher = CalibrationWatcher(planned=progress.start, done=progress.advance)
            status = CalibrationApplier(config, logger, watcher).calibrate_files(science, output_dir, **options)
        if record := json_record():
            from ostcal.cli.entries import calibrated_entries

            record.put(calibrated=calibrated_entries(status.details["frames"]), directory=status.details["output_dir"])
        if frames := status.details["frames"]:
            _calibrated_table(frames).print_to(open_console())
        logger.info("log: %s", log_path)
    sys.exit(EXIT_FAILED if status.is_error else 0)


def _calibrated_table(frames: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the frames that were calibrated, those with the same masters as one row."""
    with_masters: dict[tuple[str, str], list[str]] = {}
    for frame in frames.values():
        done = (frame["calibration_status"], "\n".join(frame["master_files"]))
        with_masters.setdefault(done, []).append(frame["file"])
    table = Table("Calibrated", ">frames", "done", "masters")
    for (status, masters), files in with_masters.items():
        n_more = len(files) - _MOST_FILES
        more = [f"and {n_more} more"] if n_more > 0 else []
        table.add_row(str(len(files)), status, masters, below=(*files[:_MOST_FILES], *more))
    return table


def _refuse_absent(masters_dir: str) -> None:
    """Raise `InputError` if there is no directory of masters: its log file would make one."""
    from ostcal.places.night_folders import has_folder

    if not has_folder(masters_dir):
        raise InputError(
            f"{masters_dir}: there is no such directory of masters; make them with ostcal masters FOLDER, or name"
            " theirs with --masters DIR"
        )
