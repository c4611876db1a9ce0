"""The whole way of a report: the masters on disk, their history, the page and the numbers."""

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
from ostcal.places.paths import Place, exists, joined, names_in, place
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
) -> tuple[Place, Place]:
    """Write a report of masters in the store of a directory; gives the paths of the page and of the numbers.

    Parameters
    ----------
    output_dir : str
        Of the masters.
    only : collection of str, optional
        Names of the masters to show; without it those of the newest run of each kind, setting and filter.
    temperature_tolerance_c : float
        How far the temperatures of darks may differ that give the dark current together.
    config_file, settings, left_out : optional
        The configuration, and what was left out of the masters, one line each: to be shown.

    Raises
    ------
    NoFramesError, StorageError
        If there is no master in the store; if the report cannot be written.
    """
    library = find_masters(output_dir)
    made_at = datetime.now(UTC).replace(microsecond=0)
    request = ReportRequest(
        masters=_shown(output_dir, library, only),
        library=library,
        history=history_of(output_dir),
        made_at=made_at,
        temperature_tolerance_c=temperature_tolerance_c,
        config_file=config_file,
        settings=settings,
        left_out=left_out,
    )
    report, pictures = collect(request)
    _sweep(output_dir)
    return write_report(report, pictures, output_dir, _free_stamp(output_dir, made_at))


def _sweep(directory: str) -> None:
    """Remove what a killed run left half written, unless another run is writing there."""
    if any(name.endswith(PARTIAL_ENDING) for name in names_in(directory)):
        with contextlib.suppress(StorageError), locked(place(directory) / LOCK_FILE, what=directory):
            sweep_partial_files(place(directory))


def _shown(output_dir: str, library: Sequence[LibraryMaster], only: Collection[str] | None) -> list[LibraryMaster]:
    """Give the masters to show, in the order of the report."""
    chosen = _newest(library) if only is None else [master for master in library if master.record.name in only]
    if not chosen:
        raise NoFramesError(f"{output_dir}: there are no masters to report on; make some with ostcal masters")
    return sorted(chosen, key=_order)


def _newest(library: Sequence[LibraryMaster]) -> list[LibraryMaster]:
    """Give the newest masters of each subject: one run may have made flats of several exposures."""
    newest: dict[str, datetime | None] = {}
    for master in library:  # newest first
        newest.setdefault(subject_of(master.key), master.record.made_at)
    return [master for master in library if newest[subject_of(master.key)] == master.record.made_at]


def _order(master: LibraryMaster) -> tuple[Any, ...]:
    key = master.key
    return str(key.frame_type), key.filter_name or "", key.exposure_time_s, master.record.name


def _free_stamp(directory: str, made_at: datetime) -> str:
    """Give the time as the name of a report that is not there yet: two may be made within a second."""
    stamp = base = made_at.strftime("%Y%m%d_%H%M%S")
    number = 2
    while exists(joined(directory, f"report_{stamp}.html")):
        stamp, number = f"{base}_{number}", number + 1
    return stamp
