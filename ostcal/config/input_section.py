"""The section ``input``: where the frames are that masters are made from, and what they are."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from ostcal.config.values import Allowed, CaptureDirectory, Kinds, Section, key


def _one_or_more(value: object) -> object:
    """Convert one folder to a tuple of it, and a list to a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


_Folders = Annotated[
    tuple[CaptureDirectory, ...],
    BeforeValidator(_one_or_more, json_schema_input_type=str | list[str]),
    PlainSerializer(list),
    Allowed(
        "a folder, a file or a list of them, such as [/data/2026-11-21, ~/flats], in which ~ and variables that are set"
        " ($HOME) are expanded and {night}, {date} and {camera} stand for all of them, or s3://bucket/prefix"
    ),
]


class InputSection(Section):
    """Frames that masters are made from."""

    dirs: _Folders = key(
        (),
        "Folders with bias frames, darks and flats, also mixed; all folders below are searched. Without them masters"
        " are made from dark_capture.output_dir and flat_capture.output_dir.",
    )
    kinds: Kinds = key(
        {},
        "Kinds of the frames below folders, or of files that fit patterns; the first that fits a frame counts,"
        " whatever its header says.",
    )
