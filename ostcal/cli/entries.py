"""Entries of the document of ``--json``, from what the rooms below return."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ostcal.cli.document import (
    AgeEntry,
    CalibratedEntry,
    FoundEntry,
    MasterEntry,
    ValueEntry,
)
from ostcal.events.event import MasterOfEvent, SeriesEntry

if TYPE_CHECKING:
    from ostcal.build.request import MadeMaster
    from ostcal.build.run import BuildReport
    from ostcal.capture.series_plan import SeriesOutcome
    from ostcal.config import ShownValue
    from ostcal.library.attributes import MasterRecord
    from ostcal.library.find import LibraryMaster
    from ostcal.science.preview import FoundGroup

_AGES = {"bias": "AGEBIAS", "dark": "AGEDARK", "flat": "AGEFLAT"}


def _of_record(record: MasterRecord, now: datetime) -> dict[str, Any]:
    """Return the fields of a `MasterEntry` that are stored with a master."""
    key, settings = record.key, record.key.settings
    age_days = (now - record.made_at).total_seconds() / 86400 if record.made_at else None
    observed = record.observed
    return {
        "name": record.name,
        "frames": record.n_frames,
        "made_at": record.made_at.isoformat() if record.made_at else None,
        "age_days": round(age_days, 3) if age_days is not None else None,
        "taken_from": observed.first.isoformat() if observed else None,
        "taken_to": observed.last.isoformat() if observed else None,
        "taken_at": observed.middle.isoformat() if observed else None,
        "taken_age_days": round(observed.age_days(now), 3) if observed else None,
        "verdict": record.verdict,
        "calibration_id": record.calibration_id or None,
        "file": record.files[0] if record.files else None,
        "kind": str(key.frame_type),
        "exposure_time_s": key.exposure_time_s,
        "filter": key.filter_name,
        "camera": settings.camera,
        "camera_id": settings.camera_id,
        "extension": settings.extension,
        "gain": settings.gain,
        "offset": settings.offset,
        "binning": tuple(settings.binning),
        "readout_mode": settings.readout_mode,
        "temperature_c": key.temperature_c,
        "width": key.width,
        "height": key.height,
        "bayer_pattern": key.bayer_pattern,
    }


def library_entry(master: LibraryMaster, now: datetime) -> MasterEntry:
    """Return a master of the library."""
    return MasterEntry(state="in_library", **_of_record(master.record, now))


def built_entries(report: BuildReport, masters_dir: str, now: datetime) -> tuple[MasterEntry, ...]:
    """Return the masters of a run: those that were made, and those that are unchanged."""
    from ostcal.library.attributes import record_from_attributes
    from ostcal.library.find import store_location
    from ostcal.library.store import MasterStore

    store = MasterStore(store_location(masters_dir))
    made = []
    for master in report.made:
        entry = MasterEntry(
            state="made",
            **_of_record(record_from_attributes(master.name, store.attributes(master.name)), now),
            files=_distinct(path for _, path in master.files),
            mean=master.result.mean,
            rejected_share=master.result.rejected_share,
            findings=tuple(master.quality_lines),
        )
        made.append(entry)
    unchanged = [
        dataclasses.replace(
            library_entry(found.stored, now), state="unchanged", files=_distinct(path for _, path in found.files)
        )
        for found in report.unchanged
    ]
    return (*made, *unchanged)


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def calibrated_entries(frames: Mapping[str, Mapping[str, Any]]) -> tuple[CalibratedEntry, ...]:
    """Return the frames that `CalibrationApplier` names in its status."""
    return tuple(
        CalibratedEntry(
            source=source,
            file=frame["file"],
            calibration_status=frame["calibration_status"],
            masters=tuple(frame["masters"]),
            master_files=tuple(frame["master_files"]),
            ages=ages_of(frame["file"]),
        )
        for source, frame in frames.items()
    )


def ages_of(path: str) -> tuple[AgeEntry, ...]:
    """Return the ages of the masters that the header of a calibrated file states."""
    from ostcal.fits.cards import Header
    from ostcal.fits.read import inspect_images

    header = Header(inspect_images(path)[0].cards)
    days = {kind: header.number(card, low=-1e6, high=1e6) for kind, card in _AGES.items()}
    return tuple(AgeEntry(kind=kind, days=age) for kind, age in days.items() if age is not None)


def captured_entries(outcomes: Sequence[SeriesOutcome]) -> tuple[SeriesEntry, ...]:
    """Return the series of an evening, each once: a step may come back to a series of an earlier one."""
    from ostcal.workflow.hooks import series_entry

    entries: dict[str, SeriesEntry] = {}
    for outcome in outcomes:
        before = entries.get(outcome.location)
        entry = series_entry(outcome, before.added if before is not None else 0)
        problems = (*(before.problems if before is not None else ()), *entry.problems)
        entries[outcome.location] = dataclasses.replace(entry, problems=problems)
    return tuple(entries.values())


def published_of_event(published: MadeMaster) -> MasterOfEvent:
    """Return a master that was just published as events name it."""
    key = published.group.key
    return MasterOfEvent(
        name=published.name,
        kind=str(key.frame_type),
        exposure_time_s=key.exposure_time_s,
        filter=key.filter_name,
        frames=len(published.group.frames),
        verdict=str(published.verdict) if published.verdict is not None else None,
        files=_distinct(path for _, path in published.files),
        findings=tuple(published.quality_lines),
    )


def masters_of_events(masters: Iterable[MasterEntry]) -> tuple[MasterOfEvent, ...]:
    """Return the masters that were made as events name them."""
    return tuple(
        MasterOfEvent(
            name=master.name,
            kind=master.kind,
            exposure_time_s=master.exposure_time_s,
            filter=master.filter,
            frames=master.frames,
            verdict=master.verdict,
            files=master.files,
            findings=master.findings,
        )
        for master in masters
        if master.state == "made"
    )


def found_entries(groups: Sequence[FoundGroup]) -> tuple[FoundEntry, ...]:
    """Return the groups of a preview."""
    return tuple(
        FoundEntry(
            kind=str(group.key.frame_type),
            frames=group.frames,
            exposure_time_s=group.key.exposure_time_s,
            filter=group.key.filter_name,
            camera=group.key.settings.camera,
            camera_id=group.key.settings.camera_id,
            gain=group.key.settings.gain,
            offset=group.key.settings.offset,
            binning=tuple(group.key.settings.binning),
            readout_mode=group.key.settings.readout_mode,
            temperature_c=group.key.temperature_c,
            width=group.key.width,
            height=group.key.height,
            first_frame=group.first_frame,
            becomes=group.becomes,
        )
        for group in groups
    )


def value_entries(values: Sequence[ShownValue]) -> tuple[ValueEntry, ...]:
    """Return the keys of a configuration with the places of their values."""
    return tuple(
        ValueEntry(key=".".join(shown.path), value=shown.value, source=shown.place.label, line=shown.place.line)
        for shown in values
    )
