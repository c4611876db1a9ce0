"""The masters of science frames: chosen by what a frame says and the user asks, opened and checked once each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ostcal.errors import InputError, OstcalError
from ostcal.fits.read import FitsFrame, inspect_fits
from ostcal.frames import FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.library.attributes import key_from_metadata
from ostcal.library.find import LibraryMaster, find_masters, fits_master
from ostcal.places.paths import is_file
from ostcal.science.calibrate_frame import (
    FrameTask,
    OpenedMaster,
    checked_dark,
    checked_flat,
    label_of,
    open_master,
    strip_rows,
)
from ostcal.science.match import (
    DarkMix,
    DarkPart,
    MatchedMasters,
    MatchRules,
    choose_science_bias,
    choose_science_dark,
    choose_science_flat,
    named_master_warnings,
    refuse_other_geometry,
    scale_named_dark,
    science_key,
)

NONE = "none"
"""What leaves a step out when it is given as the dark or the flat."""


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """How frames are calibrated.

    Attributes
    ----------
    dark, flat, bias : str or None
        A FITS file or the name of a master in the library; ``None`` finds the one that fits, ``"none"`` (dark, flat)
        leaves the step out. A `bias` without a `dark` scales the dark that fits best, or is subtracted alone where
        no dark fits.
    overwrite : bool
        Whether calibrated files that exist may be replaced.
    uncertainty : bool
        Add the extension UNCERT: standard deviation of each pixel from photon noise, read noise and masters.
    dq : bool
        Add the extension DQ: flags of each pixel, those of the masters carried over (int16; 64 saturated,
        128 no value, 256 interpolated).
    interpolate : bool
        Take hot and dead pixels, and those without a value, from their neighbours of the same colour.
    allow_failed : bool
        Take masters too that failed their quality control.
    saturation_adu : float or None
        Level from which on a pixel is saturated; ``None`` is SATURATE of the header, else the end of 16 bits.
    """

    dark: str | None = None
    flat: str | None = None
    bias: str | None = None
    overwrite: bool = False
    uncertainty: bool = False
    dq: bool = False
    interpolate: bool = False
    allow_failed: bool = False
    saturation_adu: float | None = None


class FrameMatcher:
    """Finds the masters of frames, and opens and checks each master once."""

    def __init__(self, masters_dir: str, options: CalibrationOptions, rules: MatchRules) -> None:
        self._masters_dir = masters_dir
        self._options = options
        self._rules = rules
        self._library = find_masters(masters_dir)
        self._named = {
            kind: self._named_master(value, kind)
            for kind, value in (("dark", options.dark), ("flat", options.flat), ("bias", options.bias))
            if value is not None and value != NONE
        }
        self._darks: dict[GroupKey, DarkMix] = {}
        self._opened: dict[str, OpenedMaster] = {}
        self._unusable: dict[str, OstcalError] = {}
        self.warnings: list[str] = []

    def match(self, frame: FitsFrame) -> MatchedMasters:
        """Choose the masters of a frame."""
        key = science_key(frame.metadata, self._rules.temperature_tolerance_c)
        dark = None if self._options.dark == NONE and "bias" not in self._named else self._dark(frame, key)
        flat = None if self._options.flat == NONE else self._flat(frame, key)
        bias = self._named.get("bias") or choose_science_bias(key, self._library, self._rules)
        if dark is None and flat is None:
            raise InputError("neither a dark nor a flat is to be used: there is nothing to do")
        warnings = [line for name in self._named.values() for line in named_master_warnings(key, name, self._rules)]
        if dark is not None and dark.synthetic is not None:
            warnings.append(f"no dark of its exposure, one is made: {dark.description}")
        elif dark is not None and dark.scaled:
            why = f" ({dark.refused})" if dark.refused else ""
            warnings.append(f"no dark of {key.exposure_time_s:g} s, dark current is scaled: {dark.description}{why}")
        elif dark is not None and not dark.has_dark_current and key.exposure_time_s > 0:
            warnings.append(f"the bias alone is subtracted, no dark current: {dark.description}")
        return MatchedMasters(dark=dark, flat=flat, bias=bias, warnings=tuple(warnings))

    def task(self, frame: FitsFrame, target: str, options: CalibrationOptions) -> FrameTask:
        """Prepare a frame: its masters are chosen, opened and checked."""
        matched = self.match(frame)
        parts = [part.master for part in matched.dark.parts] if matched.dark is not None else []
        wanted = [*parts, *(m for m in (matched.flat, matched.bias if options.uncertainty else None) if m is not None)]
        opened = {label_of(master): self._open(master) for master in wanted}
        for master in opened.values():
            _refuse_other_row_order(frame, master)
            self._warn(master.warnings)
        self._warn(f"{frame.source}: {line}" for line in matched.warnings)
        if options.interpolate and not any(master.flags for master in opened.values()):
            self._warn(["--interpolate: the masters name no hot or dead pixels (no extension DQ), none are replaced"])
        return FrameTask(
            fits=frame,
            target=target,
            masters=matched,
            opened=opened,
            uncertainty=options.uncertainty,
            dq=options.dq,
            interpolate=options.interpolate,
            saturation_adu=options.saturation_adu,
            overwrite=options.overwrite,
            rows=strip_rows(frame.width, frame.height, list(opened.values())),
        )

    def _dark(self, frame: FitsFrame, key: GroupKey) -> DarkMix:
        dark, bias = self._named.get("dark"), self._named.get("bias")
        if frame.metadata.exposure_time_s is None and (dark is None and self._options.dark != NONE):
            raise InputError(
                "its exposure is not known (no EXPTIME, EXPOSURE, nor a time in its name), so that no dark can be "
                "chosen; write EXPTIME into its header or name a dark with --dark"
            )
        if dark is not None:
            if frame.metadata.exposure_time_s is None:
                key = replace(key, exposure_time_s=dark.key.exposure_time_s)
            elif dark.key.frame_type is FrameType.DARK and dark.key.exposure_time_s == 0.0:
                self._warn([f"dark {dark.record.name}: its exposure is not recorded and taken as the frame's"])
                record = replace(dark.record, key=replace(dark.key, exposure_time_s=key.exposure_time_s))
                dark = replace(dark, record=record)
            return scale_named_dark(
                key, dark, bias or choose_science_bias(key, self._library, self._rules), self._rules
            )
        if bias is None:
            if key not in self._darks:  # a fit reads its masters; all frames of a night share it
                self._darks[key] = choose_science_dark(key, self._library, self._rules)
            return self._darks[key]
        refuse_other_geometry(key, bias)
        alone = DarkMix(parts=(DarkPart(master=bias),), description=f"bias {bias.record.name} alone")
        if self._options.dark == NONE:
            return alone
        others = [master for master in self._library if master.key.frame_type is not FrameType.BIAS]
        try:
            return choose_science_dark(key, [bias, *others], self._rules)
        except InputError:
            return alone

    def _flat(self, frame: FitsFrame, key: GroupKey) -> LibraryMaster:
        flat = self._named.get("flat")
        if flat is None:
            return choose_science_flat(key, frame.metadata.date_obs, self._library, self._rules)
        refuse_other_geometry(key, flat)
        return flat

    def _open(self, master: LibraryMaster) -> OpenedMaster:
        name = label_of(master)
        if name in self._unusable:
            raise self._unusable[name]
        if name not in self._opened:
            try:
                opened = open_master(master)
                if master.key.frame_type is FrameType.FLAT:
                    opened = checked_flat(opened, master.key.height, master.key.width)
                else:
                    opened = checked_dark(opened, master.key.height)
            except OstcalError as error:
                self._unusable[name] = error
                raise
            self._opened[name] = opened
        return self._opened[name]

    def _warn(self, lines: Iterable[str]) -> None:
        self.warnings += [line for line in lines if line not in self.warnings]

    def _named_master(self, text: str, kind: str) -> LibraryMaster:
        """Give the master that the user named: a file, or a name in the library."""
        in_library = next((master for master in self._library if master.record.name == text), None)
        if in_library is not None:
            _refuse_other_kind(text, in_library.key.frame_type, kind)
            return in_library
        if not is_file(text):
            raise InputError(
                f"--{kind} {text}: there is no such file, and no master of this name in {self._masters_dir}; "
                "ostcal library lists them"
            )
        fits = inspect_fits(text)
        if fits.packed != "none":
            raise InputError(f"--{kind} {text}: is compressed; unpack it first")
        metadata = fits.metadata
        if metadata.frame_type in (None, FrameType.LIGHT):  # neither header nor name says what it is: the option does
            metadata = replace(metadata, frame_type=FrameType(kind))
        _refuse_other_kind(text, metadata.frame_type, kind)
        key = key_from_metadata(metadata)
        if key is None:
            raise InputError(f"--{kind} {text}: cannot serve as a {kind}; name a master {kind}")
        return fits_master(os.path.basename(text), key, fits)


def _refuse_other_kind(name: str, frame_type: FrameType | None, kind: str) -> None:
    if str(frame_type) != kind and not (kind == "dark" and frame_type is FrameType.BIAS):
        raise InputError(f"--{kind} {name}: is a {frame_type}, not a {kind}; name a master {kind}")


def _refuse_other_row_order(frame: FitsFrame, master: OpenedMaster) -> None:
    ours, theirs = frame.metadata.row_order, (master.header.text("ROWORDER") or "").upper().replace("_", "-")
    if ours and theirs in ("TOP-DOWN", "BOTTOM-UP") and theirs != ours:
        raise InputError(
            f"its rows are {ours}, those of master {master.name} {theirs} (ROWORDER): they are upside down to each "
            "other; take masters made of frames of the same program"
        )
