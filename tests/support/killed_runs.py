"""`ostcal` run over and over by one process, its runs and what works for them killed, and what is left then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ostcal.library.index import MASTERS_INDEX
from ostcal.library.master_names import DEFECT_FOLDER
from ostcal.library.store import MasterStore
from ostcal.places.latest_folder import LATEST
from support.fits_samples import read_with_astropy
from support.forking import ForkServer, forking

ENDS_WITHIN_S = 10.0
"""Workers, after their parent was killed; on two busy cores."""
COMPLETE = {"masters.zarr", ".ostcal.lock", LATEST, DEFECT_FOLDER, MASTERS_INDEX}

# Starting Python and importing takes 1 to 2 s: so one process imports, and each run is a fork of it, in a group of its
# own, so that no worker outlives it.
RUNNER = """
    import json, os, sys, threading
    import numpy as np
    import ostcal.cli.masters, ostcal.cli.calibrate, ostcal.build.run, ostcal.build.api, ostcal.science.api
    from ostcal.cli import main
    from ostcal.engine.combine import combine_block
    from ostcal.engine.rejection import SeriesNoise, SigmaClip
    from ostcal.frames import SampleEncoding

    stack = np.arange(7 * 4 * 28, dtype=np.uint16).reshape(7, 4, 28)
    combine_block(stack, SampleEncoding(dtype="uint16"), SigmaClip().resolved(7), noise=SeriesNoise(noise_adu=1.0))
    print("ready", threading.active_count(), flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            main(json.loads(line))
        print(child, flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Images = dict[str, NDArray[np.float32]]


class Runner:
    """Runs `ostcal` over and over."""

    def __init__(self, server: ForkServer, log: Path) -> None:
        self._server = server
        self._log = log

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def start(self, *arguments: str | Path) -> int:
        """Start a run; gives its process id."""
        return self._server.ask(json.dumps([str(argument) for argument in arguments]))

    def whole(self, *arguments: str | Path) -> float:
        """Run to the end; gives the seconds it took."""
        began = time.monotonic()
        self.start(*arguments)
        code = self.ended()
        assert code == 0, self.text
        assert "Traceback" not in self.text
        return time.monotonic() - began

    def killed(self, after_s: float, *arguments: str | Path) -> bool:
        """Kill a run after a while, workers and all; gives whether it was still running."""
        pid = self.start(*arguments)
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)  # it may have ended, but nobody has waited for it: it is no other process
        code = self.ended()
        assert "Traceback" not in self.text
        deadline = time.monotonic() + ENDS_WITHIN_S
        while (left := living(pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []
        return code == -signal.SIGKILL

    def ended(self) -> int:
        """Wait for the end of the run; gives its exit status."""
        return self._server.ask("wait")


def living(group: int) -> list[int]:
    """Return the processes of a group that still run (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().rpartition(b")")[2].split()
            if int(words[2]) == group and words[0] not in (b"Z", b"X"):
                found.append(int(path.parent.name))
    return found


@contextmanager
def running(log: Path) -> Iterator[Runner]:
    with forking(RUNNER, str(log)) as server:
        yield Runner(server, log)


def images_of(masters: Path) -> Images:
    """Return the images of the FITS masters by their names without the time."""
    return {path.name.rsplit("_", 2)[0]: read_with_astropy(path)[0] for path in sorted(masters.glob("*.fits"))}


def stored_images(masters: Path) -> Images:
    store = MasterStore(masters / "masters.zarr")
    return {name.rsplit("_", 2)[0]: store.open(name).array() for name in store.names()}


def same(images: Images, truth: Images) -> bool:
    return all(np.array_equal(image, truth[name], equal_nan=True) for name, image in images.items())


def strays(masters: Path) -> list[str]:
    """Return what is no master, report, log or store."""
    names = {path.name for path in masters.iterdir()} - COMPLETE
    ends = (".fits", ".log", ".html", ".json", ".jsonl")
    odd = [name for name in names if not name.endswith(ends) or "partial" in name or name.startswith(".")]
    odd += [str(path) for path in masters.rglob("*.partial")] + [str(path) for path in masters.rglob("writing.json")]
    groups = [path for path in (masters / "masters.zarr").iterdir() if path.is_dir()]
    return odd + [str(path) for path in groups if not (path / "zarr.json").exists()]
