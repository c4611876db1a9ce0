"""`ostcal report`: the report of the masters on disk once more."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Sequence

import click

from ostcal.cli.console import debug_option, errors_to_exit_codes, open_console, reach_objects, start_logging
from ostcal.config import Config, load_config, resolved_values, without_endpoint

logger = logging.getLogger("ostcal")

EXAMPLES = """\b
Examples:
  ostcal report --config night.yaml
  ostcal report --config night.yaml --all      (also masters of which there is a newer one)
"""


@click.command("report", epilog=EXAMPLES)
@click.option("--config", "config_path", required=True, type=click.Path(), help="The configuration file (YAML).")
@click.option("--all", "everything", is_flag=True, help="All masters, not only the newest of each kind and setting.")
@debug_option
def report_command(config_path: str, everything: bool, debug: bool, log_level: str) -> None:
    """Write the report of the masters in master_frames.output_dir once more: a page and a JSON file beside them.

    It shows what was measured when the masters were made; nothing is combined again.
    """
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug):
        config = load_config(config_path)
        reach_objects(config)
        write_report_of(config, _all_names(config) if everything else None)
    sys.exit(0)


def write_report_of(config: Config, only: Collection[str] | None = None, left_out: Sequence[str] = ()) -> None:
    """Write the report of masters (all newest ones without names) and print where it is."""
    from ostcal.report.making import make_report

    html, json_path = make_report(
        config.master_frames.output_dir,
        only=only,
        temperature_tolerance_c=config.master_frames.temperature_tolerance,
        config_file=config.source,
        settings=resolved_values(without_endpoint(config)),
        left_out=left_out,
    )
    logger.info("report: %s and %s", html, json_path.name)


def _all_names(config: Config) -> list[str]:
    from ostcal.library.find import find_masters

    return [master.record.name for master in find_masters(config.master_frames.output_dir)]
