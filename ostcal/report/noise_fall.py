"""How the noise of a master falls with its frames: measured on some rows of the series, where these are still there."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.capture.enough import clipped
from ostcal.errors import OstcalError
from ostcal.frames import FrameType
from ostcal.report.document import NoiseFall
from ostcal.report.previews import SERIES_LABEL
from ostcal.series.stack import ZarrStack

logger = logging.getLogger(__name__)

_MOST_ROWS = 64
_MOST_SAMPLES = 16_000_000
"""Of all frames together."""
_FEWEST_FRAMES = 4


def target_share(settings: Mapping[str, Any], kind: FrameType) -> float | None:
    """Return ``target.noise_share`` where a configuration takes the frames of a kind by it; else ``None``."""
    section = settings.get("flat_capture" if kind is FrameType.FLAT else "dark_capture") or {}
    number = section.get("num_flats" if kind is FrameType.FLAT else "num_darks")
    return float(section["target"]["noise_share"]) if number == "auto" else None


def noise_fall(labels: Sequence[str], kind: FrameType, share: float) -> NoiseFall | None:
    """Measure the noise of the mean of the first 1, 2, 4, ... frames; ``None`` where the series cannot be read.

    The noise of a mean of n frames is half of the scatter of the difference between the means of its odd and of its
    even frames, in which the pattern of the sensor cancels. Flats are divided by their levels.
    """
    stored = [SERIES_LABEL.fullmatch(label) for label in labels]
    if len(labels) < _FEWEST_FRAMES or not all(stored):
        return None
    places = [(found[1], int(found[2])) for found in stored if found is not None]
    try:
        frames = _middle_rows(places)
    except (OstcalError, OSError) as error:
        logger.debug("how the noise falls is not shown: %s", error)
        return None
    if kind is FrameType.FLAT:
        frames = 100 * frames / frames.mean(axis=(1, 2), keepdims=True)
    pairs = [clipped(one.astype(np.float64) - other)[1] / 2 for one, other in itertools.pairwise(frames)]
    counts = [2**power for power in range(1, len(frames).bit_length()) if 2**power < len(frames)]
    counts.append(len(frames) - len(frames) % 2)
    counts = sorted(set(counts))
    return NoiseFall(
        frames=(1, *counts),
        noise=(math.sqrt(pairs[0]), *(_noise_of(frames[:count]) for count in counts)),
        unit="%" if kind is FrameType.FLAT else "ADU",
        single_frame=math.sqrt(float(np.mean(pairs))),
        target_share=share,
        target_frames=len(frames),
    )


def _noise_of(frames: NDArray[np.float32]) -> float:
    odd, even = (frames[start::2].mean(axis=0, dtype=np.float64) for start in (0, 1))
    return math.sqrt(clipped(odd - even)[1]) / 2


def _middle_rows(places: Sequence[tuple[str, int]]) -> NDArray[np.float32]:
    """Return some rows from the middle of all frames: (n_frames, rows, width)."""
    blocks = []
    for location, members in itertools.groupby(places, key=lambda place: place[0]):
        stack = ZarrStack(location, tuple(index for _, index in members))
        n_frames, height, width = stack.shape
        rows = max(1, min(_MOST_ROWS, height, _MOST_SAMPLES // (len(places) * width)))
        start = (height - rows) // 2
        block = np.empty((n_frames, rows, width), stack.encoding.dtype)
        stack.read_rows(start, start + rows, block)
        blocks.append(stack.encoding.decode(block).astype(np.float32))
    joined: NDArray[np.float32] = np.concatenate(blocks)
    return joined
