"""Strips of masters in the store: where they go, what takes them too, and when those of an earlier run serve again.

A strip is taken from an earlier run only if everything that decides its bytes is the same. `WorkKey` says so of what
is known before work begins: frames, method, treatment, strips, versions. What is known only then (noise of the
series, scales, rows of the darks) is in the key of each strip, which `ostcal.engine.tasks` makes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ostcal._version import __version__
from ostcal.codec import from_values, to_values
from ostcal.engine.rejection import RejectionMethod
from ostcal.engine.tasks import PixelRange, StripResult
from ostcal.fits.unfinished import UnfinishedImage
from ostcal.frames import FrameStack
from ostcal.inputs.gather import Source
from ostcal.library.planes import MasterWriter, Plane
from ostcal.library.store import MasterStore
from ostcal.measure.masters.strip_scan import StripScan
from ostcal.places.paths import path_of, version_of
from ostcal.series.format import LEDGER
from ostcal.series.record import record_path

_FORMAT = 1
"""Of the digests here and of the kept results; to be raised with every change of any."""
_NUMERIC = ("numpy", "numba")
"""Packages whose versions may change the last bit."""


@dataclass(frozen=True, kw_only=True)
class WorkKey:
    """Tells the frames of a master from all others, and work on them from other work.

    Every digest is a SHA-256 in hexadecimal, and empty where a frame is no longer there: combining will name it.
    """

    frames: tuple[tuple[Any, ...], ...] | None
    """Of each frame its label, its fingerprint, and size and time of its file; ``None`` where one is gone."""

    @classmethod
    def of(cls, members: Sequence[Source]) -> WorkKey:
        """Look at the files of frames; the same file with other contents is another frame."""
        files = [
            path_of(source.fits.source)
            if source.fits is not None
            else record_path(path_of(source.series) / LEDGER, source.index)
            for source in members
        ]
        try:
            versions = [version_of(file) for file in files]
        except OSError:
            return cls(frames=None)
        labels = [(source.frame.label, source.identity) for source in members]
        return cls(frames=tuple((*label, *found) for label, found in zip(labels, versions, strict=True)))

    def recipe(self, decided: dict[str, Any]) -> str:
        """Return the digest of all that decides a master, by which a later run finds it unchanged.

        It holds what the user can change: frames, settings and darks. What is measured beside (the gain, on the
        frames of all groups) is not in it, or a new flat would make all darks again.
        """
        return self._digest(version=__version__, frames=self.frames, **decided)

    def strips(self, method: RejectionMethod, stack: FrameStack, strip_rows: int, flat: list[str] | None) -> str:
        """Return the digest of all that decides, before work begins, what the strips of a master hold.

        `flat` has the exposures and the scaling of flats; it is ``None`` for bias and darks.
        """
        return self._digest(
            versions=_versions(),
            method=repr(method),
            shape=stack.shape,
            encoding=repr(stack.encoding),
            strip_rows=strip_rows,
            flat=flat,
            frames=self.frames,
        )

    def survey(self, stack: FrameStack, dark: str, *, common_level: bool) -> str:
        """Return the digest of all that decides a survey; `dark` is that of the survey of its dark, or ``none``."""
        return self._digest(
            versions=_versions(),
            shape=stack.shape,
            encoding=repr(stack.encoding),
            row_step=stack.row_step,
            common_level=common_level,
            dark=dark,
            frames=self.frames,
        )

    def _digest(self, **work: Any) -> str:
        if self.frames is None:
            return ""
        return hashlib.sha256(json.dumps({"format": _FORMAT, **work}).encode("ascii")).hexdigest()


def _versions() -> list[str]:
    return [__version__, *(version(package) for package in _NUMERIC)]


# ---- where strips go ----


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

    store: MasterStore
    name: str
    read_again: tuple[Plane, ...] = ("master", "std")
    """Images that are read before the master is finished: these go through the page cache."""
    beside: tuple[RowSink, ...] = ()
    """What takes the rows too."""

    @property
    def writer(self) -> MasterWriter:
        """The writer of the planes."""
        return self.store.writer(self.name)

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


# ---- strips of an earlier run ----


@dataclass(frozen=True, kw_only=True)
class _KeptStrip:
    """What is stored of a strip; floats as hexadecimal text, to their last bit."""

    key: str
    rejected_per_frame: tuple[int, ...]
    n_samples: int
    invalid: int
    empty_pixels: int
    minimum: str
    maximum: str
    row_sums: tuple[str, ...]
    count: int


@dataclass(frozen=True, kw_only=True)
class StoreMemory:
    """Results of strips beside their planes in the store; implements `ostcal.engine.tasks.StripMemory`."""

    store: MasterStore
    name: str

    def recall(self, start: int, key: str) -> StripResult | None:
        """Return the result of the strip that begins at ``start``, if it was written whole and `key` is the same."""
        document = self.store.writer(self.name).kept_result(start)
        try:
            kept = from_values(_KeptStrip, document)
            minimum, maximum = float.fromhex(kept.minimum), float.fromhex(kept.maximum)
            row_sums = np.array([float.fromhex(value) for value in kept.row_sums], np.float64)
        except (ValueError, OverflowError):  # none is kept, or it is damaged
            return None
        if kept.key != key or np.isnan(row_sums).any():
            return None
        return StripResult(
            rejected_per_frame=np.array(kept.rejected_per_frame, np.int64),
            n_samples=kept.n_samples,
            invalid=kept.invalid,
            empty_pixels=kept.empty_pixels,
            pixels=PixelRange(minimum=minimum, maximum=maximum, row_sums=row_sums, count=kept.count),
            read_s=0.0,  # the earlier run spent it
            combine_s=0.0,
            write_s=0.0,
        )

    def remember(self, start: int, key: str, result: StripResult, checksums: Sequence[int]) -> None:
        """Keep the result of a strip that was written, with the checksums of its planes."""
        pixels = result.pixels
        kept = _KeptStrip(
            key=key,
            rejected_per_frame=tuple(int(count) for count in result.rejected_per_frame),
            n_samples=result.n_samples,
            invalid=result.invalid,
            empty_pixels=result.empty_pixels,
            minimum=pixels.minimum.hex(),
            maximum=pixels.maximum.hex(),
            row_sums=tuple(float(value).hex() for value in pixels.row_sums),
            count=pixels.count,
        )
        self.store.writer(self.name).keep_result(start, to_values(kept), checksums)
