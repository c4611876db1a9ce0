"""Types of values: what is allowed, the words for it, how it is written in YAML; how keys and sections are declared.

Plain scalars stay text until a key says what it wants. That cures the traps of YAML 1.1 at the root: ``1e-3`` is a
number where a number is wanted, ``010`` is ten, ``12:30:00`` and ``no`` are text where text is wanted.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Real
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict

from ostcal.engine.rejection import MethodKey
from ostcal.formula import read_formula
from ostcal.naming import FOLDER_WORDS, unknown_folder_words

MEMORY_FLOOR_BYTES = 1 << 20
"""Catches ``memory_limit: 4``, which is four bytes where four GiB were meant."""
MEMORY_CEILING_BYTES = 1 << 60


class Plain(str):
    """A YAML scalar written without quotes, whose type depends on the key it is given to."""

    __slots__ = ()


class Escaped(str):
    """Text in double quotes in which YAML read a backslash as the start of an escape: most likely a Windows path.

    Texts and paths refuse it; `source` is what stands between the quotes.
    """

    def __new__(cls, text: str, source: str) -> Escaped:
        """Return text with its source."""
        made = super().__new__(cls, text)
        made.source = source
        return made

    source: str


@dataclass(frozen=True)
class Allowed:
    """The values of a key in words, for the reference and error messages."""

    text: str


_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{\w+\})")
CREDENTIALS = re.compile(r"//[^/\s]*@")
_WHOLE = re.compile(r"[-+]?[0-9]+", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?:([kmgt])(i?))?b?", re.ASCII | re.IGNORECASE)
_NUMBER_LIMIT_CHARACTERS = 64
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def number_from_text(text: str) -> int | float | None:
    """Read a decimal number, or return ``None``; ``010`` is ten and ``1e-3`` a number."""
    text = text.strip()
    if len(text) > _NUMBER_LIMIT_CHARACTERS or not _NUMBER.fullmatch(text):
        return None
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def read_number(value: object) -> object:
    """Convert numeric text and numbers of other libraries (numpy); the type of the key refuses the rest."""
    if isinstance(value, str):
        number = number_from_text(value)
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
    """Convert the words for true and false, in any case."""
    return _SWITCHES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _text(value: object) -> object:
    """Convert a plain scalar or a path to text; refuse escapes that nobody meant."""
    if isinstance(value, Escaped):
        raise ValueError
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value.values())) is None:
        value = f"{{{next(iter(value))}}}"  # {night} without quotes is a mapping to YAML
    return str(value) if isinstance(value, str) else value


def _check_text(value: str) -> str:
    """Refuse blank text, control characters and lone surrogates: none can be in a directory, host or label."""
    if not value.strip() or any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError
    return value


def _check_location(value: str) -> str:
    """Refuse credentials in a location: it stands in headers, logs and reports."""
    if CREDENTIALS.search(value):
        raise ValueError
    return value


def _expand(value: str) -> str:
    """Expand ``~`` and variables such as ``$HOME``; refuse a variable that is not set."""
    if "://" in value:
        return value
    expanded = os.path.expandvars(os.path.expanduser(value))
    if _VARIABLE.search(value) and _VARIABLE.search(expanded):
        raise ValueError
    return expanded


def _check_folder_words(value: str) -> str:
    """Refuse words in braces that are not filled in."""
    if unknown_folder_words(value):
        raise ValueError
    return value


def _refuse_folder_words(value: str) -> str:
    """Refuse words that only directories of captured frames have."""
    if any(f"{{{word}}}" in value for word in FOLDER_WORDS):
        raise ValueError
    return value


def _kinds(value: object) -> object:
    """Convert the words for kinds, in any case."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError
    return {_expand(_check_text(str(pattern))): str(kind).strip().lower() for pattern, kind in value.items()}


def _setting(value: object) -> object:
    """Convert an unquoted number; any other text is a label."""
    if isinstance(value, Plain):
        number = number_from_text(value)
        return str(value) if number is None else number
    return value if isinstance(value, str) else read_number(value)


def _formula(value: object) -> object:
    """Convert a number to a formula of itself."""
    value = read_number(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else _text(value)


def _check_formula(value: str) -> str:
    """Refuse what is no formula of cards, and a level below 0."""
    formula = read_formula(value)
    if not formula.cards and formula.value({}) < 0:
        raise ValueError
    return value


def _tuple(value: object) -> object:
    """Convert a list to a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _binning(value: object) -> object:
    """Convert ``n`` to ``(n, n)``."""
    if isinstance(value, (list, tuple)):
        return tuple(read_number(item) for item in value)
    number = read_number(value)
    return (number, number)


def _cluster_start(value: object) -> object:
    """Convert ``{class, arguments...}`` to ``{class, kwargs}``; the arguments may also be in a group ``kwargs``.

    The arguments are not keys of ours: a scalar without quotes is what YAML says it is.
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
    """Convert an argument of another package's class as YAML itself would."""
    if isinstance(value, Mapping):
        return {str(name): _argument(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_argument(item) for item in value]
    if not isinstance(value, Plain):
        return str(value) if isinstance(value, str) else value
    number = number_from_text(value)
    if number is not None:
        return number
    return {"true": True, "false": False}.get(value.lower(), str(value))


def parse_size(value: object) -> object:
    """Read a memory size such as ``4GiB``, ``500MB`` or ``1.5 GB`` as bytes.

    ``k, M, G, T`` are powers of 1000, ``Ki, Mi, Gi, Ti`` powers of 1024; the ``B`` may be left out. Anything that is
    not a size is returned unchanged, for the type of the key to refuse.
    """
    if not isinstance(value, str):
        return read_number(value)
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


_Int = Annotated[int, BeforeValidator(read_number), Strict()]
_Float = Annotated[float, BeforeValidator(read_number), Strict(), Field(allow_inf_nan=False)]

Switch = Annotated[
    bool,
    BeforeValidator(_switch, json_schema_input_type=bool | Literal["yes", "no", "on", "off"]),
    Strict(),
    Allowed("true or false"),
]
Count = Annotated[_Int, Field(ge=1), Allowed("a whole number of at least 1")]
CountOrZero = Annotated[_Int, Field(ge=0), Allowed("a whole number of at least 0")]
Workers = Annotated[_Int, Field(ge=1, le=4096), Allowed("a whole number from 1 to 4096")]
Port = Annotated[_Int, Field(ge=1, le=65535), Allowed("a whole number from 1 to 65535")]
Positive = Annotated[_Float, Field(gt=0), Allowed("a number above 0")]
NotNegative = Annotated[_Float, Field(ge=0), Allowed("a number of at least 0")]
AtLeastOne = Annotated[_Float, Field(ge=1), Allowed("a number of at least 1")]
AboveOne = Annotated[_Float, Field(gt=1), Allowed("a number above 1")]
Share = Annotated[_Float, Field(gt=0, lt=1), Allowed("a number above 0 and below 1")]
Celsius = Annotated[_Float, Field(ge=-273.15, le=100), Allowed("a number from -273.15 to 100")]
Degrees = Annotated[_Float, Field(ge=-720, le=720), Allowed("an angle in degrees, from -720 to 720")]
Factors = Annotated[
    tuple[Positive, ...],
    BeforeValidator(_tuple),
    Field(min_length=1),
    PlainSerializer(list),
    Allowed("a list of numbers above 0, such as [0.5, 1.0]"),
]
Exposures = Annotated[
    tuple[Positive, ...],
    BeforeValidator(_tuple),
    PlainSerializer(list),
    Allowed("a list of seconds above 0, such as [60, 120]"),
]
Temperatures = Annotated[
    tuple[Celsius, ...],
    BeforeValidator(_tuple),
    PlainSerializer(list),
    Allowed("a list of numbers from -273.15 to 100, such as [-20, -10, 0]"),
]
Text = Annotated[
    str, BeforeValidator(_text), Strict(), AfterValidator(_check_text), Allowed("text on one line, not empty")
]
SyntheticBias = Annotated[
    str,
    BeforeValidator(_formula, json_schema_input_type=float | str),
    Strict(),
    AfterValidator(_check_formula),
    Allowed("a level in ADU of at least 0, or a formula of numbers and header cards such as 10 * OFFSET"),
]
_Place = Annotated[
    str,
    BeforeValidator(_text),
    Strict(),
    AfterValidator(_check_text),
    AfterValidator(_check_location),
    AfterValidator(_expand),
]
Directory = Annotated[
    _Place,
    AfterValidator(_refuse_folder_words),
    Allowed(
        "a path, in which ~ and variables that are set ($HOME) are expanded, or s3://bucket/prefix, without credentials"
        " (they come from the environment)"
    ),
]
CaptureDirectory = Annotated[
    _Place,
    AfterValidator(_check_folder_words),
    Allowed(
        "a path, in which ~ and variables that are set ($HOME) are expanded and {night}, {date} and {camera} stand for"
        " those of the frames, or s3://bucket/prefix, without credentials (they come from the environment)"
    ),
]
Endpoint = Annotated[
    str,
    BeforeValidator(_text),
    Strict(),
    Field(pattern=r"^https?://[A-Za-z0-9._\[\]:-]+(/[A-Za-z0-9._~/-]*)?$"),
    Allowed("an address such as https://nas:9000, without credentials (they come from the environment)"),
]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_tuple), PlainSerializer(list), Allowed("a list of texts")]
MemorySize = Annotated[
    int,
    BeforeValidator(parse_size, json_schema_input_type=int | str),
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
Settings = Annotated[
    tuple[Setting, ...],
    BeforeValidator(_tuple),
    PlainSerializer(list),
    Allowed("a list of numbers or labels, such as [0, 100]"),
]
ReadoutModes = Annotated[
    tuple[ReadoutMode, ...],
    BeforeValidator(_tuple),
    PlainSerializer(list),
    Allowed("a list of whole numbers of at least 0 or names"),
]
ImageSection = Annotated[
    str,
    BeforeValidator(_text),
    Strict(),
    Field(pattern=r"^\s*\[?\s*(\d+\s*:\s*\d+|[*:])\s*,\s*(\d+\s*:\s*\d+|[*:])\s*\]?\s*$"),
    Allowed('a section as FITS writes it, columns first, from 1 (in quotes), such as "[1025:1056,:]"'),
]
PolynomialDegree = Annotated[
    int, BeforeValidator(read_number), Strict(), Field(ge=1, le=20), Allowed("a whole number from 1 to 20")
]
_Pixels = Annotated[int, Strict(), Field(ge=1, le=64)]
Binning = Annotated[
    tuple[_Pixels, _Pixels],
    BeforeValidator(_binning, json_schema_input_type=_Pixels | tuple[_Pixels, _Pixels]),
    PlainSerializer(lambda value: value[0] if value[0] == value[1] else list(value)),
    Allowed("a whole number from 1 to 64, or two of them as [x, y]"),
]

Binnings = Annotated[
    tuple[Binning, ...],
    BeforeValidator(_tuple),
    PlainSerializer(list),
    Allowed("a list of whole numbers from 1 to 64, or of pairs [x, y], such as [1, 2]"),
]

ClusterStart = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_cluster_start),
    Allowed("class and its arguments, such as {class: dask_jobqueue.SLURMCluster, cores: 8, memory: 16GB}, or null"),
]

Kinds = Annotated[
    dict[str, Literal["bias", "dark", "flat", "light"]],
    BeforeValidator(_kinds),
    Allowed("folders or patterns, each with bias, dark, flat or light, such as {darks/2026: dark, '*_f.fits': flat}"),
]

FrameCount = Literal["auto"] | Count
StripRows = Literal["auto"] | Count
Retries = Annotated[
    int, BeforeValidator(read_number), Strict(), Field(ge=0, le=100), Allowed("a whole number from 0 to 100")
]


def to_plain(value: Any) -> Any:
    """Return a value as plain dicts, lists, text and numbers; keys of drivers may hold anything."""
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value)


def type_of(method_key: MethodKey) -> Any:
    """Return the type of a key that a rejection method declares."""
    if isinstance(method_key.kind, tuple):
        return Literal[method_key.kind]

    def check(value: float) -> float:
        if not method_key.accepts(value):
            raise ValueError
        return value

    number: Any = _Int if method_key.kind is int else _Float
    checked = Annotated[number, AfterValidator(check), Allowed(method_key.allowed)]
    return checked | None if method_key.or_null else checked


def key(default: object, meaning: str, unit: str = "", *, is_secret: bool = False) -> Any:
    """Declare a key: its default, a sentence for the reference, its unit. ``Any``, as pydantic's own ``Field``.

    Messages do not show the value of a secret.
    """
    return Field(default=default, description=meaning, json_schema_extra={"unit": unit, "is_secret": is_secret})


class Section(BaseModel):
    """Keys that belong together; frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class OpenSection(Section):
    """A section that passes keys it does not know: drivers have extras."""

    model_config = ConfigDict(extra="allow")

    @property
    def extras(self) -> dict[str, object]:
        """The keys that are not ours; values from a file are text as written."""
        return {name: to_plain(value) for name, value in (self.model_extra or {}).items()}


def word_is_source(value: object) -> object:
    """Replace a word (``auto``) by a group with that word as its ``source``, and an empty group by its defaults."""
    return {"source": value} if isinstance(value, str) else empty_is_default(value)


def empty_is_default(value: object) -> object:
    """Replace a group whose keys are all commented out by the group of defaults."""
    return {} if value is None else value
