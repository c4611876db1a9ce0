"""A rejection method from its name and the keywords of a call, with the checks that the configuration makes."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ostcal.engine.rejection import METHOD_KEYS, METHODS, MethodKey, RejectionMethod
from ostcal.errors import InputError

_OTHER_WORDS: Final[Mapping[str, str]] = {"mean": "none", "average": "none", "no": "none", "sigmaclip": "sigma_clip"}
"""What other programs call a method."""


def method_of(name: object, keywords: Mapping[str, Any]) -> RejectionMethod:
    """Return the method of a name, with values for its keys.

    Raises
    ------
    InputError
        If there is no such method or key, the key is of another method, or the value is not allowed.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"method={name!r} is not known{nearest(str(name), METHODS, _OTHER_WORDS)}")
    method = METHODS[name]
    for word in keywords:
        if word not in METHOD_KEYS:
            raise InputError(f"{word} is no keyword of combine{nearest(word, METHOD_KEYS)}")
        if word not in method.keys:
            owners = [other.name for other in METHODS.values() if word in other.keys]
            raise InputError(f"{word} is a keyword of method {' and '.join(owners)}, not of {name}; leave it out")
    settings = {word: _checked(word, keywords.get(word, key.default), key) for word, key in method.keys.items()}
    if settings.get("clip_spread") == "noise":
        raise InputError(
            "clip_spread='noise' needs read noise and gain, which ostcal masters measures on bias frames and flats; "
            "combine takes 'auto', 'std' or 'mad'"
        )
    return method.from_settings(settings)


def nearest(word: str, known: Iterable[str], other_words: Mapping[str, str] | None = None) -> str:
    """Return the end of a message that names what was probably meant, and what is known."""
    names = list(known)
    other = (other_words or {}).get(word.lower().replace("-", "").replace("_", ""))
    close = [other] if other else difflib.get_close_matches(word.lower(), names, n=1)
    return f"; did you mean {close[0]}? Known are {', '.join(names)}" if close else f"; known are {', '.join(names)}"


def _checked(word: str, value: Any, key: MethodKey) -> Any:
    """Return a value as the method takes it."""
    if value is None and key.or_null:
        return None
    if isinstance(key.kind, tuple):
        if value not in key.kind:
            raise InputError(f"{word}={value!r} is not allowed; write one of {', '.join(key.kind)}")
        return value
    is_number = isinstance(value, numbers.Integral if key.kind is int else numbers.Real) and not isinstance(value, bool)
    if not is_number or not key.accepts(key.kind(value)):
        null = " or None" if key.or_null else ""
        raise InputError(f"{word}={value!r} is not allowed; write {key.allowed}{null}")
    return key.kind(value)
