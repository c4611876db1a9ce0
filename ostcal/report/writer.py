"""Write a report: the page and the numbers, each complete or absent."""

from __future__ import annotations

import logging
import os

from ostcal.errors import StorageError
from ostcal.places.durable import os_reason, write_atomically
from ostcal.places.paths import AnyPath, path_of
from ostcal.report.document import Report
from ostcal.report.page import render
from ostcal.report.png import ReportPictures

_log = logging.getLogger(__name__)


def write_report(
    report: Report, pictures: ReportPictures, directory: str | os.PathLike[str], stamp: str
) -> tuple[AnyPath, AnyPath]:
    """Write ``report_STAMP.html`` and ``report_STAMP.json``; files of these names are replaced.

    Parameters
    ----------
    directory : path
        Where the masters are; it must exist.
    stamp : str
        The time of the run, ``YYYYMMDD_HHMMSS``.

    Returns
    -------
    html_path, json_path : Path or ObjectPath

    Raises
    ------
    StorageError
        If a file cannot be written; what was there before stays.
    """
    html_path = path_of(directory) / f"report_{stamp}.html"
    json_path = html_path.with_name(f"report_{stamp}.json")
    page = render(report, pictures, json_name=json_path.name).encode("utf-8", errors="replace")
    numbers = report.json_text().encode("utf-8", errors="replace")
    for path, content in ((json_path, numbers), (html_path, page)):  # in this order: the page links to the numbers
        try:
            write_atomically(path, content, durable=True)
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be written: {os_reason(error)}; check the directory, its space and permissions"
            ) from error
    _log.debug("%s: %.1f MB", html_path, len(page) / 1e6)
    return html_path, json_path
