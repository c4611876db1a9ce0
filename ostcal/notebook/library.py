"""`Library`: the masters of directories, chosen and matched by the rules of `ostcal calibrate`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Unpack, overload

from ostcal._version import __version__
from ostcal.config import ConfigSource, load_config, with_overrides
from ostcal.displays import rows_table
from ostcal.errors import InputError
from ostcal.fits.astropy_objects import is_nddata, seconds_of
from ostcal.fits.dialects import READING
from ostcal.frames import FrameType
from ostcal.inputs.one_exposure import is_one_exposure
from ostcal.library.find import FileMasters, LibraryMaster, find_masters
from ostcal.library.index import MASTERS_INDEX
from ostcal.library.load_masters import SETTINGS
from ostcal.library.selecting import has_setting
from ostcal.naming import same_filter
from ostcal.notebook.master import Master, settings_of, shown
from ostcal.notebook.match import Match, match_of
from ostcal.places.file_index import FileIndex
from ostcal.places.night_folders import has_folder, has_words
from ostcal.places.object_requests import ObjectOptions, use_options
from ostcal.places.paths import joined, normalized
from ostcal.science.api import CalibrationApplier, CalibrationKeywords, match_file, matcher_of, options_of
from ostcal.science.calibrate_objects import metadata_of_object
from ostcal.science.choose_masters import FrameMatcher
from ostcal.science.cover import Coverage
from ostcal.science.coverage_api import coverage_of
from ostcal.status import Status

_KINDS = ("bias", "dark", "flat")
_OWN = ("kind", "exposure", "filter", "verdict")
SELECTED_BY = (*_OWN, *(name for name in SETTINGS if name != "taken_at"))
"""Names that masters are selected by."""
_MOST_ROWS = 60
"""Masters that a display lists."""


@dataclass(frozen=True, kw_only=True)
class _Tolerances:
    """How near settings must be."""

    temperature_c: float
    rotation_deg: float


class MasterList(Sequence[Master]):
    """Masters in the order of kind, filter and exposure, the newest of equals first.

    Parameters
    ----------
    found : sequence of LibraryMaster
        The masters.
    tolerances : _Tolerances
        How near temperatures and angles must be.
    """

    def __init__(self, found: Sequence[LibraryMaster], tolerances: _Tolerances) -> None:
        self._found = sorted(found, key=_order)
        self._tolerances = tolerances

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Master: ...
    @overload
    def __getitem__(self, index: slice) -> MasterList: ...
    def __getitem__(self, index: int | slice) -> Master | MasterList:
        if isinstance(index, slice):
            return MasterList(self._found[index], self._tolerances)
        return Master(self._found[index])

    def select(self, **settings: Any) -> MasterList:
        """Return the masters that have settings.

        Parameters
        ----------
        **settings : str, float, Quantity or tuple
            As of `Library.select`.

        Returns
        -------
        MasterList
            Those that have all of them.

        Raises
        ------
        InputError
            If a name is no setting.
        """
        unknown = sorted(set(settings) - set(SELECTED_BY))
        if unknown:
            raise InputError(f"{', '.join(unknown)}: not a setting of masters; known are {', '.join(SELECTED_BY)}")
        conditions = [self._condition(name, value) for name, value in settings.items() if value is not None]
        return MasterList([one for one in self._found if all(test(one) for test in conditions)], self._tolerances)

    def _condition(self, name: str, value: Any) -> Callable[[LibraryMaster], bool]:
        """Return whether a master has a setting, as a function of the master."""
        if name == "kind":
            kind = str(value).lower()
            if kind not in _KINDS:
                raise InputError(f"kind={value!r} is not allowed; write {', '.join(_KINDS[:-1])} or {_KINDS[-1]}")
            return lambda one: one.key.frame_type == kind
        if name == "exposure":
            exposure_s = seconds_of(value, "exposure")
            return lambda one: is_one_exposure(one.key.exposure_time_s, exposure_s)
        if name == "filter":
            return lambda one: one.key.filter_name is not None and same_filter(one.key.filter_name, str(value))
        if name == "verdict":
            return lambda one: one.record.verdict == value
        tolerances = self._tolerances
        return lambda one: has_setting(
            one.key,
            name,
            value,
            temperature_tolerance_c=tolerances.temperature_c,
            rotation_tolerance_deg=tolerances.rotation_deg,
        )

    def __repr__(self) -> str:
        return f"<{_counted(self._found)}>"

    def _repr_html_(self) -> str:
        return _table(self._found)


class Library:
    """The masters of a directory, or of several.

    Nothing is written. What is in a directory is looked up whenever it is asked for; headers that are known are not
    read again.

    Parameters
    ----------
    *directories : path
        Directories of masters (``master_frames.output_dir``), on disk or in object stores; without any that of the
        configuration.
    config : None, path, dict or Config, optional
        States how near masters must be, as of `CalibrationApplier`; ``None`` takes the defaults.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    InputError
        If there is no such directory.

    Examples
    --------
    >>> from ostcal import Library
    >>> library = Library("master_frames")  # doctest: +SKIP
    >>> len(library), library.darks  # doctest: +SKIP
    >>> library.select(kind="dark", gain=100, exposure=60)[0].data.mean()  # doctest: +SKIP
    >>> library.match("m31_001.fits")  # doctest: +SKIP
    >>> library.coverage(["lights"])  # doctest: +SKIP
    """

    def __init__(self, *directories: str | os.PathLike[str], config: ConfigSource = None) -> None:
        for directory in directories:
            if not isinstance(directory, (str, os.PathLike)):
                raise InputError(f"{directory!r} is no path of a directory; a configuration is config=")
        loaded = load_config(config)
        places = [os.fspath(directory) for directory in directories] or [loaded.master_frames.output_dir]
        self._places = [place if has_words(place) else normalized(place) for place in places]
        self._config = with_overrides(loaded, {"master_frames.output_dir": self._places[0]})
        # never saved: what is on disk already is used, and what is read is remembered here
        self._indices = {place: _index_of(place) for place in self._places}
        self._found()

    # ---- its masters ----

    @property
    def masters(self) -> MasterList:
        """All masters, as they are now."""
        m = self._config.master_frames
        tolerances = _Tolerances(temperature_c=m.temperature_tolerance, rotation_deg=m.rotation_tolerance)
        return MasterList(self._found(), tolerances)

    @property
    def biases(self) -> MasterList:
        """The master bias frames."""
        return self.select(kind="bias")

    @property
    def darks(self) -> MasterList:
        """The master darks."""
        return self.select(kind="dark")

    @property
    def flats(self) -> MasterList:
        """The master flats."""
        return self.select(kind="flat")

    def select(self, **settings: Any) -> MasterList:
        """Return the masters that have settings.

        Parameters
        ----------
        **settings : str, float, Quantity or tuple
            ``kind`` (bias, dark, flat), ``exposure`` (seconds or a quantity), ``filter`` (in any case), ``verdict``,
            and the settings of `load_master_dark`: ``camera``, ``gain``, ``offset``, ``binning``, ``readout_mode``,
            ``temperature_c`` (within ``temperature_tolerance``), ... ``None`` accepts any.

        Returns
        -------
        MasterList
            Those that have all of them; a sequence with a `select` of its own.

        Raises
        ------
        InputError
            If a name is no setting.
        """
        return self.masters.select(**settings)

    def __len__(self) -> int:
        return len(self._found())

    def __iter__(self) -> Iterator[Master]:
        return iter(self.masters)

    def __getitem__(self, name: str) -> Master:
        if not isinstance(name, str):
            raise InputError(f"{name!r}: give the name of a master; library.masters[{name!r}] takes a position")
        for found in self._found():
            if found.record.name == name:
                return Master(found)
        raise KeyError(f"{', '.join(self._places)}: there is no master {name}")

    def _found(self) -> list[LibraryMaster]:
        use_options(ObjectOptions(**self._config.storage.objects))
        found: list[LibraryMaster] = []
        for place, index in self._indices.items():
            if not has_folder(place):
                raise InputError(f"{place}: there is no such directory of masters; make some with ostcal masters")
            found += find_masters(place, index)
        return found

    # ---- what they are for ----

    def match(self, light: Any, **options: Unpack[CalibrationKeywords]) -> Match:
        """Find the masters that `ostcal calibrate` would take for a light, and why.

        Parameters
        ----------
        light : path or CCDData
            A science frame; of a file of several images the first counts. Of a `CCDData` its header and its size
            count.
        **options : CalibrationKeywords
            As of `CalibrationApplier.calibrate_files`: ``dark``, ``flat``, ``bias``, ``allow_failed``, ...

        Returns
        -------
        Match
            The dark (or what it is made of), the flat and the bias, with the reasons and warnings.

        Raises
        ------
        InputError
            If the light cannot be used, or no master fits; the message names the condition and the nearest master.
        """
        matcher = self._matcher(options)
        if is_nddata(light):
            metadata = metadata_of_object(light)
            return match_of(matcher.match_metadata(metadata), metadata)
        if not isinstance(light, (str, os.PathLike)):
            raise InputError(f"light={type(light).__name__} is no science frame; give a path or a CCDData")
        return match_of(*match_file(self._config, os.fspath(light), matcher))

    def coverage(self, lights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Coverage:
        """Say which masters lights would be calibrated with, and list the frames that are missing.

        Parameters
        ----------
        lights : path or sequence of paths
            Files, directories or patterns.

        Returns
        -------
        Coverage
            As ``ostcal coverage`` prints it: ``groups`` of lights and ``frames_to_take``.

        Raises
        ------
        InputError
            If a directory of masters is gone.
        """
        paths = [lights] if isinstance(lights, (str, os.PathLike)) else list(lights)
        return coverage_of(self._config, paths, library=self._found())

    def calibrate(
        self,
        lights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        output_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[CalibrationKeywords],
    ) -> Status:
        """Calibrate science frames with these masters, as `CalibrationApplier.calibrate_files` does.

        Parameters
        ----------
        lights : path or sequence of paths
            Files, directories or patterns.
        output_dir : path, optional
            Where the calibrated files go; ``calibrated`` beside the masters by default.
        **options : CalibrationKeywords
            As of `CalibrationApplier.calibrate_files`.

        Returns
        -------
        Status
            ``data["calibrated"]`` names the files.

        Raises
        ------
        InputError
            If the library is of several directories.
        """
        if len(self._places) > 1:
            raise InputError("a library of several directories cannot calibrate; open the one that is to be used")
        paths = [lights] if isinstance(lights, (str, os.PathLike)) else list(lights)
        return CalibrationApplier(self._config).calibrate_files(paths, output_dir, **options)

    def _matcher(self, options: CalibrationKeywords) -> FrameMatcher:
        return matcher_of(self._config, options_of(options), self._found())

    # ---- displays ----

    def __repr__(self) -> str:
        return f"<Library {', '.join(self._places)}: {_counted(self._found())}>"

    def _repr_html_(self) -> str:
        found = self._found()
        return f"<b>{escape(', '.join(self._places))}</b>: {_counted(found)}{_table(sorted(found, key=_order))}"


def _index_of(place: str) -> FileIndex[FileMasters]:
    """Return what is known of the files of masters in a directory."""
    path = None if has_words(place) else joined(place, MASTERS_INDEX)
    return FileIndex(path, FileMasters, f"{__version__} {READING}")


def _order(master: LibraryMaster) -> tuple[Any, ...]:
    key, observed = master.key, master.record.observed
    taken_s = observed.middle.timestamp() if observed is not None else 0.0
    return str(key.frame_type), key.filter_name or "", key.exposure_time_s, -taken_s, master.record.name


def _counted(found: Sequence[LibraryMaster]) -> str:
    """Return how many masters there are, by kind: ``5 masters (1 bias, 3 dark, 1 flat)``."""
    counts = Counter(str(master.key.frame_type) for master in found)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS if counts[kind])
    return f"{len(found)} master{'' if len(found) == 1 else 's'}{f' ({kinds})' if kinds else ''}"


def _table(found: Sequence[LibraryMaster]) -> str:
    titles = (
        "kind", "exposure", "filter", "gain", "offset", "binning", "mode", "temperature", "camera", "size", "frames",
        "taken", "quality", "name",
    )  # fmt: skip
    names = ("filter", "gain", "offset", "binning", "readout_mode", "temperature_c", "camera")
    rows = []
    for one in found[:_MOST_ROWS]:
        settings, observed = settings_of(one), one.record.observed
        rows.append(
            [
                one.key.frame_type,
                "" if one.key.frame_type is FrameType.BIAS else f"{one.key.exposure_time_s:g} s",
                *(shown(name, settings[name]) if name in settings else None for name in names),
                f"{one.key.width} x {one.key.height}",
                one.record.n_frames,
                f"{observed.middle:%Y-%m-%d}" if observed is not None else None,
                one.record.verdict,
                one.record.name,
            ]
        )
    more = f"<p>and {len(found) - _MOST_ROWS} more</p>" if len(found) > _MOST_ROWS else ""
    return rows_table(titles, rows) + more
