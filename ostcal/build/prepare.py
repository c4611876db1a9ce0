"""What must be known of frames and cameras before masters are combined: surveys, gain and noise."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ostcal.build.camera_properties import CameraRecord, SurveyedGroup, camera_for, measure_cameras
from ostcal.build.plan import BuildPlan, MasterPlan, needs_camera
from ostcal.build.request import BuildRequest
from ostcal.build.resume import kept_survey, survey_document, survey_keys
from ostcal.build.survey_series import survey_all, survey_requests
from ostcal.engine.execution import Execution
from ostcal.engine.rejection import RejectionMethod, SigmaClip
from ostcal.library.store import MasterStore
from ostcal.measure.frames.survey import SeriesSurvey

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PreparedMaster:
    """A master of which all is known but its pixels."""

    plan: MasterPlan
    method: RejectionMethod
    """With the noise of its camera, where the method asks for it."""
    survey: SeriesSurvey | None
    """Of its frames; ``None`` where quality control is off or they cannot be read."""
    camera: CameraRecord | None
    """``None`` where nothing was surveyed."""


def prepare(request: BuildRequest, execution: Execution, plan: BuildPlan) -> tuple[list[PreparedMaster], list[str]]:
    """Survey all frames and measure their cameras; return the masters to make, and warnings.

    Frames of masters that are left as they are say something of the camera too.
    """
    every = [*plan.to_make, *(unchanged.plan for unchanged in plan.unchanged)]
    surveys: list[SeriesSurvey | None] = [None] * len(every)
    if request.publishing.quality is not None or needs_camera(request.method):
        surveys = survey_frames(request, execution, every)
    surveyed = [
        SurveyedGroup(group=master.group, survey=survey)
        for master, survey in zip(every, surveys, strict=True)
        if survey is not None
    ]
    cameras = measure_cameras(surveyed, max((m.full_scale_adu for m in every if m.full_scale_adu), default=None))
    prepared = []
    warnings = []
    for master, survey in zip(plan.to_make, surveys, strict=False):
        key = master.group.key
        camera = camera_for(cameras, key)
        method = request.method
        if isinstance(method, SigmaClip) and needs_camera(method):
            model = camera.noise_model(key.frame_type) if camera is not None else None
            if model is None:
                reasons = camera.properties.reasons if camera is not None else {}
                words = {"gain_e_per_adu": "gain", "read_noise_adu": "read noise"}
                why = "; ".join(f"{word}: {reasons[reason]}" for reason, word in words.items() if reason in reasons)
                warnings.append(
                    f"{master.name}: clip_spread is noise, but read noise or gain of the camera is not known"
                    f"{f' ({why})' if why else ''}; auto is used instead"
                )
            method = replace(method, model=model)
        prepared.append(PreparedMaster(plan=master, method=method, survey=survey, camera=camera))
    return prepared, warnings


def prepare_again(
    request: BuildRequest, execution: Execution, masters: Sequence[PreparedMaster]
) -> list[PreparedMaster]:
    """Survey masters again whose plans have fewer frames now; what is known of their camera stays."""
    if request.publishing.quality is None or not masters:
        return list(masters)
    surveys = survey_frames(request, execution, [master.plan for master in masters])
    return [replace(master, survey=survey) for master, survey in zip(masters, surveys, strict=True)]


def survey_frames(
    request: BuildRequest, execution: Execution, masters: Sequence[MasterPlan], *, keep: bool = False
) -> list[SeriesSurvey | None]:
    """Survey the frames of masters, except those that were surveyed while the camera exposed.

    With `keep` the surveys are stored with the strips of the masters, for the next run.
    """
    requests = survey_requests([(master.group, master.stack) for master in masters])
    store = MasterStore(request.store)
    documents = store.kept_surveys()
    keys = survey_keys(requests, [master.key for master in masters]) if documents or keep else [""] * len(masters)
    kept = {index: kept_survey(documents, key) for index, key in enumerate(keys)}
    known = {index: survey for index, survey in kept.items() if survey is not None}
    if documents or keep:
        logger.debug("%d of %d surveys were made ahead", len(known), len(keys))
    surveys = survey_all(requests, execution, request.memory_limit_bytes, known)
    for master, key, survey in zip(masters, keys, surveys, strict=True):
        if keep and key and survey is not None:
            store.writer(master.combined_name).keep_survey(survey_document(key, survey))
    return surveys
