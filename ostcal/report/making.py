"""The whole way of a report: the masters on disk, their history, the page and the numbers."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ostcal.errors import NoFramesError
from ostcal.masters.library import LibraryMaster, find_masters
from ostcal.masters.metrics import history_of, subject_of
from ostcal.report.collect import ReportRequest, collect
from ostcal.report.writer import write_report


def make_report(
    output_dir: str,
    *,
    only: Collection[str] | None = None,
    temperature_tolerance_c: float = 2.0,
    config_file: str | None = None,
    settings: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Write a report of masters in the store of a directory; gives the paths of the page and of the numbers.

    Parameters
    ----------
    output_dir : str
        Of the masters.
    only : collection of str, optional
        Names of the masters to show; without it the newest of each kind, setting, exposure and filter.
    temperature_tolerance_c : float
        How far the temperatures of darks may differ that give the dark current together.
    config_file, settings : optional
        The configuration, to be shown.
    left_out : sequence of str
        What was left out of the masters, one line each.

    Raises
    ------
    NoFramesError
        If there is no master in the store.
    StorageError
        If the report cannot be written.
    """
    library = find_masters(output_dir)
    shown = _newest(library) if only is None else [master for master in library if master.record.name in only]
    shown = sorted(shown, key=_order)
    if not shown:
        raise NoFramesError(f"{output_dir}: there are no masters to report on; make some with ostcal masters")
    made_at = datetime.now(UTC).replace(microsecond=0)
    report, pictures = collect(
        ReportRequest(
            masters=shown,
            library=library,
            history=history_of(output_dir),
            made_at=made_at,
            temperature_tolerance_c=temperature_tolerance_c,
            config_file=config_file,
            settings=settings,
            left_out=left_out,
        )
    )
    return write_report(report, pictures, output_dir, _free_stamp(output_dir, made_at))


def _newest(library: Sequence[LibraryMaster]) -> list[LibraryMaster]:
    """Give the newest master of each subject; the library is sorted, newest first."""
    return list({subject_of(master.key): master for master in reversed(library)}.values())


def _order(master: LibraryMaster) -> tuple[Any, ...]:
    key = master.key
    return str(key.frame_type), key.filter_name or "", key.exposure_time_s, master.record.name


def _free_stamp(directory: str, made_at: datetime) -> str:
    """Give the time as the name of a report that is not there yet: two may be made within a second."""
    stamp = base = made_at.strftime("%Y%m%d_%H%M%S")
    number = 2
    while os.path.exists(os.path.join(directory, f"report_{stamp}.html")):
        stamp, number = f"{base}_{number}", number + 1
    return stamp
