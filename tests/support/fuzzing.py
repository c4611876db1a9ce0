"""What fuzzing shares: how much is tried, and the limits of time and memory for whatever is given something damaged.

Seeds are fixed. By hand, 10,000 mutations of each kind of input:
``OSTCAL_FUZZ_MUTATIONS=10000 pytest --timeout 0 tests/*/test_fuzz_*.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from ostcal.errors import OstcalError
from support.amounts import amount

LONGEST_S = 10.0
MOST_BYTES = 1 << 30
LONGEST_LINE = 5000
MOST_LINES = 52


def mutations(ordinary: int) -> int:
    """Return how many of `ordinary` mutations are tried."""
    return amount(ordinary, "OSTCAL_FUZZ_MUTATIONS")


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Let the process take no more than 1 GB on top of what it has: beyond it there is a MemoryError."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def little_used_memory() -> Iterator[None]:
    """See that the process uses no more than 1 GB on top: for what has threads, which reserve more than they use."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status_bytes("VmRSS")
    yield
    assert status_bytes("VmHWM") - before < MOST_BYTES


def status_bytes(name: str, process: int | str = "self") -> int:
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    def too_late(*_: object) -> None:
        raise AssertionError(f"it took more than {LONGEST_S:g} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Refusals:
    """Counts what was refused on purpose, and what was taken; anything else is the case's failure."""

    def __init__(self) -> None:
        self.refused = 0
        self.accepted = 0

    @contextlib.contextmanager
    def case(self, label: str, data: bytes) -> Iterator[None]:
        """Use something damaged; an error of ours is fine, if memory was not its cause and it is short."""
        try:
            with in_time():
                yield
            self.accepted += 1
        except OstcalError as error:
            self.refused += 1
            lines = str(error).split("\n")
            assert len(lines) <= MOST_LINES, label
            assert max(map(len, lines)) <= LONGEST_LINE, (label, lines)
            causes = list(causes_of(error))
            assert not any(isinstance(each, MemoryError | AssertionError) for each in causes), (label, causes)
        except Exception as error:
            raise AssertionError(f"{label}: {data[:3000]!r}") from error


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def change_bytes(data: bytearray, rng: random.Random, tokens: Sequence[bytes]) -> None:
    """Cut, remove, insert, repeat or change bytes at one place."""
    at = rng.randint(0, len(data))
    match rng.randrange(6):
        case 0:
            del data[at:]
        case 1:
            del data[at : at + rng.randint(1, 40)]
        case 2:
            data[at:at] = rng.choice(tokens)
        case 3:
            data[at:at] = data[: rng.randint(0, 60)]
        case 4 if data:
            data[at % len(data)] = rng.randrange(256)
        case _ if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
