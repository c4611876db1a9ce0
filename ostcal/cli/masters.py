"""`ostcal masters`: master bias, darks and flats from the frames on disk."""

from __future__ import annotations

import gc
import logging
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostcal.cli.console import (
    EXIT_FAILED,
    EXIT_QUALITY,
    RunProgress,
    debug_option,
    errors_to_exit_codes,
    open_console,
    reach_objects,
    start_log_file,
    start_logging,
)
from ostcal.cli.report import write_report_of
from ostcal.config import Config, dump, load_config, with_overrides, without_endpoint
from ostcal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ostcal.build.api import MasterFrameCreator
    from ostcal.build.request import BuildReport
    from ostcal.engine.graph import Progress
    from ostcal.inputs.grouping import Group
    from ostcal.status import Status

logger = logging.getLogger("ostcal")

_GC_THRESHOLD = 50_000
"""New objects after which Python looks for garbage, not 700: that took 0.3 s while numba and Dask were loaded."""

EXAMPLES = """\b
Examples:
  ostcal masters --config config_calibration_frames.yaml
  ostcal masters --config night.yaml --darks-only --rejection-method minmax
  ostcal masters --config night.yaml --flats-only      (with the master darks on disk)
  ostcal masters --config night.yaml --no-confirm --log-level warning   (in a script)
"""


@click.command(epilog=EXAMPLES)
@click.option("--config", "config_path", required=True, type=click.Path(), help="The configuration file (YAML).")
@click.option("--darks-only", is_flag=True, help="Make the master bias and the master darks, no flats.")
@click.option("--flats-only", is_flag=True, help="Make the master flats, with the master darks on disk.")
@click.option("--rejection-method", metavar="M", help="sigma_clip, minmax, winsorized_sigma_clip, median or none.")
@click.option("--sigma-threshold", metavar="V", help="Threshold of the clipping methods, such as 3.0.")
@click.option("--normalization-method", metavar="M", help="Level of a flat that becomes 1: mean, median or max.")
@click.option("--all", "make_all", is_flag=True, help="Make all masters anew, unchanged ones too.")
@click.option("--no-confirm", is_flag=True, help="Do not ask before work begins.")
@debug_option
def masters(
    config_path: str,
    darks_only: bool,
    flats_only: bool,
    rejection_method: str | None,
    sigma_threshold: str | None,
    normalization_method: str | None,
    make_all: bool,
    no_confirm: bool,
    debug: bool,
    log_level: str,
) -> None:
    """Combine bias, dark and flat frames into masters.

    Frames are looked for in dark_capture.output_dir and flat_capture.output_dir of the configuration, as FITS files
    and as zarr series; masters are written to master_frames.output_dir. Those whose frames, settings and darks have
    not changed since an earlier run are left as they are.
    """
    if darks_only and flats_only:
        raise click.UsageError("--darks-only and --flats-only exclude each other; leave both out to make all masters")
    gc.set_threshold(_GC_THRESHOLD)
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        config = load_config(config_path)
        config = _overridden(config, "--rejection-method", {"rejection_method": rejection_method})
        # The option counts for both sides, whatever the file says of one of them.
        thresholds = {"sigma_threshold": sigma_threshold, "sigma_low": None, "sigma_high": None}
        config = _overridden(config, "--sigma-threshold", thresholds)
        config = _overridden(config, "--normalization-method", {"normalization_method": normalization_method})
        config = _overridden(config, "--all", {"only_changed": "false" if make_all else None})
        reach_objects(config)
        log_path = start_log_file(config.master_frames.output_dir, "master_frames", debug)
        logger.debug("configuration as loaded from %s:\n%s", config_path, dump(without_endpoint(config)))
        code = _make(config, console, darks_only, flats_only, ask=not no_confirm and sys.stdin.isatty())
        logger.info("log: %s", log_path)
    sys.exit(code)


def _overridden(config: Config, option: str, values: dict[str, str | None]) -> Config:
    """Replace values of `master_frames` where the option is given; what is wrong is said in the option's name."""
    if not any(value is not None for value in values.values()):
        return config
    try:
        return with_overrides(config, {f"master_frames.{key}": value for key, value in values.items()})
    except ConfigError as error:
        raise ConfigError(f"{option}: {str(error).removeprefix('option: ')}") from error


def _make(config: Config, console: Console, darks_only: bool, flats_only: bool, ask: bool) -> int:
    from ostcal.build.api import MasterFrameCreator
    from ostcal.build.request import Watcher

    progress = RunProgress(console, "masters")

    def planned(groups: Sequence[Group], total_bytes: int) -> bool:
        console.print(_plan_table(groups, total_bytes))
        if ask and not click.confirm("Make these masters?", default=True, err=True):
            return False
        progress.start(total_bytes)
        return True

    def progressed(done: Progress) -> None:
        progress.advance(done.n_bytes, done.job if done.stage == "combine" else f"{done.job} ({done.stage})")

    creator = MasterFrameCreator(config, logger, Watcher(planned=planned, progressed=progressed))
    try:
        if darks_only:
            status = creator.create_master_darks()
        elif flats_only:
            status = creator.create_master_flats()
        else:
            status = creator.create_all_master_frames()
    finally:
        progress.stop()
    show_masters(creator)
    return exit_code_of(status)


def exit_code_of(status: Status) -> int:
    """Give the exit code of a run that made masters."""
    if status.is_error:
        return EXIT_FAILED
    return EXIT_QUALITY if status.details.get("failed_quality") else 0


def show_masters(creator: MasterFrameCreator) -> None:
    """Show the table of the masters that a run has made, and write their report where quality control is on."""
    report = creator.report
    if report is None or not (report.made or report.unchanged):
        return
    open_console().print(_result_table(report))
    logger.info("finished in %.1f s", sum(report.seconds.values()) - report.seconds["confirm"])
    if report.made and creator.config.master_frames.quality_control and creator.config.quality.report:
        names = [made.name for made in report.made] + [u.stored.record.name for u in report.unchanged]
        write_report_of(creator.config, names, report.warnings)


def _plan_table(groups: Sequence[Group], total_bytes: int) -> Table:
    from ostcal.inputs.grouping import describe

    table = Table(
        title=f"{len(groups)} group{'' if len(groups) == 1 else 's'} of frames, {total_bytes / 1e9:.2f} GB to read",
        title_justify="left",
    )
    table.add_column("group")
    table.add_column("first frame", overflow="fold")
    for group in groups:
        table.add_row(Text(describe(group)), Text(group.frames[0].label))
    return table


def _result_table(report: BuildReport) -> Table:
    table = Table(title="Masters", title_justify="left")
    for name in ("kind", "exposure", "filter"):
        table.add_column(name)
    for name in ("frames", "rejected", "mean"):
        table.add_column(name, justify="right")
    table.add_column("quality")
    table.add_column("where", overflow="fold")
    for made in report.made:
        key, result = made.group.key, made.result
        for kind, path in made.files:
            row: list[Any] = [
                kind,
                f"{key.exposure_time_s:g} s",
                key.filter_name or "",
                len(made.group.frames),
                f"{result.rejected_share:.3%}",
                f"{result.mean:.6g}",
                made.verdict or "",
                path,
            ]
            table.add_row(*(Text(str(value)) for value in row))
    for unchanged in report.unchanged:
        stored = unchanged.stored
        for kind, path in unchanged.files:
            row = [
                kind,
                f"{stored.key.exposure_time_s:g} s",
                stored.key.filter_name or "",
                stored.record.n_frames or "",
                "unchanged",
                "",
                stored.record.verdict or "",
                path,
            ]
            table.add_row(*(Text(str(value)) for value in row))
    return table
