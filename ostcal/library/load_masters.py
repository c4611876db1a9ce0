"""Load masters from disk as arrays, ready for ``(science - dark) / flat``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
from numpy.typing import NDArray

from ostcal.config import Config, ConfigSource, load_config
from ostcal.errors import InputError
from ostcal.fits.astropy_objects import seconds_of
from ostcal.frames import FrameType
from ostcal.inputs.given_paths import check_settings
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.one_exposure import is_one_exposure
from ostcal.library.ambiguity import exposure_warning, open_choice
from ostcal.library.beside import planes_of
from ostcal.library.find import LibraryMaster, find_masters
from ostcal.library.in_time import TimeRules, nearest_first
from ostcal.library.master_data import ccd_data_of, flat_level
from ostcal.library.selecting import OF_FLATS, has_setting
from ostcal.naming import same_filter
from ostcal.places.night_folders import has_folder
from ostcal.places.object_requests import ObjectOptions, use_options

logger = logging.getLogger(__name__)


class MasterSelection(TypedDict, total=False):
    """Settings that a master must have to be loaded; ``None`` accepts any."""

    camera: str | None
    camera_id: str | None
    gain: float | None
    offset: float | None
    binning: int | tuple[int, int] | None
    readout_mode: str | None
    temperature_c: float | None
    width: int | None
    height: int | None
    extension: str | None
    rotation_deg: float | None
    telescope: str | None
    focal_length_mm: float | None
    taken_at: datetime | str | None


As = Literal["array", "ccddata"]
SETTINGS = tuple(MasterSelection.__annotations__)


@overload
def load_master_dark(
    exposure_time: Any,
    config: ConfigSource = None,
    *,
    as_: Literal["array"] = "array",
    **settings: Unpack[MasterSelection],
) -> NDArray[np.float32]: ...
@overload
def load_master_dark(
    exposure_time: Any, config: ConfigSource = None, *, as_: Literal["ccddata"], **settings: Unpack[MasterSelection]
) -> Any: ...
def load_master_dark(
    exposure_time: Any, config: ConfigSource = None, *, as_: As = "array", **settings: Unpack[MasterSelection]
) -> Any:
    """Load the master dark of an exposure; a warning says what one of another exposure leaves in, in ADU.

    Parameters
    ----------
    exposure_time : float or Quantity
        In seconds, or a quantity of time; the nearest within ``calibration_tolerance`` is taken, of equals the one that
        was taken last, or nearest to `taken_at`.
    config : None, path, dict or Config
        States where the masters are (``master_frames.output_dir``).
    as_ : {"array", "ccddata"}, optional
        ``"ccddata"`` loads a `CCDData` with standard errors, a mask of defects, the header, and the attributes
        ``flags`` (bits of `ostcal.Defect`) and ``n_used``, as far as they are stored.
    **settings : MasterSelection
        ``camera``, ``camera_id``, ``gain``, ``offset``, ``binning`` (n or (x, y)), ``readout_mode``, ``temperature_c``
        (within ``temperature_tolerance``), ``width``, ``height`` (pixels), ``extension`` (EXTNAME or number, of masters
        of several images), and of flats ``rotation_deg`` (angle of the rotator, else on the sky, within
        ``rotation_tolerance``), ``telescope``, ``focal_length_mm`` (within 1 %): only masters that have them are used.
        What is not named must be the same in all masters that fit. ``taken_at`` (a datetime, or UTC as text such as
        ``2026-01-10T22:00:00``) is when the science frame was taken: the master whose frames were taken nearest to it
        is loaded, before or after; without it, the one whose frames were taken last.

    Returns
    -------
    numpy.ndarray or CCDData
        (height, width) float32, in ADU.

    Raises
    ------
    InputError
        If no master fits, or those that do differ in a setting that was not named; the message lists those on disk.

    Examples
    --------
    >>> from ostcal import load_master_dark
    >>> dark = load_master_dark(60.0, "night.yaml", gain=100, temperature_c=-10.0)  # doctest: +SKIP
    """
    _check_as(as_)
    exposure_s = seconds_of(exposure_time, "exposure_time")
    loaded = load_config(config)
    tolerance = loaded.master_frames.calibration_tolerance
    fitting = _fitting(config, (FrameType.DARK, FrameType.BIAS), settings)

    def is_near(key: GroupKey) -> bool:
        return abs(key.exposure_time_s - exposure_s) <= tolerance * exposure_s

    near = [master for master in fitting if is_near(master.key)]
    if not near:
        there = ", ".join(f"{t:g} s" for t in sorted({m.key.exposure_time_s for m in fitting})) or "none"
        raise InputError(
            f"no master dark of {exposure_s:g} s within {tolerance:.0%} in {loaded.master_frames.output_dir}; "
            f"exposures that fit otherwise: {there}; make one or raise master_frames.calibration_tolerance"
            + _failed_ones(loaded, (FrameType.DARK, FrameType.BIAS), settings, is_near)
        )

    def steps(master: LibraryMaster) -> int:
        apart_s = abs(master.key.exposure_time_s - exposure_s)
        return 0 if is_one_exposure(master.key.exposure_time_s, exposure_s) else round(1e3 * apart_s / exposure_s)

    _refuse_open_choice(near, settings, loaded)
    chosen = min(near, key=steps)  # `_fitting` puts the nearest in time first, and min keeps the first of equals
    if not is_one_exposure(chosen.key.exposure_time_s, exposure_s):
        library = find_masters(loaded.master_frames.output_dir)
        logger.warning("%s", exposure_warning(chosen, exposure_time, library))
    return _loaded(chosen, as_)


@overload
def load_master_bias(
    config: ConfigSource = None, *, as_: Literal["array"] = "array", **settings: Unpack[MasterSelection]
) -> NDArray[np.float32]: ...
@overload
def load_master_bias(
    config: ConfigSource = None, *, as_: Literal["ccddata"], **settings: Unpack[MasterSelection]
) -> Any: ...
def load_master_bias(config: ConfigSource = None, *, as_: As = "array", **settings: Unpack[MasterSelection]) -> Any:
    """Load the master bias that was taken last, or nearest to `taken_at`.

    Parameters
    ----------
    config : None, path, dict or Config
        As of `load_master_dark`.
    as_ : {"array", "ccddata"}, optional
        ``"ccddata"`` loads a `CCDData` with standard errors, a mask of defects, the header, and the attributes
        ``flags`` (bits of `ostcal.Defect`) and ``n_used``, as far as they are stored.
    **settings : MasterSelection
        As of `load_master_dark`.

    Returns
    -------
    numpy.ndarray or CCDData
        (height, width) float32, in ADU.

    Raises
    ------
    InputError
        If no master fits, or those that do differ in a setting that was not named; the message lists those on disk.

    Examples
    --------
    >>> from ostcal import load_master_bias
    >>> bias = load_master_bias("night.yaml", gain=100)  # doctest: +SKIP
    """
    return _nearest(config, FrameType.BIAS, settings, "", as_)


@overload
def load_master_flat(
    filter: str | None = None,
    config: ConfigSource = None,
    *,
    as_: Literal["array"] = "array",
    **settings: Unpack[MasterSelection],
) -> NDArray[np.float32]: ...
@overload
def load_master_flat(
    filter: str | None = None,
    config: ConfigSource = None,
    *,
    as_: Literal["ccddata"],
    **settings: Unpack[MasterSelection],
) -> Any: ...
def load_master_flat(
    filter: str | None = None, config: ConfigSource = None, *, as_: As = "array", **settings: Unpack[MasterSelection]
) -> Any:
    """Load the master flat that was taken last, or nearest to `taken_at`, normalised to 1.

    Parameters
    ----------
    filter : str, optional
        Name of the filter, in any case; ``None`` takes any.
    config : None, path, dict or Config
        As of `load_master_dark`.
    as_ : {"array", "ccddata"}, optional
        ``"ccddata"`` loads a `CCDData` with standard errors, a mask of defects, the header, and the attributes
        ``flags`` (bits of `ostcal.Defect`) and ``n_used``, as far as they are stored.
    **settings : MasterSelection
        As of `load_master_dark`.

    Returns
    -------
    numpy.ndarray or CCDData
        (height, width) float32, without unit; its level is 1.

    Raises
    ------
    InputError
        If no master fits, or those that do differ in a setting that was not named; the message lists those on disk.

    Examples
    --------
    >>> from ostcal import load_master_flat
    >>> flat = load_master_flat("Ha", "night.yaml")  # doctest: +SKIP
    """
    check_settings({"filter": filter})
    return _nearest(config, FrameType.FLAT, settings, filter or "", as_)


def _nearest(config: ConfigSource, kind: FrameType, settings: MasterSelection, filter_name: str, as_: As) -> Any:
    _check_as(as_)
    fitting = _fitting(config, (kind,), settings)

    def is_of_filter(key: GroupKey) -> bool:
        return not filter_name or same_filter(key.filter_name or "", filter_name)

    chosen = [master for master in fitting if is_of_filter(master.key)]
    if not chosen:
        loaded = load_config(config)
        output_dir = loaded.master_frames.output_dir
        there = ", ".join(sorted({m.key.filter_name or "no filter" for m in fitting})) or "none"
        of_filter = f" of filter {filter_name}; filters that fit otherwise: {there}" if filter_name else ""
        failed = _failed_ones(loaded, (kind,), settings, is_of_filter)
        raise InputError(f"no master {kind} in {output_dir}{of_filter}; make one with ostcal masters{failed}")
    _refuse_open_choice(chosen, settings, load_config(config), *(["filter"] if filter_name else []))
    return _loaded(chosen[0], as_)


def _refuse_open_choice(
    masters: Sequence[LibraryMaster], settings: MasterSelection, config: Config, *others: str
) -> None:
    m = config.master_frames
    found = open_choice(
        masters,
        [*(name for name, value in settings.items() if value is not None), *others],
        temperature_tolerance_c=m.temperature_tolerance,
        bias_temperature_tolerance_c=m.bias_temperature_tolerance,
        rotation_tolerance_deg=m.rotation_tolerance,
    )
    if found:
        raise InputError(f"{m.output_dir}: {found}")


def _fitting(config: ConfigSource, kinds: Sequence[FrameType], settings: MasterSelection) -> list[LibraryMaster]:
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise InputError(f"{', '.join(unknown)}: not a setting of masters; known are {', '.join(SETTINGS)}")
    check_settings(settings)
    of_flats = [name for name in OF_FLATS if settings.get(name) is not None]
    if of_flats and kinds != (FrameType.FLAT,):
        raise InputError(f"{', '.join(of_flats)}: bias and darks do not see the light path; leave it out")
    loaded = load_config(config)
    use_options(ObjectOptions(**loaded.storage.objects))
    m = loaded.master_frames
    if not has_folder(m.output_dir):
        raise InputError(f"{m.output_dir}: there is no such directory of masters; set master_frames.output_dir")

    def several(masters: Sequence[LibraryMaster]) -> list[str]:
        return sorted({m.key.settings.extension for m in masters if m.key.settings.extension is not None})

    wanted = _wanted(settings)
    taken_at = _moment(settings.get("taken_at"))
    masters = [master for master in find_masters(m.output_dir) if master.key.frame_type in kinds]
    if not loaded.quality.use_failed:
        masters = [master for master in masters if master.record.verdict != "fail"]
    masters = [master for master in masters if not master.record.has_two_levels]
    fitting = [master for master in masters if _has(master.key, wanted, loaded)]
    if masters and not fitting:
        alone = [pair for pair in wanted.items() if not any(_has(one.key, dict([pair]), loaded) for one in masters)]
        asked = " and ".join(f"{name}={value!r}" for name, value in alone[:1] or wanted.items())
        raise InputError(
            f"no master {' or '.join(kinds)} in {m.output_dir} has {asked}; ostcal library lists the settings of all"
            + _failed_ones(loaded, kinds, settings)
        )
    if "extension" not in wanted and (names := several(fitting)):
        raise InputError(f"the masters in {m.output_dir} have the extensions {', '.join(names)}; say which: extension=")
    rules = TimeRules(prefer=loaded.matching.prefer, by_night=kinds == (FrameType.FLAT,), now=datetime.now(UTC))
    return nearest_first(fitting, lambda master: master.record.merit, taken_at, rules)


def _wanted(settings: MasterSelection) -> dict[str, Any]:
    """Return the settings that masters must have."""
    return {name: value for name, value in settings.items() if value is not None and name != "taken_at"}


def _has(key: GroupKey, wanted: Mapping[str, Any], config: Config) -> bool:
    m = config.master_frames
    tolerances = {
        "temperature_tolerance_c": m.temperature_tolerance,
        "rotation_tolerance_deg": m.rotation_tolerance,
    }
    return all(has_setting(key, name, value, **tolerances) for name, value in wanted.items())


def _failed_ones(
    config: Config,
    kinds: Sequence[FrameType],
    settings: MasterSelection,
    fits: Callable[[GroupKey], bool] = lambda key: True,
) -> str:
    """Say how many masters would fit, had they not failed quality control; nothing where there are none."""
    if config.quality.use_failed:
        return ""
    masters = [one for one in find_masters(config.master_frames.output_dir) if one.key.frame_type in kinds]
    wanted = _wanted(settings)
    n = sum(one.record.verdict == "fail" and fits(one.key) and _has(one.key, wanted, config) for one in masters)
    return f"; {n} that would fit failed quality control, left out (quality.use_failed takes them)" if n else ""


def _moment(taken_at: Any) -> datetime | None:
    """Return a time in UTC, which is meant where none is named."""
    if taken_at is None:
        return None
    try:
        when = taken_at if isinstance(taken_at, datetime) else datetime.fromisoformat(str(taken_at))
    except ValueError as error:
        raise InputError(f"taken_at: {taken_at!r} is not a time; write it as 2026-01-10T22:00:00") from error
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _check_as(as_: str) -> None:
    if as_ not in get_args(As):
        raise InputError(f"as_={as_!r} is not allowed; write 'array' or 'ccddata'")


def _loaded(master: LibraryMaster, as_: As) -> Any:
    """Read a master; a flat of another program, which need not be normalised, is divided by its mean."""
    level = 1.0
    if master.key.frame_type is FrameType.FLAT and not planes_of(master).is_normalised:
        level = flat_level(master)
        name = master.record.name
        logger.warning("flat %s: was made by another program and is divided by its mean %.6g", name, level)
    if as_ == "ccddata":
        return ccd_data_of(master, level=level)
    image = master.plane.read_rows(0, master.key.height)
    return image if level == 1.0 else image / np.float32(level)
