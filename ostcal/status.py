"""The result that the public classes return."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How an operation ended."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Status:
    """How an operation ended and what it made.

    Attributes
    ----------
    level : Level
        ``SUCCESS``; ``WARNING`` when everything asked was made but something was left out; ``ERROR`` when something
        asked could not be made.
    message : str
        One line for a person.
    data : dict
        Files made, by kind: ``{"bias": [...], "dark": [...], "flat": [...]}``, as paths.
    details : dict
        Counts, exposures, statistics of each master, output directory, warnings and errors.
    """

    level: Level
    message: str
    data: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether all went well, without a warning."""
        return self.level is Level.SUCCESS

    @property
    def is_warning(self) -> bool:
        """Whether everything asked was made, but with warnings."""
        return self.level is Level.WARNING

    @property
    def is_error(self) -> bool:
        """Whether something asked could not be made."""
        return self.level is Level.ERROR

    def as_dict(self) -> dict[str, Any]:
        """Give the same as a plain dictionary."""
        return {
            "status": str(self.level),
            "is_success": self.is_success,
            "is_warning": self.is_warning,
            "is_error": self.is_error,
            "message": self.message,
            "data": self.data,
            "details": self.details,
        }
