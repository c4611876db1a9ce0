"""Processes that unpack images are killed or stopped by others: they are started again, and no frame is lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from ostcal.decoding import DecoderProcess
from ostcal.errors import FrameError
from ostcal.fits.read import FitsFrame, inspect_fits
from ostcal.fits.tiles import TileReader

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals (POSIX)")

SHAPE = (2100, 2048)
"""More than one piece of an answer."""


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> FitsFrame:
    """Return a frame of two pieces in packed tiles."""
    path = tmp_path_factory.mktemp("packed") / "dark.fits.fz"
    rows = np.arange(SHAPE[0], dtype=np.uint16)[:, None] + np.arange(SHAPE[1], dtype=np.uint16)
    image = fits.CompImageHDU(rows, compression_type="RICE_1", tile_shape=(100, SHAPE[1]))
    image.header["IMAGETYP"] = "Dark Frame"
    image.header["EXPTIME"] = 5.0
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    return inspect_fits(path)


def decoder() -> psutil.Process:
    """Return the process that unpacks for this one."""
    children = [child for child in psutil.Process().children() if "tile_process.py" in " ".join(child.cmdline())]
    assert len(children) == 1
    return children[0]


def image(frame: FitsFrame, tiles: TileReader, number: int | None = None, *, at: int = 1) -> NDArray[np.uint8]:
    """Unpack a frame; send a signal to the process that does it after so many pieces."""
    pieces = []
    for piece in tiles.strips(frame):
        pieces.append(piece)
        if number is not None and len(pieces) == at:
            process = decoder()
            os.kill(process.pid, number)
            while process.is_running() and process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                time.sleep(0.001)
            number = None
    assert len(pieces) > 1
    return np.concatenate(pieces)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_a_decoder_that_is_killed_or_stopped_costs_no_frame(frame: FitsFrame, number: int) -> None:
    with TileReader() as tiles:
        whole = image(frame, tiles)
        assert np.array_equal(image(frame, tiles, number), whole)
        decoder().kill()  # between two frames, where it waits
        assert np.array_equal(image(frame, tiles), whole)


def test_a_decoder_that_is_killed_each_time_says_so_and_does_not_blame_the_file(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    process = DecoderProcess(str(program), verb=("unpack", "unpacked"), damaged="damaged", doing="unpacking")
    said = (
        r"^a\.fits: cannot be unpacked: the process that does it was killed 3 times \(SIGKILL\); see that there is mem"
    )
    with pytest.raises(FrameError, match=said):
        list(process.answer("a.fits", {}, 10))
    process.end()
