"""What is hand-written in places/ and fits/ against a library: figures of docs/architecture.md.

usage: python bench/hand_written.py [DIRECTORY]      (needs 1 GB there; each figure is the best of several tries)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 6388, 9576  # 61 MP
N_FRAMES = 40


def best_s(function: Callable[[], object], tries: int = 5) -> tuple[float, float]:
    """Return the least seconds of several runs: by the clock, and of the processor (with child processes)."""
    wall, processor = [], []
    for _ in range(tries):
        start, before = time.perf_counter(), sum(os.times()[:4])
        function()
        wall.append(time.perf_counter() - start)
        processor.append(sum(os.times()[:4]) - before)
    return min(wall), min(processor)


def show(what: str, seconds: tuple[float, float]) -> None:
    """Print one figure; that of the processor says more where other programs run."""
    print(f"{what:<72} {seconds[0] * 1000:7.0f} ms, processor {seconds[1] * 1000:6.0f} ms", flush=True)


def imports() -> None:
    """Time imports, each in a process of its own, against one that imports numpy only."""
    for module in (
        "numpy",
        "numpy, ostcal.fits.read",
        "numpy, astropy.io.fits",
        "numpy, obstore.store",
        "numpy, fsspec",
    ):
        show(f"import {module}", best_s(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)))  # noqa: B023


def reading(folder: Path) -> None:
    """Inspect 40 files, and read strips of 64 rows of all of them."""
    from astropy.io import fits

    from ostcal.fits.read import FitsStack, inspect_fits

    paths = [folder / f"{index}.fits" for index in range(N_FRAMES)]
    for path in paths:
        header = fits.Header({f"KEY{number}": number for number in range(60)})
        fits.PrimaryHDU(np.full((1000, 4000), 1000, np.uint16), header).writeto(path)
    show("40 headers, ours (with metadata)", best_s(lambda: [inspect_fits(path) for path in paths]))
    show("40 headers, astropy.io.fits", best_s(lambda: [fits.getheader(path)["NAXIS1"] for path in paths]))
    stack = FitsStack(tuple(inspect_fits(path) for path in paths))
    block = np.empty((N_FRAMES, 64, 4000), np.uint16)

    def with_astropy(start: int) -> None:
        for index, path in enumerate(paths):
            with fits.open(path, memmap=False) as hdus:
                block[index] = hdus[0].section[start : start + 64]

    starts = range(0, 960, 64)
    show("320 MB in strips of 64 rows, ours", best_s(lambda: [stack.read_rows(s, s + 64, block) for s in starts]))
    show("320 MB in strips of 64 rows, astropy.io.fits", best_s(lambda: [with_astropy(s) for s in starts], 2))

    thin = np.empty((N_FRAMES, 8, 4000), np.uint16)

    def kept(start: int) -> None:
        with stack.opened(start, start + 64) as rows:
            for first in range(start, start + 64, 8):
                rows.read_rows(first, first + 8, thin)

    def opened_anew(start: int) -> None:
        for first in range(start, start + 64, 8):
            stack.read_rows(first, first + 8, thin)

    show("320 MB in blocks of 8 rows, files kept open for a strip", best_s(lambda: [kept(s) for s in starts]))
    show("320 MB in blocks of 8 rows, files opened for each", best_s(lambda: [opened_anew(s) for s in starts]))


def local_store(folder: Path) -> None:
    """Read the same strips through the local stores of obstore and fsspec, and look 40 names up."""
    import fsspec
    import obstore
    from obstore.store import LocalStore

    from ostcal.places.paths import path_of, size_of

    store, system = LocalStore(str(folder)), fsspec.filesystem("file")
    block = np.empty((N_FRAMES, 64 * 4000), np.uint16)
    names = [f"{index}.fits" for index in range(N_FRAMES)]
    n_bytes = block[0].nbytes

    def with_obstore(start: int) -> None:
        for index, name in enumerate(names):
            data = obstore.get_range(store, name, start=start * 8000 + 8640, end=start * 8000 + 8640 + n_bytes)
            block[index] = np.frombuffer(data, np.uint16)

    def with_fsspec(start: int) -> None:
        for index, name in enumerate(names):
            with system.open(str(folder / name), "rb") as file:
                file.seek(start * 8000 + 8640)
                file.readinto(block[index])

    starts = range(0, 832, 64)
    show("320 MB in strips of 64 rows, obstore LocalStore", best_s(lambda: [with_obstore(s) for s in starts], 3))
    show("320 MB in strips of 64 rows, fsspec", best_s(lambda: [with_fsspec(s) for s in starts], 3))
    show("1000 sizes, ours", best_s(lambda: [size_of(str(folder / name)) for name in names * 25]))
    show("1000 paths, ours", best_s(lambda: [path_of(str(folder / name)) for name in names * 25]))
    show("1000 sizes, obstore LocalStore", best_s(lambda: [obstore.head(store, name) for name in names * 25]))
    show("1000 sizes, fsspec", best_s(lambda: [system.size(str(folder / name)) for name in names * 25]))
    try:
        import upath
    except ImportError:
        return
    show("1000 paths, universal-pathlib", best_s(lambda: [upath.UPath(str(folder / name)) for name in names * 25]))


def writing(folder: Path) -> None:
    """Write a master of 61 MP, past the page cache and through it, and with its samples written before."""
    from ostcal.fits import write
    from ostcal.fits.unfinished import UnfinishedImage

    values: NDArray[Any] = np.random.default_rng(1).normal(1000, 5, (HEIGHT, WIDTH)).astype(np.float32)
    plane = write.ImagePlane(
        dtype="float32", height=HEIGHT, width=WIDTH, read_rows=lambda start, stop: values[start:stop]
    )
    path = str(folder / "master.fits")
    show("245 MB past the page cache", best_s(lambda: write.write_fits(path, [plane], overwrite=True)))
    with mock.patch.object(os, "O_DIRECT", 0):
        show("245 MB through the page cache", best_s(lambda: write.write_fits(path, [plane], overwrite=True)))
    early = UnfinishedImage(
        path=path, header_length=write.header_length([plane]), height=HEIGHT, width=WIDTH
    )  # fmt: skip
    ends = []
    for _ in range(5):
        early.begin()
        for start in range(0, HEIGHT, 128):
            early.write_rows(start, values[start : start + 128])
        ends.append(best_s(lambda: write.write_fits(path, [plane], overwrite=True, begun=early), 1))
    show("245 MB whose samples were written with the strips, its end alone", min(ends))


def locking(folder: Path) -> None:
    """Take and release locks."""
    from ostcal.places.locking import locked

    def ours() -> None:
        for _ in range(100):
            with locked(folder / "lock", what="this"):
                pass

    show("100 locks, ours", best_s(ours))
    try:
        import filelock
    except ImportError:
        return

    def theirs() -> None:
        for _ in range(100):
            with filelock.SoftFileLock(str(folder / "lock2")):
                pass

    show("100 locks, filelock.SoftFileLock", best_s(theirs))


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        imports()
        locking(Path(folder))
        reading(Path(folder))
        local_store(Path(folder))
        writing(Path(folder))


if __name__ == "__main__":
    main()
