"""Choice of the dark of a science frame: of its exposure, else scaled, else from a fit, else the bias alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from ostcal.build.match_darks import (
    MAX_STRETCH,
    DarkCandidate,
    choose_line,
    choose_sum,
    stretch_of,
)
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.find import LibraryMaster
from ostcal.library.in_time import order_in_time
from ostcal.naming import degrees_text
from ostcal.science.dark_of_temperature import (
    LEAST_TEMPERATURES,
    TemperatureDark,
    TemperatureRules,
    dark_of_temperature,
)
from ostcal.science.fitting import NoMasterFitsError, dark_unfit, nothing_fits, refuse_other_geometry
from ostcal.science.matched import DarkMix, DarkPart, MatchRules, is_near_exposure, is_same_exposure
from ostcal.science.other_temperature import LEAST_C, MOST_STEADY_C, other_temperature
from ostcal.science.shelf import Fit, FrameFits, Shelf, degrees_apart, first_of, shelf_of
from ostcal.science.synthetic_dark import NoSyntheticDark, SyntheticDark, SyntheticRules, synthetic_dark

MANY = 1000
"""More settings than a master can leave open."""

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
    or more; it goes before a dark within the tolerance too, where that leaves in what matters. A bias alone leaves the
    dark current in: it is chosen where no dark of the camera has the temperature.

    Raises
    ------
    InputError
        If none fits; the message names the nearest master and the condition that failed. If the frame does not record
        a setting, such as the gain, in which the darks that fit differ.
    StorageError
        If a master cannot be read.
    """
    shelf = _allowed(key, shelf_of(library, rules))
    search = _Search(key=key, rules=rules, taken_at=taken_at, shelf=shelf, fit=fit)
    for most in search.fits.levels:
        for is_of_age in (True, False):
            if is_of_age or not (rules.strict or search.is_ageless):
                found = search.among(most, is_of_age=is_of_age)
                if found is not None:
                    return search.of_temperature(found)
    refused = ""
    if rules.dark_temperature_model:
        made = search.over_temperature()
        if isinstance(made, DarkMix):
            return made
        refused = made
    alone = _bias_alone(key, shelf, taken_at)
    if alone is None:
        more = f"; {refused}" if refused else ""
        raise NoMasterFitsError(lambda: nothing_fits("dark", key, shelf.darks, shelf, rules, taken_at) + more)
    return replace(alone, refused=refused)


def _allowed(key: GroupKey, shelf: Shelf) -> Shelf:
    """Return the masters without those of which nobody can tell whether they are of the settings of a frame.

    Raises
    ------
    InputError
        If that are all.
    """
    left_open = shelf.fits(key).open_of_darks
    if left_open.refusal:
        raise InputError(left_open.refusal)
    if not left_open.unrecorded:
        return shelf
    return shelf.fits(key).made(
        "allowed", [], lambda: Shelf([master for master in shelf if left_open.allows(master.key)], shelf.rules)
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The darks and biases that may serve a frame at its time."""

    key: GroupKey
    rules: MatchRules
    taken_at: datetime | None
    shelf: Shelf
    fit: FitOf

    @cached_property
    def fits(self) -> FrameFits:
        """What fits frames of these settings."""
        return self.shelf.fits(self.key)

    @property
    def is_ageless(self) -> bool:
        """Return whether no master can be too old."""
        limits = self.rules.max_ages
        return self.taken_at is None or (limits.dark is None and limits.bias is None)

    def among(self, most_unstated: int, *, is_of_age: bool) -> DarkMix | None:
        """Choose among the masters that leave at most so many settings open."""
        for (unstated, _), alike in self.fits.near:
            best = alike.first(self.taken_at, is_of_age=is_of_age) if unstated <= most_unstated else None
            if best is not None:
                return self._near(best, most_unstated, is_of_age=is_of_age)
        for fits in (self.fits.plain, self.fits.wide):
            fitting = self._firsts(fits, most_unstated, is_of_age=is_of_age)
            scaled = self._scaled(fitting)
            if scaled is not None:
                stored = self._firsts(fits, most_unstated, is_of_age=is_of_age, stored=True)
                return self._fitted_or(scaled, stored)
        return self._summed(self._firsts(self.fits.sums, most_unstated, is_of_age=is_of_age))

    def _firsts(
        self, fits: Iterable[Fit], most_unstated: int, *, is_of_age: bool, stored: bool = False
    ) -> list[_Candidate]:
        """Return of masters that differ in their times alone the first: it goes before the others in every choice."""
        found = []
        for fit in fits:
            if fit.unstated <= most_unstated:
                alike = self.shelf.stored(fit.equals) if stored else self.shelf.alike(FrameType.DARK, [fit.equals])
                master = alike.first(self.taken_at, is_of_age=is_of_age) if alike is not None else None
                if master is not None:
                    found.append((master, fit))
        merits = [master.record.merit for master, _ in found]
        order = order_in_time(merits, self.taken_at, self.rules.in_time(FrameType.DARK))
        return [self._candidate(*found[i], place) for place, i in enumerate(order)]

    def _candidate(self, master: LibraryMaster, fit: Fit, place: int) -> _Candidate:
        record = master.record
        return _Candidate(
            name=record.name,
            key=fit.key,
            made_at=record.made_at,
            from_this_run=False,
            observed=record.observed,
            verdict=record.verdict,
            noise=record.noise,
            unstated=fit.unstated,
            degrees=degrees_apart(self.key, fit.key),
            place=place,
            master=master,
        )

    def _near(self, dark: LibraryMaster, most_unstated: int, *, is_of_age: bool) -> DarkMix:
        """Return a dark of nearly the exposure: as it is where it has the exposure, else scaled where that can be."""
        if dark.key.frame_type is FrameType.BIAS:
            return DarkMix(parts=(DarkPart(master=dark),), description=_with_exposure(dark))
        needs_bias = dark.key.bias_subtracted and not self.key.bias_subtracted
        if is_same_exposure(self.key, dark.key) and not needs_bias:
            return scale_named_dark(self.key, dark, None, self.rules)
        fits = [fit for fit in self.fits.wide if not dark_unfit(dark.key, fit.key, self.rules)]
        key = (
            self.key if self.key.temperature_c is not None else replace(self.key, temperature_c=dark.key.temperature_c)
        )
        bias = first_of(self.shelf.fits(key).biases_among(fits), self.taken_at, self.rules)
        mix = scale_named_dark(self.key, dark, bias, self.rules)
        if not mix.unscaled:
            return mix
        scaled = self._scaled(self._firsts(self.fits.plain, most_unstated, is_of_age=is_of_age))
        return scaled if scaled is not None else mix

    def _scaled(self, fitting: Sequence[_Candidate]) -> DarkMix | None:
        """Choose the two masters whose line over exposures gives the dark; ``None`` if it is too long."""
        return self.fits.made("line", [c.master for c in fitting], lambda: self._line(fitting))

    def _line(self, fitting: Sequence[_Candidate]) -> DarkMix | None:
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
        # A flat takes a noisy line if there is no bias; in a science frame 10 times the noise of a dark is no use.
        if stretch > MAX_STRETCH:
            return None
        first, second = _masters(line.first, line.second)
        return DarkMix(
            parts=(DarkPart(master=first, weight=1 - stretch), DarkPart(master=second, weight=stretch)),
            description=f"{line.description}, difference of the two times {stretch:.6g}",
            scaled=True,
        )

    def _fitted_or(self, scaled: DarkMix, stored: Sequence[_Candidate]) -> DarkMix:
        """Return the fit over three exposures or more, or what is scaled, with the reason."""
        masters = [c.master for c in sorted(stored, key=lambda c: (c.unstated, c.degrees, c.place))]
        rules = SyntheticRules(
            temperature_tolerance_c=self.rules.temperature_tolerance_c, max_stretch=self.rules.max_scale_up
        )
        fit = self.fits.made("fit", masters, lambda: self.fit(self.key, masters, rules))
        if isinstance(fit, SyntheticDark) and fit.quality is not None:
            by_name = {master.record.name: master for master in masters}
            parts = tuple(DarkPart(master=by_name[step.name]) for step in fit.ladder.masters)
            return DarkMix(parts=parts, description=fit.description, synthetic=fit)
        return replace(scaled, refused=fit.message if isinstance(fit, NoSyntheticDark) else "")

    def of_temperature(self, found: DarkMix) -> DarkMix:
        """Return what was found, or a fit over temperatures where the darks are of another one than the frame."""
        has_model = self.rules.dark_temperature_model and self.fits.stored_temperatures >= LEAST_TEMPERATURES
        # Within what a cooled sensor differs by, only a fit goes before the dark: without one nothing is to be read.
        other = other_temperature(self.key, found, self.shelf, LEAST_C if has_model else MOST_STEADY_C)
        if other is None or not other.matters:
            return found
        made = self.over_temperature() if self.rules.dark_temperature_model else ""
        if isinstance(made, DarkMix):
            return made
        if other.is_steady:
            return found
        advice = f"take darks of {degrees_text(other.frame_c)}"
        return replace(found, other_temperature="; ".join(part for part in (other.line, made, advice) if part))

    def over_temperature(self) -> DarkMix | str:
        """Return the fit over temperatures, of masters within their age first, or why there is none."""
        refused = ""
        for is_of_age in (True,) if self.rules.strict or self.is_ageless else (True, False):
            some = self._firsts(self.fits.of_any_temperature, MANY, is_of_age=is_of_age, stored=True)
            made = self._warmed([c.master for c in sorted(some, key=lambda c: (c.unstated, c.place))])
            if isinstance(made, DarkMix):
                return made
            refused = made or refused
        return refused

    def _warmed(self, masters: Sequence[LibraryMaster]) -> DarkMix | str:
        rules = TemperatureRules(
            bias_temperature_tolerance_c=self.rules.bias_temperature_tolerance_c, max_scale_up=self.rules.max_scale_up
        )
        made = self.fits.made("warming", masters, lambda: dark_of_temperature(self.key, masters, rules))
        if not isinstance(made, TemperatureDark):
            return made.message if made is not None else ""
        by_name = {master.record.name: master for master in masters}
        parts = tuple(DarkPart(master=by_name[step.name]) for step in made.ladder.masters)
        return DarkMix(parts=parts, description=made.description, synthetic=made)

    def _summed(self, some: Sequence[_Candidate]) -> DarkMix | None:
        """Return bias plus dark current of a dark without its bias; of a frame without its bias, the difference."""
        rules, key = self.rules, self.key
        tolerances = rules.temperature_tolerance_c, rules.bias_temperature_tolerance_c
        both = choose_sum(key, some, *tolerances, max_scale_up=rules.max_scale_up)
        if both is None:
            return None
        bias, dark = _masters(*both)
        is_near = is_same_exposure(key, dark.key)
        factor = 1.0 if is_near else key.exposure_time_s / dark.key.exposure_time_s
        what = f"dark current of {dark.record.name} times {factor:.6g}"
        if key.bias_subtracted:
            what, weight = f"{what}, its bias {bias.record.name} subtracted", -factor
        else:
            what, weight = f"bias + dark current: {bias.record.name} and {what}", 1.0
        parts = DarkPart(master=bias, weight=weight), DarkPart(master=dark, weight=factor)
        return DarkMix(parts=parts, description=what, scaled=not is_near)


@dataclass(frozen=True, kw_only=True)
class _Candidate(DarkCandidate):
    """A master of the library, and what decides between it and others."""

    master: LibraryMaster = field(compare=False)


def _masters(*candidates: DarkCandidate) -> tuple[LibraryMaster, ...]:
    return tuple(candidate.master for candidate in candidates if isinstance(candidate, _Candidate))


def _with_exposure(dark: LibraryMaster) -> str:
    return f"{dark.record.name} ({dark.key.exposure_time_s:g} s)"


def _bias_alone(key: GroupKey, shelf: Shelf, taken_at: datetime | None) -> DarkMix | None:
    """Return the bias of a library in which no dark of the camera has the temperature; ``None`` where no bias fits.

    Beside a dark of the temperature it is not taken: the exposure of that one is too far, which can be mended.
    """
    fits, strict = shelf.fits(key), shelf.rules.strict
    has_darks, has_near = (
        any(f.key.frame_type is FrameType.DARK for f in some) for some in (fits.of_camera, fits.plain)
    )
    if has_near or (has_darks and strict):
        return None
    biases = fits.biases_among(fits.of_camera)
    bias = next((m for _, alike in biases if (m := alike.first(taken_at, is_of_age=True)) is not None), None)
    if bias is None and biases and not strict:
        bias = biases[0][1].first(taken_at)
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
