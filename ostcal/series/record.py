"""The ledger of a series: one small JSON object per committed frame, written after the frame's samples.

A frame whose record does not exist does not exist. Records are written to a temporary name, fsync'ed and renamed,
so that each is complete or absent. A decision to leave a frame out lies beside its record.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ostcal.codec import (
    CHECKSUM_KEY,
    between,
    check_document,
    checksum_of,
    from_values,
    matching,
    parse_json,
    to_json,
    to_values,
)
from ostcal.frames import FrameMetadata
from ostcal.places.durable import os_reason, read_bounded, storage_errors, write_atomically
from ostcal.places.fingerprint import fingerprint_rows, rows_fingerprint
from ostcal.places.objects import ObjectPath
from ostcal.places.paths import AnyPath, in_parallel, names_in

MAX_RECORD_BYTES = 1 << 20
MAX_INDEX = 999_999
MAX_EXCLUSION_BYTES = 1 << 20
MAX_REASON_LENGTH = 1000
"""Characters of the reason why a frame is left out."""
_KEPT_DECISIONS = 100
"""Newest decisions that are kept of a frame: of `MAX_REASON_LENGTH`, six bytes a character, they have 0.6 MB."""

RECORD_NAME = re.compile(r"\d{6}\.json")
EXCLUSION_NAME = re.compile(r"\d{6}\.excluded\.json")
_HISTOGRAM_BLOCK = 1 << 20
"""Samples that are counted at once: 61 MP take 0.08 s in such blocks, 0.4 s in blocks of 65,536, and never 0.5 GB."""
AnyPlace = TypeVar("AnyPlace", Path, ObjectPath, AnyPath)

Index = Annotated[int, between(0, MAX_INDEX)]
Count = Annotated[int, between(0, 2**63 - 1)]
HeaderCard = Annotated[str, matching(r"[\x00-\xff]{80}", "a FITS card of 80 characters")]
"""Real headers hold characters that FITS forbids; they are kept as the bytes that they are (Latin-1)."""


@dataclass(frozen=True, kw_only=True)
class FrameStatistics:
    """Statistics of the finite samples of one frame, in ADU; ``None`` if there are none."""

    mean: float | None
    median: float | None
    std: float | None
    """Population standard deviation."""
    minimum: float | None
    maximum: float | None
    saturated: Count
    """Samples at or above the saturation level."""
    not_finite: Count
    """NaN and infinite samples, which the others leave out."""


@dataclass(frozen=True, kw_only=True)
class FramePixels:
    """What a record says of the samples themselves."""

    checksum: Annotated[str, matching("crc32:[0-9a-f]{8}", "a checksum such as crc32:0123abcd")]
    """``crc32:`` and eight hexadecimal digits: CRC-32 of the samples as stored, little-endian, row by row."""
    fingerprint: Annotated[str, matching("([0-9a-f]{40})?", "a fingerprint of 40 hexadecimal digits")]
    """See `ostcal.places.fingerprint`: recognises the same frame in FITS and in zarr; empty where it cannot."""
    statistics: FrameStatistics


@dataclass(frozen=True, kw_only=True)
class FrameCheck:
    """One check of a frame while it was captured: what was measured, and the limit that it was compared with."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class FrameRecord:
    """The ledger's record of one committed frame."""

    index: Index
    metadata: FrameMetadata
    pixels: FramePixels
    date_end: datetime | None = None
    """End of the exposure, UTC, timezone-aware."""
    requested_exposure_time_s: float | None = None
    cooler_power_percent: float | None = None
    checks: tuple[FrameCheck, ...] = ()
    """What was checked while it was captured."""
    source: str | None = None
    """Name of the file from which the frame was imported."""
    header: tuple[HeaderCard, ...] = ()
    """Every card of the FITS header it was imported with, 80 characters each, without END; of a frame from a camera,
    the cards of its overscan."""
    primary_header: tuple[HeaderCard, ...] = ()
    """Of an image of a file of several: the primary header of the file; ``header`` is that of the image alone."""
    hdu_index: Index | None = None
    """Of an image of a file of several: its place in the file."""
    checksum: str = field(default="", compare=False)
    """Of the record itself, as it was read; "" of records of older versions, which have none."""

    def to_json(self) -> bytes:
        """Return the record as JSON, with its checksum; ValueError where it exceeds `MAX_RECORD_BYTES`."""
        values = to_values(self)
        data = to_json({**values, CHECKSUM_KEY: checksum_of(values)}, indent=1)
        if len(data) >= MAX_RECORD_BYTES:
            raise ValueError(
                f"the record has {len(data)} bytes, {MAX_RECORD_BYTES} are possible: its header is too long"
            )
        return data + b"\n"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A decision to leave a frame out of masters, or to take it in again."""

    excluded: bool
    why: str
    who: str
    """Such as ``anna@dome``."""
    when: datetime
    """UTC, timezone-aware."""


@dataclass(frozen=True, kw_only=True)
class FrameDecisions:
    """All decisions about one frame, the oldest first; the last one counts."""

    index: Index
    decisions: tuple[Decision, ...]


def describe_pixels(frame: NDArray[Any], *, saturation_adu: float | None = None) -> FramePixels:
    """Measure the samples of a frame, (height, width) in ADU and native byte order, for its record.

    Samples at or above `saturation_adu` count as saturated. By default that is the largest value of an integer dtype;
    floating-point samples then count none.
    """
    plain = np.ascontiguousarray(frame)
    if saturation_adu is None and plain.dtype.kind in "iu":
        saturation_adu = float(np.iinfo(plain.dtype).max)
    return FramePixels(
        checksum=checksum(plain),
        fingerprint=rows_fingerprint(plain[list(fingerprint_rows(len(plain)))], height=len(plain)),
        statistics=frame_statistics(plain, saturation_adu=saturation_adu),
    )


def checksum(frame: NDArray[Any]) -> str:
    """Return the CRC-32 of a frame's samples, little-endian and row by row (0.02 s for 61 MP of uint16)."""
    plain = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
    return f"crc32:{zlib.crc32(plain.reshape(-1).view(np.uint8).data):08x}"


def frame_statistics(frame: NDArray[Any], *, saturation_adu: float | None) -> FrameStatistics:
    """Measure a frame of any real dtype; exact for integers of 8 and 16 bits."""
    if frame.dtype.kind in "iu" and frame.dtype.itemsize <= 2:
        return _exact_statistics(frame, saturation_adu)
    finite = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame.ravel()
    not_finite = frame.size - finite.size
    if finite.size == 0:
        nothing = dict.fromkeys(("mean", "median", "std", "minimum", "maximum"))
        return FrameStatistics(**nothing, saturated=0, not_finite=not_finite)
    return FrameStatistics(
        mean=_finite_or_none(finite.mean(dtype=np.float64)),
        median=_finite_or_none(np.median(finite)),
        std=_finite_or_none(finite.std(dtype=np.float64)),
        minimum=float(finite.min()),
        maximum=float(finite.max()),
        saturated=0 if saturation_adu is None else int(np.count_nonzero(finite >= saturation_adu)),
        not_finite=not_finite,
    )


def _exact_statistics(frame: NDArray[Any], saturation_adu: float | None) -> FrameStatistics:
    """Measure a frame of 8 or 16 bits from the counts of its values, in whole numbers."""
    lowest_adu = int(np.iinfo(frame.dtype).min)
    words = frame.reshape(-1).view(f"u{frame.dtype.itemsize}")
    n_values = 1 << (8 * frame.dtype.itemsize)
    counts = np.zeros(n_values, np.int64)
    for start in range(0, words.size, _HISTOGRAM_BLOCK):
        counts += np.bincount(words[start : start + _HISTOGRAM_BLOCK], minlength=n_values)
    if frame.dtype.kind == "i":
        counts = np.roll(counts, n_values // 2)
    steps = np.arange(n_values)  # values are these plus `lowest_adu`
    n, step_sum = int(counts.sum()), int(counts @ steps)
    square_sum = int(counts @ steps**2)  # below 2**63 for frames of fewer than 2**31 pixels
    lower, upper = np.searchsorted(np.cumsum(counts), [(n - 1) // 2, n // 2], side="right")
    present = np.flatnonzero(counts) + lowest_adu
    return FrameStatistics(
        mean=step_sum / n + lowest_adu,
        median=(int(lower) + int(upper)) / 2 + lowest_adu,
        std=math.sqrt(n * square_sum - step_sum**2) / n,
        minimum=float(present[0]),
        maximum=float(present[-1]),
        saturated=0 if saturation_adu is None else int(counts[steps + lowest_adu >= saturation_adu].sum()),
        not_finite=0,
    )


def _finite_or_none(value: Any) -> float | None:
    """Return a statistic that overflowed as ``None``: JSON has no infinity."""
    return float(value) if math.isfinite(value) else None


# ---- the ledger as files ----


def record_path(directory: AnyPlace, index: int) -> AnyPlace:
    """Return where the record of a frame lies."""
    return directory / f"{index:06d}.json"


def write_record(directory: AnyPath, record: FrameRecord) -> None:
    """Commit a frame: write its record so that it is complete on disk, or absent; OSError where that fails."""
    write_atomically(record_path(directory, record.index), record.to_json(), durable=True)


def read_ledger(directory: AnyPath) -> tuple[tuple[FrameRecord, ...], tuple[str, ...]]:
    """Read all records of a series, sorted by index; return also a line for each that cannot be used, with what to do.

    Raise StorageError for a directory that cannot be listed.
    """

    def read(path: AnyPath) -> FrameRecord | str:
        try:
            return _read_record(path)
        except (ValueError, OSError) as error:
            return (
                f"{path}: this frame is left out, its record cannot be used: {os_reason(error)};"
                " restore the record from a copy, or delete it to have the frame taken again"
            )

    records: list[FrameRecord] = []
    problems: list[str] = []
    paths = [directory / name for name in _names(directory, RECORD_NAME)]
    for found in in_parallel(directory, read, paths):
        if isinstance(found, FrameRecord):
            records.append(found)
        else:
            problems.append(found)
    return tuple(records), tuple(problems)


def find_record(directory: AnyPath, index: int) -> FrameRecord | None:
    """Read the record of a frame; ``None`` if it is missing or damaged."""
    try:
        return _read_record(record_path(directory, index))
    except (ValueError, OSError):
        return None


def _read_record(path: AnyPath) -> FrameRecord:
    values = parse_json(read_bounded(path, MAX_RECORD_BYTES))
    check_document(values)
    record = from_values(FrameRecord, values)
    if record.index != int(path.stem):
        raise ValueError(f"it is of frame {record.index}, not of frame {int(path.stem)} as its name says")
    return record


# ---- frames that are left out ----


def exclusion_path(directory: AnyPlace, index: int) -> AnyPlace:
    """Return where the decisions about a frame lie: beside its record, which they leave as it is."""
    return directory / f"{index:06d}.excluded.json"


def write_decision(directory: AnyPath, index: int, decision: Decision) -> None:
    """Add a decision about a frame, complete on disk or absent; a damaged file of decisions is replaced."""
    path = exclusion_path(directory, index)
    try:
        earlier = _read_decisions(path).decisions
    except (ValueError, FileNotFoundError):
        earlier = ()
    kept = FrameDecisions(index=index, decisions=(*earlier, decision)[-_KEPT_DECISIONS:])
    values = to_values(kept)
    document = {**values, CHECKSUM_KEY: checksum_of(values)}
    write_atomically(path, to_json(document, indent=1) + b"\n", durable=True)


def read_exclusions(directory: AnyPath) -> tuple[dict[int, Decision], dict[int, str]]:
    """Read which frames are left out by their last decision, and why, by index.

    Return also a line for each frame whose decisions cannot be read: somebody had a reason, it should be left out too.
    """
    excluded: dict[int, Decision] = {}
    problems: dict[int, str] = {}
    for name in _names(directory, EXCLUSION_NAME):
        path, index = directory / name, int(name[:6])
        try:
            last = _read_decisions(path).decisions[-1]
        except (ValueError, OSError) as error:
            problems[index] = (
                f"{path}: this frame is left out, it cannot be read why it was excluded: {os_reason(error)};"
                f" say it again with ostcal exclude --frame {index}, with --include to use the frame"
            )
            continue
        if last.excluded:
            excluded[index] = last
    return excluded, problems


def _read_decisions(path: AnyPath) -> FrameDecisions:
    values = parse_json(read_bounded(path, MAX_EXCLUSION_BYTES))
    check_document(values)
    kept = from_values(FrameDecisions, values)
    if kept.index != int(path.name[:6]):
        raise ValueError(f"it is of frame {kept.index}, not of frame {int(path.name[:6])} as its name says")
    if not kept.decisions:
        raise ValueError("it holds no decision")
    return kept


# ---- files that are complete or absent ----


def _names(directory: AnyPath, pattern: re.Pattern[str]) -> list[str]:
    with storage_errors(f"{directory}: the ledger of the series cannot be read"):
        return sorted(name for name in names_in(directory) if pattern.fullmatch(name))
