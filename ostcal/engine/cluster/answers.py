"""Questions to a cluster that end in time: Dask waits without end for a frozen program that holds a connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class UnansweredError(TimeoutError):
    """Nothing came in time."""


@dataclass
class _Answer(Generic[T]):
    """What a thread got; not frozen, as the thread sets it."""

    values: list[T]
    error: Exception | None = None


def answer_within(seconds: float, ask: Callable[[], T]) -> T:
    """Return the answer to a question; raise `UnansweredError` if none comes in time.

    The question goes on in a thread that does not keep Python from ending. Errors of Dask are raised here.
    """
    answer: _Answer[T] = _Answer(values=[])

    def wait() -> None:
        try:
            answer.values.append(ask())
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            answer.error = error

    asking = threading.Thread(target=wait, name="ostcal-question", daemon=True)
    asking.start()
    asking.join(seconds)
    if answer.error is not None:
        raise answer.error
    if not answer.values:
        raise UnansweredError(f"no answer within {seconds:g} s")
    return answer.values[0]
