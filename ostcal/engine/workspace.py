"""Room that a thread uses again for block after block: fresh pages are dear, on a virtual machine 2.5 s for each GB."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

_of_thread = threading.local()


def reused_block(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Give this thread's block of samples, made anew only when it must grow; good until it is asked for again.

    Fresh ones cost 1 s of CPU for the strips of 40 frames of 61 MP, and 0.2 s for their survey.
    """
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return reused_bytes("block", n_bytes).view(dtype).reshape(shape)


def reused_bytes(name: str, n_bytes: int) -> NDArray[np.uint8]:
    """Give this thread's room of a name, made anew only when it must grow."""
    buffer: NDArray[np.uint8] | None = getattr(_of_thread, name, None)
    if buffer is None or buffer.nbytes < n_bytes:
        buffer = np.empty(n_bytes, np.uint8)
        setattr(_of_thread, name, buffer)
    return buffer[:n_bytes]
