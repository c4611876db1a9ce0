"""Pictures of the masters of a report: the master itself, what was rejected, defects, and frames to look at."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostcal.errors import OstcalError, StorageError
from ostcal.fits.read import FitsFrame, FitsStack, inspect_images
from ostcal.frames import FrameType
from ostcal.library.find import LibraryMaster
from ostcal.library.planes import Plane, StoredMaster
from ostcal.measure.pictures import block_side, downsample, grey_image, zscale_limits
from ostcal.places.paths import is_file
from ostcal.report.png import MasterPictures, Picture
from ostcal.row_window import RowWindow
from ostcal.series.stack import ZarrStack

logger = logging.getLogger(__name__)

PICTURE_WIDTH = 640
THUMBNAIL_WIDTH = 160
MOST_THUMBNAILS = 12
"""Of a master: more than a dozen odd frames have one cause, and the page stays below a megabyte a master."""

SERIES_LABEL = re.compile(r"(.*\.zarr)#(\d+)")
"""How inputs name a frame of a series: its location and index."""


def master_pictures(stored: StoredMaster, master: LibraryMaster, attributes: Mapping[str, Any]) -> MasterPictures:
    """Make the pictures of a stored master from its planes and attributes."""
    is_bayer = master.key.bayer_pattern is not None
    quality = attributes.get("quality") or {}

    def window(plane: Plane) -> RowWindow:
        return RowWindow(partial(stored.read_rows, plane), stored.shape[0], stored.chunk_rows)

    named = dict.fromkeys(
        finding["frame"]
        for finding in quality.get("findings", ())
        if finding["frame"] is not None and finding["outcome"] != "pass"
    )
    thumbnails = {}
    for position in islice(named, MOST_THUMBNAILS):
        try:
            thumbnails[position] = _thumbnail(attributes["inputs"][position], is_bayer=is_bayer)
        except (OstcalError, OSError, IndexError) as error:  # the frame can no longer be read
            logger.debug("no thumbnail: %s", error)
    image = downsample(window("master").rows, stored.shape, PICTURE_WIDTH, bayer=is_bayer)
    rejection_map = None
    if cells := (quality.get("master") or {}).get("rejected"):
        shares = np.array([[0.0 if value is None else value for value in row] for row in cells])
        most = max(float(shares.max()), 1e-6)
        pixels = grey_image(shares, (0.0, most))
        rejection_map = Picture(pixels=pixels, black=0.0, white=most, unit="share of the samples")
    defect_map = None
    if stored.has("dq"):
        height, width = stored.shape
        side = block_side(width, PICTURE_WIDTH)
        across, dq = np.arange(0, width, side), window("dq")
        strips = (dq.rows(start, min(start + side, height)) for start in range(0, height, side))
        bits = [np.bitwise_or.reduceat(np.bitwise_or.reduce(strip, axis=0), across) for strip in strips]
        defect_map = Picture(pixels=np.stack(bits), unit="")
    return MasterPictures(
        picture=in_zscale(image, "" if master.key.frame_type is FrameType.FLAT else "ADU"),
        rejection_map=rejection_map,
        defect_map=defect_map,
        thumbnails=thumbnails,
    )


def in_zscale(image: NDArray[np.floating[Any]], unit: str) -> Picture:
    """Return a (height, width) image as grey values between its zscale limits."""
    black, white = zscale_limits(image)
    return Picture(pixels=grey_image(image, (black, white)), black=black, white=white, unit=unit)


def _thumbnail(label: str, *, is_bayer: bool) -> Picture:
    """Make a small picture of a frame, which an input of a master names."""
    stack: ZarrStack | FitsStack
    if stored := SERIES_LABEL.fullmatch(label):
        stack = ZarrStack(stored[1], (int(stored[2]),))
    else:
        fits = _image_of(label)
        if fits.packed != "none":
            raise StorageError(f"{label}: a compressed file has no thumbnail")
        stack = FitsStack((fits,))
    _, height, width = stack.shape

    def read_rows(start: int, stop: int) -> NDArray[np.float32]:
        block = np.empty((1, stop - start, width), stack.encoding.dtype)
        stack.read_rows(start, stop, block)
        rows: NDArray[np.float32] = stack.encoding.decode(block)[0].astype(np.float32)
        return rows

    return in_zscale(downsample(read_rows, (height, width), THUMBNAIL_WIDTH, bayer=is_bayer), "ADU")


def _image_of(label: str) -> FitsFrame:
    """Inspect the image that a label names (`FitsFrame.label`)."""
    path = label
    while path.endswith("]") and not is_file(path):
        path = path.rpartition("[")[0]
    images = inspect_images(path, cubes="[plane " in label)
    names = [(image.label, *(image.as_extension(name).label for name in image.possible_labels)) for image in images]
    found = next((image for image, known in zip(images, names, strict=True) if label in known), None)
    if found is None:
        raise StorageError(f"{label}: there is no such image in the file")
    return found
