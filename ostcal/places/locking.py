"""One run at a time: a lock file that says who holds it and since when, and whose age shows that its owner lives.

The lock is a file that only one process can create (``O_EXCL``), so it needs no ``fcntl`` and holds between the
machines of a network file system too; in an object store it is an object that is written only if it does not exist
(``If-None-Match``). Its owner touches it every ten seconds. The lock of a dead owner is recognised: on the same machine
by its process, from another one by a file that was not touched for two minutes. After a power cut a lock of this
computer is recognised by not having been touched since it started.

To remove a lock that was left behind, a second lock is needed whose name holds the token of the first. So of any
number of runs only one removes it, and none can remove the lock of the one that came after.

What it cannot do: an owner on *another* machine that was stopped (not ended) for longer than two minutes loses its
lock, and says so when it continues; NFS version 2 creates no file exclusively.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ostcal.codec import from_json, to_json
from ostcal.errors import StorageError, UnreachableError
from ostcal.places.durable import read_bounded, storage_errors
from ostcal.places.paths import AnyPath, clock_s, create_exclusively, modified_s, names_in, sync_directory, touch

logger = logging.getLogger(__name__)

PROCESS_MARK: Final = uuid.uuid4().hex
"""Distinguishes this process from an earlier one of the same number, which is usual in containers."""

LOCK_FILE: Final = ".ostcal.lock"
"""In an output directory while a run writes there."""

_MAX_BYTES = 1 << 16
_MAX_COMMAND = 300
_TRIES = 50
"""Times that a lock may come and go while it is read."""
_DEEPEST = 5
"""Runs that may have been killed while they removed the lock of another killed one."""


@dataclass(frozen=True, kw_only=True)
class LockRules:
    """Times of waiting for a lock and of showing that its owner lives."""

    wait_s: float = 0.0
    """How long to wait for another run to end before giving up."""
    poll_s: float = 0.5
    """Pause between two looks while waiting."""
    heartbeat_s: float = 10.0
    """How often an owner touches its lock."""
    abandoned_after_s: float = 120.0
    """Age from which a lock of another machine counts as left behind; an NFS client may be a minute behind."""


@dataclass(frozen=True, kw_only=True)
class LockOwner:
    """Who holds a lock."""

    host: str
    machine: str
    """Where process numbers mean the same (Linux: of this start of the machine and this container); else empty."""
    pid: int
    process: str
    """`PROCESS_MARK` of the process."""
    started: str
    """When the process was started, as the system counts it (Linux); else empty."""
    command: str
    since: str
    """UTC, ISO 8601."""
    token: str
    """Of this lock alone."""

    @property
    def text(self) -> str:
        """Command, process and host, for messages."""
        words = "".join(letter if letter.isprintable() else "?" for letter in self.command[:_MAX_COMMAND])
        return f"`{words}` (process {self.pid} on {self.host}, since {self.since})"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A lock file as it was found."""

    owner: LockOwner | None
    """``None`` where it cannot be read: its maker was killed at it, or it is no lock."""
    age_s: float
    """Since it was touched."""

    @property
    def token(self) -> str:
        return self.owner.token if self.owner is not None else "unreadable"


@contextlib.contextmanager
def locked(path: AnyPath, rules: LockRules | None = None, *, what: str, advice: str = "") -> Iterator[None]:
    """Hold a lock while the context lasts; the directory of the lock file must be there.

    Messages say `what` the lock protects, and as `advice` what the user can do except wait: ``choose another
    master_frames.output_dir``.

    Raises
    ------
    StorageError
        If another run holds it for longer than `LockRules.wait_s` (the message says which), or it cannot be written.
    """
    lock = _Lock(path=path, rules=rules or LockRules(), mine=_this_process(), what=what, advice=advice)
    ended = threading.Event()
    beats = threading.Thread(target=lock.beat, args=(ended,), name="ostcal-lock", daemon=True)
    try:
        lock.acquire()
        beats.start()
        lock.sweep()
        yield
    finally:
        ended.set()
        if beats.ident is not None:
            beats.join()
        lock.release()


@contextlib.contextmanager
def series_locked(series: AnyPath) -> Iterator[None]:
    """Hold the locks that capture takes for a series: of its name, and of the name whose second series it may be."""
    name = series.name.removesuffix(".zarr")
    names = sorted({name, re.sub(r"_\d+$", "", name)})
    with contextlib.ExitStack() as held:
        for word in names:
            held.enter_context(locked(series.with_name(f".{word}.lock"), what=str(series)))
        yield


def is_running(pid: int, process: str) -> bool:
    """Return whether a process of this computer lives, by its number and the `PROCESS_MARK` it had."""
    if pid == os.getpid():
        return process == PROCESS_MARK
    if sys.platform == "win32":  # os.kill would end the process there
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True, kw_only=True)
class _Lock:
    """A lock that this process wants or holds."""

    path: AnyPath
    rules: LockRules
    mine: LockOwner
    what: str
    advice: str

    def acquire(self) -> None:
        """Wait for the lock as long as the rules say; StorageError where another run still holds it."""
        until_s = time.monotonic() + self.rules.wait_s
        is_reported = False
        while True:
            with storage_errors(f"{self.path}: the lock that keeps other runs away cannot be written"):
                holder = self._try(self.path, 0)
            if holder is None:
                return
            age = f"last sign of life {holder.age_s:.0f} s ago"
            who = f"{self.what}: another run is writing there: {_name(holder)}, {age}"
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                is_here = holder.owner is not None and holder.owner.host == socket.gethostname()
                after = f" (after {self.rules.abandoned_after_s:.0f} s without a sign of life it counts as gone)"
                other = f", or {self.advice}" if self.advice else ""
                gone = f"if it is gone{'' if is_here else after}, delete {self.path}"
                raise StorageError(f"{who}; wait until it has ended{other}; {gone}")
            if not is_reported:
                logger.warning("%s; waiting up to %.0f s for it", who, self.rules.wait_s)
                is_reported = True
            time.sleep(min(self.rules.poll_s, left_s))

    def _try(self, path: AnyPath, depth: int) -> _Seen | None:
        """Create a lock file; returns who holds it where that is not possible now."""
        for _ in range(_TRIES):
            if create_exclusively(path, to_json(self.mine, indent=2)):
                return None
            seen = _look(path)
            if seen is None:
                continue
            if depth >= _DEEPEST or not _is_abandoned(seen, self.rules):
                return seen
            other = self._remove_abandoned(path, seen, depth)
            if other is not None:
                return other
        raise OSError(f"it came and went {_TRIES} times while it was looked at")

    def _remove_abandoned(self, path: AnyPath, seen: _Seen, depth: int) -> _Seen | None:
        """Remove an abandoned lock, under a second lock; returns who else is removing it."""
        guard = path.with_name(f"{path.name}.{seen.token}")
        other = self._try(guard, depth + 1)
        if other is not None:
            return other
        try:
            now = _look(path)
            if now is not None and now.token == seen.token and _is_abandoned(now, self.rules):
                path.unlink(missing_ok=True)
                if now.owner is not None:
                    logger.info("%s: the lock of %s was left behind and is removed", path, now.owner.text)
        finally:
            guard.unlink(missing_ok=True)
        return None

    def release(self) -> None:
        """Remove the lock if it is ours."""
        try:
            seen = _look(self.path)
            if seen is not None and seen.token == self.mine.token:
                self.path.unlink(missing_ok=True)
                sync_directory(self.path.parent)  # a power cut would bring it back, to what needs no lock any more
        except (OSError, UnreachableError) as error:
            logger.warning(
                "%s: the lock cannot be removed (%s); the next run sees that it is left behind", self.path, error
            )

    def beat(self, ended: threading.Event) -> None:
        """Touch the lock as long as it is ours."""
        while not ended.wait(self.rules.heartbeat_s):
            try:
                seen = _look(self.path)
                if seen is None or seen.token != self.mine.token:
                    taken = f"was taken over by {_name(seen)}" if seen is not None else "is no longer there"
                    logger.error("%s: the lock of this run %s; two runs may write here now", self.path, taken)
                    return
                touch(self.path)
            except (OSError, UnreachableError) as error:  # of a moment; the lock counts for two minutes without it
                logger.debug("%s: the lock could not be touched: %s", self.path, error)

    def sweep(self) -> None:
        """Remove second locks of runs that were killed while they removed the first: they guard locks that are gone."""
        folder = self.path.parent
        with contextlib.suppress(OSError, UnreachableError):
            for name in names_in(folder):
                if not name.startswith(f"{self.path.name}.") or self.mine.token in name:
                    continue
                seen = _look(folder / name)
                if seen is not None and _is_abandoned(seen, self.rules):
                    (folder / name).unlink()


# ---- what is in lock files ----


def _look(path: AnyPath) -> _Seen | None:
    """Read a lock file; ``None`` where it does not exist."""
    try:
        touched_s = modified_s(path)
        owner = from_json(LockOwner, read_bounded(path, _MAX_BYTES))
    except FileNotFoundError:
        return None
    except ValueError:
        owner = None
    if owner is not None and not (owner.pid > 0 and owner.token.isalnum() and len(owner.token) <= 64):
        owner = None
    return _Seen(owner=owner, age_s=max(0.0, clock_s(path.parent) - touched_s))


def _is_abandoned(seen: _Seen, rules: LockRules) -> bool:
    owner = seen.owner
    if owner is None or (owner.host, owner.machine) != (socket.gethostname(), _this_machine()):
        return seen.age_s > rules.abandoned_after_s or _is_of_earlier_start(seen, rules)
    if not is_running(owner.pid, owner.process):
        return True
    started = _start_of(owner.pid)
    return bool(owner.started and started) and started != owner.started


def _is_of_earlier_start(seen: _Seen, rules: LockRules) -> bool:
    """Return whether a lock is of this computer before it was started, such as after a power cut.

    Its owner would have touched it since. Of another start of the computer is what names this host and another start,
    or was never written.
    """
    here, owner = _this_machine(), seen.owner
    if not here or (
        owner is not None and (owner.host != socket.gethostname() or _start(owner.machine) == _start(here))
    ):
        return False
    return seen.age_s > max(_uptime_s(), 2 * rules.heartbeat_s)


def _start(machine: str) -> str:
    """Return the start of a computer that `_this_machine` names."""
    return machine.partition(" ")[0]


def _uptime_s() -> float:
    """Return for how long this computer has been running; infinite where the system does not say."""
    try:
        return float(Path("/proc/uptime").read_text("ascii").split()[0])
    except (OSError, IndexError, ValueError):
        return math.inf


def _this_process() -> LockOwner:
    program = Path(sys.argv[0] if sys.argv else "")
    return LockOwner(
        host=socket.gethostname(),
        machine=_this_machine(),
        pid=os.getpid(),
        process=PROCESS_MARK,
        started=_start_of(os.getpid()),
        command=shlex.join([program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]]),
        since=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        token=uuid.uuid4().hex,
    )


def _this_machine() -> str:
    """Return where process numbers mean the same: machines may share a name, and containers a machine."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, ValueError):
        return ""


def _start_of(pid: int) -> str:
    """Return when a process was started, in ticks; empty where the system does not say, ``ended`` for a zombie."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "ended" if words[0] in (b"Z", b"X") else words[19].decode("ascii")
    except (OSError, IndexError, ValueError):
        return ""


def _name(seen: _Seen) -> str:
    return seen.owner.text if seen.owner is not None else "a run that did not leave its name"
