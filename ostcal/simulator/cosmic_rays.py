"""Cosmic rays: which pixels they hit in a frame, and with how much charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Pixels hit by cosmic rays in one frame."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    charge_e: NDArray[Any]

    def add_to(self, electrons: NDArray[np.float32], top: int) -> None:
        """Add the charge to a block whose first row is `top`."""
        within = (self.rows >= top) & (self.rows < top + electrons.shape[0])
        np.add.at(electrons, (self.rows[within] - top, self.columns[within]), self.charge_e[within])


@dataclass(frozen=True, kw_only=True)
class CosmicRays:
    """Particles that cross the sensor; the charge of each is log-normal, its track exponential in length."""

    rate_per_cm2_s: float = 0.03
    """At sea level about 0.02 muons, and a little from the surroundings."""
    charge_e: float = 1200.0
    """Median: a muon leaves about 80 electrons in a micrometre of silicon, and 15 of them are sensitive."""
    track_px: float = 3.0

    def draw(
        self, shape: tuple[int, int], pixel_size_um: float, exposure_time_s: float, rng: np.random.Generator
    ) -> Hits:
        """Draw the pixels of a (height, width) sensor that particles hit, each with its electrons."""
        height, width = shape
        area_cm2 = height * width * (pixel_size_um * 1e-4) ** 2
        count = rng.poisson(self.rate_per_cm2_s * area_cm2 * exposure_time_s)
        lengths = 1 + rng.exponential(self.track_px, count).astype(np.int64)
        track = np.repeat(np.arange(count), lengths)
        step = np.arange(track.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        angle = rng.uniform(0, 2 * np.pi, count)[track]
        rows = np.floor(rng.uniform(0, height, count)[track] + step * np.sin(angle)).astype(np.int64)
        columns = np.floor(rng.uniform(0, width, count)[track] + step * np.cos(angle)).astype(np.int64)
        charge = (self.charge_e * rng.lognormal(0, 0.5, count))[track]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return Hits(rows=rows[inside], columns=columns[inside], charge_e=charge[inside])
