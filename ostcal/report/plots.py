"""Small SVG plots: lines, points and bars on axes with round ticks; colours come from the page's style sheet.

A plot is drawn for a width of 360: on a phone its letters are 11 pixels high, in a column of a desktop 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from operator import itemgetter

from ostcal.measure.findings import Outcome
from ostcal.report.wording import fixed, number, superscript

WIDTH, HEIGHT = 360, 210
RIGHT, TOP, BOTTOM = 10, 10, 38
_LABEL_SPACE, _DIGIT_WIDTH = 26, 6.4
"""Units of width for the label of the vertical axis and for one digit of its ticks."""
_MOST_POINTS = 720
"""Two for each unit of width; more are drawn as their lowest and highest."""
_DAY_STEPS = (1, 2, 5, 7, 14)
_HOUR_STEPS = (1, 2, 3, 6, 12)
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120)

Number = float | None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis; a logarithmic one leaves out values that are not above 0."""

    label: str
    unit: str = ""
    log: bool = False
    is_time: bool = False
    """Values are seconds since 1970."""
    from_zero: bool = False
    whole: bool = False
    """Ticks at whole numbers only, such as frame numbers."""

    @property
    def text(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From values to positions along an axis, in units of the drawing."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def at(self, value: float) -> float:
        """Return the position of a value."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        place = math.log10(value) if self.log else value
        return self.start + (place - low) / (high - low) * (self.stop - self.start)

    def shows(self, value: Number) -> bool:
        """Return whether a value has a position."""
        return value is not None and math.isfinite(value) and (value > 0 or not self.log)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve; a missing value breaks it."""

    x: Sequence[Number]
    y: Sequence[Number]
    style: str = "line"
    """``line``, ``fit`` or ``faint``: a class of the style sheet."""

    def values(self, axis: int) -> Sequence[Number]:
        """Return the values that axis 0 (x) or 1 (y) must cover."""
        return (self.x, self.y)[axis]

    def svg(self, x: Scale, y: Scale) -> str:
        """Return the curve as a path."""
        places: list[tuple[float, float] | None] = []
        for value_x, value_y in zip(self.x, self.y, strict=False):
            if value_x is not None and value_y is not None and x.shows(value_x) and y.shows(value_y):
                places.append((x.at(value_x), y.at(value_y)))
            else:
                places.append(None)
        path, pen_down = [], False
        for place in thinned(places):
            if place is not None:
                path.append(f"{'L' if pen_down else 'M'}{place[0]:.1f} {place[1]:.1f}")
            pen_down = place is not None
        return f'<path class="{self.style}" d="{"".join(path)}"/>'


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points, each with a shape for its outcome."""

    x: Sequence[Number]
    y: Sequence[Number]
    error: Sequence[Number] = ()
    """One standard deviation, drawn as a bar."""
    outcomes: Sequence[Outcome | None] = ()
    names: Sequence[str] = ()
    """What a pointer over a flagged point shows."""
    faint: Sequence[bool] = ()
    """Points that a fit left out."""

    def values(self, axis: int) -> Sequence[Number]:
        """Return the values that axis 0 (x) or 1 (y) must cover."""
        if axis == 0:
            return self.x
        bars = [(v, e) for v, e in zip(self.y, self.error, strict=False) if v is not None and e is not None]
        return [*self.y, *(v + sign * e for v, e in bars if math.isfinite(v + e) for sign in (-1, 1))]

    def svg(self, x: Scale, y: Scale) -> str:
        """Return the points: dots, a triangle for a warning, a cross for a failure."""
        parts = []
        radius = 1.6 if len(self.x) > 60 else 2.6
        for i, (value_x, value_y) in enumerate(zip(self.x, self.y, strict=False)):
            if value_x is None or value_y is None or not (x.shows(value_x) and y.shows(value_y)):
                continue
            across, down = x.at(value_x), y.at(value_y)
            error = self.error[i] if i < len(self.error) else None
            if error:
                ends = [y.at(end) if y.shows(end) else y.start for end in (value_y - error, value_y + error)]
                parts.append(f'<path class="error" d="M{across:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/>')
            outcome = self.outcomes[i] if i < len(self.outcomes) else None
            is_named = i < len(self.names) and outcome in (Outcome.WARN, Outcome.FAIL) and self.names[i]
            title = f"<title>{escape(self.names[i])}</title>" if is_named else ""
            if outcome is Outcome.FAIL:
                parts.append(f'<path class="fail" d="M{across - 4:.1f} {down - 4:.1f}l8 8m0 -8l-8 8">{title}</path>')
            elif outcome is Outcome.WARN:
                parts.append(f'<path class="warn" d="M{across:.1f} {down - 5:.1f}l5 8.5h-10z">{title}</path>')
            else:
                style = "dot faint" if i < len(self.faint) and self.faint[i] else "dot"
                place = f'cx="{across:.1f}" cy="{down:.1f}" r="{radius}"'
                parts.append(f'<circle class="{style}" {place}>{title}</circle>')
        return "".join(parts)


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A histogram: counts in equal bins, as one filled outline."""

    start: float
    step: float
    counts: Sequence[int]

    def values(self, axis: int) -> Sequence[Number]:
        """Return the values that axis 0 (x) or 1 (y) must cover."""
        return (self.start, self.start + self.step * len(self.counts)) if axis == 0 else (0, *self.counts)

    def svg(self, x: Scale, y: Scale) -> str:
        """Return the outline of the histogram; bins narrower than half a unit of width share their highest count."""
        bottom = y.start
        run = max(1, math.ceil(len(self.counts) / _MOST_POINTS))
        path = [f"M{x.at(self.start):.1f} {bottom:.1f}"]
        for first in range(0, len(self.counts), run):
            some = self.counts[first : first + run]
            top = max(some)
            down = y.at(top) if y.shows(top) else bottom
            path.append(f"V{down:.1f}H{x.at(self.start + self.step * (first + len(some))):.1f}")
        return f'<path class="bars" d="{"".join(path)}V{bottom:.1f}z"/>'


def thinned(places: Sequence[tuple[float, float] | None]) -> list[tuple[float, float] | None]:
    """Return at most `_MOST_POINTS` places: the highest and the lowest of each run, so that no spike is lost."""
    if len(places) <= _MOST_POINTS:
        return list(places)
    run = math.ceil(2 * len(places) / _MOST_POINTS)
    kept: list[tuple[float, float] | None] = []
    for start in range(0, len(places), run):
        some = [place for place in places[start : start + run] if place is not None]
        if not some:
            kept.append(None)
            continue
        kept += sorted([min(some, key=itemgetter(1)), max(some, key=itemgetter(1))])
    return kept


Mark = Line | Points | Bars


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot; `title` and `description` are for those who cannot see it."""

    title: str
    description: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A position on an axis and its label."""

    value: float
    text: str


def has_data(plot: Plot) -> bool:
    """Return whether anything of a plot can be drawn."""
    return bool(_values(plot, 0)) and bool(_values(plot, 1))


def draw(plot: Plot, ident: str) -> str:
    """Return a plot that `has_data` as an ``<svg>`` element; no other element of the page has the id `ident`."""
    if not has_data(plot):
        raise ValueError(f"plot {plot.title!r} has no point that can be drawn")
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    y = _scale(plot.y, _values(plot, 1), bottom, TOP)
    y_ticks = ticks(plot.y, y.low, y.high)
    left = _LABEL_SPACE + _DIGIT_WIDTH * max((len(tick.text) for tick in y_ticks), default=0)
    x = _scale(plot.x, _values(plot, 0), round(left, 1), right)
    x_ticks = ticks(plot.x, x.low, x.high, most=6)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{ident}-t {ident}-d">',
        f'<title id="{ident}-t">{escape(plot.title)}</title><desc id="{ident}-d">{escape(plot.description)}</desc>',
        '<g class="grid">',
        *(f'<path d="M{x.start} {y.at(tick.value):.1f}H{right}"/>' for tick in y_ticks),
        *(f'<path d="M{x.at(tick.value):.1f} {bottom}v4"/>' for tick in x_ticks),
        f'<path class="base" d="M{x.start} {bottom}H{right}"/></g><g class="ticks">',
    ]
    for tick in y_ticks:
        parts.append(f'<text x="{x.start - 6}" y="{y.at(tick.value) + 3.5:.1f}" class="end">{escape(tick.text)}</text>')
    for tick in x_ticks:
        place = min(max(x.at(tick.value), x.start + 4), right - 8)
        parts.append(f'<text x="{place:.1f}" y="{bottom + 15}" class="mid">{escape(tick.text)}</text>')
    across, middle = (x.start + right) / 2, (TOP + bottom) / 2
    parts += [
        f'</g><g class="labels"><text x="{across}" y="{HEIGHT - 5}">{escape(plot.x.text)}</text>',
        f'<text x="11" y="{middle}" transform="rotate(-90 11 {middle})">{escape(plot.y.text)}</text></g>',
        *(mark.svg(x, y) for mark in plot.marks),
        "</svg>",
    ]
    return "".join(parts)


def _values(plot: Plot, axis: int) -> list[float]:
    """Return all values that axis 0 (x) or 1 (y) must cover."""
    log = (plot.x, plot.y)[axis].log
    values = [value for mark in plot.marks for value in mark.values(axis)]
    return [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]


def _scale(axis: Axis, values: Sequence[float], start: float, stop: float) -> Scale:
    low, high = min(values), max(values)
    if axis.log:
        low, high = (low / 1.3, high * 1.3) if high / low < 1e12 else (high / 1e12, high * 1.3)
        return Scale(low=low, high=high, start=start, stop=stop, log=True)
    if axis.from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    # Equal values and those that differ in rounding only get a span of their own.
    margin = 0.06 * (high - low)
    if margin <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.5 if axis.whole or low == 0 else max(abs(low) * 1e-3, 1e-12)
    low = low if axis.from_zero and low == 0 else low - margin
    return Scale(low=low, high=high + margin, start=start, stop=stop, log=False)


def ticks(axis: Axis, low: float, high: float, most: int = 5) -> list[Tick]:
    """Return round ticks within a range: decades, round times, or steps of 1, 2 or 5."""
    if axis.is_time:
        return _time_ticks(low, high, most)
    if not axis.log:
        return _linear_ticks(low, high, most, whole=axis.whole)
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        step = max(1, math.ceil((last - first + 1) / most))
        powers = range(first, last + 1, step)
        return [
            Tick(value=10.0**n, text=fixed(10.0**n, max(0, -n)) if -3 <= n <= 4 else f"10{superscript(n)}")
            for n in powers
        ]
    if high / low < 5:
        return _linear_ticks(low, high, most, whole=False)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**n for n in powers for factor in (1, 2, 5)]
    return [Tick(value=value, text=number(value)) for value in values if low <= value <= high]


def _linear_ticks(low: float, high: float, most: int, *, whole: bool) -> list[Tick]:
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [Tick(value=i * step, text=fixed(i * step, decimals)) for i in range(first, last + 1)]


def _time_ticks(low: float, high: float, most: int) -> list[Tick]:
    most = min(most, 4)  # dates are long words
    first, last = datetime.fromtimestamp(low, UTC), datetime.fromtimestamp(high, UTC)
    days = (last - first).total_seconds() / 86400
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    if days < most / 2 and days * 24 >= 1:
        hours = next((step for step in _HOUR_STEPS if days * 24 / step <= most), 12)
        moments = [midnight + timedelta(hours=hours * i) for i in range(int(48 + days * 24) // hours)]
        texts = "%d %b %H:%M"
    elif days <= most * _DAY_STEPS[-1]:
        step = next((step for step in _DAY_STEPS if days / step <= most), 14)
        moments = [midnight + timedelta(days=step * i) for i in range(int(days / step) + 2)]
        texts = "%d %b"
    else:
        months = next((step for step in _MONTH_STEPS if days / 30.4 / step <= most), _MONTH_STEPS[-1])
        start = first.year * 12 + first.month - 1
        month_numbers = range(start - start % months, last.year * 12 + last.month, months)
        moments = [datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in month_numbers]
        texts = "%b %Y"
    return [Tick(value=m.timestamp(), text=m.strftime(texts)) for m in moments if low <= m.timestamp() <= high]
