"""The history of masters, for years: the numbers of each master that is made, one JSON object a line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ostcal.codec import from_json, to_json
from ostcal.errors import StorageError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.measure.findings import Outcome
from ostcal.opening import open_regular
from ostcal.places.durable import os_reason, storage_errors
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import joined, open_binary, path_of, sync_directory

HISTORY_NAME = "quality_history.jsonl"
MAX_BYTES = 64 << 20
"""Bytes that are read, from the end of the file: 50,000 masters."""
_TRIES = 10
"""Times that an object is written again because another run added to it at the same moment."""


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


def subject_of(key: GroupKey) -> str:
    """Return what masters of a key are followed as: ``dark 5 s, gain 100, -10 C``."""
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
    words += [f"ISO {settings.iso:g}"] if settings.iso is not None else []
    words += [f"{settings.coadds} coadds"] if settings.coadds not in (None, 1) else []
    origin = settings.subframe_origin
    words += [f"from {origin[0]} {origin[1]}"] if origin is not None and any(origin) else []
    words += ["bottom-up"] if settings.row_order == "BOTTOM-UP" else []
    words += [settings.flip] if settings.flip not in (None, "none") else []
    words += [f"{round(key.temperature_c):d} C"] if key.temperature_c is not None else []
    return ", ".join([*words, f"{key.width} x {key.height}"])


def add_to_history(output_dir: str, entries: Sequence[HistoryEntry]) -> None:
    """Append a run's masters with one write; they are on the disk when this returns, or it is a StorageError."""
    lines = b"".join(to_json(entry) + b"\n" for entry in entries)
    path = path_of(joined(output_dir, HISTORY_NAME))
    if isinstance(path, ObjectPath):
        _append_to_object(path, lines)
        return
    with storage_errors(f"{path}: the history cannot be written"):
        with open(path, "a+b", opener=open_regular) as file:
            is_new = file.tell() == 0
            if not is_new:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a run that was killed left half a line
                    file.write(b"\n")
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_directory(path.parent)


def _append_to_object(path: ObjectPath, lines: bytes) -> None:
    """Write the whole object again with the new lines, from the newest state of it."""
    for _ in range(_TRIES):
        try:
            state = path.state()
        except FileNotFoundError:
            if path.create(lines):
                return
            continue
        before = path.read_range(0, state.size)
        if path.replace_if(before + (b"" if before.endswith(b"\n") else b"\n") + lines, state.e_tag):
            return
    raise StorageError(f"{path}: the history cannot be written: it was changed {_TRIES} times meanwhile")


def history_of(output_dir: str) -> list[HistoryEntry]:
    """Read all entries, oldest first; lines that are damaged or of another version are skipped."""
    path = joined(output_dir, HISTORY_NAME)
    try:
        with open_binary(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            lines = file.read(MAX_BYTES).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path}: the history cannot be read: {os_reason(error)}") from error
    entries = []
    for line in lines:
        with contextlib.suppress(ValueError):
            entries.append(from_json(HistoryEntry, line))
    return entries
