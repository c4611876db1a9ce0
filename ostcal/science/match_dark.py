"""Choice of the dark of a science frame: of its exposure, else scaled, else from a fit, else the bias alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from ostcal.build.match_darks import (
    MAX_STRETCH,
    DarkCandidate,
    choose_line,
    choose_sum,
    ranked,
    stretch_of,
    why_unfit,
)
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.stated_settings import unstated_settings
from ostcal.library.find import LibraryMaster
from ostcal.science.dark_of_temperature import TemperatureDark, TemperatureRules, dark_of_temperature
from ostcal.science.fitting import choose_science_bias, dark_unfit, nothing_fits, refuse_other_geometry
from ostcal.science.matched import DarkMix, DarkPart, MatchRules, is_near_exposure, is_same_exposure, usable_masters
from ostcal.science.synthetic_dark import NoSyntheticDark, SyntheticDark, SyntheticRules, synthetic_dark

TEMPERATURE_STEP_C = 0.5
"""Darks nearer to each other than this are of one temperature: the time decides, not 0.1 degrees."""

FitOf = Callable[[GroupKey, Sequence[LibraryMaster], SyntheticRules], SyntheticDark | NoSyntheticDark]
"""Makes the dark of an exposure that was not taken."""


def choose_science_dark(
    key: GroupKey,
    library: Sequence[LibraryMaster],
    rules: MatchRules,
    taken_at: datetime | None = None,
    fit: FitOf = synthetic_dark,
) -> DarkMix:
    """Choose the dark of a science frame that was taken at some time.

    Masters that record all that the frame does are tried first, then those that leave one setting open, and so on; of
    these, masters within their age before older ones. Of masters that fit alike the one whose frames were taken nearest
    in time is taken.

    First a dark of the exposure, within 0.05 s or 0.1 %. Else one within the relative exposure tolerance, its dark
    current scaled with a bias or a second dark, or as it is where neither is there. Else a fit over three exposures or
    more, where its chi-square allows; else bias plus scaled dark current; else the line through two darks; else a bias
    and a dark of which one lacks what the frame has. Where no dark has the temperature, a fit over three temperatures
    or more. A bias alone leaves the dark current in: it is chosen where no dark of the camera has the temperature.

    Raises
    ------
    InputError
        If none fits; the message names the nearest master and the condition that failed.
    StorageError
        If a master cannot be read.
    """
    everything = [m for m in usable_masters(library, rules) if m.key.frame_type in (FrameType.DARK, FrameType.BIAS)]
    search = _Search(key=key, rules=rules, taken_at=taken_at, everything=everything, fit=fit)
    for most in sorted({search.unstated(master) for master in everything}):
        for is_of_age in (True, False):
            if is_of_age or not rules.strict:
                found = search.among(most, is_of_age=is_of_age)
                if found is not None:
                    return found
    refused = ""
    if rules.dark_temperature_model:
        made = search.over_temperature()
        if isinstance(made, DarkMix):
            return made
        refused = made
    alone = _bias_alone(key, everything, rules, taken_at)
    if alone is None:
        message = nothing_fits("dark", key, everything, library, rules, taken_at)
        raise InputError(f"{message}; {refused}" if refused else message)
    return replace(alone, refused=refused)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The darks and biases that may serve a frame, in the order of the time of their frames."""

    key: GroupKey
    rules: MatchRules
    taken_at: datetime | None
    everything: Sequence[LibraryMaster]
    fit: FitOf

    @cached_property
    def ranks(self) -> list[DarkCandidate]:
        """The candidates with what decides between them."""
        candidates = [
            DarkCandidate(
                name=m.record.name,
                key=m.key,
                made_at=m.record.made_at,
                from_this_run=False,
                observed=m.record.observed,
                verdict=m.record.verdict,
                noise=m.record.noise,
            )
            for m in self.everything
        ]
        rules = self.rules.in_time(FrameType.DARK)
        return ranked(self.key, self.taken_at, candidates, rules, TEMPERATURE_STEP_C)

    @cached_property
    def masters(self) -> dict[str, LibraryMaster]:
        """The masters by name."""
        return {master.record.name: master for master in self.everything}

    def unstated(self, master: LibraryMaster) -> int:
        """Return how many settings of the frame a master leaves open."""
        return len(unstated_settings(self.key, master.key))

    def among(self, most_unstated: int, *, is_of_age: bool) -> DarkMix | None:
        """Choose among the masters that leave at most so many settings open."""
        some = [
            c
            for c in self.ranks
            if c.unstated <= most_unstated
            and not (is_of_age and self.rules.too_old(self.masters[c.name], self.taken_at))
        ]
        tolerance_c = self.rules.temperature_tolerance_c
        fitting = [c for c in some if not why_unfit(self.key, c.key, tolerance_c)]
        near = [c for c in fitting if is_near_exposure(self.key, c.key, self.rules)]
        if near:
            return self._near(near, fitting)
        scaled = self._scaled(fitting)
        if scaled is None:
            fitting = [c for c in some if not dark_unfit(self.key, c.key, self.rules)]
            scaled = self._scaled(fitting)
        return self._summed(some) if scaled is None else self._fitted_or(scaled, fitting)

    def _near(self, near: Sequence[DarkCandidate], fitting: Sequence[DarkCandidate]) -> DarkMix:
        """Return a dark of nearly the exposure: as it is where it has the exposure, else scaled where that can be."""
        best = min(near, key=self._preference)
        dark = self.masters[best.name]
        if dark.key.frame_type is FrameType.BIAS:
            return DarkMix(parts=(DarkPart(master=dark),), description=_with_exposure(dark))
        biases = [
            m
            for m in self.everything
            if m.key.frame_type is FrameType.BIAS and not dark_unfit(dark.key, m.key, self.rules)
        ]
        bias = choose_science_bias(self.key, biases, self.rules, self.taken_at)
        mix = scale_named_dark(self.key, dark, bias, self.rules)
        if not mix.unscaled:
            return mix
        scaled = self._scaled(fitting)
        return scaled if scaled is not None else mix

    def _preference(self, candidate: DarkCandidate) -> tuple[int, int, int, int]:
        """Order darks of nearly the exposure: what they leave open, exposure to what clocks tell, temperature, time."""
        distance = abs(candidate.key.exposure_time_s - self.key.exposure_time_s)
        steps = 0 if is_same_exposure(self.key, candidate.key) else round(1e3 * distance / self.key.exposure_time_s)
        return candidate.unstated, steps, candidate.degrees, candidate.place

    def _scaled(self, fitting: Sequence[DarkCandidate]) -> DarkMix | None:
        """Choose the two masters whose line over exposures gives the dark; ``None`` if it is too long."""
        rules, target_s = self.rules, self.key.exposure_time_s
        line = choose_line(
            fitting,
            target_s,
            rules.exposure_tolerance,
            rules.temperature_tolerance_c,
            rules.bias_temperature_tolerance_c,
            max_scale_up=rules.max_scale_up,
        )
        if line is None or line.second is None:
            return None
        stretch = stretch_of(line.first, line.second, target_s)
        if (
            stretch > MAX_STRETCH
        ):  # a flat takes a noisy line; in a science frame 10 times the noise of a dark is no use
            return None
        first, second = (self.masters[candidate.name] for candidate in (line.first, line.second))
        return DarkMix(
            parts=(DarkPart(master=first, weight=1 - stretch), DarkPart(master=second, weight=stretch)),
            description=f"{line.description}, difference of the two times {stretch:.6g}",
            scaled=True,
        )

    def _fitted_or(self, scaled: DarkMix, fitting: Sequence[DarkCandidate]) -> DarkMix:
        """Return the fit over three exposures or more, or what is scaled, with the reason."""
        in_order = sorted(fitting, key=lambda c: (c.unstated, c.degrees, c.place))
        rules = SyntheticRules(
            temperature_tolerance_c=self.rules.temperature_tolerance_c, max_stretch=self.rules.max_scale_up
        )
        fit = self.fit(self.key, [self.masters[c.name] for c in in_order], rules)
        if isinstance(fit, SyntheticDark) and fit.quality is not None:
            parts = tuple(DarkPart(master=self.masters[step.name]) for step in fit.ladder.masters)
            return DarkMix(parts=parts, description=fit.description, synthetic=fit)
        return replace(scaled, refused=fit.message if isinstance(fit, NoSyntheticDark) else "")

    def over_temperature(self) -> DarkMix | str:
        """Return the fit over temperatures, of masters within their age first, or why there is none."""
        in_order = sorted(self.ranks, key=lambda c: (c.unstated, c.place))
        masters = [self.masters[c.name] for c in in_order]
        of_age = [master for master in masters if not self.rules.too_old(master, self.taken_at)]
        rules = TemperatureRules(
            bias_temperature_tolerance_c=self.rules.bias_temperature_tolerance_c, max_scale_up=self.rules.max_scale_up
        )
        refused = ""
        for some in (of_age,) if self.rules.strict or len(of_age) == len(masters) else (of_age, masters):
            made = dark_of_temperature(self.key, some, rules)
            if isinstance(made, TemperatureDark):
                parts = tuple(DarkPart(master=self.masters[step.name]) for step in made.ladder.masters)
                return DarkMix(parts=parts, description=made.description, synthetic=made)
            refused = made.message if made is not None else refused
        return refused

    def _summed(self, some: Sequence[DarkCandidate]) -> DarkMix | None:
        """Return bias plus dark current of a dark without its bias; of a frame without its bias, the difference."""
        rules, key = self.rules, self.key
        tolerances = rules.temperature_tolerance_c, rules.bias_temperature_tolerance_c
        both = choose_sum(key, some, *tolerances, max_scale_up=rules.max_scale_up)
        if both is None:
            return None
        bias, dark = (self.masters[candidate.name] for candidate in both)
        is_near = is_same_exposure(key, dark.key)
        factor = 1.0 if is_near else key.exposure_time_s / dark.key.exposure_time_s
        what = f"dark current of {dark.record.name} times {factor:.6g}"
        if key.bias_subtracted:
            what, weight = f"{what}, its bias {bias.record.name} subtracted", -factor
        else:
            what, weight = f"bias + dark current: {bias.record.name} and {what}", 1.0
        parts = DarkPart(master=bias, weight=weight), DarkPart(master=dark, weight=factor)
        return DarkMix(parts=parts, description=what, scaled=not is_near)


def _with_exposure(dark: LibraryMaster) -> str:
    return f"{dark.record.name} ({dark.key.exposure_time_s:g} s)"


def _bias_alone(
    key: GroupKey, darks: Sequence[LibraryMaster], rules: MatchRules, taken_at: datetime | None
) -> DarkMix | None:
    """Return the bias of a library in which no dark of the camera has the temperature; ``None`` where no bias fits.

    Beside a dark of the temperature it is not taken: the exposure of that one is too far, which can be mended.
    """
    of_camera = [m for m in darks if not why_unfit(replace(key, temperature_c=None), m.key, 0.0)]
    others = [m for m in of_camera if m.key.frame_type is FrameType.DARK]
    tolerance_c = rules.temperature_tolerance_c
    if others and (rules.strict or any(not why_unfit(key, m.key, tolerance_c) for m in others)):
        return None
    of_age = [m for m in of_camera if not rules.too_old(m, taken_at)]
    wide = replace(rules, bias_temperature_tolerance_c=math.inf)
    bias = choose_science_bias(key, of_age, wide, taken_at)
    if bias is None and not rules.strict:
        bias = choose_science_bias(key, of_camera, wide, taken_at)
    if bias is None:
        return None
    return DarkMix(parts=(DarkPart(master=bias),), description=f"bias {bias.record.name} alone")


def scale_named_dark(key: GroupKey, dark: LibraryMaster, bias: LibraryMaster | None, rules: MatchRules) -> DarkMix:
    """Return what is subtracted of a dark, with a bias where there is one.

    A dark of another exposure is scaled; one within the relative tolerance is taken as it is where no bias is known.

    Raises
    ------
    InputError
        If the exposures differ and there is no bias to scale with, or a size differs.
    """
    refuse_other_geometry(key, dark)
    if bias is not None:
        refuse_other_geometry(key, bias)
    same_exposure = is_same_exposure(key, dark.key)
    name = _with_exposure(dark)
    needs_bias = dark.key.bias_subtracted and not key.bias_subtracted
    as_it_is = DarkMix(parts=(DarkPart(master=dark),), description=name)
    if same_exposure and not needs_bias:
        return as_it_is
    zero_s = 0.0 if dark.key.bias_subtracted or bias is None else bias.key.exposure_time_s
    span_s = dark.key.exposure_time_s - zero_s
    is_scalable = span_s > 0 and (bias is not None or dark.key.bias_subtracted)
    if not is_scalable and not needs_bias and is_near_exposure(key, dark.key, rules):
        share = dark.key.exposure_time_s / key.exposure_time_s
        return replace(as_it_is, unscaled=f"no bias fits to scale it, it has {share:.3g} times the dark current")
    if span_s <= 0 or (bias is None and (needs_bias or not dark.key.bias_subtracted)):
        need = "its bias is subtracted" if needs_bias else f"the frame has {key.exposure_time_s:g} s"
        raise InputError(f"dark {name} cannot be used: {need}; name a --bias too, or a dark of the frame's exposure")
    factor = 1.0 if same_exposure else (key.exposure_time_s - zero_s) / span_s
    parts = [DarkPart(master=dark, weight=factor)]
    description = f"dark current of {name} times {factor:.6g}"
    if bias is not None and not key.bias_subtracted:
        parts.insert(0, DarkPart(master=bias, weight=1.0 if needs_bias else 1 - factor))
        description = f"bias + dark current: {bias.record.name} and {description}"
    return DarkMix(parts=tuple(parts), description=description, scaled=not same_exposure)
