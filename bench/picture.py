"""Make the picture of the README from a folder that `scripts/demo` made: one frame beside its master.

python bench/picture.py demo docs/images/demo.png
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from astropy.io import fits
from PIL import Image

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ostcal.series.reader import open_series

CUT_OUT = (slice(300, 600), slice(400, 800))


def panels(demo: Path) -> list[tuple[str, np.ndarray]]:
    """Give title and pixels of each panel: frame and master, dark and flat."""
    (flats,) = (demo / "flats").glob("L_exp_*.zarr")
    dark = open_series(demo / "darks" / "exp_20.000s.zarr").read_frame(0).astype(float)
    flat = open_series(flats).read_frame(0).astype(float)
    masters = demo / "master_frames"
    master_dark = fits.getdata(sorted(masters.glob("master_dark_20.000s_*.fits"))[-1])
    master_flat = fits.getdata(sorted(masters.glob("master_flat_*_L_*.fits"))[-1])
    return [
        ("one dark of 20 s", dark[CUT_OUT]),
        ("master dark, 15 frames", master_dark[CUT_OUT]),
        ("one flat", flat),
        ("master flat, 15 frames", master_flat),
    ]


def main(demo: Path, target: Path) -> None:
    """Draw the panels; the dark and its master share one stretch."""
    drawn = panels(demo)
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.6), layout="constrained")
    dark_range = np.percentile(drawn[0][1], [0.5, 99.5])
    ranges = [dark_range, dark_range, *(np.percentile(pixels, [0.5, 99.5]) for _, pixels in drawn[2:])]
    for axis, (title, pixels), (low, high) in zip(axes.flat, drawn, ranges, strict=True):
        axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=80)
    Image.open(target).convert("L").save(target, optimize=True)  # a third of the size


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
