"""Tells hooks of events from a thread of its own: no exposure waits for a command that hangs or a server away."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ostcal.events.command_hook import CommandHook
from ostcal.events.event import Event
from ostcal.events.failure import Failure
from ostcal.events.webhook import Webhook

logger = logging.getLogger(__name__)

QUEUE_EVENTS = 256
"""Events that wait; more are counted and lost, as a hook that is this far behind will not catch up."""
MAX_DRAIN_S = 60.0
"""Longest wait at the end of a command for events that are not delivered yet."""
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class HookRules:
    """Which events are told, and to whom."""

    on: frozenset[str]
    command: tuple[str, ...] = ()
    """Program and arguments; empty for none."""
    url: str | None = None
    timeout_s: float = 10.0
    """Longest time of one delivery."""
    retries: int = 3
    """Of a webhook: attempts after the first."""


class Target(Protocol):
    """Someone who is told of events."""

    name: str
    """For messages, without secrets."""
    retries: int

    def deliver(self, document: bytes, timeout_s: float) -> Failure | None:
        """Deliver the document of an event within a time; return why that failed."""


class _Delivery:
    """A target, and how the last events fared."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.is_down = False
        self.lost = 0
        """Events after the first that was named."""


class Hooks:
    """Delivers events in the order in which they are told; a context manager, which waits for them at its end.

    An event that is not delivered is one line in the log, the first of a target at once and the others as a number at
    the end. The run goes on.
    """

    def __init__(self, rules: HookRules) -> None:
        self._rules = rules
        targets: list[Target] = []
        if rules.command:
            targets.append(CommandHook(rules.command))
        if rules.url:
            targets.append(Webhook(rules.url, rules.retries))
        self._deliveries = [_Delivery(target) for target in targets]
        self._queue: queue.Queue[Event | None] = queue.Queue(QUEUE_EVENTS)
        self._given_up = threading.Event()
        self._thread: threading.Thread | None = None
        self._overflowed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        self.close()

    def tell(self, event: Event) -> None:
        """Queue an event; this never waits."""
        if event.event not in self._rules.on or not self._deliveries:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._overflowed += 1

    def close(self, patience_s: float | None = None) -> None:
        """Wait for events that are not delivered yet, for a bounded time; name those that were not."""
        if self._thread is None:
            return
        limit_s = self._drain_s() if patience_s is None else patience_s
        deadline = time.monotonic() + limit_s
        left = 0
        try:
            self._queue.put(None, timeout=limit_s)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        except (queue.Full, KeyboardInterrupt):
            pass
        if self._thread.is_alive():
            self._given_up.set()
            left = 1 + sum(event is not None for event in tuple(self._queue.queue))
        self._thread = None
        for delivery in self._deliveries:
            if delivery.lost:
                logger.warning("hooks: %s: %s more not delivered", delivery.target.name, _events(delivery.lost))
        if left or self._overflowed:
            logger.warning(
                "hooks: %s not delivered within %.0f s at the end; see hooks.timeout and hooks.retries",
                _events(left + self._overflowed),
                limit_s,
            )

    def _drain_s(self) -> float:
        rules = self._rules
        return min(MAX_DRAIN_S, 5.0 + (rules.retries + 1) * (rules.timeout_s + FIRST_PAUSE_S))

    def _run(self) -> None:
        while not self._given_up.is_set() and (event := self._queue.get()) is not None:
            document = event.as_json()
            for delivery in self._deliveries:
                self._deliver(delivery, event, document)

    def _deliver(self, delivery: _Delivery, event: Event, document: bytes) -> None:
        """Deliver an event with the retries of its target; one that is down is tried once for each event."""
        target = delivery.target
        attempts = 1 if delivery.is_down else 1 + target.retries
        pause_s, failure = FIRST_PAUSE_S, None
        for attempt in range(1, attempts + 1):
            failure = target.deliver(document, self._rules.timeout_s)
            if failure is None:
                delivery.is_down = False
                logger.debug("hooks: %s: %s delivered", target.name, event.event)
                return
            if self._given_up.is_set():
                return
            if not failure.may_pass or attempt == attempts or self._given_up.wait(pause_s):
                break
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        if failure is None or self._given_up.is_set():
            return
        if delivery.is_down:
            delivery.lost += 1
            logger.debug("hooks: %s: %s not delivered: %s", target.name, event.event, failure.reason)
            return
        delivery.is_down = True
        tried = f" ({attempt} attempts)" if attempt > 1 else ""
        logger.warning("hooks: %s: %s not delivered: %s%s", target.name, event.event, failure.reason, tried)


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
