"""The result that the public classes return."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import Any

from ostcal.displays import facts_table

_MOST_FILES = 20
"""Files of a kind that a display lists."""


class Level(StrEnum):
    """How an operation ended."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, repr=False)
class Status:
    """How an operation ended and what it made.

    Parameters
    ----------
    level : Level
        ``SUCCESS``; ``WARNING`` if everything asked was made but something was left out; ``ERROR`` if something asked
        could not be made.
    message : str
        One line to show.
    data : dict of str to list of str
        Paths by kind: of files ``bias``, ``dark``, ``flat`` (`MasterFrameCreator`) or ``calibrated``
        (`CalibrationApplier`), of ``series`` (`DarkCapture`, `FlatCapture`).
    details : dict
        ``warnings`` and ``errors`` (lists of lines), ``output_dir``, and of masters ``counts``, ``unchanged``,
        ``exposures`` (seconds by kind), ``masters`` (statistics by name), ``failed_quality`` (names), ``seconds`` (by
        stage); of captures ``frames`` (by series), ``taken``, ``exposures`` (seconds); of `initialize` ``settings``;
        of calibrated frames ``frames`` (``file``, ``masters``, ``calibration_status`` by source), ``seconds``.

    Examples
    --------
    >>> from ostcal import MasterFrameCreator
    >>> status = MasterFrameCreator("night.yaml").create_all_master_frames()  # doctest: +SKIP
    >>> status.is_error, status.message, status.details["errors"]  # doctest: +SKIP
    """

    level: Level
    message: str
    data: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Status {self.level}: {self.message}>"

    def _repr_html_(self) -> str:
        files = [(kind, path) for kind, paths in self.data.items() for path in paths[:_MOST_FILES]]
        more = [(kind, f"and {len(paths) - _MOST_FILES} more") for kind, paths in self.data.items()
                if len(paths) > _MOST_FILES]  # fmt: skip
        lines = [(what[:-1], line) for what in ("errors", "warnings") for line in self.details.get(what, ())]
        return f"<b>{escape(str(self.level))}</b>: {escape(self.message)}{facts_table([*lines, *files, *more])}"

    @property
    def is_success(self) -> bool:
        """Return whether everything was made without a warning."""
        return self.level is Level.SUCCESS

    @property
    def is_warning(self) -> bool:
        """Return whether everything asked was made, but with warnings."""
        return self.level is Level.WARNING

    @property
    def is_error(self) -> bool:
        """Return whether something asked could not be made."""
        return self.level is Level.ERROR

    def as_dict(self) -> dict[str, Any]:
        """Return the same as a plain dictionary.

        Returns
        -------
        dict
            ``status`` (the level as text), ``is_success``, ``is_warning``, ``is_error``, ``message``, ``data``,
            ``details``.
        """
        return {
            "status": str(self.level),
            "is_success": self.is_success,
            "is_warning": self.is_warning,
            "is_error": self.is_error,
            "message": self.message,
            "data": self.data,
            "details": self.details,
        }


class KeepsStatus:
    """Base of the public classes: keeps the outcome of the last call."""

    _status: Status

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._status.message}>"

    def get_status(self) -> dict[str, Any]:
        """Return the outcome of the last call as a dictionary.

        Returns
        -------
        dict
            As `Status.as_dict`.
        """
        return self._status.as_dict()
