"""What users should know of how frames were read: a line for each remark, however many frames it is about."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ostcal.frames import FrameMetadata
from ostcal.printable import IN_LOG_ONLY

logger = logging.getLogger(__name__)

_MOST_NAMES = 5
"""Files that a line names; of more it says how many."""
_MOST_SAME = 3
"""Lines about several subjects that say the same; more are one line."""
_MOST_ALIKE = 5
"""Lines that differ in numbers alone; more are one line."""
_MOST_LOGGED = 20_000
"""Names of files that one run writes into the log: 1 MB at most, as a rule."""
_NUMBERS = re.compile(r"[-+]?\d[\d.e+-]*|\[[^\]]*\]")
"""Numbers, and extensions in brackets."""


def remark_lines(frames: Iterable[tuple[str, FrameMetadata]]) -> list[str]:
    """Return a line for each remark: the first frame it is about, and how many more there are."""
    about: dict[str, list[str]] = defaultdict(list)
    for label, metadata in frames:
        for remark in metadata.remarks:
            about[remark].append(label)
    return [
        f"{labels[0]}{f' and {len(labels) - 1} more' if len(labels) > 1 else ''}: {remark}"
        for remark, labels in about.items()
    ]


def folded_lines(lines: Iterable[str]) -> list[str]:
    """Return one line for what is said alike: the first, with the names of a few others and the number of the rest.

    Lines are alike if all behind their subject, which ends at the first colon, is the same or differs in numbers
    alone. A few of them stay as they are.
    """
    same: dict[str, list[str]] = {}
    for line in dict.fromkeys(lines):
        subject, colon, said = line.partition(": ")
        same.setdefault(said if colon else line, []).append(subject)
    alike: dict[str, list[tuple[list[str], str]]] = {}
    for said, subjects in same.items():
        is_whole = subjects == [said]
        key = said if is_whole else _NUMBERS.sub("#", said.replace(subjects[0], "#"))
        is_told_each = len(subjects) <= _MOST_SAME
        told = [([subject], said) for subject in subjects] if is_told_each else [(subjects, said)]
        alike.setdefault(key, []).extend([([], said)] if is_whole else told)
    folded = []
    for found in alike.values():
        if len(found) > _MOST_ALIKE:
            found = [([subject for subjects, _ in found for subject in subjects], found[0][1])]
        for subjects, said in found:
            folded.append(f"{subjects[0]}: {said}{_the_same_of(subjects[1:])}" if subjects else said)
    return folded


def refusal_lines(errors: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each reason for which files cannot be used, from their paths and messages.

    Of a few folders each has its own line. Reasons are alike if they differ in numbers alone; a few of them stay as
    they are.
    """
    alike: dict[str, dict[str, list[str]]] = {}
    others: list[str] = []
    for path, message in errors:
        if message.startswith(path):
            reason = message.removeprefix(path)
            alike.setdefault(_NUMBERS.sub("#", reason), {}).setdefault(reason, []).append(path)
        else:
            others.append(message)
    lines: list[tuple[str, str]] = []
    for reasons in alike.values():
        if len(reasons) > _MOST_ALIKE:
            reasons = {next(iter(reasons)): [path for paths in reasons.values() for path in paths]}
        for reason, paths in reasons.items():
            folders: dict[str, list[str]] = defaultdict(list)
            for path in paths:
                folders[os.path.dirname(path)].append(path)
            told = list(folders.values()) if len(folders) <= _MOST_SAME else [paths]
            lines += [(first, f"{first}{reason}{_the_same_of(more)}") for first, *more in told]
    return [*(line for _, line in sorted(lines)), *others]


def log_refusals(errors: Iterable[tuple[str, str]]) -> None:
    """Write the names of files that cannot be used into the log; the screen has `refusal_lines`, which name a few."""
    _log_names((path, message.removeprefix(path)) for path, message in errors)


def log_folded(lines: Iterable[str]) -> None:
    """Write the subjects of lines that say the same into the log; the screen has `folded_lines`, which name a few."""
    parts = (line.partition(": ") for line in dict.fromkeys(lines))
    _log_names((subject, f": {said}") for subject, colon, said in parts if colon)


def _log_names(said: Iterable[tuple[str, str]]) -> None:
    """Write names into the log, by folder and by what is said of them, where these are more than a line names."""
    about: dict[str, dict[str, list[str]]] = {}
    for path, reason in said:
        about.setdefault(_NUMBERS.sub("#", reason), {}).setdefault(f"{os.path.dirname(path)}{reason}", []).append(path)
    left = _MOST_LOGGED
    for alike in about.values():
        if sum(map(len, alike.values())) <= _MOST_NAMES:
            continue
        for line, paths in alike.items():
            if left <= 0:
                return
            more = f" and {len(paths) - left} more" if len(paths) > left else ""
            logger.info("%s: %s%s", line, ", ".join(map(os.path.basename, paths[:left])), more, extra=IN_LOG_ONLY)
            left -= len(paths)


def _the_same_of(paths: Sequence[str]) -> str:
    """Return the names of paths behind what is said of another; frames of a series have one name together."""
    named = Counter(map(os.path.basename, paths))
    told = dict(list(named.items())[:_MOST_NAMES])
    names = ", ".join(name if times == 1 else f"{name} ({times} times)" for name, times in told.items())
    n_more = len(paths) - sum(told.values())
    more = f" and {n_more} more" if n_more else ""
    return f"; the same of {names}{more}" if paths else ""
