"""The `ostcal` command: options, progress, tables and exit codes; everything else is below.

Exit codes: 0 everything asked was made (frames left out are warnings), 1 something asked could not be made,
2 wrong configuration or usage, 130 interrupted.
"""

from __future__ import annotations

import click

from ostcal._version import __version__
from ostcal.cli.masters import masters
from ostcal.cli.transfer import export_command, import_command

EXAMPLES = """\b
Examples:
  ostcal masters --config config_calibration_frames.yaml
  ostcal masters --config night.yaml --flats-only --normalization-method median
  ostcal import darks flats --config night.yaml
  ostcal export darks/exp_5.000s.zarr --to exported

\b
Shell completion (bash; zsh and fish likewise):
  eval "$(_OSTCAL_COMPLETE=bash_source ostcal)"

Exit codes: 0 everything asked was made, 1 something could not be made, 2 wrong configuration or usage.
"""


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ostcal")
def main() -> None:
    """Calibration frames of astronomical cameras: master bias, darks and flats from frames of any size."""


main.add_command(masters)
main.add_command(import_command)
main.add_command(export_command)
