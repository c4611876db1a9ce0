"""How to recognise the same frame in two places, whatever file holds it, and the same file at another time."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.opening import open_regular


def fingerprint_rows(height: int) -> tuple[int, int, int]:
    """Return the three rows whose values identify a frame: a quarter, half and three quarters up."""
    return height // 4, height // 2, 3 * height // 4


def rows_fingerprint(rows: NDArray[Any], *, height: int) -> str:
    """Hash the values of the rows of ``fingerprint_rows`` with the frame's size.

    Three rows are enough: two exposures of one camera differ by noise in almost every pixel, so two frames that
    agree in three whole rows are copies of one file; and three rows cost three seeks instead of the whole frame.

    `rows` are (3, width) values in ADU; equal ones have equal hashes whatever their dtype, up to 53 bits, and whether a
    value is -0.0 or 0.0, and which NaN it is, makes no difference. The hash has 40 hexadecimal digits; it is empty for
    rows of one value, which recognise nothing (no camera makes such frames, but tests and masks do).
    """
    values = np.array(rows, dtype="<f8", order="C")
    values += 0.0  # -0.0 becomes 0.0
    if np.all(values == values.flat[0]):
        return ""
    values[np.isnan(values)] = np.nan  # one bit pattern for every NaN
    digest = hashlib.blake2b(digest_size=20)
    digest.update(f"{rows.shape[1]}x{height}:".encode("ascii"))
    digest.update(values.tobytes())
    return digest.hexdigest()


_START_BYTES = 65536
_PIECES = 8
_PIECE_BYTES = 4096


def file_digest(path: str) -> str:
    """Hash the length of a file of this computer, its start, where headers are, and pieces spread over the rest.

    Two exposures differ in their headers, and by noise in every piece.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        n_bytes = file.seek(0, io.SEEK_END)
        digest.update(f"{n_bytes}:".encode("ascii"))
        rest = max(0, n_bytes - _START_BYTES)
        pieces = [(_START_BYTES + rest * piece // _PIECES, _PIECE_BYTES) for piece in range(_PIECES)]
        for start, length in [(0, _START_BYTES), *pieces, (max(0, n_bytes - _PIECE_BYTES), _PIECE_BYTES)]:
            file.seek(start)
            digest.update(file.read(length))
    return digest.hexdigest()
