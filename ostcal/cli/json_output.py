"""``--json``: one document on standard output when a command ends, however it ends; lines go to standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ostcal._version import __version__

_EXIT_USAGE = 2
_EXIT_QUALITY = 3
_INTERRUPTED = (130, 143)
_META_KEY = "ostcal.cli.json_output"


class CommandRecord(logging.Handler):
    """Collects what the document of a command says: its results, and the warnings and errors that are logged."""

    def __init__(self, command: str) -> None:
        super().__init__(logging.WARNING)
        self._command = command
        self._began_at = datetime.now(UTC)
        self._warnings: list[str] = []
        self._errors: list[str] = []
        self._results: dict[str, Any] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the lines of a warning or an error."""
        lines = self._errors if record.levelno >= logging.ERROR else self._warnings
        lines += record.getMessage().splitlines()

    def put(self, **results: Any) -> None:
        """Set fields of the document."""
        self._results |= results

    def add(self, **results: tuple[Any, ...]) -> None:
        """Append to fields of the document."""
        self.put(**{name: (*self._results.get(name, ()), *values) for name, values in results.items()})

    def put_error(self, line: str) -> None:
        """Add the line of an error that was not logged."""
        self._errors += line.splitlines()

    def text(self, exit_code: int) -> str:
        """Return the document."""
        from ostcal.cli.document import CommandDocument, document_text

        failed = exit_code not in (0, _EXIT_QUALITY)
        if failed and not self._errors:
            self._errors.append(self._reason())
        verdicts = {master.verdict for master in self._results.get("masters", ())}
        document = CommandDocument(
            command=self._command,
            software=f"ostcal {__version__}",
            began_at=self._began_at,
            ended_at=datetime.now(UTC),
            exit_code=exit_code,
            ending=_ending(exit_code, bool(self._warnings)),
            warnings=tuple(self._warnings),
            errors=tuple(self._errors),
            verdict=next((word for word in ("fail", "warn", "pass") if word in verdicts), None),
            **self._results,
        )
        return document_text(document)

    def _reason(self) -> str:
        """Return why a command failed that logged no error: a fault of the program, or warnings that left nothing."""
        error = sys.exception()
        if error is not None and not isinstance(error, SystemExit):
            return f"{type(error).__name__}: {error}"
        return self._warnings[-1] if self._warnings else "nothing was made"


def _ending(exit_code: int, warned: bool) -> Any:
    from ostcal.cli.document import Ending

    if exit_code in _INTERRUPTED:
        return Ending.INTERRUPTED
    if exit_code == _EXIT_QUALITY:
        return Ending.FAILED_QUALITY
    if exit_code:
        return Ending.ERROR
    return Ending.WARNING if warned else Ending.SUCCESS


class JsonCommand(click.Command):
    """A command with ``--json``."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        option = click.Option(
            ["--json", "as_json"],
            is_flag=True,
            help="Write one JSON document to standard output, and all lines to standard error.",
        )
        self.params.append(option)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the options; wrong ones end in a document too."""
        asked = "--json" in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if asked:
                record = CommandRecord(self.name or "")
                record.put_error(error.format_message())
                click.echo(record.text(_EXIT_USAGE))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and write its document at the end."""
        values = {name: value for name, value in ctx.params.items() if name != "as_json"}
        assert self.callback is not None
        if not ctx.params["as_json"]:
            return ctx.invoke(self.callback, **values)
        record = CommandRecord(self.name or "")
        ctx.meta[_META_KEY] = record
        record.put(config_file=ctx.params.get("config_path"))
        exit_code = 1  # of what is raised and not expected
        try:
            with contextlib.redirect_stdout(sys.stderr):
                ctx.invoke(self.callback, **values)
            exit_code = 0
        except SystemExit as end:
            exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
            raise
        except click.UsageError as error:
            exit_code = _EXIT_USAGE
            record.put_error(error.format_message())
            raise
        finally:
            click.echo(record.text(exit_code))


def json_record() -> CommandRecord | None:
    """Return what collects the results of the running command; ``None`` without ``--json``."""
    context = click.get_current_context(silent=True)
    record: CommandRecord | None = context.meta.get(_META_KEY) if context is not None else None
    return record


def json_handlers() -> Sequence[logging.Handler]:
    """Return the handler that collects warnings and errors, with ``--json``."""
    record = json_record()
    return () if record is None else (record,)
