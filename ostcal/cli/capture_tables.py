"""Tables of captures: what will be taken, and what was."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ostcal.cli.tables import Table

if TYPE_CHECKING:
    from ostcal.capture.budget import StepPlan
    from ostcal.capture.series_plan import SeriesOutcome


def plan_table(plan: StepPlan) -> Table:
    """Return the series of a step: frames that are missing, and the time and space that they need."""
    if any(cost.kind for cost in plan.costs):
        return _points_table(plan)
    about = "about " if plan.is_estimate else ""
    cost = f"{about}{_time_text(plan.time_s)}, {plan.n_bytes / 1e9:.2f} GB" if plan.missing else "nothing is missing"
    # Flats are listed by filter, because their exposure time is only found by trials.
    first = "filter" if plan.is_estimate else ">exposure"
    table = Table(f"{plan.step.capitalize()}: {cost}", first, ">frames", ">missing", ">time", ">space")
    for series in plan.costs:
        exposure = "" if series.exposure_time_s is None else f"{series.exposure_time_s:g} s"
        table.add_row(
            (series.filter_name or "none") if plan.is_estimate else exposure,
            str(series.frames),
            str(series.missing),
            f"{about}{_time_text(series.time_s)}",
            f"{series.n_bytes / 1e6:.0f} MB",
        )
    return table


def _time_text(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def series_table(outcomes: list[SeriesOutcome]) -> Table:
    """Return the series that were captured, and how each ended."""
    table = Table("Series", "/series", ">frames", ">taken now", ">level", "end")
    taken = Counter[str]()
    for outcome in outcomes:
        taken[outcome.location] += outcome.taken
    for outcome in {outcome.location: outcome for outcome in outcomes}.values():
        level = "" if outcome.level_adu is None else f"{outcome.level_adu:.1f}"
        table.add_row(outcome.location, str(outcome.present), str(taken[outcome.location]), level, str(outcome.end))
    return table


def _points_table(plan: StepPlan) -> Table:
    """Return the series of a plan in the order in which they are taken, with the time for the cooler."""
    cost = f"{_time_text(plan.time_s)}, {plan.n_bytes / 1e9:.2f} GB" if plan.missing else "nothing is missing"
    table = Table(
        f"{plan.step.capitalize()}: {cost}", "=kind", ">temperature", "settings", "filter", ">exposure", ">frames",
        ">missing", ">wait", ">time", ">space",
    )  # fmt: skip
    for series in plan.costs:
        exposure = "" if series.exposure_time_s is None else f"{series.exposure_time_s:g} s"
        table.add_row(
            series.kind,
            "" if series.temperature_c is None else f"{series.temperature_c:g} C",
            series.settings,
            series.filter_name or "",
            exposure,
            str(series.frames),
            str(series.missing),
            _time_text(series.wait_s) if series.wait_s else "",
            _time_text(series.time_s),
            f"{series.n_bytes / 1e6:.0f} MB",
        )
    return table
