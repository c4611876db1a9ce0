"""Errors and warnings of a configuration, one line for each key: line, key, value and what is allowed."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic_core import ErrorDetails

from ostcal.config.given import GivenValues, KeyPath, Notice, one_line
from ostcal.config.sections import ALIASES, VideoSection, section_of, walk_keys
from ostcal.config.values import CREDENTIALS, Allowed, Escaped, OpenSection, Section

PROBLEM_LIMIT = 50
"""Problems listed in one error; a file with more of them is another program's."""


NAME_CUTOFF = 0.8
"""Where a name may well be somebody else's: ``master_frame`` is 0.96 near ``master_frames``, ``dark_frames`` 0.75."""
_LONGEST_WORD = 60
"""Characters of a word that are compared with known ones."""


def as_written(value: object) -> str:
    """Show a value as it would be written."""
    if isinstance(value, str):
        text = f'"{value.source}"' if isinstance(value, Escaped) else value
        return one_line(CREDENTIALS.sub("//***@", text))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a group of keys"
    if isinstance(value, (list, tuple)):
        return one_line("[" + ", ".join(as_written(item) for item in value[:10]) + "]")
    if isinstance(value, int) and abs(value) > 2**63:
        return "a number of more than 18 digits"  # str() of an int fails above 4300 digits
    return one_line(str(value)) if isinstance(value, (int, float)) else f"a {type(value).__name__}"


def join_words(words: Sequence[str], last: str = "and") -> str:
    """Join words: ``a, b and c``."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def allowed_words(annotation: object, metadata: Iterable[object] = ()) -> str:
    """Return the words for what a key takes, from its type; those of the outermost where types are nested."""
    for item in reversed(tuple(metadata)):
        if isinstance(item, Allowed):
            return item.text
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed_words(arguments[0], arguments[1:])
    if origin is Literal:
        return join_words(arguments, "or")
    if origin in (Union, types.UnionType):
        words = [allowed_words(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(words) + (", or null" if type(None) in arguments else "")
    return "keys below it"


def literal_words(annotation: object) -> list[str]:
    """Return the words that a key takes literally."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for argument in get_args(annotation) for choice in literal_words(argument)]


def explain(model: type[Section], section: str, given: GivenValues, detail: ErrorDetails) -> Notice:
    """Put one refusal of pydantic into words; its location also holds members of unions and items of lists."""
    path: KeyPath = (section,)
    owner, entry = model, None
    for part in detail["loc"]:
        name = str(part)
        path = (*path, name)
        entry = owner.model_fields.get(name)
        if entry is None:
            keys = list(owner.model_fields)
            hint = _hint(name, path, keys) or f"the keys here are {join_words(keys)}"
            return given.notice(path, f"unknown key; {hint}")
        sub = section_of(entry)
        if sub is None:
            break
        owner = sub
    if entry is None:
        return given.notice(path, f"not allowed: {one_line(detail['msg'])}")
    is_given, value = given.value(path)
    context = detail.get("ctx", {})
    if detail["type"] == "order":
        other = str(context["other"])
        default = "null" if entry.default is None else entry.default
        shown = as_written(value) if is_given else f"{default} (the default)"
        return given.notice(path, f"{shown} is not allowed; {one_line(detail['msg'])}", other=other)
    allowed = allowed_words(entry.annotation, entry.metadata)
    if value is None:
        default = f" (the default is {as_written(entry.default)})" if section_of(entry) is None else ""
        return given.notice(path, f"no value; write {allowed}, or leave the key out{default}")
    near = nearest(value, literal_words(entry.annotation)) if isinstance(value, str) else None
    hint = f"; did you mean {near}?" if near else ""
    extra = entry.json_schema_extra
    is_secret = isinstance(extra, dict) and bool(extra.get("is_secret"))
    shown = "this value" if is_secret else as_written(value)
    if escaped := _first_escaped(value):
        advice = backslash_hint("" if is_secret else escaped.source)
        return given.notice(path, f"{shown if is_secret else as_written(escaped)} is not allowed; {advice}")
    return given.notice(path, f"{shown} is not allowed; write {allowed}{'' if is_secret else hint}")


def _first_escaped(value: object) -> Escaped | None:
    """Return the text in double quotes whose backslashes are escapes, of a value or of the items of a list."""
    items = value if isinstance(value, list) else [value]
    return next((item for item in items if isinstance(item, Escaped)), None)


def backslash_hint(source: str) -> str:
    """Say how a path that stands in double quotes with single backslashes is written."""
    path = one_line(source) if source else ""
    single, forward = (f", '{path}',", f", {path.replace(chr(92), '/')}") if path else ("", "")
    return (
        "in double quotes a backslash begins an escape such as \\n; write a Windows path in single quotes"
        f"{single} or with forward slashes{forward}"
    )


def _hint(name: str, path: KeyPath, keys: Sequence[str], cutoff: float = 0.6) -> str:
    """Return where a key belongs or which known key it is nearest to, or an empty text."""
    here = (ALIASES.get(path[0], path[0]), *path[1:-1])
    places: dict[str, list[str]] = {}
    for known, _ in walk_keys():
        if known[:-1] != here:
            places.setdefault(known[-1], []).append(".".join(known[:-1]))
    if name in places:
        return f"it is a key of {join_words(places[name])}"
    if near := nearest(name, keys, cutoff):
        return f"did you mean {near}?"
    if near := nearest(name, list(places), NAME_CUTOFF):
        return f"did you mean {places[near][0]}.{near}?"
    return ""


def near_key(path: KeyPath) -> str:
    """Return the advice for a dotted key that is not one: the nearest, or how keys are written."""
    places = [known for known, _ in walk_keys()]
    same_name = [".".join(known) for known in places if known[-1] == path[-1]]
    if len(path) == 1 and len(same_name) > 1:
        return f"write {join_words(same_name, 'or')}"
    near = same_name[0] if len(same_name) == 1 else nearest(".".join(path), [".".join(known) for known in places])
    return f"did you mean {near}?" if near is not None else "write section.key"


def nearest(word: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """Find the known word that a misspelled one is nearest to; ``Sigma-Low`` is near ``sigma_low``."""
    plain = word.strip().lower().replace("-", "_").replace(" ", "_")[:_LONGEST_WORD]
    found = difflib.get_close_matches(plain, known, n=1, cutoff=cutoff)
    return found[0] if found else None


def report_problems(problems: Sequence[Notice], given: GivenValues) -> str:
    """Return one line for each key with a problem, in the order of the file."""
    first: dict[KeyPath, Notice] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)
    ordered = given.sorted(list(first.values()))
    rows = [str(problem) for problem in ordered[:PROBLEM_LIMIT]]
    if len(ordered) > PROBLEM_LIMIT:
        rows.append(f"{given.label}: {len(ordered) - PROBLEM_LIMIT} more problems")
    return "\n".join(rows)


def unknown_camera_keys(sections: Mapping[str, Section], given: GivenValues) -> Iterator[Notice]:
    """Find the keys of the camera's sections that are not ours."""
    video = sections.get("video")
    if video is None:
        return
    written = next(name for name in ("video", "camera") if name in given.values)
    groups = [((written,), video), *(((written, name), getattr(video, name)) for name in VideoSection.model_fields)]
    for path, group in groups:
        if not isinstance(group, OpenSection):
            continue
        model: type[OpenSection] = type(group)
        for name in group.extras:
            hint = _hint(name, (*path, name), list(model.model_fields), NAME_CUTOFF)
            text = "; ".join(filter(None, ("unknown key, left to the camera driver", hint)))
            yield given.notice((*path, name), text)


def doubtful_values(sections: Mapping[str, Any], given: GivenValues) -> Iterator[Notice]:
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
