"""What a command did: for ``--json`` one document on standard output, however it ends, and for hooks the events."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ostcal._version import __version__
from ostcal.errors import ConfigError
from ostcal.printable import printable_json
from ostcal.vocabulary import FOUND_FILE

if TYPE_CHECKING:
    from ostcal.build.request import MadeMaster, Watcher
    from ostcal.capture.series_plan import SeriesOutcome
    from ostcal.cli.document import MasterEntry
    from ostcal.config import Config
    from ostcal.events.hooks import Hooks

_EXIT_USAGE = 2
_EXIT_QUALITY = 3
_FAILED = (1, 2)
_INTERRUPTED = (130, 143)
_META_KEY = "ostcal.cli.json_output"


class CommandRecord(logging.Handler):
    """Collects what the document of a command says: its results, and the warnings and errors that are logged."""

    def __init__(self, command: str, *, as_json: bool = True) -> None:
        super().__init__(logging.WARNING)
        self.as_json = as_json
        self._hooks: Hooks | None = None
        self._told: set[str] = set()
        self._command = command
        self._is_night = command == "workflow"
        self._began_at = datetime.now(UTC)
        self._warnings: list[str] = []
        self._errors: list[str] = []
        self._results: dict[str, Any] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the lines of a warning or an error."""
        lines = self._errors if record.levelno >= logging.ERROR else self._warnings
        lines += record.getMessage().splitlines() if has_lines(record) else [record.getMessage()]

    def put(self, **results: Any) -> None:
        """Set fields of the document."""
        self._results |= results

    def put_masters(self, masters: Iterable[MasterEntry]) -> None:
        """Add masters; what an earlier build of this command made is not unchanged in a later one."""
        known = {master.name: master for master in self._results.get("masters", ())}
        known |= {master.name: master for master in masters if master.state == "made" or master.name not in known}
        self.put(masters=tuple(known.values()))

    def add(self, **results: tuple[Any, ...]) -> None:
        """Append to fields of the document."""
        self.put(**{name: (*self._results.get(name, ()), *values) for name, values in results.items()})

    def put_error(self, line: str) -> None:
        """Add the line of an error, unless it was logged as one."""
        self._errors += [one for one in line.splitlines() if one not in self._errors]

    def use_hooks(self, hooks: Hooks | None) -> None:
        """Tell these hooks of what happens from now on."""
        self._hooks = hooks

    @property
    def is_wanted(self) -> bool:
        """Return whether anyone reads the results."""
        return self.as_json or self._hooks is not None

    def series_ended(self, outcome: SeriesOutcome) -> None:
        """Tell the hooks of a series that ended, while the next one is exposed."""
        if self._hooks is not None:
            from ostcal.workflow.hooks import series_event

            self._hooks.tell(series_event(self._command, outcome, self._results.get("config_file")))

    def with_hooks(self, watcher: Watcher) -> Watcher:
        """Return what follows a build, and tells the hooks of each master when it is published or has failed."""
        hooks = self._hooks
        if hooks is None:
            return watcher
        from ostcal.cli.entries import published_of_event
        from ostcal.events.event import master_finished, master_not_made

        def published(master: MadeMaster) -> None:
            self._told.add(master.name)
            hooks.tell(master_finished(self._command, published_of_event(master), self._results.get("config_file")))

        def failed(line: str) -> None:
            self._told.add(line)
            hooks.tell(master_not_made(self._command, line, self._results.get("config_file")))

        return replace(watcher, published=published, failed=failed)

    def tell_masters(self) -> None:
        """Tell the hooks of masters that were made or could not be made, each once."""
        if self._hooks is None:
            return
        from ostcal.cli.entries import masters_of_events
        from ostcal.events.event import master_finished, master_not_made

        config_file = self._results.get("config_file")
        events = {
            master.name: master_finished(self._command, master, config_file)
            for master in masters_of_events(self._results.get("masters", ()))
        }
        events |= {
            line: master_not_made(self._command, line, config_file) for line in self._results.get("not_made", ())
        }
        for name, event in events.items():
            if name not in self._told:
                self._told.add(name)
                self._hooks.tell(event)

    def finish_hooks(self, exit_code: int) -> None:
        """Tell the hooks what came of the command, and wait for them for a bounded time."""
        if self._hooks is None:
            return
        self._tell_hooks(self._hooks, exit_code, is_night=self._is_night)
        self._hooks.close()

    def is_of_a_night(self) -> None:
        """Let the hooks be told that a night has finished when the command ends."""
        self._is_night = True

    def finish_night(self, exit_code: int) -> None:
        """Tell the hooks what came of one night of a command that goes on, and forget its results."""
        if self._hooks is not None:
            self._tell_hooks(self._hooks, exit_code, is_night=True)
        for name in ("series", "masters", "not_made"):
            self._results.pop(name, None)
        for kept in (self._warnings, self._errors, self._told):
            kept.clear()

    def _tell_hooks(self, hooks: Hooks, exit_code: int, *, is_night: bool) -> None:
        from ostcal.cli.entries import masters_of_events
        from ostcal.events.event import error_event, night_finished

        config_file = self._results.get("config_file")
        self.tell_masters()
        if exit_code in (1, 2):
            hooks.tell(error_event(self._command, self._errors or [self._reason()], exit_code, config_file))
        if is_night:
            series = self._results.get("series", ())
            masters = masters_of_events(self._results.get("masters", ()))
            hooks.tell(night_finished(self._command, exit_code, series, masters, self._errors, config_file))

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
            ending=_ending(self._command, exit_code, bool(self._warnings)),
            warnings=tuple(self._warnings),
            errors=tuple(self._errors),
            verdict=next((word for word in ("fail", "warn", "pass") if word in verdicts), None),
            **self._results,
        )
        return printable_json(document_text(document))

    def _reason(self) -> str:
        """Return why a command failed that logged no error: a fault of the program, or warnings that left nothing."""
        error = sys.exception()
        if error is not None and not isinstance(error, SystemExit):
            return f"{type(error).__name__}: {error}"
        return self._warnings[-1] if self._warnings else "nothing was made"


def _ending(command: str, exit_code: int, warned: bool) -> Any:
    from ostcal.cli.document import Ending

    if exit_code in _INTERRUPTED:
        return Ending.INTERRUPTED
    if exit_code == _EXIT_QUALITY:
        return Ending.LACKING if command == "coverage" else Ending.FAILED_QUALITY
    if exit_code:
        return Ending.ERROR
    return Ending.WARNING if warned else Ending.SUCCESS


def has_lines(record: logging.LogRecord) -> bool:
    """Return whether a message has several lines by itself, and not through a name in it."""
    is_of_others = not record.name.startswith("ostcal")
    arguments = record.args if isinstance(record.args, tuple) else ()
    return is_of_others or "\n" in str(record.msg) or any(isinstance(value, ConfigError) for value in arguments)


def usage_document(command: str, error: click.UsageError) -> str:
    """Return the document of a command that was called wrongly."""
    record = CommandRecord(command)
    record.put_error(error.format_message())
    return record.text(_EXIT_USAGE)


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
            if isinstance(error, click.NoSuchOption):
                from ostcal.cli.hints import with_hint

                error = with_hint(error, self.params)
            if asked:
                click.echo(usage_document(self._name_below(parent), error))
            raise error

    def _say_folder(self, ctx: click.Context) -> None:
        """Say how a folder of the working directory is given whose name is that of this command."""
        name = self.name or ""
        arguments = [parameter.name for parameter in self.params if isinstance(parameter, click.Argument)]
        is_bare = not any(ctx.params.get(word or "") for word in (*arguments, "config_files", "settings"))
        if is_bare and os.path.isdir(name) and not os.path.exists(FOUND_FILE):
            text = "%s is a command; for the folder of that name: ostcal ./%s"
            logging.getLogger("ostcal").info(text, name, name)

    def _name_below(self, parent: click.Context | None) -> str:
        """Return the name in the document; that of a command of a group begins with the group."""
        is_nested = parent is not None and parent.parent is not None
        return f"{parent.info_name} {self.name}" if parent is not None and is_nested else self.name or ""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and write its document at the end."""
        values = {name: value for name, value in ctx.params.items() if name != "as_json"}
        assert self.callback is not None
        record = CommandRecord(self._name_below(ctx.parent), as_json=ctx.params["as_json"])
        ctx.meta[_META_KEY] = record
        record.put(config_file=", ".join(ctx.params.get("config_files", ())) or None)
        exit_code = 1  # of what is raised and not expected
        try:
            with contextlib.redirect_stdout(sys.stderr) if record.as_json else contextlib.nullcontext():
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
            if exit_code in _FAILED:
                self._say_folder(ctx)
            record.finish_hooks(exit_code)
            if record.as_json:
                click.echo(record.text(exit_code))


def json_record() -> CommandRecord | None:
    """Return what collects the results of the running command; ``None`` without ``--json`` and hooks."""
    record = command_record()
    return record if record is not None and record.is_wanted else None


def with_hooks(watcher: Watcher) -> Watcher:
    """Return a watcher of builds that tells the hooks of the running command of each master at once."""
    record = command_record()
    return watcher if record is None else record.with_hooks(watcher)


def use_hooks_of(config: Config) -> None:
    """Tell the hooks of a configuration of what the running command does."""
    record = command_record()
    if record is not None and (config.hooks.command or config.hooks.url):
        from ostcal.workflow.hooks import open_hooks

        record.use_hooks(open_hooks(config))


def command_record() -> CommandRecord | None:
    """Return the record of the running command, whether or not anyone reads it."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_META_KEY)


def json_handlers() -> Sequence[logging.Handler]:
    """Return the handler that collects warnings and errors."""
    record = command_record()
    return () if record is None else (record,)
