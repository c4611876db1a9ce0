"""Going on with masters that an interrupted run left: which work is the same, what its strips counted, frames said.

A strip is taken from an earlier run only if everything that decides its bytes is the same. What is known before work
begins is in the digest of the work (frames, method, treatment, strips, versions), by which an unfinished master is
found; what is known only then (noise of the series, scales, the rows of the darks) is in the key of each strip.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal._version import __version__
from ostcal.build.survey_series import SurveyRequest
from ostcal.engine.tasks import MasterJob, PixelRange, StripResult
from ostcal.inputs.gather import Source
from ostcal.library.store import MasterStore
from ostcal.measure.frames.survey import SeriesSurvey
from ostcal.places.paths import place, stamp_of
from ostcal.series.format import LEDGER
from ostcal.series.record import record_path

_FORMAT = 1
"""Of this digest and of the kept results; to be raised with every change of either."""
_NUMERIC = ("numpy", "numba")
"""Packages whose versions may change the last bit."""


@dataclass(frozen=True, kw_only=True)
class StoreMemory:
    """Results of strips beside their planes in the store; implements `ostcal.engine.tasks.StripMemory`."""

    store: str
    name: str

    def recall(self, start: int, key: str) -> StripResult | None:
        """Give the result of the strip that begins at ``start``, if it was written and `key` is the same."""
        document = MasterStore(self.store).writer(self.name).kept_result(start)
        return _result_of(document) if document is not None and document.get("key") == key else None

    def remember(self, start: int, key: str, result: StripResult, checksums: Sequence[int]) -> None:
        """Keep the result of a strip that was written, with the checksums of its planes."""
        MasterStore(self.store).writer(self.name).keep_result(start, {"key": key, **_document_of(result)}, checksums)


def work_digest(job: MasterJob, sources: Sequence[Source], strip_rows: int) -> str:
    """Give the SHA-256 over all that decides, before work begins, what the strips of a master will hold.

    It is empty where a frame is no longer there: combining will name it.
    """
    flat = job.flat
    return _digest_of_work(
        sources,
        {
            "versions": [__version__, *(version(package) for package in _NUMERIC)],
            "method": repr(job.method.resolved(job.n_frames)),
            "shape": job.stack.shape,
            "encoding": repr(job.stack.encoding),
            "strip_rows": strip_rows,
            "flat": None if flat is None else [repr(flat.exposure_times_s), flat.scaling],
        },
    )


def _digest_of_work(sources: Sequence[Source], work: dict[str, Any]) -> str:
    """Give the SHA-256 over frames and what is done with them; empty where a frame is no longer there."""
    try:
        frames = [frame_identity(source) for source in sources]
    except OSError:
        return ""
    whole = {"format": _FORMAT, **work, "frames": frames}
    return hashlib.sha256(json.dumps(whole).encode("ascii")).hexdigest()


def frame_identity(source: Source) -> list[Any]:
    """Tell a frame from every other one, and from what the same file held before.

    Raises
    ------
    OSError
        If it is no longer there.
    """
    fits = source.fits
    path = record_path(place(source.series) / LEDGER, source.index) if fits is None else place(fits.source)
    return [source.frame.label, source.fingerprint, *stamp_of(path)]


# ---- surveys ----


def survey_keys(requests: Sequence[SurveyRequest], members: Sequence[Sequence[Source]]) -> list[str]:
    """Give a SHA-256 for each request over all that decides what it finds; `members` are the frames of each.

    It is empty where a frame of it, or of its dark, is no longer there.
    """

    @cache
    def key_of(place: int) -> str:
        request = requests[place]
        dark = "none" if request.dark is None else key_of(request.dark)
        return _survey_key(request, members[place], dark) if dark else ""

    return [key_of(place) for place in range(len(requests))]


def _survey_key(request: SurveyRequest, sources: Sequence[Source], dark: str) -> str:
    stack = request.stack
    return _digest_of_work(
        sources,
        {
            "versions": [__version__, *(version(package) for package in _NUMERIC)],
            "shape": stack.shape,
            "encoding": repr(stack.encoding),
            "row_step": stack.row_step,
            "common_level": request.common_level,
            "dark": dark,
        },
    )


def survey_document(key: str, survey: SeriesSurvey) -> dict[str, Any]:
    """Give a survey as JSON, to the last bit."""
    arrays = {field.name: np.asarray(getattr(survey, field.name)) for field in fields(survey)}
    return {"key": key, **{name: _array_document(array) for name, array in arrays.items()}}


def _array_document(array: NDArray[Any]) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def kept_survey(documents: Sequence[dict[str, Any]], key: str) -> SeriesSurvey | None:
    """Give the survey of this key; ``None`` where there is none, or it is damaged."""
    for document in documents:
        if key and document.get("key") == key:
            try:
                return SeriesSurvey(**{field.name: _value_of(document[field.name]) for field in fields(SeriesSurvey)})
            except (KeyError, TypeError, ValueError, binascii.Error):
                continue
    return None


def _value_of(document: dict[str, Any]) -> Any:
    array = np.frombuffer(base64.b64decode(document["data"]), document["dtype"]).reshape(document["shape"])
    return array.copy() if array.shape else array.item()


# ---- strips ----


def _document_of(result: StripResult) -> dict[str, Any]:
    """Give a result as JSON, floats to their last bit."""
    pixels = result.pixels
    return {
        "rejected_per_frame": [int(count) for count in result.rejected_per_frame],
        "n_samples": result.n_samples,
        "invalid": result.invalid,
        "empty_pixels": result.empty_pixels,
        "minimum": pixels.minimum.hex(),
        "maximum": pixels.maximum.hex(),
        "row_sums": [float(value).hex() for value in pixels.row_sums],
        "count": pixels.count,
    }


def _result_of(document: dict[str, Any]) -> StripResult | None:
    """Give the result that a document holds; ``None`` where it is damaged."""
    try:
        sums = [float.fromhex(value) for value in document["row_sums"]]
        rejected = [int(value) for value in document["rejected_per_frame"]]
        pixels = PixelRange(
            minimum=float.fromhex(document["minimum"]),
            maximum=float.fromhex(document["maximum"]),
            row_sums=np.array(sums, np.float64),
            count=int(document["count"]),
        )
        n_samples, invalid, empty_pixels = (int(document[name]) for name in ("n_samples", "invalid", "empty_pixels"))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if any(math.isnan(value) for value in sums):
        return None
    return StripResult(
        rejected_per_frame=np.array(rejected, np.int64),
        n_samples=n_samples,
        invalid=invalid,
        empty_pixels=empty_pixels,
        pixels=pixels,
        read_s=0.0,  # the earlier run spent it
        combine_s=0.0,
        write_s=0.0,
    )
