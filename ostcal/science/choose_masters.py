"""Choice of masters for science frames, by what a frame says and the user asks; each is opened and checked once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ostcal.errors import InputError, OstcalError
from ostcal.fits.cards import Header
from ostcal.fits.read import FitsFrame, inspect_images
from ostcal.fits.sections import overscan_was_subtracted, readout_status
from ostcal.frames import FrameMetadata, FrameType
from ostcal.inputs.grouping import GroupKey
from ostcal.inputs.known_extensions import FrameImage, KnownExtensions
from ostcal.library.attributes import key_from_metadata
from ostcal.library.find import LibraryMaster, find_masters, fits_master, name_in_file
from ostcal.library.master_header import linearity_of
from ostcal.library.master_names import name_of_file
from ostcal.places.paths import is_file
from ostcal.response import LinearityCurve
from ostcal.science.bias_alone import bias_alone_warning
from ostcal.science.dark_error import unscaled_warning
from ostcal.science.linearize import no_response, refuse_done, stored_response
from ostcal.science.match import (
    DarkMix,
    DarkPart,
    MatchedMasters,
    MatchRules,
    choose_science_bias,
    choose_science_dark,
    choose_science_flat,
    masters_of,
    named_master_warnings,
    refuse_other_geometry,
    scale_named_dark,
    science_key,
)
from ostcal.science.opened_masters import OpenedMaster, open_master
from ostcal.science.said import FrameAges, notes_of
from ostcal.science.shelf import Shelf, shelf_of
from ostcal.science.synthetic_dark import NoSyntheticDark, SyntheticDark, SyntheticRules, ladder_steps, synthetic_dark

_Image = TypeVar("_Image", bound=FrameImage)

_EGAIN_SHARE = 0.05
"""By which EGAIN of one gain may differ."""
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
    linearize : bool
        Bring levels in proportion with the light, of the frame and of its flat, by the response that a ladder of flats
        showed; refused where none is known or it does not cover the levels.
    allow_failed : bool
        Take masters too that failed their quality control.
    saturation_adu : float or None
        Level from which on a pixel is saturated; ``None`` is SATURATE of the header, else of the master
        dark, else the end of 16 bits.
    """

    dark: str | None = None
    flat: str | None = None
    bias: str | None = None
    overwrite: bool = False
    uncertainty: bool = False
    dq: bool = False
    interpolate: bool = False
    linearize: bool = False
    allow_failed: bool = False
    saturation_adu: float | None = None


@dataclass(frozen=True, kw_only=True)
class FrameMasters:
    """The masters of one science frame, opened."""

    chosen: MatchedMasters
    darks: tuple[OpenedMaster, ...]
    """In the order of the parts of the chosen dark."""
    flat: OpenedMaster | None
    bias: OpenedMaster | None
    """For the uncertainty, if that is wanted."""
    response: LinearityCurve | None = None
    """Of the camera, if frames are linearized."""

    @property
    def used(self) -> tuple[OpenedMaster, ...]:
        """Those of the arithmetic, the darks first."""
        return self.darks if self.flat is None else (*self.darks, self.flat)

    @property
    def all(self) -> tuple[OpenedMaster, ...]:
        """Those of the arithmetic and of the uncertainty."""
        return self.used if self.bias is None else (*self.used, self.bias)


class FrameMatcher:
    """Finds the masters of frames, and opens and checks each master once."""

    def __init__(
        self,
        masters_dir: str,
        options: CalibrationOptions,
        rules: MatchRules,
        library: Sequence[LibraryMaster] | None = None,
    ) -> None:
        """Match with the masters of a directory; `library` are these, or some of them, where they are known."""
        self._masters_dir = masters_dir
        self._options = options
        self._rules = rules
        self._library = shelf_of(library if library is not None else find_masters(masters_dir), rules)
        self._named = {
            kind: self._named_masters(value, kind)
            for kind, value in (("dark", options.dark), ("flat", options.flat), ("bias", options.bias))
            if value is not None and value != NONE
        }
        self._lines: dict[tuple[GroupKey, str, str], str] = {}
        self._with_biases: dict[int, Shelf] = {}
        self._fits: dict[tuple[GroupKey, tuple[str, ...]], SyntheticDark | NoSyntheticDark] = {}
        keys = [master.key for master in (*self._library, *(m for named in self._named.values() for m in named))]
        self._extensions = KnownExtensions.of_settings((key.settings, key.width, key.height) for key in keys)
        self._opened: dict[tuple[FrameType, str], OpenedMaster | OstcalError] = {}
        self._said: list[str] = []
        self._said_of_frames: dict[str, list[str]] = {}
        self.ages = FrameAges(max_ages=rules.max_ages, now=rules.now)

    @property
    def warnings(self) -> list[str]:
        """What was said of masters, and of frames: of frames alike once, with the first of them."""
        lines = [*self._said]
        for line, labels in self._said_of_frames.items():
            more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
            lines.append(f"{labels[0]}{more}: {line}")
        return lines

    @property
    def rules(self) -> MatchRules:
        """How near a master must be."""
        return self._rules

    @property
    def library(self) -> Sequence[LibraryMaster]:
        """The masters among which it chooses; what is known of how they fit frames is shared with other matchers."""
        return self._library

    def images_of(self, images: tuple[_Image, ...]) -> tuple[_Image, ...]:
        """Return the images of a science frame; the only one of a file as the extension that the masters have."""
        image = images[0]
        label = self._extensions.label_of(image, image.metadata)
        if len(images) > 1 or label is None or self._extensions.has_whole_files(image.metadata):
            return images
        return (image.as_extension(label),)

    def warn_of_lacking(self, images: Sequence[FitsFrame], masters: Sequence[FrameMasters]) -> None:
        """Warn where the masters of a frame share their file with masters of images that the frame lacks."""
        ours = dict.fromkeys(image.extension for image in images)
        if None in ours:
            return
        used = [master for one in masters for master in one.chosen.used]
        files = {file for master in used for file in master.record.files}
        beside = [master.key.settings.extension for master in self._library if files.intersection(master.record.files)]
        lacking = [label for label in dict.fromkeys(beside) if label is not None and label not in ours]
        if lacking:
            s = "s" if len(lacking) > 1 else ""
            self._warn(
                [
                    f"{images[0].source}: lacks the extension{s} {', '.join(lacking)} that its masters have: "
                    f"{', '.join(filter(None, ours))} alone calibrated; copy the file again if it is not whole"
                ]
            )

    def match(self, frame: FitsFrame) -> MatchedMasters:
        """Choose the masters of a frame; see `match_metadata`."""
        return self.match_metadata(frame.metadata)

    def match_metadata(self, metadata: FrameMetadata, key: GroupKey | None = None) -> MatchedMasters:
        """Choose the masters of a frame by what is known of it; `key` is its `science_key`, if that is known already.

        Raises
        ------
        InputError
            If none fits, or one that the user named cannot be used.
        """
        key = key or science_key(metadata)
        dark = None if self._options.dark == NONE and "bias" not in self._named else self._choose_dark(metadata, key)
        flat = self._named_for("flat", key)
        if flat is not None:
            refuse_other_geometry(key, flat)
        elif self._options.flat != NONE:
            flat = choose_science_flat(key, metadata.date_obs, self._library, self._rules)
        taken_at = metadata.date_obs
        bias = self.match_bias(metadata, key)
        if dark is None and flat is None:
            raise InputError("neither a dark nor a flat is to be used: there is nothing to do")
        named = [master for kind in self._named if (master := self._named_for(kind, key)) is not None]
        warnings = [line for master in named for line in named_master_warnings(key, master, self._rules)]
        if dark is not None and not _is_plain(key, dark):
            warnings.append(self._said_of(key, dark))
        if dark is not None and dark.other_temperature:
            warnings.append(dark.other_temperature)
        used = masters_of(dark, flat)
        automatic = [master for master in used if all(master is not one for one in named)] if named else used
        notes = tuple(notes_of(automatic, key, taken_at, self._library))
        return MatchedMasters(dark=dark, flat=flat, bias=bias, warnings=tuple(warnings), notes=notes, taken_at=taken_at)

    def _said_of(self, key: GroupKey, dark: DarkMix) -> str:
        """Return the line about a dark that is none of the exposure as it is; masters are read for it, once."""
        known = key, dark.description, dark.refused
        if known not in self._lines:
            self._lines[known] = _dark_warning(key, dark, self._library, self._rules)
        return self._lines[known]

    def match_bias(self, metadata: FrameMetadata, key: GroupKey | None = None) -> LibraryMaster | None:
        """Choose the bias of a frame; ``None`` if none fits."""
        key = key or science_key(metadata)
        return self._named_for("bias", key) or choose_science_bias(key, self._library, self._rules, metadata.date_obs)

    def open(self, frame: FitsFrame) -> FrameMasters:
        """Choose the masters of a frame, open and check them.

        Raises
        ------
        OstcalError
            If none fits, or one cannot be read or used.
        """
        chosen = self.match(frame)
        masters = FrameMasters(
            chosen=chosen,
            darks=tuple(self._open(part.master) for part in chosen.dark.parts) if chosen.dark is not None else (),
            flat=self._open(chosen.flat) if chosen.flat is not None else None,
            bias=self._open(chosen.bias) if chosen.bias is not None and self._options.uncertainty else None,
        )
        if self._options.linearize:
            masters = replace(masters, response=self._response(frame, masters))
        ours = frame.metadata.row_order
        for master in masters.all:
            theirs = (master.header.text("ROWORDER") or "").upper().replace("_", "-")
            if ours and theirs in ("TOP-DOWN", "BOTTOM-UP") and theirs != ours:
                raise InputError(
                    f"its rows are {ours}, those of master {master.name} {theirs} (ROWORDER): they are upside down to "
                    "each other; take masters made of frames of the same program"
                )
            self._warn(master.warnings)
        self._warn(chosen.notes)
        self.ages.add(frame.label, chosen)
        for line in dict.fromkeys(
            (*chosen.warnings, *_overscan_of_masters_alone(frame, masters), *_other_egain(frame, masters))
        ):
            self._said_of_frames.setdefault(line, []).append(frame.label)
        if self._options.interpolate and not any(master.flags for master in masters.all):
            self._warn(["--interpolate: the masters name no hot or dead pixels (no extension DQ), none are replaced"])
        return masters

    def _response(self, frame: FitsFrame, masters: FrameMasters) -> LinearityCurve:
        """Return the response of the camera, from its masters or others of the library."""
        refuse_done(frame)
        known = [curve for master in masters.all if (curve := linearity_of(master.header)) is not None]
        key = science_key(frame.metadata)
        response = known[0] if known else stored_response(key, self._library)
        if response is None:
            raise no_response(key)
        return response

    def _choose_dark(self, metadata: FrameMetadata, key: GroupKey) -> DarkMix:
        dark, bias = self._named_for("dark", key), self._named_for("bias", key)
        if metadata.exposure_time_s is None and (dark is None and self._options.dark != NONE):
            raise InputError(
                "its exposure is not known (no EXPTIME, EXPOSURE, nor a time in its name), so that no dark can be "
                "chosen; write EXPTIME into its header or name a dark with --dark"
            )
        if dark is not None:
            if metadata.exposure_time_s is None:
                key = replace(key, exposure_time_s=dark.key.exposure_time_s)
            elif dark.key.frame_type is FrameType.DARK and dark.key.exposure_time_s == 0.0:
                self._warn([f"dark {dark.record.name}: its exposure is not recorded and taken as the frame's"])
                record = replace(dark.record, key=replace(dark.key, exposure_time_s=key.exposure_time_s))
                dark = replace(dark, record=record)
            nearest = bias or choose_science_bias(key, self._library, self._rules, metadata.date_obs)
            return scale_named_dark(key, dark, nearest, self._rules)
        if bias is None:
            return choose_science_dark(key, self._library, self._rules, metadata.date_obs, self._fit)
        refuse_other_geometry(key, bias)
        alone = DarkMix(parts=(DarkPart(master=bias),), description=f"bias {bias.record.name} alone")
        if self._options.dark == NONE:
            return alone
        try:
            return choose_science_dark(key, self._with_bias(bias), self._rules, metadata.date_obs, self._fit)
        except InputError:
            return alone

    def _with_bias(self, bias: LibraryMaster) -> Shelf:
        """Return the library with a bias that the user named in place of its own."""
        if id(bias) not in self._with_biases:
            others = [master for master in self._library if master.key.frame_type is not FrameType.BIAS]
            self._with_biases[id(bias)] = Shelf([bias, *others], self._rules)
        return self._with_biases[id(bias)]

    def _fit(
        self, key: GroupKey, masters: Sequence[LibraryMaster], rules: SyntheticRules
    ) -> SyntheticDark | NoSyntheticDark:
        """Return the fit over masters; it reads them, so that frames with the same ones share it."""
        steps = ladder_steps(masters)
        known = key, tuple(master.record.name for master in steps)
        if known not in self._fits:
            self._fits[known] = synthetic_dark(key, steps, rules)
        return self._fits[known]

    def _open(self, master: LibraryMaster) -> OpenedMaster:
        """Open a master, or raise again what went wrong when it was opened for another frame."""
        key = (master.key.frame_type, master.record.name)
        if key not in self._opened:
            try:
                self._opened[key] = open_master(master)
            except OstcalError as error:
                self._opened[key] = error
        opened = self._opened[key]
        if isinstance(opened, OstcalError):
            raise opened
        return opened

    def _warn(self, lines: Iterable[str]) -> None:
        self._said += [line for line in lines if line not in self._said]

    def _named_for(self, kind: str, key: GroupKey) -> LibraryMaster | None:
        """Return the master that the user named, of the extension of the frame."""
        masters = self._named.get(kind)
        if masters is None:
            return None
        ours = key.settings.extension
        found = next((master for master in masters if master.key.settings.extension == ours), None)
        if found is None:
            there = ", ".join(master.key.settings.extension or "one image" for master in masters)
            wanted = "an image without extensions" if ours is None else f"the extension {ours}"
            raise InputError(
                f"{masters[0].record.name}: has {there}, and the frame needs {wanted}; name another {kind}"
            )
        return found

    def _named_masters(self, text: str, kind: str) -> list[LibraryMaster]:
        """Find what the user named: a file, or a name in the library; of a file of several images all masters."""
        in_library = [
            master
            for master in self._library
            if text == master.record.name
            or (master.key.settings.extension is not None and text in map(name_of_file, master.record.files))
        ]
        if in_library:
            _refuse_other_kind(text, in_library[0].key.frame_type, kind)
            return in_library
        if not is_file(text):
            raise InputError(
                f"--{kind} {text}: there is no such file, and no master of this name in {self._masters_dir}; "
                "ostcal library lists them"
            )
        return [self._master_in(text, fits, kind) for fits in inspect_images(text)]

    def _master_in(self, text: str, fits: FitsFrame, kind: str) -> LibraryMaster:
        """Return the master that an image of a named file is."""
        if fits.packed != "none":
            raise InputError(f"--{kind} {text}: is compressed; unpack it first")
        metadata = fits.metadata
        if metadata.frame_type in (None, FrameType.LIGHT):  # neither header nor name says what it is: the option does
            metadata = replace(metadata, frame_type=FrameType(kind))
        _refuse_other_kind(text, metadata.frame_type, kind)
        key = key_from_metadata(metadata)
        if key is None:
            raise InputError(f"--{kind} {text}: cannot serve as a {kind}; name a master {kind}")
        return fits_master(name_in_file(os.path.basename(text), fits), key, fits)


def _dark_warning(key: GroupKey, dark: DarkMix, library: Sequence[LibraryMaster], rules: MatchRules) -> str:
    if dark.synthetic is not None:
        return f"no dark of its {dark.synthetic.lacking}, one is made: {dark.synthetic.basis}"
    if dark.unscaled:
        return unscaled_warning(key, dark, library, rules)
    if dark.scaled:
        why = f" ({dark.refused})" if dark.refused else ""
        return f"no dark of {key.exposure_time_s:g} s, dark current is scaled: {dark.description}{why}"
    return bias_alone_warning(key, dark, library, rules)


def _is_plain(key: GroupKey, dark: DarkMix) -> bool:
    """Return whether a dark is subtracted as it is and leaves no dark current in."""
    is_made = dark.synthetic is not None or dark.unscaled or dark.scaled
    return not is_made and (dark.has_dark_current or key.exposure_time_s <= 0)


def _other_egain(frame: FitsFrame, masters: FrameMasters) -> list[str]:
    """Return a line for each dark of another EGAIN, where nothing says the GAIN: matching does not go by EGAIN."""
    ours = frame.metadata.egain_e_per_adu
    if ours is None or frame.metadata.settings.gain is not None:
        return []
    lines = []
    for dark in masters.darks:
        header = dark.header
        theirs = header.number("EGAIN", low=0.0)
        if not theirs or header.number("GAIN") is not None or theirs == header.number("GAINMEAS"):
            continue
        if abs(theirs - ours) > _EGAIN_SHARE * max(theirs, ours):
            lines.append(
                f"EGAIN of {dark.name} is {theirs:g}, of the frame {ours:g}, and GAIN is not recorded: they are of two "
                "gains as it seems; write GAIN into the headers, by which masters are chosen"
            )
    return lines


def _overscan_of_masters_alone(frame: FitsFrame, masters: FrameMasters) -> list[str]:
    """Return a line if the overscan of the darks was subtracted, and nothing says so of the frame."""
    dark = next((dark for dark in masters.darks if overscan_was_subtracted(dark.header, frame.width)), None)
    is_subtracted = "O" in readout_status(frame.readout) or frame.metadata.bias_subtracted
    if dark is None or is_subtracted or overscan_was_subtracted(Header(frame.cards), frame.width):
        return []
    return [
        f"the overscan of {dark.name} was subtracted, and nothing says so of this frame (no BIASSEC, and no O in "
        "CALSTAT): its level may be too high by the whole bias; set master_frames.overscan to the sections of the "
        "camera, or CALSTAT to OT in its header if it was done"
    ]


def _refuse_other_kind(name: str, frame_type: FrameType | None, kind: str) -> None:
    if str(frame_type) != kind and not (kind == "dark" and frame_type is FrameType.BIAS):
        raise InputError(f"--{kind} {name}: is a {frame_type}, not a {kind}; name a master {kind}")
