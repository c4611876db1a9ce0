"""`ostcal watch`: masters and calibrated frames of a folder into which another program writes."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    EXIT_QUALITY,
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    import_numba,
    open_config,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record, with_hooks
from ostcal.cli.masters import exit_code_of, show_masters

if TYPE_CHECKING:
    from ostcal.build.api import MasterFrameCreator
    from ostcal.status import Status

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal watch /data/incoming --config night.yaml
  ostcal watch /data/incoming --config night.yaml --complete-after 40 --calibrate
  ostcal watch /data/incoming --config night.yaml --once      (in a script, or from cron)
"""


@click.command("watch", cls=JsonCommand, epilog=EXAMPLES)
@click.argument("directory", metavar="DIR", type=click.Path())
@config_option
@click.option(
    "--complete-after",
    type=click.IntRange(min=1),
    metavar="N",
    help="Combine a group when it has N new frames; by default when none has come for --quiet.",
)
@click.option(
    "--quiet",
    "quiet_s",
    type=click.FloatRange(min=0, max=86400),
    default=300.0,
    show_default=True,
    metavar="S",
    help="Seconds without a new frame after which a group is complete.",
)
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(min=0.1, max=3600),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks; a file that has not changed from one to the next is complete.",
)
@click.option("--calibrate", is_flag=True, help="Calibrate science frames as they come.")
@click.option(
    "--output-dir",
    type=click.Path(),
    metavar="D",
    help="Directory of calibrated frames; by default the folder 'calibrated' beside the masters.",
)
@click.option("--once", is_flag=True, help="Make what can be made of the files that are there, and end.")
@debug_option
def watch_command(
    directory: str,
    config_options: ConfigOptions,
    complete_after: int | None,
    quiet_s: float,
    poll_s: float,
    calibrate: bool,
    output_dir: str | None,
    once: bool,
    debug: bool,
    log_level: str,
) -> None:
    """Make masters of the frames in DIR and below it, into which a camera program writes, and calibrate its lights.

    A file is used when it has not changed between two looks and is as long as its header says. A group of bias frames,
    darks or flats is combined when it is complete; masters that are there and have not changed are not made again,
    also after a restart. Lights wait while calibration frames are arriving. Ctrl-C ends the command; nothing is lost.
    """
    codes: list[int] = []
    with command_console(log_level, debug):
        import_numba()
        from ostcal.build.request import Watcher
        from ostcal.workflow.watch_folder import FolderWatch, WatchCallbacks, WatchRules

        def masters_made(creator: MasterFrameCreator, status: Status) -> None:
            show_masters(creator)
            codes.append(exit_code_of(status))
            if record := json_record():
                record.tell_masters()

        def calibrated(status: Status) -> None:
            codes.append(EXIT_FAILED if status.is_error else 0)
            if record := json_record():
                from ostcal.cli.entries import calibrated_entries

                record.add(calibrated=calibrated_entries(status.details["frames"]))

        config = open_config(config_options)
        log_path = start_log_file(config, "watch", debug)
        rules = WatchRules(
            complete_after=complete_after, quiet_s=quiet_s, poll_s=poll_s, calibrate=calibrate, output_dir=output_dir
        )
        callbacks = WatchCallbacks(building=with_hooks(Watcher()), masters=masters_made, calibrated=calibrated)
        watch = FolderWatch(config, directory, rules, callbacks)
        if once:
            watch.run_once()
        else:
            logger.info("watching %s; Ctrl-C ends it", directory)
            watch.run()
            codes.clear()  # whoever ended it knows; what failed is in the log
        logger.info("log: %s", log_path)
    failed = EXIT_FAILED in codes
    sys.exit(EXIT_FAILED if failed else EXIT_QUALITY if EXIT_QUALITY in codes else 0)
