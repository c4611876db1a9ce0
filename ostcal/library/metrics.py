"""Numbers of masters over the years: one line of the history for each master that is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.history import append_history, read_history
from ostcal.measure.findings import Outcome
from ostcal.places.paths import joined

HISTORY_NAME = "quality_history.jsonl"


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """The numbers of one master."""

    made_at: datetime
    name: str
    subject: str
    """What is followed: the same for masters of one kind, setting, exposure and filter."""
    verdict: Outcome
    metrics: Mapping[str, tuple[float | None, str]]
    """Value and unit, by name."""


def history_path(output_dir: str) -> str:
    """Give the place of the history in the directory of the masters."""
    return joined(output_dir, HISTORY_NAME)


def subject_of(key: GroupKey) -> str:
    """Name what masters of a key are followed as: ``dark 5 s, gain 100, -10 C``."""
    settings = key.settings
    words = [str(key.frame_type)]
    if key.frame_type is FrameType.DARK:
        words[0] += f" {key.exposure_time_s:g} s"
    if key.filter_name:
        words[0] += f" {key.filter_name}"
    words += [settings.camera_label] if settings.camera_label else []
    words += [f"gain {settings.gain:g}"] if settings.gain is not None else []
    words += [f"offset {settings.offset:g}"] if settings.offset is not None else []
    words += [f"{settings.binning[0]}x{settings.binning[1]}"] if settings.binning != (1, 1) else []
    words += [settings.readout_mode] if settings.readout_mode else []
    words += [f"{round(key.temperature_c):d} C"] if key.temperature_c is not None else []
    return ", ".join([*words, f"{key.width} x {key.height}"])


def add_to_history(output_dir: str, entries: Sequence[HistoryEntry]) -> None:
    """Append a run's masters.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    append_history(history_path(output_dir), [_as_json(entry) for entry in entries])


def history_of(output_dir: str) -> list[HistoryEntry]:
    """Give all entries, oldest first; those that are damaged or of another version are passed over.

    Raises
    ------
    StorageError
        If the file cannot be read.
    """
    entries = [_from_json(values) for values in read_history(history_path(output_dir))]
    return [entry for entry in entries if entry is not None]


def _as_json(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "made_at": entry.made_at.astimezone(UTC).isoformat(),
        "name": entry.name,
        "subject": entry.subject,
        "verdict": str(entry.verdict),
        "metrics": {name: [value, unit] for name, (value, unit) in entry.metrics.items()},
    }


def _from_json(values: dict[str, Any]) -> HistoryEntry | None:
    try:
        return HistoryEntry(
            made_at=datetime.fromisoformat(values["made_at"]),
            name=str(values["name"]),
            subject=str(values["subject"]),
            verdict=Outcome(values["verdict"]),
            metrics={
                str(name): (None if value is None else float(value), str(unit))
                for name, (value, unit) in values["metrics"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
