"""What is the same work: masters that need not be made again, and strips and surveys of an interrupted run.

A strip is taken from an earlier run only if everything that decides its bytes is the same. `WorkKey` says so of what
is known before work begins: frames, method, treatment, strips, versions. What is known only then (noise of the
series, scales, rows of the darks) is in the key of each strip, which `ostcal.engine.tasks` makes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

import numpy as np

from ostcal._version import __version__
from ostcal.build.survey_series import SurveyRequest
from ostcal.codec import from_values, to_values
from ostcal.engine.rejection import RejectionMethod
from ostcal.engine.tasks import PixelRange, StripResult
from ostcal.frames import FrameStack
from ostcal.inputs.gather import Source
from ostcal.library.store import MasterStore
from ostcal.measure.frames.survey import SeriesSurvey
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
        try:
            return cls(
                frames=tuple(
                    (
                        source.frame.label,
                        source.fingerprint,
                        *version_of(
                            record_path(path_of(source.series) / LEDGER, source.index)
                            if source.fits is None
                            else path_of(source.fits.source)
                        ),
                    )
                    for source in members
                )
            )
        except OSError:
            return cls(frames=None)

    def recipe(self, decided: dict[str, Any]) -> str:
        """Return the digest of all that decides a master, by which a later run finds it unchanged.

        It holds what the user can change: frames, settings and darks. What is measured beside (the gain, on the
        frames of all groups) is not in it, or a new flat would make all darks again.
        """
        return self._digest({"format": _FORMAT, "version": __version__, "frames": self.frames, **decided})

    def strips(self, method: RejectionMethod, stack: FrameStack, strip_rows: int, flat: list[str] | None) -> str:
        """Return the digest of all that decides, before work begins, what the strips of a master hold.

        `flat` has the exposures and the scaling of flats; it is ``None`` for bias and darks.
        """
        return self._digest(
            {
                "format": _FORMAT,
                "versions": _versions(),
                "method": repr(method),
                "shape": stack.shape,
                "encoding": repr(stack.encoding),
                "strip_rows": strip_rows,
                "flat": flat,
                "frames": self.frames,
            }
        )

    def survey(self, request: SurveyRequest, dark: str) -> str:
        """Return the digest of all that decides a survey; `dark` is that of the survey of its dark, or ``none``."""
        stack = request.stack
        return self._digest(
            {
                "format": _FORMAT,
                "versions": _versions(),
                "shape": stack.shape,
                "encoding": repr(stack.encoding),
                "row_step": stack.row_step,
                "common_level": request.common_level,
                "dark": dark,
                "frames": self.frames,
            }
        )

    def _digest(self, work: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps(work).encode("ascii")).hexdigest() if self.frames is not None else ""


def _versions() -> list[str]:
    return [__version__, *(version(package) for package in _NUMERIC)]


def survey_keys(requests: Sequence[SurveyRequest], keys: Sequence[WorkKey]) -> list[str]:
    """Return the digest of each survey, ``""`` where a frame of it or of its dark is no longer there."""
    found: dict[int, str] = {}
    for index in sorted(range(len(requests)), key=lambda index: requests[index].dark is not None):  # darks first
        dark = requests[index].dark
        dark_key = "none" if dark is None else found[dark]
        found[index] = keys[index].survey(requests[index], dark_key) if dark_key else ""
    return [found[index] for index in range(len(requests))]


# ---- surveys ----


def survey_document(key: str, survey: SeriesSurvey) -> dict[str, Any]:
    """Return a survey as JSON, to the last bit: its arrays are stored as bytes in base 64."""
    document: dict[str, Any] = {"key": key}
    for field in fields(survey):
        array = np.asarray(getattr(survey, field.name))
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
        document[field.name] = {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}
    return document


def kept_survey(documents: Sequence[dict[str, Any]], key: str) -> SeriesSurvey | None:
    """Return the survey of this key; ``None`` where there is none, or it is damaged."""
    for document in documents:
        if not key or document.get("key") != key:
            continue
        values: dict[str, Any] = {}
        try:
            for field in fields(SeriesSurvey):
                stored = document[field.name]
                array = np.frombuffer(base64.b64decode(stored["data"]), stored["dtype"]).reshape(stored["shape"])
                values[field.name] = array.copy() if array.shape else array.item()
            return SeriesSurvey(**values)
        except (KeyError, TypeError, ValueError, binascii.Error):
            continue
    return None


# ---- strips ----


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

    store: str
    name: str

    def recall(self, start: int, key: str) -> StripResult | None:
        """Return the result of the strip that begins at ``start``, if it was written whole and `key` is the same."""
        document = MasterStore(self.store).writer(self.name).kept_result(start)
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
        MasterStore(self.store).writer(self.name).keep_result(start, to_values(kept), checksums)
