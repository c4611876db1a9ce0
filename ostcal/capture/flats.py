"""Capture flats: for each filter, find the exposure of the target level, then take the series.

Steady light (a panel, a screen) has one exposure per series; if it would exceed the limits, the brightness of the
panel is changed. The twilight sky needs an exposure for each frame (`ostcal.capture.twilight`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from ostcal.capture.auto_exposure import (
    Accept,
    ExposureRules,
    GiveUp,
    LightProblem,
    Trial,
    decide,
    rounded,
)
from ostcal.capture.budget import SeriesCost, check_room, series_cost
from ostcal.capture.covering import ask_for_light, move_cover
from ostcal.capture.enough import CameraNoise, enough_rules, with_number
from ostcal.capture.exposer import Exposer
from ostcal.capture.panel_brightness import PanelTrial, next_brightness
from ostcal.capture.place import SeriesPlace, differences, find_place
from ostcal.capture.series import capture_series
from ostcal.capture.series_plan import (
    Equipment,
    NoiseTarget,
    RetryRules,
    SeriesOutcome,
    SeriesPlan,
    SeriesSink,
)
from ostcal.capture.twilight import TwilightControl, TwilightRules, wrong_end_line
from ostcal.devices.failures import NotNowError
from ostcal.devices.protocols import CoverState
from ostcal.errors import DeviceError, StorageError
from ostcal.frames import CameraSettings, FrameType
from ostcal.measure.live import SATURATED_FROM, LiveLimits, colour_level, shown_full_scale_adu
from ostcal.naming import NOON_UTC_S, night_of, safe_word, series_name, twilight_name
from ostcal.series.reader import Series, find_series, open_series

logger = logging.getLogger(__name__)

_MOST_BRIGHTNESSES = 12
"""Panel brightnesses to try: bisecting 4096 steps takes twelve."""


@dataclass(frozen=True, kw_only=True)
class FlatRules:
    """Number, exposures, light and filters of the flats."""

    exposure: ExposureRules
    n_frames: int = 40
    start_exposure_s: float = 1.0
    twilight: bool = False
    filters: tuple[str, ...] = ()
    """One series for each; if empty, one with the current filter."""
    brightness: int | None = None
    """Brightness of the panel at the start; ``None`` is half of its maximum."""
    full_scale_adu: int | None = None
    """Level at which samples end; ``None`` is what the camera reports, or a trial frame shows."""
    bias_level_adu: float | None = None
    """Level of bias frames; if ``None``, a frame of the shortest exposure is taken."""
    target: NoiseTarget | None = None
    """Takes as many flats as it needs, instead of `n_frames`; needs `noise`."""
    noise: CameraNoise | None = None
    fixed_exposure_s: float | None = None
    """Exposure at which the brightness of the panel is sought; ``None`` seeks the exposure."""
    name_ending: str = ""
    """What is added to the names of series."""
    rotation_deg: float | None = None
    """How the camera is turned, if it is known: flats of another angle are another series."""
    noon_utc_s: float = NOON_UTC_S
    """Local noon in seconds after 0:00 UTC; twilight flats are named after their night."""
    limits: LiveLimits = field(default_factory=lambda: LiveLimits(saturated_share=0.001))
    retry: RetryRules = field(default_factory=RetryRules)


@dataclass(frozen=True, kw_only=True)
class FlatFailure:
    """A filter without flats, and the reason."""

    filter_name: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class FlatReport:
    """Outcomes and failures of all filters."""

    outcomes: tuple[SeriesOutcome, ...]
    failures: tuple[FlatFailure, ...]


def plan_flats(
    equipment: Equipment,
    settings: CameraSettings,
    rules: FlatRules,
    sink: SeriesSink,
    *,
    set_point_c: float | None = None,
    is_uncooled: bool = False,
) -> tuple[SeriesCost, ...]:
    """Return the missing flats and their cost for each filter; exposures are estimates before the trials.

    `set_point_c` is that of the cooler when they are taken, if it is not what it is now; with `is_uncooled` it is off.

    Raises
    ------
    DeviceError
        If a filter is not in the wheel, or the camera does not answer.
    """
    work = _FlatWork(equipment, settings, rules, sink, set_point_c, is_uncooled=is_uncooled)
    return tuple(work.cost(filter_name) for filter_name in _filters(equipment, rules))


def capture_flats(equipment: Equipment, settings: CameraSettings, rules: FlatRules, sink: SeriesSink) -> FlatReport:
    """Take the flats that are missing, filter by filter.

    If no device makes the light, the user is asked for it. If a filter fails, the next one is tried; a full disk ends
    the run. The panel is always switched off at the end.

    Raises
    ------
    DeviceError
        If a filter is not in the wheel, the user answers no, or the cover does not move; before the first frame.
    StorageError
        If the disk has too little room; before the first frame.
    """
    filters = _filters(equipment, rules)
    work = _FlatWork(equipment, settings, rules, sink)
    costs = [work.cost(filter_name) for filter_name in filters]
    check_room(sink, costs)
    if any(cost.missing for cost in costs):
        ask_for_light(equipment, twilight=rules.twilight)
        work.point()
    outcomes: list[SeriesOutcome] = []
    failures: list[FlatFailure] = []
    try:
        work.prepare_light()
        for filter_name in filters:
            try:
                outcomes.append(work.capture(filter_name))
            except NotNowError:
                raise
            except DeviceError as error:
                logger.warning("flats%s: %s", f" with filter {filter_name}" if filter_name else "", error)
                failures.append(FlatFailure(filter_name=filter_name, reason=str(error)))
            if outcomes and outcomes[-1].ends_step:
                break
    finally:
        work.end_light()
    return FlatReport(outcomes=tuple(outcomes), failures=tuple(failures))


def find_exposure(exposer: Exposer, rules: FlatRules, equipment: Equipment, start_s: float) -> Accept | GiveUp:
    """Take trial frames, from `start_s` on, until one has an accepted level or no exposure can reach it.

    No trial is kept. Raise `DeviceError` if a frame cannot be taken.
    """
    measure = _Trials(exposer, rules, equipment)
    bias = (
        Trial(exposure_s=0.0, level_adu=rules.bias_level_adu)
        if rules.bias_level_adu is not None
        else measure.trial(rules.exposure.min_exposure_s)
    )
    dead_share = min(bias.saturated_share, 0.05)
    trials: list[Trial] = []
    while True:
        exposure = replace(measure.exposure, saturated_share=rules.exposure.saturated_share + dead_share)
        choice = decide(exposure, bias, trials, start_s)
        if isinstance(choice, Accept):
            return replace(choice, full_scale_adu=measure.shown_adu)
        if isinstance(choice, GiveUp):
            return choice
        trial = measure.trial(choice.exposure_s)
        share = 100 * trial.level_adu / measure.exposure.max_adu
        count = f"trial {len(trials) + 1} of {exposure.max_attempts}"
        equipment.watcher.notify(f"{count}: {choice.exposure_s:g} s gives {share:.1f} % of full scale")
        trials.append(trial)


class _Trials:
    """Frames that are taken to be measured, and the full scale that they show."""

    def __init__(self, exposer: Exposer, rules: FlatRules, equipment: Equipment) -> None:
        self._exposer = exposer
        self._equipment = equipment
        self._is_stated = rules.full_scale_adu is not None
        self.exposure = rules.exposure
        self.shown_adu: int | None = None

    def trial(self, exposure_s: float) -> Trial:
        """Take a frame and measure its level; record the requested exposure, as the series will request it too."""
        pixels, info = self._exposer.take(exposure_s, light=True).result.pixels, self._equipment.camera.info
        shown = None if self._is_stated else shown_full_scale_adu(pixels, self.exposure.max_adu)
        if shown is not None:
            self._equipment.watcher.notify(wrong_end_line(self.exposure.max_adu, shown))
            self.shown_adu = shown[0]
            self.exposure = replace(self.exposure, max_adu=shown[0])
        is_bayer = info.bayer_pattern is not None and pixels.shape == (info.height, info.width)
        level = colour_level(pixels, is_bayer=is_bayer, saturation_adu=SATURATED_FROM * self.exposure.max_adu)
        return Trial(exposure_s=exposure_s, level_adu=level.mean_adu, saturated_share=level.saturated_share)


def _filters(equipment: Equipment, rules: FlatRules) -> tuple[str | None, ...]:
    """Return the filters to use; raise `DeviceError` for those that the wheel does not have."""
    if equipment.wheel is None:
        if rules.filters:
            raise DeviceError(
                f"flat_capture.filters names {', '.join(rules.filters)}, but there is no filter wheel; name one in"
                " video.alpaca, or leave filters out"
            )
        return (None,)
    unknown = [name for name in rules.filters if name not in equipment.wheel.names]
    if unknown:
        raise DeviceError(
            f"flat_capture.filters names {', '.join(unknown)}, but the wheel has {', '.join(equipment.wheel.names)}"
        )
    return tuple(dict.fromkeys(rules.filters)) or (equipment.wheel.current(),)


class _FlatWork:
    """Light, trials and series of one run over the filters."""

    def __init__(
        self,
        equipment: Equipment,
        settings: CameraSettings,
        rules: FlatRules,
        sink: SeriesSink,
        set_point_c: float | None = None,
        *,
        is_uncooled: bool = False,
    ) -> None:
        self._equipment = equipment
        self._mount = equipment.mount if rules.twilight else None
        self._settings = settings
        info = equipment.camera.info
        shortest_s = max(rules.exposure.min_exposure_s, info.exposure_min_s)
        longest_s = min(rules.exposure.max_exposure_s, info.exposure_max_s)
        if shortest_s > longest_s:
            raise DeviceError(
                f"{info.name}: it exposes {info.exposure_min_s:g} s to {info.exposure_max_s:g} s, and"
                f" {rules.exposure.min_exposure_s:g} s to {rules.exposure.max_exposure_s:g} s are wanted; change"
                " flat_capture.min_exposure and max_exposure"
            )
        exposure = replace(
            rules.exposure,
            min_exposure_s=shortest_s,
            max_exposure_s=longest_s,
            max_adu=rules.full_scale_adu or info.max_adu,
        )
        self._rules = replace(rules, exposure=exposure)
        self._sink = sink
        self._shown_adu: int | None = None
        """Full scale that the trials of this filter showed."""
        self._exposer = Exposer(equipment.camera, equipment.clock, rules.retry)
        now_c = None if is_uncooled else self._exposer.set_point_c
        self._set_point_c = now_c if set_point_c is None else set_point_c
        self._first_brightness = 0
        """Brightness at the start of each filter; 0 without a panel."""
        self._brightness = 0

    def cost(self, filter_name: str | None) -> SeriesCost:
        """Estimate the cost of the missing flats of one filter."""
        plan = self._sky_plan(filter_name) if self._rules.twilight else self._plan("exp", None, filter_name)
        if self._rules.twilight:
            place = find_place(plan, self._sink, self._exposer.shape, self._set_point_c)
        else:
            begun = self._begun_series(filter_name)
            place = SeriesPlace(location=begun.location if begun else str(self._sink.directory), series=begun)
            plan = replace(plan, exposure_time_s=_exposure_of(begun) if begun else self._rules.start_exposure_s)
            plan = self._numbered(plan, begun)[0]
        return series_cost(plan, self._sink, place, self._exposer.shape)

    def point(self) -> None:
        """Point the mount, before the telescope is uncovered."""
        if self._mount is not None:
            self._mount.begin()

    def prepare_light(self) -> None:
        """Close the cover and switch its panel on; for sky or other light, open the cover."""
        cover = self._equipment.cover
        if cover is None:
            return
        if self._rules.twilight or cover.max_brightness <= 0:
            move_cover(cover, CoverState.OPEN)
            return
        if cover.cover_state() is not CoverState.NOT_PRESENT:
            cover.close_cover()
        wanted = self._rules.brightness if self._rules.brightness is not None else (cover.max_brightness + 1) // 2
        self._first_brightness = min(max(wanted, 1), cover.max_brightness)
        self._switch(self._first_brightness)

    def end_light(self) -> None:
        """Switch the panel off; log a failure, because the flats are good all the same."""
        cover = self._equipment.cover
        if cover is not None and self._brightness:
            try:
                cover.light_off()
            except DeviceError as error:
                logger.warning("the panel could not be switched off: %s", error)

    def capture(self, filter_name: str | None) -> SeriesOutcome:
        """Take the flats of one filter."""
        if filter_name is not None and self._equipment.wheel is not None:
            self._equipment.wheel.select(filter_name)
        if self._rules.twilight:
            return self._capture_sky(filter_name)
        begun = self._begun_series(filter_name)
        if begun is not None and not self._numbered(self._plan("exp", _exposure_of(begun), filter_name), begun)[1]:
            logger.info("%s: complete; move it away to take the flats anew", begun.location)
            exposure_s = _exposure_of(begun)
        else:
            exposure_s = self._steady_exposure(begun)
        plan = self._plan(series_name(exposure_s, filter_name), exposure_s, filter_name)
        return self._capture(self._numbered(plan, begun)[0])

    def _capture(self, plan: SeriesPlan, control: TwilightControl | None = None) -> SeriesOutcome:
        equipment = self._equipment
        return capture_series(
            equipment.camera, plan, self._sink, equipment.clock, equipment.watcher, control=control, mount=self._mount
        )

    def _capture_sky(self, filter_name: str | None) -> SeriesOutcome:
        rules, clock = self._rules, self._equipment.clock
        info = self._equipment.camera.info
        bias_adu = rules.bias_level_adu
        if bias_adu is None:
            # with a shutter, its mean; without one, the darkest pixel of the shortest exposure
            pixels = self._exposer.take(rules.exposure.min_exposure_s, light=False).result.pixels
            bias_adu = min(float(pixels.mean() if info.has_shutter else pixels.min()), 0.1 * info.max_adu)
        control = TwilightControl(
            TwilightRules(
                exposure=rules.exposure,
                bias_level_adu=bias_adu,
                full_scale_is_stated=rules.full_scale_adu is not None,
                is_bayer=info.bayer_pattern is not None and self._settings.binning == (1, 1),
                start_exposure_s=rules.start_exposure_s,
            ),
            clock,
            self._equipment.watcher.notify,
        )
        return self._capture(self._sky_plan(filter_name), control)

    def _sky_plan(self, filter_name: str | None) -> SeriesPlan:
        """Plan a sky series: levels vary within the accepted window, so only larger changes count as jumps."""
        limits, exposure = self._rules.limits, self._rules.exposure
        noon_utc_s = self._sink.night.noon_utc_s if self._sink.night is not None else self._rules.noon_utc_s
        night = night_of(self._equipment.clock.utc(), noon_utc_s)
        plan = self._plan(twilight_name(night, filter_name), None, filter_name)
        jump_share = max(limits.jump_share, 2.5 * exposure.tolerance / exposure.target_rate)
        return replace(plan, limits=replace(limits, jump_share=jump_share))

    def _steady_exposure(self, begun: Series | None) -> float:
        """Find the exposure of a series, changing the panel brightness at the exposure limits.

        If a series was begun, its exposure is tried first at each brightness of the same sequence. So an interrupted
        run finds the same exposure again.
        """
        limits = self._rules.exposure
        if self._rules.fixed_exposure_s is not None:
            return self._fixed_exposure(self._rules.fixed_exposure_s)
        start_s = _exposure_of(begun) if begun is not None else self._rules.start_exposure_s
        self._switch(self._first_brightness)
        tried: dict[int, LightProblem] = {}
        while True:
            found = find_exposure(self._exposer, self._rules, self._equipment, start_s)
            if isinstance(found, Accept):
                self._shown_adu = found.full_scale_adu
                return found.exposure_s
            brightness = self._other_brightness(found, tried)
            if brightness is None:
                raise DeviceError(found.reason)
            self._switch(brightness)
            if begun is None:  # start a little inside the limit that was hit
                is_faint = found.light is LightProblem.TOO_FAINT
                start_s = rounded(limits, limits.max_exposure_s / 2 if is_faint else limits.min_exposure_s * 2)

    def _fixed_exposure(self, exposure_s: float) -> float:
        """Set the brightness of the panel at which an exposure has the level; return the exposure."""
        cover = self._equipment.cover
        if cover is None or not self._first_brightness:
            raise DeviceError(
                "flat_capture.mode: brightness needs a panel, and none is connected; set mode to exposure"
            )
        trials, taken = _Trials(self._exposer, self._rules, self._equipment), list[PanelTrial]()
        bias_adu = self._rules.bias_level_adu or 0.0
        while True:
            try:
                wanted = next_brightness(trials.exposure, bias_adu, taken, self._first_brightness, cover.max_brightness)
            except LookupError as error:
                raise DeviceError(str(error)) from error
            if wanted is None:
                self._shown_adu = trials.shown_adu
                return exposure_s
            self._switch(wanted)
            taken.append(PanelTrial(brightness=wanted, trial=trials.trial(exposure_s)))

    def _other_brightness(self, found: GiveUp, tried: dict[int, LightProblem]) -> int | None:
        """Return the next panel brightness to try; ``None`` without a panel or if none is left."""
        cover = self._equipment.cover
        if cover is None or not self._first_brightness or len(tried) >= _MOST_BRIGHTNESSES:
            return None
        tried[self._brightness] = found.light
        too_dark = max((level for level, light in tried.items() if light is LightProblem.TOO_FAINT), default=0)
        too_bright = min(
            (level for level, light in tried.items() if light is LightProblem.TOO_BRIGHT),
            default=cover.max_brightness + 1,
        )
        if found.light is LightProblem.TOO_FAINT:
            wanted = min(self._brightness * 4, cover.max_brightness)
        else:
            wanted = max(self._brightness // 4, 1)
        if not too_dark < wanted < too_bright:
            wanted = (too_dark + too_bright) // 2
        return wanted if too_dark < wanted < too_bright else None

    def _switch(self, brightness: int) -> None:
        """Set the brightness of the panel, if there is one."""
        cover = self._equipment.cover
        if cover is None or not brightness or brightness == self._brightness:
            return
        self._equipment.watcher.notify(f"panel at {brightness} of {cover.max_brightness}")
        self._brightness = brightness  # before the call: the panel is switched off at the end even if this fails
        cover.light_on(brightness)

    def _begun_series(self, filter_name: str | None) -> Series | None:
        """Return the series with these settings that has most frames, whatever its exposure, or ``None``."""
        fitting: list[Series] = []
        for location in find_series([self._sink.directory]):
            try:
                series = open_series(location)
            except StorageError as error:
                logger.debug("%s", error)
                continue
            exposure_s = series.settings.get("exposure_time_s")
            fixed_s = self._rules.fixed_exposure_s
            if fixed_s is not None and exposure_s != fixed_s:
                continue
            if not isinstance(exposure_s, (int, float)) or Path(location).parent != Path(self._sink.directory):
                continue
            plan = self._plan(safe_word(location), float(exposure_s), filter_name)
            is_of_night = self._sink.night is None or self._sink.night.has(series)
            if is_of_night and not differences(series, plan, self._exposer.shape, self._set_point_c):
                fitting.append(series)
        return max(fitting, key=lambda series: len(series.records), default=None)

    def _numbered(self, plan: SeriesPlan, begun: Series | None) -> tuple[SeriesPlan, int]:
        """Return a plan with the number of flats that it is expected to take, and how many of them are missing."""
        rules, present = self._rules, len(begun.records) if begun is not None else 0
        if rules.target is not None and rules.noise is not None:
            bias_adu = rules.bias_level_adu or 0.0
            level_adu = rules.exposure.target_rate * rules.exposure.max_adu - bias_adu
            enough = enough_rules(rules.target, rules.noise, FrameType.FLAT, 0.0, level_adu)
            plan = with_number(plan, enough, SeriesPlace(location=plan.name, series=begun), bias_adu)
        return plan, max(0, plan.n_frames - present)

    def _plan(self, name: str, exposure_s: float | None, filter_name: str | None) -> SeriesPlan:
        return SeriesPlan(
            name=f"{name}{self._rules.name_ending}",
            frame_type=FrameType.FLAT,
            rotation_deg=self._rules.rotation_deg,
            exposure_time_s=exposure_s,
            n_frames=self._rules.n_frames,
            settings=self._settings,
            light=True,
            filter_name=filter_name,
            limits=self._rules.limits,
            bias_level_adu=self._rules.bias_level_adu,
            full_scale_adu=self._rules.full_scale_adu or self._shown_adu,
            retry=self._rules.retry,
        )


def _exposure_of(series: Series) -> float:
    return float(series.settings["exposure_time_s"])
