"""The plots of a report: which numbers go on which axes, and their description in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ostcal.measure.findings import Outcome
from ostcal.report.document import (
    CameraReport,
    FrameRow,
    HistogramData,
    HistorySeries,
    MasterReport,
    NoiseFall,
    Profile,
)
from ostcal.report.plots import Axis, Bars, Line, Plot, Points, has_data
from ostcal.report.wording import DASH, celsius, count, number, percent, plural, span, when, with_unit

E_UNIT = "e⁻"


def master_plots(master: MasterReport) -> list[Plot]:
    """Return the plots of a master's pixels that have data."""
    found = [
        _histogram(master.histogram, "Histogram of the pixels", "pixels") if master.histogram else None,
        _profile(master.row_profile, "Row profile", "Row"),
        _profile(master.column_profile, "Column profile", "Column"),
    ]
    return _drawable(found)


def frame_plots(master: MasterReport) -> list[Plot]:
    """Return the plots of a master's frames that have data."""
    rows = master.frames
    found = [
        _by_frame(rows, "Level by frame", Axis(label="Mean", unit="ADU"), [row.level_adu for row in rows]),
        _by_frame(
            rows, "Temperature by frame", Axis(label="Sensor", unit="°C"), [row.ccd_temperature_c for row in rows]
        ),
        _by_frame(
            rows,
            "Samples rejected by frame",
            Axis(label="Rejected", unit="%", from_zero=True),
            [None if row.rejected_share is None else 100 * row.rejected_share for row in rows],
        )
        if any(row.rejected_share for row in rows)
        else None,
        _noise_fall(master.noise_fall) if master.noise_fall else None,
        _histogram(master.frame_histogram, "Histogram of the frames", "samples") if master.frame_histogram else None,
    ]
    return _drawable(found)


def _noise_fall(fall: NoiseFall) -> Plot:
    """Return the plot of the noise against the number of frames, with what is expected and the end by the target."""
    expected = [fall.single_frame / math.sqrt(count) for count in fall.frames]
    known = [value for value in (*expected, *fall.noise) if value is not None]
    last, unit = fall.noise[-1], f" {fall.unit}"
    return Plot(
        title="Noise by number of frames",
        description=f"Measured on the first frames (points); the line is {number(fall.single_frame)}{unit} divided by"
        f" the square root of their number. With all {fall.frames[-1]}: {with_unit(last, fall.unit)}, expected"
        f" {number(expected[-1])}{unit}. The upright line marks {plural(fall.target_frames, 'frame')}, at which"
        f" target.noise_share ({number(100 * fall.target_share)} % of the noise of a light) was reached or"
        " target.max_frames ended it.",
        x=Axis(label="Frames", log=True),
        y=Axis(label="Noise", unit=fall.unit, log=True),
        marks=[
            Line(x=fall.frames, y=expected, style="fit"),
            Line(x=[fall.target_frames] * 2, y=[min(known), max(known)], style="faint"),
            Points(x=fall.frames, y=fall.noise),
        ],
    )


def camera_plots(camera: CameraReport) -> list[Plot]:
    """Return the plots of a camera's properties that have data."""
    plots = []
    if (transfer := camera.photon_transfer) is not None:
        gain = f" Gain {number(camera.gain_e_per_adu)} {E_UNIT}/ADU." if camera.gain_e_per_adu is not None else ""
        plots.append(
            Plot(
                title="Photon transfer",
                description=f"{plural(len(transfer.signal_adu), 'point')}: "
                f"signal {_range(transfer.signal_adu, 'ADU')}, "
                f"variance {_range(transfer.variance_adu2, 'ADU²')}.{gain}",
                x=Axis(label="Signal", unit="ADU", log=True),
                y=Axis(label="Variance", unit="ADU²", log=True),
                marks=[
                    Points(x=transfer.signal_adu, y=transfer.variance_adu2, faint=[not used for used in transfer.used]),
                    Line(x=transfer.fit_signal_adu, y=transfer.fit_variance_adu2, style="fit"),
                ],
            )
        )
    if (ladder := camera.dark_ladder) is not None:
        rate, temperature_c = camera.dark_current_e_per_s, camera.temperature_c
        at = f" at {celsius(temperature_c)}" if temperature_c is not None else ""
        slope = f" Dark current {number(rate)} {E_UNIT}/s{at}." if rate is not None else ""
        plots.append(
            Plot(
                title="Dark current",
                description=f"{plural(len(ladder.exposure_time_s), 'dark master')} of "
                f"{_range(ladder.exposure_time_s, 's')}: level {_range(ladder.level_adu, 'ADU')}.{slope}",
                x=Axis(label="Exposure", unit="s", from_zero=True),
                y=Axis(label="Level", unit="ADU"),
                marks=[
                    Line(x=ladder.fit_exposure_time_s, y=ladder.fit_level_adu, style="fit"),
                    Points(x=ladder.exposure_time_s, y=ladder.level_adu, error=ladder.uncertainty_adu),
                ],
            )
        )
    if (linearity := camera.linearity) is not None:
        signal, deviation = linearity.signal_adu, linearity.deviation_percent
        plots.append(
            Plot(
                title="Linearity",
                description=f"Deviation from a straight line: {_range(deviation, '%')}, "
                f"signal {_range(signal, 'ADU')}.",
                x=Axis(label="Signal", unit="ADU", from_zero=True),
                y=Axis(label="Deviation", unit="%", from_zero=True),
                marks=[Line(x=signal, y=deviation, style="faint"), Points(x=signal, y=deviation)],
            )
        )
    return _drawable(plots)


def history_plot(series: HistorySeries) -> Plot:
    """Return the plot of a number over the runs."""
    points = series.points
    times, values = [point.made_at.timestamp() for point in points], [point.value for point in points]
    return Plot(
        title=f"{series.label}: {series.subject}",
        description=f"{plural(len(points), 'run')}, {_range(values, series.unit)}; "
        f"last {with_unit(_last(values), series.unit)}.",
        x=Axis(label="Date", is_time=True),
        y=Axis(label=series.label, unit=series.unit),
        marks=[
            Line(x=times, y=values, style="faint"),
            Points(
                x=times,
                y=values,
                outcomes=[point.outcome for point in points],
                names=[f"{when(point.made_at)}: {with_unit(point.value, series.unit)}" for point in points],
            ),
        ],
    )


def history_caption(series: HistorySeries) -> str:
    """Return the last value and the one before."""
    values = [point.value for point in series.points]
    last = f"Last {with_unit(_last(values), series.unit)}"
    return last + (f", before {with_unit(values[-2], series.unit)}" if len(values) > 1 else "")


def _drawable(plots: Iterable[Plot | None]) -> list[Plot]:
    return [plot for plot in plots if plot is not None and has_data(plot)]


def _histogram(histogram: HistogramData, title: str, counted: str) -> Plot:
    counts = histogram.counts
    stop = histogram.start + histogram.step * len(counts)
    most = max(range(len(counts)), key=counts.__getitem__) if counts else 0
    peak = histogram.start + histogram.step * most
    return Plot(
        title=title,
        description=f"{count(sum(counts))} {counted} from {span(histogram.start, stop, histogram.unit)}; "
        f"the fullest bin is {span(peak, peak + histogram.step, histogram.unit)}.",
        x=Axis(label="Value", unit=histogram.unit),
        y=Axis(label=counted.capitalize(), log=True),
        marks=[Bars(start=histogram.start, step=histogram.step, counts=counts)],
    )


def _profile(profile: Profile | None, title: str, label: str) -> Plot | None:
    """Return the plot of a profile; ``None`` for a single value, which is the mean of the master."""
    if profile is None or len(profile.values) < 2:
        return None
    places = [profile.start + profile.step * i for i in range(len(profile.values))]
    return Plot(
        title=title,
        description=f"Mean of each {label.lower()}: {_range(profile.values, profile.unit)}.",
        x=Axis(label=label),
        y=Axis(label="Mean", unit=profile.unit),
        marks=[Line(x=places, y=profile.values)],
    )


def _by_frame(rows: Sequence[FrameRow], title: str, axis: Axis, values: list[float | None]) -> Plot:
    flagged = [row for row in rows if row.outcome is not Outcome.PASS]
    marked = f" {plural(len(flagged), 'frame')} marked." if flagged else ""
    positions = [float(row.position) for row in rows]
    return Plot(
        title=title,
        description=f"{plural(len(rows), 'frame')}: {_range(values, axis.unit)}.{marked}",
        x=Axis(label="Frame", whole=True),
        y=axis,
        marks=[
            Line(x=positions, y=values, style="faint"),
            Points(
                x=positions,
                y=values,
                outcomes=[row.outcome for row in rows],
                names=[f"{row.label}: {with_unit(value, axis.unit)}" for row, value in zip(rows, values, strict=True)],
            ),
        ],
    )


def rejection_words(share: float | None, highest: float | None) -> str:
    """Return the caption of a rejection map: the share of all samples, and of the cell that lost most."""
    lost = f"{percent(share)} of the samples were not kept" if share is not None else "Samples that were not kept"
    return f"{lost}; {percent(highest)} in the fullest cell." if highest is not None else f"{lost}."


def _range(values: Sequence[float | None], unit: str = "") -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return span(min(known), max(known), unit) if known else DASH


def _last(values: Sequence[float | None]) -> float | None:
    return values[-1] if values else None
