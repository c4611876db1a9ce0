"""Sort a tile of pixels along the frames, all pixels at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.compiling import kernel

TILE = 256
"""Pixels sorted at once: 40 uint16 samples of 256 pixels are 20 KB and stay in a 32 KB L1 cache."""


@cache
def sorting_network(n: int) -> NDArray[np.int32]:
    """Return the compare-exchanges that sort `n` values, (n_comparators, 2) int32.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M): 305 for n = 40.
    """
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs.extend((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return np.array(pairs, dtype=np.int32).reshape(-1, 2)


@kernel
def sort_columns(tile: NDArray[Any], network: NDArray[np.int32]) -> None:
    """Sort a tile, (n_frames, TILE) uint16 or float, along axis 0 with a network from `sorting_network`.

    Minimum and maximum come from one comparison, so that floats without NaN are SIMD too.
    """
    for c in range(network.shape[0]):
        upper = tile[network[c, 0]]
        lower = tile[network[c, 1]]
        for x in range(TILE):
            a = upper[x]
            b = lower[x]
            upper[x] = a if a < b else b
            lower[x] = b if a < b else a
