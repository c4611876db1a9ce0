"""The hooks of a configuration, and the events of what the rooms below return."""

from __future__ import annotations

from ostcal.capture.series_plan import SeriesOutcome
from ostcal.config import Config
from ostcal.events.event import Event, SeriesEntry, series_finished
from ostcal.events.hooks import HookRules, Hooks


def open_hooks(config: Config) -> Hooks | None:
    """Return what tells the hooks of a configuration, to be closed at the end; ``None`` if there are none."""
    hooks = config.hooks
    if not (hooks.command or hooks.url) or not hooks.on:
        return None
    return Hooks(
        HookRules(
            on=frozenset(hooks.on),
            command=hooks.command,
            url=hooks.url,
            timeout_s=hooks.timeout,
            retries=hooks.retries,
        )
    )


def series_entry(outcome: SeriesOutcome, added_before: int = 0) -> SeriesEntry:
    """Return a captured series as events and documents name it."""
    return SeriesEntry(
        location=outcome.location,
        frames=outcome.present,
        added=outcome.taken + added_before,
        kind=str(outcome.plan.frame_type),
        exposure_time_s=outcome.plan.exposure_time_s,
        filter=outcome.plan.filter_name,
        level_adu=outcome.level_adu,
        end=str(outcome.end),
        problems=(*outcome.warnings, *(() if outcome.is_complete else (outcome.message,))),
    )


def series_event(command: str, outcome: SeriesOutcome, config_file: str | None) -> Event:
    """Return the event of a series that ended."""
    return series_finished(command, series_entry(outcome), outcome.message, config_file)
