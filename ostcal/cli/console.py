"""The frame of every command: log lines, progress, tables, exit codes."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn, Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from ostcal.cli.interruptions import Termination, signals_interrupt
from ostcal.cli.json_output import command_record, has_lines, json_handlers, json_record, use_hooks_of
from ostcal.cli.surroundings import refusal
from ostcal.compiled import CompileClock, clock
from ostcal.errors import ConfigError, OstcalError
from ostcal.opening import open_regular
from ostcal.printable import is_in_log_only, printable
from ostcal.vocabulary import FOUND_FILE

if TYPE_CHECKING:
    from ostcal.config import Config, Sources
    from ostcal.engine.graph import Progress as StripProgress

logger = logging.getLogger("ostcal")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_QUALITY = 3
"""Everything was made, but a master failed its quality control."""
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
"""After SIGTERM, as shells and service managers count it: 128 and the number of the signal."""

PLAIN_LINE_EVERY_S = 5.0
"""Without a terminal, progress is a line at this interval."""

LEAST_SHARE = 0.02
"""Before this share of the work is done its rate says nothing."""

PLAIN_WIDTH = 500
"""Columns of what goes to a file or a pipe, so that no line is broken."""


def open_console(*, stderr: bool = False) -> Console:
    """Return the console of a stream: as wide as the terminal, else `PLAIN_WIDTH`."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PLAIN_WIDTH)


def may_ask() -> bool:
    """Return whether somebody can answer: at a terminal, but not that which Jupyter gives to ``!ostcal``."""
    return sys.stdin.isatty() and "JPY_PARENT_PID" not in os.environ


class ConsoleHandler(logging.Handler):
    """Print log lines through the console that draws the progress bars, so that neither breaks the other."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record as ``level: message``, its traceback below."""
        if is_in_log_only(record):
            return
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = prefix + _shown(record)
        if record.exc_info:
            text += "\n" + printable(logging.Formatter().formatException(record.exc_info), keep="\n\t")
        style = {"WARNING": "yellow", "ERROR": "red", "DEBUG": "dim"}.get(record.levelname)
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _shown(record: logging.LogRecord) -> str:
    """Return the message of a record, without what commands a terminal."""
    return printable(record.getMessage(), keep="\n\t" if has_lines(record) else "")


def start_logging(console: Console, level: str, debug: bool) -> None:
    """Send log lines of the level and above to the console; warnings of libraries go the same way."""
    handler = ConsoleHandler(console)
    handler.setLevel(logging.DEBUG if debug else level.upper())
    for old in logger.handlers:
        old.close()
    logger.handlers = [handler, *json_handlers()]
    logger.setLevel(min(handler.level, logging.INFO))  # the log file has INFO, whatever the screen shows
    logger.propagate = False


class _LogFormatter(logging.Formatter):
    """Writes a line as ``time level room: message``, in UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name that logging calls
        """Return the line without its traceback."""
        record.message = _shown(record)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- the name that logging calls
        """Return the traceback, whose messages hold names of others, without what commands a terminal."""
        return printable(super().formatException(ei), keep="\n\t")


class _LogFile(logging.FileHandler):
    """A log file on a disk that may become full: the run continues without it, after one warning."""

    def __init__(self, path: str, new_directory: str) -> None:
        super().__init__(
            path, encoding="utf-8", errors="backslashreplace"
        )  # file names may hold bytes that are no text
        self.new_directory = new_directory
        """Directory that was made for it; empty if it was there."""
        self._failed = False

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=open_regular)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the name that logging calls
        """Warn on the screen in place of logging's own traceback."""
        if self._failed:
            return
        self._failed = True
        reason = sys.exception()
        text = getattr(reason, "strerror", None) or reason
        logger.warning("%s: the log cannot be written: %s", self.baseFilename, text)


@dataclass(frozen=True, kw_only=True)
class ConfigOptions:
    """Options of a command that say where its configuration comes from."""

    files: tuple[str, ...] = ()
    """Of ``--config``; ``-`` is standard input."""
    settings: tuple[str, ...] = ()
    """Of ``--set``."""


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config`` and ``--set``; the function gets both as `config_options`."""

    @functools.wraps(function)
    def with_options(*, config_files: tuple[str, ...], settings: tuple[str, ...], **others: Any) -> Any:
        return function(config_options=ConfigOptions(files=config_files, settings=settings), **others)

    options = (
        click.option(
            "--config",
            "config_files",
            multiple=True,
            metavar="FILE",
            type=click.Path(),
            help=f"Configuration (YAML), - for standard input; of several the last that gives a key counts. Without it"
            f" {FOUND_FILE} in the working directory is used if it is there.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help="Give a key of the configuration a value; may be repeated. Variables such as"
            " OSTCAL__MASTER_FRAMES__SIGMA_LOW do the same. ostcal config show lists all keys.",
        ),
    )
    for option in reversed(options):
        with_options = option(with_options)
    return with_options


Flags = Mapping[str, Mapping[str, object]]
"""Options of a command that set keys of the configuration: the dotted keys of each, with their values."""


def masters_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add ``--masters``, for commands that use masters on disk; the function gets `masters_dir`."""
    return click.option(
        "--masters",
        "masters_dir",
        type=click.Path(),
        metavar="DIR",
        help="Directory of the masters; by default master_frames in the working directory.",
    )(function)


def masters_flags(masters_dir: str | None) -> Flags:
    """Return the key that ``--masters`` sets."""
    return {} if masters_dir is None else {"--masters": {"master_frames.output_dir": masters_dir}}


def open_config(options: ConfigOptions, flags: Flags | None = None) -> Config:
    """Load the configuration of a command, and connect to object stores with its options."""
    from ostcal.config import load_sources
    from ostcal.places.object_requests import ObjectOptions, use_options

    config = load_sources(open_sources(options, flags))
    use_options(ObjectOptions(**config.storage.objects))
    return config


def open_sources(options: ConfigOptions, flags: Flags | None = None) -> Sources:
    """Read all that a command was given, and say where it was found."""
    from ostcal.config import Flag, gather_sources

    given = [Flag(option=option, values=values) for option, values in (flags or {}).items()]
    sources = gather_sources(options.files, options.settings, given)
    if record := command_record():
        record.put(config_file=sources.name)
    for line in sources.said:
        logger.info("%s", line)
    return sources


def start_log_file(config: Config, prefix: str, debug: bool) -> str:
    """Append log lines to ``prefix_YYYYMMDD.log`` beside the masters, and return its path.

    An object store takes no single lines: with masters there the file is in the working directory.

    Raises
    ------
    OstcalError
        If it cannot be written.
    """
    from ostcal.config import dump, without_endpoint
    from ostcal.places.night_folders import root_of
    from ostcal.places.paths import is_remote, make_directory

    directory = root_of(config.master_frames.output_dir)
    directory = "." if is_remote(directory) else directory
    path = os.path.join(directory, f"{prefix}_{datetime.now(UTC):%Y%m%d}.log")
    if os.path.isfile(directory):
        raise OstcalError(f"{directory}: is a file; name a directory for the masters (master_frames.output_dir)")
    new_directory = "" if os.path.isdir(directory) else directory
    try:
        make_directory(directory)
        handler = _LogFile(path, new_directory)
    except OSError as error:
        raise OstcalError(
            f"{path}: the log file cannot be written ({error.strerror or error}); "
            "set master_frames.output_dir to a directory that you may write"
        ) from error
    handler.setLevel(logging.DEBUG if debug else logging.INFO)
    handler.setFormatter(_LogFormatter())
    logger.addHandler(handler)
    use_hooks_of(config)
    if record := json_record():
        record.put(log_file=path)
    logger.debug("configuration as loaded from %s:\n%s", config.source, dump(without_endpoint(config)))
    return path


def discard_log_file() -> bool:
    """Remove the log of a run that found nothing to do, if it alone is in a directory that was made for it.

    Return whether it was.
    """
    for handler in logger.handlers:
        if isinstance(handler, _LogFile) and (directory := handler.new_directory):
            if os.listdir(directory) != [os.path.basename(handler.baseFilename)]:
                return False
            logger.removeHandler(handler)
            handler.close()
            os.remove(handler.baseFilename)
            os.rmdir(directory)
            if record := json_record():
                record.put(log_file=None)
            return True
    return False


@contextlib.contextmanager
def command_console(log_level: str, debug: bool, resume_command: str = "") -> Iterator[Console]:
    """Run the body of a command: yield the console of its log lines, and end as `errors_to_exit_codes` does."""
    console = open_console(stderr=True)
    start_logging(console, log_level, debug)
    with errors_to_exit_codes(console, debug, resume_command):
        yield console


def import_numba() -> None:
    """Import numba before the modules that use it, which import it nine modules deep.

    CPython 3.11 keeps the frames of calls in blocks of 16 KB, and a loop whose calls cross the end of one asks the
    system for memory each time. At that depth numba's import is such a loop: 0.18 s of 0.28.
    """
    import numba  # noqa: F401


@contextlib.contextmanager
def errors_to_exit_codes(console: Console, debug: bool, resume_command: str = "") -> Iterator[None]:
    """Turn errors raised on purpose into one line and an exit code; the traceback only with ``--debug``.

    Inside, SIGTERM ends the command as Ctrl-C does, with its own exit code.

    Parameters
    ----------
    console : Console
        Where the command writes.
    debug : bool
        Whether tracebacks are printed.
    resume_command : str
        The command that continues after an interrupt; empty if the same command may simply be run again.
    """
    with signals_interrupt() as termination:
        try:
            yield
        except OstcalError as error:
            logger.error("%s", error, exc_info=debug)
            sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
        except (KeyboardInterrupt, click.Abort):  # Abort: Ctrl-C at a question, and a RuntimeError
            _end_interrupted(console, termination, resume_command)
        except Exception as error:  # of an interrupt while it is imported, pydantic makes an error of its own class
            if termination.is_interrupted:
                logger.debug("interrupted: %s", error, exc_info=True)
                _end_interrupted(console, termination, resume_command)
            line = refusal(error) if isinstance(error, OSError | MemoryError | RuntimeError | ImportError) else None
            if line is None:
                raise
            logger.error("%s", line, exc_info=debug)
            sys.exit(EXIT_FAILED)


def _end_interrupted(console: Console, termination: Termination, resume_command: str) -> NoReturn:
    """Say that the command was interrupted and how to go on, and end it."""
    if console.is_terminal and not termination.came:
        console.print()  # the terminal shows ^C
    what = "ended by SIGTERM" if termination.came else "interrupted"
    how = f"to continue: {resume_command}" if resume_command else "run the same command again to continue"
    logger.error("%s; what is finished is kept; %s", what, how)
    sys.exit(EXIT_TERMINATED if termination.came else EXIT_INTERRUPTED)


class _PaceColumn(ProgressColumn):
    """Rate and time left, or that kernels are compiled."""

    def __init__(self, pace: Callable[[], str]) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:
        """Return them at this moment."""
        return Text(self._pace())


class RunProgress:
    """Progress in bytes, with rate and time left: a bar on a terminal, else a line every `PLAIN_LINE_EVERY_S`.

    Time in which kernels are compiled says nothing of either, and does not count.
    """

    def __init__(
        self,
        console: Console,
        what: str,
        compiling: CompileClock = clock,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._compiling = compiling
        self._now = now
        self._what = what
        self._total = 0
        self._done = 0
        self._lock = threading.Lock()
        self._began = self._last_line = self._now()
        self._compiled_before_s = self._compiling.seconds()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def start(self, total_bytes: int) -> None:
        """Start with the number of bytes that will be read."""
        self._total = max(1, total_bytes)
        self._last_line = self._now()
        self._start_clock()
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                _PaceColumn(self._pace),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(self._what, total=self._total)

    def advance(self, n_bytes: int, what: str) -> None:
        """Count bytes that were read."""
        with self._lock:
            if self._done == 0:  # it includes the start of threads and the loading of kernels
                self._start_clock()
                self._total = max(1, self._total - n_bytes)
                n_bytes = min(n_bytes, 1)
            self._done += n_bytes
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], advance=n_bytes, description=printable(what))
            elif self._now() - self._last_line >= PLAIN_LINE_EVERY_S:
                self._last_line = self._now()
                self._console.print(self._line(what), markup=False, highlight=False, soft_wrap=True)

    def advance_strip(self, done: StripProgress) -> None:
        """Count a strip of a master."""
        self.advance(done.n_bytes, done.job if done.stage == "combine" else f"{done.job} ({done.stage})")

    def _start_clock(self) -> None:
        self._began = self._now()
        self._compiled_before_s = self._compiling.seconds()

    def _line(self, what: str) -> str:
        what = printable(what)
        return ", ".join(filter(None, (f"{what}: {100 * self._done / self._total:.0f} %", self._pace())))

    def _pace(self) -> str:
        """Return the rate and the time left; nothing at the beginning."""
        if self._compiling.is_running:
            return "compiling"
        if self._done / self._total < LEAST_SHARE:
            return ""
        elapsed_s = self._now() - self._began - (self._compiling.seconds() - self._compiled_before_s)
        rate = self._done / max(elapsed_s, 1e-3)
        left_s = max(0.0, (self._total - self._done) / rate)
        return f"{rate / 1e6:.0f} MB/s, {left_s:.0f} s left"


def debug_option(function: click.decorators.FC) -> click.decorators.FC:
    """Add ``--debug`` and ``--log-level``."""
    function = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        show_default=True,
        help="Lowest level of the messages that are printed.",
    )(function)
    return click.option("--debug", is_flag=True, help="Print and log everything, including tracebacks.")(function)
