"""The `ostcal` command: options, progress, tables and exit codes.

Exit codes: 0 everything asked was made (frames left out are warnings), 1 something asked could not be made,
2 wrong configuration or usage, 3 everything was made but a master failed its quality control, 130 interrupted,
143 ended by SIGTERM.
"""

from __future__ import annotations

import atexit
import gc
import os
from importlib import import_module
from typing import Any

import click

from ostcal._version import __version__
from ostcal.cli.streams import lasting_streams

COMMANDS = {
    "workflow": ("ostcal.cli.capture:workflow_command", "Take darks and flats and combine them into masters."),
    "darks": ("ostcal.cli.capture:darks_command", "Take bias frames and darks."),
    "flats": ("ostcal.cli.capture:flats_command", "Take flats; the exposure time is found automatically."),
    "capture": ("ostcal.cli.capture_plan:capture_command", "Take the series of a plan, or of many settings."),
    "schedule": ("ostcal.cli.schedule:schedule_command", "Take what is due every night, unattended."),
    "masters": ("ostcal.cli.masters:masters", "Combine bias, dark and flat frames into masters."),
    "report": ("ostcal.cli.report:report_command", "Write the report of the masters again."),
    "library": ("ostcal.cli.list_library:library_command", "List the masters."),
    "calibrate": ("ostcal.cli.calibrate:calibrate_command", "Calibrate science frames with matching masters."),
    "coverage": ("ostcal.cli.coverage:coverage_command", "Say what lights lack: masters, their ages, frames to take."),
    "watch": ("ostcal.cli.watch:watch_command", "Make masters of a folder into which another program writes."),
    "import": ("ostcal.cli.import_export:import_command", "Copy FITS frames into zarr series."),
    "export": ("ostcal.cli.import_export:export_command", "Write a zarr series as FITS files, bit for bit."),
    "upload": (
        "ostcal.cli.upload_download:upload_command",
        "Copy series and master stores to an object store (s3://).",
    ),
    "download": ("ostcal.cli.upload_download:download_command", "Copy series and master stores from an object store."),
    "exclude": (
        "ostcal.cli.exclude:exclude_command",
        "Exclude frames of a series from masters, or include them again.",
    ),
    "verify": ("ostcal.cli.verify:verify_command", "Verify the checksums of series and masters on disk."),
    "prune": ("ostcal.cli.prune:prune_command", "Remove old masters, and raw series that are in verified masters."),
    "cameras": ("ostcal.cli.capture:cameras_command", "Find Alpaca servers in the network and list their devices."),
    "config": ("ostcal.cli.config_command:config_group", "Begin, show and check a configuration."),
    "simulate": ("ostcal.cli.simulate:simulate", "Run a simulated observatory (an Alpaca server)."),
}
"""The function of each command, imported when it is called, and its line in the help."""

EXAMPLES = """\b
Examples:
  ostcal /data/2026-11-21                              (what would be made of the frames there; nothing is written)
  ostcal masters /data/2026-11-21                      (makes it)
  ostcal calibrate lights --masters master_frames
  ostcal workflow --config night.yaml                  (camera, darks, flats, masters)
  ostcal schedule --config night.yaml --dry-run        (every night, unattended)
  ostcal masters --config night.yaml --flats-only --normalization-method median
  ostcal coverage lights --config night.yaml --plan plan.yaml
  ostcal import darks flats --config night.yaml
  ostcal export darks/exp_5.000s.zarr --to exported
  ostcal upload darks s3://observatory/2026-11-21/darks --config night.yaml

\b
Shell completion (bash; for zsh and fish use zsh_source and fish_source):
  eval "$(_OSTCAL_COMPLETE=bash_source ostcal)"

Exit codes: 0 success, 1 something could not be made, 2 wrong configuration or options, 3 a master failed its quality
control, 130 interrupted by Ctrl-C, 143 ended by SIGTERM.
"""


_GC_THRESHOLD = 50_000
"""New objects after which Python looks for garbage."""


class _LazyGroup(click.Group):
    """Commands that are imported when they are called, so that help and completion are fast."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command, and end in one line where the system refuses what it needs."""
        with lasting_streams(exit_code=1):
            try:
                return super().main(*arguments, **options)
            except (OSError, MemoryError, RuntimeError, ImportError) as error:
                from ostcal.cli.surroundings import refusal

                line = refusal(error)
                if line is None:
                    raise
                click.echo(f"error: {line}", err=True)
                raise SystemExit(1) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of an evening."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        # Nothing of what numba, Dask and zarr make at import is garbage. Looking for some every 700 objects takes 0.1 s
        # of a small run of 1.4 s, and looking through all of it once more at the end 0.25 s.
        gc.set_threshold(_GC_THRESHOLD)
        _refuse_clock()
        atexit.register(gc.freeze)
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a word; a file or a folder in its place is previewed."""
        word = args[0]
        if word in COMMANDS or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if os.path.lexists(word) or word.startswith("s3://"):
            from ostcal.cli.preview import preview_command

            return "FOLDER", preview_command, args
        from ostcal.cli.hints import no_such_command

        raise _said_as_json(no_such_command(word, COMMANDS, ctx), args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the command; those of a command stand behind it."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            command = next((word for word in given if word in COMMANDS), "COMMAND")
            hint = f"Options follow the command: ostcal {command} {error.option_name} ..."
            raise _said_as_json(click.UsageError(f"{error.message} {hint}", ctx=ctx), given) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _refuse_clock() -> None:
    from ostcal.cli.surroundings import clock_problem

    if problem := clock_problem():
        raise click.ClickException(problem)


def _said_as_json(error: click.UsageError, args: list[str]) -> click.UsageError:
    """Write the document of an error before any command, if ``--json`` asks for one; return the error."""
    if "--json" in args:
        from ostcal.cli.json_output import usage_document

        click.echo(usage_document("ostcal", error))
    return error


def _show_version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    from ostcal.compiled import kernel_cache

    click.echo(f"ostcal, version {__version__}")
    click.echo(f"compiled kernels: {kernel_cache()}")
    ctx.exit()


@click.group(
    cls=_LazyGroup,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and where the compiled kernels are kept.",
)
def main() -> None:
    """Take bias, dark and flat frames, combine them into masters, and calibrate science frames."""
