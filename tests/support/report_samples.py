"""A report with something in every place, from numbers made up for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike

from ostcal.frames import FrameType
from ostcal.measure.findings import Finding, Outcome
from ostcal.report.document import (
    CameraReport,
    DarkLevels,
    DefectCount,
    Entry,
    FrameRow,
    HistogramData,
    HistoryPoint,
    HistorySeries,
    Linearity,
    MasterProvenance,
    MasterReport,
    MasterSettings,
    Measure,
    PhotonTransferPoints,
    Profile,
    Report,
    Statistics,
)
from ostcal.report.png import MasterPictures, Picture, ReportPictures

WHEN = datetime(2026, 11, 21, 19, 2, 15, tzinfo=UTC)


def as_numbers(values: ArrayLike) -> tuple[float, ...]:
    """Round numbers to the 8 digits that float32 has at most."""
    return tuple(float(f"{value:.8g}") for value in np.asarray(values, dtype=np.float64))


def finding(outcome: str, text: str, frame: int | None = None, check: str = "light leak") -> Finding:
    return Finding(check=check, outcome=Outcome(outcome), value=68.0, limit=15.0, unit="ADU", text=text, frame=frame)


def frame_row(position: int, outcome: Outcome = Outcome.PASS) -> FrameRow:
    return FrameRow(
        position=position,
        label=f"darks/exp_120.000s.zarr#{position + 3}",
        series="darks/exp_120.000s.zarr",
        index=position + 3,
        outcome=outcome,
        date_obs=WHEN + timedelta(seconds=120.5 * position),
        exposure_time_s=120.0,
        ccd_temperature_c=-10 + 0.05 * np.sin(position),
        level_adu=503.2 + 0.01 * np.cos(position) + (60 if outcome is Outcome.FAIL else 0),
        std_adu=6.1,
        minimum_adu=471.0,
        maximum_adu=58333.0,
        saturated=4,
        rejected_share=0.0027,
    )


def full_master(kind: FrameType = FrameType.DARK, verdict: Outcome = Outcome.FAIL, number: int = 0) -> MasterReport:
    findings = [finding("pass", "16 frames, 15 are enough", check="frames")]
    if verdict is not Outcome.PASS:
        findings.append(finding("warn", "2.4 % of the samples rejected, limit 2 %", check="rejection"))
    if verdict is Outcome.FAIL:
        findings.append(finding("fail", "a gradient of 68 ADU that the others do not have, limit 15 ADU", frame=6))
    failed = {6} if verdict is Outcome.FAIL else set()
    rows = [frame_row(i, Outcome.FAIL if i in failed else Outcome.PASS) for i in range(16)]
    values = np.linspace(490, 510, 300) + np.sin(np.arange(300))
    name = f"master_{kind}_120.000s_20261121_19021{number}"
    return MasterReport(
        name=name,
        kind=kind,
        verdict=verdict,
        findings=tuple(findings),
        files=(f"{name}.fits",),
        made_at=WHEN,
        n_frames=16,
        settings=MasterSettings(
            camera="Simulated demo",
            width=9576,
            height=6388,
            exposure_time_s=120.0,
            filter_name="Ha 3 nm" if kind is FrameType.FLAT else None,
            temperature_c=-10.0,
            gain=100.0,
            offset=50.0,
            binning=(1, 1),
            readout_mode="Low noise",
        ),
        statistics=Statistics(
            median=503.21, mean=503.9, std=6.2, minimum=471.0, maximum=58333.0, noise=1.1, rejected_share=0.024
        ),
        measures=(Measure(key="amplifier_glow_adu", label="Amplifier glow", value=3.2, uncertainty=0.4, unit="ADU"),),
        histogram=HistogramData(
            start=470.0, step=0.5, counts=tuple(int(1e6 * np.exp(-(((i - 66) / 12) ** 2))) for i in range(160))
        ),
        frame_histogram=HistogramData(start=440.0, step=1.0, counts=tuple(range(120))),
        row_profile=Profile(start=0.0, step=21.0, values=as_numbers(values)),
        column_profile=Profile(start=0.0, step=32.0, values=as_numbers(values[::-1])),
        frames=tuple(rows),
        defects=(
            DefectCount(name="hot", bit=1, pixels=12034, share=1.97e-4),
            DefectCount(name="bad column", bit=16, pixels=6388, share=1.04e-4),
        ),
        provenance=MasterProvenance(
            software="ostcal 0.4.0",
            method="mean, sigma clip 3.0 and 3.0",
            calibration_id="9b1f4c52-6a2e-4a0a-b0f3-8b1d5f1e7c61",
            input_digest="sha256:" + "4f9c02ab" * 8,
            inputs=tuple(row.label for row in rows),
            cards=(Entry(name="IMAGETYP", value="Master Dark"), Entry(name="NCOMBINE", value="16")),
        ),
    )


def full_camera() -> CameraReport:
    signal = np.geomspace(60, 48000, 40)
    return CameraReport(
        camera="Simulated demo",
        gain_setting=100.0,
        offset_setting=50.0,
        binning=(1, 1),
        temperature_c=-10.0,
        gain_e_per_adu=1.1988,
        gain_e_per_adu_uncertainty=0.0031,
        read_noise_adu=3.338,
        read_noise_adu_uncertainty=0.012,
        read_noise_e=4.002,
        read_noise_e_uncertainty=0.018,
        dark_current_e_per_s=0.0301,
        dark_current_e_per_s_uncertainty=0.0005,
        bits_used=16,
        reasons=(Entry(name="full_well_e", value="no flats reach saturation"),),
        notes=("The lamp was steady to 0.2 %.",),
        findings=(finding("warn", "EGAIN says 1.3, measured 1.199 e-/ADU", check="gain"),),
        photon_transfer=PhotonTransferPoints(
            signal_adu=as_numbers(signal),
            variance_adu2=as_numbers(11.1 + signal / 1.2),
            used=tuple(bool(value < 40000) for value in signal),
            fit_signal_adu=as_numbers(signal),
            fit_variance_adu2=as_numbers(11.1 + signal / 1.2),
        ),
        dark_ladder=DarkLevels(
            exposure_time_s=(5.0, 30.0, 120.0),
            level_adu=(500.4, 501.1, 503.3),
            uncertainty_adu=(0.1, 0.1, 0.15),
            fit_exposure_time_s=(0.0, 120.0),
            fit_level_adu=(500.3, 503.31),
        ),
        linearity=Linearity(signal_adu=(2000.0, 9000.0, 45000.0), deviation_percent=(0.1, -0.1, -0.42)),
    )


def full_report(masters: tuple[MasterReport, ...] | None = None) -> Report:
    if masters is None:
        masters = (
            full_master(FrameType.BIAS, Outcome.PASS, 1),
            full_master(FrameType.DARK, Outcome.FAIL, 2),
            full_master(FrameType.FLAT, Outcome.WARN, 3),
        )
    points = tuple(
        HistoryPoint(made_at=WHEN - timedelta(days=9 * i), value=4.0 + 0.01 * i, outcome=Outcome.PASS)
        for i in reversed(range(9))
    )
    return Report(
        made_at=WHEN,
        software="ostcal 0.4.0",
        config_file="observatory.yaml",
        masters=masters,
        camera=full_camera(),
        other_cameras=(CameraReport(camera="Simulated demo", gain_setting=200.0, gain_e_per_adu=0.61),),
        findings=(finding("warn", "no bias frames: read noise is that of the shortest darks", check="camera"),),
        left_out=("darks/exp_5.000s.zarr#3: its checksum does not match",),
        history=(
            HistorySeries(subject="Simulated demo", key="read_noise_e", label="Read noise", unit="e-", points=points),
            HistorySeries(subject="Simulated demo", key="hot", label="Hot pixels", points=points[-1:]),
        ),
        settings=(Entry(name="darks.frames", value="16"),),
    )


def noise_picture(width: int, height: int, seed: int = 0) -> Picture:
    """Return a picture that cannot be compressed: the worst case for the size of a page."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    return Picture(pixels=pixels, black=498.2, white=521.7)


def full_pictures(report: Report, width: int = 96, height: int = 64) -> ReportPictures:
    masters = {}
    for seed, master in enumerate(report.masters):
        defects = np.zeros((height, width), np.uint8)
        defects[:, width // 3] = 16
        defects[::7, ::5] |= 1
        masters[master.name] = MasterPictures(
            picture=noise_picture(width, height, seed),
            rejection_map=replace(noise_picture(width // 2, height // 2, seed), black=0.0, white=0.31),
            defect_map=Picture(pixels=defects),
            thumbnails={6: noise_picture(width // 2, height // 2, seed)},
        )
    return ReportPictures(masters=masters)
