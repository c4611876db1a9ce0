"""`ostcal masters`: master bias, darks and flats from the frames on disk."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    EXIT_QUALITY,
    ConfigOptions,
    Flags,
    RunProgress,
    command_console,
    config_option,
    debug_option,
    discard_log_file,
    import_numba,
    may_ask,
    open_config,
    open_console,
    start_log_file,
)
from ostcal.cli.json_output import JsonCommand, json_record, with_hooks
from ostcal.cli.next_command import MOST_FOLDERS, calibrate_command, say_next
from ostcal.cli.report import write_report_of
from ostcal.cli.tables import Table
from ostcal.compiled import clock
from ostcal.engine.rejection import METHODS
from ostcal.vocabulary import NormalizationMethod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ostcal.build.api import MasterFrameCreator
    from ostcal.build.plan import Unchanged
    from ostcal.build.run import BuildReport
    from ostcal.frames import FrameType
    from ostcal.inputs.grouping import Group, GroupKey
    from ostcal.status import Status

logger = logging.getLogger("ostcal")

_SAID_FROM_S = 1.0
"""Time of compiling that is told at the end."""

EXAMPLES = """\b
Examples:
  ostcal masters /data/2026-11-21                      (a folder of frames, no configuration)
  ostcal masters darks flats --out masters --set master_frames.min_frames=5
  ostcal masters --config night.yaml
  ostcal masters --config night.yaml --darks-only --rejection-method minmax
  ostcal masters --config night.yaml --flats-only      (with the master darks on disk)
  ostcal masters --config night.yaml --no-confirm --log-level warning   (in a script)
"""


@click.command(cls=JsonCommand, epilog=EXAMPLES)
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path())
@config_option
@click.option(
    "--out",
    "output_dir",
    type=click.Path(),
    metavar="DIR",
    help="Directory of the masters; by default master_frames in the working directory.",
)
@click.option("--darks-only", is_flag=True, help="Make the master bias and the master darks only.")
@click.option("--flats-only", is_flag=True, help="Make the master flats only, with the master darks on disk.")
@click.option("--rejection-method", metavar="M", help=f"One of {', '.join(METHODS)}.")
@click.option("--sigma-threshold", metavar="V", help="Threshold of the clipping methods, such as 3.0.")
@click.option(
    "--normalization-method",
    metavar="M",
    help=f"Level of a flat that becomes 1: {', '.join(get_args(NormalizationMethod))}.",
)
@click.option("--all", "make_all", is_flag=True, help="Make all masters again, including unchanged ones.")
@click.option("--no-confirm", is_flag=True, help="Do not ask before the work begins.")
@click.option("--strips-only", multiple=True, hidden=True)
@click.option("--strips-dark", multiple=True, hidden=True)
@debug_option
def masters(
    folders: tuple[str, ...],
    config_options: ConfigOptions,
    darks_only: bool,
    flats_only: bool,
    no_confirm: bool,
    strips_only: tuple[str, ...],
    strips_dark: tuple[str, ...],
    debug: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Combine bias, dark and flat frames into masters.

    Each FOLDER is searched, with all folders below it, for FITS and XISF files and zarr series of bias frames, darks
    and flats, also mixed. Without FOLDER these are input.dirs of the configuration, else dark_capture.output_dir and
    flat_capture.output_dir. A master is not made again if its frames, settings and darks have not changed.
    """
    if darks_only and flats_only:
        raise click.UsageError("--darks-only and --flats-only exclude each other; leave both out to make all masters")
    if strips_only:
        _combine_strips(config_options, strips_only, strips_dark)
        return
    with command_console(log_level, debug) as console:
        import_numba()
        from ostcal.build.api import MasterFrameCreator
        from ostcal.build.from_config import input_places
        from ostcal.build.request import Watcher

        config = open_config(config_options, _flags(folders, **options))
        input_places(config)  # a folder that is not there is refused before anything is written
        log_path = start_log_file(config, "master_frames", debug)
        with RunProgress(console, "masters") as progress:

            def planned(groups: Sequence[Group], total_bytes: int) -> bool:
                _groups_table(groups, total_bytes).print_to(console)
                ask = not no_confirm and may_ask()
                if ask and not click.confirm("Make these masters?", default=True, err=True):
                    return False
                progress.start(total_bytes)
                return True

            watcher = with_hooks(Watcher(planned=planned, progressed=progress.advance_strip))
            creator = MasterFrameCreator(config, logger, watcher)
            if darks_only:
                status = creator.create_master_darks()
            elif flats_only:
                status = creator.create_master_flats()
            else:
                status = creator.create_all_master_frames()
        show_masters(creator)
        if creator.report is not None or debug or not discard_log_file():
            logger.info("log: %s", log_path)
        if creator.report is not None and (creator.report.made or creator.report.unchanged):
            logger.info("masters: %s", creator.directory)
        say_next_of_masters(creator, exit_code_of(status))
    sys.exit(exit_code_of(status))


def _groups_table(groups: Sequence[Group], total_bytes: int) -> Table:
    """Return what is going to be combined."""
    from ostcal.inputs.grouping import describe
    from ostcal.inputs.image_sets import one_of_each_file

    shown = one_of_each_file(groups)
    n_bytes = f"{total_bytes / 1e9:.2f} GB" if total_bytes >= 1e8 else f"{total_bytes / 1e6:.1f} MB"
    size = f"{len(shown)} group{'' if len(shown) == 1 else 's'} of frames, {n_bytes}"
    table = Table(f"{size} to read", "group", "/first frame")
    for group in shown:
        n_images = sum(bool(group.files) and other.files == group.files for other in groups)
        more = f" and {n_images - 1} more images of each" if n_images > 1 else ""
        table.add_row(f"{describe(group)}{more}", group.frames[0].label)
    return table


def _flags(
    folders: Sequence[str],
    *,
    output_dir: str | None,
    rejection_method: str | None,
    sigma_threshold: str | None,
    normalization_method: str | None,
    make_all: bool,
) -> Flags:
    """Return the keys that arguments and options set."""
    # The threshold is that of both sides, whatever the file says of one of them.
    thresholds = {"sigma_threshold": sigma_threshold, "sigma_low": None, "sigma_high": None}
    given: list[tuple[str, bool, dict[str, object]]] = [
        ("FOLDER", bool(folders), {"input.dirs": list(folders)}),
        ("--out", output_dir is not None, {"master_frames.output_dir": output_dir}),
        ("--rejection-method", rejection_method is not None, {"master_frames.rejection_method": rejection_method}),
        ("--sigma-threshold", sigma_threshold is not None, {f"master_frames.{k}": v for k, v in thresholds.items()}),
        ("--normalization-method", normalization_method is not None,
         {"master_frames.normalization_method": normalization_method}),
        ("--all", make_all, {"master_frames.only_changed": False}),
    ]  # fmt: skip
    return {option: values for option, is_given, values in given if is_given}


def _combine_strips(options: ConfigOptions, series: Sequence[str], darks: Sequence[str]) -> None:
    """Combine closed series while the workflow captures the next; ``-`` reads the configuration as a line of JSON."""
    from ostcal.build.from_config import request_of
    from ostcal.build.while_exposing import combine_beside_capture
    from ostcal.config import load_config

    (path,) = options.files
    config = load_config(json.loads(sys.stdin.buffer.readline()) if path == "-" else path)
    wanted = config.master_frames
    request = request_of(
        config, bias=wanted.create_master_bias, darks=wanted.create_master_darks, flats=wanted.create_master_flats
    )
    combine_beside_capture(request, series, darks)


def exit_code_of(status: Status) -> int:
    """Return the exit code of a run that made masters."""
    if status.is_error:
        return EXIT_FAILED
    return EXIT_QUALITY if status.details.get("failed_quality") else 0


def say_next_of_masters(creator: MasterFrameCreator, exit_code: int) -> None:
    """Suggest to calibrate with masters that are all made and good."""
    if creator.report is not None and exit_code == 0:
        folders = creator.report.light_folders
        lights = folders if 0 < len(folders) <= MOST_FOLDERS else ("LIGHTS",)
        say_next(calibrate_command(creator.config, creator.directory, lights))


def show_masters(creator: MasterFrameCreator) -> None:
    """Print the table of the masters of a run, and write their report if quality control is on."""
    report = creator.report
    if report is None:
        return
    record = json_record()
    if record is not None:
        record.put(not_made=report.errors)
    if not (report.made or report.unchanged):
        return
    if record is not None:
        from ostcal.cli.entries import built_entries

        directory = creator.directory
        record.put_masters(built_entries(report, directory, datetime.now(UTC)))
        record.put(directory=directory)
    _result_table(report).print_to(open_console())
    compiled_s = clock.seconds()
    compiling = f", of which {compiled_s:.1f} s compiling kernels" if compiled_s >= _SAID_FROM_S else ""
    logger.info("finished in %.1f s%s", sum(report.seconds.values()) - report.seconds["confirm"], compiling)
    is_wanted = creator.config.master_frames.quality_control and creator.config.quality.report
    if is_wanted and (report.made or _is_unreported(creator.directory, report.unchanged)):
        names = [made.name for made in report.made] + [u.stored.record.name for u in report.unchanged]
        write_report_of(creator.config, names, report.warnings, creator.directory)


def _is_unreported(directory: str, unchanged: Sequence[Unchanged]) -> bool:
    """Return whether masters of an earlier run have no report: it was killed before it wrote one."""
    from ostcal.library.find import StorePlane, store_location
    from ostcal.report.nights import newest_report_at

    store = store_location(directory)
    times = [
        one.stored.record.made_at
        for one in unchanged
        if isinstance(one.stored.plane, StorePlane) and one.stored.plane.store == store and one.stored.record.verdict
    ]
    newest = max((time.replace(microsecond=0) for time in times if time is not None), default=None)
    if newest is None:
        return False
    reported = newest_report_at(directory)
    return reported is None or reported < newest


def _result_table(report: BuildReport) -> Table:
    rows = [
        _Row(kind, made.group.key, len(made.group.frames), made.result.rejected_share, made.result.mean,
             str(made.verdict or ""), path)
        for made in report.made
        for kind, path in made.files
    ] + [
        _Row(kind, unchanged.stored.key, unchanged.stored.record.n_frames or 0, None, None,
             unchanged.stored.record.verdict or "", path)
        for unchanged in report.unchanged
        for kind, path in unchanged.files
    ]  # fmt: skip
    of_files: dict[str, list[_Row]] = {}
    for row in rows:
        of_files.setdefault(row.path, []).append(row)
    table = Table("Masters", "=kind", ">exposure", "filter", ">frames", ">rejected", ">mean", "=quality", "/where")
    for same in of_files.values():
        table.add_row(*_cells(same))
    return table


class _Row(NamedTuple):
    """A master in the table; the images of one file are one line of it."""

    kind: FrameType
    key: GroupKey
    n_frames: int
    rejected_share: float | None
    """``None`` for one that is unchanged."""
    mean: float | None
    verdict: str
    path: str


def _cells(rows: Sequence[_Row]) -> list[str]:
    """Return the line of a file: over its images the fewest frames, the mean of the figures and the worst verdict."""
    first = rows[0]
    rejected = [row.rejected_share for row in rows if row.rejected_share is not None]
    means = [row.mean for row in rows if row.mean is not None]
    images = f" ({len(rows)} images)" if len(rows) > 1 else ""
    return [
        f"{first.kind}{images}",
        f"{first.key.exposure_time_s:g} s",
        first.key.filter_name or "",
        str(min(row.n_frames for row in rows) or ""),
        f"{sum(rejected) / len(rejected):.3%}" if rejected else "unchanged",
        f"{sum(means) / len(means):.6g}" if means else "",
        max((row.verdict for row in rows), key=["", "pass", "warn", "fail"].index),
        first.path,
    ]
