"""The document that ``--json`` writes: one for all commands, and its schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ostcal.codec import to_values_with_nulls
from ostcal.events.event import SeriesEntry
from ostcal.redaction import values_without_secrets
from ostcal.report.json_lines import json_text
from ostcal.report.schema import schema_of_class
from ostcal.science.cover import Coverage

FORMAT = "ostcal-command"
SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or is taken away; new keys do not raise it."""

_MOST_GROUPS_INDENTED = 200
"""Groups of lights up to which a document has lines and indents: for thousands these take a second."""

Number = float | None


class Ending(StrEnum):
    """How a command ended."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILED_QUALITY = "failed_quality"
    LACKING = "lacking"
    """Of coverage: lights lack masters."""
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class MasterEntry:
    """A master that was made, is unchanged, or is in the library."""

    name: str
    kind: str
    state: str
    """made, unchanged, or in_library."""
    exposure_time_s: Number = None
    filter: str | None = None
    camera: str | None = None
    camera_id: str | None = None
    extension: str | None = None
    gain: Number = None
    offset: Number = None
    binning: tuple[int, ...] = (1, 1)
    readout_mode: str | None = None
    temperature_c: Number = None
    width: int | None = None
    height: int | None = None
    bayer_pattern: str | None = None
    frames: int | None = None
    """Frames combined."""
    made_at: str | None = None
    """ISO 8601 with its time zone."""
    age_days: Number = None
    """Days since it was made."""
    taken_from: str | None = None
    """Start of its first frame, ISO 8601 with its time zone."""
    taken_to: str | None = None
    """End of its last frame."""
    taken_at: str | None = None
    """Median time of its frames, by which masters are matched."""
    taken_age_days: Number = None
    """Days since then."""
    verdict: str | None = None
    """Of its quality control: pass, warn, fail, or null without one."""
    calibration_id: str | None = None
    file: str | None = None
    """Name of its file."""
    files: tuple[str, ...] = ()
    """Paths of its files; the place in the store where no file was asked for."""
    mean: Number = None
    """Of its pixels: ADU, or 1 for flats."""
    rejected_share: Number = None
    """Share of the samples that were not kept, from 0 to 1."""
    findings: tuple[str, ...] = ()
    """One line for each check that is not a pass."""


@dataclass(frozen=True, kw_only=True)
class AgeEntry:
    """The age of a master that a frame was calibrated with."""

    kind: str
    """bias, dark or flat."""
    days: Number


@dataclass(frozen=True, kw_only=True)
class CalibratedEntry:
    """A science frame that was calibrated."""

    source: str
    file: str
    calibration_status: str
    """As CALSTAT of its header: B, D, F."""
    masters: tuple[str, ...]
    master_files: tuple[str, ...]
    ages: tuple[AgeEntry, ...] = ()
    """AGEBIAS, AGEDARK and AGEFLAT of its header, where it has them."""


@dataclass(frozen=True, kw_only=True)
class CopyEntry:
    """A series or a store that was copied to or from an object store."""

    source: str
    target: str
    files_copied: int
    files_kept: int
    """Files that were there already with the same contents."""
    n_bytes: int
    """Of the files that were copied."""
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class VerifiedEntry:
    """A series, a store or a file whose checksums were verified."""

    kind: str
    place: str
    n_items: int
    """Frames of a series, masters of a store, one of a file."""
    n_bytes: int
    findings: tuple[str, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class ExcludedEntry:
    """A frame that the observer excluded, or included again."""

    place: str
    """The series or the file."""
    frame: int | None
    """Index in the series; null for a file."""
    excluded: bool
    why: str
    who: str
    when: datetime


@dataclass(frozen=True, kw_only=True)
class RemovalEntry:
    """What ``ostcal prune`` removes, would remove, or keeps."""

    place: str
    """The series, or the master in the store."""
    what: str
    """series or master."""
    files: tuple[str, ...]
    """Its other copies: FITS and XISF files of a master, FITS copies of a series."""
    action: str
    """remove (dry run), removed, kept or failed."""
    n_bytes: int
    """Of all copies."""
    why: str


@dataclass(frozen=True, kw_only=True)
class DeviceEntry:
    """A device of an Alpaca server."""

    host: str
    port: int
    kind: str
    number: int
    name: str


@dataclass(frozen=True, kw_only=True)
class DueEntry:
    """A series that will be due."""

    kind: str
    """bias, dark or flat."""
    exposure_time_s: Number
    """Of darks."""
    filter: str | None
    frames: int
    present: int
    """Frames that this night has already."""
    reason: str
    settings: str = ""
    """Of the matrix of darks: gain, temperature and what else its series differ in."""


@dataclass(frozen=True, kw_only=True)
class VisitEntry:
    """A visit of ``ostcal schedule`` to come."""

    at: datetime
    night: str
    """The date of its evening."""
    frames: int
    """To take, if all visits before it take everything."""
    time_s: float
    """For these frames, about."""
    due: tuple[DueEntry, ...]


@dataclass(frozen=True, kw_only=True)
class FoundEntry:
    """Frames that belong together, as ``ostcal FOLDER`` finds them."""

    kind: str
    """bias, dark, flat or light."""
    frames: int
    exposure_time_s: Number
    filter: str | None
    camera: str | None
    camera_id: str | None
    gain: Number
    offset: Number
    binning: tuple[int, ...]
    readout_mode: str | None
    temperature_c: Number
    width: int
    height: int
    first_frame: str
    """Name of the first of them."""
    becomes: str
    """master (with its night, where another group is of another night), light, or why nothing is made of them."""


@dataclass(frozen=True, kw_only=True)
class ValueEntry:
    """A key of the configuration in force."""

    key: str
    """With its section: master_frames.sigma_low."""
    value: Any
    """As it would be written in YAML; secrets are left out."""
    source: str
    """default, a file, a variable of the environment or an option."""
    line: int | None
    """In that file."""


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """The two files of a report."""

    html: str
    json: str


@dataclass(frozen=True, kw_only=True)
class CommandDocument:
    """What one command did."""

    command: str
    """Its name, such as masters."""
    software: str
    """The program and its version."""
    began_at: datetime
    ended_at: datetime
    exit_code: int
    """0 success, 1 something could not be made, 2 wrong configuration or options, 3 a master failed its quality
    control or, of coverage, lights lack masters, 130 interrupted, 143 ended by SIGTERM."""
    ending: Ending
    """The exit code in a word; warning is exit code 0 with warnings."""
    config_file: str | None = None
    log_file: str | None = None
    directory: str | None = None
    """Where results were written; of library, where the masters are."""
    warnings: tuple[str, ...] = ()
    """The lines that were printed as warnings."""
    errors: tuple[str, ...] = ()
    """The lines that were printed as errors; not empty unless the exit code is 0 or 3."""
    verdict: str | None = None
    """The worst verdict of the masters: pass, warn or fail; null where none has one."""
    report: ReportFiles | None = None
    masters: tuple[MasterEntry, ...] = ()
    not_made: tuple[str, ...] = ()
    """One line for each master that could not be made; they are among the errors too."""
    calibrated: tuple[CalibratedEntry, ...] = ()
    series: tuple[SeriesEntry, ...] = ()
    copies: tuple[CopyEntry, ...] = ()
    verified: tuple[VerifiedEntry, ...] = ()
    excluded: tuple[ExcludedEntry, ...] = ()
    removals: tuple[RemovalEntry, ...] = ()
    devices: tuple[DeviceEntry, ...] = ()
    coverage: Coverage | None = None
    """Of coverage: which masters lights would be calibrated with, and what they lack."""
    files: tuple[str, ...] = ()
    """Other files that were written, such as those of export."""
    visits: tuple[VisitEntry, ...] = ()
    """Of schedule with --dry-run: the coming week."""
    groups: tuple[FoundEntry, ...] = ()
    """Of ostcal FOLDER: the frames there."""
    lacking: tuple[str, ...] = ()
    """Of ostcal FOLDER: one line for each thing that is missing; they are among the warnings too."""
    commands: tuple[str, ...] = ()
    """Of ostcal FOLDER: what makes masters of the frames, and calibrates the lights."""
    values: tuple[ValueEntry, ...] = ()
    """Of config show: every key of the configuration in force."""


def document_text(document: CommandDocument) -> str:
    """Return a document as strict JSON, without secrets in addresses."""
    head = {"format": FORMAT, "schema_version": SCHEMA_VERSION}
    values = head | values_without_secrets(to_values_with_nulls(document))
    if document.coverage is not None and len(document.coverage.groups) > _MOST_GROUPS_INDENTED:
        return json.dumps(values, allow_nan=False)
    return json_text(values)


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of the document."""
    head = {"format": {"const": FORMAT}, "schema_version": {"const": SCHEMA_VERSION}}
    return schema_of_class(CommandDocument, "What a command of ostcal did", head)


def schema_text() -> str:
    """Return the schema as ``docs/automation.md`` shows it."""
    return json_text(json_schema())
