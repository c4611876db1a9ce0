"""Threads and processes of this computer: Dask's local schedulers on a pool of ours."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

from ostcal.engine.execution import Execution, Graph, Key, Lost
from ostcal.engine.interrupts import interrupts_ignored
from ostcal.engine.tiling import LOCAL_TASK_BYTES
from ostcal.errors import OstcalError
from ostcal.frozen import processes_from_now_on, stopped_children_end

logger = logging.getLogger(__name__)


class LocalExecutor:
    """Threads or processes of this computer; an `ostcal.engine.execution.Executor`."""

    window: int | None = None
    threads_per_worker = 1
    task_bytes = LOCAL_TASK_BYTES

    def __init__(self, execution: Execution) -> None:
        self.workers = execution.workers
        self._execution = execution
        self._graph: Graph = {}
        self._ends: list[Key] = []

    def submit(self, graph: Graph, ends: Sequence[Key]) -> None:
        """Keep a graph for `work`."""
        self._graph, self._ends = graph, list(ends)

    def work(self, ended: Callable[[Key, Any], None]) -> None:
        """Run all that was submitted; when a process dies, everything that has not ended is lost."""
        # Dask's callbacks of a run: at its start, with its first state, before and after a task, at its end.
        callbacks = [(None, None, None, lambda key, result, *_: ended(key, result), None)]
        if self._execution.scheduler == "threads":
            import dask.threaded

            with ThreadPoolExecutor(self.workers, thread_name_prefix="ostcal") as threads:
                dask.threaded.get(self._graph, self._ends, pool=threads, callbacks=callbacks)
            return
        import dask.multiprocessing

        try:
            with _process_pool(self.workers, self._execution.prepare) as processes:
                dask.multiprocessing.get(
                    self._graph, self._ends, pool=processes, optimize_graph=False, chunksize=1, callbacks=callbacks
                )
        except BrokenProcessPool:
            logger.warning("a worker process was killed (by the system, if memory is short); its work is done again")
            for key in self._ends:
                ended(key, Lost())

    def release(self, keys: Iterable[Key]) -> None:
        """Do nothing: Dask has let go of them."""


@contextmanager
def _process_pool(workers: int, prepare: Callable[[], None] | None) -> Iterator[ProcessPoolExecutor]:
    """Start processes that ignore Ctrl-C from their first moment: importing takes a second, in which it may come."""
    context, started = multiprocessing.get_context("spawn"), processes_from_now_on()
    with stopped_children_end(started):
        with interrupts_ignored():
            pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_process, initargs=(prepare,))
            try:
                for _ in range(workers):  # each starts a process, which inherits what is ignored
                    pool.submit(int)
            except (BrokenPipeError, ConnectionError) as error:  # one was killed while it was started
                pool.shutdown(cancel_futures=True)
                raise BrokenProcessPool(str(error)) from error
            except OSError as error:
                pool.shutdown(cancel_futures=True)
                raise OstcalError(
                    f"worker processes cannot be started ({error.strerror or error}); set compute.workers lower, or "
                    "compute.scheduler to threads"
                ) from error
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_process(prepare: Callable[[], None] | None) -> None:
    """Leave Ctrl-C, which the terminal sends to all processes, to the parent, and end when the parent was killed."""

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)  # otherwise this process waits for work for ever

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, name="ostcal-parent", daemon=True).start()
    if prepare is not None:
        with suppress(OstcalError):  # the first task meets the same error and can report it
            prepare()
