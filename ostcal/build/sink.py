"""Where the strips of a master go: into the store, and beside it into its FITS file and its scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal.fits.unfinished import UnfinishedImage
from ostcal.library.planes import MasterWriter, Plane
from ostcal.library.store import MasterStore
from ostcal.measure.masters.strip_scan import StripScan


class RowSink(Protocol):
    """Takes finished rows of a master beside the store; small and picklable where the strips are combined elsewhere."""

    def add_rows(
        self, start: int, *, master: NDArray[np.float32], std: NDArray[np.float32], n_used: NDArray[np.uint16] | None
    ) -> None:
        """Take rows that begin at ``start``; of flats without ``n_used``, which is copied packed."""


@dataclass(frozen=True, kw_only=True)
class FitsSink:
    """The samples of the FITS file of a master."""

    image: UnfinishedImage

    def add_rows(
        self, start: int, *, master: NDArray[np.float32], std: NDArray[np.float32], n_used: NDArray[np.uint16] | None
    ) -> None:
        """Write rows of the image."""
        self.image.write_rows(start, master)


@dataclass(frozen=True, kw_only=True)
class ScanSink:
    """The scan of a master, where its strips are combined by threads of this process."""

    scan: StripScan

    def add_rows(
        self, start: int, *, master: NDArray[np.float32], std: NDArray[np.float32], n_used: NDArray[np.uint16] | None
    ) -> None:
        """Scan rows of bias frames and darks; what is not scanned here is read when the master is judged."""
        if n_used is not None:
            self.scan.add_rows(start, master=master, std=std, n_used=n_used)


@dataclass(frozen=True, kw_only=True)
class StoreSink:
    """The planes of one master in the store; implements `ostcal.engine.tasks.StripSink`."""

    store: str
    name: str
    read_again: tuple[Plane, ...] = ("master", "std")
    """Images that are read before the master is finished: these go through the page cache."""
    beside: tuple[RowSink, ...] = ()
    """What takes the rows too."""

    @property
    def writer(self) -> MasterWriter:
        """The writer of the planes."""
        return MasterStore(self.store).writer(self.name)

    @property
    def row_step(self) -> int:
        """Rows that are stored together."""
        return self.writer.chunk_rows

    def write_rows(
        self, start: int, *, master: NDArray[np.float32], n_used: NDArray[np.uint16], std: NDArray[np.float32]
    ) -> tuple[int, ...]:
        """Write the three planes of the rows that begin at ``start``; return a checksum of each."""
        checksums = self.writer.write_rows(start, master=master, n_used=n_used, std=std, read_again=self.read_again)
        for sink in self.beside:
            sink.add_rows(start, master=master, std=std, n_used=n_used)
        return checksums

    def write_divided(
        self, start: int, combined: StoreSink, *, master: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        """Write the images of a strip, and its sample counts as `combined` has them, not even unpacked."""
        writer = self.writer
        writer.write_plane("master", start, master, past_cache="master" not in self.read_again)
        writer.write_plane("std", start, std, past_cache="std" not in self.read_again)
        writer.copy_plane("n_used", start, combined.writer)
        for sink in self.beside:
            sink.add_rows(start, master=master, std=std, n_used=None)

    def read_rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read rows of the master plane."""
        return self.writer.read_rows("master", start, stop)

    def read_std(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read rows of the plane of standard deviations."""
        return self.writer.read_rows("std", start, stop)
