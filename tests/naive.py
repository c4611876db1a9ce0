"""Slow, literal references of every combination method: what the kernels in ostcal.engine must reproduce bit for bit.

One function per method, for the samples of one pixel. Integer samples (Python ``int``) are decided with
``fractions.Fraction``, so that nothing is rounded before the result; float samples (Python ``float``, which is an IEEE
double) are summed one after the other in ascending order. Nothing here imports the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sample = int | float
Center = Literal["mean", "median"]
Spread = Literal["std", "mad", "noise"]

TIE_TOLERANCE = 1 + 1e-9
MAD_TO_STD = Fraction(14826, 10000)
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviation and step of quantisation of a series, in ADU."""

    noise_adu: float = 0.0
    step_adu: float = 1.0

    @property
    def floor(self) -> Fraction:
        """The smallest spread that is believed: a whole number of 1e-6 ADU."""
        floor_adu = math.sqrt(self.noise_adu * self.noise_adu + self.step_adu * self.step_adu / 12)
        return Fraction(round(floor_adu * 1e6), 10**6)

    @property
    def half_step(self) -> Fraction:
        return Fraction(self.step_adu) / 2


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a camera adds to a sample: variance = read noise^2 + signal / gain."""

    read_noise_adu: float
    gain_e_per_adu: float
    bias_level_adu: float = 0.0

    def spread(self, median: float, step_adu: float) -> float:
        signal = max(0.0, median - self.bias_level_adu)
        read_variance = self.read_noise_adu**2 + step_adu**2 / 12
        return math.sqrt(read_variance + signal * (1.0 / self.gain_e_per_adu))


@dataclass(frozen=True, kw_only=True)
class PixelResult:
    """What is made of one pixel; ``low`` and ``high`` are the smallest and the largest kept sample, not rounded."""

    mean: np.float32
    n_used: int
    std: np.float32
    low: Sample
    high: Sample


@dataclass(frozen=True, kw_only=True)
class StackResult:
    """What is made of a stack: images ``(height, width)`` and counts per frame ``(n_frames,)``."""

    mean: NDArray[np.float32]
    n_used: NDArray[np.uint16]
    std: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rejected_per_frame: NDArray[np.int64]
    invalid: int


# --- one pixel: what all methods share ---


def valid_sorted(samples: Sequence[Sample]) -> list[Sample]:
    """Return the finite samples in ascending order; a float zero loses its sign, which would follow the frame order."""
    if all(isinstance(x, int) for x in samples):
        return sorted(samples)
    return sorted(float(x) + 0.0 for x in samples if math.isfinite(x))


def is_exact(run: Sequence[Sample]) -> bool:
    return all(isinstance(x, int) for x in run)


def middle(ordered: Sequence[float]) -> float:
    """Median of ascending floats."""
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def exact_middle(ordered: Sequence[int | Fraction]) -> Fraction:
    """Median of ascending integers or fractions."""
    n = len(ordered)
    return Fraction(ordered[n // 2]) if n % 2 else Fraction(ordered[n // 2 - 1] + ordered[n // 2]) / 2


def sum_in_order(values: Sequence[float]) -> float:
    """Sum one after the other (``sum`` compensates rounding in newer Pythons)."""
    total = 0.0
    for value in values:
        total += value
    return total


def sums(differences: Sequence[float]) -> tuple[float, float]:
    """Sum and sum of squares."""
    return sum_in_order(differences), sum_in_order([d * d for d in differences])


def exact_scatter(run: Sequence[int]) -> int:
    """V = n * sum(x^2) - (sum x)^2, which is n^2 times the population variance."""
    return len(run) * sum(x * x for x in run) - sum(run) ** 2


def scatter(differences: Sequence[float]) -> float:
    """V of floats, never negative."""
    n = len(differences)
    total, squares = sums(differences)
    return max(0.0, n * squares - total * total)


def reference_of(ordered: Sequence[Sample]) -> Sample:
    """Return what sums of floats are relative to: the lowest where all are close to it, else the upper median."""
    lowest, spread = ordered[0], ordered[-1] - ordered[0]
    is_close = lowest > 0 and len(ordered) * spread * spread < 16 * lowest * lowest
    return lowest if is_close else ordered[len(ordered) // 2]


def result_of_run(run: Sequence[Sample], reference: Sample, mean: float | None = None) -> PixelResult:
    """Describe the kept run; ``reference`` is what sums of floats are relative to, ``mean`` another central value."""
    n = len(run)
    if is_exact(run):
        center = float(sum(run)) / n
        v = float(exact_scatter(run))
    else:
        differences = [x - reference for x in run]
        center = reference + sum_in_order(differences) / n
        v = scatter(differences)
    return PixelResult(
        mean=np.float32(center if mean is None else mean),
        n_used=n,
        std=np.float32(math.sqrt(v / float(n * (n - 1))) if n > 1 else 0.0),
        low=run[0],
        high=run[-1],
    )


def result_of_nothing() -> PixelResult:
    return PixelResult(mean=np.float32(NAN), n_used=0, std=np.float32(NAN), low=NAN, high=NAN)


# --- one pixel: the methods ---


def sigma_clip(
    samples: Sequence[Sample],
    *,
    center: Center,
    spread: Spread,
    iterations: int | None,
    low: Fraction,
    high: Fraction,
    min_keep: int = 1,
    noise: Noise,
    model: Model | None = None,
) -> PixelResult:
    """Drop what is farther than ``low`` or ``high`` spreads from the centre, again and again."""
    run = everything = valid_sorted(samples)
    if not everything:
        return result_of_nothing()
    reference = reference_of(everything)
    modelled = None
    if spread == "noise" and model is not None:
        median = float(exact_middle(run)) if is_exact(run) else reference + middle([x - reference for x in run])
        modelled = model.spread(median, noise.step_adu)
    passes = 0
    while iterations is None or passes < iterations:
        if is_exact(run):
            kept = one_exact_pass(run, center, spread, low, high, noise, modelled)
        else:
            kept = one_float_pass(run, reference, center, spread, low, high, noise, modelled)
        if len(kept) < max(1, min_keep) or kept == run:
            break
        run = kept
        passes += 1
    return result_of_run(run, reference)


def one_exact_pass(
    run: Sequence[int],
    center: Center,
    spread: Spread,
    k_low: Fraction,
    k_high: Fraction,
    noise: Noise,
    modelled: float | None = None,
) -> list[int]:
    """Return the integers within the limits, a sample on a limit included."""
    n = len(run)
    median = exact_middle(run)
    c = median if center == "median" else Fraction(sum(run), n)
    if spread == "std":
        variance = Fraction(exact_scatter(run), n * n)
        return [x for x in run if (x - c) ** 2 <= (k_low if x < c else k_high) ** 2 * variance]
    mad = exact_middle(sorted(abs(x - median) for x in run))
    s = max(noise.floor, MAD_TO_STD * mad) if modelled is None else Fraction(round(modelled * 1e6), 10**6)
    return [x for x in run if c - (k_low * s + noise.half_step) <= x <= c + (k_high * s + noise.half_step)]


def one_float_pass(
    run: Sequence[float],
    reference: float,
    center: Center,
    spread: Spread,
    k_low: Fraction,
    k_high: Fraction,
    noise: Noise,
    modelled: float | None = None,
) -> list[float]:
    """Return the floats within the limits, which are wider by 1e-9 of themselves so that ties of scaled data stay."""
    n = len(run)
    differences = [x - reference for x in run]
    total = sum_in_order(differences)
    median = middle(differences)
    mad = middle(sorted(abs(d - median) for d in differences))
    v = scatter(differences)

    def is_kept(d: float) -> bool:
        if spread == "std":
            distance = n * d - total if center == "mean" else n * (d - median)
            k = float(k_low if distance < 0 else k_high)
            return distance * distance <= k * k * v * TIE_TOLERANCE
        distance = d - (total / n if center == "mean" else median)
        k = float(k_low if distance < 0 else k_high)
        s = max(float(noise.floor), float(MAD_TO_STD) * mad) if modelled is None else modelled
        return abs(distance) <= (k * s + float(noise.half_step)) * TIE_TOLERANCE

    return [x for x, d in zip(run, differences, strict=True) if is_kept(d)]


def winsorized_sigma_clip(
    samples: Sequence[Sample], *, low: Fraction, high: Fraction, min_keep: int = 1, noise: Noise
) -> PixelResult:
    """Drop what is farther from the median than k times Huber's winsorized spread, until nothing is dropped."""
    run = everything = valid_sorted(samples)
    if not everything:
        return result_of_nothing()
    reference = reference_of(everything)
    while True:
        differences = [float(x - reference) for x in run]
        m = middle(differences)
        sigma = winsorized_spread(differences, m, float(noise.floor))
        half_step = float(noise.half_step)
        lowest = m - (float(low) * sigma + half_step) * TIE_TOLERANCE
        highest = m + (float(high) * sigma + half_step) * TIE_TOLERANCE
        kept = [x for x, d in zip(run, differences, strict=True) if lowest <= d <= highest]
        if len(kept) < max(1, min_keep) or kept == run:
            return result_of_run(run, reference)
        run = kept


def winsorized_spread(differences: Sequence[float], m: float, floor: float) -> float:
    sigma = max(population_std(differences), floor)
    for _ in range(50):
        lowest, highest = m - 1.5 * sigma, m + 1.5 * sigma
        clamped = [min(max(d, lowest), highest) for d in differences]
        previous, sigma = sigma, max(1.134 * population_std(clamped), floor)
        if abs(sigma - previous) <= 0.0005 * previous:
            break
    return sigma


def population_std(values: Sequence[float]) -> float:
    return math.sqrt(scatter(values)) / len(values)


def minmax(samples: Sequence[Sample], *, n_low: int = 1, n_high: int = 1) -> PixelResult:
    """Drop the ``n_low`` smallest and the ``n_high`` largest where more than two samples are there and one remains."""
    everything = valid_sorted(samples)
    if not everything:
        return result_of_nothing()
    n = len(everything)
    run = everything if n <= 2 or n - n_low - n_high < 1 else everything[n_low : n - n_high]
    return result_of_run(run, reference_of(everything))


def percentile(
    samples: Sequence[Sample], *, n_low: Fraction = Fraction(1, 10), n_high: Fraction = Fraction(1, 10)
) -> PixelResult:
    """Drop the fraction ``n_low`` of the smallest and ``n_high`` of the largest, each number rounded down."""
    everything = valid_sorted(samples)
    if not everything:
        return result_of_nothing()
    n = len(everything)
    run = everything[math.floor(n * n_low) : n - math.floor(n * n_high)]
    return result_of_run(run, reference_of(everything))


def median(samples: Sequence[Sample]) -> PixelResult:
    """Return the median as the central value of all samples."""
    everything = valid_sorted(samples)
    if not everything:
        return result_of_nothing()
    value = float(exact_middle(everything)) if is_exact(everything) else middle(everything)
    return result_of_run(everything, reference_of(everything), mean=value)


def no_rejection(samples: Sequence[Sample]) -> PixelResult:
    """Return the plain mean of all samples."""
    everything = valid_sorted(samples)
    if not everything:
        return result_of_nothing()
    return result_of_run(everything, reference_of(everything))


# --- a stack ---


def combine_stack(stack: NDArray[np.generic], combine_pixel: Callable[[list[Sample]], PixelResult]) -> StackResult:
    """Combine a stack of ADU ``(n_frames, height, width)`` of integers or floats, pixel by pixel."""
    n_frames, height, width = stack.shape
    result = StackResult(
        mean=np.zeros((height, width), np.float32),
        n_used=np.zeros((height, width), np.uint16),
        std=np.zeros((height, width), np.float32),
        low=np.zeros((height, width), np.float32),
        high=np.zeros((height, width), np.float32),
        rejected_per_frame=np.zeros(n_frames, np.int64),
        invalid=int(np.count_nonzero(~np.isfinite(stack))),
    )
    for y in range(height):
        for x in range(width):
            samples = stack[:, y, x].tolist()
            pixel = combine_pixel(samples)
            result.mean[y, x] = pixel.mean
            result.n_used[y, x] = pixel.n_used
            result.std[y, x] = pixel.std
            result.low[y, x] = pixel.low
            result.high[y, x] = pixel.high
            result.rejected_per_frame[:] += [not pixel.low <= sample <= pixel.high for sample in samples]
    return result


# --- the noise of a series ---

SAMPLED_ROWS = 64
CELL_PIXELS = 8
BLOCK_CELLS = 8


def sampled_rows(height: int) -> list[int]:
    """Return all rows of a small image, else 64 rows in the middles of 64 equal bands."""
    if height <= SAMPLED_ROWS:
        return list(range(height))
    return [math.floor((i + Fraction(1, 2)) * height / SAMPLED_ROWS) for i in range(SAMPLED_ROWS)]


def cells_of_row(width: int) -> list[range]:
    """Return the columns of every whole cell; a row narrower than one cell is one cell."""
    if width < CELL_PIXELS:
        return [range(width)]
    return [range(start, start + CELL_PIXELS) for start in range(0, width - CELL_PIXELS + 1, CELL_PIXELS)]


def series_noise(stack: NDArray[np.generic]) -> Noise:
    """Measure the noise of a series: the lower median over cells of 8 pixels of the variance of pairs of frames."""
    n_frames, height, width = stack.shape
    rows = sampled_rows(height)
    finite = [x for y in rows for x in stack[:, y, :].ravel().tolist() if math.isfinite(x)]
    step_adu = 1.0 if all(x == math.floor(x) for x in finite) else 0.0
    variances: list[float] = []
    for y in rows:
        cells = [columns for columns in cells_of_row(width) if all(math.isfinite(x) for x in stack[:, y, columns].flat)]
        if n_frames > 1 and cells:
            is_whole = all(x == math.floor(x) for x in stack[:, y, :].ravel().tolist() if math.isfinite(x))
            frames = [[[float(stack[i, y, x]) for x in columns] for columns in cells] for i in range(n_frames)]
            variances += variances_of_row(frames, is_whole=is_whole)
    if not variances:
        return Noise(noise_adu=0.0, step_adu=step_adu)
    return Noise(noise_adu=math.sqrt(lower(variances, 2)), step_adu=step_adu)


def lower(values: Sequence[float], part: int) -> float:
    """Give the value below which one in so many of the values lie: 2 is the lower median."""
    return sorted(values)[(len(values) - 1) // part]


def variances_of_row(frames: list[list[list[float]]], *, is_whole: bool) -> list[float]:
    """Give the variance of a sample in each cell of a row: frames of cells of samples."""
    cell = len(frames[0][0])
    spreads = [pair_spreads(frames[i], frames[j]) for i, j in noise_pairs(frames)]
    different = [spread for spread in spreads if any(spread)]
    if different:
        limit = 4 * lower([lower(spread, 2) for spread in different], 4)
        limit += cell * max(1, cell - 1) if is_whole else 0
        different = [spread for spread in different if lower(spread, 2) <= limit]
    kept = different or spreads
    variances = []
    for c in range(len(frames[0])):
        in_block = len(frames[0][c - c % BLOCK_CELLS :][:BLOCK_CELLS])
        freedom = max(1.0, cell - (1 if in_block < 3 else 2 / 3) / in_block)
        below = 1 - 2 / (9 * freedom * (len(frames) - 1))
        scale = 2 * len(kept) * cell * freedom * (below * below * below)
        variances.append(sum_in_order([spread[c] for spread in kept]) / scale)
    return variances


def noise_pairs(frames: list[list[list[float]]]) -> list[tuple[int, int]]:
    """Give the pairs of frames that are compared: neighbours, and next ones, in the order of their levels."""
    rows = [[sample for cell in frame for sample in cell] for frame in frames]
    lowest = [min(column) for column in zip(*rows, strict=True)]
    every = math.ceil(len(lowest) / 128)

    def rank(i: int) -> tuple[float, list[float]]:
        return math.fsum(rows[i][::every]), [x - least for x, least in zip(rows[i], lowest, strict=True)]

    order = sorted(range(len(rows)), key=rank)
    n = len(order)
    for farthest in (3, 2, 1):
        pairs = [(i, i + apart) for apart in range(1, farthest + 1) for i in range(n - apart)]
        if len(pairs) <= 24:
            break
    else:
        pairs = [(i, i + 1) for i in (k * (n - 2) // 23 for k in range(24))]
    return [(order[i], order[j]) for i, j in pairs]


def pair_spreads(one: list[list[float]], other: list[list[float]]) -> list[float]:
    """Give the scatter of the differences of two frames in each cell about the level of its block of 8 cells.

    The level is the median of the cells; a single pixel scatters about zero.
    """
    cells = [[x - y for x, y in zip(a, b, strict=True)] for a, b in zip(one, other, strict=True)]
    sums = [sum_in_order(differences) for differences in cells]
    spreads = []
    for c, differences in enumerate(cells):
        squares = sum_in_order([d * d for d in differences])
        if len(differences) > 1:
            block = sorted(sums[c - c % BLOCK_CELLS :][:BLOCK_CELLS])
            level = (block[(len(block) - 1) // 2] + block[len(block) // 2]) / 2
            squares = max(0.0, len(differences) * squares - level * (2 * sums[c] - level))
        spreads.append(squares)
    return spreads


# --- flats: correction, scaling, normalisation ---


def corrected_sample(
    sample: Sample,
    *,
    scale: float,
    dark_offset: np.float32 | None = None,
    dark_rate: np.float32 | None = None,
    exposure_time_s: float = 0.0,
) -> float:
    """Subtract the dark from one sample and scale it, in double precision; the result is rounded to float32."""
    offset = 0.0 if dark_offset is None else float(dark_offset)
    rate = 0.0 if dark_rate is None else float(dark_rate)
    return float(np.float32((float(sample) - (offset + rate * exposure_time_s)) * scale))


def corrected_stack(
    stack: NDArray[np.generic],
    *,
    scale: Sequence[float],
    dark_offset: NDArray[np.float32] | None = None,
    dark_rate: NDArray[np.float32] | None = None,
    exposure_time_s: Sequence[float],
) -> NDArray[np.float32]:
    """Correct all samples of a stack, one by one."""
    corrected = np.zeros(stack.shape, np.float32)
    for i, y, x in np.ndindex(*stack.shape):
        corrected[i, y, x] = corrected_sample(
            stack[i, y, x].item(),
            scale=float(scale[i]),
            dark_offset=None if dark_offset is None else dark_offset[y, x],
            dark_rate=None if dark_rate is None else dark_rate[y, x],
            exposure_time_s=float(exposure_time_s[i]),
        )
    return corrected


def level(image: NDArray[np.generic], statistic: Literal["mean", "median", "max"]) -> float:
    """Return the level of the finite samples of an image, exact before its one rounding."""
    values = sorted(Fraction(x) for x in image.ravel().tolist() if math.isfinite(x))
    if statistic == "max":
        return float(values[-1])
    return float(exact_middle(values) if statistic == "median" else sum(values) / len(values))


def flat_scales(frames: NDArray[np.generic], statistic: Literal["mean", "median"]) -> list[float]:
    """Return the factor that brings every frame (its dark subtracted) to the mean of all levels."""
    levels = [level(frame, statistic) for frame in frames]
    common = float(sum(Fraction(x) for x in levels) / len(levels))
    return [common / x for x in levels]


def normalized(
    image: NDArray[np.float32], statistic: Literal["mean", "median", "max"], bayer_pattern: str | None = None
) -> NDArray[np.float32]:
    """Divide a flat by its level: over all pixels, or over the pixels of each colour (both greens are one colour)."""
    divided = np.zeros(image.shape, np.float32)
    height, width = image.shape
    colours = [[(bayer_pattern or "LLLL")[2 * (y % 2) + x % 2] for x in range(width)] for y in range(height)]
    for colour in sorted({name for row in colours for name in row}):
        inside = np.array([[name == colour for name in row] for row in colours])
        divisor = level(image[inside], statistic)
        divided[inside] = [np.float32(float(x) / divisor) for x in image[inside]]
    return divided
