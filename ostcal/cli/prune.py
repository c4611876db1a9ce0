"""`ostcal prune`: remove old generations of masters, and raw series whose masters are verified."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ostcal.cli.console import (
    EXIT_FAILED,
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    import_numba,
    masters_flags,
    masters_option,
    open_config,
    open_console,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.tables import Table

if TYPE_CHECKING:
    from ostcal.library.prune import PrunePlan, Removal

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal prune --config night.yaml --older 90
  ostcal prune --config night.yaml --keep 2 --older 30 --apply
"""


@click.command("prune", cls=JsonCommand, epilog=EXAMPLES)
@config_option
@masters_option
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    metavar="N",
    help="Keep the N newest of each kind and setting; 0 none but what is needed.",
)
@click.option(
    "--older", "older_days", type=click.FloatRange(min=0), metavar="D", help="Only what is older than D days."
)
@click.option("--apply", "is_applied", is_flag=True, help="Remove; without it nothing is changed.")
@debug_option
def prune_command(
    config_options: ConfigOptions,
    masters_dir: str | None,
    keep: int | None,
    older_days: float | None,
    is_applied: bool,
    debug: bool,
    log_level: str,
) -> None:
    """Show what may be removed: old generations of masters, and raw series that are in verified masters.

    With --apply it is removed. Both copies are counted and removed: the FITS files and the zarr stores. What the
    library still matches stays: the only or newest master of its settings at its time, masters that others name, and
    series of which a frame is in no verified master. Files of other programs are never removed.
    """
    if keep is None and older_days is None:
        raise click.UsageError("say what is old: --keep N, --older D, or both")
    plans: list[PrunePlan] = []
    removed: list[tuple[Removal, str]] = []
    with command_console(log_level, debug):
        import_numba()
        from ostcal.library.latest import refresh_latest
        from ostcal.library.prune import PruneRules, plan_prune, prune
        from ostcal.places.locking import LockRules
        from ostcal.places.night_folders import folders_of

        config = open_config(config_options, masters_flags(masters_dir))
        patterns = (config.dark_capture.output_dir, config.flat_capture.output_dir)
        folders = list(dict.fromkeys(folder for pattern in patterns for folder in folders_of(pattern)))
        rules, now = PruneRules(keep=keep, older_days=older_days), datetime.now(UTC)
        wait = LockRules(wait_s=config.master_frames.lock_wait)
        try:
            for place in folders_of(config.master_frames.output_dir):
                if is_applied:
                    prune(place, folders, rules, now, plans.append, lambda *done: removed.append(done), wait)
                else:
                    plans.append(plan_prune(place, folders, rules, now))
            if is_applied:
                refresh_latest(config.master_frames.output_dir)
        finally:
            for plan in plans:
                _put_in_document(plan, removed)
        for plan in plans:
            _show(plan, is_applied, keep)
        for _, problem in removed:
            if problem:
                logger.error("%s", problem)
    sys.exit(EXIT_FAILED if any(problem for _, problem in removed) else 0)


def _show(plan: PrunePlan, is_applied: bool, keep: int | None) -> None:
    if plan.items:
        table = Table("Old by these rules", "=what", "/name", ">MB", "=action", "why")
        for item in plan.items:
            action = "stays" if item.kept_because else "removed" if is_applied else "remove"
            size, why = f"{item.n_bytes / 1e6:.1f}", item.kept_because or item.why
            table.add_row(item.kind, _shown(item), size, action, why)
        table.print_to(open_console())
    n_bytes = sum(item.n_bytes for item in plan.to_remove)
    n_files = sum(len(item.files) for item in plan.to_remove)
    copies = f", {n_files} file{'' if n_files == 1 else 's'} among them" if n_files else ""
    what = f"{len(plan.to_remove)} of {len(plan.items)}, {n_bytes / 1e6:.1f} MB{copies}"
    logger.info("%s %s", what, "were to be removed" if is_applied else "may be removed; --apply removes them")
    if keep == 0:
        logger.info(
            "--keep 0 keeps no number of generations; the newest verified master of each setting and time stays all the"
            " same, and so does what lights or other masters still need"
        )


def _shown(item: Removal) -> str:
    """Return what the table says of a place: of a master its name, of a series its path below the working directory."""
    return item.name if item.kind == "master" else os.path.relpath(item.place)


def _put_in_document(plan: PrunePlan, removed: list[tuple[Removal, str]]) -> None:
    if record := json_record():
        from ostcal.cli.document import RemovalEntry

        problems = {item.place: problem for item, problem in removed}
        record.put(
            directory=plan.masters_dir,
            removals=tuple(
                RemovalEntry(
                    place=item.place,
                    what=item.kind,
                    files=item.files,
                    action="kept"
                    if item.kept_because
                    else "remove"
                    if item.place not in problems
                    else "failed"
                    if problems[item.place]
                    else "removed",
                    n_bytes=item.n_bytes,
                    why=item.kept_because or problems.get(item.place) or item.why,
                )
                for item in plan.items
            ),
        )
