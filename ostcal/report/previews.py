"""Pictures of the masters of a report: the master itself, what was rejected, defects, and frames to look at."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from ostcal.measure.masters.marked_pixels import MOST_HELD, Crops, MarkedPixels, MarkedValues, find_marked
from ostcal.measure.pictures import block_side, downsample, grey_image, zscale_limits
from ostcal.places.paths import is_file
from ostcal.report.defect_lists import DefectList
from ostcal.report.png import Crop, MasterPictures, Picture
from ostcal.row_window import RowWindow
from ostcal.series.stack import ZarrStack

logger = logging.getLogger(__name__)

PICTURE_WIDTH = 640
THUMBNAIL_WIDTH = 160
WORST_SIDE = 192
"""Pixels along the side of the crop of the worst part: three tiles in which marked pixels are counted."""
BRIGHT_SIDE = 64
MOST_BRIGHT = 6
"""Crops of the hottest pixels."""
MOST_THUMBNAILS = 12
"""Of a master: more than a dozen odd frames have one cause, and the page stays below a megabyte a master."""

SERIES_LABEL = re.compile(r"(.*\.zarr)#(\d+)")
"""How inputs name a frame of a series: its location and index."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaneContents:
    """What the planes of a master show."""

    pictures: MasterPictures
    defects: DefectList | None
    """``None`` where nothing is marked, or more than is listed."""


def master_pictures(stored: StoredMaster, master: LibraryMaster, attributes: Mapping[str, Any]) -> PlaneContents:
    """Make the pictures of a stored master from its planes and attributes; each plane is read once."""
    is_bayer = master.key.bayer_pattern is not None
    unit = "" if master.key.frame_type is FrameType.FLAT else "ADU"
    of_pixels = (attributes.get("quality") or {}).get("master") or {}
    marked = _marked(stored) if stored.has("dq") else None
    worst_at = marked.worst_square(WORST_SIDE) if marked is not None else None
    hottest = _apart(of_pixels.get("hottest") or ())
    crops = _crops(stored.shape, worst_at, hottest)
    values = MarkedValues(marked) if marked is not None and marked.n_marked <= MOST_HELD else None
    rows_of_master = _window(stored, "master")

    def rows(start: int, stop: int) -> NDArray[np.float32]:
        """Return rows of the master for the picture, and let those see them that need some of its pixels."""
        block: NDArray[np.float32] = rows_of_master.borrowed(start, stop)
        crops.see(start, block)
        if values is not None:
            values.see(start, block)
        return block

    image = downsample(rows, stored.shape, PICTURE_WIDTH, bayer=is_bayer)
    shown = _in_common_limits(crops.images, unit)
    worst = Crop(picture=shown.pop(0), row=worst_at[0], column=worst_at[1]) if worst_at is not None else None
    pictures = MasterPictures(
        picture=in_zscale(image, unit),
        rejection_map=_rejection_map(of_pixels.get("rejected")),
        defect_map=Picture(pixels=marked.map, unit="") if marked is not None else None,
        worst_part=worst,
        brightest=tuple(
            Crop(picture=picture, row=pixel["row"], column=pixel["column"], value=pixel["value"])
            for picture, pixel in zip(shown, hottest, strict=True)
        ),
        thumbnails=_thumbnails(attributes, is_bayer=is_bayer),
    )
    if marked is None or values is None or not (marked.n_marked or marked.parts):
        return PlaneContents(pictures=pictures, defects=None)
    defects = DefectList(
        master=master.record.name,
        unit=unit,
        shape=stored.shape,
        n_marked=marked.n_marked,
        pixels=values.worst(),
        parts=marked.parts,
    )
    return PlaneContents(pictures=pictures, defects=defects)


def _window(stored: StoredMaster, plane: Plane) -> RowWindow:
    return RowWindow(partial(stored.read_rows, plane), stored.shape[0], stored.chunk_rows)


def _marked(stored: StoredMaster) -> MarkedPixels:
    """Read the DQ plane of a master."""
    dq, step, height = _window(stored, "dq"), stored.chunk_rows, stored.shape[0]
    strips = ((start, dq.borrowed(start, min(start + step, height))) for start in range(0, height, step))
    return find_marked(strips, stored.shape, block_side(stored.shape[1], PICTURE_WIDTH))


def _thumbnails(attributes: Mapping[str, Any], *, is_bayer: bool) -> dict[int, Picture]:
    """Make small pictures of frames that findings name, by their position."""
    named = dict.fromkeys(
        finding["frame"]
        for finding in (attributes.get("quality") or {}).get("findings", ())
        if finding["frame"] is not None and finding["outcome"] != "pass"
    )
    thumbnails = {}
    for position in islice(named, MOST_THUMBNAILS):
        try:
            thumbnails[position] = _thumbnail(attributes["inputs"][position], is_bayer=is_bayer)
        except (OstcalError, OSError, IndexError) as error:  # the frame can no longer be read
            logger.debug("no thumbnail: %s", error)
    return thumbnails


def _rejection_map(cells: Sequence[Sequence[float | None]] | None) -> Picture | None:
    """Return the map of rejected samples that is stored with a master."""
    if not cells:
        return None
    shares = np.array([[0.0 if value is None else value for value in row] for row in cells])
    most = max(float(shares.max()), 1e-6)
    return Picture(pixels=grey_image(shares, (0.0, most)), black=0.0, white=most, unit="share of the samples")


def _apart(hottest: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the hottest pixels, of those that one crop would show together the first."""
    found: list[Mapping[str, Any]] = []
    for pixel in hottest:
        far = [max(abs(pixel["row"] - one["row"]), abs(pixel["column"] - one["column"])) for one in found]
        if min(far, default=BRIGHT_SIDE) >= BRIGHT_SIDE // 2:
            found.append(pixel)
        if len(found) == MOST_BRIGHT:
            break
    return found


def _crops(shape: tuple[int, int], worst_at: tuple[int, int] | None, hottest: Sequence[Mapping[str, Any]]) -> Crops:
    """Return the crops that are to be cut: the worst part, if there is one, and the hottest pixels in their middle."""
    height, width = shape
    places = [worst_at] if worst_at is not None else []
    sides = [(min(WORST_SIDE, height), min(WORST_SIDE, width))] * len(places)
    side = min(BRIGHT_SIDE, height), min(BRIGHT_SIDE, width)
    for pixel in hottest:
        top, left = pixel["row"] - side[0] // 2, pixel["column"] - side[1] // 2
        places.append((max(0, min(top, height - side[0])), max(0, min(left, width - side[1]))))
        sides.append(side)
    return Crops(places, sides)


def _in_common_limits(images: Sequence[NDArray[np.float32]], unit: str) -> list[Picture]:
    """Return crops of one master as grey values between the zscale limits of all of them."""
    if not images:
        return []
    limits = zscale_limits(np.concatenate([image.ravel() for image in images]))
    return [_in_limits(image, limits, unit) for image in images]


def _in_limits(image: NDArray[np.floating[Any]], limits: tuple[float, float], unit: str) -> Picture:
    return Picture(pixels=grey_image(image, limits), black=limits[0], white=limits[1], unit=unit)


def in_zscale(image: NDArray[np.floating[Any]], unit: str) -> Picture:
    """Return a (height, width) image as grey values between its zscale limits."""
    return _in_limits(image, zscale_limits(image), unit)


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
