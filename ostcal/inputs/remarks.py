"""What users should know of how frames were read: a line for each remark, however many frames it is about."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ostcal.frames import FrameMetadata

_MOST_NAMES = 5
"""Files that a line names; of more it says how many."""
_MOST_SAME = 3
"""Lines about several subjects that say the same; more are one line."""
_MOST_ALIKE = 5
"""Lines that differ in numbers alone; more are one line."""
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
    """Return a line for each reason for which files of a folder cannot be used, from their paths and messages."""
    about: dict[tuple[str, str], list[str]] = defaultdict(list)
    others: list[str] = []
    for path, message in errors:
        if message.startswith(path):
            about[os.path.dirname(path), message.removeprefix(path)].append(path)
        else:
            others.append(message)
    return [*(f"{paths[0]}{reason}{_the_same_of(paths[1:])}" for (_, reason), paths in about.items()), *others]


def _the_same_of(paths: Sequence[str]) -> str:
    names = ", ".join(map(os.path.basename, paths[:_MOST_NAMES]))
    more = f" and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else ""
    return f"; the same of {names}{more}" if paths else ""
