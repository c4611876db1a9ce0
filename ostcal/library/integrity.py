"""What is at rest, checked: frames against their records, masters and FITS files against their checksums. Read only.

Every function returns findings, one line each, and none if all is well; damage raises nothing.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from ostcal.codec import parse_json
from ostcal.errors import FrameError, OstcalError, StorageError
from ostcal.fits.cards import Header
from ostcal.fits.checksum import OnesSum
from ostcal.fits.hdus import Unit, read_units
from ostcal.fits.read import inspect_fits
from ostcal.fits.unpack import check_gzip
from ostcal.library.planes import DTYPES, MAX_METADATA_BYTES, PLANES, Plane, StoredMaster, plane_bytes, read_grid
from ostcal.library.store import BYTES_KEY, MasterStore
from ostcal.places.durable import PARTIAL_ENDING, os_reason, read_bounded
from ostcal.places.fingerprint import fingerprint_rows, rows_fingerprint
from ostcal.places.paths import directories_in, files_below, joined, names_in, open_binary, path_of
from ostcal.series.format import LEDGER, METADATA_FILE
from ostcal.series.reader import Series, open_series, read_committed
from ostcal.series.record import EXCLUSION_NAME, RECORD_NAME, FrameRecord, frame_statistics
from ostcal.xisf.blocks import check_block
from ostcal.xisf.header import read_header

_MOST_LINES = 5
"""Lines about the chunks of one plane: a truncated disk damages thousands."""
_SUM_BYTES = 1 << 24
"""Bytes of a FITS file that are summed at once."""
_ALL_ONES = 0xFFFFFFFF


# ---- series ----


def check_series(location: str) -> tuple[Series | None, list[str]]:
    """Check a series without reading samples: metadata, records, what belongs to nothing.

    Return the series, ``None`` where it cannot be opened, and the findings.
    """
    try:
        series = open_series(location)
    except OstcalError as error:
        return None, [str(error)]
    return series, [*series.problems, *series.contradictions, *_strays_of_series(location)]


def _strays_of_series(location: str) -> list[str]:
    try:
        committed = {name[:6] for name in names_in(joined(location, LEDGER)) if RECORD_NAME.fullmatch(name)}
    except OSError as error:
        return [f"{location}: its ledger cannot be listed: {os_reason(error)}"]
    strays = []
    for inside in files_below(location):
        path = joined(location, *inside.split("/"))
        match inside.split("/"):
            case ["zarr.json"] | ["frames", "zarr.json"]:
                continue
            case ["ledger", name] if RECORD_NAME.fullmatch(name):
                continue
            case ["ledger", name] if EXCLUSION_NAME.fullmatch(name):
                if name[:6] not in committed:
                    strays.append(f"{path}: it is about a frame that is not there; delete it")
            case ["frames", "c", index, "0", "0"] if index.isdecimal():
                if f"{int(index):06d}" not in committed:
                    strays.append(f"{path}: samples without a record, of a frame that was never committed")
            case _:
                strays.append(_stray(path))
    return strays


def _stray(path: str) -> str:
    if PARTIAL_ENDING in path:
        return f"{path}: half-written; the next run that writes here sweeps it, if none is writing now"
    return f"{path}: it belongs to nothing here; move it away"


def check_frame(location: str, record: FrameRecord) -> list[str]:
    """Read all samples of a frame and compare them with its record: checksum, fingerprint, statistics."""
    try:
        frame = read_committed(location, record)
    except OstcalError as error:
        return [str(error)]
    where = f"{location}: the record of frame {record.index}"
    findings = []
    known = record.pixels.fingerprint
    if known and known != rows_fingerprint(frame[list(fingerprint_rows(len(frame)))], height=len(frame)):
        findings.append(f"{where} has a fingerprint that is not of its samples")
    stated, found = record.pixels.statistics, frame_statistics(frame, saturation_adu=None)
    for name in ("minimum", "maximum", "mean", "median", "std", "not_finite"):
        own, measured = getattr(stated, name), getattr(found, name)
        if None in (own, measured):
            agree = own is measured
        else:  # sums of floats may differ with the version of numpy
            agree = math.isclose(own, measured, rel_tol=1e-6, abs_tol=1e-9)
        if not agree:
            findings.append(f"{where} says {name} {own}, its samples {measured}")
    return findings


# ---- the master store ----


def check_store(location: str) -> tuple[list[str], list[str]]:
    """Check a master store without reading samples; return the names of its complete masters, and findings."""
    store = MasterStore(location)
    findings = []
    try:
        names = store.names()
        below = [path.name for path in directories_in(location)]
        others = sorted(set(names_in(location)) - set(below))
    except (OstcalError, OSError) as error:
        return [], [f"{location}: the masters cannot be listed: {os_reason(error)}"]
    path = path_of(joined(location, METADATA_FILE))
    try:
        match parse_json(read_bounded(path, MAX_METADATA_BYTES)):
            case {"zarr_format": 3, "node_type": "group", "attributes": {"format": "ostcal-masters"}}:
                pass
            case _:
                findings.append(
                    f"{path}: it does not describe a store of masters; other programs cannot open the store"
                )
    except (ValueError, OSError) as error:
        findings.append(f"{path}: cannot be read: {os_reason(error)}; other programs cannot open the store")
    for name in sorted(set(below) - set(names)):
        where = joined(location, name)
        findings.append(f"{where}: an unfinished master; the next run sweeps it, if none is writing it now")
    findings += [_stray(joined(location, name)) for name in others if name != METADATA_FILE]
    return names, findings


def damage_at_a_glance(location: str, name: str, *, is_judged: bool) -> str | None:
    """Return what is wrong with a master in a store, as far as is seen without reading all of it.

    Its metadata and attributes are read and compared with their checksum, its chunks must be there, hold bytes and have
    together the size that they were written with, and the first and the last of each plane are compared with their
    checksums and with those in the attributes. `is_judged` says whether quality control added its plane of defects.
    """
    try:
        stated = MasterStore(location).attributes(name).get(BYTES_KEY)
        master = _opened(location, name)
        sizes = files_below(master.location)
        for plane in DTYPES:
            if plane == "dq" and not is_judged:
                continue
            if not master.has(plane):
                return f"{joined(master.location, plane, METADATA_FILE)}: is missing"
            for chunk in range(master.grid.n_chunks):
                if not sizes.get(f"{plane}/{master.grid.chunk_name(chunk)}"):
                    return f"{joined(master.location, plane, master.grid.chunk_name(chunk))}: is missing or empty"
            found = plane_bytes(sizes, [plane], master.grid)[plane]
            if isinstance(stated, dict) and stated.get(plane, found) != found:
                return f"{joined(master.location, plane)}: its chunks have {found} bytes, {stated[plane]} were written"
            for row in (0, master.shape[0] - 1):
                master.read_rows(plane, row, row + 1)
    except (StorageError, OSError) as error:
        return " ".join(str(error).split())
    return None


def _opened(location: str, name: str) -> StoredMaster:
    """Open a master with all its metadata as they are on the disk now."""
    store = MasterStore(location)
    store.attributes(name)
    grid = read_grid(path_of(joined(location, name)))
    return replace(store.open(name), grid=grid)


def check_stored_master(location: str, name: str) -> list[str]:
    """Read all planes of a master in the store, chunk by chunk, and compare them with its attributes."""
    store = MasterStore(location)
    try:
        attributes = store.attributes(name)
        master = _opened(location, name)
    except OstcalError as error:
        return [str(error)]
    findings = []
    if (attributes.get("height"), attributes.get("width")) != master.shape:
        findings.append(
            f"{master.location}: its attributes say {attributes.get('width')} x {attributes.get('height')} pixels,"
            f" its planes {master.shape[1]} x {master.shape[0]}"
        )
    inputs = attributes.get("inputs")
    most_used = len(inputs) if isinstance(inputs, list) else None
    for plane in DTYPES:
        if plane in PLANES or master.has(plane):
            findings += _check_plane(master, plane, most_used)
    chunks = {master.grid.chunk_name(chunk) for chunk in range(master.grid.n_chunks)}
    for inside in files_below(master.location):
        match inside.split("/"):
            case ["zarr.json"]:
                continue
            case [array, file] if array in DTYPES and (file in chunks or file == METADATA_FILE):
                continue
            case parts:
                findings.append(_stray(joined(master.location, *parts)))
    return findings


def _check_plane(master: StoredMaster, plane: Plane, most_used: int | None) -> list[str]:
    findings = []
    height, largest = master.shape[0], 0
    for start in range(0, height, master.chunk_rows):
        try:
            rows = master.read_rows(plane, start, min(start + master.chunk_rows, height))
        except StorageError as error:
            findings.append(str(error))
            continue
        if plane == "n_used":
            largest = max(largest, int(rows.max()))
    if len(findings) > _MOST_LINES:
        more = len(findings) - _MOST_LINES
        findings[_MOST_LINES:] = [f"{master.location}: {plane}: {more} more chunks are damaged"]
    if most_used is not None and largest > most_used:
        findings.append(f"{master.location}: n_used is up to {largest}, of {most_used} frames; make the master again")
    return findings


# ---- FITS files ----


@dataclass(frozen=True, kw_only=True)
class FitsCheck:
    """What was found of a FITS file."""

    findings: tuple[str, ...]
    header: Header | None = None
    """Of its first unit; ``None`` where it cannot be read."""
    has_checksums: bool = False
    """Whether there was a checksum to compare with; many programs write none."""


def check_fits(path: str) -> FitsCheck:
    """Check that a FITS file is whole and that each DATASUM and CHECKSUM in it is right.

    Of XISF files the checksums of their blocks are compared, of gzip files those of their members.

    DATASUM is the ones' complement sum of the data, CHECKSUM makes that of the whole unit all ones (FITS standard 4.0,
    section 4.4.2.7 and appendix J).
    """
    findings: list[str] = []
    primary: Header | None = None
    has_checksums = False
    try:
        first = inspect_fits(path, first_of_several=True)
        if first.block is not None:
            return _check_xisf(path, Header(first.cards))
        if first.packed == "gzip":
            check_gzip(path)
            return FitsCheck(findings=(), has_checksums=True)
        if first.packed == "raw":
            return FitsCheck(findings=())
        with open_binary(path) as file:
            size, end = file.seek(0, os.SEEK_END), 0
            for unit in read_units(file, path, size):
                primary, end = primary or unit.header, unit.end
                where = f"{path}: {unit.name}"
                if end > size:
                    findings.append(f"{where}: is cut short by {end - size} bytes; copy it again")
                    break
                has_checksums = has_checksums or "DATASUM" in unit.header or "CHECKSUM" in unit.header
                findings += _compare_sums(file, unit, where)
            if end < size:
                findings.append(f"{path}: {size - end} bytes follow its last image, which are no extension")
    except FrameError as error:
        findings.append(str(error))
    except OSError as error:
        findings.append(f"{path}: cannot be read: {os_reason(error)}")
    # a packed file is no master of ours, whatever its header says
    is_packed = primary is not None and first.packed == "fz"
    return FitsCheck(findings=tuple(findings), header=None if is_packed else primary, has_checksums=has_checksums)


def cut_short(path: str) -> str | None:
    """Return a line about a FITS file that ends before its last extension does; ``None`` where it does not."""
    first = inspect_fits(path, first_of_several=True)
    if first.block is not None or first.packed != "none":
        return None
    with open_binary(path) as file:
        size = file.seek(0, os.SEEK_END)
        lacking = max((unit.end for unit in read_units(file, path, size)), default=0) - size
    return f"{path}: is cut short by {lacking} bytes" if lacking > 0 else None


def changed_samples(path: str) -> str | None:
    """Return a line about a FITS or XISF file whose samples are not those of its checksums; ``None`` where they are.

    Its header may have been edited. InputError or OSError where the file cannot be read.
    """
    first = inspect_fits(path, first_of_several=True)
    if first.block is not None:
        return next(iter(_check_xisf(path, Header(first.cards)).findings), None)
    if first.packed != "none":
        return None
    with open_binary(path) as file:
        for unit in read_units(file, path, file.seek(0, os.SEEK_END)):
            stated = (unit.header.text("DATASUM") or "").strip()
            file.seek(unit.data_offset)
            if stated and stated != str(_sum_of(file, unit.end - unit.data_offset)):
                return (
                    f"{path}: {unit.name}: its samples are not those that were written (DATASUM): it is damaged, or"
                    " another program changed it; restore it from a copy, or delete its cards DATASUM and CHECKSUM"
                )
    return None


def _check_xisf(path: str, header: Header) -> FitsCheck:
    """Compare the blocks of all images of an XISF file with their checksums."""
    with open_binary(path) as file:
        images = read_header(file, path, file.seek(0, os.SEEK_END)).images
    findings = []
    for image in images:
        try:
            check_block(path, image.block)
        except FrameError as error:
            findings.append(str(error))
    has_checksums = any(image.block.checksum is not None for image in images)
    return FitsCheck(findings=tuple(findings), header=header, has_checksums=has_checksums)


def _compare_sums(file: BinaryIO, unit: Unit, where: str) -> list[str]:
    """Read a unit and compare it with its DATASUM and CHECKSUM."""
    findings = []
    file.seek(unit.start)
    header_sum, data_sum = _sum_of(file, unit.data_offset - unit.start), _sum_of(file, unit.end - unit.data_offset)
    stated = unit.header.text("DATASUM")
    if stated is not None and stated.strip() != str(data_sum):
        findings.append(f"{where}: DATASUM is {stated.strip()}, its samples give {data_sum}; restore it from a copy")
    if "CHECKSUM" in unit.header:
        whole = OnesSum()
        whole.add_number(header_sum)
        whole.add_number(data_sum)
        if whole.value not in (0, _ALL_ONES):
            what = "samples or header" if stated is None else "samples" if findings else "header"
            findings.append(f"{where}: CHECKSUM is wrong: its {what} changed since it was written")
    return findings


def _sum_of(file: BinaryIO, length: int) -> int:
    total = OnesSum()
    while length > 0:
        data = file.read(min(length, _SUM_BYTES))
        if not data:
            break
        total.add(np.frombuffer(data, np.uint8))
        length -= len(data)
    return total.value
