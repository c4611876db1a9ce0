"""The scan of a master while it is combined: what a strip has written is still in the cache.

Afterwards its planes would have to be read again, 0.6 GB for 61 MP, and kept in the page cache for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.frames import FrameType
from ostcal.measure.limits import DefectLimits
from ostcal.measure.masters.defects import SampleModel
from ostcal.measure.masters.scan import HALO, Band, MasterPass
from ostcal.measure.masters.scan_result import MasterScan, PlaneReader

logger = logging.getLogger(__name__)

FloatMap = NDArray[np.float32]


class RunningScans:
    """The strip scans of a run that are running, `at_once` at most: each has 10 MB for 61 MP, and its bands.

    One too many ends the oldest, as that of a master that failed.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.RLock()
        self._running: dict[StripScan, _ScanState] = {}
        self._ended: set[StripScan] = set()

    def state_of(self, scan: StripScan, new: Callable[[], _ScanState]) -> _ScanState | None:
        """Return the state of a scan, a new one at its first strip; ``None`` after it was ended."""
        with self._lock:
            if scan not in self._running and scan not in self._ended:
                if len(self._running) >= self._at_once:
                    self.end(next(iter(self._running)))
                self._running[scan] = new()
            return self._running.get(scan)

    def end(self, scan: StripScan) -> _ScanState | None:
        """End a scan, and return its state if it still has one."""
        with self._lock:
            self._ended.add(scan)
            return self._running.pop(scan, None)


class StripScan:
    """A scan whose bands are made of the strips of the master, of any heights and in any order.

    The result is that of `ostcal.measure.masters.scan.scan_master`, to the bit. Threads may add strips at the same
    time. At most `bands_at_once` bands wait for the rest of their rows; the others are read by `result`.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        kind: FrameType,
        model: SampleModel,
        running: RunningScans,
        *,
        bayer: bool = False,
        limits: DefectLimits | None = None,
        bands_at_once: int = 8,
    ) -> None:
        self._new_pass = partial(MasterPass, shape, kind, model, bayer=bayer, limits=limits or DefectLimits())
        self._running = running
        self._bands_at_once = bands_at_once

    def add_rows(self, start: int, *, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> None:
        """Scan the bands that are whole with this strip, whose first row is `start`; each row comes once.

        The planes are (n_rows, width) float32, float32 and uint16. They may change afterwards.
        """
        state = self._running.state_of(self, self._new_state)
        if state is not None:
            state.add(start, master, std, n_used)

    def result(self, read_rows: PlaneReader, *, step_rows: int, threads: int = 1) -> MasterScan:
        """Return the scan when all strips have come; once. What did not come, as in an earlier run, is read."""
        state = self._running.end(self) or self._new_state()
        return state.result(read_rows, step_rows, threads)

    def _new_state(self) -> _ScanState:
        return _ScanState(self._new_pass(), self._bands_at_once)


class _BandBuffer:
    """Room for the planes of a band, and the rows of the master that have not come yet."""

    def __init__(self, scan: MasterPass) -> None:
        height, width = scan.most_rows, scan.shape[1]
        self.master = np.empty((height + 2 * HALO, width), np.float32)
        self.std = np.empty((height, width), np.float32)
        self.n_used = np.empty((height, width), np.uint16)
        self.missing_rows = 0


class _ScanState:
    """The state of a scan while strips come."""

    def __init__(self, scan: MasterPass, bands_at_once: int) -> None:
        self._pass = scan
        self._bands_at_once = bands_at_once
        self._lock = threading.Lock()
        self._waiting: dict[int, _BandBuffer] = {}
        self._begun: set[int] = set()
        self._done: set[int] = set()
        self._free_buffers: list[_BandBuffer] = []
        self._free_places: list[NDArray[np.int64]] = []

    def add(self, start: int, master: FloatMap, std: FloatMap, n_used: NDArray[np.uint16]) -> None:
        """Scan the bands that are whole with this strip; copy its rows of the others."""
        scan, stop = self._pass, start + len(master)
        first_band = int(np.searchsorted(scan.edges, start - HALO, side="right")) - 1
        end_band = int(np.searchsorted(scan.edges, stop + HALO, side="left"))
        for index in range(max(0, first_band), min(scan.n_bands, end_band)):
            first, last = scan.rows_of(index)
            top, bottom = int(scan.edges[index]), int(scan.edges[index + 1])
            if start <= first and last <= stop:
                own = slice(top - start, bottom - start)
                rows = master[first - start : last - start]
                self._scan(scan.band(index, rows, std[own], n_used[own]))
                continue
            with self._lock:
                if index not in self._begun:
                    self._begun.add(index)
                    if len(self._waiting) < self._bands_at_once:
                        buffer = self._free_buffers.pop() if self._free_buffers else _BandBuffer(scan)
                        buffer.missing_rows = last - first
                        self._waiting[index] = buffer
                waiting = self._waiting.get(index)
            if waiting is None:  # too many waited when its first rows came: `result` reads it
                continue
            copied = _copy(master, start, waiting.master, first, last)
            _copy(std, start, waiting.std, top, bottom)
            _copy(n_used, start, waiting.n_used, top, bottom)
            with self._lock:
                waiting.missing_rows -= copied
                is_whole = waiting.missing_rows == 0
            if is_whole:
                n = bottom - top
                self._scan(scan.band(index, waiting.master[: last - first], waiting.std[:n], waiting.n_used[:n]))
                with self._lock:
                    del self._waiting[index]
                    self._free_buffers.append(waiting)

    def result(self, read_rows: PlaneReader, step_rows: int, threads: int) -> MasterScan:
        """Read the bands that are missing, and end the scan."""
        scan = self._pass
        missing = [index for index in range(scan.n_bands) if index not in self._done]
        logger.debug("%d of %d bands were scanned with the strips", len(self._done), scan.n_bands)
        if missing:
            self._waiting.clear()
            self._free_buffers.clear()
            scan.add_all(read_rows, missing, step_rows, threads)
        return scan.result()

    def _scan(self, band: Band) -> None:
        with self._lock:
            places = self._free_places.pop() if self._free_places else self._pass.place_buffer()
        self._pass.add(band, places)
        with self._lock:
            self._done.add(band.index)
            self._free_places.append(places)


def _copy(rows: NDArray[Any], at: int, out: NDArray[Any], first: int, last: int) -> int:
    """Copy those of some rows, which begin at row `at`, that are within rows `first` to `last`; return their number."""
    top, bottom = max(first, at), min(last, at + len(rows))
    if top >= bottom:
        return 0
    out[top - first : bottom - first] = rows[top - at : bottom - at]
    return bottom - top
