"""Watches the workers of a cluster: those that are gone, hang, or have no memory left."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ostcal.engine.cluster import worker_checks

logger = logging.getLogger(__name__)

SILENT_S = 15.0
GIVEN_UP_S = 60.0
"""Time without a sign of life after which a worker hangs; workers give one every 0.5 to 5 s. Dask waits 300 s."""
WATCH_S = 2.0
"""Time between two questions for the workers: one message there and back."""


class WorkerWatch:
    """The workers of a cluster, from one look to the next.

    It waits `wait_s` for a worker that takes work. One that gives no sign of life is told of after `silent_s`, and
    ended after `given_up_s`.
    """

    def __init__(
        self, client: Any, wait_s: float, *, silent_s: float = SILENT_S, given_up_s: float = GIVEN_UP_S
    ) -> None:
        self._client = client
        self._address = client.scheduler.address
        self._wait_s = wait_s
        self._silent_s = silent_s
        self._given_up_s = given_up_s
        self._alone_since: float | None = None
        self._seen: dict[str, tuple[float, float]] = {}
        """Of each worker when the scheduler heard of it last, and when that was new here; their clocks may differ."""
        self._silent: set[str] = set()

    def look(self) -> str:
        """Ask for the workers; return why they need not be waited for any longer, or nothing.

        There was none, or none with memory left, for too long. A silent one is said, and started again later.
        """
        states = self.look_for_silence()
        now = time.monotonic()
        if any(takes_work for _, takes_work in states.values()):
            self._alone_since = None
            return ""
        if self._alone_since is None:
            self._alone_since = now
            logger.warning(
                "%s: no worker of the Dask cluster %s; waiting up to %g s for one",
                self._address,
                "takes work, their memory is full" if states else "is left",
                self._wait_s,
            )
        elif now - self._alone_since > self._wait_s:
            if states:
                return (
                    f"{self._address}: no worker of the Dask cluster has taken work for {self._wait_s:g} s, their "
                    "memory is full; set compute.memory_limit lower, or give them more (dask worker --memory-limit)"
                )
            return (
                f"{self._address}: the Dask cluster has had no worker for {self._wait_s:g} s; start workers "
                "(dask worker ADDRESS) and the same command again, or wait longer with compute.worker_wait"
            )
        return ""

    def look_for_silence(self) -> dict[str, tuple[float, bool]]:
        """Ask for the workers; say which are silent, and end those that are for too long. Return what they do."""
        states: dict[str, tuple[float, bool]] = self._client.run_on_scheduler(worker_checks.states_of_workers)
        for address in self._seen.keys() - states.keys():
            logger.info("worker %s has left the cluster; what it had in work is done again", address)
        now = time.monotonic()
        before = self._seen
        self._seen = {
            address: before[address] if address in before and before[address][0] == last else (last, now)
            for address, (last, _) in states.items()
        }
        for address, (_, since) in self._seen.items():
            self._said_of_silence(address, now - since)
        return states

    def _said_of_silence(self, address: str, silent_s: float) -> None:
        """Say that nothing was heard of a worker; if that lasts, end it, so that others do its work."""
        if silent_s < self._silent_s:
            self._silent.discard(address)
            return
        if address not in self._silent:
            self._silent.add(address)
            logger.warning(
                "worker %s has not been heard of for %.0f s; after %g s others do its work",
                address,
                silent_s,
                self._given_up_s,
            )
        if silent_s > self._given_up_s:
            logger.warning("worker %s has not been heard of for %.0f s; it is ended", address, silent_s)
            self._client.run_on_scheduler(worker_checks.restart_worker, address)


@contextmanager
def silent_workers_end(
    client: Any, *, silent_s: float = SILENT_S, given_up_s: float = GIVEN_UP_S, watch_s: float = WATCH_S
) -> Iterator[None]:
    """End workers that give no sign of life while all are asked something: the question waits for every answer."""
    workers = WorkerWatch(client, math.inf, silent_s=silent_s, given_up_s=given_up_s)
    answered = threading.Event()

    def look() -> None:
        while not answered.wait(watch_s):
            try:
                workers.look_for_silence()
            except (OSError, ValueError, TimeoutError):  # the scheduler is lost: who asks meets it
                return

    threading.Thread(target=look, name="ostcal-silent-workers", daemon=True).start()
    try:
        yield
    finally:
        answered.set()
