"""A program of its own that unpacks tile-compressed images for `ostcal.fits.tiles`, which starts it by its path.

The decoders of astropy are C code that checks nothing beforehand: of 1000 damaged files some end in a loop without end,
some write beyond their memory. Here that costs one frame, not the run.

It reads one request per line (JSON) and answers with pieces of samples: each its length as eight bytes and as many
bytes; ``END`` instead of a length ends an image, ``FAILED`` is followed by the reason.
"""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

END, FAILED = -1, -2
LENGTH = struct.Struct("<q")
PIECE_BYTES = 4 * 2**20

_MAX_EXPANSION = 1100
"""Bytes that one byte can become: DEFLATE ends at 1032, RICE at 128."""
_FREE_BYTES = 64 * 2**20
"""Of a strip, whatever the size of its file."""
_BASE_MEMORY_BYTES = 512 * 2**20
_PROCESS_BYTES = 64 * 2**20
"""Taken by the process before it decodes."""
_UNTOUCHED_BYTES = 48 * 2**20
"""Of addresses that decoders ask for and do not use; a sixteenth of what they need may come on top."""
_BASE_CPU_S = 3.0
_CPU_S_PER_PIXEL = 0.4e-6
"""The slowest coder takes 0.1 s per megapixel (HCOMPRESS; floats), and other processors are slower."""


def answer_requests() -> None:
    """Answer requests until the other side closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the run that reads ends itself, and this with it
    warnings.simplefilter("ignore")
    from astropy.io import fits

    answers = sys.stdout.buffer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            for strip in _strips(fits, request):
                for start in range(0, len(strip), PIECE_BYTES):
                    piece = memoryview(strip)[start : start + PIECE_BYTES]
                    answers.write(LENGTH.pack(len(piece)))
                    answers.write(piece)
            answers.write(LENGTH.pack(END))
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 (whatever the decoders make of damage, some of it of no public class)
            _limit(_BASE_MEMORY_BYTES, _BASE_CPU_S)
            reason = " ".join(_reason(error, request).split())[:500].encode("utf-8", "backslashreplace")
            answers.write(LENGTH.pack(FAILED) + LENGTH.pack(len(reason)) + reason)
        answers.flush()


def _reason(error: Exception, request: dict[str, Any]) -> str:
    if isinstance(error, MemoryError):
        memory = int(request["memory_bytes"]) // 2**20
        return f"decoding its tiles takes more memory than {memory} MiB, what compute.memory_limit leaves"
    return str(error) or type(error).__name__


def _strips(fits: Any, request: dict[str, Any]) -> Iterator[bytes]:
    """Yield stored samples, big-endian, in whole rows of tiles; refuse tiles larger than their file can hold."""
    lengths, rows = (int(request["height"]), int(request["width"])), int(request["rows"])
    needed_bytes, free_bytes = int(request["needed_bytes"]), int(request["memory_bytes"]) - _PROCESS_BYTES
    _limit(min(_BASE_MEMORY_BYTES, free_bytes), _BASE_CPU_S)
    with (
        open(request["path"], "rb") as file,
        fits.open(file, memmap=False, do_not_scale_image_data=True) as hdus,
    ):
        hdu = hdus[request["hdu_index"]]
        section, shape = hdu.section, tuple(hdu.section.shape)
        # the axis of rows among axes of one
        axes = [at for at in range(len(shape)) if (shape[at], math.prod(shape[at + 1 :])) == lengths]
        if not axes:
            raise ValueError(f"its tiles make {shape}, its header promises {lengths}")
        axis = axes[0]
        before = [at for at in range(axis) if shape[at] != 1]  # planes of a stack of frames
        plane = request["plane"]
        if len(before) != (plane is not None) or (before and plane >= shape[before[0]]):
            raise ValueError(f"its tiles make {shape}, its header promises {lengths}")
        row_bytes = lengths[1] * int(request["dtype"][-1])
        piece_rows = max(1, PIECE_BYTES // row_bytes)
        file_bytes = os.fstat(file.fileno()).st_size
        if rows * row_bytes > max(_FREE_BYTES, _MAX_EXPANSION * file_bytes):
            raise ValueError(f"{rows * row_bytes} bytes in one row of tiles cannot be in a file of {file_bytes}")
        for start in range(0, lengths[0], rows):
            _limit(
                min(_BASE_MEMORY_BYTES + needed_bytes, free_bytes + _UNTOUCHED_BYTES + needed_bytes // 16),
                _BASE_CPU_S + rows * lengths[1] * _CPU_S_PER_PIXEL,
            )
            index = [slice(None)] * len(shape)
            for at in before:
                index[at] = slice(plane, plane + 1)
            index[axis] = slice(start, min(start + rows, lengths[0]))
            part = section[tuple(index)].reshape(-1, lengths[1])
            for first in range(0, len(part), piece_rows):
                yield part[first : first + piece_rows].astype(request["dtype"]).tobytes()
            del part  # or two would be in memory while the next is decoded


def _limit(memory_bytes: int, cpu_s: float) -> None:
    """Limit memory and CPU time from now on: more memory is an error, more time ends the process."""
    if sys.platform == "win32":
        return
    import resource

    limits = {resource.RLIMIT_CPU: math.ceil(time.process_time() + cpu_s), resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            taken_bytes = int(file.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = taken_bytes + memory_bytes
    for kind, soft in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


if __name__ == "__main__":
    answer_requests()
