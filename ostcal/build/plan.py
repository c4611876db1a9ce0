"""Which masters a run makes: their names, the darks of the flats, and what is unchanged since an earlier run."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np

from ostcal.build.flat_darks import (
    DarkShelf,
    FlatDark,
    PlannedDark,
    note_ages,
    say_what_is_open,
    stored_candidate,
    warned_darks,
)
from ostcal.build.match_darks import DarkCandidate
from ostcal.build.output_names import by_files, output_names
from ostcal.build.request import BuildRequest
from ostcal.build.stored_strips import StoreSink, WorkKey
from ostcal.engine.rejection import RejectionMethod, SigmaClip
from ostcal.errors import InputError
from ostcal.fits.sections import readout_status
from ostcal.frames import FrameStack, FrameType, Optics
from ostcal.inputs.gather import Source, input_digest, stack_of
from ostcal.inputs.grouping import Group
from ostcal.inputs.observed import Observed
from ostcal.inputs.optics import optics_differ
from ostcal.inputs.sensor_temperature import sensor_key
from ostcal.library.ages import AgeLog
from ostcal.library.attributes import MasterRecord
from ostcal.library.find import LibraryMaster, StorePlane, calibration_id_of, find_masters, store_location
from ostcal.library.integrity import cut_short, damage_at_a_glance
from ostcal.library.master_names import file_names, untimed
from ostcal.library.previous import previous_master
from ostcal.library.quality_notes import why_failed
from ostcal.measure.findings import Outcome
from ostcal.places.durable import os_reason
from ostcal.places.paths import exists, is_file, joined, parent_of

logger = logging.getLogger(__name__)

_SAME_EXPOSURE = 0.001
"""Share by which the exposures of two masters of the same frames may differ: their median moves with a frame more."""
_SAME_TEMPERATURE_C = 1.0


@dataclass(frozen=True, kw_only=True)
class Output:
    """A name that a combined group is published under."""

    name: str
    file_names: tuple[str, ...]
    """Of its file in each format; the masters of all images of files of several have one."""
    frame_type: FrameType
    made_at: datetime

    @property
    def file_name(self) -> str:
        """Of its first file: FITS, unless only XISF is written."""
        return self.file_names[0]


def names_of_files(outputs: Sequence[Output]) -> list[str]:
    """Return the names of all files, those of the first format first."""
    return [name for of_format in zip(*(output.file_names for output in outputs), strict=True) for name in of_format]


@dataclass(frozen=True, kw_only=True)
class MasterPlan:
    """A group that becomes one master, or two: a bias set is also the dark of its exposure."""

    group: Group
    members: tuple[Source, ...]
    """The frames of the group."""
    key: WorkKey
    """Tells these frames from all others."""
    input_digest: str
    """SHA-256 over what tells the frames apart, whatever their order."""
    outputs: tuple[Output, ...]
    dark: FlatDark | None
    """``None`` for bias and darks, and where the dark or the bias of flats was subtracted already."""
    previous: LibraryMaster | None
    """The older master that it is compared with; ``None`` if there is none, or no quality control."""
    calibration_id: str
    recipe: str
    """SHA-256 over all that decides the master; empty where a later run should try again."""
    left_out: tuple[str, ...] = ()
    """A line for each frame that is unlike the others and was left out."""

    @property
    def name(self) -> str:
        """Of the master in its store."""
        return self.outputs[0].name

    @property
    def is_flat(self) -> bool:
        """Return whether it is normalised after it is combined."""
        return self.group.key.frame_type is FrameType.FLAT

    @property
    def combined_name(self) -> str:
        """Where strips are combined in the store; flats are divided by their level from there into their place."""
        return f"{self.name}.combined" if self.is_flat else self.name

    @cached_property
    def stack(self) -> FrameStack:
        """The frames as one stack."""
        return stack_of(self.members)

    @property
    def n_bytes(self) -> int:
        """Samples of all frames, as they are in memory."""
        return math.prod(self.stack.shape) * np.dtype(self.stack.encoding.dtype).itemsize

    @property
    def exposure_times_s(self) -> tuple[float, ...]:
        """Of each frame."""
        return tuple(frame.metadata.exposure_time_s or 0.0 for frame in self.group.frames)

    @property
    def darks_of_run(self) -> tuple[str, ...]:
        """Names of the masters of this run that flats take for their dark."""
        candidates = self.dark.choice.candidates if self.dark is not None else ()
        return tuple(candidate.name for candidate in candidates if candidate.from_this_run)

    @property
    def calibration_status(self) -> str:
        """Letters of CALSTAT: what was subtracted; a dark holds the bias too."""
        done = readout_status(self.members[0].readout)
        if self.dark is not None:
            return done + ("B" if self.dark.choice.kind == "bias" else "BD")
        key = self.group.key
        return done + ("BD" if key.dark_subtracted else "B" if key.bias_subtracted else "")

    def without(self, labels: Mapping[str, str]) -> MasterPlan:
        """Return the plan without some frames, and without a recipe: the next run tries with all of them again."""
        members = tuple(source for source in self.members if source.frame.label not in labels)
        group = replace(self.group, frames=tuple(frame for frame in self.group.frames if frame.label not in labels))
        digest = input_digest(members)
        return replace(self, group=group, members=members, key=WorkKey.of(members), input_digest=digest, recipe="")

    def leaving_out(self, reasons: Mapping[str, str]) -> MasterPlan:
        """Return the plan without frames that are unlike the others; `reasons` has a line for each label.

        The recipe stays: the next run would find the same and need not make the master again.
        """
        return replace(self.without(reasons), recipe=self.recipe, left_out=(*self.left_out, *reasons.values()))


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """A master of an earlier run that would come out the same."""

    plan: MasterPlan
    """As it would be made."""
    stored: LibraryMaster
    files: tuple[tuple[FrameType, str], ...]
    """FITS files by kind; the place in the store where no FITS was asked for."""
    damaged_file: str = ""
    """What is wrong with one of them that is there; "" where nothing is."""

    @property
    def has_failed(self) -> bool:
        """Whether it failed its quality control."""
        return self.stored.record.verdict == str(Outcome.FAIL)

    @property
    def damage(self) -> str | None:
        """A line about a master that is damaged where that is seen at a glance; ``None`` if it is not."""
        name, is_judged = self.stored.record.name, self.stored.record.verdict is not None
        found: str | None = self.damaged_file
        if not found and isinstance(self.stored.plane, StorePlane):
            found = damage_at_a_glance(self.stored.plane.store, name, is_judged=is_judged)
        return f"{name}: damaged ({found}); it is made again" if found else None

    @property
    def failure(self) -> str:
        """A line about a master that failed and is not made again."""
        why = why_failed(self.stored)
        what = f" ({why})" if why else ""
        return (
            f"{self.stored.record.name}: unchanged, failed{what}; its frames and settings are those of the run that"
            " made it; take others, exclude frames, or make it again with --all"
        )


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What a run makes, and what it leaves as it is."""

    to_make: tuple[MasterPlan, ...]
    unchanged: tuple[Unchanged, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    bytes_to_read: int
    """Of frames, as they are in memory; of flats twice where their levels are measured first."""
    shelf: DarkShelf
    """What flats may take for their dark."""


def plan_masters(request: BuildRequest, groups: Sequence[Group], sources: Mapping[str, Source]) -> BuildPlan:
    """Turn groups, flats last, into masters to make: flats with the darks that fit them.

    `sources` has the frames of all groups by their label.
    """
    is_judged = request.publishing.quality is not None
    library = find_masters(request.library) if request.use_masters_on_disk or request.only_changed or is_judged else []
    made_before = _by_recipe(library) if request.only_changed else {}
    shelf = DarkShelf.of_library(library if request.use_masters_on_disk else [], use_failed=request.use_failed)
    to_make: list[MasterPlan] = []
    unchanged: list[Unchanged] = []
    errors: list[str] = []
    warnings: list[str] = []
    ages = AgeLog(max_ages=request.max_ages)
    for members in by_files(_named_outputs(request, groups)):
        planned: list[MasterPlan] = []
        no_dark: list[str] = []
        for group, outputs in members:
            try:
                flat_dark, identities = shelf.dark_of(request, group, sources)
            except InputError as error:
                no_dark.append(f"{outputs[0].name}: {error}")
                continue
            planned.append(_plan(request, group, outputs, sources, library, flat_dark, identities))
        if no_dark:  # one file has the masters of all images
            errors += no_dark
            continue
        before = [_unchanged(request, plan, made_before) for plan in planned]
        damage = [line for stored in before if stored is not None and (line := stored.damage)]
        warnings += damage
        is_unchanged = all(before) and not damage
        for plan, stored in zip(planned, before, strict=True):
            if stored is not None and is_unchanged:
                unchanged.append(stored)
                name, dark = stored.stored.record.name, PlannedDark.stored(stored.stored)
            else:
                to_make.append(plan)
                name, dark = plan.name, PlannedDark(StoreSink(store=request.store, name=plan.name), plan.recipe)
            if not plan.is_flat:
                observed = Observed.of(frame.metadata for frame in plan.group.frames)
                candidate = DarkCandidate(name=name, key=sensor_key(plan.group), observed=observed)
                is_stored = stored is not None and is_unchanged and not stored.has_failed
                shelf.of_run[stored_candidate(stored.stored) if stored and is_stored else candidate] = dark
            elif not is_unchanged:
                warnings += warned_darks(name, plan.dark, library)
                logger.info("%s: dark: %s", name, plan.dark.choice.description if plan.dark else "already subtracted")
                say_what_is_open(name, plan.group, plan.dark)
                note_ages(ages, untimed(name), plan.group, plan.dark)
    for line in ages.old:
        logger.info("%s", line)
    warnings += ages.warnings
    return BuildPlan(
        to_make=tuple(to_make),
        unchanged=tuple(unchanged),
        errors=tuple(errors),
        warnings=tuple(warnings),
        bytes_to_read=sum(
            (2 if plan.is_flat and request.flat_scaling != "none" else 1) * plan.n_bytes for plan in to_make
        ),
        shelf=shelf,
    )


def needs_camera(method: RejectionMethod) -> bool:
    """Return whether a method takes its threshold from the properties of the camera, which all frames of a run give."""
    return isinstance(method, SigmaClip) and method.spread == "noise"


def _plan(
    request: BuildRequest,
    group: Group,
    outputs: tuple[Output, ...],
    sources: Mapping[str, Source],
    library: Sequence[LibraryMaster],
    dark: FlatDark | None,
    dark_identities: Sequence[str],
) -> MasterPlan:
    members = tuple(sources[frame.label] for frame in group.frames)
    bayer_pattern = group.key.bayer_pattern if request.bayer_normalization else None
    is_flat = group.key.frame_type is FrameType.FLAT
    rules = request.publishing
    digest = input_digest(members)
    beyond = [*dark_identities, *([input_digest(list(sources.values()))] if needs_camera(request.method) else [])]
    key = WorkKey.of(members)
    subtracted = group.key.bias_subtracted, group.key.dark_subtracted
    recipe = key.recipe(
        {
            "method": repr(request.method),
            "names": [untimed(output.name) for output in outputs],
            "flat": [request.flat_scaling, request.normalization, bayer_pattern] if is_flat else None,
            "beyond": beyond,
            "fits": [
                rules.save_fits,
                rules.extensions,
                rules.flavour,
                *([rules.format] if rules.format != "fits" else []),  # recipes of older masters stay
            ],
            "quality": [repr(rules.quality), rules.leave_out],
            **({"subtracted": list(subtracted)} if any(subtracted) else {}),
        }
    )
    observed = Observed.of(frame.metadata for frame in group.frames)
    return MasterPlan(
        group=group,
        members=members,
        key=key,
        input_digest=digest,
        outputs=outputs,
        dark=dark,
        previous=previous_master(group.key, observed, library) if rules.quality else None,
        calibration_id=str(uuid.uuid4()),
        recipe=recipe,
    )


# ---- what is unchanged ----


def _by_recipe(library: Sequence[LibraryMaster]) -> dict[str, LibraryMaster]:
    """Return the masters that may be left as they are, by recipe.

    Those that failed are among them: of the same frames they would fail again. Those that are older than another one of
    the same kind and session are made again, for the newest is used: a frame was excluded and is taken again, for
    example.
    """
    return {
        master.record.recipe: master
        for place, master in enumerate(library)  # newest first
        if master.record.recipe and not any(_replaces(newer, master) for newer in library[:place])
    }


def _replaces(newer: LibraryMaster, older: LibraryMaster) -> bool:
    """Return whether the newer of two masters would be taken for the same frames."""
    if newer.record.made_at == older.record.made_at:  # of one run
        return False
    if not newer.record.merit.is_of_session(older.record.merit):  # each is the nearest for frames of its time
        return False
    if optics_differ(newer.key.optics, older.key.optics):
        return False
    one, other = (
        replace(master.key, exposure_time_s=0.0, temperature_c=None, optics=Optics(), states_binning=True)
        for master in (newer, older)
    )
    exposures = newer.key.exposure_time_s, older.key.exposure_time_s
    temperatures = newer.key.temperature_c, older.key.temperature_c
    if one != other or abs(exposures[0] - exposures[1]) > _SAME_EXPOSURE * max(exposures):
        return False
    return None in temperatures or abs((temperatures[0] or 0.0) - (temperatures[1] or 0.0)) <= _SAME_TEMPERATURE_C


def _unchanged(request: BuildRequest, plan: MasterPlan, made_before: Mapping[str, LibraryMaster]) -> Unchanged | None:
    """Return the master of an earlier run, where it and its FITS files are there."""
    stored = made_before.get(plan.recipe)
    if stored is None:
        return None
    record = stored.record
    folder = parent_of(stored.plane.store) if isinstance(stored.plane, StorePlane) else request.output_dir
    damaged = list[str]()
    if request.publishing.save_fits:
        paths = [joined(folder, name) for name in record.files]
        if not paths or not all(map(is_file, paths)):
            return None
        damaged = [line for path in paths if (line := _damage_of_file(path, record))]
    kinds = [output.frame_type for output in plan.outputs]
    names = record.files or (f"{store_location(folder)}/{record.name}",) * len(kinds)
    files = tuple(zip(kinds, (joined(folder, name) for name in names), strict=False))
    return Unchanged(plan=plan, stored=stored, files=files, damaged_file=next(iter(damaged), ""))


def _damage_of_file(path: str, record: MasterRecord) -> str | None:
    """Return what is wrong with the file of a master, as far as its headers and its length say it."""
    try:
        found = calibration_id_of(path, record.key.settings.extension)
        return cut_short(path) if found == record.calibration_id else f"{path}: it holds another master"
    except (InputError, OSError) as error:
        return os_reason(error)


# ---- names ----


def _named_outputs(request: BuildRequest, groups: Sequence[Group]) -> list[tuple[Group, tuple[Output, ...]]]:
    """Return each group with its masters, under names that are free; a bias set is also the dark of its exposure."""
    made_at = datetime.now(UTC).replace(microsecond=0)
    while True:
        outputs: dict[int, list[Output]] = {}
        for kind in FrameType:
            members = []
            for index, group in enumerate(groups):
                is_bias = group.key.frame_type is FrameType.BIAS
                is_wanted = request.make_bias if kind is FrameType.BIAS else request.make_darks or not is_bias
                # A dark of 0 s would be the bias once more: no frame has this exposure.
                is_its_dark = is_bias and kind is FrameType.DARK
                is_twice = is_its_dark and request.make_bias and group.key.exposure_time_s == 0.0
                if is_wanted and not is_twice and (group.key.frame_type is kind or is_its_dark):
                    members.append(index)
            named = [(index, groups[index]) for index in members]
            for index, name, of_file in output_names(kind, named, made_at, request.publishing.names):
                files = file_names(of_file, request.publishing.flavour, request.publishing.format)
                output = Output(name=name, file_names=files, frame_type=kind, made_at=made_at)
                outputs.setdefault(index, []).append(output)
        every = [output for of_group in outputs.values() for output in of_group]
        is_free = not any(exists(joined(request.output_dir, name)) for name in names_of_files(every))
        if is_free and not any(request.store.exists(output.name) for output in every):
            return [(groups[index], tuple(outputs[index])) for index in sorted(outputs)]
        made_at += timedelta(seconds=1)  # a run within the same second has these names
