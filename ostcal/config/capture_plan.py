"""A capture plan: a YAML file with a list of series, as `ostcal coverage --plan` writes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ostcal.config.given import one_line
from ostcal.config.problems import PROBLEM_LIMIT, allowed_words, as_written, join_words, nearest
from ostcal.config.values import (
    Binning,
    Celsius,
    Count,
    Degrees,
    NotNegative,
    ReadoutMode,
    Section,
    Setting,
    Text,
)
from ostcal.config.yaml_file import read_yaml
from ostcal.errors import ConfigError

MOST_SERIES = 5000
"""Series in a plan; a night has room for some hundred."""


class PlanEntry(Section):
    """One series of a plan; absent keys are as the configuration says."""

    kind: Literal["bias", "dark", "flat"]
    exposure: NotNegative | None = None
    """Seconds; null is found for flats, the shortest for bias, and that of science frames for darks."""
    count: Count
    gain: Setting = None
    offset: Setting = None
    binning: Binning | None = None
    readout_mode: ReadoutMode = None
    filter: Text | None = None
    temperature: Celsius | None = None
    rotation: Degrees | None = None


def load_capture_plan(path: str | os.PathLike[str]) -> tuple[PlanEntry, ...]:
    """Read and check a capture plan.

    Parameters
    ----------
    path : str or path
        A YAML file with the key ``series``: a list of mappings.

    Returns
    -------
    tuple of PlanEntry
        The series in the order of the file; none if nothing is to be taken.

    Raises
    ------
    ConfigError
        One line for every problem, with file, series, key, value and what is allowed.
    """
    given = read_yaml(os.fspath(path), ours=("series",), what="the plan")
    label = given.label
    if given.problems:
        raise ConfigError("\n".join(str(problem) for problem in given.problems[:PROBLEM_LIMIT]))
    series = given.values.get("series")
    others = [str(name) for name in given.values if name != "series"]
    if others or not isinstance(series, list):
        found = f"the key {one_line(others[0])} is unknown" if others else f"series is {as_written(series)}"
        raise ConfigError(f"{label}: {found}; a capture plan has one key, series, with a list of series")
    if len(series) > MOST_SERIES:
        raise ConfigError(f"{label}: {len(series)} series; at most {MOST_SERIES} are possible, take several plans")
    entries, problems = [], []
    for number, values in enumerate(series, 1):
        entry = f"{label}: series {number}"
        try:
            entries.append(_entry(values))
        except ValidationError as error:
            problems += [f"{entry}: {_explained(values, detail)}" for detail in error.errors(include_url=False)]
        except ConfigError as error:
            problems.append(f"{entry}: {error}")
        if len(problems) > PROBLEM_LIMIT:
            break
    if problems:
        more = [f"{label}: more problems follow"] if len(problems) > PROBLEM_LIMIT else []
        raise ConfigError("\n".join([*dict.fromkeys(problems[:PROBLEM_LIMIT]), *more]))
    return tuple(entries)


def _entry(values: object) -> PlanEntry:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{as_written(values)} is not allowed; write kind, exposure, count and what else is known")
    entry = PlanEntry.model_validate(values)
    if entry.kind != "bias" and entry.exposure == 0:
        raise ConfigError(f"exposure: 0 is not allowed for {entry.kind}s; write seconds above 0, or leave it out")
    if entry.kind != "flat":
        for name in ("filter", "rotation"):
            if (value := getattr(entry, name)) is not None:
                raise ConfigError(f"{name}: {as_written(value)} is not allowed for {entry.kind} frames; leave it out")
    return entry


def _explained(values: Mapping[object, object], detail: ErrorDetails) -> str:
    """Put one refusal into words: key, value, what is allowed."""
    name = str(detail["loc"][0]) if detail["loc"] else ""
    entry = PlanEntry.model_fields.get(name)
    if entry is None:
        near = nearest(name, list(PlanEntry.model_fields))
        hint = (
            f"did you mean {near}?" if near else f"the keys of a series are {join_words(list(PlanEntry.model_fields))}"
        )
        return f"{one_line(name)}: unknown key; {hint}"
    allowed = allowed_words(entry.annotation, entry.metadata)
    if detail["type"] == "missing":
        return f"{name}: no value; write {allowed}"
    return f"{name}: {as_written(values.get(name))} is not allowed; write {allowed}"
