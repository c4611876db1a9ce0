"""FITS files that a person excludes from masters: a small file beside the masters says which, why, by whom and when.

The frames stay as they are. A file is known by its path and its pixels, so that it stays excluded when it is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ostcal.codec import from_json, to_json
from ostcal.errors import FrameError, StorageError
from ostcal.fits.read import fingerprint, inspect_images
from ostcal.places.durable import os_reason, read_bounded, storage_errors, write_atomically
from ostcal.places.locking import locked
from ostcal.places.paths import absolute, exists, joined, make_directory, path_of
from ostcal.series.record import Decision

FILE_NAME = "excluded_frames.json"
MAX_BYTES = 16 << 20
MAX_REASON_LENGTH = 1000
_KEPT_DECISIONS = 100


@dataclass(frozen=True, kw_only=True)
class ExcludedFile:
    """All decisions about one file, the oldest first; the last one counts."""

    path: str
    """Absolute."""
    fingerprint: str = ""
    """Of its pixels; "" where it is compressed or was not there."""
    date_obs: datetime | None = None
    decisions: tuple[Decision, ...]

    @property
    def decision(self) -> Decision:
        """The one that counts."""
        return self.decisions[-1]


@dataclass(frozen=True, kw_only=True)
class ExcludedFiles:
    """What was decided about files."""

    files: tuple[ExcludedFile, ...] = ()

    def decision_on(self, path: str, mark: str, date_obs: datetime | None) -> Decision | None:
        """Return why a frame is excluded; ``None`` where it is not."""
        place = absolute(path)
        by_path = next((file for file in self.files if file.path == place), None)
        known = by_path or self.moved(mark, date_obs)
        return known.decision if known is not None and known.decision.excluded else None

    def moved(self, mark: str, date_obs: datetime | None) -> ExcludedFile | None:
        """Return the file that has these pixels, wherever it was; ``None`` if there is none."""
        same = (file for file in self.files if mark and file.fingerprint == mark and file.date_obs == date_obs)
        return next(same, None)

    def lost(self) -> list[str]:
        """Return a line for each excluded file that would be used again if it was moved: packed ones."""
        return [
            f"{file.path}: is excluded, and is not there; packed files are known by their path alone: if it was moved,"
            " exclude it again, else forget it with ostcal exclude --undo"
            for file in self.files
            if file.decision.excluded and not file.fingerprint and not exists(file.path)
        ]


def read_excluded_files(masters_dir: str) -> ExcludedFiles:
    """Read what was decided; nothing where there is no such file.

    Raises
    ------
    StorageError
        If it cannot be read: somebody had reasons, and masters without them would be wrong.
    """
    path = path_of(joined(masters_dir, FILE_NAME))
    try:
        known = from_json(ExcludedFiles, read_bounded(path, MAX_BYTES))
        empty = [file.path for file in known.files if not file.decisions]
        if empty:
            raise ValueError(f"it holds no decision about {empty[0]}")
    except FileNotFoundError:
        return ExcludedFiles()
    except (ValueError, OSError) as error:
        raise StorageError(
            f"{path}: it cannot be read which frames are excluded: {os_reason(error)}; restore it from a copy, or"
            " delete it and exclude the frames again with ostcal exclude"
        ) from error
    return known


def decide_files(masters_dir: str, paths: Sequence[str], decision: Decision) -> None:
    """Record a decision about FITS files, all of them or none.

    Raises
    ------
    FrameError
        If a file that is to be excluded is no frame, or one that is to be included was never excluded.
    StorageError
        If the decision cannot be stored.
    """
    if len(decision.why) > MAX_REASON_LENGTH:
        raise StorageError(f"a reason of {len(decision.why)} characters; {MAX_REASON_LENGTH} are possible")
    place = path_of(joined(masters_dir, FILE_NAME))
    with storage_errors(f"{place}: the decision cannot be stored"):
        make_directory(masters_dir)
    with locked(place.with_name(f".{FILE_NAME}.lock"), what=str(place)):
        known = {file.path: file for file in read_excluded_files(masters_dir).files}
        for path in dict.fromkeys(map(absolute, paths)):
            before = known.get(path)
            if before is None:
                found = None if decision.excluded or not exists(path) else _described(path)
                moved = found and ExcludedFiles(files=tuple(known.values())).moved(found.fingerprint, found.date_obs)
                if moved is None and not decision.excluded:
                    raise FrameError(f"{path}: is not excluded; ostcal exclude --list shows the files that are")
                before = moved or _described(path)
            known[before.path] = replace(before, decisions=(*before.decisions, decision)[-_KEPT_DECISIONS:])
        document = ExcludedFiles(files=tuple(known[path] for path in sorted(known)))
        with storage_errors(f"{place}: the decision cannot be stored"):
            write_atomically(place, to_json(document, indent=1) + b"\n", durable=True)


def _described(path: str) -> ExcludedFile:
    """Return what a file is known by; FrameError where it is no frame."""
    fits, *_ = inspect_images(path, cubes=True)
    if fits.metadata.is_master:
        raise FrameError(f"{path}: is a master, and masters are not combined; move it away if it is not to be used")
    mark = fingerprint(fits) if fits.packed == "none" else ""
    return ExcludedFile(path=path, fingerprint=mark, date_obs=fits.metadata.date_obs, decisions=())
