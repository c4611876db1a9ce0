"""The directory of the masters: one run at a time writes there, and sweeps what killed runs left."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from ostcal.errors import StorageError
from ostcal.library.master_names import DEFECT_FOLDER, run_time_of
from ostcal.library.store import MasterStore
from ostcal.naming import safe_word
from ostcal.places.durable import sweep_partial_files
from ostcal.places.locking import LOCK_FILE, PROCESS_MARK, LockRules, is_running, locked
from ostcal.places.paths import AnyPath, check_writable, directories_in, joined, names_in, path_of, remove_tree

logger = logging.getLogger(__name__)

SCRATCH_PREFIX = ".unpacked-"


@contextmanager
def owned(output_dir: str, store: MasterStore, wait_s: float) -> Iterator[str]:
    """Make and lock the directory of the masters, and remove what killed runs left, except strips to be taken over.

    Yields the name of a directory for unpacked frames, which is removed at the end.

    Raises
    ------
    StorageError
        If it cannot be written, or another run is writing there.
    """
    try:
        check_writable(output_dir)
    except OSError as error:
        raise StorageError(
            f"{output_dir}: masters cannot be written there ({error.strerror or error}); "
            "set master_frames.output_dir to a directory that you may write"
        ) from error
    directory = path_of(output_dir)
    scratch = joined(output_dir, f"{_scratch_prefix()}{os.getpid()}-{PROCESS_MARK}-{uuid.uuid4().hex}")
    advice = "choose another master_frames.output_dir"
    with locked(directory / LOCK_FILE, LockRules(wait_s=wait_s), what=output_dir, advice=advice):
        for place in (directory, directory / DEFECT_FOLDER):
            sweep_partial_files(place)
        _sweep(directory, store)
        store.sweep(keep_begun=True, alone=True)
        try:
            yield scratch
        finally:
            remove_tree(path_of(scratch), ignore_errors=True)


def _scratch_prefix() -> str:
    return f"{SCRATCH_PREFIX}{safe_word(socket.gethostname())}-"


def _sweep(output_dir: AnyPath, store: MasterStore) -> None:
    """Remove frames that killed runs of this computer unpacked (gigabytes), and masters that they did not record."""
    prefix = _scratch_prefix()
    for directory in directories_in(output_dir):
        pid, _, mark = directory.name.removeprefix(prefix).partition("-")
        if directory.name.startswith(prefix) and pid.isdecimal() and not is_running(int(pid), mark.partition("-")[0]):
            remove_tree(directory, ignore_errors=True)
    begun = {stamp for name in store.left_behind() if (stamp := run_time_of(name))}
    if not begun:
        return
    try:
        of_that_time = [store.attributes(name) for name in store.names() if run_time_of(name) in begun]
        recorded = {file for attributes in of_that_time for file in attributes.get("files", ())}
        for name in names_in(output_dir):
            is_master = name.lower().startswith("master") and name.endswith((".fits", ".xisf"))
            if is_master and name not in recorded and run_time_of(os.path.splitext(name)[0]) in begun:
                (output_dir / name).unlink(missing_ok=True)
    except (OSError, StorageError) as error:
        logger.warning("%s: what a killed run left cannot be removed: %s", output_dir, error)
