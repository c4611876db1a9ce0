"""Plan and take the points of a capture plan: the table first, then temperature by temperature."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from ostcal.capture.budget import SeriesCost, check_room, series_cost
from ostcal.capture.camera_noise import find_noise_series, measure_noise, noise_on_disk
from ostcal.capture.cooling import CoolingRules, cool
from ostcal.capture.covering import make_dark
from ostcal.capture.enough import REACHED, CameraNoise, enough_rules, expected_frames, with_number
from ostcal.capture.exposer import finite, set_point_of
from ostcal.capture.flats import FlatRules, capture_flats, plan_flats
from ostcal.capture.nights import EarlierSeries
from ostcal.capture.place import SeriesPlace, find_place
from ostcal.capture.points import Point, fitting, name_ending, ordered, unique, waits_s
from ostcal.capture.series import Until, capture_series, keep_series
from ostcal.capture.series_plan import (
    EnoughRules,
    Equipment,
    NoiseTarget,
    RetryRules,
    SeriesOutcome,
    SeriesPlan,
    SeriesSink,
)
from ostcal.devices.failures import NotNowError
from ostcal.devices.protocols import CameraRequest
from ostcal.errors import DeviceError
from ostcal.frames import CameraSettings, FrameType
from ostcal.measure.live import LiveLimits
from ostcal.naming import series_name

logger = logging.getLogger(__name__)

_MOST_NAMED = 20
"""Points without frames that get a line each."""


@dataclass(frozen=True, kw_only=True)
class PointRules:
    """How and where the points of a plan are taken."""

    darks: SeriesSink
    flats: SeriesSink
    flat_rules: FlatRules
    cooling: CoolingRules
    """The temperature is that of each point."""
    earlier: EarlierSeries = field(default_factory=lambda: EarlierSeries(strategy="all"))
    """Series of earlier nights that make bias frames and darks needless."""
    max_hours: float | None = None
    target: NoiseTarget | None = None
    """What frames of points with an automatic number must reach."""
    measured_in: tuple[str, ...] = ()
    """Directories of series on which the noise of the camera is measured."""
    limits: LiveLimits = field(default_factory=LiveLimits)
    retry: RetryRules = field(default_factory=RetryRules)

    @property
    def budget_s(self) -> float | None:
        """Seconds that the plan may take."""
        return None if self.max_hours is None else 3600 * self.max_hours


@dataclass(frozen=True, kw_only=True)
class PlannedPoint:
    """A point with the settings that the camera took, and what its frames cost."""

    point: Point
    settings: CameraSettings
    cost: SeriesCost
    ending: str
    """What is added to the name of the series."""
    earlier: SeriesPlace | None = None
    """A complete series of an earlier night that serves."""


@dataclass(frozen=True, kw_only=True)
class PointsPlan:
    """The points to take in their order: the table shown before the first frame."""

    points: tuple[PlannedPoint, ...]
    left_out: tuple[str, ...]
    """One line for each point that does not fit into the time."""

    @property
    def costs(self) -> tuple[SeriesCost, ...]:
        """Return the cost of each point."""
        return tuple(one.cost for one in self.points)


@dataclass(frozen=True, kw_only=True)
class PointsReport:
    """What was taken, and one line for each point that was not."""

    outcomes: tuple[SeriesOutcome, ...]
    failures: tuple[str, ...]


def plan_points(equipment: Equipment, points: Sequence[Point], rules: PointRules) -> PointsPlan:
    """Plan the points: apply the settings of each to the camera, and look which frames are missing.

    Raises
    ------
    DeviceError
        If the camera refuses a setting, has no cooler for a temperature, or the wheel lacks a filter: with the place
        of the point in the plan.
    """
    sensor_c = finite(equipment.camera.status().ccd_temperature_c)
    in_order = ordered(unique(points), sensor_c)
    applied = _applied(equipment, in_order)
    shapes = [shape for _, shape in applied]
    settings = [taken for taken, _ in applied]
    combinations = [
        (taken, point.temperature_c, point.rotation_deg) for taken, point in zip(settings, in_order, strict=True)
    ]
    planned = [
        _planned(equipment, point, taken, shape, name_ending(*own, combinations), rules)
        for point, taken, shape, own in zip(in_order, settings, shapes, combinations, strict=True)
    ]
    chosen, left = fitting(
        in_order, [one.cost.time_s for one in planned], rules.budget_s, sensor_c, rules.cooling.stable_s
    )
    todo = [planned[number] for number in chosen if planned[number].cost.missing]
    waits = iter(waits_s([one.point for one in todo], sensor_c, rules.cooling.stable_s))
    timed = [
        replace(one, cost=replace(one.cost, wait_s=next(waits))) if one.cost.missing else one
        for one in (planned[number] for number in chosen)
    ]
    hours = f"{rules.max_hours:g} hours" if rules.max_hours is not None else ""
    lines = [
        f"{in_order[number].text}: left out, {planned[number].cost.time_s / 60:.0f} min do not fit into {hours}"
        for number in left
    ]
    return PointsPlan(points=tuple(timed), left_out=tuple(lines))


def _applied(equipment: Equipment, points: Sequence[Point]) -> list[tuple[CameraSettings, tuple[int, int]]]:
    """Return the settings that read back and the size of the frames for each point."""
    camera, wheel = equipment.camera, equipment.wheel
    known: dict[CameraRequest, tuple[CameraSettings, tuple[int, int]]] = {}
    for point in points:
        where = f"{point.name}: " if point.name else ""
        if point.temperature_c is not None and not camera.info.can_set_temperature:
            raise DeviceError(
                f"{where}temperature: {point.temperature_c:g}: {camera.info.name} cannot be cooled to a set point;"
                " leave it out"
            )
        if point.filter_name is not None and (wheel is None or point.filter_name not in wheel.names):
            there = f"the wheel has {', '.join(wheel.names)}" if wheel is not None else "no filter wheel is connected"
            raise DeviceError(f"{where}filter: {point.filter_name}: {there}")
        if point.request not in known:
            try:
                known[point.request] = camera.apply(point.request), camera.frame_shape()
            except DeviceError as error:
                raise DeviceError(f"{where}{point.settings_text}: {error}") from error
    return [known[point.request] for point in points]


def _planned(
    equipment: Equipment,
    point: Point,
    settings: CameraSettings,
    shape: tuple[int, int],
    ending: str,
    rules: PointRules,
) -> PlannedPoint:
    set_c = point.temperature_c if point.temperature_c is not None else set_point_of(equipment.camera.status())
    earlier = None
    # Frames without a temperature may be from before this plan set the cooler: a run that was killed leaves it on.
    was_uncooled = point.temperature_c is None and set_c is not None
    if point.kind is FrameType.FLAT:
        flat_rules = _flat_rules(point, ending, rules)
        equipment.camera.apply(point.request)
        (cost,) = plan_flats(equipment, settings, flat_rules, rules.flats, set_point_c=set_c)
        if cost.missing and was_uncooled and rules.flats.night is not None:
            (uncooled,) = plan_flats(equipment, settings, flat_rules, rules.flats, is_uncooled=True)
            cost = cost if uncooled.missing else uncooled
    else:
        plan = _series_plan(point, settings, ending, rules)
        place = find_place(plan, rules.darks, shape, set_c)
        wanted = plan
        if point.is_auto:
            equipment.camera.apply(point.request)  # its gain in electrons is that of the settings
            plan, wanted = _expected(equipment, plan, place, shape, set_c, rules)
        if was_uncooled and rules.darks.night is not None:
            without = find_place(plan, rules.darks, shape, None)
            place = without if without.present >= plan.n_frames else place
        if place.present < plan.n_frames:
            earlier = rules.earlier.place_of(wanted, shape, set_c, equipment.clock.utc())
        cost = series_cost(plan, rules.darks, earlier or place, shape)
    cost = replace(cost, kind=str(point.kind), settings=point.settings_text, temperature_c=point.temperature_c)
    return PlannedPoint(point=point, settings=settings, cost=cost, ending=ending, earlier=earlier)


def _series_plan(point: Point, settings: CameraSettings, ending: str, rules: PointRules) -> SeriesPlan:
    exposure_s = point.exposure_s or 0.0
    return SeriesPlan(
        name=f"{series_name(exposure_s)}{ending}",
        frame_type=point.kind,
        exposure_time_s=exposure_s,
        n_frames=point.count,
        settings=settings,
        light=False,
        limits=rules.limits,
        retry=rules.retry,
    )


def _expected(
    equipment: Equipment,
    plan: SeriesPlan,
    place: SeriesPlace,
    shape: tuple[int, int],
    set_c: float | None,
    rules: PointRules,
) -> tuple[SeriesPlan, SeriesPlan]:
    """Return the plan with the number of frames that is expected, and with that at which a series is enough.

    Where no series with these settings says the noise, a light is reckoned with that of the frame itself.
    """
    target = rules.target or NoiseTarget()
    there = find_noise_series(rules.measured_in, plan.settings, shape, set_c)
    noise = noise_on_disk(there, equipment.camera.info.electrons_per_adu)
    enough = EnoughRules(target=target, light_variance_adu2=1.0, frame_variance_adu2=1.0)
    if noise is None:
        number = expected_frames(enough)
        return replace(plan, n_frames=max(number, place.present + 1) if place.present else number), plan
    enough = enough_rules(target, noise, plan.frame_type, plan.exposure_time_s or 0.0)
    planned = with_number(plan, enough, place)
    return planned, replace(plan, n_frames=expected_frames(planned.enough or enough, factor=REACHED))


def _flat_rules(point: Point, ending: str, rules: PointRules) -> FlatRules:
    return replace(
        rules.flat_rules,
        n_frames=point.count,
        filters=() if point.filter_name is None else (point.filter_name,),
        name_ending=ending,
        rotation_deg=point.rotation_deg,
        bias_level_adu=None,
    )


# ---- taking ----


def capture_points(equipment: Equipment, plan: PointsPlan, rules: PointRules) -> PointsReport:
    """Take the missing frames of a plan, temperature by temperature.

    A point that fails is named, and the next one is tried; a full disk ends the run, and so does a camera that may not
    expose now (it is not safe). The panel is off and the cooler at the last temperature at the end.

    Raises
    ------
    StorageError
        If the disk has too little room, before the first frame.
    """
    for line in _shortened(plan.left_out):
        logger.warning("%s", line)
    for sink, is_flat in ((rules.darks, False), (rules.flats, True)):
        check_room(sink, [one.cost for one in plan.points if (one.point.kind is FrameType.FLAT) == is_flat])
    return _PointsRun(equipment, rules).run(plan)


class _PointsRun:
    """One pass over the points of a plan."""

    def __init__(self, equipment: Equipment, rules: PointRules) -> None:
        self._equipment = equipment
        self._rules = rules
        self._ends_s = None if rules.budget_s is None else equipment.clock.now_s() + rules.budget_s
        self._over = f"the {rules.max_hours:g} hours of the plan are over" if rules.max_hours is not None else ""
        self._is_dark = False
        self._turned_deg: float | None = None
        self._bias_adu: dict[tuple[CameraSettings, float | None], float] = {}
        self._noise: dict[tuple[CameraSettings, float | None], CameraNoise] = {}
        self._outcomes: list[SeriesOutcome] = []
        self._failures: list[str] = []
        self._ended = ""
        """Why nothing more is taken."""

    def run(self, plan: PointsPlan) -> PointsReport:
        """Take all points; return what became of them."""
        for one in plan.points:
            if one.earlier is not None:
                kept = _series_plan(one.point, one.settings, one.ending, self._rules)
                self._outcomes.append(keep_series(kept, one.earlier, self._equipment.watcher))
        todo = [one for one in plan.points if one.cost.missing]
        for temperature_c, group in groupby(todo, key=lambda one: one.point.temperature_c):
            points = list(group)
            reason = self._why_not(points[0]) or self._cool(temperature_c)
            if reason:
                self._failures += [f"{one.point.text}: not taken, {reason}" for one in points]
                continue
            self._take_all(points)
        return PointsReport(outcomes=tuple(self._outcomes), failures=_shortened(self._failures))

    def _why_not(self, one: PlannedPoint) -> str | None:
        """Return why no frame of a point can be taken any more."""
        if self._ended:
            return self._ended
        exposure_s = one.cost.exposure_time_s or 0.0
        if self._ends_s is not None and self._equipment.clock.now_s() + exposure_s > self._ends_s:
            return self._over
        return None

    def _cool(self, temperature_c: float | None) -> str | None:
        """Cool to a temperature; return why that is not possible."""
        if temperature_c is None:
            return None
        try:
            outcome = cool(self._equipment, replace(self._rules.cooling, target_c=temperature_c))
        except DeviceError as error:
            return str(error)
        return None if outcome.reached else outcome.message

    def _take_all(self, points: Sequence[PlannedPoint]) -> None:
        """Take points of one temperature, until one ends in a way in which the next would end too."""
        for one in points:
            if reason := self._why_not(one):
                self._failures.append(f"{one.point.text}: not taken, {reason}")
                continue
            try:
                self._equipment.camera.apply(one.point.request)
                taken = self._flats(one) if one.point.kind is FrameType.FLAT else [self._dark(one)]
            except DeviceError as error:
                logger.warning("%s: %s", one.point.text, error)
                self._failures.append(f"{one.point.text}: not taken, {error}")
                if isinstance(error, NotNowError):
                    self._ended = str(error)
                continue
            self._outcomes += taken
            self._ended = next((outcome.reason for outcome in taken if outcome.ends_step), "")

    def _dark(self, one: PlannedPoint) -> SeriesOutcome:
        equipment, rules = self._equipment, self._rules
        plan = _series_plan(one.point, one.settings, one.ending, rules)
        if not self._is_dark:
            make_dark(equipment, (plan.exposure_time_s or 0.0,), rules.limits, rules.retry)
            self._is_dark = True
        key = one.settings, one.point.temperature_c
        plan = replace(plan, bias_level_adu=self._bias_adu.get(key))
        if one.point.is_auto:
            plan = self._with_number(plan, one)
        control = Until(plan, equipment.clock, self._ends_s, self._over)
        outcome = capture_series(
            equipment.camera, plan, rules.darks, equipment.clock, equipment.watcher, control=control
        )
        if one.point.kind is FrameType.BIAS and outcome.level_adu is not None:
            self._bias_adu[key] = outcome.level_adu
        return outcome

    def _with_number(self, plan: SeriesPlan, one: PlannedPoint) -> SeriesPlan:
        """Return a plan that ends when its frames are enough by the noise that the camera has with these settings."""
        equipment, rules = self._equipment, self._rules
        target = rules.target or NoiseTarget()
        camera, key = equipment.camera, (one.settings, one.point.temperature_c)
        shape, set_c = camera.frame_shape(), set_point_of(camera.status())
        if key not in self._noise:
            self._noise[key] = measure_noise(
                equipment,
                find_noise_series(rules.measured_in, one.settings, shape, set_c),
                rules.retry,
                bias_s=camera.info.exposure_min_s
                if plan.frame_type is not FrameType.BIAS
                else plan.exposure_time_s or 0.0,
                light_s=min(target.light_exposure_s or target.science_exposure_s, camera.info.exposure_max_s),
                sky_e_per_s=target.sky_e_per_s,
            )
        enough = enough_rules(target, self._noise[key], plan.frame_type, plan.exposure_time_s or 0.0)
        return with_number(plan, enough, find_place(plan, rules.darks, shape, set_c))

    def _flats(self, one: PlannedPoint) -> list[SeriesOutcome]:
        self._is_dark = False
        self._turn(one.point.rotation_deg)
        rules = _flat_rules(one.point, one.ending, self._rules)
        level_adu = self._bias_adu.get((one.settings, one.point.temperature_c))
        report = capture_flats(
            self._equipment, one.settings, replace(rules, bias_level_adu=level_adu), self._rules.flats
        )
        self._failures += [f"{one.point.text}: {failure.reason}" for failure in report.failures]
        return list(report.outcomes)

    def _turn(self, rotation_deg: float | None) -> None:
        """Ask for the angle of the camera, which no device here turns."""
        if rotation_deg is None or rotation_deg == self._turned_deg:
            return
        need = f"the camera must be turned to {rotation_deg:g} degrees"
        if self._equipment.ask is None:
            logger.warning("nobody is asked: %s now", need)
        elif not self._equipment.ask(f"For these flats {need}. Is it?"):
            raise DeviceError(f"{need}, and is not")
        self._turned_deg = rotation_deg


def _shortened(lines: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - _MOST_NAMED} more series"] if len(lines) > _MOST_NAMED else []
    return (*lines[:_MOST_NAMED], *more)
