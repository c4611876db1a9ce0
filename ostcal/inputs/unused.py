"""What files hold beside their images and is not used, said once for all files that hold the same."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable

from ostcal.fits.read import FitsFrame

logger = logging.getLogger(__name__)


def log_unused(images: Iterable[FitsFrame]) -> None:
    """Name the tables, and the images about others, that raw frames bring along."""
    files: defaultdict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    for image in images:
        if image.unused and not image.metadata.is_master:
            files[image.unused][image.source] = None
    for names, sources in files.items():
        first, n_more = next(iter(sources)), len(sources) - 1
        more = f" and {n_more} more" if n_more else ""
        logger.info("%s%s: not used: %s (tables, about the images, or empty)", first, more, ", ".join(names))
