"""ccdproc.combine as its documentation recommends it, with the faster of the spellings it accepts.

The names ``"mean"`` and ``"mad_std"`` select astropy's compiled functions: 1.2 to 1.8 times faster than the callables
``np.ma.mean`` and ``mad_std`` of the examples. ``combine`` offers one clipping pass, not clipping to convergence.

Usage: peer_ccdproc.py CENTER SPREAD MEMORY_LIMIT_BYTES OUTPUT FRAME...
"""

from __future__ import annotations

import sys

import ccdproc


def main() -> None:
    """Combine the frames named on the command line."""
    center, spread, memory_limit_bytes, output, *frames = sys.argv[1:]
    ccdproc.combine(
        frames,
        output_file=output,
        method="average",
        sigma_clip=True,
        sigma_clip_low_thresh=3,
        sigma_clip_high_thresh=3,
        sigma_clip_func=center,
        sigma_clip_dev_func=spread,
        mem_limit=float(memory_limit_bytes),
        dtype="float32",
        unit="adu",
    )


if __name__ == "__main__":
    main()
