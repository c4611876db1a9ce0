"""`ostcal calibrate`: science frames with the masters that fit them."""

from __future__ import annotations

import logging
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostcal.cli.console import (
    EXIT_FAILED,
    RunProgress,
    debug_option,
    errors_to_exit_codes,
    open_console,
    reach_objects,
    start_log_file,
    start_logging,
)
from ostcal.config import Config, dump, load_config, without_endpoint

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal calibrate lights --config night.yaml
  ostcal calibrate m31_*.fits --config night.yaml --output-dir m31 --uncertainty --dq
  ostcal calibrate m31_001.fits --config night.yaml --dark dark_300s.fits --flat none
  ostcal calibrate lights --config night.yaml --interpolate --overwrite

\b
A dark of the frame's exposure is taken; without one, dark current is scaled with the help of a bias
(or of a second dark), which is warned of and written into the header (DARKSCAL, HISTORY).
"""


@click.command("calibrate", epilog=EXAMPLES)
@click.argument("science", nargs=-1, required=True, metavar="SCIENCE...", type=click.Path())
@click.option("--config", "config_path", required=True, type=click.Path(), help="The configuration file (YAML).")
@click.option(
    "--output-dir",
    type=click.Path(),
    metavar="D",
    help="Where NAME_cal.fits go; by default the folder 'calibrated' beside the masters.",
)
@click.option("--dark", metavar="F", help="This master dark: a file, or a name in the library; 'none' subtracts none.")
@click.option("--flat", metavar="F", help="This master flat: a file, or a name in the library; 'none' divides by none.")
@click.option("--bias", metavar="F", help="This master bias, to scale a dark of another exposure, or instead of one.")
@click.option("--overwrite", is_flag=True, help="Replace calibrated files that exist.")
@click.option("--uncertainty", is_flag=True, help="Add the extension UNCERT: photon, read and masters' noise, in ADU.")
@click.option("--dq", "--mask", "dq", is_flag=True, help="Add the extension DQ: flags of saturated and bad pixels.")
@click.option("--interpolate", is_flag=True, help="Take hot and dead pixels from neighbours of the same colour.")
@click.option("--allow-failed", is_flag=True, help="Take masters too that failed their quality control.")
@click.option(
    "--saturation",
    "saturation_adu",
    type=click.FloatRange(min=0, min_open=True),
    metavar="ADU",
    help="From here on a pixel is saturated; by default SATURATE of the header, else the end of 16 bits.",
)
@click.option("--no-confirm", is_flag=True, help="Accepted as in other commands; nothing is asked here.")
@debug_option
def calibrate_command(
    science: tuple[str, ...],
    config_path: str,
    output_dir: str | None,
    no_confirm: bool,
    debug: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Calibrate science frames: (science - dark) / flat.

    SCIENCE are FITS files, folders, or patterns in quotes. The masters that fit each frame are found in
    master_frames.output_dir: same camera, size, binning, gain, offset, readout mode, and filter for flats; exposure
    within calibration_tolerance and temperature within temperature_tolerance; the nearest, then the newest. Each
    frame becomes NAME_cal.fits, float32 in ADU, with all cards of its header, and CALSTAT and the names of its masters.

    Pixels where the flat is zero have no value (NaN). Saturated pixels keep at least the value of the card SATURATE.
    """
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        config = load_config(config_path)
        reach_objects(config)
        log_path = start_log_file(config.master_frames.output_dir, "calibration", debug)
        logger.debug("configuration as loaded from %s:\n%s", config_path, dump(without_endpoint(config)))
        code = _calibrate(config, console, science, output_dir, options)
        logger.info("log: %s", log_path)
    sys.exit(code)


def _calibrate(
    config: Config, console: Console, science: tuple[str, ...], output_dir: str | None, options: dict[str, Any]
) -> int:
    from ostcal.science.api import CalibrationApplier, CalibrationWatcher

    progress = RunProgress(console, "calibrate")
    applier = CalibrationApplier(config, logger, CalibrationWatcher(planned=progress.start, done=progress.advance))
    try:
        status = applier.calibrate_files(science, output_dir, **options)
    finally:
        progress.stop()
    frames = status.details["frames"]
    if frames:
        table = Table(title="Calibrated", title_justify="left")
        for name in ("frame", "done", "masters", "file"):
            table.add_column(name, overflow="fold")
        for source, frame in frames.items():
            row = (source, frame["calibration_status"], ", ".join(frame["masters"]), frame["file"])
            table.add_row(*(Text(text) for text in row))
        open_console().print(table)
    return EXIT_FAILED if status.is_error else 0
