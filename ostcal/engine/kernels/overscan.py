"""Subtract the overscan level of each row from raw 16-bit words: whole numbers of 1/256 ADU, exact in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import door
from ostcal.engine.kernels.load import Coding, decoded

QUANTA_PER_ADU = 256
"""A 16-bit sample less a level in steps of 1/256 ADU has at most 24 bits, which is what a float32 holds."""


@door
def subtract_row_levels(
    block: NDArray[np.uint16], coding: Coding, levels: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Write raw words (rows, columns) less the level of their row (rows,), in 1/256 ADU, to `out` in ADU."""
    for y in range(block.shape[0]):
        row, target = block[y], out[y]
        zero = np.int64(coding.zero) * QUANTA_PER_ADU - levels[y]
        for x in range(row.size):
            value: Any = np.int64(decoded(row[x], coding)) * QUANTA_PER_ADU + zero
            target[x] = np.float32(np.float64(value) / QUANTA_PER_ADU)


@door
def subtract_column_levels(
    block: NDArray[np.uint16], coding: Coding, levels: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    """Do `subtract_row_levels` with a level for each column, (columns,)."""
    for y in range(block.shape[0]):
        row, target = block[y], out[y]
        for x in range(row.size):
            value: Any = (np.int64(decoded(row[x], coding)) + np.int64(coding.zero)) * QUANTA_PER_ADU - levels[x]
            target[x] = np.float32(np.float64(value) / QUANTA_PER_ADU)
