"""What users should know of how frames were read: a line for each remark, however many frames it is about."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ostcal.frames import FrameMetadata

_MOST_NAMES = 20
"""Files that a line names; of more it says how many, and the log of ``--debug`` names them."""


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
