"""Files of the masters of files of several images: one file for all, with the extensions of the frames."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ostcal.build.prepare import PreparedMaster
from ostcal.build.publish import Published, image_planes, provenance_of
from ostcal.build.request import BuildRequest
from ostcal.build.strip_jobs import flat_treatment
from ostcal.engine.tiling import STRIP_PIXELS
from ostcal.errors import StorageError
from ostcal.fits.cards import Card
from ostcal.fits.sections import without_sections
from ostcal.fits.write import ImagePlane, write_fits
from ostcal.fits.write_xisf import write_xisf
from ostcal.library.master_header import history_lines
from ostcal.places.paths import joined

logger = logging.getLogger(__name__)


def write_files_of_several(
    request: BuildRequest, prepared: Sequence[PreparedMaster], made: Sequence[Published]
) -> list[str]:
    """Write the files of masters that share one; return a line for each that was not written.

    The masters are in the store already; a run that finds a file missing makes them again.
    """
    if not request.publishing.save_fits:
        return []
    gathered: defaultdict[str, list[PreparedMaster]] = defaultdict(list)
    for master in prepared:
        if master.plan.group.files:
            gathered[master.plan.group.files].append(master)
    published = {one.name: one for one in made}
    errors = []
    for masters in gathered.values():
        missing = [master.plan.name for master in masters if master.plan.name not in published]
        for place, output in enumerate(masters[0].plan.outputs):
            for path in (joined(request.output_dir, name) for name in output.file_names):
                if missing:
                    errors.append(f"{path}: not written, for {', '.join(missing)} could not be made")
                    continue
                try:
                    _write_file(request, path, masters, published, place)
                except StorageError as error:
                    errors.append(str(error))
    return errors


def _write_file(
    request: BuildRequest,
    path: str,
    masters: Sequence[PreparedMaster],
    published: Mapping[str, Published],
    place: int,
) -> None:
    """Write the masters of the images of some files to one file; `place` is that of the kind among the outputs."""
    images: list[ImagePlane] = []
    beside: list[ImagePlane] = []
    histories: list[list[str]] = []
    rules = request.publishing
    for master in masters:
        one, output = published[master.plan.name], master.plan.outputs[place]
        # the frames that were combined: some may have turned out to be unreadable
        stored = request.store.attributes(one.name)
        plan = replace(
            master.plan, group=one.group, input_digest=stored["input_digest"], recipe=stored.get("recipe", "")
        )
        flat = flat_treatment(request, plan, waits_for=())
        provenance = provenance_of(replace(master, plan=plan), flat, rules, output.frame_type, one.verdict)
        planes = request.store.writer(one.name)
        image, *others = image_planes(planes, one.group, one.result, provenance, rules)
        rows = planes.chunk_rows * max(1, STRIP_PIXELS // (planes.shape[1] * planes.chunk_rows))
        histories.append(history_lines(one.group, provenance))
        images.append(replace(image, history=histories[-1], rows_per_write=rows))
        beside += [replace(other, rows_per_write=rows) for other in others]
    first = masters[0].plan.members[0]
    kept_cards = first.primary_cards if first.readout is None else without_sections(first.primary_cards)
    if path.endswith(".xisf"):
        write_xisf(path, [*images, *beside], kept_cards=kept_cards, overwrite=True)
        return
    primary: list[Card] | None = _shared(images)
    history: Sequence[str] = ()
    if masters[0].plan.group.key.settings.extension == "0":  # an image without a name, in the primary HDU
        primary, history = None, histories[0]
        images[0] = replace(images[0], history=())
    write_fits(path, [*images, *beside], kept_cards=kept_cards, history=history, primary=primary, overwrite=True)


def _shared(images: Sequence[ImagePlane]) -> list[Card]:
    """Return the cards that all images have."""
    return [card for card in images[0].cards if all(card in image.cards for image in images)]
