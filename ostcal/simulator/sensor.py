"""The physics of a sensor with a known truth.

A `SensorModel` says what a sensor is; the same seed always gives the same sensor. Its truth maps (bias, dark current,
response) and its frames are made in blocks of `BLOCK_ROWS` rows, each block from a generator of its own, so any rows
can be had without the rest, and a frame of 61 MP needs its 122 MB and a few blocks, not gigabytes of maps.

The way of the signal, in this order: light and dark current collect electrons (Poisson), cosmic rays add to them, the
full well limits them, the amplifier adds read noise (Gaussian), the converter divides by the gain, adds the bias of the
pixel, rounds, and clips to its range.

Arrays are ``(row, column)``, maps float32, frames uint16. Maps are the same on every machine for one version of numpy;
another version may draw other numbers from the same seed, which makes another sensor of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import ConfigError

BLOCK_ROWS = 64
"""Rows made at once: at 9576 columns a float32 block is 2.4 MB, so the few that are alive together stay in cache."""

STAR_SIGMA_PX = 1.5
"""Of the image of a star."""

FloatMap = NDArray[np.float32]


class _Stream(IntEnum):
    """Which generator draws a property, so that changing one property of a sensor leaves the others as they are."""

    COLUMNS = 0
    ROWS = 1
    BIAS = 2
    HOT = 3
    RESPONSE = 4
    DUST = 5


@dataclass(frozen=True, kw_only=True)
class BiasPattern:
    """What differs from pixel to pixel in a frame without signal; standard deviations in ADU."""

    column_sigma_adu: float = 0.0
    row_sigma_adu: float = 0.0
    pixel_sigma_adu: float = 0.0
    gradient_adu: float = 0.0
    """How much the last row is above the first: the slope that an amplifier leaves while it reads out."""


@dataclass(frozen=True, kw_only=True)
class DarkCurrent:
    """Electrons without light; rates hold at the reference temperature and double every `doubling_c` degrees."""

    rate_e_per_s: float
    reference_temperature_c: float = -10.0
    doubling_c: float = 6.0
    hot_fraction: float = 0.0
    """Share of pixels that are hot; their excess over the others is log-normal."""
    hot_median_e_per_s: float = 0.0
    hot_log_sigma: float = 1.0
    amp_glow_e_per_s: float = 0.0
    """Light of the amplifier in the corner of the first row and last column; it does not depend on temperature."""


@dataclass(frozen=True, kw_only=True)
class Dust:
    """Shadows of dust far from the focus: dark rings, on the window for all filters and on each filter its own."""

    count: int = 0
    """Specks on the window, and again on each filter."""
    depth: float = 0.05
    """Share of the light that the deepest one takes."""
    radius_px: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What stands in the light path."""

    name: str
    transmission: float = 1.0
    vignetting: float = 0.2
    """Share of the light that is lost in the corners."""


@dataclass(frozen=True, kw_only=True)
class BayerMatrix:
    """Colours of the pixels: the pattern from the pixel (0, 0) on, and how each colour answers to the light."""

    pattern: str = "RGGB"
    red: float = 0.5
    green: float = 1.0
    blue: float = 0.65


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
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Draw rows, columns and electrons of the pixels of a (height, width) sensor that particles hit."""
        height, width = shape
        area_cm2 = height * width * (pixel_size_um * 1e-4) ** 2
        count = rng.poisson(self.rate_per_cm2_s * area_cm2 * exposure_time_s)
        lengths = 1 + rng.exponential(self.track_px, count).astype(np.int64)
        track = np.repeat(np.arange(count), lengths)
        step = np.arange(track.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        angle = rng.uniform(0, 2 * np.pi, count)[track]
        rows = np.floor(rng.uniform(0, height, count)[track] + step * np.sin(angle)).astype(np.int64)
        columns = np.floor(rng.uniform(0, width, count)[track] + step * np.cos(angle)).astype(np.int64)
        charge_e = (self.charge_e * rng.lognormal(0, 0.5, count))[track]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return rows[inside], columns[inside], charge_e[inside]


@dataclass(frozen=True, kw_only=True)
class Star:
    """A star on the sensor, a Gaussian of `STAR_SIGMA_PX`."""

    row: float
    column: float
    flux_e_per_s: float


@dataclass(frozen=True, kw_only=True)
class SkyView:
    """What is uneven in the light of the sky."""

    slope_across_per_px: float = 0.0
    """How much brighter the sky is from column to column, as a share of its light in the middle."""
    slope_down_per_px: float = 0.0
    stars: tuple[Star, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """One exposure: how long, how cold, under how much light."""

    exposure_time_s: float
    temperature_c: float = -10.0
    illumination_e_per_s: float = 0.0
    """Electrons in a second in a pixel of response 1; 0 is a closed shutter."""
    filter_name: str | None = None
    sky: SkyView | None = None
    """``None`` is light that is even."""

    def __post_init__(self) -> None:
        """Refuse what cannot be exposed."""
        if not (self.exposure_time_s >= 0 and self.illumination_e_per_s >= 0):
            raise ConfigError(
                f"an exposure of {self.exposure_time_s} s under {self.illumination_e_per_s} e-/s cannot be made: "
                "both must be at least 0"
            )


@dataclass(frozen=True, kw_only=True)
class SensorModel:
    """A sensor: its size, its electronics, its flaws, and the glass before it."""

    name: str
    width: int
    height: int
    gain_e_per_adu: float
    read_noise_e: float
    bias_level_adu: float
    full_well_e: float
    dark: DarkCurrent
    pixel_size_um: float = 4.0
    max_adu: int = 65535
    adu_step: int = 1
    """Distance of neighbouring values: 4 for a converter of 14 bits whose values are shifted to 16."""
    bias_pattern: BiasPattern = field(default_factory=BiasPattern)
    prnu_sigma: float = 0.0
    """Relative standard deviation of the response from pixel to pixel."""
    dust: Dust = field(default_factory=Dust)
    filters: tuple[Filter, ...] = ()
    """What the filter wheel holds; empty for a sensor without one."""
    clear: Filter = field(default_factory=lambda: Filter(name="clear"))
    """The light path where no filter is named."""
    bayer: BayerMatrix | None = None
    cosmic_rays: CosmicRays = field(default_factory=CosmicRays)
    prescan_columns: int = 0
    overscan_columns: int = 0
    """Columns at the start and the end of each row, within `width`, that no light reaches."""
    level_drift_adu: float = 0.0
    """Standard deviation of the bias level from frame to frame."""
    seed: int = 1

    # The truth

    @property
    def lit_columns(self) -> slice:
        """The columns that light reaches."""
        return slice(self.prescan_columns, self.width - self.overscan_columns)

    def bias_adu(self, start: int = 0, stop: int | None = None) -> FloatMap:
        """Return the level of each pixel in a frame without signal: (stop - start, width) float32, ADU, not rounded.

        Here and below, `start` and `stop` are the rows wanted; all by default.
        """
        return self._rows(self._bias_block, start, stop)

    def dark_current_e_per_s(self, temperature_c: float, start: int = 0, stop: int | None = None) -> FloatMap:
        """Return the dark current of each pixel at a temperature, glow included: (rows, width) float32, e-/s."""
        return self._rows(lambda block: self._dark_block(block, temperature_c), start, stop)

    def hot_pixels(self, start: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """Return which pixels are hot: (rows, width) bool."""

        def hot_block(block: int) -> FloatMap:
            excess = np.zeros(self._block_shape(block), dtype=np.float32)
            self._add_hot_pixels(block, excess)
            return excess

        return self._rows(hot_block, start, stop) > 0

    def response(self, filter_name: str | None = None, start: int = 0, stop: int | None = None) -> FloatMap:
        """Return the share of the light that each pixel turns into electrons: (rows, width) float32.

        Filter, vignetting, dust, colour and pixel response are all in it. One is a perfect pixel on the axis.
        """
        chosen = self._filter(filter_name)
        return self._rows(lambda block: self._response_block(block, chosen), start, stop)

    def flat_field(self, filter_name: str | None = None) -> FloatMap:
        """Return the response divided by its mean, for each colour of a Bayer sensor: (height, width) float32."""
        field_map = self.response(filter_name)
        if self.bayer is None:
            return field_map / np.float32(field_map[:, self.lit_columns].mean(dtype=np.float64))
        for letter in set(self.bayer.pattern):
            members = self.colour_mask(letter)
            field_map[members] /= np.float32(field_map[members].mean(dtype=np.float64))
        return field_map

    def colour_mask(self, colour: str) -> NDArray[np.bool_]:
        """Return which pixels are under a colour of the Bayer pattern (``R``, ``G`` or ``B``): (height, width) bool."""
        mask = np.zeros((self.height, self.width), dtype=np.bool_)
        for position, letter in enumerate(self.bayer.pattern if self.bayer else ""):
            if letter == colour:
                mask[position // 2 :: 2, position % 2 :: 2] = True
        return mask

    def expected_adu(self, exposure: Exposure) -> FloatMap:
        """Return the mean over infinitely many frames, noise and cosmic rays aside: (height, width) float32, ADU."""
        electrons = np.minimum(self._rows(lambda block: self._mean_block(block, exposure), 0, None), self.full_well_e)
        electrons /= np.float32(self.gain_e_per_adu)
        electrons += self.bias_adu()
        return np.clip(electrons, 0, self.highest_adu, out=electrons)

    def noise_adu(self, exposure: Exposure) -> FloatMap:
        """Return the standard deviation of a pixel from frame to frame: (height, width) float32, ADU.

        Shot noise, read noise and rounding; not valid for saturated pixels.
        """
        variance = self._rows(lambda block: self._mean_block(block, exposure), 0, None)
        variance += np.float32(self.read_noise_e**2)
        variance /= np.float32(self.gain_e_per_adu**2)
        variance += np.float32(self.adu_step**2 / 12)
        return np.sqrt(variance, out=variance)

    # Frames

    def expose(self, exposure: Exposure, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Take a frame: (height, width) uint16, what the converter gives, in ADU.

        The generator draws the noise. Each call spawns children of it, so calls differ, and a new generator of the
        same seed gives the same frames again.
        """
        frame = np.empty((self.height, self.width), dtype=np.uint16)
        for top, rows in self.expose_blocks(exposure, rng):
            frame[top : top + rows.shape[0]] = rows
        return frame

    def expose_blocks(self, exposure: Exposure, rng: np.random.Generator) -> Iterator[tuple[int, FloatMap]]:
        """Take a frame as `expose` does, block after block, so that it can be given up in between.

        Each block comes with its first row: (rows, width) float32, whole numbers, ADU.
        """
        rays, *generators = rng.spawn(1 + -(-self.height // BLOCK_ROWS))
        drift_adu = np.float32(rng.normal(0, self.level_drift_adu)) if self.level_drift_adu else np.float32(0)
        rows, columns, charge_e = self.cosmic_rays.draw(
            (self.height, self.width), self.pixel_size_um, exposure.exposure_time_s, rays
        )
        for block, generator in enumerate(generators):
            top = block * BLOCK_ROWS
            mean = self._mean_block(block, exposure)
            # Four full wells overflow whatever the noise; more would only slow the generator and overflow its integers.
            np.minimum(mean, np.float32(4 * self.full_well_e), out=mean)
            electrons = generator.poisson(mean).astype(np.float32)
            hit = (rows >= top) & (rows < top + electrons.shape[0])
            hit &= (columns >= self.lit_columns.start) & (columns < self.lit_columns.stop)
            np.add.at(electrons, (rows[hit] - top, columns[hit]), charge_e[hit])
            np.minimum(electrons, np.float32(self.full_well_e), out=electrons)
            noise = generator.standard_normal(electrons.shape, dtype=np.float32)
            electrons += np.multiply(noise, np.float32(self.read_noise_e), out=noise)
            electrons /= np.float32(self.gain_e_per_adu)
            electrons += self._bias_block(block) + drift_adu
            # The converter has steps and a range.
            step = np.float32(self.adu_step)
            np.multiply(np.rint(electrons / step), step, out=electrons)
            yield top, np.clip(electrons, 0, self.highest_adu, out=electrons)

    @property
    def highest_adu(self) -> int:
        """The end of the converter's range."""
        return self.max_adu // self.adu_step * self.adu_step

    # Blocks

    def _block_shape(self, block: int) -> tuple[int, int]:
        return min(BLOCK_ROWS, self.height - block * BLOCK_ROWS), self.width

    def _rows(self, make_block: Callable[[int], FloatMap], start: int, stop: int | None) -> FloatMap:
        """Put rows together from the blocks that hold them."""
        stop = self.height if stop is None else stop
        if not 0 <= start < stop <= self.height:
            raise IndexError(f"rows {start} to {stop} are not in a sensor of {self.height} rows")
        rows = np.empty((stop - start, self.width), dtype=np.float32)
        for block in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
            top = block * BLOCK_ROWS
            first, last = max(start, top), min(stop, top + BLOCK_ROWS)
            rows[first - start : last - start] = make_block(block)[first - top : last - top]
        return rows

    def _generator(self, stream: _Stream, block: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, block])

    def _bias_block(self, block: int) -> FloatMap:
        pattern = self.bias_pattern
        shape = self._block_shape(block)
        rows = slice(block * BLOCK_ROWS, block * BLOCK_ROWS + shape[0])
        level = np.full(shape, self.bias_level_adu, dtype=np.float32)
        if pattern.pixel_sigma_adu:
            level += pattern.pixel_sigma_adu * self._generator(_Stream.BIAS, block).standard_normal(shape, np.float32)
        level += pattern.column_sigma_adu * self._generator(_Stream.COLUMNS).standard_normal(self.width, np.float32)
        along = pattern.row_sigma_adu * self._generator(_Stream.ROWS).standard_normal(self.height, np.float32)
        along += np.linspace(0, pattern.gradient_adu, self.height, dtype=np.float32)
        level += along[rows, np.newaxis]
        return level

    def _dark_block(self, block: int, temperature_c: float) -> FloatMap:
        rate = np.full(self._block_shape(block), self.dark.rate_e_per_s, dtype=np.float32)
        self._add_hot_pixels(block, rate)
        rate *= np.float32(2.0 ** ((temperature_c - self.dark.reference_temperature_c) / self.dark.doubling_c))
        if self.dark.amp_glow_e_per_s:
            # Distances from the amplifier's corner, in tenths of the sensor.
            rows = np.arange(block * BLOCK_ROWS, block * BLOCK_ROWS + self._block_shape(block)[0], dtype=np.float32)
            down = rows[:, np.newaxis] * np.float32(10 / self.height)
            across = np.arange(self.width - 1, -1, -1, dtype=np.float32) * np.float32(10 / self.width)
            rate += self.dark.amp_glow_e_per_s * np.exp(-down) * np.exp(-across)
        return self._without_unlit(rate)

    def _without_unlit(self, values: FloatMap) -> FloatMap:
        """Make the columns that no light reaches zero."""
        values[:, : self.lit_columns.start] = 0
        values[:, self.lit_columns.stop :] = 0
        return values

    def _add_hot_pixels(self, block: int, rate: FloatMap) -> None:
        generator = self._generator(_Stream.HOT, block)
        count = generator.binomial(rate.size, self.dark.hot_fraction)
        where = generator.choice(rate.size, count, replace=False, shuffle=False)
        rate.flat[where] += self.dark.hot_median_e_per_s * generator.lognormal(0, self.dark.hot_log_sigma, count)

    def _response_block(self, block: int, chosen: Filter) -> FloatMap:
        shape = self._block_shape(block)
        top = block * BLOCK_ROWS
        rows = np.arange(top, top + shape[0], dtype=np.float32)[:, np.newaxis] - np.float32((self.height - 1) / 2)
        columns = np.arange(self.width, dtype=np.float32) - np.float32((self.width - 1) / 2)
        corner = ((self.height - 1) ** 2 + (self.width - 1) ** 2) / 4
        response = 1 - np.float32(chosen.vignetting / max(corner, 1)) * (rows**2 + columns**2)
        response *= np.float32(chosen.transmission)
        self._shade(response, top, chosen)
        if self.prnu_sigma:
            generator = self._generator(_Stream.RESPONSE, block)
            response *= 1 + np.float32(self.prnu_sigma) * generator.standard_normal(shape, np.float32)
        if self.bayer is not None:
            colours = {"R": self.bayer.red, "G": self.bayer.green, "B": self.bayer.blue}
            for position, letter in enumerate(self.bayer.pattern):
                response[position // 2 :: 2, position % 2 :: 2] *= np.float32(colours[letter])
        # A pixel far out in the noise of the response does not give light back.
        return self._without_unlit(np.maximum(response, 0, out=response))

    def _shade(self, response: FloatMap, top: int, chosen: Filter) -> None:
        """Multiply the shadows of the dust into rows from `top` on.

        A shadow is darkest on a ring of 0.7 radii and ends at the radius.
        """
        wheel = (self.clear, *self.filters)
        for holder in (0, 1 + wheel.index(chosen)):
            generator = self._generator(_Stream.DUST, holder)
            for _ in range(self.dust.count):
                row, column = generator.uniform(0, self.height) - top, generator.uniform(0, self.width)
                radius = self.dust.radius_px * generator.uniform(0.5, 1.0)
                depth = self.dust.depth * generator.uniform(0.3, 1.0)
                first, last = max(0, int(row - radius)), min(response.shape[0], int(row + radius) + 2)
                left, right = max(0, int(column - radius)), min(self.width, int(column + radius) + 2)
                if first >= last or left >= right:
                    continue
                rows = np.arange(first, last, dtype=np.float32)[:, np.newaxis] - np.float32(row)
                columns = np.arange(left, right, dtype=np.float32) - np.float32(column)
                distance = np.sqrt(rows**2 + columns**2) / np.float32(radius)
                shadow = np.clip(1 - ((distance - np.float32(0.7)) / np.float32(0.3)) ** 2, 0, None)
                within = distance < np.float32(0.7)
                shadow[within] = np.maximum(shadow[within], np.float32(0.4))
                response[first:last, left:right] *= 1 - np.float32(depth) * shadow

    def _mean_block(self, block: int, exposure: Exposure) -> FloatMap:
        """Return the electrons that a pixel collects on the average, without limit."""
        rate = self._dark_block(block, exposure.temperature_c)
        if exposure.illumination_e_per_s:
            response = self._response_block(block, self._filter(exposure.filter_name))
            rate += np.multiply(response, self._light_block(block, exposure), out=response)
        return np.multiply(rate, np.float32(exposure.exposure_time_s), out=rate)

    def _light_block(self, block: int, exposure: Exposure) -> FloatMap | np.float32:
        """Return the light before the pixels, electrons per second in a pixel of response 1."""
        mean, sky = np.float32(exposure.illumination_e_per_s), exposure.sky
        if sky is None:
            return mean
        height, width = self._block_shape(block)
        rows = np.arange(block * BLOCK_ROWS, block * BLOCK_ROWS + height, dtype=np.float32)[:, np.newaxis]
        columns = np.arange(width, dtype=np.float32)
        down, across = rows - np.float32((self.height - 1) / 2), columns - np.float32((width - 1) / 2)
        light = 1 + np.float32(sky.slope_down_per_px) * down + np.float32(sky.slope_across_per_px) * across
        light = np.maximum(light, 0) * mean
        for star in sky.stars:
            peak = np.float32(star.flux_e_per_s / (2 * np.pi * STAR_SIGMA_PX**2))
            scale = np.float32(-0.5 / STAR_SIGMA_PX**2)
            light += peak * np.exp(scale * (rows - star.row) ** 2) * np.exp(scale * (columns - star.column) ** 2)
        return light

    def _filter(self, name: str | None) -> Filter:
        if name is None:
            return self.clear
        for candidate in self.filters:
            if candidate.name == name:
                return candidate
        known = ", ".join(candidate.name for candidate in self.filters) or "none"
        raise ConfigError(f"sensor {self.name} has no filter {name!r}; its filters: {known}")


_WHEEL = (
    Filter(name="L", transmission=1.0, vignetting=0.25),
    Filter(name="R", transmission=0.3, vignetting=0.22),
    Filter(name="G", transmission=0.35, vignetting=0.23),
    Filter(name="B", transmission=0.3, vignetting=0.24),
)

SENSORS: Mapping[str, SensorModel] = MappingProxyType(
    {
        "demo": SensorModel(
            name="demo",
            width=1200,
            height=900,
            gain_e_per_adu=1.2,
            read_noise_e=4.0,
            bias_level_adu=500.0,
            full_well_e=70_000.0,
            pixel_size_um=9.0,
            bias_pattern=BiasPattern(column_sigma_adu=3.0, row_sigma_adu=1.5, pixel_sigma_adu=1.0, gradient_adu=12.0),
            dark=DarkCurrent(
                rate_e_per_s=0.3, hot_fraction=0.002, hot_median_e_per_s=20.0, hot_log_sigma=1.2, amp_glow_e_per_s=2.0
            ),
            prnu_sigma=0.01,
            dust=Dust(count=12, depth=0.12, radius_px=28.0),
            filters=_WHEEL,
            # Twenty times the rate at sea level, so that a demo of seconds meets what a night of hours does.
            cosmic_rays=CosmicRays(rate_per_cm2_s=0.5),
        ),
        "bayer": SensorModel(
            name="bayer",
            width=1040,
            height=780,
            gain_e_per_adu=0.25,
            read_noise_e=1.6,
            bias_level_adu=256.0,
            full_well_e=15_500.0,
            pixel_size_um=2.9,
            adu_step=4,
            bias_pattern=BiasPattern(column_sigma_adu=1.0, row_sigma_adu=1.0, pixel_sigma_adu=0.5),
            dark=DarkCurrent(rate_e_per_s=0.02, hot_fraction=0.001, hot_median_e_per_s=5.0, amp_glow_e_per_s=0.5),
            prnu_sigma=0.008,
            dust=Dust(count=6, depth=0.08, radius_px=35.0),
            bayer=BayerMatrix(pattern="RGGB"),
        ),
        "overscan": SensorModel(
            name="overscan",
            width=8 + 1200 + 32,
            height=900,
            prescan_columns=8,
            overscan_columns=32,
            level_drift_adu=12.0,
            gain_e_per_adu=1.5,
            read_noise_e=8.0,
            bias_level_adu=1040.0,
            full_well_e=90_000.0,
            pixel_size_um=13.5,
            bias_pattern=BiasPattern(row_sigma_adu=1.5, gradient_adu=12.0),
            dark=DarkCurrent(rate_e_per_s=0.3, hot_fraction=0.001, hot_median_e_per_s=20.0),
            prnu_sigma=0.01,
            dust=Dust(count=6, depth=0.1, radius_px=28.0),
            filters=_WHEEL,
        ),
        # Near the maker's figures of the photographic mode: gain 0.78 e-/ADU, 51 ke- full well, read noise 3.5 e-, dark
        # current 0.0022 e-/s at -20 C and 0.0046 e-/s at -10 C, which is a doubling in 9.4 degrees, not the usual 6.
        "qhy600m": SensorModel(
            name="qhy600m",
            width=9576,
            height=6388,
            gain_e_per_adu=0.78,
            read_noise_e=3.5,
            bias_level_adu=500.0,
            full_well_e=51_000.0,
            pixel_size_um=3.76,
            bias_pattern=BiasPattern(column_sigma_adu=0.5, row_sigma_adu=0.3, gradient_adu=2.0),
            dark=DarkCurrent(
                rate_e_per_s=0.0046, doubling_c=9.4, hot_fraction=0.0002, hot_median_e_per_s=0.5, hot_log_sigma=1.3
            ),
            prnu_sigma=0.006,
            dust=Dust(count=25, depth=0.06, radius_px=90.0),
            filters=_WHEEL,
        ),
    }
)
"""The sensors that can be named: ``demo`` (1 MP, not square), ``bayer`` (colour, 14 bits), ``overscan`` (1 MP, whose
rows begin and end with columns that no light reaches), ``qhy600m`` (61 MP)."""
