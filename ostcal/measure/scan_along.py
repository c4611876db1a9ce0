"""Going through a master while it is combined: what a strip has written is still in the cache.

Afterwards its planes would have to be read again, 0.6 GB for 61 MP, and kept in the page cache for that.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

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


class ScanAlong:
    """A scan whose bands are put together from the strips of the master, whatever their heights and order.

    The result is that of `ostcal.measure.master_scan.scan_master`, to the bit. Threads may add strips at the same time.

    Parameters
    ----------
    shape : (height, width)
    kind : FrameType
    model : NoiseModel
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
        *,
        bayer: bool = False,
        limits: DefectLimits = DEFAULT_LIMITS,
        bands_at_once: int = 8,
    ) -> None:
        self.model = model
        self._pass = MasterPass(shape=shape, kind=kind, model=model, bayer=bayer, limits=limits)
        self._bands_at_once = bands_at_once
        self._lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._begun: set[int] = set()
        self._done: set[int] = set()
        self._rooms: list[_Room] = []
        self._places: list[NDArray[np.int64]] = []

    def add_rows(self, start: int, *, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> None:
        """Take the rows of a strip that begins at `start`; each row of the master comes once."""
        stop, scan = start + len(master), self._pass
        for index in self._touched(start, stop):
            first, last = scan.rows_of(index)
            own = slice(int(scan.edges[index]) - start, int(scan.edges[index + 1]) - start)
            if start <= first and last <= stop:
                self._scan(scan.band(index, master[first - start : last - start], std[own], n_used[own]))
            else:
                self._fill(index, start, master, std, n_used)

    def result(self, read_rows: PlaneReader, *, step_rows: int, threads: int = 1) -> MasterScan:
        """Read what has not come, as of strips that an earlier run left, and give the scan."""
        missing = [index for index in range(self._pass.n_bands) if index not in self._done]
        self._waiting.clear()
        self._rooms.clear()
        logger.debug("%d of %d bands were scanned with the strips", len(self._done), self._pass.n_bands)
        if missing:
            self._pass.go_through(read_rows, missing, step_rows, threads)
        return self._pass.result()

    def _touched(self, start: int, stop: int) -> range:
        """Give the bands that need some of these rows."""
        edges = self._pass.edges
        first = int(np.searchsorted(edges, start - HALO, side="right")) - 1
        return range(max(0, first), min(self._pass.n_bands, int(np.searchsorted(edges, stop + HALO, side="left"))))

    def _scan(self, band: Band) -> None:
        with self._lock:
            places = self._places.pop() if self._places else None
        if places is None:
            places = self._pass.places()
        self._pass.add(band, places)
        with self._lock:
            self._done.add(band.index)
            self._places.append(places)

    def _fill(self, index: int, start: int, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> None:
        """Copy what a strip has of a band, and go through the band where nothing is missing any more."""
        first, last = self._pass.rows_of(index)
        waiting = self._waiting_for(index)
        if waiting is None:
            return
        top, bottom = max(first, start), min(last, start + len(master))
        edges = int(self._pass.edges[index]), int(self._pass.edges[index + 1])
        room = waiting.room
        room.master[top - first : bottom - first] = master[top - start : bottom - start]
        top, bottom = max(edges[0], top), min(edges[1], bottom)
        if top < bottom:
            room.std[top - edges[0] : bottom - edges[0]] = std[top - start : bottom - start]
            room.n_used[top - edges[0] : bottom - edges[0]] = n_used[top - start : bottom - start]
        with self._lock:
            waiting.missing -= min(last, start + len(master)) - max(first, start)
            is_whole = waiting.missing == 0
        if is_whole:
            n_rows = edges[1] - edges[0]
            self._scan(self._pass.band(index, room.master[: last - first], room.std[:n_rows], room.n_used[:n_rows]))
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
