"""Progress of a capture: a bar with the running exposure and the checks of the last frame, or lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ostcal.cli.console import PLAIN_LINE_EVERY_S
from ostcal.printable import printable

if TYPE_CHECKING:
    from ostcal.capture.budget import SeriesCost, StepPlan
    from ostcal.capture.series_plan import CaptureWatcher, FrameDone, SeriesOutcome, SeriesPlan

_PLAN_WEIGHT = 2
"""The planned time between exposures weighs as much as this number of measured frames."""

Now = Callable[[], float]


@dataclass
class _Part:
    """A series of the step."""

    cost: SeriesCost
    exposure_s: float
    left: int
    """Frames still to take."""
    present: int

    def fits(self, plan: SeriesPlan, *, is_estimate: bool) -> bool:
        """Return whether this is the series of a plan; exposures found by trials are not known beforehand."""
        same_exposure = is_estimate or self.cost.kind == "flat" or self.cost.exposure_time_s == plan.exposure_time_s
        return same_exposure and self.cost.filter_name == plan.filter_name


class Forecast:
    """Frames done and time left of a step: exposures as planned, and between them what was measured.

    Parameters
    ----------
    plan : StepPlan
        Frames that will be taken.
    time_scale : float
        Seconds of an exposure that pass in one second of the clock: above 1 with a simulated camera.
    now : callable () -> float
        Returns seconds.
    """

    def __init__(self, plan: StepPlan, time_scale: float, now: Now) -> None:
        self._is_estimate = plan.is_estimate
        self._scale = time_scale
        self._now = now
        self._parts = [
            _Part(
                cost=cost, exposure_s=cost.exposure_time_s or 0.0, left=cost.missing, present=cost.frames - cost.missing
            )
            for cost in plan.costs
        ]
        exposures_s = sum((cost.exposure_time_s or 0.0) * cost.missing for cost in plan.costs)
        self._planned_overhead_s = (plan.time_s - exposures_s) / max(1, plan.missing)
        self._overheads_s = 0.0
        self._n_measured = 0
        self._at = -1
        self._series_began_s = self._last_s = now()
        self._n_in_series = 0

    @property
    def total(self) -> int:
        """Frames of the step, those on disk included."""
        return sum(part.cost.frames for part in self._parts)

    @property
    def done(self) -> int:
        """Frames of the step that are on disk."""
        return sum(part.present for part in self._parts)

    @property
    def rate_per_min(self) -> float | None:
        """Frames a minute of the running series; ``None`` before its first."""
        elapsed_s = self._last_s - self._series_began_s
        return 60 * self._n_in_series / elapsed_s if self._n_in_series and elapsed_s > 0 else None

    def series_started(self, plan: SeriesPlan, missing: int) -> None:
        """Begin a series; earlier ones that were never begun are skipped."""
        for number in range(self._at + 1, len(self._parts)):
            if self._parts[number].fits(plan, is_estimate=self._is_estimate):
                for passed in self._parts[self._at + 1 : number]:
                    passed.left = 0
                self._at = number
                part = self._parts[number]
                part.left, part.present = missing, max(0, part.cost.frames - missing)
                part.exposure_s = plan.exposure_time_s or part.exposure_s
                break
        self._series_began_s = self._last_s = self._now()
        self._n_in_series = 0

    def frame_done(self, exposure_s: float) -> None:
        """Count a frame and the time that it took beyond its exposure."""
        now_s = self._now()
        self._overheads_s += now_s - self._last_s - exposure_s / self._scale
        self._n_measured += 1
        self._n_in_series += 1
        self._last_s = now_s
        if self._at >= 0:
            part = self._parts[self._at]
            part.left, part.present = max(0, part.left - 1), part.present + 1
            part.exposure_s = exposure_s

    def series_ended(self) -> None:
        """End a series, complete or not."""
        if self._at >= 0:
            self._parts[self._at].left = 0

    def left_s(self, exposed_s: float = 0.0) -> float:
        """Return the seconds that the step still takes; `exposed_s` of the running exposure have passed."""
        weighted_s = _PLAN_WEIGHT * self._planned_overhead_s + self._overheads_s
        overhead_s = max(0.0, weighted_s / (_PLAN_WEIGHT + self._n_measured))
        left_s = sum(part.left * (part.exposure_s / self._scale + overhead_s) for part in self._parts)
        return max(0.0, left_s - exposed_s / self._scale)


class CaptureProgress:
    """Display of a capture: two lines that are redrawn on a terminal, else a line every `PLAIN_LINE_EVERY_S`.

    Parameters
    ----------
    console : Console
        The console of the log lines, so that they do not break the bar.
    time_scale : float
        See `Forecast`.
    now : callable () -> float, optional
        Returns seconds.
    """

    def __init__(self, console: Console, time_scale: float = 1.0, now: Now = time.monotonic) -> None:
        self._console = console
        self._scale = time_scale
        self._now = now
        self._live: Live | None = None
        self._step = ""
        self._forecast: Forecast | None = None
        self._series: SeriesPlan | None = None
        self._present = 0
        self._exposing: tuple[float, float] | None = None
        self._last: FrameDone | None = None
        self._notice: Spinner | None = None
        self._last_line_s = now()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watcher(self, ended: Callable[[SeriesOutcome], None]) -> CaptureWatcher:
        """Return the callbacks for a capture; `ended` is called with the outcome of each series too."""
        from ostcal.capture.series_plan import CaptureWatcher

        def series_ended(outcome: SeriesOutcome) -> None:
            self.series_ended(outcome)
            ended(outcome)

        return CaptureWatcher(
            series_started=self.series_started,
            exposing=self.exposing,
            frame_done=self.frame_done,
            series_ended=series_ended,
            notice=self.notice,
        )

    def begin(self, plan: StepPlan) -> None:
        """Begin a step."""
        self._step, self._forecast = plan.step, Forecast(plan, self._scale, self._now)
        self._series = self._last = self._exposing = self._notice = None

    def stop(self) -> None:
        """Remove the bar, for a question or at the end; the next event draws it again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def series_started(self, plan: SeriesPlan, location: str, missing: int) -> None:
        """Show the series that begins."""
        self._series, self._present = plan, max(0, plan.n_frames - missing)
        self._exposing = self._last = self._notice = None
        if self._forecast is not None:
            self._forecast.series_started(plan, missing)
        if missing:
            self._show()

    def exposing(self, exposure_s: float, elapsed_s: float) -> None:
        """Show the running exposure."""
        self._exposing, self._notice = (exposure_s, elapsed_s), None
        self._show()

    def frame_done(self, done: FrameDone) -> None:
        """Show the checks of a frame."""
        self._last, self._present = done, done.present
        if self._forecast is not None:
            self._forecast.frame_done(done.record.metadata.exposure_time_s or 0.0)
        self._show()

    def series_ended(self, outcome: SeriesOutcome) -> None:
        """Show the end of a series."""
        self._exposing = None
        if self._forecast is not None:
            self._forecast.series_ended()
        self._show(at_once=outcome.taken > 0)
        self._series = None

    def notice(self, line: str) -> None:
        """Show a line with a spinner: cooling and the sky take minutes in which nothing else moves."""
        self._notice, self._exposing = Spinner("line", Text(printable(line), overflow="fold")), None
        if self._console.is_terminal:  # elsewhere the log has it
            self._show()

    def _show(self, *, at_once: bool = False) -> None:
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(
                    console=self._console, get_renderable=self.render, transient=True, refresh_per_second=5
                )
                self._live.start()
        elif at_once or self._now() - self._last_line_s >= PLAIN_LINE_EVERY_S:
            self._last_line_s = self._now()
            self._console.print(printable(self.line()), markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        """Return the whole state on one line."""
        forecast = self._forecast
        overall = f"{forecast.done} of {forecast.total} frames" if forecast is not None else ""
        words = [f"{self._step or 'capture'}: {overall}", self._series_words(), *self._pace()]
        return ", ".join(filter(None, words)) + (f"; last frame {self._checks()}" if self._last is not None else "")

    def render(self) -> Group:
        """Return the bar, and below it the series, the running exposure and the checks of the last frame."""
        parts: list[Table | Spinner | Text] = []
        if (forecast := self._forecast) is not None:
            bar = Table.grid(expand=True, padding=(0, 1))
            bar.add_column(no_wrap=True)
            bar.add_column(ratio=1)
            bar.add_column(no_wrap=True, justify="right")
            drawn = ProgressBar(total=max(1, forecast.total), completed=forecast.done)
            bar.add_row(self._step, drawn, "  ".join([f"{forecast.done}/{forecast.total}", *self._pace()]))
            parts.append(bar)
        if self._notice is not None:
            return Group(*parts, self._notice)
        words = [self._series_words()]
        if self._exposing is not None:
            exposure_s, elapsed_s = self._exposing
            decimals = 1 if exposure_s >= 1 else 3
            words.append(f"{elapsed_s:.{decimals}f} of {exposure_s:.{decimals}f} s")
        details = Text("  ".join(filter(None, words)), overflow="fold")
        if self._last is not None:
            details.append(f"  last: {self._checks()}", style="green" if not self._failed() else "yellow")
        return Group(*parts, details)

    def _pace(self) -> list[str]:
        """Return the frames a minute and the time left, as ``0:04:10``."""
        forecast = self._forecast
        if forecast is None:
            return []
        rate = forecast.rate_per_min
        minutes, rest_s = divmod(round(forecast.left_s(self._exposing[1] if self._exposing else 0.0)), 60)
        left = f"{minutes // 60}:{minutes % 60:02d}:{rest_s:02d} left"
        return [left] if rate is None else [f"{rate:.1f}/min", left]

    def _series_words(self) -> str:
        series = self._series
        return f"{series.name} {self._present} of {series.n_frames}" if series is not None else ""

    def _failed(self) -> list[str]:
        return [str(verdict.check) for verdict in self._last.verdicts if not verdict.passed] if self._last else []

    def _checks(self) -> str:
        """Return level, temperature and failed checks of the last frame."""
        if self._last is None:
            return ""
        record = self._last.record
        level, ccd_c = record.pixels.statistics.median, record.metadata.ccd_temperature_c
        words = [f"{level:.0f} ADU"] if level is not None else []
        words += [f"{ccd_c:.1f} C"] if ccd_c is not None else []
        return ", ".join([*words, *(self._failed() or ["ok"])])
