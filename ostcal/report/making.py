"""Make a report: read the masters on disk and their history, write the page and the numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ostcal.errors import NoFramesError, StorageError
from ostcal.library.find import LibraryMaster, find_masters
from ostcal.library.history import history_of, subject_of
from ostcal.places.durable import PARTIAL_ENDING, sweep_partial_files
from ostcal.places.locking import LOCK_FILE, locked
from ostcal.places.paths import AnyPath, exists, joined, names_in, path_of
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
) -> tuple[AnyPath, AnyPath]:
    """Write a report of the masters of a directory.

    Parameters
    ----------
    output_dir : str
        Where the masters are.
    only : collection of str, optional
        Names of the masters to show; without it those of the newest run of each kind, setting and filter.
    temperature_tolerance_c : float
        How far the temperatures of darks may differ that give the dark current together.
    config_file, settings, left_out : optional
        The configuration, and what was left out of the masters, one line each, as the page shows them.

    Returns
    -------
    html_path, json_path : Path or ObjectPath
        The page and the numbers.

    Raises
    ------
    NoFramesError, StorageError
        If there is no master in the store; if the report cannot be written.
    """
    library = find_masters(output_dir)  # newest first
    if only is None:
        # Of each subject all masters of its newest run: one run may have made flats of several exposures.
        newest: dict[str, datetime | None] = {}
        for master in library:
            newest.setdefault(subject_of(master.key), master.record.made_at)
        shown = [master for master in library if newest[subject_of(master.key)] == master.record.made_at]
    else:
        shown = [master for master in library if master.record.name in only]
    if not shown:
        raise NoFramesError(f"{output_dir}: there are no masters to report on; make some with ostcal masters")
    made_at = datetime.now(UTC).replace(microsecond=0)
    request = ReportRequest(
        masters=sorted(shown, key=_in_reading_order),
        library=library,
        history=history_of(output_dir),
        made_at=made_at,
        temperature_tolerance_c=temperature_tolerance_c,
        config_file=config_file,
        settings=settings,
        left_out=left_out,
    )
    report, pictures = collect(request)
    if any(name.endswith(PARTIAL_ENDING) for name in names_in(output_dir)):
        # Left by a killed run, unless another run is writing here.
        with contextlib.suppress(StorageError), locked(path_of(output_dir) / LOCK_FILE, what=output_dir):
            sweep_partial_files(path_of(output_dir))
    return write_report(report, pictures, output_dir, _free_stamp(output_dir, made_at))


def _in_reading_order(master: LibraryMaster) -> tuple[Any, ...]:
    key = master.key
    return str(key.frame_type), key.filter_name or "", key.exposure_time_s, master.record.name


def _free_stamp(directory: str, made_at: datetime) -> str:
    """Return the time, numbered if a report of this second is there already."""
    stamp = base = made_at.strftime("%Y%m%d_%H%M%S")
    number = 2
    while exists(joined(directory, f"report_{stamp}.html")):
        stamp, number = f"{base}_{number}", number + 1
    return stamp
