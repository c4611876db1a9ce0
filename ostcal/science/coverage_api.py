"""`coverage`: which masters lights would be calibrated with, and what is missing, as a configuration says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from ostcal.build.from_config import kinds_of, location_for, overscan_of
from ostcal.capture.series_plan import SeriesSink
from ostcal.config import Config, ConfigSource, load_config
from ostcal.frames import FrameType
from ostcal.inputs.clocks import AHEAD
from ostcal.inputs.light_headers import find_lights, light_index
from ostcal.library.find import LibraryMaster
from ostcal.library.index import LIGHTS_INDEX, known_masters
from ostcal.naming import noon_at
from ostcal.places.night_folders import has_folder, root_of
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.paths import joined
from ostcal.science.api import calibrated_beside, matcher_of
from ostcal.science.choose_masters import NONE, CalibrationOptions, FrameMatcher
from ostcal.science.cover import Coverage, CoverageRules, LightGroup
from ostcal.science.coverage import light_coverage
from ostcal.science.lacking import CaptureAmounts, frames_to_take


def coverage_of(
    config: ConfigSource,
    lights: Sequence[str | os.PathLike[str]],
    *,
    library: Sequence[LibraryMaster] | None = None,
) -> Coverage:
    """Say which masters lights would be calibrated with, and list the frames that are missing.

    Parameters
    ----------
    config : None, path, dict or Config
        As of `ostcal.CalibrationApplier`.
    lights : paths of files or directories, or patterns
        As of `ostcal.CalibrationApplier.calibrate_files`.
    library : sequence of LibraryMaster, optional
        The masters, where they are known; then nothing is written beside them. By default they are found, and their
        headers and those of the lights are remembered beside them.

    Returns
    -------
    Coverage
        The groups of the lights and the frames to take; files that cannot be used are among its errors.

    Raises
    ------
    InputError
        If there is no directory of masters.
    """
    loaded = load_config(config)
    use_options(ObjectOptions(**loaded.storage.objects))
    masters_dir = location_for(loaded, loaded.master_frames.output_dir)
    overscan, kinds = overscan_of(loaded), kinds_of(loaded)
    has_masters = has_folder(masters_dir)
    is_indexed = has_masters and library is None
    index = light_index(joined(root_of(masters_dir), LIGHTS_INDEX) if is_indexed else None, overscan, kinds)
    calibrated = calibrated_beside(masters_dir)
    places = [location_for(loaded, os.fspath(path)) for path in lights]
    found = find_lights(places, calibrated, overscan, kinds, index)
    index.save()
    library = library if library is not None else known_masters(masters_dir)
    warnings = [*found.warnings]
    if not has_masters:
        warnings.append(f"{masters_dir}: there is no such directory of masters; make some with ostcal masters")

    now = datetime.now(UTC)

    def matcher(kind: FrameType, masters: Sequence[LibraryMaster]) -> FrameMatcher:
        options = CalibrationOptions(dark=NONE) if kind is FrameType.FLAT else CalibrationOptions(flat=NONE)
        return matcher_of(loaded, options, masters, now)

    groups = light_coverage(found.lights, library, matcher, _rules(loaded, library))
    series = frames_to_take(groups, library, _amounts(loaded))
    lacking = [cover for group in groups for cover in group.covers.values() if cover.is_lacking]
    return Coverage(
        masters_dir=masters_dir,
        masters=len(library),
        lights=len(found.lights),
        is_covered=not lacking and bool(found.lights),
        groups=tuple(groups),
        frames_to_take=tuple(series),
        time_s=round(sum(one.time_s for one in series), 1),
        n_bytes=sum(one.n_bytes for one in series),
        warnings=(*warnings, *_unrecorded(groups)),
        errors=found.errors,
    )


def _rules(config: Config, library: Sequence[LibraryMaster]) -> CoverageRules:
    longitude_deg = config.site.longitude
    noons = (master.key.noon_utc_s for master in library if master.key.noon_utc_s is not None)
    return CoverageRules(
        temperature_tolerance_c=config.master_frames.temperature_tolerance,
        with_darks=config.master_frames.calibration.light != NONE,
        noon_utc_s=noon_at(longitude_deg) if longitude_deg is not None else next(noons, None),
    )


def _amounts(config: Config) -> CaptureAmounts:
    darks = config.dark_capture
    return CaptureAmounts(
        frames={
            FrameType.BIAS: darks.frames,
            FrameType.DARK: darks.frames,
            FrameType.FLAT: config.flat_capture.frames,
        },
        bias_exposure_s=darks.min_exposure,
        flat_exposure_s=darks.flat_exposure_time,
        with_flat_darks=config.master_frames.calibration.flat != NONE,
        temperature_tolerance_c=config.master_frames.temperature_tolerance,
        sink=SeriesSink(
            directory=darks.output_dir,
            compressor=config.storage.compressor,
            export_frames=config.storage.export_frames,
        ),
    )


def _unrecorded(groups: Sequence[LightGroup]) -> list[str]:
    """Return a line for each thing that some lights do not say, or say wrongly, and matching would go by."""
    latest = (datetime.now(UTC) + AHEAD).date()
    absent = {
        "taken in the future (DATE-OBS), as of a clock that is wrong: the newest masters count as theirs": [
            g for g in groups if g.night is not None and g.night > latest
        ],
        "no time in the header (DATE-OBS): the newest masters count as theirs": [g for g in groups if not g.night],
        "no temperature in the header (SET-TEMP, CCD-TEMP): a dark is chosen where all are of one": [
            g for g in groups if g.temperature_c is None
        ],
        "no exposure in the header (EXPTIME): no dark can be chosen": [g for g in groups if g.exposure_time_s is None],
    }
    lines = []
    for text, same in absent.items():
        if same:
            count = sum(group.lights for group in same)
            more = f" and {count - 1} more" if count > 1 else ""
            lines.append(f"{min(group.first_light for group in same)}{more}: {text}")
    return lines
