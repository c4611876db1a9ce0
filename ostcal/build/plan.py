"""Which masters a run makes: their names, the darks of the flats, and what is unchanged since an earlier run."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ostcal._version import __version__
from ostcal.build.match_darks import DarkCandidate, DarkChoice, NoDark, choose_dark
from ostcal.build.publish import Output, PlannedMaster, StoreSink, Unchanged
from ostcal.build.request import BuildRequest
from ostcal.build.resume import StoreMemory, frame_identity
from ostcal.build.survey_series import full_scale_adu
from ostcal.engine.levels import DarkModel, SteppedReader
from ostcal.engine.rejection import RejectionMethod, SigmaClip
from ostcal.engine.tasks import FlatTreatment, MasterJob
from ostcal.errors import InputError
from ostcal.frames import FrameType
from ostcal.inputs.gather import Source, input_digest, stack_of
from ostcal.inputs.group_names import master_names
from ostcal.inputs.grouping import Group
from ostcal.library.find import LibraryMaster, calibration_id_of, find_masters, store_location
from ostcal.library.master_header import Provenance
from ostcal.library.master_names import file_name, untimed
from ostcal.library.store import MasterStore
from ostcal.measure.findings import Outcome
from ostcal.places.paths import exists, joined

logger = logging.getLogger(__name__)

STAGING_ENDING = ".combined"
_RECIPE_FORMAT = 1
"""Of the digest of what decides a master; to be raised with every change of what it holds."""
_SAME_EXPOSURE = 0.001
"""Share by which the exposures of two masters of the same frames may differ: their median moves with a frame more."""
_SAME_TEMPERATURE_C = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run makes, and what it leaves as it is."""

    to_make: tuple[PlannedMaster, ...]
    unchanged: tuple[Unchanged, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass
class _Darks:
    """The darks that flats may take: of this run, unchanged since an earlier one, or else on disk."""

    on_disk: Sequence[LibraryMaster]
    """Those that were asked for, none where masters on disk are not to be used."""
    planned: list[PlannedMaster] = field(default_factory=list)
    unchanged: list[Unchanged] = field(default_factory=list)

    def candidates_of_run(self) -> list[DarkCandidate]:
        """Give the darks of the frames that the run has."""
        made = [DarkCandidate(name=master.job.name, key=master.group.key) for master in self.planned]
        return made + [
            DarkCandidate(name=u.stored.record.name, key=u.planned.group.key, from_this_run=False)
            for u in self.unchanged
        ]

    def candidates_on_disk(self) -> list[DarkCandidate]:
        """Give the darks of other frames."""
        return [
            DarkCandidate(name=m.record.name, key=m.key, made_at=m.record.made_at, from_this_run=False)
            for m in self.on_disk
            if m.key.frame_type is not FrameType.FLAT
        ]

    def model(self, choice: DarkChoice) -> DarkModel:
        """Give what is subtracted."""
        planes: dict[tuple[str, bool], SteppedReader] = {(m.job.name, True): m.job.sink for m in self.planned}
        planes |= {(m.record.name, False): m.plane for m in (*self.on_disk, *(u.stored for u in self.unchanged))}
        first, second = choice.first, choice.second
        return DarkModel(
            first=planes[first.name, first.from_this_run],
            first_exposure_s=first.key.exposure_time_s,
            second=planes[second.name, second.from_this_run] if second is not None else None,
            second_exposure_s=second.key.exposure_time_s if second is not None else 0.0,
        )

    def identity(self, candidate: DarkCandidate) -> str:
        """Give what tells a dark from one of other frames: the same whether it is made now or was made before."""
        if candidate.from_this_run:
            return next(m.provenance.recipe for m in self.planned if m.job.name == candidate.name)
        stored = (*(u.stored for u in self.unchanged), *self.on_disk)
        record = next(m.record for m in stored if m.record.name == candidate.name)
        return record.recipe or record.calibration_id


def plan_masters(request: BuildRequest, groups: Sequence[Group], sources: dict[str, Source]) -> Plan:
    """Turn groups into masters to make: bias and darks first, then flats with the darks that fit them.

    Parameters
    ----------
    request : BuildRequest
    groups : sequence of Group
    sources : dict of str to Source
        By the label of a frame.
    """
    library = find_masters(request.output_dir) if request.use_masters_on_disk or request.only_changed else []
    made_before = _by_recipe(library) if request.only_changed else {}
    on_disk = library if request.use_masters_on_disk else []
    if not request.use_failed:
        on_disk = [master for master in on_disk if master.record.verdict != str(Outcome.FAIL)]
    darks = _Darks(on_disk=on_disk)
    flats: list[PlannedMaster] = []
    unchanged_flats: list[Unchanged] = []
    errors: list[str] = []
    warnings: list[str] = []
    named = _named_outputs(request, groups)
    planner = _Planner(request=request, sources=sources)
    for group, outputs in named:
        if group.key.frame_type is not FrameType.FLAT:
            _sort_in(request, planner.planned(group, outputs), made_before, darks.planned, darks.unchanged)
    for group, outputs in named:
        if group.key.frame_type is not FrameType.FLAT:
            continue
        choice = _dark_for(request, group, darks)
        if isinstance(choice, NoDark):
            errors.append(f"{outputs[0].name}: {choice.message}")
            continue
        master = planner.planned(group, outputs, choice, darks)
        if not _sort_in(request, master, made_before, flats, unchanged_flats):
            continue
        if choice is not None and choice.kind == "bias":
            warnings.append(f"{outputs[0].name}: no dark fits, {choice.description} is subtracted")
        logger.info("%s: dark: %s", outputs[0].name, choice.description if choice else "already subtracted")
    return Plan(
        to_make=(*darks.planned, *flats),
        unchanged=(*darks.unchanged, *unchanged_flats),
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def needs_camera(method: RejectionMethod) -> bool:
    """Whether a method takes its threshold from the properties of the camera, which all frames of a run give."""
    return isinstance(method, SigmaClip) and method.spread == "noise"


# ---- what is unchanged ----


def _by_recipe(library: Sequence[LibraryMaster]) -> dict[str, LibraryMaster]:
    """Give the masters that may be left as they are, by recipe.

    Those that failed are made again, so that they are told of again; and so are those that are older than another one
    of the same kind, for it is the newest that is used: a frame was excluded and is taken again, for example.
    """
    return {
        master.record.recipe: master
        for place, master in enumerate(library)  # newest first
        if master.record.recipe
        and master.record.verdict != str(Outcome.FAIL)
        and not any(_replaces(newer, master) for newer in library[:place])
    }


def _replaces(newer: LibraryMaster, older: LibraryMaster) -> bool:
    """Whether the newer of two masters would be taken for the same frames."""
    if newer.record.made_at == older.record.made_at:  # of one run
        return False
    one, other = (replace(master.key, exposure_time_s=0.0, temperature_c=None) for master in (newer, older))
    exposures = newer.key.exposure_time_s, older.key.exposure_time_s
    temperatures = newer.key.temperature_c, older.key.temperature_c
    if one != other or abs(exposures[0] - exposures[1]) > _SAME_EXPOSURE * max(exposures):
        return False
    return None in temperatures or abs((temperatures[0] or 0.0) - (temperatures[1] or 0.0)) <= _SAME_TEMPERATURE_C


def _sort_in(
    request: BuildRequest,
    planned: PlannedMaster,
    made_before: dict[str, LibraryMaster],
    to_make: list[PlannedMaster],
    unchanged: list[Unchanged],
) -> bool:
    """Put a master where it belongs; gives whether it is to be made."""
    stored = made_before.get(planned.provenance.recipe)
    if stored is None or not _files_are_there(request, stored):
        to_make.append(planned)
        return True
    kinds = [output.frame_type for output in planned.outputs]
    names = stored.record.files or (f"{store_location(request.output_dir)}/{stored.record.name}",) * len(kinds)
    files = tuple(zip(kinds, (joined(request.output_dir, name) for name in names), strict=False))
    unchanged.append(Unchanged(planned=planned, stored=stored, files=files))
    return False


def _files_are_there(request: BuildRequest, stored: LibraryMaster) -> bool:
    """Whether the FITS files of a master are there and are its own."""
    if not request.save_fits:
        return True
    record = stored.record
    try:
        found = [calibration_id_of(joined(request.output_dir, name)) for name in record.files]
    except InputError:
        return False
    return bool(found) and all(identity == record.calibration_id for identity in found)


def _recipe(request: BuildRequest, master: PlannedMaster, members: Sequence[Source], beyond: Sequence[str]) -> str:
    """Give the SHA-256 over all that decides a master; "" where a frame has gone, which combining will name.

    It holds what a person can change: frames, settings and darks. What is measured beside (the gain, on the frames of
    all groups) is not in it, or a new flat would make all darks anew.
    """
    try:
        frames = [frame_identity(source) for source in members]
    except OSError:
        return ""
    flat = master.job.flat
    values = {
        "format": _RECIPE_FORMAT,
        "version": __version__,
        "frames": frames,
        "method": repr(request.method),
        "names": [untimed(output.name) for output in master.outputs],
        "flat": None if flat is None else [flat.scaling, flat.normalization, flat.bayer_pattern],
        "beyond": list(beyond),
        "fits": [request.save_fits, request.extensions, request.flavour],
        "quality": repr(request.quality),
    }
    return hashlib.sha256(json.dumps(values).encode("ascii")).hexdigest()


# ---- names ----


def _named_outputs(request: BuildRequest, groups: Sequence[Group]) -> list[tuple[Group, list[Output]]]:
    """Give each group the masters it becomes; a bias set is also the dark of its exposure."""
    made_at = datetime.now(UTC).replace(microsecond=0)
    while True:
        named = _outputs_at(request, groups, made_at)
        names = [output.name for _, outputs in named for output in outputs]
        if not any(_is_taken(request, name) for name in names):
            return named
        made_at += timedelta(seconds=1)  # a run within the same second has these names


def _is_taken(request: BuildRequest, name: str) -> bool:
    return exists(joined(request.output_dir, file_name(name, request.flavour))) or MasterStore(
        store_location(request.output_dir)
    ).exists(name)


def _outputs_at(request: BuildRequest, groups: Sequence[Group], made_at: datetime) -> list[tuple[Group, list[Output]]]:
    wanted: list[tuple[int, FrameType]] = []
    for index, group in enumerate(groups):
        kind = group.key.frame_type
        if kind is FrameType.BIAS:
            wanted += [(index, FrameType.BIAS)] if request.make_bias else []
            wanted += [(index, FrameType.DARK)] if request.make_darks else []
        else:
            wanted.append((index, kind))
    outputs: dict[int, list[Output]] = {}
    for kind in FrameType:
        members = [index for index, frame_type in wanted if frame_type is kind]
        keys = [replace(groups[index].key, frame_type=kind) for index in members]
        for index, name in zip(members, master_names(keys, made_at), strict=True):
            outputs.setdefault(index, []).append(Output(name=name, frame_type=kind, made_at=made_at))
    return [(groups[index], outputs[index]) for index in sorted(outputs)]


# ---- one master ----


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Turns a group into a job and its provenance."""

    request: BuildRequest
    sources: dict[str, Source]

    def planned(
        self, group: Group, outputs: list[Output], choice: DarkChoice | None = None, darks: _Darks | None = None
    ) -> PlannedMaster:
        """Plan a master; of a flat with its dark, where it has one."""
        request, name = self.request, outputs[0].name
        members = [self.sources[frame.label] for frame in group.frames]
        is_flat = group.key.frame_type is FrameType.FLAT
        sink = StoreSink(store=store_location(request.output_dir), name=name)
        staging = replace(sink, name=f"{name}{STAGING_ENDING}") if is_flat else None
        job = MasterJob(
            name=name,
            stack=stack_of(members),
            method=request.method,
            sink=sink,
            flat=self._treatment(group, choice, darks) if is_flat else None,
            staging=staging,
            memory=StoreMemory(store=sink.store, name=(staging or sink).name),
        )
        master = PlannedMaster(
            job=job,
            sink=sink,
            staging=staging,
            group=group,
            outputs=tuple(outputs),
            provenance=self._provenance(job, group, outputs, members, choice),
        )
        beyond = [] if choice is None or darks is None else [darks.identity(c) for c in _used(choice)]
        if needs_camera(request.method):
            beyond.append(input_digest(list(self.sources.values())))
        recipe = _recipe(request, master, members, beyond)
        return replace(master, provenance=replace(master.provenance, recipe=recipe))

    def _treatment(self, group: Group, choice: DarkChoice | None, darks: _Darks | None) -> FlatTreatment:
        request = self.request
        return FlatTreatment(
            exposure_times_s=tuple(frame.metadata.exposure_time_s or 0.0 for frame in group.frames),
            dark=None if choice is None or darks is None else darks.model(choice),
            scaling=request.flat_scaling,
            normalization=request.normalization,
            bayer_pattern=group.key.bayer_pattern if request.bayer_normalization else None,
            dark_jobs=tuple(c.name for c in _used(choice) if c.from_this_run) if choice is not None else (),
        )

    def _provenance(
        self, job: MasterJob, group: Group, outputs: list[Output], members: list[Source], choice: DarkChoice | None
    ) -> Provenance:
        request, is_flat = self.request, job.flat is not None
        return Provenance(
            frame_type=outputs[0].frame_type,
            method=request.method,
            calibration_id=str(uuid.uuid4()),
            input_digest=input_digest(members),
            made_at=outputs[0].made_at,
            calibration_status=_calibration_status(group, choice),
            dark_description=choice.description if choice is not None else "",
            normalization=request.normalization if is_flat else "",
            flat_scaling=request.flat_scaling if is_flat else "",
            config_digest=request.config_digest,
            saturation_adu=full_scale_adu(job.stack.encoding),
        )


def _calibration_status(group: Group, choice: DarkChoice | None) -> str:
    """Give the letters of CALSTAT: a dark holds the bias too."""
    if choice is None:
        if group.key.dark_subtracted:
            return "BD"
        return "B" if group.key.bias_subtracted else ""
    return "B" if choice.kind == "bias" else "BD"


# ---- the dark of a flat ----

_RANK = {"matched": 0, "line": 1, "bias": 2}


def _dark_for(request: BuildRequest, flat: Group, darks: _Darks) -> DarkChoice | NoDark | None:
    """Choose a flat's dark from this run's frames, else from disk; ``None`` where one was subtracted already."""
    if flat.key.dark_subtracted:
        return None
    of_run = darks.candidates_of_run()
    choices = [
        choose_dark(
            flat,
            candidates,
            exposure_tolerance=request.exposure_tolerance,
            temperature_tolerance_c=request.rules.temperature_tolerance_c,
        )
        for candidates in (of_run, [*of_run, *darks.candidates_on_disk()])
    ]
    found = [choice for choice in choices if isinstance(choice, DarkChoice)]
    return min(found, key=lambda choice: _RANK[choice.kind]) if found else choices[-1]


def _used(choice: DarkChoice) -> list[DarkCandidate]:
    return [candidate for candidate in (choice.first, choice.second) if candidate is not None]
