"""Calibration of science frames: `calibrate` for arrays, `CalibrationApplier` for files with the masters that fit."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from ostcal.build.from_config import execution_of, kinds_of, location_for, memory_limit_of, overscan_of
from ostcal.config import Config, ConfigSource, load_config
from ostcal.engine.calibrate_rows import calibrate_array
from ostcal.engine.driver import Failure, run_tasks
from ostcal.errors import InputError, OstcalError, StorageError
from ostcal.fits.astropy_objects import is_quantity
from ostcal.frames import FrameMetadata
from ostcal.inputs.given_paths import paths_given
from ostcal.inputs.remarks import folded_lines
from ostcal.inputs.science_frames import inspect_science, output_files, science_frames, why_unusable
from ostcal.inputs.sessions import WINDOW_DAYS
from ostcal.library.find import LibraryMaster
from ostcal.places.locking import LOCK_FILE, LockRules, locked
from ostcal.places.night_folders import folders_of, root_of
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.paths import joined, make_directory, normalized, parent_of, path_of
from ostcal.progress import ProgressBar
from ostcal.science.calibrate_frame import CalibratedFrame, FrameTask, ImageTask, calibrate_within, sweep_unfinished
from ostcal.science.calibrate_objects import calibrate_objects, has_objects
from ostcal.science.choose_masters import NONE, CalibrationOptions, FrameMatcher
from ostcal.science.match import MatchedMasters, MatchRules, MaxAges
from ostcal.science.opened_masters import UNUSABLE_SHARE
from ostcal.status import KeepsStatus, Level, Status


@overload
def calibrate(
    science: NDArray[Any],
    dark: NDArray[Any] | None = None,
    flat: NDArray[Any] | None = None,
    *,
    saturation_adu: float | None = None,
) -> NDArray[np.float32]: ...
@overload
def calibrate(science: Any, dark: Any = None, flat: Any = None, *, saturation_adu: Any = None) -> Any: ...
def calibrate(science: Any, dark: Any = None, flat: Any = None, *, saturation_adu: Any = None) -> Any:
    """Calibrate arrays or `CCDData`: ``(science - dark) / flat``.

    Parameters
    ----------
    science : (height, width) or (n, height, width) array of numbers, CCDData or Quantity
        Raw samples in ADU.
    dark : (height, width) array, CCDData or Quantity, optional
        Master dark of the exposure, bias included, in the unit of `science`; ``None`` subtracts nothing.
    flat : (height, width) array, CCDData or Quantity, optional
        Master flat, normalised to 1; ``None`` divides by nothing.
    saturation_adu : float or Quantity, optional
        Samples at or above it get at least this value, so that they stay recognisable, in ADU.

    Returns
    -------
    float32 array of the shape of `science`, CCDData or Quantity, in the unit of `science`
        NaN where the flat is zero, negative or not finite, and where an input is NaN or masked; never infinite. A
        `CCDData` of a `CCDData`: pixels without a value are masked, uncertainties are propagated where `science` has
        one, and ``CALSTAT`` in its meta says what was done.

    Raises
    ------
    InputError
        If a shape or a unit does not fit, an array holds no real numbers, more than 1 % of the flat is not above zero,
        or headers of `CCDData` say that a master is of another kind, exposure, temperature, filter or setting, or that
        it was applied already.

    Examples
    --------
    >>> import numpy as np
    >>> from ostcal import calibrate
    >>> calibrate(np.array([[1100, 2100]]), np.array([[100, 100]]), np.array([[1.0, 0.5]])).tolist()
    [[1000.0, 4000.0]]
    """
    if has_objects(science, dark, flat) or is_quantity(saturation_adu):
        return calibrate_objects(science, dark, flat, saturation_adu, _calibrate_arrays)
    return _calibrate_arrays(science, dark, flat, saturation_adu)


def _calibrate_arrays(science: Any, dark: Any, flat: Any, saturation_adu: Any) -> NDArray[np.float32]:
    """Do `calibrate` for arrays."""
    given = {"science": science, "dark": dark, "flat": flat}
    arrays = {name: _array(a, name) for name, a in given.items() if a is not None or name == "science"}
    for name, array in arrays.items():
        if array.dtype.kind not in "uif":
            raise InputError(f"{name} holds {array.dtype}, not real numbers; give integers or floats")
    shape = arrays["science"].shape
    if len(shape) not in (2, 3):
        raise InputError(f"science has {len(shape)} axes; give (height, width) or (n, height, width)")
    for name in ("dark", "flat"):
        if name in arrays and arrays[name].shape != shape[-2:]:
            raise InputError(f"{name} is {arrays[name].shape}, science is {shape}; give the {name} of the same size")
    if "flat" in arrays:
        share = 1 - float(np.mean(np.isfinite(arrays["flat"]) & (arrays["flat"] > 0))) if arrays["flat"].size else 0.0
        if share > UNUSABLE_SHARE:
            raise InputError(
                f"{share:.1%} of the flat is zero, negative or not finite (limit {UNUSABLE_SHARE:.0%}); give another"
            )
    limit = _limit(saturation_adu)
    return calibrate_array(arrays["science"], arrays.get("dark"), arrays.get("flat"), limit)


def _limit(saturation_adu: Any) -> float:
    """Return the level that counts as saturated; infinite where none is given."""
    if saturation_adu is None:
        return math.inf
    limit = float(saturation_adu) if isinstance(saturation_adu, (int, float, np.integer, np.floating)) else math.nan
    if not limit > 0:
        raise InputError(f"saturation_adu={saturation_adu!r} is not allowed; write a number of ADU above 0, or None")
    return limit


def _array(given: Any, name: str) -> NDArray[Any]:
    """Return an array of numbers, or of what `calibrate` refuses."""
    if given is None:
        raise InputError(f"{name} is None; give an array or a CCDData")
    if isinstance(given, (str, os.PathLike)):
        raise InputError(f"{name} is a path; give its samples, or calibrate files with CalibrationApplier")
    try:
        return np.asarray(given)
    except ValueError as error:
        raise InputError(f"{name}: its rows are of different lengths; give (height, width)") from error


@dataclass(frozen=True, kw_only=True)
class CalibrationWatcher:
    """Callbacks for the progress of a run."""

    planned: Callable[[int], None] = lambda n_bytes: None
    """Called once with the bytes of all frames."""
    done: Callable[[int, str], None] = lambda n_bytes, path: None
    """Called for each frame with its bytes and its path."""


class CalibrationKeywords(TypedDict, total=False):
    """Keywords of `CalibrationApplier`: the attributes of `CalibrationOptions`, with masters as paths too."""

    dark: str | os.PathLike[str] | None
    flat: str | os.PathLike[str] | None
    bias: str | os.PathLike[str] | None
    overwrite: bool
    uncertainty: bool
    dq: bool
    interpolate: bool
    linearize: bool
    allow_failed: bool
    saturation_adu: float | None


class CalibrationApplier(KeepsStatus):
    """Calibrate science frames with the masters that fit them.

    Parameters
    ----------
    config : None, path, dict or Config
        States where the masters are (``master_frames.output_dir``), how near they must be
        (``calibration_tolerance``, ``temperature_tolerance``), and what computes (``compute``). With
        ``master_frames.enable_calibration: false`` nothing is calibrated and the status says so.
    logger : logging.Logger, optional
        Receives the outcome, warnings and errors; ``None`` is the logger ``ostcal``.
    watcher : CalibrationWatcher, optional
        Callbacks for the progress of a run; by default a bar is shown in notebooks, and nothing elsewhere.

    Raises
    ------
    ConfigError
        If the configuration is wrong.

    Examples
    --------
    >>> from ostcal import CalibrationApplier
    >>> applier = CalibrationApplier("night.yaml")  # doctest: +SKIP
    >>> applier.find_masters("m31_001.fits").dark.description  # doctest: +SKIP
    >>> status = applier.calibrate_files(["lights"], uncertainty=True)  # doctest: +SKIP
    >>> status.data["calibrated"]  # doctest: +SKIP
    """

    def __init__(
        self,
        config: ConfigSource = None,
        logger: logging.Logger | None = None,
        watcher: CalibrationWatcher | None = None,
    ) -> None:
        self.config = load_config(config)
        self._logger = logger or logging.getLogger("ostcal")
        self._watcher = watcher
        self._status = Status(level=Level.SUCCESS, message="nothing calibrated yet")

    @property
    def default_output_dir(self) -> str:
        """``calibrated`` beside the directory of the masters, or in what all directories of masters are in."""
        return calibrated_beside(self.config.master_frames.output_dir)

    def find_masters(self, path: str | os.PathLike[str], **options: Unpack[CalibrationKeywords]) -> MatchedMasters:
        """Find the masters of a science frame, without calibrating it.

        Parameters
        ----------
        path : path
            A FITS file; of one of several images the first counts.
        **options : CalibrationKeywords
            As of `calibrate_files`.

        Returns
        -------
        MatchedMasters
            Dark, flat and bias, and warnings.

        Raises
        ------
        InputError
            If the frame cannot be used, or no master fits; the message names the condition and the nearest master.
        """
        use_options(ObjectOptions(**self.config.storage.objects))
        return match_file(self.config, os.fspath(path), matcher_of(self.config, options_of(options)))[0]

    def calibrate_file(
        self,
        path: str | os.PathLike[str],
        output_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[CalibrationKeywords],
    ) -> Status:
        """Calibrate one science frame, as `calibrate_files` does.

        Parameters
        ----------
        path : path
            A FITS file.
        output_dir : path, optional
            Where the calibrated file goes.
        **options : CalibrationKeywords
            As of `calibrate_files`.

        Returns
        -------
        Status
            As of `calibrate_files`.
        """
        return self.calibrate_files([path], output_dir, **options)

    def calibrate_files(
        self,
        paths: Iterable[str | os.PathLike[str]],
        output_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[CalibrationKeywords],
    ) -> Status:
        """Calibrate science frames: ``(science - dark) / flat``, each into ``NAME_cal.fits``.

        Parameters
        ----------
        paths : paths of files or directories, or patterns such as ``lights/m31*.fits``
            From directories and patterns, bias frames, darks, flats, masters and calibrated frames are left out.
        output_dir : path, optional
            Where the calibrated files go; ``calibrated`` beside the masters by default. Created if it is missing.
        **options : CalibrationKeywords
            ``dark``, ``flat``, ``bias`` (a FITS file or a master's name; "none" leaves the step out), ``overwrite``,
            ``uncertainty``, ``dq``, ``interpolate``, ``linearize``, ``allow_failed``, ``saturation_adu`` (ADU): see
            `CalibrationOptions`.

        Returns
        -------
        Status
            ``data["calibrated"]`` names the files. `is_error` if a frame could not be calibrated; the others are.
            Nothing is calibrated if one of the files exists and `overwrite` is not set.
        """
        began = time.monotonic()
        use_options(ObjectOptions(**self.config.storage.objects))
        target_dir = os.fspath(output_dir) if output_dir is not None else self.default_output_dir
        done: list[CalibratedFrame] = []
        try:
            tasks, warnings, errors = self._prepare(paths_given(paths, "paths"), target_dir, options_of(options))
            if tasks:
                done, failed = self._watched(tasks, location_for(self.config, target_dir))
                errors += failed
                warnings += [line for frame in done for line in frame.warnings]
        except OstcalError as error:
            self._logger.debug("traceback", exc_info=True)
            warnings, errors = [], [str(error)]
        self._status = _status_of(done, warnings, errors, target_dir, time.monotonic() - began)
        for line in folded_lines(warnings):
            self._logger.warning("%s", line)
        for line in folded_lines(errors):
            self._logger.error("%s", line)
        if done:
            self._logger.info("%s", self._status.message)
        return self._status

    def _prepare(
        self, paths: Sequence[str], output_dir: str, options: CalibrationOptions
    ) -> tuple[list[FrameTask], list[str], list[str]]:
        """Find the frames and their masters; return what is to be done, warnings and errors."""
        if not self.config.master_frames.enable_calibration:
            raise InputError("calibration is disabled: master_frames.enable_calibration is false; set it to true")
        output_dir = location_for(self.config, output_dir)
        paths = [location_for(self.config, path) for path in paths]
        frames, warnings, errors = science_frames(paths, output_dir, overscan_of(self.config), kinds_of(self.config))
        targets = output_files([images[0].source for images in frames], output_dir, options.overwrite)
        matcher = matcher_of(self.config, options)
        tasks: list[FrameTask] = []
        for found_images, target in zip(frames, targets, strict=True):
            images = matcher.images_of(found_images)
            image = images[0]
            try:
                found = []
                for image in images:
                    found.append(ImageTask(fits=image, masters=matcher.open(image)))
                matcher.warn_of_lacking(images, [one.masters for one in found])
                tasks.append(FrameTask(images=tuple(found), target=target, options=options))
            except OstcalError as error:
                self._logger.debug("%s: traceback", image.label, exc_info=True)
                errors.append(_named(image.label, error))
        for line in matcher.ages.remarks:
            self._logger.info("%s", line)
        return tasks, warnings + matcher.warnings + matcher.ages.warnings, errors

    def _watched(self, tasks: Sequence[FrameTask], output_dir: str) -> tuple[list[CalibratedFrame], list[str]]:
        """Calibrate frames as `_calibrate` does, with the watcher that is there, else a bar."""
        if self._watcher is not None:
            return self._calibrate(tasks, output_dir, self._watcher)
        with ProgressBar("calibrating") as bar:
            watcher = CalibrationWatcher(planned=bar.start, done=lambda n_bytes, path: bar.advance(n_bytes))
            return self._calibrate(tasks, output_dir, watcher)

    def _calibrate(
        self, tasks: Sequence[FrameTask], output_dir: str, watcher: CalibrationWatcher
    ) -> tuple[list[CalibratedFrame], list[str]]:
        """Calibrate and write all frames; return those that are done, and a line for each that failed.

        As many workers run as frames, processors and memory allow: a worker holds the strips of one frame.
        """
        try:
            make_directory(output_dir)
        except OSError as error:
            raise StorageError(
                f"{output_dir}: the directory cannot be made: {error.strerror or error}; choose another --output-dir"
            ) from error
        sizes = [task.data_length for task in tasks]
        watcher.planned(sum(sizes))

        def frame_done(index: int) -> None:
            watcher.done(sizes[index], tasks[index].source)

        inputs = dict.fromkeys(parent_of(task.source) for task in tasks)
        masters = folders_of(location_for(self.config, self.config.master_frames.output_dir))
        execution = execution_of(self.config, output_dir, (*filter(None, inputs), *masters))
        workers, is_shared = min(execution.workers, len(tasks)), execution.scheduler != "distributed"
        run, workers = calibrate_within(memory_limit_of(self.config), tasks, workers, is_shared=is_shared)
        execution = replace(execution, workers=workers)
        rules = LockRules(wait_s=self.config.master_frames.lock_wait)
        lock = path_of(output_dir) / LOCK_FILE
        with locked(lock, rules, what=output_dir, advice="choose another --output-dir"):
            sweep_unfinished(output_dir)
            results = run_tasks(run, tasks, execution, frame_done)
        done = [result for result in results if isinstance(result, CalibratedFrame)]
        failed = []
        for task, result in zip(tasks, results, strict=True):
            if isinstance(result, Failure):
                self._logger.debug("%s: %s", task.source, result.traceback)
                failed.append(_named(task.source, result.message))
        return done, failed


def match_file(config: Config, path: str, matcher: FrameMatcher) -> tuple[MatchedMasters, FrameMetadata]:
    """Choose the masters of a science frame, read as a run reads it; of one of several images the first counts.

    What the frame says is returned too.

    Raises
    ------
    InputError
        If the frame cannot be used, or no master fits.
    """
    images = inspect_science(path, overscan_of(config), kinds_of(config))
    if reason := why_unusable(images[0]):
        raise InputError(f"{path}: {reason}")
    image = matcher.images_of(images)[0]
    try:
        return matcher.match(image), image.metadata
    except InputError as error:
        raise InputError(_named(path, error)) from error


def calibrated_beside(masters_dir: str) -> str:
    """Return where frames are calibrated to, where nothing else is said."""
    root = root_of(masters_dir)
    return joined(root if root != masters_dir else parent_of(normalized(masters_dir)), "calibrated")


def matcher_of(
    config: Config,
    options: CalibrationOptions,
    library: Sequence[LibraryMaster] | None = None,
    now: datetime | None = None,
) -> FrameMatcher:
    """Return what chooses the masters of frames, as a configuration says; `library` are those known already.

    What was taken after `now`, by default this moment, had a clock that was wrong.
    """
    m = config.master_frames
    rules = match_rules_of(config, now, allow_failed=options.allow_failed)
    if m.calibration.light == NONE and options.dark is None and options.bias is None:
        options = replace(options, dark=NONE)
    return FrameMatcher(location_for(config, m.output_dir), options, rules, library)


def match_rules_of(config: Config, now: datetime | None = None, *, allow_failed: bool = False) -> MatchRules:
    """Return how near masters must be, as a configuration says."""
    m, ages = config.master_frames, config.matching.max_age_days
    return MatchRules(
        rotation_tolerance_deg=m.rotation_tolerance,
        exposure_tolerance=m.calibration_tolerance,
        temperature_tolerance_c=m.temperature_tolerance,
        bias_temperature_tolerance_c=m.bias_temperature_tolerance,
        allow_failed=allow_failed or config.quality.use_failed,
        max_ages=MaxAges(bias=ages.bias, dark=ages.dark, flat=ages.flat),
        prefer=config.matching.prefer,
        window_days=m.window_days if m.window_days is not None else WINDOW_DAYS,
        strict=config.matching.strict,
        max_scale_up=config.matching.max_scale_up,
        dark_temperature_model=config.matching.dark_temperature_model,
        now=now or datetime.now(UTC),
    )


def options_of(values: CalibrationKeywords) -> CalibrationOptions:
    """Return keywords as options; InputError where there is no such option."""
    known = {field.name for field in fields(CalibrationOptions)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{', '.join(unknown)}: no option of calibrating; known are {', '.join(sorted(known))}")
    options: dict[str, Any] = {**values}
    for name in ("dark", "flat", "bias"):
        value = options.get(name)
        if value is not None and not isinstance(value, (str, os.PathLike)):
            raise InputError(
                f"{name}: an object of type {type(value).__name__} is no file; give a path or the name of a master "
                "(ostcal.calibrate takes arrays)"
            )
        if value:
            options[name] = os.fspath(value)
    return CalibrationOptions(**options)


def _named(source: str, error: object) -> str:
    """Begin a message with the frame it is about."""
    text = str(error)
    return text if text.startswith(source) else f"{source}: {text}"


def _status_of(
    done: Sequence[CalibratedFrame],
    warnings: Sequence[str],
    errors: Sequence[str],
    output_dir: str,
    seconds: float,
) -> Status:
    message = f"{len(done)} frame{'' if len(done) == 1 else 's'} calibrated in {output_dir}"
    level = Level.SUCCESS
    if warnings:
        level = Level.WARNING
        n_warnings = len(folded_lines(warnings))
        message += f"; {n_warnings} warning{'' if n_warnings == 1 else 's'}"
    if errors:
        level = Level.ERROR
        message = errors[0] if not done and len(errors) == 1 else f"{message}; {len(errors)} could not be calibrated"
    return Status(
        level=level,
        message=message,
        data={"calibrated": [frame.target for frame in done]},
        details={
            "frames": {
                frame.source: {
                    "file": frame.target,
                    "masters": list(frame.masters),
                    "master_files": list(frame.master_files),
                    "calibration_status": frame.calibration_status,
                }
                for frame in done
            },
            "output_dir": output_dir,
            "warnings": list(warnings),
            "errors": list(errors),
            "seconds": seconds,
        },
    )
