"""Which dark fits a flat: same settings, exposure within the tolerance, nearest in the time the frames were taken.

A master that records a setting goes before one that leaves it open, whatever else it has.
The temperature of a bias hardly matters: the rule for it is wide, and a flat takes a bias of any temperature rather
than none, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from ostcal.frames import FrameType
from ostcal.inputs.grouping import EXPOSURE_TOLERANCE, Group, GroupKey, same_temperature, settings_differ
from ostcal.inputs.observed import Observed
from ostcal.inputs.one_exposure import SAME_EXPOSURE_S, is_one_exposure
from ostcal.inputs.sensor_temperature import sensor_key
from ostcal.inputs.stated_settings import count_unstated
from ostcal.library.ages import MaxAges
from ostcal.library.in_time import Merit, TimeRules, order_in_time
from ostcal.library.master_names import untimed
from ostcal.naming import degrees_text
from ostcal.vocabulary import Prefer


@dataclass(frozen=True, kw_only=True)
class DarkCandidate:
    """A master that can serve as a dark: of this run or on disk."""

    name: str
    key: GroupKey
    made_at: datetime | None = None
    """``None`` for masters of this run, which are the newest. It decides between masters of the same frames alone."""
    from_this_run: bool = True
    observed: Observed | None = None
    """When its frames were taken."""
    verdict: str | None = field(default=None, compare=False)
    noise: float | None = field(default=None, compare=False)
    is_synthetic: bool = field(default=False, compare=False)
    """Whether it is a level that was computed, and no master."""
    unstated: int = field(default=0, compare=False)
    """Settings that the frame records and this one does not; set by `ranked`."""
    degrees: int = field(default=0, compare=False)
    """Steps of temperature from the frame, where these count."""
    place: int = field(default=0, compare=False)
    """In the order of time, 0 the first; set by `ranked`."""

    @property
    def label(self) -> str:
        """Its name, as lines of the log have it; of a master of this run without the time."""
        return untimed(self.name) if self.from_this_run else self.name

    @property
    def lasting_label(self) -> str:
        """Its name without the time of its run, and the day of its frames: the same whichever run made it."""
        day = f" of {self.observed.first:%Y-%m-%d}" if self.observed is not None else ""
        return f"{untimed(self.name)}{day}"

    @property
    def merit(self) -> Merit:
        """What decides between it and masters that fit as well."""
        return Merit.of_key(
            self.key,
            name=self.name,
            observed=self.observed,
            made_at=self.made_at,
            verdict=self.verdict,
            noise=self.noise,
            is_of_run=self.from_this_run,
        )


def ranked(
    key: GroupKey, taken_at: datetime | None, candidates: Sequence[DarkCandidate], rules: TimeRules
) -> list[DarkCandidate]:
    """Return candidates with what decides between those that fit a frame: what they leave open, and their time."""
    order = order_in_time([candidate.merit for candidate in candidates], taken_at, rules)
    return [
        replace(candidates[i], place=place, unstated=count_unstated(key, candidates[i].key))
        for place, i in enumerate(order)
    ]


MAX_SCALE_UP = 2.0
"""Times the exposure of a dark that its dark current is scaled up to: twice the exposure is twice its noise."""
MAX_STRETCH = 10.0
"""The difference of two darks is taken at most this many times: it has as many times the noise of a dark. Of a bias and
a dark it is the exposures that decide, by `MAX_SCALE_UP`; of darks of 60 and 61 s it is their difference."""

DarkKind = Literal["matched", "line", "bias"]
"""How well a choice fits, best first."""


@dataclass(frozen=True, kw_only=True)
class DarkChoice:
    """The dark of a flat: one candidate, or two whose line over exposures gives it."""

    kind: DarkKind
    first: DarkCandidate
    second: DarkCandidate | None = None
    is_current_only: bool = False
    """Whether the difference of the two is subtracted: the bias of the flat was subtracted already."""
    refused: str = ""
    """Why there is no dark current beside a bias, where a limit of ours is the reason."""

    @property
    def candidates(self) -> tuple[DarkCandidate, ...]:
        """The masters that are read."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def description(self) -> str:
        """What was done, for the log and warnings."""
        return self._words([candidate.label for candidate in self.candidates])

    @property
    def history(self) -> str:
        """What was done, for the header: the same in equal runs."""
        return self._words([candidate.lasting_label for candidate in self.candidates])

    def _words(self, labels: Sequence[str]) -> str:
        exposures = ", ".join(f"{candidate.key.exposure_time_s:g} s" for candidate in self.candidates)
        if self.second is not None:
            what = "bias + dark current" if self.first.key.frame_type is FrameType.BIAS else "line through two darks"
            what = "dark current, difference of two" if self.is_current_only else what
            return f"{what}: {' and '.join(labels)} ({exposures})"
        if self.kind == "bias":
            return f"bias alone, no dark current: {labels[0]}"
        return f"{labels[0]} ({exposures})"


@dataclass(frozen=True, kw_only=True)
class NoDark:
    """No dark fits; the message says which exposures there are and what differs."""

    message: str


def why_unfit(
    key: GroupKey, dark: GroupKey, temperature_tolerance_c: float, bias_temperature_tolerance_c: float = 0.0
) -> str:
    """Say why a dark does not fit, exposure aside; "" where it fits.

    Where either is a bias, the wider of the two tolerances decides.
    """
    if (key.width, key.height) != (dark.width, dark.height):
        return f"size {dark.width} x {dark.height} against {key.width} x {key.height}"
    if dark.bias_subtracted != key.bias_subtracted:
        return "its bias is subtracted" if dark.bias_subtracted else "its bias is not subtracted, the frame's is"
    difference = settings_differ(dark.settings, key.settings)
    return difference or why_unfit_temperature(key, dark, temperature_tolerance_c, bias_temperature_tolerance_c)


def why_unfit_temperature(
    key: GroupKey, dark: GroupKey, temperature_tolerance_c: float, bias_temperature_tolerance_c: float = 0.0
) -> str:
    """Say why the temperature of a dark does not fit; "" where it does."""
    if FrameType.BIAS in (key.frame_type, dark.frame_type):
        temperature_tolerance_c = max(temperature_tolerance_c, bias_temperature_tolerance_c)
    a_c, b_c = dark.temperature_c, key.temperature_c
    if a_c is not None and b_c is not None and not same_temperature(a_c, b_c, temperature_tolerance_c):
        return f"temperature {degrees_text(a_c)} against {degrees_text(b_c)}"
    return ""


@dataclass(frozen=True, kw_only=True)
class FlatDarkRules:
    """How near the dark of flats must be."""

    exposure_tolerance: float = 0.1
    """Share of the exposure: the widest difference that a dark is taken with as it is."""
    temperature_tolerance_c: float = 2.0
    bias_temperature_tolerance_c: float = 0.0
    max_scale_up: float = MAX_SCALE_UP
    max_ages: MaxAges = field(default_factory=MaxAges)
    strict: bool = False
    """Whether masters beyond their age are refused."""
    prefer: Prefer = "nearest"
    now: datetime | None = None
    """Times after it are those of wrong clocks."""

    @property
    def tolerances_c(self) -> tuple[float, float]:
        """Of darks, and of bias."""
        return self.temperature_tolerance_c, self.bias_temperature_tolerance_c


def choose_dark(flat: Group, candidates: Sequence[DarkCandidate], rules: FlatDarkRules) -> DarkChoice | NoDark:
    """Choose the dark of a group of flats.

    Masters that record all that the flats do are tried first, then those that leave one setting open, and so on; of
    these, masters within their age before older ones. Of these: a dark of every exposure of the group, within 0.05 s or
    0.1 %; else bias plus dark current scaled to the exposure; else a dark within the relative exposure tolerance as it
    is; else the line through two darks; else bias and dark current from a bias and a dark of which one lacks what the
    flat has (see `choose_sum`). Dark current is scaled up to a limit; of flats of many exposures the median counts. The
    bias alone, of any temperature, the nearest first, comes last. Between masters that fit alike the time of their
    frames decides.
    """
    flat = replace(flat, key=sensor_key(flat))
    observed = Observed.of(frame.metadata for frame in flat.frames)
    taken_at = observed.middle if observed is not None else None
    candidates = ranked(flat.key, taken_at, candidates, TimeRules(prefer=rules.prefer, now=rules.now))
    too_old = {c: rules.max_ages.exceeded(c.key.frame_type, c.observed, taken_at) for c in candidates}
    ages = [[c for c in candidates if not too_old[c]], *([] if rules.strict else [candidates])]
    for most in sorted({candidate.unstated for candidate in candidates}):
        for of_age in ages:
            found = _with_dark_current(flat, [c for c in of_age if c.unstated <= most], rules)
            if found is not None:
                return found
    of_any_temperature = replace(flat.key, temperature_c=None)
    for of_age in ages:
        biases = [
            c for c in of_age if c.key.frame_type is FrameType.BIAS and not why_unfit(of_any_temperature, c.key, 0.0)
        ]
        if biases:
            bias = min(biases, key=lambda c: _bias_preference(flat.key, c, rules))
            return DarkChoice(kind="bias", first=bias, refused=_too_short(flat, candidates, rules))
    return NoDark(message=_nothing_fits(flat, candidates, too_old, rules))


def _bias_preference(key: GroupKey, bias: DarkCandidate, rules: FlatDarkRules) -> tuple[int, float, int]:
    degrees = _degrees_apart(key, bias.key)
    return bias.unstated, 0.0 if degrees <= rules.temperature_tolerance_c + 1e-6 else degrees, bias.place


def _too_short(flat: Group, candidates: Sequence[DarkCandidate], rules: FlatDarkRules) -> str:
    """Say that darks that fit are too short to be scaled to the exposure of flats; "" where there are none."""
    fitting = [c for c in candidates if c.key.frame_type is FrameType.DARK]
    fitting = [c for c in fitting if not why_unfit(flat.key, c.key, *rules.tolerances_c)]
    longest_s = max((c.key.exposure_time_s for c in fitting), default=0.0)
    if not 0 < within_clock(rules.max_scale_up) * longest_s < flat.key.exposure_time_s:
        return ""
    return (
        f"the longest dark has {longest_s:g} s, and dark current is scaled up to {rules.max_scale_up:g} times its "
        "exposure (matching.max_scale_up)"
    )


def _nothing_fits(
    flat: Group, candidates: Sequence[DarkCandidate], too_old: Mapping[DarkCandidate, str], rules: FlatDarkRules
) -> str:
    reasons = [
        (c, why_unfit(flat.key, c.key, *rules.tolerances_c) or (_of_flats(too_old[c], c) if rules.strict else ""))
        for c in candidates
    ]
    times_s = {frame.metadata.exposure_time_s or 0.0 for frame in flat.frames}
    target_s = flat.key.exposure_time_s
    asked = f"{min(times_s):g} s" if len(times_s) == 1 else f"{min(times_s):g} to {max(times_s):g} s"
    there = "there are no darks and no bias at all"
    if reasons:
        there = "there are: " + "; ".join(
            f"{c.key.frame_type} {c.key.exposure_time_s:g} s ({reason or 'its exposure alone is not enough'})"
            for c, reason in sorted(reasons, key=lambda p: (p[0].key.exposure_time_s, p[0].key.frame_type, p[1]))
        )
    short = _too_short(flat, candidates, rules)
    there += f"; {short}" if short else ""
    return f"no dark for the flat of {asked}: {there}; take darks of {target_s:g} s or a bias"


def _of_flats(reason: str, dark: DarkCandidate) -> str:
    """Return why a master is too old, in the words for flats."""
    key = f": matching.max_age_days.{dark.key.frame_type} with matching.strict"
    return reason.replace("the frame", "the flats") + key if reason else ""


def _with_dark_current(flat: Group, candidates: Sequence[DarkCandidate], rules: FlatDarkRules) -> DarkChoice | None:
    """Choose among candidates that leave equally little open; ``None`` where they give no dark of the exposure."""
    tolerances, exposure_tolerance = rules.tolerances_c, rules.exposure_tolerance
    fitting = [c for c in candidates if not why_unfit(flat.key, c.key, *tolerances)]
    target_s = flat.key.exposure_time_s
    times_s = {frame.metadata.exposure_time_s or 0.0 for frame in flat.frames}

    def nearest(found: Sequence[DarkCandidate]) -> DarkChoice:
        return DarkChoice(kind="matched", first=min(found, key=lambda c: _preference(c, target_s)))

    near = [
        c
        for c in fitting
        if all(_same_exposure(c.key.exposure_time_s, time_s, exposure_tolerance) for time_s in times_s)
    ]
    same = [c for c in near if all(is_one_exposure(c.key.exposure_time_s, time_s) for time_s in times_s)]
    if same:
        return nearest(same)
    line = choose_line(fitting, target_s, exposure_tolerance, *tolerances, max_scale_up=rules.max_scale_up)
    if line is not None and line.first.key.frame_type is FrameType.BIAS:
        return line
    if near:
        return nearest(near)
    if line is not None:
        return line
    both = choose_sum(flat.key, candidates, *tolerances, max_scale_up=rules.max_scale_up)
    if both is None:
        return None
    return DarkChoice(kind="line", first=both[0], second=both[1], is_current_only=flat.key.bias_subtracted)


def choose_line(
    fitting: Sequence[DarkCandidate],
    target_s: float,
    exposure_tolerance: float,
    temperature_tolerance_c: float,
    bias_temperature_tolerance_c: float = 0.0,
    max_scale_up: float = MAX_SCALE_UP,
) -> DarkChoice | None:
    """Choose the two masters whose line gives the dark of any exposure: bias and a dark, else two darks.

    `fitting` states what `ranked` finds. The longer dark is scaled up to at most `max_scale_up` times its exposure.
    Both must fit each other too: a flat that records no gain fits masters of any gain, which are no pair.
    """
    fitting = _first_of_equals(fitting)
    pairs = [
        (a, b)
        for a in fitting
        for b in fitting
        if a.key.exposure_time_s < b.key.exposure_time_s
        and b.key.frame_type is FrameType.DARK
        and target_s <= within_clock(max_scale_up) * b.key.exposure_time_s
        and not why_unfit(a.key, b.key, 2 * temperature_tolerance_c, bias_temperature_tolerance_c)
    ]
    with_bias = [pair for pair in pairs if pair[0].key.frame_type is FrameType.BIAS]
    # A longer dark scaled down adds less noise than a shorter one scaled up.
    longer = [pair for pair in with_bias if pair[1].key.exposure_time_s >= target_s]
    if with_bias:
        first, second = min(
            longer or with_bias,
            key=lambda p: (_preference(p[1], target_s), _bias_of_dark(p[0], p[1], temperature_tolerance_c)),
        )
        return DarkChoice(kind="line", first=first, second=second)
    # Two darks of nearly one exposure say nothing of the dark current: their line is their noise, stretched.
    apart = [
        (a, b) for a, b in pairs if not _same_exposure(a.key.exposure_time_s, b.key.exposure_time_s, exposure_tolerance)
    ]
    if apart:

        def noise(pair: tuple[DarkCandidate, DarkCandidate]) -> float:
            """Return the noise of the line, in that of a master; to 1 %, for ties."""
            stretch = stretch_of(*pair, target_s)
            return round(math.hypot(1 - stretch, stretch), 2)

        first, second = min(apart, key=lambda p: (noise(p), sorted(_preference(c, target_s) for c in p)))
        return DarkChoice(kind="line", first=first, second=second)
    return None


def _bias_of_dark(
    bias: DarkCandidate, dark: DarkCandidate, temperature_tolerance_c: float
) -> tuple[int, int, float, int]:
    """Order the biases that scale a dark: they must fit the dark, whatever the frame does not record."""
    lacking, degrees = count_unstated(dark.key, bias.key), 0.0
    if why_unfit_temperature(replace(bias.key, frame_type=FrameType.DARK), dark.key, temperature_tolerance_c):
        degrees = _degrees_apart(bias.key, dark.key)
    return bias.unstated, lacking, degrees, bias.place


def _first_of_equals(candidates: Sequence[DarkCandidate]) -> list[DarkCandidate]:
    """Return of candidates with equal settings the first in time: it goes before the others in every pair."""
    first: dict[tuple[GroupKey, int], DarkCandidate] = {}
    for candidate in sorted(candidates, key=lambda c: c.place):
        first.setdefault((replace(candidate.key, night=None), candidate.unstated), candidate)
    return list(first.values())


def choose_sum(
    key: GroupKey,
    candidates: Sequence[DarkCandidate],
    temperature_tolerance_c: float,
    bias_temperature_tolerance_c: float = 0.0,
    max_scale_up: float = MAX_SCALE_UP,
) -> tuple[DarkCandidate, DarkCandidate] | None:
    """Choose a bias and a dark that calibrate a frame together, where no dark alone has what the frame has.

    A raw frame takes a bias and a dark whose bias was subtracted; a frame whose bias was subtracted takes the
    difference of a raw dark and the bias.
    """
    raw = replace(key, bias_subtracted=False)
    biases = [
        c
        for c in candidates
        if c.key.frame_type is FrameType.BIAS
        and not why_unfit(raw, c.key, temperature_tolerance_c, bias_temperature_tolerance_c)
    ]
    darks = [
        c
        for c in candidates
        if c.key.frame_type is FrameType.DARK
        and c.key.bias_subtracted != key.bias_subtracted
        and not why_unfit(replace(key, bias_subtracted=c.key.bias_subtracted), c.key, temperature_tolerance_c)
        and key.exposure_time_s <= within_clock(max_scale_up) * c.key.exposure_time_s
    ]
    if not biases or not darks:
        return None
    dark = min(darks, key=lambda c: _preference(c, key.exposure_time_s))
    raw_dark = replace(dark.key, bias_subtracted=False)
    biases = [
        c for c in biases if not why_unfit(raw_dark, c.key, 2 * temperature_tolerance_c, bias_temperature_tolerance_c)
    ]
    return (min(biases, key=lambda c: _preference(c, 0.0)), dark) if biases else None


def stretch_of(a: DarkCandidate, b: DarkCandidate, target_s: float) -> float:
    """Return how many times the difference of two masters is taken to reach an exposure."""
    return (target_s - a.key.exposure_time_s) / (b.key.exposure_time_s - a.key.exposure_time_s)


def within_clock(max_scale_up: float) -> float:
    """Return a limit of scaling as clocks tell exposures: 600.1 s is twice 300 s, whatever the bias of 1 ms adds."""
    return max_scale_up * (1 + EXPOSURE_TOLERANCE)


def _same_exposure(dark_s: float, exposure_s: float, tolerance: float) -> bool:
    """Return whether a dark is within the relative tolerance; 1.1 s is within 10 % of 1 s, whatever the rounding."""
    return abs(dark_s - exposure_s) <= (tolerance + 1e-9) * exposure_s


def _degrees_apart(a: GroupKey, b: GroupKey) -> float:
    """Return the difference of two temperatures; of one that is not known more than of any that is."""
    if a.temperature_c is None or b.temperature_c is None:
        return math.inf
    return abs(a.temperature_c - b.temperature_c)


def _preference(candidate: DarkCandidate, exposure_s: float) -> tuple[int, int, int, int]:
    """Order candidates: what they leave open, the exposure in steps of what clocks tell apart, temperature, time."""
    own_s = candidate.key.exposure_time_s
    steps = round(abs(own_s - exposure_s) / max(SAME_EXPOSURE_S, EXPOSURE_TOLERANCE * own_s))
    return candidate.unstated, steps, candidate.degrees, candidate.place
