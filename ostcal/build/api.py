"""`MasterFrameCreator`: masters from a configuration, for programs and for the command line."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence

from ostcal.build.followed import entries_of
from ostcal.build.from_config import request_of
from ostcal.build.request import BuildRequest, Watcher
from ostcal.build.run import BuildReport, build_masters
from ostcal.config import ConfigSource, load_config
from ostcal.errors import InputError, OstcalError, StorageError
from ostcal.frames import FrameType
from ostcal.inputs.given_paths import paths_given
from ostcal.inputs.grouping import Group
from ostcal.inputs.remarks import folded_lines, log_folded
from ostcal.library.history import add_to_history
from ostcal.library.latest import refresh_latest
from ostcal.measure.findings import Outcome
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.progress import ProgressBar
from ostcal.status import KeepsStatus, Level, Status


class MasterFrameCreator(KeepsStatus):
    """Make master bias, darks and flats from the frames that a configuration points to.

    Parameters
    ----------
    config : None, path, dict or Config
        ``None`` is the defaults: frames in ``darks`` and ``flats``, masters in ``master_frames``; ``input.dirs`` names
        other folders of frames.
    logger : logging.Logger, optional
        Receives the outcome; ``None`` is the logger ``ostcal``.
    watcher : Watcher, optional
        Called as the run makes progress; by default a bar is shown in notebooks, and nothing elsewhere.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal import MasterFrameCreator
    >>> status = MasterFrameCreator("config_calibration_frames.yaml").create_all_master_frames()  # doctest: +SKIP
    >>> status.is_success, status.data["dark"]  # doctest: +SKIP
    """

    def __init__(
        self,
        config: ConfigSource = None,
        logger: logging.Logger | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.config = load_config(config)
        self._logger = logger or logging.getLogger("ostcal")
        self._watcher = watcher
        self._status = Status(level=Level.SUCCESS, message="nothing made yet")
        self.report: BuildReport | None = None
        self.directory = self.config.master_frames.output_dir
        """Where the last run wrote its masters."""

    def create_all_master_frames(self, *, with_captured: bool = False) -> Status:
        """Make every master that the configuration asks for.

        Parameters
        ----------
        with_captured : bool, optional
            Whether captured frames are used too where ``input.dirs`` names other folders.

        Returns
        -------
        Status
            `is_error` when something asked could not be made, `is_warning` when something was left out.
        """
        wanted = self.config.master_frames
        return self._create(
            bias=wanted.create_master_bias,
            darks=wanted.create_master_darks,
            flats=wanted.create_master_flats,
            with_captured=with_captured,
        )

    def create_master_darks(self) -> Status:
        """Make the master bias and the master darks.

        Returns
        -------
        Status
            As `create_all_master_frames`.
        """
        return self._create(bias=self.config.master_frames.create_master_bias, darks=True, flats=False)

    def create_master_flats(self) -> Status:
        """Make the master flats, with darks from the masters on disk.

        Returns
        -------
        Status
            As `create_all_master_frames`.
        """
        return self._create(bias=False, darks=False, flats=True)

    def create_masters_of(
        self,
        inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        kinds: Collection[FrameType] = tuple(FrameType),
    ) -> Status:
        """Make the masters that the configuration asks for, of the frames in these files and folders alone.

        Parameters
        ----------
        inputs : path, or sequence of paths, of files or directories
            In place of ``input.dirs``, and of the directories of captured frames.
        kinds : collection of FrameType, optional
            Kinds that are among them; others are not missed.

        Returns
        -------
        Status
            As `create_all_master_frames`.

        Raises
        ------
        InputError
            If `inputs` holds something that is no path, or `kinds` no kind of frame.
        """
        given = paths_given(inputs, "inputs")
        if not given:
            raise InputError("inputs is empty; give files or folders of frames")
        unknown = [kind for kind in kinds if kind not in tuple(FrameType)]
        if unknown:
            raise InputError(f"kinds: {unknown[0]!r} is no kind of frame; give {', '.join(FrameType)}")
        wanted = self.config.master_frames
        return self._create(
            bias=wanted.create_master_bias,
            darks=wanted.create_master_darks and not {FrameType.BIAS, FrameType.DARK}.isdisjoint(kinds),
            flats=wanted.create_master_flats and FrameType.FLAT in kinds,
            inputs=given,
        )

    def _create(
        self,
        *,
        bias: bool,
        darks: bool,
        flats: bool,
        inputs: Sequence[str] | None = None,
        with_captured: bool = False,
    ) -> Status:
        self.report = None
        output_dir = self.config.master_frames.output_dir
        use_options(ObjectOptions(**self.config.storage.objects))
        try:
            request = request_of(
                self.config, bias=bias, darks=darks, flats=flats, inputs=inputs, with_captured=with_captured
            )
            self.directory = output_dir = request.output_dir
            report = self._built(request)
        except OstcalError as error:
            self._logger.debug("traceback", exc_info=True)
            self._logger.error("%s", error)
            self._status = Status(
                level=Level.ERROR,
                message=str(error),
                data={"bias": [], "dark": [], "flat": []},
                details={"errors": [str(error)], "warnings": [], "output_dir": output_dir},
            )
            return self._status
        self.report = report
        self._status = _status_of(report, output_dir)
        try:
            if entries := entries_of(output_dir, report.made, report.unchanged):
                add_to_history(output_dir, entries)
        except StorageError as error:  # masters are no worse without it
            self._logger.warning("%s", error)
        try:
            refresh_latest(self.config.master_frames.output_dir, is_new=bool(report.made))
        except StorageError as error:
            self._logger.warning("%s", error)
        log_folded(self._status.details["warnings"])
        for line in folded_lines(self._status.details["warnings"]):
            self._logger.warning("%s", line)
        for line in self._status.details["errors"]:
            self._logger.error("%s", line)
        for line in folded_lines(line for made in report.made for line in made.notes):
            self._logger.info("%s", line)
        self._logger.log(logging.ERROR if report.errors else logging.INFO, "%s", self._status.message)
        return self._status

    def _built(self, request: BuildRequest) -> BuildReport:
        """Make the masters of a request."""
        if self._watcher is not None:
            return build_masters(request, self._watcher)
        with ProgressBar("masters") as bar:
            return build_masters(request, _follows(bar))


def _follows(bar: ProgressBar) -> Watcher:
    """Return what shows a run as a bar."""

    def planned(groups: Sequence[Group], n_bytes: int) -> bool:
        bar.start(n_bytes)
        return True

    return Watcher(planned=planned, progressed=lambda progress: bar.advance(progress.n_bytes, progress.job))


def _status_of(report: BuildReport, output_dir: str) -> Status:
    data: dict[str, list[str]] = {"bias": [], "dark": [], "flat": []}
    counts = dict.fromkeys(data, 0)
    exposures: dict[str, set[float]] = {kind: set() for kind in data}
    for made in report.made:
        for kind, path in made.files:
            if path not in data[kind]:  # the masters of several images may share a file
                data[kind].append(path)
                counts[kind] += 1
            exposures[kind].add(made.group.key.exposure_time_s)
    for unchanged in report.unchanged:
        for kind, path in unchanged.files:
            data[kind] += [path] if path not in data[kind] else []
            exposures[kind].add(unchanged.stored.key.exposure_time_s)
    still_failed = [unchanged for unchanged in report.unchanged if unchanged.has_failed]
    warnings = [*report.warnings, *(line for made in report.made for line in made.quality_lines)]
    warnings += [unchanged.failure for unchanged in still_failed]
    n_warnings = len(folded_lines(warnings))
    failed = [made.name for made in report.made if made.verdict is Outcome.FAIL]
    failed += [unchanged.stored.record.name for unchanged in still_failed]
    n_made = sum(counts.values())
    what = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none"
    parts = [f"{n_made} master{'' if n_made == 1 else 's'} made ({what}) in {output_dir}"]
    if report.unchanged:
        parts.append(f"{len({file for unchanged in report.unchanged for file in unchanged.files})} unchanged")
    if warnings:
        parts.append(f"{n_warnings} warning{'' if n_warnings == 1 else 's'}")
    if failed:
        parts.append(f"{len(failed)} failed quality control")
    if report.errors:
        parts.append(f"{len(report.errors)} could not be made")
    return Status(
        level=Level.ERROR if report.errors else Level.WARNING if warnings else Level.SUCCESS,
        message="; ".join(parts),
        data=data,
        details={
            "counts": counts,
            "unchanged": [unchanged.stored.record.name for unchanged in report.unchanged],
            "exposures": {kind: sorted(values) for kind, values in exposures.items()},
            "masters": {made.name: made.as_dict() for made in report.made},
            "output_dir": output_dir,
            "failed_quality": failed,
            "warnings": warnings,
            "errors": list(report.errors),
            "seconds": report.seconds,
        },
    )
