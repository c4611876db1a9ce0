"""What the page shows of the history of masters and cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ostcal.report import figures
from ostcal.report.document import HistorySeries
from ostcal.report.views import Fact, Figure, drawn_plots
from ostcal.report.wording import when, with_unit


@dataclass(frozen=True, kw_only=True)
class HistoryView:
    """What is known of one subject over the runs."""

    subject: str
    n_runs: int
    figures: tuple[Figure, ...]
    single: tuple[Fact, ...]
    """Numbers of which there is one value so far."""


def is_drawn(series: HistorySeries) -> bool:
    """Return whether a number has a plot: after one run there is nothing to compare."""
    return sum(point.value is not None for point in series.points) > 1


def history_views(history: Sequence[HistorySeries], idents: Iterator[str]) -> Iterator[HistoryView]:
    """Yield the numbers of each subject over the runs; `idents` gives ids for its plots."""
    of_subjects: dict[str, list[HistorySeries]] = {}
    for series in history:
        of_subjects.setdefault(series.subject, []).append(series)
    for subject, about in of_subjects.items():
        drawn = [series for series in about if is_drawn(series)]
        if not drawn:
            continue
        plots = drawn_plots([figures.history_plot(series) for series in drawn], idents)
        yield HistoryView(
            subject=subject,
            n_runs=max(len(series.points) for series in about),
            figures=tuple(
                Figure(title=series.label, caption=figures.history_caption(series), svg=plot.svg)
                for series, plot in zip(drawn, plots, strict=True)
            ),
            single=tuple(
                Fact(name=series.label, value=with_unit(point.value, series.unit), other=when(point.made_at))
                for series in about
                if series not in drawn
                for point in series.points[-1:]
            ),
        )
