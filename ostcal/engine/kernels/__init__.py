"""The compiled inner loops: numpy arrays in, planes written, no input or output, no options object.

A strip is worked off in tiles of `TILE` neighbouring pixels. A tile is loaded (byte order and sign bit on the way),
sorted along the frames with a network of compare-exchanges whose inner loop runs over the pixels (SIMD), and in sorted
order every rejection method keeps a contiguous run ``[lo, hi)``. All functions are serial and release the GIL: Dask
owns the threads. Exact definitions: ``docs/methods.md``; literal reference: ``tests/naive.py``.

The loops write out what numpy would say in one line, since that is what compiles to SIMD code.

Letters, each of one pixel unless it says otherwise:

=========== =======================================================================================================
x           column of a tile, 0 to TILE - 1
n           samples of the run at hand, or frames
lo, hi      the run of a sorted tile that is kept so far: frames lo to hi - 1
a, b        the run that a pass would keep
d           a sample relative to `ref`
ref         what sums are relative to: upper median of words; lowest sample or upper median of floats
s1, s2      sums of d and d^2 over the run
t1, t2      the same in 32 bits
v           n s2 - s1^2, which is n^2 times the population variance
m2          twice the median, a whole number
mad4        four times the MAD, a whole number
floors      the spread, in 1e-6 ADU, that the MAD does not fall below; or the modelled one
low, high   lowest and highest kept sample; or the limits on each side
p / q       a threshold k as a fraction: `low_numerator` / `low_denominator` and so on
todo        pixels that the first pass may reject something of
valid       finite samples
=========== =======================================================================================================
"""

from ostcal.engine.kernels.averages import average_corrected, average_half_adu, average_words
from ostcal.engine.kernels.floats import combine_corrected, combine_floats
from ostcal.engine.kernels.network import TILE, sorting_network
from ostcal.engine.kernels.overscan import (
    QUANTA_PER_ADU,
    half_adu_words,
    subtract_column_levels,
    subtract_row_levels,
)
from ostcal.engine.kernels.runs import Planes
from ostcal.engine.kernels.samples import Coding, Corrected, correct_words, sum_words
from ostcal.engine.kernels.words import combine_words

__all__ = [
    "QUANTA_PER_ADU",
    "TILE",
    "Coding",
    "Corrected",
    "Planes",
    "average_corrected",
    "average_half_adu",
    "average_words",
    "combine_corrected",
    "combine_floats",
    "combine_words",
    "correct_words",
    "half_adu_words",
    "sorting_network",
    "subtract_column_levels",
    "subtract_row_levels",
    "sum_words",
]
