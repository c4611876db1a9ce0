"""Going through a master while it is combined: what a strip has written is still in the cache.

Afterwards its planes would have to be read again, 0.6 GB for 61 MP, and kept in the page cache for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.defects import DEFAULT_LIMITS, DefectLimits, NoiseModel
from ostcal.measure.master_scan import HALO, Band, MasterPass, MasterScan, PlaneReader

logger = logging.getLogger(__name__)

FloatMap = NDArray[np.float32]


class _Room:
    """The planes of a band."""

    def __init__(self, scan: MasterPass) -> None:
        height, width = scan.most_rows, scan.shape[1]
        self.master = np.empty((height + 2 * HALO, width), np.float32)
        self.std = np.empty((height, width), np.float32)
        self.n_used = np.empty((height, width), np.uint16)


@dataclass(kw_only=True)
class _Waiting:
    """A band of which not all rows have come."""

    room: _Room
    missing: int
    """Rows of the master."""


@dataclass(frozen=True, kw_only=True)
class _Strip:
    """Rows of the planes."""

    start: int
    master: FloatMap
    std: FloatMap
    n_used: NDArray[np.uint16]

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + len(self.master)


class ScanCrowd:
    """The scans of a run that go along with strips now; one too many ends the oldest, as that of a master that failed.

    Parameters
    ----------
    at_once : int
        Scans that are begun and not ended, at most; each has 10 MB for 61 MP, and its bands.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running: dict[ScanAlong, _Running] = {}
        self._ended: set[ScanAlong] = set()

    def joined(self, scan: ScanAlong, new: Callable[[], _Running]) -> _Running | None:
        """Give the state of a scan, which is begun where it was not; ``None`` where it was ended."""
        with self._lock:
            if scan not in self._running and scan not in self._ended:
                if len(self._running) >= self._at_once:
                    self._end(next(iter(self._running)))
                self._running[scan] = new()
            return self._running.get(scan)

    def left(self, scan: ScanAlong) -> _Running | None:
        """End a scan, and give its state where it still has one."""
        with self._lock:
            return self._end(scan)

    def _end(self, scan: ScanAlong) -> _Running | None:
        self._ended.add(scan)
        return self._running.pop(scan, None)


class ScanAlong:
    """A scan whose bands are put together from the strips of the master, whatever their heights and order.

    The result is that of `ostcal.measure.master_scan.scan_master`, to the bit. Threads may add strips at the same time.

    Parameters
    ----------
    shape : (height, width)
    kind : FrameType
    model : NoiseModel
    crowd : ScanCrowd
        The scans of the run.
    bayer : bool
    limits : DefectLimits
    bands_at_once : int
        Bands that wait for the rest of their rows, at most; others are left to `result`.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        kind: FrameType,
        model: NoiseModel,
        crowd: ScanCrowd,
        *,
        bayer: bool = False,
        limits: DefectLimits = DEFAULT_LIMITS,
        bands_at_once: int = 8,
    ) -> None:
        self._new_pass = partial(MasterPass, shape=shape, kind=kind, model=model, bayer=bayer, limits=limits)
        self._crowd = crowd
        self._bands_at_once = bands_at_once

    def add_rows(self, start: int, *, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> None:
        """Take a strip.

        Parameters
        ----------
        start : int
            Its first row; each row of the master comes once.
        master, std, n_used : (n_rows, width) arrays of float32, float32, uint16
            May change afterwards.
        """
        running = self._crowd.joined(self, self._new_running)
        if running is not None:
            running.add(_Strip(start=start, master=master, std=std, n_used=n_used))

    def result(self, read_rows: PlaneReader, *, step_rows: int, threads: int = 1) -> MasterScan:
        """Give the scan when all strips have come; once.

        Parameters
        ----------
        read_rows : callable (plane, start, stop) -> (stop - start, width)
            As for `scan_master`; reads what did not come, as of strips that an earlier run left.
        step_rows, threads : int
            As for `scan_master`.
        """
        running = self._crowd.left(self) or self._new_running()
        return running.result(read_rows, step_rows, threads)

    def _new_running(self) -> _Running:
        return _Running(self._new_pass(), self._bands_at_once)


class _Running:
    """The state of a scan that goes along."""

    def __init__(self, scan: MasterPass, bands_at_once: int) -> None:
        self._pass = scan
        self._bands_at_once = bands_at_once
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._begun: set[int] = set()
        self._done: set[int] = set()
        self._rooms: list[_Room] = []
        self._places: list[NDArray[np.int64]] = []

    def add(self, strip: _Strip) -> None:
        """Go through the bands that are whole with this strip."""
        scan, start = self._pass, strip.start
        for index in _touched(scan, strip):
            first, last = scan.rows_of(index)
            if start <= first and last <= strip.stop:
                own = slice(int(scan.edges[index]) - start, int(scan.edges[index + 1]) - start)
                rows = strip.master[first - start : last - start]
                self._scan(scan.band(index, rows, strip.std[own], strip.n_used[own]))
            else:
                self._fill(index, strip)

    def result(self, read_rows: PlaneReader, step_rows: int, threads: int) -> MasterScan:
        """Read the bands that are missing, and end the scan."""
        scan = self._pass
        missing = [index for index in range(scan.n_bands) if index not in self._done]
        logger.debug("%d of %d bands were scanned with the strips", len(self._done), scan.n_bands)
        if missing:
            self._waiting.clear()
            self._rooms.clear()
            scan.go_through(read_rows, missing, step_rows, threads)
        return scan.result()

    def _scan(self, band: Band) -> None:
        with self._lock:
            places = self._places.pop() if self._places else None
        if places is None:
            places = self._pass.places()
        self._pass.add(band, places)
        with self._lock:
            self._done.add(band.index)
            self._places.append(places)

    def _fill(self, index: int, strip: _Strip) -> None:
        """Copy what a strip has of a band, and go through the band where nothing is missing any more."""
        waiting = self._waiting_for(index)
        if waiting is None:
            return
        scan = self._pass
        first, last = scan.rows_of(index)
        start, stop = int(scan.edges[index]), int(scan.edges[index + 1])
        room = waiting.room
        copied = _copy(strip.master, strip.start, room.master, first, last)
        _copy(strip.std, strip.start, room.std, start, stop)
        _copy(strip.n_used, strip.start, room.n_used, start, stop)
        with self._lock:
            waiting.missing -= copied
            is_whole = waiting.missing == 0
        if is_whole:
            n_rows = stop - start
            self._scan(scan.band(index, room.master[: last - first], room.std[:n_rows], room.n_used[:n_rows]))
            with self._lock:
                del self._waiting[index]
                self._rooms.append(room)

    def _waiting_for(self, index: int) -> _Waiting | None:
        """Give the room of a band; none where too many wait, or where it was refused one before."""
        with self._lock:
            if index not in self._begun:
                self._begun.add(index)
                if len(self._waiting) < self._bands_at_once:
                    first, last = self._pass.rows_of(index)
                    room = self._rooms.pop() if self._rooms else _Room(self._pass)
                    self._waiting[index] = _Waiting(room=room, missing=last - first)
            return self._waiting.get(index)


def _touched(scan: MasterPass, strip: _Strip) -> range:
    """Give the bands that need some rows of a strip."""
    first = int(np.searchsorted(scan.edges, strip.start - HALO, side="right")) - 1
    end = int(np.searchsorted(scan.edges, strip.stop + HALO, side="left"))
    return range(max(0, first), min(scan.n_bands, end))


def _copy(rows: NDArray[Any], at: int, room: NDArray[Any], first: int, last: int) -> int:
    """Copy those of some rows, which begin at row `at`, that are within rows `first` to `last`; gives their number."""
    top, bottom = max(first, at), min(last, at + len(rows))
    if top >= bottom:
        return 0
    room[top - first : bottom - first] = rows[top - at : bottom - at]
    return bottom - top
