"""The end of a master: its verdict, its header, its FITS files, its record in the store."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.build.flat_darks import ages_of
from ostcal.build.judge import Subject, judge_master
from ostcal.build.plan import MasterPlan, Output, names_of_files
from ostcal.build.prepare import PreparedMaster, left_out_line
from ostcal.build.request import PublishRules
from ostcal.engine.levels import colour_planes
from ostcal.engine.rejection import SeriesNoise
from ostcal.engine.tasks import FlatTreatment, JobResult, MasterJob
from ostcal.engine.tiling import STRIP_PIXELS
from ostcal.errors import StorageError, UnlikeFrameError
from ostcal.fits.hdus import companion_name, name_and_version
from ostcal.fits.unfinished import UnfinishedImage
from ostcal.fits.write import ImagePlane, header_length, write_fits
from ostcal.fits.write_xisf import write_xisf
from ostcal.frames import FULL_SCALE_ADU, FrameType
from ostcal.inputs.exclusion_command import LEAVE_OUT
from ostcal.inputs.grouping import Group
from ostcal.library.attributes import attributes_of
from ostcal.library.master_header import Provenance, defect_cards, history_lines, master_cards, scaled_cards
from ostcal.library.planes import MasterWriter
from ostcal.library.store import MasterStore
from ostcal.measure.advice import advice_for
from ostcal.measure.findings import Finding, Outcome
from ostcal.measure.frames.other_kinds import nearly_rejected
from ostcal.measure.masters.strip_scan import StripScan
from ostcal.places.paths import is_remote, joined

logger = logging.getLogger(__name__)

_MOST_NAMES = 5
"""Frames that a line names; of more it says how many."""
_FITS_THREADS = 2
"""Where the last master of a run is published nothing else has work: 0.3 s for 61 MP instead of 0.6 s."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A master that is being combined, and what is made of it with its strips."""

    prepared: PreparedMaster
    image: UnfinishedImage | None
    """The samples of its FITS file; ``None`` where the file is written at the end."""
    scan: StripScan | None
    """Its scan; ``None`` where its planes are read again at the end."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A finished master."""

    name: str
    outputs: tuple[Output, ...]
    group: Group
    result: JobResult
    files: tuple[tuple[FrameType, str], ...]
    """FITS files by kind; the place in the store where no FITS was asked for."""
    verdict: Outcome | None
    """``None`` without quality control."""
    findings: tuple[Finding, ...]
    metrics: Mapping[str, tuple[float | None, str]]
    """Numbers to be followed over the years: value and unit."""

    @property
    def warnings(self) -> list[str]:
        """A line for frames, samples and pixels that do not count."""
        result, lines = self.result, []
        if result.levels is not None:
            lines += [
                f"{self.group.frames[index].label}: left out of {self.name}, its level after the dark is "
                f"{result.levels.levels_adu[index]:.1f} ADU"
                for index in result.levels.left_out
            ]
        elif result.invalid:
            lines.append(f"{self.name}: {result.invalid} samples are not finite numbers and were left out")
        if result.empty_pixels:
            lines.append(f"{self.name}: {result.empty_pixels} pixels have no valid sample and are NaN")
        return lines

    @property
    def quality_lines(self) -> list[str]:
        """A line for each check that found something worth a look, with what to do.

        That a master has few frames is no warning (see `notes`): whoever takes ten knows it.
        """
        alike: dict[tuple[str, Outcome, bool], list[Finding]] = {}
        for finding in self.findings:
            if not _is_pass(finding) and not _is_few(finding):
                alike.setdefault((finding.check, finding.outcome, finding.frame is not None), []).append(finding)
        of_frames = [found for (_, _, is_of_frame), found in alike.items() if is_of_frame]
        of_master = [[finding] for (_, _, is_of_frame), found in alike.items() if not is_of_frame for finding in found]
        return [self._line(found) for found in (*of_frames, *of_master)]

    @property
    def notes(self) -> list[str]:
        """A line for the rest of what makes its verdict a warning: that it has few frames."""
        return [self._line([finding]) for finding in self.findings if _is_few(finding)]

    def _line(self, alike: Sequence[Finding]) -> str:
        """Return the line of the findings of a check about the master, or about frames that are named."""
        finding = alike[0]
        labels = [self.group.frames[one.frame].label for one in alike if one.frame is not None]
        others = map(os.path.basename, labels[1:_MOST_NAMES])
        more = f" and {len(labels) - _MOST_NAMES} more" if len(labels) > _MOST_NAMES else ""
        frames = f"{', '.join((labels[0], *others))}{more} in " if labels else ""
        failed = "FAILED: " if finding.outcome is Outcome.FAIL else ""
        advice = "" if labels and LEAVE_OUT in finding.text else advice_for(finding.check)
        return f"{frames}{self.name}: {failed}{finding.check}: {finding.text}{f'; {advice}' if advice else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Return its statistics, frames and findings for `Status.details`."""
        key, result = self.group.key, self.result
        return {
            "kind": str(key.frame_type),
            "files": [path for _, path in self.files],
            "exposure_time_s": key.exposure_time_s,
            "filter": key.filter_name,
            "n_frames": len(self.group.frames),
            "inputs": [frame.label for frame in self.group.frames],
            "mean": result.mean,
            "minimum": result.minimum,
            "maximum": result.maximum,
            "rejected_share": result.rejected_share,
            "rejected_per_frame": list(result.rejected_per_frame),
            "noise_adu": result.noise.noise_adu if result.noise_measured else None,
            "normalization_levels_adu": result.normalization_levels,
            "frame_levels_adu": list(result.levels.levels_adu) if result.levels is not None else None,
            "is_flat": key.frame_type is FrameType.FLAT,
            "verdict": str(self.verdict) if self.verdict is not None else None,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def log_statistics(self) -> None:
        """Log what the strips counted, and how long they took."""
        result = self.result
        logger.debug(
            "statistics: %s: %d frames, mean %.6g, range %.6g to %.6g, %.4f %% rejected, noise %.4g ADU, per frame %s",
            self.name,
            len(self.group.frames),
            result.mean,
            result.minimum,
            result.maximum,
            100 * result.rejected_share,
            result.noise.noise_adu,
            list(result.rejected_per_frame),
        )
        if result.levels is not None:
            logger.debug("statistics: %s: levels of the frames %s ADU", self.name, list(result.levels.levels_adu))
        logger.debug(
            "timing: %s: read %.3f s, combine %.3f s, write %.3f s, summed over the workers",
            self.name,
            result.seconds["read"],
            result.seconds["combine"],
            result.seconds["write"],
        )


def _is_pass(finding: Finding) -> bool:
    return finding.outcome is Outcome.PASS


def _is_few(finding: Finding) -> bool:
    return finding.check == "frames" and finding.outcome is Outcome.WARN


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Publish a combined master; picklable, for it runs where the strips are combined."""

    publications: Mapping[str, Publication]
    """By the name of the master."""
    store: MasterStore
    output_dir: str
    rules: PublishRules

    def of(self, name: str) -> Publisher:
        """Return what publishes the master of this name alone: a task that had all would grow with their number."""
        return replace(self, publications={name: self.publications[name]})

    def __call__(self, job: MasterJob, result: JobResult) -> Published:
        """Judge the master, write the FITS files, then the record that makes it visible in the store."""
        publication = self.publications[job.name]
        prepared = publication.prepared
        plan, rules = prepared.plan, self.rules
        if rules.quality is not None and rules.leave_out and not prepared.method.rejects_by_count:
            self._refuse_rejected(plan, result)
        planes = self.store.writer(job.name)
        began = time.perf_counter()
        quality = None
        if rules.quality is not None:
            failed = tuple(n for n in plan.darks_of_run if self.store.attributes(n).get("verdict") == str(Outcome.FAIL))
            subject = Subject(
                prepared=prepared, result=result, planes=planes, scan=publication.scan, failed_darks=failed
            )
            quality = judge_master(subject, rules.quality, rules.config_options)
            planes.write_defects(quality.scan.defects.rows)
        verdict = quality.verdict if quality is not None else None
        judged = time.perf_counter()
        files = self._write_files(publication, job, result, planes, verdict)
        written = time.perf_counter()
        provenance = provenance_of(prepared, job.flat, rules, plan.outputs[0].frame_type, verdict)
        attributes = attributes_of(
            plan.group,
            result,
            provenance,
            master_cards(plan.group, result, provenance),
            history_lines(plan.group, provenance),
            quality.document if quality is not None else None,
            prepared.camera.as_dict() if prepared.camera is not None else None,
            names_of_files(plan.outputs) if rules.save_fits else [],
        )
        self.store.commit(job.name, attributes)
        logger.debug(
            "timing: %s: statistics %.3f s, FITS %.3f s, commit %.3f s, published",
            job.name,
            judged - began,
            written - judged,
            time.perf_counter() - written,
        )
        return Published(
            name=job.name,
            outputs=plan.outputs,
            group=plan.group,
            result=result,
            files=tuple(files),
            verdict=verdict,
            findings=quality.findings if quality is not None else (),
            metrics=quality.metrics if quality is not None else {},
        )

    def _refuse_rejected(self, plan: MasterPlan, result: JobResult) -> None:
        """Raise `UnlikeFrameError` for the first frame that rejection takes out nearly whole."""
        _, height, width = plan.stack.shape
        found = nearly_rejected(result.rejected_per_frame, height * width, min_frames=self.rules.min_frames)
        for index, reason in found.items():
            source = plan.members[index]
            line = left_out_line(source, reason, self.rules.config_options)
            raise UnlikeFrameError(line, place=source.frame.label if source.fits is None else source.fits.path)

    def _write_files(
        self,
        publication: Publication,
        job: MasterJob,
        result: JobResult,
        planes: MasterWriter,
        verdict: Outcome | None,
    ) -> list[tuple[FrameType, str]]:
        """Write the files for each name of a master; return where each kind of master is."""
        prepared, rules = publication.prepared, self.rules
        plan = prepared.plan
        files = []
        for output in plan.outputs:
            path = joined(self.output_dir, output.file_name)
            files.append((output.frame_type, path if rules.save_fits else f"{self.store.location}/{job.name}"))
            if not rules.save_fits or plan.group.files:  # files of several images: `ostcal.build.publish_files`
                continue
            provenance = provenance_of(prepared, job.flat, rules, output.frame_type, verdict)
            images = image_planes(planes, plan.group, result, provenance, rules)
            history = history_lines(plan.group, provenance)
            rows = planes.chunk_rows * max(1, STRIP_PIXELS // (planes.shape[1] * planes.chunk_rows))
            # a cluster may run this task again; the names were free when the run began
            for path in (joined(self.output_dir, name) for name in output.file_names):
                if path.endswith(".xisf"):
                    write_xisf(path, images, history=history, rows_per_write=rows, overwrite=True)
                else:
                    write_fits(
                        path,
                        images,
                        history=history,
                        rows_per_write=rows,
                        threads=_FITS_THREADS,
                        overwrite=True,
                        begun=publication.image,
                    )
        return files


def begin_image(
    prepared: PreparedMaster,
    flat: FlatTreatment | None,
    planes: MasterWriter,
    output_dir: str,
    rules: PublishRules,
) -> UnfinishedImage | None:
    """Begin the FITS file of a master, where its samples can be written with the strips.

    Not where a second file has the same samples, values are scaled by what is known at the end, or strips of an
    earlier run are there, which are not written again (those of flats are, when they are normalised).
    """
    plan = prepared.plan
    is_plain = rules.save_fits and rules.flavour == "adu" and not is_remote(output_dir) and len(plan.outputs) == 1
    is_plain = is_plain and not plan.group.files and rules.format != "xisf"
    if not is_plain or not (plan.is_flat or planes.n_kept() == 0):
        return None
    (output,) = plan.outputs
    verdict = Outcome.PASS if rules.quality is not None else None
    provenance = provenance_of(prepared, flat, rules, output.frame_type, verdict)
    # its header has as many cards as the real one, if nothing unusual happens
    pattern = flat.bayer_pattern if flat is not None else None
    n_frames, height, width = plan.stack.shape
    supposed = JobResult(
        name=plan.name,
        noise=SeriesNoise(),
        noise_measured=prepared.method.resolved(n_frames).needs_noise,
        levels=None,
        normalization_levels=dict.fromkeys(colour_planes(pattern), 1.0) if flat is not None else {},
        rejected_per_frame=(0,) * n_frames,
        n_samples=1,
        invalid=0,
        empty_pixels=0,
        minimum=1.0,
        maximum=1.0,
        mean=1.0,
        seconds={},
    )
    images = image_planes(planes, plan.group, supposed, provenance, rules)
    image = UnfinishedImage(
        path=joined(output_dir, output.file_name),
        header_length=header_length(images, history_lines(plan.group, provenance)),
        height=height,
        width=width,
    )
    try:
        image.begin()
    except StorageError as error:  # the master is made all the same, and says what is wrong if it still is
        logger.debug("samples are not written with the strips: %s", error)
        return None
    return image


def provenance_of(
    prepared: PreparedMaster, flat: FlatTreatment | None, rules: PublishRules, kind: FrameType, verdict: Outcome | None
) -> Provenance:
    """Return what made a master beyond its frames."""
    plan = prepared.plan
    return Provenance(
        frame_type=kind,
        method=prepared.method,
        calibration_id=plan.calibration_id,
        input_digest=plan.input_digest,
        made_at=plan.outputs[0].made_at,
        calibration_status=plan.calibration_status,
        dark_description=plan.dark.choice.history if plan.dark is not None else "",
        darks=tuple(one.name for one in plan.dark.choice.candidates) if plan.dark is not None else (),
        normalization=flat.normalization if flat is not None else "",
        flat_scaling=flat.scaling if flat is not None else "",
        config_digest=rules.config_digest,
        verdict=verdict,
        camera=prepared.camera.properties if prepared.camera is not None else None,
        recipe=plan.recipe,
        readout=plan.members[0].readout,
        saturation_adu=prepared.full_scale_adu,
        ages_days=ages_of(plan.group, plan.dark),
    )


def image_planes(
    planes: MasterWriter, group: Group, result: JobResult, provenance: Provenance, rules: PublishRules
) -> list[ImagePlane]:
    """Return the images of a FITS file: the master, and where extensions are wanted uncertainty, counts and defects.

    For PixInsight full scale is 1; a flat comes to the level that it had, and never above 1, which would be cut.
    """
    cards = master_cards(group, result, provenance)
    factor = 1.0
    if rules.flavour != "adu":
        level_adu = max(result.normalization_levels.values(), default=1.0)
        factor = min(level_adu / FULL_SCALE_ADU, 1 / max(result.maximum, 1e-30))
    if factor != 1.0:
        cards = scaled_cards(cards, factor)

    def image(start: int, stop: int) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = planes.read_rows("master", start, stop)
        return rows if factor == 1.0 else rows * np.float32(factor)

    def uncertainty(start: int, stop: int) -> NDArray[np.float32]:
        used = planes.read_rows("n_used", start, stop)
        std: NDArray[np.float32] = planes.read_rows("std", start, stop)
        error: NDArray[np.float32] = (factor * std / np.sqrt(np.maximum(used, 1))).astype(np.float32)
        return error

    plane = partial(ImagePlane, height=planes.shape[0], width=planes.shape[1])
    label = group.key.settings.extension
    name, version = name_and_version(label) if label is not None else (None, None)
    images = [plane(name=name, version=version, dtype="float32", cards=cards, read_rows=image)]
    if rules.extensions:
        beside = partial(companion_name, label) if label is not None else str
        unit = next(card for card in cards if card[0] == "BUNIT")
        used_cards = [("BUNIT", "", "samples kept")]
        bits_cards = [("BUNIT", "", "bits of defects"), *defect_cards()]
        images.append(plane(name=beside("UNCERT"), dtype="float32", cards=[unit], read_rows=uncertainty))
        images.append(
            plane(name=beside("NUSED"), dtype="uint16", cards=used_cards, read_rows=partial(planes.read_rows, "n_used"))
        )
        if planes.has("dq"):
            images.append(
                plane(name=beside("DQ"), dtype="uint8", cards=bits_cards, read_rows=partial(planes.read_rows, "dq"))
            )
    return images
