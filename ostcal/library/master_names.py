"""Names of masters and of their files: format, flavour, time of the run."""

from __future__ import annotations

import os
import re

from ostcal.vocabulary import Flavour, MasterFormat

_ENDINGS: dict[MasterFormat, tuple[str, ...]] = {"fits": (".fits",), "xisf": (".xisf",), "both": (".fits", ".xisf")}

DEFECT_FOLDER = "defects"
"""Beside the masters: lists of their worst pixels, which the report writes."""
DEFECT_ENDINGS = (".csv", ".lst", ".txt", ".fits")
"""Of the four lists of a master, in the order in which they are written."""


def run_time_of(name: str) -> str:
    """Return the time of its run from the name of a master; "" where it has none."""
    found = re.search(r"_(\d{8}_\d{6})(?=_\d+$|\.|$)", name)
    return found[1] if found else ""


def untimed(name: str) -> str:
    """Return a name without the time of its run."""
    return re.sub(r"_\d{8}_\d{6}", "", name)


def file_name(name: str, flavour: Flavour) -> str:
    """Return the name of a master's FITS file; PixInsight's scripts know masters by names beginning with ``Master``."""
    (name,) = file_names(name, flavour, "fits")
    return name


def file_names(name: str, flavour: Flavour, file_format: MasterFormat) -> tuple[str, ...]:
    """Return the name of a master's file in each format."""
    if flavour == "pixinsight":
        _, kind, rest = name.split("_", 2)
        name = f"Master{kind.capitalize()}_{rest}"
    return tuple(name + ending for ending in _ENDINGS[file_format])


def defect_list_names(name: str) -> tuple[str, ...]:
    """Return the files that list the defects of a master, from the directory of the masters."""
    return tuple(f"{DEFECT_FOLDER}/defects_{name}{ending}" for ending in DEFECT_ENDINGS)


def name_of_file(path: str) -> str:
    """Return the name of a master from that of its file, whatever its format and flavour."""
    name = os.path.basename(path).split(".fit")[0].split(".fts")[0].removesuffix(".xisf")
    return re.sub(r"^Master(Bias|Dark|Flat)_", lambda found: f"master_{found[1].lower()}_", name)
