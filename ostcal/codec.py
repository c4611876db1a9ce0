"""JSON of dataclasses: their type hints say what is written and what is accepted when it is read again.

Times are written in UTC with a Z, words (`StrEnum`) as text, tuples as lists; numbers must be finite. What was read
is complete and checked: every value has its type and is within its bounds, or a `ValueError` of one line names it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import sys
import types
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

_T = TypeVar("_T")

_MEANINGS: Final[Mapping[Any, str]] = {
    str: "is not a text",
    int: "is not a whole number",
    float: "is not a finite number",
    bool: "is neither true nor false",
    datetime: "is not a time such as 2026-11-21T08:42:00Z",
    date: "is not a date such as 2026-11-21",
}


CHECKSUM_KEY: Final = "checksum"
"""Key of a document's checksum of itself."""


def between(lowest: float, highest: float) -> msgspec.Meta:
    """Return the bounds of a number, for `typing.Annotated`; bounds of ``int`` are those of a whole number."""
    kind = "whole number" if isinstance(highest, int) else "number"
    return msgspec.Meta(ge=lowest, le=highest, description=f"is not a {kind} from {lowest} to {highest}")


def matching(pattern: str, meaning: str) -> msgspec.Meta:
    """Return the pattern that a whole text must match, for `typing.Annotated`; errors call it `meaning`."""
    return msgspec.Meta(pattern=rf"\A(?:{pattern})\Z", description=f"is not {meaning}")


def to_values(value: Any) -> Any:
    """Return a dataclass, or lists and mappings of them, as JSON values."""
    return json.loads(to_json(value))


def to_json(value: Any, *, indent: int | None = None) -> bytes:
    """Return a dataclass, or lists and mappings of them, as JSON in ASCII: one line, or indented for people.

    numpy's numbers become plain ones.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    values = msgspec.to_builtins(value, builtin_types=(datetime,), enc_hook=_plain_number)
    separators = (",", ":") if indent is None else None
    return json.dumps(values, default=_utc_text, allow_nan=False, indent=indent, separators=separators).encode("ascii")


def to_values_with_nulls(value: Any) -> Any:
    """Return a dataclass as JSON values in which numbers that are not finite are ``None``.

    numpy's numbers become plain ones; times have milliseconds: ``2026-11-21T19:02:15.000Z``.
    """
    return _with_nulls(msgspec.to_builtins(value, builtin_types=(datetime,), enc_hook=_plain_number))


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain_number(value: Any) -> Any:
    """Return one of numpy's scalars as a plain number; this module does not import numpy."""
    if not hasattr(value, "item"):
        raise TypeError(f"{value!r} has no form in JSON")
    return value.item()


def _utc_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{value!r} has no form in JSON")


def from_json(kind: type[_T], data: bytes) -> _T:
    """Read a dataclass from JSON of unknown origin; see `from_values`."""
    return from_values(kind, parse_json(data))


def json_reader(kind: type[_T]) -> Callable[[bytes], _T]:
    """Return `from_json` of a dataclass for thousands of documents: what is right is read in a quarter of the time."""
    decoder = msgspec.json.Decoder(kind)

    def read(data: bytes) -> _T:
        try:
            decoded: _T = _in_utc(decoder.decode(data), "")
        except (msgspec.DecodeError, RecursionError):
            return from_json(kind, data)
        return decoded

    return read


def from_values(kind: type[_T], values: Any) -> _T:
    """Read a dataclass from JSON values; keys that it does not know are left out.

    Raises
    ------
    ValueError
        With the key, its value and what it should be, in one line.
    """
    try:
        decoded: _T = _in_utc(msgspec.convert(values, kind, strict=True), "")
    except msgspec.ValidationError as error:
        raise ValueError(_reason(str(error), kind, values)) from error
    return decoded


def checksum_of(values: Mapping[str, Any]) -> str:
    """Return the checksum of a JSON object: ``crc32:`` and eight hexadecimal digits.

    It is that of the keys in their order, without spaces, all beyond ASCII escaped, whole numbers without a point, so
    that a program that writes the object again in another form keeps it. A key ``checksum`` is left out.
    """
    plain = {key: value for key, value in values.items() if key != CHECKSUM_KEY}
    text = json.dumps(_whole_as_int(plain), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"crc32:{zlib.crc32(text.encode('ascii')):08x}"


def check_document(values: Any) -> bool:
    """Return whether a JSON object has a checksum of itself; ValueError where that is not its own."""
    if not isinstance(values, dict) or CHECKSUM_KEY not in values:
        return False
    if values[CHECKSUM_KEY] != checksum_of(values):
        raise ValueError(
            f"it is not what was written: its checksum is {shortened(values[CHECKSUM_KEY])}, it has"
            f" {checksum_of(values)}"
        )
    return True


def _whole_as_int(value: Any) -> Any:
    """Return JSON values with whole numbers as integers: some programs write 5.0 as 5."""
    if isinstance(value, dict):
        return {key: _whole_as_int(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_as_int(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def schema_digest(kind: Any) -> str:
    """Return what changes when a dataclass, or one that it holds, gets other fields or types."""
    seen: dict[str, str] = {}

    def visit(hint: Any) -> None:
        for inner in get_args(hint):
            visit(inner)
        if dataclasses.is_dataclass(hint) and (name := getattr(hint, "__qualname__", "")) not in seen:
            hints = get_type_hints(hint)
            seen[name] = repr({field.name: hints[field.name] for field in dataclasses.fields(hint)})
            for inner in hints.values():
                visit(inner)

    visit(kind)
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def parse_json(data: bytes) -> Any:
    """Read JSON of unknown origin: ValueError for whatever is wrong with it, NaN and endless nesting included."""
    try:
        return json.loads(data, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_finite_whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"it holds {shortened(text)}, which is not a finite number")
    return value


def _finite_whole(text: str) -> int:
    if len(text) > sys.float_info.max_10_exp:
        raise ValueError(f"it holds {shortened(text)}, which is not a finite number")
    return int(text)


def shortened(value: object) -> str:
    """Return a value as an error shows it, of 60 characters at most."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _in_utc(value: Any, key: str) -> Any:
    """Return a decoded value with all times in UTC."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{key}: {value.isoformat()!r} has no time zone; write UTC with a Z")
        try:
            return value if value.tzinfo is UTC else value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(f"{key}: {value.isoformat()!r} is out of range") from error
    kind: Any = type(value)
    if kind is tuple:
        return tuple(_in_utc(item, key) for item in value)
    changes = {}
    for name in _fields_with_times(kind):
        before = getattr(value, name)
        after = before if before is None else _in_utc(before, f"{key}: {name}" if key else name)
        if after is not before:
            changes[name] = after
    return dataclasses.replace(value, **changes) if changes else value


@functools.cache
def _fields_with_times(kind: Any) -> tuple[str, ...]:
    """Return the fields of a dataclass that may hold times: looking at all took longer than reading a record."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(name for name, hint in get_type_hints(kind).items() if _may_hold_times(hint))


def _may_hold_times(hint: Any) -> bool:
    is_object = dataclasses.is_dataclass(hint)
    return (
        hint is datetime or any(map(_may_hold_times, get_args(hint))) or (is_object and bool(_fields_with_times(hint)))
    )


def _reason(error: str, hint: Any, value: Any) -> str:
    """Say what is wrong with JSON values that msgspec refused, by the place that it names: ``$.metadata.width``."""
    message, _, path = error.partition(" - at `$")
    words = []
    for key, position in re.findall(r"\.(\w+)|\[(\d+)\]", path.partition("[...]")[0]):
        hint = _without_none(hint)
        if key:
            words.append(f"{key}: ")
            hint, value = get_type_hints(hint, include_extras=True)[key], value[key]
        else:
            inner = get_args(hint)
            hint, value = inner[0 if inner[-1] is Ellipsis else int(position)], value[int(position)]
    missing = re.search("missing required field `(\\w+)`", message)
    return "".join(words) + (f"{missing[1]} is missing" if missing else _not_a(_without_none(hint), value))


def _without_none(hint: Any) -> Any:
    """Return the type of an optional value."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(option for option in get_args(hint) if option is not types.NoneType)
    return hint


def _not_a(hint: Any, value: Any) -> str:
    """Say that a JSON value is not of a type, in the words of its bounds where it has some."""
    if get_origin(hint) is Annotated:
        return f"{shortened(value)} {hint.__metadata__[0].description}"
    if dataclasses.is_dataclass(hint):
        return "it is not a JSON object"
    if get_origin(hint) is tuple:
        return f"{shortened(value)} is not a {'list' if get_args(hint)[-1] is Ellipsis else 'pair of numbers'}"
    return f"{shortened(value)} {_MEANINGS.get(hint) or f'is not a valid {hint.__name__}'}"
