"""`ostcal library`: the masters there are."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from ostcal.cli.console import debug_option, errors_to_exit_codes, open_console, reach_objects, start_logging
from ostcal.config import load_config
from ostcal.errors import InputError

if TYPE_CHECKING:
    from ostcal.library.find import LibraryMaster

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal library --config night.yaml
  ostcal library --config night.yaml --json | jq '.masters[] | select(.verdict == "fail") | .name'
"""

_COLUMNS = (
    "kind", "exposure", "filter", "gain", "offset", "binning",
    "temperature", "size", "frames", "age", "verdict", "name",
)  # fmt: skip
_TO_THE_RIGHT = ("exposure", "gain", "offset", "temperature", "frames", "age")


@click.command("library", epilog=EXAMPLES)
@click.option("--config", "config_path", required=True, type=click.Path(), help="The configuration file (YAML).")
@click.option("--json", "as_json", is_flag=True, help="Write the list as JSON to standard output.")
@debug_option
def library_command(config_path: str, as_json: bool, debug: bool, log_level: str) -> None:
    """List the masters in master_frames.output_dir: settings, temperature, frames, age, verdict.

    Both those in the master store and FITS masters of any program are listed. Damaged ones are named as warnings. The
    verdict is that of the quality control: pass, warn or fail; masters that failed are not chosen by themselves.
    """
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        config = load_config(config_path)
        reach_objects(config)
        _show(config.master_frames.output_dir, as_json)
    sys.exit(0)


def _show(directory: str, as_json: bool) -> None:
    from ostcal.library.find import find_masters
    from ostcal.places.paths import is_dir

    if not is_dir(directory):
        raise InputError(f"{directory}: there is no such directory of masters; set master_frames.output_dir")
    masters = sorted(find_masters(directory), key=_order)
    now = datetime.now(UTC)
    if as_json:
        click.echo(json.dumps({"directory": directory, "masters": [_as_dict(m, now) for m in masters]}, indent=2))
        return
    if not masters:
        logger.warning("%s: there are no masters; make some with ostcal masters", directory)
        return
    table = Table(title=f"Masters in {directory}", title_justify="left")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _TO_THE_RIGHT else "left", overflow="fold")
    for master in masters:
        table.add_row(*(Text(text) for text in _row(_as_dict(master, now))))
    open_console().print(table)


def _order(master: LibraryMaster) -> tuple[Any, ...]:
    key = master.key
    made = master.record.made_at.timestamp() if master.record.made_at else 0.0
    return (str(key.frame_type), key.filter_name or "", key.exposure_time_s, -made, master.record.name)


def _as_dict(master: LibraryMaster, now: datetime) -> dict[str, Any]:
    """Give a master as JSON values; ``None`` is "not recorded"."""
    key, record = master.key, master.record
    age_days = (now - record.made_at).total_seconds() / 86400 if record.made_at else None
    return {
        "name": record.name,
        "kind": str(key.frame_type),
        "exposure_time_s": key.exposure_time_s,
        "filter": key.filter_name,
        "camera": key.settings.camera,
        "camera_id": key.settings.camera_id,
        "gain": key.settings.gain,
        "offset": key.settings.offset,
        "binning": list(key.settings.binning),
        "readout_mode": key.settings.readout_mode,
        "temperature_c": key.temperature_c,
        "width": key.width,
        "height": key.height,
        "bayer_pattern": key.bayer_pattern,
        "frames": record.n_frames,
        "made_at": record.made_at.isoformat() if record.made_at else None,
        "age_days": round(age_days, 3) if age_days is not None else None,
        "verdict": record.verdict,
        "calibration_id": record.calibration_id or None,
    }


def _row(values: dict[str, Any]) -> list[str]:
    def number(name: str, unit: str = "", decimals: str = "g") -> str:
        value = values[name]
        return "" if value is None else f"{value:{decimals}}{unit}"

    return [
        values["kind"],
        number("exposure_time_s", " s"),
        values["filter"] or "",
        number("gain"),
        number("offset"),
        "{}x{}".format(*values["binning"]),
        number("temperature_c", " C"),
        f"{values['width']}x{values['height']}",
        number("frames"),
        number("age_days", " d", ".0f"),
        values["verdict"] or "",
        values["name"],
    ]
