"""Where a run reads and writes, as its workers must know it: directories are looked at, object stores are reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ostcal.engine.graph import Execution
from ostcal.places.objects import ObjectAccess, current_options
from ostcal.places.paths import is_dir, is_remote


def placed(execution: Execution, output_dir: str, input_dirs: Sequence[str]) -> Execution:
    """Tell an execution the places of a run.

    Parameters
    ----------
    execution : Execution
    output_dir : str
        Of the masters or calibrated frames; every worker writes there.
    input_dirs : sequence of str
        Every worker reads there; local ones that do not exist are left out.
    """
    local = [directory for directory in input_dirs if not is_remote(directory) and is_dir(directory)]
    remote = [directory for directory in input_dirs if is_remote(directory)]
    access = ObjectAccess(
        options=current_options(), read=tuple(remote), written=(output_dir,) if is_remote(output_dir) else ()
    )
    return replace(
        execution,
        output_dir=None if is_remote(output_dir) else output_dir,
        input_dirs=tuple(local),
        prepare=access if access.read or access.written else None,
    )
