"""The level of a calibrated frame: nothing is darker than no light, and light has photon noise, if the dark fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ostcal.measure.estimators import half_spread

SAMPLED_ROWS = 64
CELL_PIXELS = 64
DARKEST_SHARE = 0.1
"""The darkest cells of a frame that must not be below zero all together."""
LEAST_ADU = 2.0
NOISES = 0.7
"""Of a sample: of cells of pure noise, and of rows that share a third of it, the darkest tenth is at -0.4."""

_LEAST_NOISES = 3.0
"""Read noises that a level must have for its photon noise to be looked at."""
_LEAST_LEVEL_ADU = 20.0
_SHOWN_SHARE = 0.4
"""Of a level that is light, its noise shows all; less than this leaves room for an error of the gain of a factor 2."""

Rows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class CameraNoise:
    """What makes the noise of a raw frame."""

    gain_e_per_adu: float
    read_noise_adu: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelWatch:
    """Reads the rows of a calibrated frame, and remembers the levels of cells of some of them."""

    values: Callable[[int, int], Rows]
    height: int
    levels_adu: list[NDArray[np.floating]] = field(default_factory=list)
    spreads_adu: list[float] = field(default_factory=list)

    def read_rows(self, start: int, stop: int) -> Rows:
        """Return rows ``start`` to ``stop`` of the calibrated frame."""
        rows = self.values(start, stop)
        step = max(1, self.height // SAMPLED_ROWS)
        for row in rows[-start % step :: step]:
            cell = min(CELL_PIXELS, len(row))
            cells = row[: len(row) - len(row) % cell].reshape(-1, cell)
            cells = cells[np.isfinite(cells).all(axis=1)]
            if len(cells):
                levels = np.median(cells, axis=1)
                self.levels_adu.append(levels)
                self.spreads_adu.append(half_spread((cells - levels[:, np.newaxis]).ravel()))
        return rows

    def warning(self, dark: str, camera: CameraNoise | None = None) -> str:
        """Return a line if the level is none that light has after the dark was subtracted; else "".

        The darkest parts are below zero; or, where the noise of the camera is known, the noise is far below that of so
        much light.
        """
        if not self.levels_adu:
            return ""
        level_adu = float(np.quantile(np.concatenate(self.levels_adu), DARKEST_SHARE))
        noise_adu = float(np.median(self.spreads_adu))
        limit_adu = max(LEAST_ADU, NOISES * noise_adu)
        if level_adu >= -limit_adu:
            return self._too_bright(dark, noise_adu, camera)
        return (
            f"a tenth of it is below {level_adu:.1f} ADU after the dark (limit {-limit_adu:.1f} ADU): its bias level "
            f"is lower than that of {dark} by that much or more; take bias frames and darks of the same night, gain, "
            "offset and temperature"
        )

    def _too_bright(self, dark: str, noise_adu: float, camera: CameraNoise | None) -> str:
        """Return a line if the level has not the photon noise of light."""
        level_adu = float(np.median(np.concatenate(self.levels_adu)))
        if camera is None or level_adu <= max(_LEAST_LEVEL_ADU, _LEAST_NOISES * camera.read_noise_adu):
            return ""
        shown_adu = camera.gain_e_per_adu * max(0.0, noise_adu**2 - camera.read_noise_adu**2)
        if shown_adu >= _SHOWN_SHARE * level_adu:
            return ""
        return (
            f"its level after the dark is {level_adu:.4g} ADU, and its noise is that of {shown_adu:.2g} ADU of light "
            f"(limit {_SHOWN_SHARE * level_adu:.2g} ADU): its bias level is higher than that of {dark}, or its gain is "
            "another; take bias frames and darks of the same night, gain, offset and temperature"
        )
