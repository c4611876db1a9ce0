"""Dask clusters: an existing scheduler by its address, or a cluster of local processes for this run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ostcal.errors import OstcalError

CONNECT_TIMEOUT_S = 20


@contextmanager
def cluster_client(address: str | None, workers: int, memory_limit_bytes: int | None) -> Iterator[Any]:
    """Give a client of the scheduler at `address`, or of a local cluster that lives as long as the context.

    Parameters
    ----------
    address : str or None
        ``tcp://host:8786``; ``None`` starts worker processes of one thread each on this machine.
    workers : int
        Processes of a local cluster.
    memory_limit_bytes : int or None
        Limit in bytes for all processes of a local cluster together.

    Raises
    ------
    OstcalError
        If nothing answers at the address.
    """
    from distributed import Client, LocalCluster

    if address is not None:
        try:
            client = Client(address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:  # ValueError: an address of an unknown kind
            raise OstcalError(
                f"compute.address {address}: no Dask scheduler answered within {CONNECT_TIMEOUT_S} s ({error}); "
                "check the address and that the scheduler runs"
            ) from error
        with client:
            yield client
        return
    # The memory is planned per strip; Dask's own limit would pause or kill workers by another count.
    with _interrupts_ignored():
        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None
        )
    with cluster, Client(cluster) as client:
        yield client


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Start children that ignore Ctrl-C, which a terminal sends to all: the parent alone ends the run and says so."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
