"""What a hook is told: one JSON document for each event."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ostcal.codec import to_values_with_nulls
from ostcal.redaction import values_without_secrets

FORMAT = "ostcal-event"
SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or is taken away; new keys do not raise it."""

MAX_LINES = 100
"""Lines of errors and findings in an event; the log has all of them."""

Number = float | None


@dataclass(frozen=True, kw_only=True)
class SeriesEntry:
    """A series of frames that was captured, or into which frames were copied."""

    location: str
    frames: int
    """Frames in the series now."""
    added: int
    """Frames that this command added."""
    kind: str | None = None
    """bias, dark or flat."""
    exposure_time_s: Number = None
    """Null where it changes from frame to frame, or is not known here."""
    filter: str | None = None
    level_adu: Number = None
    """Median of the frames' levels."""
    end: str | None = None
    """Why a captured series ended: complete, stopped, not now, camera failed, mount failed, storage failed."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MasterOfEvent:
    """A master that was made, or that failed."""

    name: str
    kind: str
    exposure_time_s: Number = None
    filter: str | None = None
    frames: int | None = None
    verdict: str | None = None
    """Of its quality control: pass, warn, fail, or null without one."""
    files: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    """One line for each check that is not a pass."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened, when and where."""

    event: str
    """series_finished, master_made, master_failed, night_finished or error."""
    command: str
    """The command of ostcal, such as workflow."""
    message: str
    """One line for people."""
    config_file: str | None = None
    series: tuple[SeriesEntry, ...] = ()
    """Of series_finished the one series; of night_finished all of them."""
    masters: tuple[MasterOfEvent, ...] = ()
    """Of master_made and master_failed the one master, if it exists; of night_finished all that were made."""
    errors: tuple[str, ...] = ()
    exit_code: int | None = None
    """Of night_finished and error: that of the command."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    host: str = field(default_factory=socket.gethostname)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The same in each attempt to deliver the event."""

    def as_json(self) -> bytes:
        """Return the document as strict JSON in ASCII, on one line, without secrets in addresses."""
        head = {"format": FORMAT, "schema_version": SCHEMA_VERSION}
        values = head | values_without_secrets(to_values_with_nulls(self))
        return json.dumps(values, allow_nan=False).encode("ascii")


def series_finished(command: str, series: SeriesEntry, message: str, config_file: str | None = None) -> Event:
    """Return the event of a series that ended, complete or not."""
    return Event(event="series_finished", command=command, message=message, series=(series,), config_file=config_file)


def master_finished(command: str, master: MasterOfEvent, config_file: str | None = None) -> Event:
    """Return the event of a master that was made: `master_failed` if it failed its quality control."""
    failed = master.verdict == "fail"
    verdict = f", {master.verdict}" if master.verdict else ""
    return Event(
        event="master_failed" if failed else "master_made",
        command=command,
        message=f"{master.name}: {master.frames or 'unknown number of'} frames{verdict}",
        masters=(master,),
        errors=master.findings[:MAX_LINES] if failed else (),
        config_file=config_file,
    )


def master_not_made(command: str, line: str, config_file: str | None = None) -> Event:
    """Return the event of a master that could not be made."""
    return Event(event="master_failed", command=command, message=line, errors=(line,), config_file=config_file)


def night_finished(
    command: str,
    exit_code: int,
    series: Sequence[SeriesEntry],
    masters: Sequence[MasterOfEvent],
    errors: Sequence[str],
    config_file: str | None = None,
) -> Event:
    """Return the event of the end of a night, with all that came of it."""
    failed = sum(master.verdict == "fail" for master in masters)
    parts = [f"{sum(one.added for one in series)} frames in {len(series)} series", f"{len(masters)} masters"]
    parts += [f"{failed} failed quality control"] if failed else []
    parts += [f"{len(errors)} errors"] if errors else []
    return Event(
        event="night_finished",
        command=command,
        message="night finished: " + ", ".join(parts),
        series=tuple(series),
        masters=tuple(masters),
        errors=tuple(errors[:MAX_LINES]),
        exit_code=exit_code,
        config_file=config_file,
    )


def error_event(command: str, errors: Sequence[str], exit_code: int | None, config_file: str | None = None) -> Event:
    """Return the event of a command that failed."""
    return Event(
        event="error",
        command=command,
        message=errors[0] if errors else "failed",
        errors=tuple(errors[:MAX_LINES]),
        exit_code=exit_code,
        config_file=config_file,
    )
