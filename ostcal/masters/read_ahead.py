"""Reading the planes of a master one strip ahead of who goes through them from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from ostcal.measure.master_scan import Plane, PlaneReader


@contextmanager
def read_ahead(read_rows: PlaneReader, height: int) -> Iterator[PlaneReader]:
    """Give a reader that has the next rows of a plane ready when they are asked for.

    Decompressing takes as long as judging, and needs no Python: with both at once 61 MP are judged in 0.5 s in place of
    0.85 s. When a single master is finished, the other cores have nothing to do.
    """
    coming: dict[tuple[Plane, int, int], Future[NDArray[Any]]] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="ostcal-ahead") as pool:

        def read(plane: Plane, start: int, stop: int) -> NDArray[Any]:
            future = coming.pop((plane, start, stop), None)
            next_stop = min(height, 2 * stop - start)
            if next_stop > stop:
                coming[plane, stop, next_stop] = pool.submit(read_rows, plane, stop, next_stop)
            return read_rows(plane, start, stop) if future is None else future.result()

        try:
            yield read
        finally:
            pool.shutdown(cancel_futures=True)
