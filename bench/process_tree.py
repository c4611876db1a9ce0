"""Run a command and measure it: wall time, processor time, and memory summed over all of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_INTERVAL_S = 0.02
LISTING_INTERVAL_S = 0.2  # listing the children reads all of /proc (some ms), sampling known ones costs 0.05 ms each


@dataclass(frozen=True, kw_only=True)
class Command:
    """One whole command as a user would type it."""

    argv: tuple[str, ...]
    directory: Path
    """Working directory; also takes the command's output as ``log.txt``."""
    environment: dict[str, str]
    """Variables set on top of the caller's environment."""
    stdin: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a command cost."""

    wall_s: float
    cpu_s: float
    """User and system time of all processes."""
    peak_rss_bytes: int
    """Highest sum of the resident memory of all processes at one moment."""
    sum_of_peaks_bytes: int
    """Sum of each process's own peak; never below ``peak_rss_bytes``."""
    processes: int
    exit_code: int
    load_before: float | None
    """Load average of the last minute when the command began; near 0 on a quiet machine, ``None`` where not known."""


class TreeSampler(threading.Thread):
    """Samples the memory and processor time of a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_rss_bytes = 0
        self.peaks: dict[int, int] = {}
        self.cpu_s: dict[int, float] = {}
        self._root = psutil.Process(pid)
        self._stop_requested = threading.Event()

    def run(self) -> None:
        """Sample every 20 ms."""
        family, listed_at = [self._root], -LISTING_INTERVAL_S
        while not self._stop_requested.wait(SAMPLE_INTERVAL_S):
            if time.perf_counter() - listed_at > LISTING_INTERVAL_S:
                family, listed_at = self._list_family(), time.perf_counter()
            total = sum(self._sample(process) for process in family)
            self.peak_rss_bytes = max(self.peak_rss_bytes, total)

    def stop(self) -> None:
        """End the sampling and wait for the thread."""
        self._stop_requested.set()
        self.join()

    def _list_family(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self._root]

    def _sample(self, process: psutil.Process) -> int:
        try:
            rss = int(process.memory_info().rss)
            times = process.cpu_times()
        except psutil.Error:  # ended between two samples
            return 0
        self.peaks[process.pid] = max(self.peaks.get(process.pid, 0), rss)
        self.cpu_s[process.pid] = times.user + times.system
        return rss


def _as_installed(environment: dict[str, str]) -> dict[str, str]:
    """Let Python keep what it compiled, as pip does for all programs that are compared: 0.3 s at each of our starts."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextlib.contextmanager
def exit_when_terminated() -> Iterator[None]:
    """Have SIGTERM raise SystemExit, so that what is running is ended too."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_measured(command: Command, *, timeout_s: float) -> Usage:
    """Run a command to its end; after ``timeout_s`` it is killed, which shows in the exit code.

    Ctrl-C and SIGTERM end the command too: left alone, it would spoil what is measured next.
    """
    command.directory.mkdir(parents=True, exist_ok=True)
    load_before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    stdin_path = command.stdin or Path(os.devnull)
    with exit_when_terminated(), stdin_path.open("rb") as stdin, (command.directory / "log.txt").open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            cwd=command.directory,
            env=_as_installed({**os.environ, **command.environment}),
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        sampler = TreeSampler(process.pid)
        sampler.start()
        killer = threading.Timer(timeout_s, _kill_tree, [process.pid])
        killer.start()
        try:
            cpu_s, largest_peak_bytes = _wait(process)
        except BaseException:
            _kill_tree(process.pid)
            raise
        finally:
            wall_s = time.perf_counter() - started
            killer.cancel()
            sampler.stop()
    peak_rss_bytes = max(sampler.peak_rss_bytes, largest_peak_bytes)
    return Usage(
        wall_s=wall_s,
        cpu_s=max(cpu_s, sum(sampler.cpu_s.values())),
        peak_rss_bytes=peak_rss_bytes,
        sum_of_peaks_bytes=max(peak_rss_bytes, sum(sampler.peaks.values())),
        processes=max(1, len(sampler.peaks)),
        exit_code=process.returncode,
        load_before=load_before,
    )


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            process.kill()


def _wait(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Wait for a process; return processor time with its children's, and the largest peak memory among them."""
    if not hasattr(os, "wait4"):  # Windows: the samples must do
        process.wait()
        return 0.0, 0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit_bytes
