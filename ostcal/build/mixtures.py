"""Flats whose dark turns out to be a mixture of two levels take another one: such a dark is at neither of the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ostcal.build.flat_darks import note_ages, say_what_is_open
from ostcal.build.plan import BuildPlan
from ostcal.build.prepare import PreparedMaster
from ostcal.build.request import BuildRequest
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.gather import Source
from ostcal.library.ages import AgeLog
from ostcal.library.master_names import untimed
from ostcal.library.quality_notes import why_failed
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.frames.level_changes import check_mixture
from ostcal.measure.frames.series_facts import SeriesFacts


@dataclass(frozen=True, kw_only=True)
class Remade:
    """What is to be made, with other darks, and a line for each flat that has another one or none."""

    prepared: tuple[PreparedMaster, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def without_mixtures(
    request: BuildRequest, plan: BuildPlan, prepared: Sequence[PreparedMaster], sources: Mapping[str, Source]
) -> Remade:
    """Choose the darks of flats again without those of this run whose frames are of two levels.

    A flat for which no other dark and no bias fits is not made. One with another dark has no recipe, so that the next
    run makes it again, as it does with the dark.
    """
    mixtures = {one.plan.name: found.text for one in prepared if (found := _mixture_in(request, one)) is not None}
    mixtures |= {u.stored.record.name: why_failed(u.stored) for u in plan.unchanged if u.stored.record.has_two_levels}
    kept: list[PreparedMaster] = []
    warnings: list[str] = []
    errors: list[str] = []
    lost_files: set[str] = set()
    ages = AgeLog(max_ages=request.max_ages)
    for one in prepared:
        bad = [name for name in one.plan.darks_of_run if name in mixtures]
        if not bad:
            kept.append(one)
            continue
        why = f"{one.plan.name}: its dark {bad[0]} is a mixture of two levels and is not taken ({mixtures[bad[0]]})"
        try:
            dark, _ = plan.shelf.dark_of(request, one.plan.group, sources, barred=mixtures)
        except InputError as error:
            errors.append(f"{why}: {error}")
            lost_files.add(one.plan.group.files)
            continue
        warnings.append(f"{why}; instead: {dark.choice.description if dark is not None else 'none'}")
        kept.append(replace(one, plan=replace(one.plan, dark=dark, recipe="")))
        say_what_is_open(one.plan.name, one.plan.group, dark)
        note_ages(ages, untimed(one.plan.name), one.plan.group, dark)
    lost_files.discard("")  # of several images one file is written
    return Remade(
        prepared=tuple(one for one in kept if one.plan.group.files not in lost_files),
        warnings=(*warnings, *ages.old, *ages.warnings),
        errors=tuple(errors),
    )


def _mixture_in(request: BuildRequest, prepared: PreparedMaster) -> Finding | None:
    """Return the finding of two levels among the frames of a bias or a dark."""
    rules, survey = request.publishing.quality, prepared.survey
    kind = prepared.plan.group.key.frame_type
    if rules is None or survey is None or kind is FrameType.FLAT:
        return None
    metadata = [frame.metadata for frame in prepared.plan.group.frames]
    series = SeriesFacts.of(
        kind,
        survey,
        rules.frames,
        float("inf"),
        [one.exposure_time_s for one in metadata],
        [one.ccd_temperature_c for one in metadata],
        prepared.unlit_noise_adu,
        None,
    )
    if len(series.index) == 0:
        return None
    return next((one for one in check_mixture(series) if one.outcome is Outcome.FAIL), None)
