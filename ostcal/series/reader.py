"""A series as it is on disk: its settings, its committed frames, and where series are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.codec import check_document
from ostcal.errors import FrameError, StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.places.fingerprint import fingerprint_rows, rows_fingerprint
from ostcal.places.paths import AnyPath, Location, VisitedFolders, is_dir, joined, normalized, path_of, walk
from ostcal.series.format import (
    FORMAT,
    FRAMES,
    LEDGER,
    METADATA_FILE,
    STORE_ENDING,
    listed,
    read_metadata,
    series_header,
    short,
    unusable,
)
from ostcal.series.record import Decision, FrameRecord, checksum, read_exclusions, read_ledger
from ostcal.series.stack import ZarrStack, stored_frames

_LONGER_BY = 0.05
_LONGER_BY_S = 0.05
"""How much the exposure of a frame may differ from that of its series: shutters and clocks are not exact."""
_SETTINGS = tuple(each.name for each in fields(CameraSettings) if each.name != "row_order")
_MOST_LINES = 5


@dataclass(frozen=True, kw_only=True)
class Series:
    """What a series holds: its settings and its committed frames."""

    location: str
    frame_type: FrameType
    n_planned: int
    height: int
    width: int
    dtype: str
    settings: Mapping[str, Any]
    software: str
    records: tuple[FrameRecord, ...]
    """Records of the usable frames, by index; excluded ones are among them."""
    problems: tuple[str, ...]
    """One line for each frame that cannot be used."""
    contradictions: tuple[str, ...] = ()
    """Lines about what records and attributes say differently; the frames are used."""
    has_chunk_checksums: bool = False
    """Whether every strip is checked when it is read; frames of other series are checked as a whole only."""
    excluded: Mapping[int, Decision] = field(default_factory=dict)
    """Frames that are left out of masters by decision, by index; capture and export keep them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(n_frames, height, width)`` of the frames that are committed."""
        return len(self.records), self.height, self.width

    def stack(self, indices: Sequence[int] | None = None) -> ZarrStack:
        """Return committed frames as a stack, all of them by default."""
        chosen = [record.index for record in self.records] if indices is None else indices
        return ZarrStack(self.location, tuple(chosen))

    def read_frame(self, index: int) -> NDArray[Any]:
        """Read one whole frame in its own dtype and verify its checksum; FrameError where it is not committed."""
        record = next((record for record in self.records if record.index == index), None)
        if record is None:
            raise FrameError(f"{self.location}: there is no frame {index}; there are {listed(self.records)}")
        return read_committed(self.location, record)


def open_series(location: Location) -> Series:
    """Open a series for reading.

    Raises
    ------
    StorageError
        If it is not a series of this package, or is damaged as a whole. Single damaged frames are named in
        `Series.problems` instead, and left out.
    """
    path = path_of(location)
    header = series_header(path)
    frames = stored_frames(str(path), fresh=True)
    n_planned, height, width = frames.shape
    records, problems = read_ledger(path / LEDGER)
    for record in records:
        size = (record.metadata.height, record.metadata.width)
        if size != (height, width) or record.index >= n_planned:
            raise StorageError(
                f"{path}: the record of frame {record.index} says {size[1]} x {size[0]} pixels, but the array has"
                f" {n_planned} frames of {width} x {height}; records and frames are of different series"
            )
    held = frames.held([record.index for record in records])
    absent = [record.index for record in records if record.index not in held]
    lost = [str(unusable(str(path), index, "its shard is missing")) for index in absent]
    excluded, undecided = read_exclusions(path / LEDGER)
    usable = tuple(record for record in records if record.index not in absent and record.index not in undecided)
    committed = {record.index for record in records}
    unread = [line for index, line in undecided.items() if index in committed]
    usable, beyond = _within_type(path, frames.dtype, usable)
    usable, changed, contradictions = _without_contradictions(path_of(location), header, usable)
    return Series(
        location=str(path),
        frame_type=FrameType(header["frame_type"]),
        n_planned=n_planned,
        height=height,
        width=width,
        dtype=frames.dtype,
        settings=header.get("settings", {}),
        software=str(header.get("software", "")),
        records=usable,
        problems=(*problems, *lost, *unread, *beyond, *changed),
        contradictions=contradictions,
        has_chunk_checksums=frames.layout is not None and frames.layout.checksums,
        excluded={record.index: excluded[record.index] for record in usable if record.index in excluded},
    )


def _within_type(
    path: AnyPath, dtype: str, records: tuple[FrameRecord, ...]
) -> tuple[tuple[FrameRecord, ...], list[str]]:
    """Return the records whose samples the type of the array can hold, and a line for each other one.

    Types that differ in the sign alone have the same bytes, and no checksum tells them apart: 60000 of ``uint16`` is
    -5536 of ``int16``.
    """
    if np.dtype(dtype).kind not in "iu":
        return records, []
    limits = np.iinfo(dtype)
    kept, beyond = [], []
    for record in records:
        stated = (record.pixels.statistics.minimum, record.pixels.statistics.maximum)
        outside = [value for value in stated if value is not None and not limits.min <= value <= limits.max]
        if not outside:
            kept.append(record)
            continue
        beyond.append(
            f"{path}: frame {record.index} cannot be used: its record says samples of {outside[0]:g}, which the type"
            f" {dtype} of its array cannot hold; restore {path / FRAMES / METADATA_FILE} from a copy"
        )
    return tuple(kept), beyond


def _without_contradictions(
    path: AnyPath, header: Mapping[str, Any], records: tuple[FrameRecord, ...]
) -> tuple[tuple[FrameRecord, ...], list[str], tuple[str, ...]]:
    """Return the records that can be believed, a line for each other one, and for what is said differently besides.

    Where most records say the same, the attributes of the series were changed. Else a record of an older version, which
    has no checksum, may have been.
    """
    attributes = path / METADATA_FILE
    as_records_say = "its frames are used as their records say; restore it from a copy"
    said_differently: list[str] = []
    changed: dict[int, str] = {}
    try:
        check_document(header)
    except ValueError as error:
        said_differently.append(f"{attributes}: {error}; {as_records_say}")
    shared = {**header.get("settings", {}), "frame_type": header["frame_type"]}
    for name, said in shared.items():
        differing = [record for record in records if _differs(name, said, record)]
        if 2 * len(differing) > len(records):
            own = short(_of_record(name, differing[0]))
            said_differently.append(f"{attributes}: says {name} {short(said)}, its records {own}; {as_records_say}")
            continue
        for record in differing:
            own = short(_of_record(name, record))
            line = f"{path}: the record of frame {record.index} says {name} {own}, the series {short(said)}"
            if record.checksum:
                said_differently.append(f"{line}; the frame is used as its record says")
            else:
                changed[record.index] = (
                    f"{line}; the frame is left out; restore its record from a copy, or delete the frame"
                )
    n_more = len(said_differently) - _MOST_LINES
    if n_more > 0:
        said_differently[_MOST_LINES:] = [f"{path}: {n_more} more records say something else than the series"]
    kept = tuple(record for record in records if record.index not in changed)
    return kept, list(changed.values()), tuple(said_differently)


def _of_record(name: str, record: FrameRecord) -> Any:
    """Return what a record says of a setting of its series; ``None`` where it does not say it."""
    if name == "binning":
        return list(record.metadata.settings.binning)
    if name in ("frame_type", "filter_name", "exposure_time_s"):
        return getattr(record.metadata, name)
    value = getattr(record.metadata.settings, name) if name in _SETTINGS else None
    return list(value) if isinstance(value, tuple) else value


def _differs(name: str, said: Any, record: FrameRecord) -> bool:
    """Return whether a record contradicts its series; what one of them lacks says nothing."""
    own = _of_record(name, record)
    if own is None or said is None:
        return False
    if name != "exposure_time_s":
        return bool(own != said)
    if record.metadata.frame_type is FrameType.FLAT or not isinstance(said, int | float):
        return False  # exposures of flats follow the sky
    return bool(abs(own - said) > _LONGER_BY_S + _LONGER_BY * max(own, said))


def check_identity(location: str, index: int, fingerprint: str) -> None:
    """Read the three rows by which a frame is known; FrameError where they are not those of its record."""
    frames = stored_frames(location)
    _, height, width = frames.shape
    rows = np.empty((3, width), frames.dtype)
    for position, row in enumerate(fingerprint_rows(height)):
        frames.read(index, row, rows[position : position + 1])
    if fingerprint and rows_fingerprint(rows, height=height) != fingerprint:
        raise unusable(
            location, index, "its samples are not those of its record: one of them is of another frame, or was changed"
        )


def read_committed(location: str, record: FrameRecord) -> NDArray[Any]:
    """Read the whole frame of a record, in its own dtype; FrameError where it is missing, or not what was written."""
    frames = stored_frames(location)
    frame = np.empty(frames.shape[1:], frames.dtype)
    frames.read(record.index, 0, frame)
    if checksum(frame) != record.pixels.checksum:
        raise unusable(location, record.index, "its samples are not those that were written (checksum)")
    return frame


def find_series(directories: Iterable[Location]) -> list[str]:
    """Find series in directories and below them, sorted; series themselves may be among the directories.

    Everything named ``*.zarr`` is found, so that opening says what is wrong with it, but not stores that say
    themselves that they hold something else. Hidden directories are passed over.
    """
    found: set[str] = set()
    visited = VisitedFolders()
    for directory in directories:
        root = normalized(directory)
        if _is_store_name(root):
            found.add(root)
            continue
        for parent, below, _ in walk(root, followlinks=True):
            if not visited.is_new(parent):
                below.clear()
                continue
            found.update(joined(parent, name) for name in below if _is_store_name(name))
            below[:] = [name for name in below if not name.startswith(".") and not _is_store_name(name)]
    return sorted(location for location in found if not _is_of_other_format(location))


def _is_store_name(name: str) -> bool:
    base = os.path.basename(name)
    return base.lower().endswith(STORE_ENDING) and not base.startswith(".")


def _is_of_other_format(location: str) -> bool:
    try:
        metadata = read_metadata(path_of(location) / METADATA_FILE, location)
    except StorageError:
        return False
    match metadata:
        case {"attributes": {"format": str(name)}}:  # one with a ledger is a series, whatever its attributes say now
            return name != FORMAT and not is_dir(joined(location, LEDGER))
    return False
