"""Plan and capture bias frames and darks: their exposures, their cost, and all series in turn."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ostcal.capture.budget import SeriesCost, check_room, series_cost
from ostcal.capture.camera_noise import find_noise_series, measure_noise
from ostcal.capture.covering import make_dark
from ostcal.capture.enough import REACHED, CameraNoise, enough_rules, expected_frames, with_number
from ostcal.capture.exposer import Exposer
from ostcal.capture.nights import EarlierSeries
from ostcal.capture.place import SeriesPlace, find_place
from ostcal.capture.series import capture_series, keep_series
from ostcal.capture.series_plan import (
    Equipment,
    NoiseTarget,
    RetryRules,
    SeriesOutcome,
    SeriesPlan,
    SeriesSink,
)
from ostcal.devices.protocols import CameraInfo
from ostcal.errors import InputError, StorageError
from ostcal.fits.read import find_fits, inspect_images
from ostcal.frames import CameraSettings, FrameMetadata, FrameType
from ostcal.measure.live import LiveLimits
from ostcal.naming import NOON_UTC_S, night_of, series_name
from ostcal.places.paths import Location
from ostcal.series.reader import find_series, open_series

logger = logging.getLogger(__name__)

SAME_EXPOSURE = 1e-3
"""Exposures within 0.1 % count as equal; masters are grouped with the same tolerance."""

DEFAULT_FLAT_EXPOSURE_S = 1.0
_FEWEST_FLATS = 2
"""Fewest flats of one exposure that get darks of their own; twilight flats all differ."""


@dataclass(frozen=True, kw_only=True)
class DarkRules:
    """Number, exposures and limits of the darks."""

    n_frames: int = 40
    science_exposure_s: float = 5.0
    factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    flat_exposures_s: tuple[float, ...] = (DEFAULT_FLAT_EXPOSURE_S,)
    """See `flat_exposures`."""
    min_exposure_s: float = 0.001
    max_exposure_s: float = 60.0
    earlier: EarlierSeries = field(default_factory=EarlierSeries)
    """Series of earlier nights that make new ones needless."""
    target: NoiseTarget | None = None
    """Takes as many frames as it needs, instead of `n_frames`."""
    measured_in: tuple[str, ...] = ()
    """Directories of series on which the noise of the camera is measured."""
    limits: LiveLimits = field(default_factory=LiveLimits)
    retry: RetryRules = field(default_factory=RetryRules)


@dataclass(frozen=True, kw_only=True)
class DarkExposures:
    """The exposures to take, and those left out."""

    exposures_s: tuple[float, ...]
    """In ascending order; the first is that of the bias frames."""
    left_out: tuple[str, ...]
    """One line for each exposure outside the limits."""


@dataclass(frozen=True, kw_only=True)
class DarkPlan:
    """The series to take and their cost: the table shown before the first frame."""

    series: tuple[SeriesPlan, ...]
    costs: tuple[SeriesCost, ...]
    """One for each series."""
    left_out: tuple[str, ...]
    earlier: Mapping[str, SeriesPlace] = field(default_factory=dict)
    """Complete series of earlier nights that serve, by the name of the series for which they stand."""
    is_dark: bool = False
    """Whether it was made dark already, to measure the noise of the camera."""

    def incomplete(self) -> DarkPlan:
        """Return the plan without the complete series."""
        todo = [(series, cost) for series, cost in zip(self.series, self.costs, strict=True) if cost.missing]
        return replace(self, series=tuple(series for series, _ in todo), costs=tuple(cost for _, cost in todo))


def flat_exposures(
    configured_s: float | None,
    directories: Iterable[Location],
    noon_utc_s: float = NOON_UTC_S,
    settings: CameraSettings | None = None,
) -> tuple[float, ...]:
    """Return the exposures of the flats: as configured, else of the existing flats, else 1 s with a warning.

    `configured_s` is ``dark_capture.flat_exposure_time``. Existing flats are those of the newest night, in series and
    FITS files in the directories; each filter may have its own exposure. Flats with another gain or binning than that
    of `settings` get no darks with these. Nights end at `noon_utc_s`.
    """
    if configured_s is not None:
        return (configured_s,)
    places = list(directories)
    frames: list[FrameMetadata] = []
    for location in find_series(places):
        try:
            frames += [record.metadata for record in open_series(location).records]
        except StorageError as error:
            logger.warning("%s", error)
    for path in find_fits(places):
        try:
            frames.append(inspect_images(path)[0].metadata)
        except InputError as error:
            logger.debug("%s", error)
    frames = [frame for frame in frames if settings is None or _has_settings(frame, settings)]
    found = _flat_exposures_of(frames, noon_utc_s)
    groups: list[list[float]] = []
    for exposure_s in sorted(found):
        if not groups or exposure_s - groups[-1][0] > SAME_EXPOSURE * exposure_s:
            groups.append([])
        groups[-1].append(exposure_s)
    if found:
        large = [group for group in groups if len(group) >= _FEWEST_FLATS] or [found]
        return tuple(statistics.median(group) for group in large)
    logger.warning(
        "no flats in %s: darks for them are taken with %g s; set dark_capture.flat_exposure_time, or take flats first",
        ", ".join(map(str, places)),
        DEFAULT_FLAT_EXPOSURE_S,
    )
    return (DEFAULT_FLAT_EXPOSURE_S,)


def find_bias_level(directories: Iterable[Location], settings: CameraSettings, shape: tuple[int, int]) -> float | None:
    """Return the median level (ADU) of the bias frames with these settings and this size on disk, or ``None``."""
    levels: list[float] = []
    for location in find_series(directories):
        try:
            series = open_series(location)
        except StorageError as error:
            logger.debug("%s", error)
            continue
        if series.frame_type is FrameType.BIAS and (series.height, series.width) == shape:
            usable = [record for record in series.records if record.index not in series.excluded]
            of_settings = [record for record in usable if record.metadata.settings == settings]
            medians = [record.pixels.statistics.median for record in of_settings]
            levels += [median for median in medians if median is not None]
    return statistics.median(levels) if levels else None


def dark_exposures(rules: DarkRules, info: CameraInfo) -> DarkExposures:
    """List the exposures to take: the shortest (bias), those of the flats and of the science frames, each once."""
    shortest_s = max(rules.min_exposure_s, info.exposure_min_s)
    longest_s = min(rules.max_exposure_s, info.exposure_max_s)
    wanted = [(exposure_s, "flats") for exposure_s in rules.flat_exposures_s]
    wanted += [(rules.science_exposure_s * factor, f"science frames x {factor:g}") for factor in rules.factors]
    chosen = [shortest_s]
    left_out = []
    for exposure_s, purpose in sorted(wanted):
        if not shortest_s * (1 - SAME_EXPOSURE) <= exposure_s <= longest_s * (1 + SAME_EXPOSURE):
            left_out.append(
                f"{exposure_s:g} s ({purpose}) are left out: {shortest_s:g} s to {longest_s:g} s are possible"
                " (dark_capture.min_exposure, dark_capture.max_exposure and the camera); change these, or the exposure"
            )
        elif exposure_s - chosen[-1] > SAME_EXPOSURE * exposure_s:
            chosen.append(min(exposure_s, longest_s))
    return DarkExposures(exposures_s=tuple(chosen), left_out=tuple(left_out))


def plan_darks(equipment: Equipment, settings: CameraSettings, rules: DarkRules, sink: SeriesSink) -> DarkPlan:
    """Plan all series, with the missing frames and their cost.

    With a target of noise it is made dark, and trial frames are taken where no series says the noise of the camera.

    Raises
    ------
    DeviceError
        If the camera does not answer.
    """
    exposer = Exposer(equipment.camera, equipment.clock, rules.retry)
    exposures = dark_exposures(rules, equipment.camera.info)
    plans = []
    costs = []
    earlier: dict[str, SeriesPlace] = {}
    noise = _measured_noise(equipment, settings, rules, exposer, exposures.exposures_s)
    for number, exposure_s in enumerate(exposures.exposures_s):
        plan = SeriesPlan(
            name=series_name(exposure_s),
            frame_type=FrameType.DARK if number else FrameType.BIAS,
            exposure_time_s=exposure_s,
            n_frames=rules.n_frames,
            settings=settings,
            light=False,
            limits=rules.limits,
            retry=rules.retry,
        )
        place = find_place(plan, sink, exposer.shape, exposer.set_point_c)
        if rules.target is not None and noise is not None:
            plan = with_number(plan, enough_rules(rules.target, noise, plan.frame_type, exposure_s), place)
        if place.present < plan.n_frames and sink.night is not None:
            wanted = plan
            if plan.enough is not None:
                wanted = replace(plan, n_frames=expected_frames(plan.enough, factor=REACHED))
            there = rules.earlier.place_of(wanted, exposer.shape, exposer.set_point_c, equipment.clock.utc())
            if there is not None:
                place = earlier[plan.name] = there
        plans.append(plan)
        costs.append(series_cost(plan, sink, place, exposer.shape))
    return DarkPlan(
        series=tuple(plans),
        costs=tuple(costs),
        left_out=exposures.left_out,
        earlier=earlier,
        is_dark=noise is not None,
    )


def _measured_noise(
    equipment: Equipment,
    settings: CameraSettings,
    rules: DarkRules,
    exposer: Exposer,
    exposures_s: tuple[float, ...],
) -> CameraNoise | None:
    """Return the noise of the camera where the number of frames depends on it."""
    if rules.target is None:
        return None
    make_dark(equipment, exposures_s, rules.limits, rules.retry)
    return measure_noise(
        equipment,
        find_noise_series(rules.measured_in, settings, exposer.shape, exposer.set_point_c),
        rules.retry,
        bias_s=exposures_s[0],
        light_s=min(rules.target.light_exposure_s or rules.target.science_exposure_s, rules.max_exposure_s),
        sky_e_per_s=rules.target.sky_e_per_s,
    )


def capture_darks(equipment: Equipment, plan: DarkPlan, sink: SeriesSink) -> tuple[SeriesOutcome, ...]:
    """Take the bias frames and darks of a plan that are missing, the shortest first.

    An unfinished series keeps its frames, and the next one is tried; a full disk ends the run.

    Raises
    ------
    StorageError
        If the disk has too little room, before the first frame.
    DeviceError
        If the sensor cannot be kept dark.
    """
    for line in plan.left_out:
        logger.warning("darks of %s", line)
    check_room(sink, plan.costs)
    todo = [series for series, cost in zip(plan.series, plan.costs, strict=True) if cost.missing]
    if todo and not plan.is_dark:
        exposures_s = tuple(series.exposure_time_s or 0.0 for series in plan.series)
        make_dark(equipment, exposures_s, todo[0].limits, todo[0].retry)
    outcomes: list[SeriesOutcome] = []
    bias_adu = None
    if plan.series and plan.series[0].frame_type is not FrameType.BIAS:
        bias_adu = find_bias_level([sink.directory], plan.series[0].settings, equipment.camera.frame_shape())
    for series in plan.series:
        if (there := plan.earlier.get(series.name)) is not None:
            outcome = keep_series(series, there, equipment.watcher)
        else:
            outcome = capture_series(
                equipment.camera, replace(series, bias_level_adu=bias_adu), sink, equipment.clock, equipment.watcher
            )
        outcomes.append(outcome)
        if series.frame_type is FrameType.BIAS:
            bias_adu = outcome.level_adu
        if outcome.ends_step:
            break
    return tuple(outcomes)


def _has_settings(frame: FrameMetadata, settings: CameraSettings) -> bool:
    """Return whether gain and binning of a frame are those of the camera, as far as both are known."""
    gains = {frame.settings.gain, settings.gain} - {None}
    return len(gains) <= 1 and frame.settings.binning == settings.binning


def _flat_exposures_of(frames: Iterable[FrameMetadata], noon_utc_s: float) -> list[float]:
    """Return the exposures of the flats of the newest night, and of those that do not say when they were taken."""
    flats = [
        (night_of(frame.date_obs, noon_utc_s), frame.exposure_time_s)
        for frame in frames
        if frame.frame_type is FrameType.FLAT and not frame.is_master and frame.exposure_time_s
    ]
    newest = max((night for night, _ in flats if night is not None), default=None)
    return [exposure_s for night, exposure_s in flats if night in (None, newest)]
