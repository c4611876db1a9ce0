"""The YAML file as validated values; the only reader of YAML.

A file becomes a `Config` in three steps. `_read_text` and `_compose` turn bytes into a YAML node graph under bounds of
size, depth and aliases. `_Tree` turns the nodes of our own sections into plain values and remembers the line of every
key. The pydantic models below check the values; what they refuse becomes one line for each key, all of them at once.

Plain scalars stay text until a key says what it wants. That cures the traps of YAML 1.1 at the root: ``1e-3`` is a
number where a number is wanted, ``010`` is ten, ``12:30:00`` and ``no`` are text where text is wanted.

The meaning of each key is written once, in the models: the commented YAML file, ``docs/configuration.md`` and the
error messages are made from them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import re
import types
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from ostcal.errors import ConfigError

logger = logging.getLogger(__name__)

FILE_LIMIT_BYTES = 1 << 17
"""A configuration has a few kB; PyYAML needs up to 1.5 s for 128 KiB (``[?,?,``), 12 s for 1 MiB: refused before it."""
DEPTH_LIMIT = 64
"""Our sections are three levels deep; PyYAML recurses per level, and Python stops at about 1000 frames."""
NODE_LIMIT = 20_000
"""Nodes of our sections with aliases expanded; our sections have about 80 keys."""
MEMORY_FLOOR_BYTES = 1 << 20
"""Catches ``memory_limit: 4``, which is four bytes where four GiB were meant."""
MEMORY_CEILING_BYTES = 1 << 60
PROBLEM_LIMIT = 50
"""Problems listed in one error; a file with more of them is another program's."""


# Values: what a key takes, the words for it, and how it is written in YAML


class Plain(str):
    """A YAML scalar written without quotes, whose type depends on the key it is given to."""

    __slots__ = ()


@dataclass(frozen=True)
class Allowed:
    """The words for what a key takes; they stand in the reference and in error messages."""

    text: str


_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?")
_WHOLE = re.compile(r"[-+]?[0-9]+", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:([kmgt])(i?))?b?", re.ASCII | re.IGNORECASE)
_NUMBER_LIMIT_CHARACTERS = 64
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _number_from_text(text: str) -> int | float | None:
    """Read a decimal number; ``None`` where the text is none. ``010`` is ten and ``1e-3`` a number."""
    text = text.strip()
    if len(text) > _NUMBER_LIMIT_CHARACTERS or not _NUMBER.fullmatch(text):
        return None
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _number(value: object) -> object:
    """Take numeric text and numbers of other libraries (numpy) as Python's; leave the rest for the type to refuse."""
    if isinstance(value, str):
        number = _number_from_text(value)
        return value if number is None else number
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        whole = int(value)
        if abs(whole) > 2**63:
            raise ValueError
        return whole
    return float(value) if isinstance(value, Real) else value


def _switch(value: object) -> object:
    """Take the words for true and false, in any case."""
    return _SWITCHES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _text(value: object) -> object:
    """Take a plain scalar or a path as text."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return str(value) if isinstance(value, str) else value


def _check_text(value: str) -> str:
    """Refuse blank text, control characters and lone surrogates: none can be in a directory, host or label."""
    if not value.strip() or any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError
    return value


def _check_location(value: str) -> str:
    """Refuse credentials in a location: it stands in headers, logs and reports."""
    if _CREDENTIALS.search(value):
        raise ValueError
    return value


def _check_endpoint(value: str) -> str:
    if not _ENDPOINT.fullmatch(value):
        raise ValueError
    return value


def _setting(value: object) -> object:
    """Take an unquoted number as a number; everything else written is a label."""
    if isinstance(value, Plain):
        number = _number_from_text(value)
        return str(value) if number is None else number
    return value if isinstance(value, str) else _number(value)


def _tuple(value: object) -> object:
    """Take a list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _binning(value: object) -> object:
    """Take ``n`` as ``(n, n)``."""
    if isinstance(value, (list, tuple)):
        return tuple(_number(item) for item in value)
    number = _number(value)
    return (number, number)


def _cluster_start(value: object) -> object:
    """Take ``{class, arguments...}``, where the arguments may also stand in a group ``kwargs``, as ``{class, kwargs}``.

    What is written there is nobody's key here: a scalar without quotes is what YAML says it is.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("class"), str):
        raise ValueError
    kwargs = {name: item for name, item in value.items() if name not in ("class", "kwargs")}
    group = value.get("kwargs") or {}
    if not isinstance(group, Mapping) or not all(isinstance(name, str) for name in (*kwargs, *group)):
        raise ValueError
    return {"class": _check_text(str(value["class"])), "kwargs": _argument({**kwargs, **group})}


def _argument(value: object) -> object:
    """Give an argument of somebody else's class the type that YAML gives it."""
    if isinstance(value, Mapping):
        return {str(name): _argument(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_argument(item) for item in value]
    if not isinstance(value, Plain):
        return str(value) if isinstance(value, str) else value
    number = _number_from_text(value)
    if number is not None:
        return number
    return {"true": True, "false": False}.get(value.lower(), str(value))


def _write_binning(value: tuple[int, int]) -> int | list[int]:
    """Write equal factors as one number."""
    return value[0] if value[0] == value[1] else list(value)


def _four_decimals(value: float) -> float:
    """Refuse more than four decimals: thresholds are compared in integers, and 10**4 squared fits them."""
    if (Fraction(repr(value)) * 10_000).denominator != 1:
        raise ValueError
    return value


def parse_size(value: object) -> object:
    """Read a memory size such as ``4GiB``, ``500MB`` or ``1.5 GB`` as bytes.

    ``k, M, G, T`` are powers of 1000, ``Ki, Mi, Gi, Ti`` powers of 1024; the ``B`` may be left out. Anything that is
    no size is given back unchanged, for the type of the key to refuse.
    """
    if not isinstance(value, str):
        return _number(value)
    match = _SIZE.fullmatch(value.strip())
    if match is None or len(value) > _NUMBER_LIMIT_CHARACTERS:
        return value
    digits, letter, binary = match.groups()
    if letter is None and "." in digits:
        return value
    power = " kmgt".index(letter.lower()) if letter else 0
    return int(Fraction(digits) * (1024 if binary else 1000) ** power)


def format_size(size_bytes: int) -> int | str:
    """Write bytes as the largest unit of which they are a whole number: ``4GiB``; else as the number itself."""
    for exponent, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size_bytes and size_bytes % (1 << exponent) == 0:
            return f"{size_bytes >> exponent}{unit}"
    return size_bytes


_Int = Annotated[int, BeforeValidator(_number), Strict()]
_Float = Annotated[float, BeforeValidator(_number), Strict(), Field(allow_inf_nan=False)]

Switch = Annotated[bool, BeforeValidator(_switch), Strict(), Allowed("true or false")]
Count = Annotated[_Int, Field(ge=1), Allowed("a whole number of at least 1")]
CountOrZero = Annotated[_Int, Field(ge=0), Allowed("a whole number of at least 0")]
Workers = Annotated[_Int, Field(ge=1, le=4096), Allowed("a whole number from 1 to 4096")]
Port = Annotated[_Int, Field(ge=1, le=65535), Allowed("a whole number from 1 to 65535")]
Positive = Annotated[_Float, Field(gt=0), Allowed("a number above 0")]
NotNegative = Annotated[_Float, Field(ge=0), Allowed("a number of at least 0")]
AboveOne = Annotated[_Float, Field(gt=1), Allowed("a number above 1")]
Share = Annotated[_Float, Field(gt=0, lt=1), Allowed("a number above 0 and below 1")]
Celsius = Annotated[_Float, Field(ge=-273.15, le=100), Allowed("a number from -273.15 to 100")]
SigmaThreshold = Annotated[
    _Float,
    Field(gt=0, le=1000),
    AfterValidator(_four_decimals),
    Allowed("a number above 0, at most 1000, with at most 4 decimals"),
]
Factors = Annotated[
    tuple[Positive, ...],
    BeforeValidator(_tuple),
    Field(min_length=1),
    PlainSerializer(list),
    Allowed("a list of numbers above 0, such as [0.5, 1.0]"),
]
Text = Annotated[
    str, BeforeValidator(_text), Strict(), AfterValidator(_check_text), Allowed("text on one line, not empty")
]
Directory = Annotated[
    str,
    BeforeValidator(_text),
    Strict(),
    AfterValidator(_check_text),
    AfterValidator(_check_location),
    Allowed("a path or s3://bucket/prefix, without credentials (they come from the environment)"),
]
Endpoint = Annotated[
    str,
    BeforeValidator(_text),
    Strict(),
    AfterValidator(_check_text),
    AfterValidator(_check_endpoint),
    Allowed("an address such as https://nas:9000, without credentials (they come from the environment)"),
]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_tuple), PlainSerializer(list), Allowed("a list of texts")]
MemorySize = Annotated[
    int,
    BeforeValidator(parse_size),
    Strict(),
    Field(ge=MEMORY_FLOOR_BYTES, le=MEMORY_CEILING_BYTES),
    PlainSerializer(format_size),
    Allowed("a size such as 4GiB, 500MB or 1.5 GB, or a whole number of bytes; at least 1MiB"),
]
Setting = Annotated[
    Annotated[int, Strict()] | Annotated[float, Strict(), Field(allow_inf_nan=False)] | Text | None,
    BeforeValidator(_setting),
    Allowed("a number, a label, or null"),
]
ReadoutMode = Annotated[
    Annotated[int, Strict(), Field(ge=0)] | Text | None,
    BeforeValidator(_setting),
    Allowed("a whole number of at least 0, a name, or null"),
]
Binning = Annotated[
    tuple[Annotated[int, Strict(), Field(ge=1, le=64)], Annotated[int, Strict(), Field(ge=1, le=64)]],
    BeforeValidator(_binning),
    PlainSerializer(_write_binning),
    Allowed("a whole number from 1 to 64, or two of them as [x, y]"),
]

ClusterStart = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_cluster_start),
    Allowed("class and its arguments, such as {class: dask_jobqueue.SLURMCluster, cores: 8, memory: 16GB}, or null"),
]

RejectionMethod = Literal["sigma_clip", "minmax", "winsorized_sigma_clip", "median", "none"]
NormalizationMethod = Literal["mean", "median", "max"]
FlatScaling = Literal["mean", "median", "none"]
ClipCenter = Literal["auto", "mean", "median"]
ClipSpread = Literal["auto", "std", "mad", "noise"]
Flavour = Literal["adu", "pixinsight"]
CameraType = Literal["ascom", "alpaca", "simulator"]
Scheduler = Literal["threads", "processes", "distributed"]
Compressor = Literal["auto", "lz4", "zstd", "none"]
StripRows = Literal["auto"] | Count
Retries = Annotated[
    int, BeforeValidator(_number), Strict(), Field(ge=0, le=100), Allowed("a whole number from 0 to 100")
]


def _key(default: object, meaning: str, unit: str = "") -> Any:
    """Declare a key: its default, a sentence for the reference, its unit. ``Any``, as pydantic's own ``Field``."""
    return Field(default=default, description=meaning, json_schema_extra={"unit": unit})


# Sections: one model each; the first line of the docstring introduces the section in the reference


class _Section(BaseModel):
    """Keys that belong together; frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class _OpenSection(_Section):
    """A section that passes keys it does not know: drivers have extras."""

    model_config = ConfigDict(extra="allow")

    @property
    def extras(self) -> dict[str, object]:
        """The keys that are not ours; values from a file are text as written."""
        return {name: _portable(value) for name, value in (self.model_extra or {}).items()}


def _empty_is_default(value: object) -> object:
    """Take a group of which all keys are commented out as the group of defaults."""
    return {} if value is None else value


def _above_min_exposure(value: float, info: ValidationInfo) -> float:
    minimum = info.data.get("min_exposure")
    if minimum is not None and value <= minimum:
        raise PydanticCustomError(
            "order", "it must be above min_exposure, which is {minimum}", {"minimum": minimum, "other": "min_exposure"}
        )
    return value


class DarkCapture(_Section):
    """How dark and bias frames are taken."""

    num_darks: Count = _key(40, "Frames taken for each exposure time.", "frames")
    flat_exposure_time: Positive | None = _key(
        None,
        "Exposure time of the flats, which need darks of their own; null finds it from the flats there are.",
        "seconds",
    )
    science_exposure_time: Positive = _key(5.0, "Exposure time of the science frames.", "seconds")
    min_exposure: NotNegative = _key(
        0.001, "Shortest exposure time; frames at or below it count as bias frames.", "seconds"
    )
    max_exposure: Positive = _key(60.0, "Longest exposure time; longer ones are not taken.", "seconds")
    exposure_factors: Factors = _key(
        (0.5, 1.0, 2.0, 4.0), "Darks are taken at science_exposure_time times each of these."
    )
    output_dir: Directory = _key("darks", "Directory of the dark and bias series, and where masters look for them.")

    _order = field_validator("max_exposure")(_above_min_exposure)


class FlatCapture(_Section):
    """How flat frames are taken."""

    target_count_rate: Share = _key(
        0.5, "Level aimed at: the mean of a frame divided by the full scale of the camera.", "share of full scale"
    )
    count_tolerance: Share = _key(
        0.1, "How far the level may be from target_count_rate on either side.", "share of full scale"
    )
    num_flats: Count = _key(40, "Flats taken.", "frames")
    min_exposure: NotNegative = _key(0.001, "Shortest exposure time that is tried.", "seconds")
    max_exposure: Positive = _key(10.0, "Longest exposure time that is tried.", "seconds")
    exposure_step_factor: AboveOne = _key(
        1.5,
        "The exposure time is multiplied or divided by this where the frame is too dark or saturated to compute it.",
    )
    max_adjustment_attempts: Count = _key(10, "Exposures tried before giving up on the level.", "exposures")
    output_dir: Directory = _key("flats", "Directory of the flat series, and where masters look for them.")
    filters: Texts = _key((), "Names of filters, as the wheel has them; a series of flats is taken with each.")
    twilight: Switch = _key(False, "Follow the sky of dusk or dawn, frame by frame, instead of a steady light.")
    panel_brightness: CountOrZero | None = _key(
        None, "Brightness of a flat panel to start with, in its own steps; null is half of what it can."
    )

    _order = field_validator("max_exposure")(_above_min_exposure)


class MasterFrames(_Section):
    """How frames are combined into masters."""

    output_dir: Directory = _key("master_frames", "Directory of the masters and of the log file.")
    rejection_method: RejectionMethod = _key("sigma_clip", "How outlying samples of a pixel are found and left out.")
    sigma_threshold: SigmaThreshold = _key(
        3.0, "Distance from the centre at which a sample is left out; the decimal as written decides.", "sigma"
    )
    sigma_low: SigmaThreshold | None = _key(None, "The same below the centre only; null is sigma_threshold.", "sigma")
    sigma_high: SigmaThreshold | None = _key(None, "The same above the centre only; null is sigma_threshold.", "sigma")
    clip_center: ClipCenter = _key(
        "auto", "Centre of the samples for sigma_clip; auto is the mean from 21 frames on and the median below."
    )
    clip_spread: ClipSpread = _key(
        "auto",
        "Spread of the samples for sigma_clip; auto is the standard deviation from 21 frames on and the median absolute"
        " deviation below, where one outlier inflates the standard deviation so much that it hides itself; noise is"
        " what the camera's read noise and gain, measured on the same frames, make of the pixel's signal.",
    )
    clip_iterations: Count | None = _key(1, "Passes of sigma clipping; null repeats until nothing changes.", "passes")
    min_keep: Count = _key(1, "Samples of a pixel that clipping leaves at least.", "samples")
    n_low: CountOrZero = _key(1, "Lowest samples of a pixel left out by minmax.", "samples")
    n_high: CountOrZero = _key(1, "Highest samples of a pixel left out by minmax.", "samples")
    min_frames: Count = _key(3, "A group of fewer frames is reported and left out.", "frames")
    normalization_method: NormalizationMethod = _key("mean", "The level of a master flat that becomes 1.")
    flat_scaling: FlatScaling = _key("mean", "The level by which flats are scaled to one another before rejection.")
    bayer_normalization: Switch = _key(
        True, "Normalise a master flat for each colour of the sensor where the headers name a Bayer pattern."
    )
    quality_control: Switch = _key(True, "Measure frames and masters and warn of what is unusual.")
    save_individual_masters: Switch = _key(
        True, "Write every master as a FITS file; false keeps them in the zarr master store only."
    )
    create_master_bias: Switch = _key(True, "Make the master bias.")
    create_master_darks: Switch = _key(True, "Make a master dark for every exposure time.")
    create_master_flats: Switch = _key(True, "Make the master flats.")
    enable_calibration: Switch = _key(
        True, "Whether science frames are calibrated with the masters; making masters does not depend on it."
    )
    only_changed: Switch = _key(
        True,
        "Leave masters as they are whose frames, settings and darks are those of an earlier run; false makes all anew.",
    )
    auto_load_masters: Switch = _key(True, "Use masters on disk where this run makes no matching ones.")
    calibration_tolerance: NotNegative = _key(
        0.1, "How far the exposure time of a dark may be from the frame's.", "share of the exposure time"
    )
    temperature_tolerance: NotNegative = _key(
        2.0, "How far sensor temperatures may differ within a group and between a dark and a flat.", "degrees C"
    )
    per_session: Switch = _key(False, "Make masters for each night on its own.")
    extensions: Switch = _key(
        False, "Add the extensions UNCERT (uncertainty), NUSED (samples used) and DQ (bits of defects) to the masters."
    )
    lock_wait: NotNegative = _key(
        0.0, "How long to wait for another run that writes into output_dir; 0 stops at once.", "seconds"
    )
    flavour: Flavour = _key(
        "adu", "Values of the FITS masters: adu for all programs, or 0 to 1 and names that PixInsight's scripts know."
    )

    @property
    def sigma_threshold_exact(self) -> Fraction:
        """The threshold as the decimal that was written: 2.7 is 27/10."""
        return Fraction(repr(self.sigma_threshold))

    @property
    def sigma_low_exact(self) -> Fraction:
        """The threshold below the centre as the decimal that was written."""
        return self.sigma_threshold_exact if self.sigma_low is None else Fraction(repr(self.sigma_low))

    @property
    def sigma_high_exact(self) -> Fraction:
        """The threshold above the centre as the decimal that was written."""
        return self.sigma_threshold_exact if self.sigma_high is None else Fraction(repr(self.sigma_high))


class FrameQuality(_Section):
    """Limits of the checks of single frames and of a series."""

    saturated_share: NotNegative = _key(0.01, "Saturated pixels of a frame: warning above.", "share of the pixels")
    saturated_share_fail: NotNegative = _key(0.1, "The same: failure above.", "share of the pixels")
    zero_share: NotNegative = _key(
        0.001,
        "Pixels of a frame at 0: warning above; the offset is too low, or rows were not read.",
        "share of the pixels",
    )
    zero_share_fail: NotNegative = _key(0.05, "The same: failure above.", "share of the pixels")
    missing_share: NotNegative = _key(
        0.01, "Pixels of a frame that are no numbers: warning above.", "share of the pixels"
    )
    dark_level_share: NotNegative = _key(0.25, "Level of a bias or dark: warning above.", "share of full scale")
    temperature_c: NotNegative = _key(
        1.0, "Distance of a frame from the median temperature of its series: warning above.", "degrees C"
    )
    set_point_c: NotNegative = _key(1.0, "Distance of a frame from the set point: warning above.", "degrees C")
    drift_noises: NotNegative = _key(
        0.5, "Change of the level of darks over the series: warning above.", "noise of a sample"
    )
    jump_noises: NotNegative = _key(
        1.0, "Jump of the level of darks, of one frame or from one frame on: warning above.", "noise of a sample"
    )
    least_adu: NotNegative = _key(1.0, "No change of a level below this counts.", "ADU")
    leak_share: NotNegative = _key(
        0.001,
        "Light in a whole series of darks: warning above this, plus leak_share_per_s for each second.",
        "share of full scale",
    )
    leak_share_per_s: NotNegative = _key(
        0.0001, "Added to leak_share for each second of exposure.", "share of full scale"
    )
    gradient_share: NotNegative = _key(
        0.0005,
        "Slope across a series of darks: warning above this, plus gradient_share_per_s for each second.",
        "share of full scale",
    )
    gradient_share_per_s: NotNegative = _key(
        2e-05, "Added to gradient_share for each second of exposure.", "share of full scale"
    )
    rise_share: NotNegative = _key(
        0.0005, "A dark brighter than the others by this share is said to have seen light.", "share of full scale"
    )
    flat_low_share: NotNegative = _key(0.2, "Level of a flat: warning below.", "share of full scale")
    flat_high_share: NotNegative = _key(0.8, "Level of a flat: warning above.", "share of full scale")
    lamp_drift_share: NotNegative = _key(
        0.02, "Change of the level of flats of one exposure over the series: warning above.", "share of the level"
    )
    lamp_jump_share: NotNegative = _key(
        0.02, "Jump of the level of flats of one exposure: warning above.", "share of the level"
    )
    lamp_scatter_share: NotNegative = _key(
        0.01, "Scatter of the levels of flats of one exposure about their trend: warning above.", "share of the level"
    )
    twilight_share: NotNegative = _key(
        0.25,
        "A smooth change of the level of flats by more is taken as that of the sky, and the lamp is not judged.",
        "share of the level",
    )
    flat_shape_share: NotNegative = _key(
        0.01,
        "A part of a flat against the others of its series (condensation, clouds): warning above.",
        "share of the level",
    )
    flat_gradient_share: NotNegative = _key(
        0.05, "Slope of a flat against the others of its series: warning above.", "share of the level"
    )
    dark_shape_noises: NotNegative = _key(
        0.5, "Parts of a dark against the others of its series: warning above.", "noise of a sample"
    )
    residual_factor: NotNegative = _key(1.3, "Noise of a frame over that of the median frame: warning above.", "times")
    outlying_share: NotNegative = _key(
        0.001, "Pixels of a frame further than 5 noises from the other frames: warning above.", "share of the pixels"
    )
    outlying_factor: NotNegative = _key(4.0, "And above this many times those of the median frame.", "times")
    flat_outlying_share_fail: NotNegative = _key(
        0.25, "Pixels of a flat that differ from the other frames: failure above.", "share of the pixels"
    )
    dark_outlying_share_fail: NotNegative = _key(
        0.02, "Pixels of a bias or dark that differ from the other frames: failure above.", "share of the pixels"
    )


class MasterQuality(_Section):
    """Limits of the checks of masters."""

    frames: Count = _key(20, "Frames of a master: warning below.", "frames")
    rejected_share: NotNegative = _key(0.05, "Samples rejected in all: warning above.", "share of the samples")
    rejected_share_fail: NotNegative = _key(0.3, "The same: failure above.", "share of the samples")
    rejected_region_share: NotNegative = _key(
        0.1, "Samples rejected in one region more than in the median region: warning above.", "share of the samples"
    )
    sample_noise_factor: NotNegative = _key(
        1.3, "Scatter of the samples of a pixel over the noise from frame to frame (drift): warning above.", "times"
    )
    noise_factor_low: NotNegative = _key(
        0.6, "Noise from pixel to pixel over what the samples predict: warning below.", "times"
    )
    hot_share: NotNegative = _key(0.03, "Hot pixels: warning above.", "share of the pixels")
    hot_share_fail: NotNegative = _key(0.2, "The same: failure above.", "share of the pixels")
    cold_share: NotNegative = _key(0.01, "Cold pixels: warning above.", "share of the pixels")
    dead_share: NotNegative = _key(0.002, "Dead pixels: warning above.", "share of the pixels")
    noisy_share: NotNegative = _key(0.02, "Noisy pixels: warning above.", "share of the pixels")
    telegraph_share: NotNegative = _key(0.01, "Pixels with telegraph noise: warning above.", "share of the pixels")
    saturated_share: NotNegative = _key(
        0.005, "Saturated pixels of a bias or dark: warning above.", "share of the pixels"
    )
    bad_column_share: NotNegative = _key(0.01, "Bad columns: warning above.", "share of the columns")
    no_data_share_fail: NotNegative = _key(
        0.01, "Pixels without data: failure above; any is a warning.", "share of the pixels"
    )
    glow_noise_factor: NotNegative = _key(
        8.0,
        "Noise of the brightest corner or edge over that of the median region (amplifier glow): warning above.",
        "times",
    )
    dark_structure_noise: NotNegative = _key(
        20.0,
        "Difference of bright and dim parts of a bias or dark: warning above this and dark_structure_adu.",
        "noise of a frame",
    )
    dark_structure_adu: NotNegative = _key(66.0, "See dark_structure_noise.", "ADU")
    dark_light_noise: NotNegative = _key(
        1.0,
        "Inner parts of a dark above the brightest border (light): warning above this and dark_light_adu.",
        "noise of a frame",
    )
    dark_light_adu: NotNegative = _key(5.0, "See dark_light_noise.", "ADU")
    flat_level_low: NotNegative = _key(0.05, "Level of a flat: warning below.", "share of full scale")
    flat_level_high: NotNegative = _key(
        0.85, "Level of the brightest parts of a flat: warning above.", "share of full scale"
    )
    flat_level_fail: NotNegative = _key(0.95, "The same: failure above.", "share of full scale")
    flat_saturated_share: NotNegative = _key(0.001, "Saturated pixels of a flat: warning above.", "share of the pixels")
    flat_saturated_share_fail: NotNegative = _key(0.05, "The same: failure above.", "share of the pixels")
    flat_not_positive_share_fail: NotNegative = _key(
        0.01, "Pixels of a flat at or below zero: failure above; any is a warning.", "share of the pixels"
    )
    flat_signal_to_noise: NotNegative = _key(100.0, "Signal to noise of a pixel of a master flat: warning below.")
    flat_signal_to_noise_fail: NotNegative = _key(10.0, "The same: failure below.")
    vignetting: NotNegative = _key(
        0.3, "Darkest corner of a flat over its centre: warning below.", "share of the level"
    )
    flat_tilt: NotNegative = _key(0.3, "Difference of opposite sides of a flat: warning above.", "share of the level")
    dust_depth: NotNegative = _key(0.3, "Depth of the deepest shadow of dust: warning above.", "share of the level")
    level_shift_adu: NotNegative = _key(
        5.0, "Change of the level against the previous master, and above the noise of a frame: warning above.", "ADU"
    )
    changed_noise_factor: NotNegative = _key(
        2.0, "Difference from the previous master over what the noise of both predicts: warning above.", "times"
    )
    new_hot_share: NotNegative = _key(
        0.005, "Pixels that became hot since the previous master: warning above.", "share of the pixels"
    )
    changed_share: NotNegative = _key(
        0.02, "Area of a flat that changed by more than 1 % since the previous one: warning above.", "share of the area"
    )


class PixelQuality(_Section):
    """From where on a pixel counts as a defect."""

    hot_sigma: NotNegative = _key(
        10.0, "Hot and cold pixels: distance from their neighbours in sigma of the master's own noise.", "sigma"
    )
    neighbour_spreads: NotNegative = _key(
        6.0, "And in spreads of the pixels around, fixed pattern included.", "spreads"
    )
    own_sigma: NotNegative = _key(3.0, "And in sigma of the pixel's own mean.", "sigma")
    low_response: NotNegative = _key(0.8, "Response of a pixel of a flat against its neighbours: cold below.", "share")
    dead_response: NotNegative = _key(0.5, "The same: dead below.", "share")
    high_response: NotNegative = _key(1.2, "The same: hot above.", "share")
    noisy_factor: NotNegative = _key(
        2.0, "Scatter of the samples of a pixel over what is expected: noisy above.", "times"
    )
    noisy_sigma: NotNegative = _key(6.0, "And above what chance may do, in sigma.", "sigma")
    telegraph_samples: Count = _key(
        3, "Samples of a pixel rejected more than around it: telegraph noise from this on.", "samples"
    )
    telegraph_share: NotNegative = _key(0.1, "And at least this share of its samples.", "share of the samples")
    column_spreads: NotNegative = _key(
        8.0, "Offset of a column from its neighbours in spreads of such offsets: bad above.", "spreads"
    )
    column_noise: NotNegative = _key(1.0, "And in spreads of the pixels.", "spreads")
    column_response: NotNegative = _key(0.03, "And in a flat by this share of the level.", "share of the level")
    column_share: NotNegative = _key(
        0.5, "Or this share of the pixels of a column differs from the neighbours.", "share of the pixels"
    )


class Quality(_Section):
    """When frames and masters are worth a warning, and when a master fails its quality control."""

    report: Switch = _key(True, "Write a report beside the masters after each run that has quality_control.")
    use_failed: Switch = _key(False, "Use masters that failed their quality control as if they had not.")
    frames: Annotated[FrameQuality, BeforeValidator(_empty_is_default)] = FrameQuality()
    masters: Annotated[MasterQuality, BeforeValidator(_empty_is_default)] = MasterQuality()
    pixels: Annotated[PixelQuality, BeforeValidator(_empty_is_default)] = PixelQuality()


class CameraValues(_OpenSection):
    """What is set on a camera before an exposure, whatever drives it."""

    exposure_time: Positive = _key(1.0, "Exposure time a series starts with where nothing else gives one.", "seconds")
    gain: Setting = _key(
        None, "Gain in the camera's own numbers, or one of its labels (in quotes if it is digits); null leaves it."
    )
    offset: Setting = _key(None, "Offset in the camera's own numbers, or one of its labels; null leaves it.")
    binning: Binning = _key((1, 1), "Pixels combined on the sensor, across and along.", "pixels")
    readout_mode: ReadoutMode = _key(None, "Readout mode by number or by name; null leaves it.")


class _AscomDriver(_OpenSection):
    camera_name: Text | None = _key(None, "ProgID of the driver, such as ASCOM.Simulator.Camera; null asks for one.")


class _AlpacaDevice(_OpenSection):
    host: Text = _key("127.0.0.1", "Name or address of the Alpaca server.")
    port: Port = _key(11111, "Port of the Alpaca server.")
    device_id: CountOrZero = _key(0, "Number of the camera on that server.")
    filter_wheel_id: CountOrZero | None = _key(None, "Number of the filter wheel on that server; null is none.")
    cover_calibrator_id: CountOrZero | None = _key(
        None, "Number of the cover or flat panel on that server; null is none."
    )
    reply_timeout: Positive = _key(10.0, "Longest wait for the answer to one command.", "seconds")
    silence_timeout: Positive = _key(
        60.0, "Longest wait for the next byte of an image: some servers convert it first and are silent.", "seconds"
    )


class AscomCamera(CameraValues, _AscomDriver):
    """The camera where camera_type is ascom (Windows)."""


class AlpacaCamera(CameraValues, _AlpacaDevice):
    """The camera where camera_type is alpaca (any system, over the network)."""


class Simulator(_OpenSection):
    """The camera where camera_type is simulator: started inside the run, over loopback HTTP."""

    sensor: Text = _key("demo", "What is simulated: demo (1 MP), bayer (colour) or qhy600m (61 MP).")
    time_scale: Positive = _key(1.0, "How much faster time passes than in reality.")
    seed: CountOrZero = _key(1, "Of the noise and the faults.")
    faults: Texts = _key((), "What goes wrong, as ostcal simulate --help lists it.")


class Cooling(_OpenSection):
    """The cooler of the camera."""

    enable_cooling: Switch = _key(False, "Cool the sensor before the first frame.")
    target_temperature: Celsius = _key(-10.0, "Sensor temperature aimed at.", "degrees C")
    wait_for_cooling: Switch = _key(
        True,
        "Wait with the first frame until the temperature is reached; where it is not, a person at a terminal is asked,"
        " and elsewhere frames are taken and recorded with the temperature they had.",
    )
    cooling_timeout: Positive = _key(600.0, "Longest wait for the temperature.", "seconds")
    stabilization_tolerance: Positive = _key(
        1.0, "Distance from target_temperature at which it counts as reached.", "degrees C"
    )
    warmup_at_end: Switch = _key(False, "Let the sensor warm up slowly after the last frame.")


class Video(_OpenSection):
    """The camera. The section may also be called camera; keys it does not know pass with a warning."""

    camera_type: CameraType = _key("alpaca", "What drives the camera.")
    ascom: Annotated[AscomCamera, BeforeValidator(_empty_is_default)] = AscomCamera()
    alpaca: Annotated[AlpacaCamera, BeforeValidator(_empty_is_default)] = AlpacaCamera()
    simulator: Annotated[Simulator, BeforeValidator(_empty_is_default)] = Simulator()
    cooling: Annotated[Cooling, BeforeValidator(_empty_is_default)] = Cooling()


class Workflow(_Section):
    """How ``ostcal workflow`` goes through the evening."""

    masters_while_exposing: Switch = _key(
        True,
        "Combine finished series while the camera takes the next, at low priority and with one core left free; the"
        " masters are the same as without.",
    )


def _all_or_none(value: str | None, info: ValidationInfo) -> str | None:
    given = [*info.data.values(), value]
    if any(given) and not all(given):
        raise PydanticCustomError("order", "ca, cert and key belong together, or none of them", {"other": "ca"})
    return value


class Tls(_Section):
    """Certificates for a cluster that speaks TLS: three PEM files, which the workers and the scheduler have too."""

    ca: Text | None = _key(None, "Certificate of the authority that signed the others.")
    cert: Text | None = _key(None, "Certificate of this side.")
    key: Text | None = _key(None, "Its private key.")

    _together = field_validator("key")(_all_or_none)


class Compute(_Section):
    """Where and with how much the work is done."""

    scheduler: Scheduler = _key("threads", "Threads or processes of this computer, or a Dask cluster (distributed).")
    workers: Workers | None = _key(
        None, "Threads or processes at work; null is one for each core, and one thread more, as some wait for the disk."
    )
    memory_limit: MemorySize = _key(
        4 << 30,
        "Memory of all processes of a run together, with distributed of each worker; a plan that cannot keep it is"
        " refused.",
        "bytes",
    )
    address: Text | None = _key(
        None,
        "Address of the Dask scheduler for distributed, such as tcp://10.0.0.5:8786 or tls://10.0.0.5:8786; null here"
        " and in the next two starts processes of this computer.",
    )
    scheduler_file: Text | None = _key(None, "File that dask scheduler --scheduler-file wrote, instead of address.")
    cluster: ClusterStart = _key(
        None,
        "A class with Dask's cluster interface, and its arguments: it is started for the run and closed with it."
        " Instead of address.",
    )
    worker_wait: Positive = _key(
        60.0, "Longest wait for a worker, which may be in a queue: for the first, and when none is left.", "seconds"
    )
    tls: Annotated[Tls, BeforeValidator(_empty_is_default)] = Tls()


class Storage(_Section):
    """How series and masters are stored."""

    export_frames: Switch = _key(False, "Write each captured frame as a FITS file too, beside its series.")
    verify: Switch = _key(
        True, "Check the samples of stored frames while they are read; a damaged frame is named and left out."
    )
    strip_rows: StripRows = _key(
        "auto",
        "Rows of an inner chunk of new series, and of the strips that masters are combined in; auto is 16 to 32 in"
        " series, by the size of the frame, and in masters as many as memory and cores ask for.",
        "rows",
    )
    compressor: Compressor = _key(
        "auto",
        "Compression of stored frames; auto is lz4 as it is read fastest; lz4 makes bias and darks 10 to 30 % smaller,"
        " and zstd another 15 %.",
    )
    endpoint: Endpoint | None = _key(
        None,
        "Server of s3:// locations, such as https://nas:9000; null is that of the environment (AWS_ENDPOINT_URL), or"
        " Amazon's.",
    )
    region: Text | None = _key(None, "Its region; null is that of the environment (AWS_REGION), or us-east-1.")
    retries: Retries = _key(
        5, "Times that a request to an object store is made again when network or server fail, with growing pauses."
    )
    timeout: Positive = _key(30.0, "Longest time of one such request; larger objects go in parts of 8 MiB.", "seconds")

    @property
    def rows(self) -> int | None:
        """`strip_rows`; ``None`` for ``auto``."""
        return None if self.strip_rows == "auto" else self.strip_rows

    @property
    def objects(self) -> dict[str, Any]:
        """The values of `ostcal.places.objects.ObjectOptions`."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "retries": self.retries,
            "timeout_s": self.timeout,
        }


SECTIONS: Mapping[str, type[_Section]] = types.MappingProxyType(
    {
        "dark_capture": DarkCapture,
        "flat_capture": FlatCapture,
        "master_frames": MasterFrames,
        "quality": Quality,
        "video": Video,
        "workflow": Workflow,
        "compute": Compute,
        "storage": Storage,
    }
)
ALIASES: Mapping[str, str] = types.MappingProxyType({"camera": "video"})
_NAMES = (*SECTIONS, *ALIASES)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole configuration, with every value resolved.

    Attributes
    ----------
    dark_capture, flat_capture, master_frames, quality, video, workflow, compute, storage
        The sections; ``memory_limit`` is in bytes, ``binning`` is ``(x, y)``, directories are text as written and
        relative to the working directory.
    source : str or None
        The file they were read from.
    warnings : tuple of str
        One line for each thing that is accepted but probably not meant.
    """

    dark_capture: DarkCapture = field(default_factory=DarkCapture)
    flat_capture: FlatCapture = field(default_factory=FlatCapture)
    master_frames: MasterFrames = field(default_factory=MasterFrames)
    quality: Quality = field(default_factory=Quality)
    video: Video = field(default_factory=Video)
    workflow: Workflow = field(default_factory=Workflow)
    compute: Compute = field(default_factory=Compute)
    storage: Storage = field(default_factory=Storage)
    source: str | None = None
    warnings: tuple[str, ...] = ()


# YAML: bytes to nodes, nodes to values with lines

_Path = tuple[str, ...]
_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What PyYAML counts as a line."""


ConfigSource = Config | str | os.PathLike[str] | Mapping[str, Any] | None
"""What the public classes take for a configuration: nothing is the defaults."""


@dataclass(frozen=True, kw_only=True)
class _Notice:
    """Something wrong or noteworthy at one key."""

    path: _Path
    text: str
    line: int | None = None

    def format(self, label: str) -> str:
        where = label if self.line is None else f"{label}, line {self.line}"
        parts = (where, ".".join(_word(name) for name in self.path), self.text)
        return ": ".join(part for part in parts if part)


class _Loader(yaml.SafeLoader):
    """Compose nodes only: no scalar is given a type here, and nesting is bounded."""

    yaml_implicit_resolvers: Any = types.MappingProxyType({})

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            problem = f"nested deeper than {DEPTH_LIMIT} levels"
            raise yaml.composer.ComposerError(None, None, problem, None if parent is None else parent.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _read_text(path: str | os.PathLike[str], label: str) -> str:
    """Read a file of at most `FILE_LIMIT_BYTES` as UTF-8."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name holds a null character"
        raise ConfigError(f"{label}: the configuration cannot be read: {reason}") from error
    if len(data) > FILE_LIMIT_BYTES:
        raise ConfigError(
            f"{label}: larger than {FILE_LIMIT_BYTES} bytes; a configuration has a few kB, is this another file?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[min(error.start, len(data) - 1)]
        raise ConfigError(f"{label}, line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error


def _compose(text: str, label: str) -> yaml.Node | None:
    """Parse YAML into nodes; ``None`` for a text without any."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = len(_LINE_BREAK.findall(text, 0, error.position)) + 1
        code = ord(error.character) if isinstance(error.character, str) else error.character
        raise ConfigError(f"{label}, line {line}: character U+{code:04X} cannot be in a YAML file") from error
    except yaml.MarkedYAMLError as error:
        line, reason = _syntax_problem(text, error)
        raise ConfigError(f"{label}, line {line}: {reason}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() fail on "\UFFFFFFFF" and on %YAML with a very long version
        line = 1 if loader is None else loader.line + 1
        raise ConfigError(f"{label}, line {line}: not valid YAML: {_word(str(error))}") from error


def _syntax_problem(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Say where and why PyYAML gave up, in words for somebody who does not write YAML often."""
    mark = error.problem_mark or error.context_mark
    index = mark.line if mark is not None else 0
    rows = _LINE_BREAK.split(text)
    row = rows[index] if index < len(rows) else ""
    problem = error.problem or "it cannot be read"
    if "'\\t'" in problem or "\t" in row[: len(row) - len(row.lstrip())]:
        return index + 1, "a tab; YAML wants spaces here"
    if error.context == "while scanning a quoted scalar" and error.context_mark is not None:
        return error.context_mark.line + 1, "the quote opened here is not closed"
    if "expected a single document" in (error.context or ""):
        return index + 1, "a second document begins here; leave one, without '---' between sections"
    if problem.startswith("nested deeper"):
        return index + 1, problem
    return index + 1, f"not valid YAML: {problem}; look here and above for a missing colon, quote, bracket or space"


class _Tree:
    """The nodes of our sections as plain values, with the line of every key and what is wrong with the writing."""

    def __init__(self, label: str) -> None:
        self.lines: dict[_Path, int] = {}
        self.problems: list[_Notice] = []
        self._label = label
        self._visits = 0

    def read(self, root: yaml.Node | None) -> dict[str, object]:
        """Give the top level: our sections with their values, other keys with what tells a section from a value."""
        if root is None or _is_null(root):
            return {}
        if not isinstance(root, yaml.MappingNode):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            raise ConfigError(
                f"{self._label}, line {_line_of(root)}: {kind} at the top level; sections such as master_frames: with"
                " their keys below are wanted"
            )
        return self._mapping(root, (), 0)

    def _value(self, node: yaml.Node, path: _Path, depth: int) -> object:
        self._visit(node, depth)
        if node.tag not in _CORE_TAGS:
            self._problem(path, f"the tag {_word(node.tag)} is not understood; write the value itself", _line_of(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, path, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            return None if _is_null(node) else Plain(node.value)
        return str(node.value)

    def _mapping(self, node: yaml.MappingNode, path: _Path, depth: int) -> dict[str, object]:
        """Give the keys of a mapping; those that ``<<`` merges into it first, so that its own override them."""
        values: dict[str, object] = {}
        own: dict[str, int] = {}
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                values = self._merged(value_node, path, depth) | values
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                continue
            line = _line_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(path, "a key must be one word", line, if_ours=bool(path))
                continue
            name = str(key_node.value)
            is_ours = bool(path) or name in _NAMES
            if name in own:
                self._problem((*path, name), f"given twice, also on line {own[name]}; keep one", line, if_ours=is_ours)
                continue
            own[name] = line
            self.lines[(*path, name)] = line
            values[name] = self._value(value_node, (*path, name), depth + 1) if is_ours else _foreign(value_node)
        return values

    def _merged(self, node: yaml.Node, path: _Path, depth: int) -> dict[str, object]:
        """Give the keys of one mapping or of a list of them, of which the first ones win."""
        self._visit(node, depth)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth + 1)
        values: dict[str, object] = {}
        if not isinstance(node, yaml.SequenceNode):
            self._problem((*path, "<<"), "only groups of keys can be merged", _line_of(node))
            return values
        for item in reversed(node.value):
            values |= self._merged(item, path, depth + 1)
        return values

    def _problem(self, path: _Path, text: str, line: int, *, if_ours: bool = True) -> None:
        if if_ours:
            self.problems.append(_Notice(path=path, text=text, line=line))

    def _visit(self, node: yaml.Node, depth: int) -> None:
        """Count a node: aliases make a few lines into a billion of them, or into a ring."""
        self._visits += 1
        if depth > DEPTH_LIMIT or self._visits > NODE_LIMIT:
            raise ConfigError(
                f"{self._label}, line {_line_of(node)}: more than {NODE_LIMIT} values or {DEPTH_LIMIT} levels with"
                " all aliases written out; a configuration has about 80"
            )


def _line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == "<<"


def _foreign(node: yaml.Node) -> object:
    """Stand in for the value of another program: all that matters of it is whether it is a section."""
    return {} if isinstance(node, yaml.MappingNode) else Plain("")


# Words for names and values in messages of one line

_SHOWN_CHARACTERS = 60
_NAME_CUTOFF = 0.8
"""Where a name may well be somebody else's: ``master_frame`` is 0.96 near ``master_frames``, ``dark_frames`` 0.75."""


def _word(text: str) -> str:
    """Show text on one line, whatever it holds."""
    shown = " ".join(text.split()) if text.strip() else repr(text)
    shown = shown if shown.isprintable() else ascii(text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."


def _shown(value: object) -> str:
    """Show a value as it would be written."""
    if isinstance(value, str):
        return _word(_CREDENTIALS.sub("//***@", value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a group of keys"
    if isinstance(value, (list, tuple)):
        return _word("[" + ", ".join(_shown(item) for item in value[:10]) + "]")
    if isinstance(value, int) and abs(value) > 2**63:
        return "a number of more than 18 digits"  # str() of an int fails above 4300 digits
    return _word(str(value)) if isinstance(value, (int, float)) else f"a {type(value).__name__}"


def _joined(words: Sequence[str], last: str = "and") -> str:
    """Join words: ``a, b and c``."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _allowed(annotation: object, metadata: Iterable[object] = ()) -> str:
    """Give the words for what a key takes, from its type."""
    for item in metadata:
        if isinstance(item, Allowed):
            return item.text
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _allowed(arguments[0], arguments[1:])
    if origin is Literal:
        return _joined(arguments, "or")
    if origin in (Union, types.UnionType):
        words = [_allowed(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(words) + (", or null" if type(None) in arguments else "")
    return "keys below it"


def _choices(annotation: object) -> list[str]:
    """Give the words that a key takes literally."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for argument in get_args(annotation) for choice in _choices(argument)]


# Validation: every problem, one line each


@dataclass(frozen=True, kw_only=True)
class _Given:
    """Values as given, with what is needed to name them."""

    values: Mapping[Any, object]
    label: str
    lines: Mapping[_Path, int] = field(default_factory=dict)
    problems: Sequence[_Notice] = ()

    def notice(self, path: _Path, text: str, *, other: str | None = None) -> _Notice:
        """Put a notice at a key, else at ``other`` beside it, else at the group it would be in."""
        places = [path, *([(*path[:-1], other)] if other else []), *(path[:end] for end in range(len(path) - 1, 0, -1))]
        line = next((self.lines[place] for place in places if place in self.lines), None)
        return _Notice(path=path, text=text, line=line)

    def value(self, path: _Path) -> tuple[bool, object]:
        """Give whether there is a value at a path, and the value."""
        value: object = self.values
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                return False, None
            value = value[name]
        return True, value


def _build(given: _Given, source: str | None) -> tuple[Config, list[_Notice]]:
    """Validate all sections; one `ConfigError` names every problem."""
    problems = list(given.problems)
    sections: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        written = [word for word in (name, *(a for a, of in ALIASES.items() if of == name)) if word in given.values]
        if len(written) > 1:
            text = f"given as {_joined(written)}, two names of one section; keep one"
            problems.append(given.notice((written[-1],), text))
        elif written:
            sections[name] = _validate(model, written[0], given, problems)
    if problems:
        raise ConfigError(_report(problems, given.label))
    notices = [*_foreign_notices(given), *_unknown_notices(sections, given), *_doubts(sections, given)]
    notices.sort(key=lambda notice: notice.line or 0)
    config = Config(**sections, source=source, warnings=tuple(notice.format(given.label) for notice in notices))
    return config, notices


def _validate(model: type[_Section], section: str, given: _Given, problems: list[_Notice]) -> _Section | None:
    """Validate one section; what is wrong with it goes to ``problems``."""
    value = given.values[section]
    if value is None:
        return model()
    if not isinstance(value, Mapping):
        text = f"{_shown(value)} is not allowed; keys below it are wanted"
        problems.append(given.notice((section,), text))
        return None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems += [_explain(model, section, given, detail) for detail in error.errors(include_url=False)]
        return None


def _explain(model: type[_Section], section: str, given: _Given, detail: ErrorDetails) -> _Notice:
    """Put one refusal of pydantic into words; its location also holds members of unions and items of lists."""
    path: _Path = (section,)
    owner, entry = model, None
    for part in detail["loc"]:
        name = str(part)
        path = (*path, name)
        entry = owner.model_fields.get(name)
        if entry is None:
            return given.notice(path, _unknown_key(name, path, owner))
        sub = _model_of(entry)
        if sub is None:
            break
        owner = sub
    if entry is None:
        return given.notice(path, f"not allowed: {_word(detail['msg'])}")
    is_given, value = given.value(path)
    context = detail.get("ctx", {})
    if detail["type"] == "order":
        other = str(context["other"])
        default = "null" if entry.default is None else entry.default
        shown = _shown(value) if is_given else f"{default} (the default)"
        return given.notice(path, f"{shown} is not allowed; {_word(detail['msg'])}", other=other)
    return given.notice(path, _wrong_value(entry, value))


def _wrong_value(entry: FieldInfo, value: object) -> str:
    """Say what is allowed instead of a value."""
    allowed = _allowed(entry.annotation, entry.metadata)
    if value is None:
        default = f" (the default is {_shown(entry.default)})" if _model_of(entry) is None else ""
        return f"no value; write {allowed}, or leave the key out{default}"
    choices = _choices(entry.annotation)
    near = _nearest(value, choices) if isinstance(value, str) else None
    hint = f"; did you mean {near}?" if near else ""
    return f"{_shown(value)} is not allowed; write {allowed}{hint}"


def _unknown_key(name: str, path: _Path, owner: type[_Section]) -> str:
    """Say that a key is unknown and which one was probably meant."""
    keys = list(owner.model_fields)
    return f"unknown key; {_hint(name, path, keys) or f'the keys here are {_joined(keys)}'}"


def _hint(name: str, path: _Path, keys: Sequence[str], cutoff: float = 0.6) -> str:
    """Say where a key belongs, or which of the keys here or elsewhere it is nearest to; empty where none is near."""
    here = (ALIASES.get(path[0], path[0]), *path[1:-1])
    places: dict[str, list[str]] = {}
    for known, _ in _walk_all():
        if known[:-1] != here:
            places.setdefault(known[-1], []).append(".".join(known[:-1]))
    if name in places:
        return f"it is a key of {_joined(places[name])}"
    if near := _nearest(name, keys, cutoff):
        return f"did you mean {near}?"
    if near := _nearest(name, list(places), _NAME_CUTOFF):
        return f"did you mean {places[near][0]}.{near}?"
    return ""


def _nearest(word: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """Find the known word that a misspelled one is nearest to; ``Sigma-Low`` is near ``sigma_low``."""
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")[:_SHOWN_CHARACTERS]
    found = difflib.get_close_matches(plain, known, n=1, cutoff=cutoff)
    return found[0] if found else None


def _report(problems: Sequence[_Notice], label: str) -> str:
    """Give one line for each key with a problem, in the order of the file."""
    first: dict[_Path, _Notice] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    ordered = sorted(first.values(), key=lambda problem: problem.line or 0)
    rows = [problem.format(label) for problem in ordered[:PROBLEM_LIMIT]]
    if len(ordered) > PROBLEM_LIMIT:
        rows.append(f"{label}: {len(ordered) - PROBLEM_LIMIT} more problems")
    return "\n".join(rows)


# Warnings: accepted, but probably not meant


def _foreign_notices(given: _Given) -> Iterator[_Notice]:
    """Find our sections under a misspelled name and our keys outside their section; the rest is not ours to judge."""
    homes = {path[-1]: path[0] for path, _ in _walk_all() if path[0] != "video"}
    for name, value in given.values.items():
        if not isinstance(name, str) or name in _NAMES:
            continue
        near = _nearest(name, _NAMES, cutoff=_NAME_CUTOFF)
        if near is not None:
            yield given.notice((name,), f"ignored, because no section has this name; did you mean {near}?")
        elif name in homes and not isinstance(value, Mapping):
            yield given.notice((name,), f"ignored, because it stands outside a section; it is a key of {homes[name]}")


def _unknown_notices(sections: Mapping[str, _Section], given: _Given) -> Iterator[_Notice]:
    """Find the keys of the camera's sections that are not ours."""
    video = sections.get("video")
    if video is None:
        return
    written = next(name for name in ("video", "camera") if name in given.values)
    groups = [((written,), video), *(((written, name), getattr(video, name)) for name in Video.model_fields)]
    for path, group in groups:
        if not isinstance(group, _OpenSection):
            continue
        model: type[_OpenSection] = type(group)
        for name in group.extras:
            hint = _hint(name, (*path, name), list(model.model_fields), _NAME_CUTOFF)
            text = "; ".join(filter(None, ("unknown key, left to the camera driver", hint)))
            yield given.notice((*path, name), text)


def _doubts(sections: Mapping[str, Any], given: _Given) -> Iterator[_Notice]:
    """Find values that are allowed but probably not meant."""
    compute, masters = sections.get("compute"), sections.get("master_frames")
    if compute is not None and compute.scheduler != "distributed":
        text = f"not used, because scheduler is {compute.scheduler}; distributed uses it"
        for key in ("address", "scheduler_file", "cluster"):
            if getattr(compute, key) is not None:
                yield given.notice(("compute", key), text)
    if masters is not None and masters.calibration_tolerance > 1:
        text = f"{masters.calibration_tolerance} is {masters.calibration_tolerance:.0%} of the exposure; 0.1 is 10%"
        yield given.notice(("master_frames", "calibration_tolerance"), text)


# The public functions


def load_config(config: Config | Mapping[Any, object] | str | os.PathLike[str] | None = None) -> Config:
    """Load and check a configuration.

    Parameters
    ----------
    config : Config, mapping, str, path or None
        A loaded configuration (given back as it is), a mapping of sections, a YAML file, or ``None`` for the defaults.

    Returns
    -------
    Config
        All values, resolved; its ``warnings`` are logged too.

    Raises
    ------
    ConfigError
        One line for every problem, with file, line, key, value and what is allowed.
    """
    if config is None:
        return Config()
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        given, source = _Given(values=config, label="configuration"), None
    elif isinstance(config, (str, os.PathLike)):
        source = str(config)
        label = _word_of_path(source)
        tree = _Tree(label)
        values = tree.read(_compose(_read_text(config, label), label))
        given = _Given(values=values, label=label, lines=tree.lines, problems=tree.problems)
    else:
        raise ConfigError(f"configuration: a file, a dict or a loaded configuration is wanted, not {_shown(config)}")
    loaded, _ = _build(given, source)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    return loaded


def _word_of_path(path: str) -> str:
    return path if path.isprintable() and path else ascii(path)


def with_overrides(config: Config, overrides: Mapping[str, object]) -> Config:
    """Replace single values, as options of the command line do.

    Parameters
    ----------
    config : Config
        What to start from; it is not changed.
    overrides : mapping of str to object
        Values by dotted key, such as ``{"master_frames.rejection_method": "median"}``. Numbers may be text. ``None``
        is the value null, not "leave it".

    Raises
    ------
    ConfigError
        One line for every wrong key or value, beginning with ``option:``.
    """
    values: dict[str, Any] = resolved_values(config)
    problems: list[_Notice] = []
    replaced: set[_Path] = set()
    for key, value in overrides.items():
        section, *rest = key.split(".")
        path = (ALIASES.get(section, section), *rest)
        if path not in dict(_walk_all()):
            problems.append(_Notice(path=tuple(key.split(".")), text=_unknown_option(path)))
            continue
        replaced.add(path)
        group = values
        for name in path[:-1]:
            group = group[name]
        group[path[-1]] = value
    changed, notices = _build(_Given(values=values, label="option", problems=problems), config.source)
    new = tuple(notice.format("option") for notice in notices if notice.path in replaced)
    for warning in new:
        logger.warning("%s", warning)
    sections = {name: getattr(changed, name) for name in SECTIONS}
    return Config(**sections, source=config.source, warnings=config.warnings + new)


def _unknown_option(path: _Path) -> str:
    known = [".".join(place) for place, _ in _walk_all()]
    near = _nearest(".".join(path), known)
    return f"unknown key; did you mean {near}?" if near else "unknown key; write section.key"


def without_endpoint(config: Config) -> Config:
    """Give a configuration as it may be shown in logs and reports: without the server of the object store."""
    return replace(config, storage=config.storage.model_copy(update={"endpoint": None}))


def resolved_values(config: Config) -> dict[str, dict[str, Any]]:
    """Give every value as it would be written in YAML, by section and key."""
    return {name: _portable(getattr(config, name).model_dump()) for name in SECTIONS}


def _portable(value: Any) -> Any:
    """Give a value as plain dicts, lists, text and numbers; keys of drivers may hold anything."""
    if isinstance(value, Mapping):
        return {str(name): _portable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_portable(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value)


class _Dumper(yaml.SafeDumper):
    """Write text that looks like a number (to us or to YAML 1.1) in quotes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "'" if _number_from_text(text) is not None else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def dump(config: Config) -> str:
    """Write every resolved value as YAML, which `load_config` reads back to the same values."""
    return yaml.dump(resolved_values(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def digest(config: Config) -> str:
    """Give the SHA-256 of the resolved values in hexadecimal; source and warnings do not enter."""
    text = json.dumps(resolved_values(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


# The reference


@dataclass(frozen=True, kw_only=True)
class KeyReference:
    """What there is to know of one key."""

    name: str
    allowed: str
    choices: tuple[str, ...]
    """The words that it takes literally."""
    default: str
    """As written in YAML."""
    unit: str
    """Empty where there is none."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class SectionReference:
    """What there is to know of one section; ``path`` is ``("video", "alpaca")`` for a group within one."""

    path: tuple[str, ...]
    meaning: str
    keys: tuple[KeyReference, ...]


def reference() -> tuple[SectionReference, ...]:
    """Describe every section and key, in the order of the file."""
    found: dict[_Path, tuple[type[_Section], list[KeyReference]]] = {}
    for name, model in SECTIONS.items():
        found[(name,)] = (model, [])
        for group, entry in model.model_fields.items():
            if (sub := _model_of(entry)) is not None:
                found[(name, group)] = (sub, [])
    for path, entry in _walk_all():
        found[path[:-1]][1].append(_key_reference(path[-1], entry, found[path[:-1]][0]))
    return tuple(
        SectionReference(path=path, meaning=(model.__doc__ or "").splitlines()[0], keys=tuple(keys))
        for path, (model, keys) in found.items()
    )


def _key_reference(name: str, entry: FieldInfo, model: type[_Section]) -> KeyReference:
    extra = entry.json_schema_extra
    return KeyReference(
        name=name,
        allowed=_allowed(entry.annotation, entry.metadata),
        choices=tuple(_choices(entry.annotation)),
        default=_inline(model().model_dump()[name]),
        unit=str(extra["unit"]) if isinstance(extra, dict) else "",
        meaning=entry.description or "",
    )


def _inline(value: object) -> str:
    """Write a value on one line of YAML."""
    if isinstance(value, str):
        return value if re.fullmatch("[a-z][a-z_0-9]*", value) else json.dumps(value)
    return json.dumps(value)


def _walk_all() -> Iterator[tuple[_Path, FieldInfo]]:
    """Give every key of every section with its path."""
    for name, model in SECTIONS.items():
        yield from _walk(model, (name,))


def _walk(model: type[_Section], path: _Path) -> Iterator[tuple[_Path, FieldInfo]]:
    for name, entry in model.model_fields.items():
        sub = _model_of(entry)
        if sub is None:
            yield (*path, name), entry
        else:
            yield from _walk(sub, (*path, name))


def _model_of(entry: FieldInfo) -> type[_Section] | None:
    """Give the model of a group of keys; ``None`` for a key with a value."""
    annotation = entry.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, _Section) else None
