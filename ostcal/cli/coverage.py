"""`ostcal coverage`: which masters lights would be calibrated with, and what they lack."""

from __future__ import annotations

import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from ostcal.cli.console import (
    EXIT_FAILED,
    EXIT_QUALITY,
    ConfigOptions,
    command_console,
    config_option,
    debug_option,
    import_numba,
    masters_flags,
    masters_option,
    open_config,
    open_console,
)
from ostcal.cli.json_output import JsonCommand, json_record
from ostcal.cli.tables import Table
from ostcal.errors import StorageError
from ostcal.printable import printable

if TYPE_CHECKING:
    from ostcal.science.cover import Coverage, FramesToTake, KindCover, LightGroup, TakenMaster

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal coverage lights --masters masters
  ostcal coverage lights --config night.yaml
  ostcal coverage lights --config night.yaml --plan plan.yaml
  ostcal coverage lights --config night.yaml --json | jq '.coverage.frames_to_take[] | .kind'

\b
Exit codes: 0 all lights are covered, 1 a file could not be used, 2 wrong configuration or options,
3 masters are missing or too old.
"""

MOST_GROUPS_SHOWN = 200
"""Rows of the table of lights; --json lists all."""


@click.command("coverage", cls=JsonCommand, epilog=EXAMPLES)
@click.argument("lights", nargs=-1, required=True, metavar="LIGHTS...", type=click.Path())
@config_option
@masters_option
@click.option("--plan", "plan_path", type=click.Path(), metavar="F", help="Write the frames to take as a capture plan.")
@click.option("--overwrite", is_flag=True, help="Replace a plan that exists.")
@debug_option
def coverage_command(
    lights: tuple[str, ...],
    config_options: ConfigOptions,
    masters_dir: str | None,
    plan_path: str | None,
    overwrite: bool,
    debug: bool,
    log_level: str,
) -> None:
    """Say which masters lights would be calibrated with, and which frames are missing.

    LIGHTS are files, folders, or patterns in quotes. They are grouped by night, filter, exposure time, gain and
    temperature. For each group the bias, dark and flat are shown that ostcal calibrate would take, with their age and
    their distance in each setting, then what is missing or too old, and the frames to take. Nothing is calibrated.
    """
    with command_console(log_level, debug):
        import_numba()
        from ostcal.inputs.remarks import folded_lines
        from ostcal.science.coverage_api import coverage_of

        config = open_config(config_options, masters_flags(masters_dir))
        if plan_path is not None:
            _refuse_existing(plan_path, overwrite)
        coverage = coverage_of(config, lights)
        for line in folded_lines(coverage.warnings):
            logger.warning("%s", line)
        for line in folded_lines(coverage.errors):
            logger.error("%s", line)
        if plan_path is not None:
            _write_plan(coverage, plan_path)
        if record := json_record():
            record.put(coverage=replace(coverage, plan=plan_path), directory=coverage.masters_dir)
        else:
            _show(coverage, open_console())
    sys.exit(_exit_code(coverage))


def _exit_code(coverage: Coverage) -> int:
    if coverage.errors:
        return EXIT_FAILED
    return 0 if coverage.is_covered else EXIT_QUALITY


# ---- the plan ----


def _refuse_existing(path: str, overwrite: bool) -> None:
    from ostcal.places.paths import is_taken

    if is_taken(path) and not overwrite:
        raise StorageError(f"{path}: exists already; replace it with --overwrite or choose another name")


def _write_plan(coverage: Coverage, path: str) -> None:
    from ostcal.config.yaml_file import write_yaml
    from ostcal.places.durable import os_reason, write_atomically
    from ostcal.places.paths import path_of

    head = "# Frames that some lights lack, by ostcal coverage; null is found by trial exposures.\n"
    head += f"# Take them with: ostcal capture --plan {path} --config CONFIG\n"
    text = head + write_yaml(coverage.as_plan())
    try:
        write_atomically(path_of(path), text.encode("utf-8", "replace"), durable=True)
    except OSError as error:
        raise StorageError(f"{path}: the plan cannot be written: {os_reason(error)}; choose another place") from error
    n_series = len(coverage.frames_to_take)
    logger.info("plan: %s (%d series)", path, n_series)


# ---- tables ----


def _show(coverage: Coverage, console: Console) -> None:
    if coverage.groups:
        _lights_table(coverage.groups[:MOST_GROUPS_SHOWN]).print_to(console)
        if len(coverage.groups) > MOST_GROUPS_SHOWN:
            console.print(f"and {len(coverage.groups) - MOST_GROUPS_SHOWN} more groups; --json lists all")
        masters = list(_masters_rows(coverage.groups))
        if masters:
            columns = ("=kind", ">lights", ">age", "=verdict", "differs by", "/name")
            _filled("Masters", columns, masters).print_to(console)
    for line in _reasons(coverage.groups):
        console.print(Text(printable(line)), soft_wrap=True)
    if coverage.frames_to_take:
        _frames_table(coverage).print_to(console)
    elif coverage.is_covered:
        console.print(f"all {coverage.lights} lights are covered", highlight=False)


def _filled(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title, *columns)
    for row in rows:
        table.add_row(*row)
    return table


def _lights_table(groups: Sequence[LightGroup]) -> Table:
    keys_of_lights = ("=night", "filter", ">exposure", ">gain", ">temp", ">angle", *_OTHERS)
    columns = (*keys_of_lights, ">lights", "bias", "dark", "flat", "such as")
    others = _that_differ(groups)
    rows = [
        (
            group.night.isoformat() if group.night else "",
            group.filter or "",
            _number(group.exposure_time_s, " s"),
            _number(group.gain),
            _degrees(group.temperature_c),
            _number(group.rotation_deg),
            *others[number],
            str(group.lights),
            *map(_cover_text, (group.bias, group.dark, group.flat)),
            "",
        )
        for number, group in enumerate(groups)
    ]
    keys = [row[: len(keys_of_lights)] for row in rows]
    return _filled(
        "Lights",
        columns,
        [
            (*row[:-1], os.path.basename(group.first_light) if keys.count(key) > 1 else "")
            for row, key, group in zip(rows, keys, groups, strict=True)
        ],
    )


_OTHERS = ("camera", ">offset", "binning", "read mode", "size", "extension")
"""Columns that are shown only where groups differ in them; rows that are alike in all are told apart by a light."""


def _that_differ(groups: Sequence[LightGroup]) -> list[tuple[str, ...]]:
    """Return the cells of these columns, empty where all groups are alike."""
    cells = [
        (
            " ".join(word for word in (group.camera, group.camera_id) if word),
            _number(group.offset),
            f"{group.binning[0]}x{group.binning[1]}",
            group.readout_mode or "",
            f"{group.width} x {group.height}",
            group.extension or "",
        )
        for group in groups
    ]
    differ = [len(set(column)) > 1 for column in zip(*cells, strict=True)]
    return [tuple(text if shown else "" for text, shown in zip(row, differ, strict=True)) for row in cells]


def _cover_text(cover: KindCover) -> str:
    """Say in a word or two how a kind covers lights: the age of its oldest master, or what is wrong."""
    ages = [master.age_days for master in cover.masters if master.age_days is not None]
    age = _days(max(ages, key=abs)) if ages else ""
    word = str(cover.state)
    if word == "covered":
        return age or "yes"
    if word in ("missing", "left out", "not needed"):
        return {"missing": "MISSING", "left out": "-", "not needed": "-"}[word]
    return f"{word} {age}".strip()


def _masters_rows(groups: Sequence[LightGroup]) -> Iterable[tuple[str, ...]]:
    taken: defaultdict[tuple[str, str], list[tuple[TakenMaster, int]]] = defaultdict(list)
    for group in groups:
        for cover in group.covers.values():
            for master in cover.masters:
                taken[str(master.kind), master.name].append((master, group.lights))
    for (kind, name), uses in sorted(taken.items()):
        ages = [master.age_days for master, _ in uses if master.age_days is not None]
        low, high = (min(ages), max(ages)) if ages else (None, None)
        span = "" if low is None or high is None else _days(high)
        if low is not None and high is not None and int(low) != int(high):
            span = f"{int(low)} to {span}"
        yield kind, str(sum(n for _, n in uses)), span, uses[0][0].verdict or "", _differences(uses), name


def _differences(uses: Sequence[tuple[TakenMaster, int]]) -> str:
    """Say the differences in each setting, of several lights from the lowest on, and what one side does not record."""
    units = {"exposure_time_s": "s", "temperature_c": "C", "rotation_deg": "deg"}
    said = []
    for name, unit in units.items():
        values = [value for master, _ in uses if (value := getattr(master.distances, name)) is not None]
        ends = [f"{round(value, 1) + 0.0:+.4g}" for value in (min(values), max(values))] if values else []
        if set(ends) - {"+0"}:
            said.append(f"{' to '.join(dict.fromkeys(ends))} {unit}")
    unrecorded = dict.fromkeys(name for master, _ in uses for name in master.distances.unrecorded)
    said += [f"no {name}" for name in unrecorded]
    return ", ".join(said)


def _reasons(groups: Sequence[LightGroup]) -> list[str]:
    """Return a line for each reason why lights are not covered, or covered with a warning."""
    about: defaultdict[str, list[LightGroup]] = defaultdict(list)
    for group in groups:
        for cover in group.covers.values():
            for reason in dict.fromkeys((cover.reason, *cover.warnings)):
                if reason:
                    about[reason].append(group)
    lines = []
    for reason, same in about.items():
        count = sum(group.lights for group in same)
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"{same[0].first_light}{more}: {reason}")
    return lines


def _frames_table(coverage: Coverage) -> Table:
    columns = (
        "=take", ">exposure", "filter", ">gain", ">offset", "=bin", "mode", ">temp", ">angle", ">frames", ">time",
        ">space",
    )  # fmt: skip
    rows = [_frames_row(series) for series in coverage.frames_to_take]
    total = (*[""] * 9, str(sum(s.frames for s in coverage.frames_to_take)), _time(coverage.time_s))
    rows.append(("all", *total[1:], _space(coverage.n_bytes)))
    return _filled("Frames to take", columns, rows)


def _frames_row(series: FramesToTake) -> tuple[str, ...]:
    exposure = "auto" if series.exposure_time_s is None else _number(series.exposure_time_s, " s")
    return (
        str(series.kind),
        exposure,
        series.filter or "",
        _number(series.gain),
        _number(series.offset),
        "{}x{}".format(*series.binning) if series.binning != (1, 1) else "",
        series.readout_mode or "",
        _degrees(series.temperature_c),
        _number(series.rotation_deg),
        str(series.frames),
        _time(series.time_s),
        _space(series.n_bytes),
    )


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.6g}{unit}"


def _degrees(temperature_c: float | None) -> str:
    return "" if temperature_c is None else f"{round(temperature_c, 1) + 0.0:g} C"


def _days(days: float) -> str:
    """Return whole days: what was taken half a day later is of no day."""
    return f"{int(days)} d"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _space(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
