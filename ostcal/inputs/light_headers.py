"""What the headers of lights say, read once: all that the choice of masters needs of thousands of frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ostcal._version import __version__
from ostcal.errors import FrameError
from ostcal.fits.cards import header_of
from ostcal.fits.dialects import READING
from ostcal.fits.read import FitsFrame
from ostcal.fits.sections import OverscanRule
from ostcal.fits.sharpcap import may_have_settings_beside
from ostcal.frames import FrameMetadata
from ostcal.inputs.forced_kinds import KindRules
from ostcal.inputs.remarks import remark_lines
from ostcal.inputs.science_frames import found_files, inspect_science, is_no_science, why_unusable
from ostcal.places.file_index import FileIndex


@dataclass(frozen=True, kw_only=True)
class LightImage:
    """An image of a light; implements `ostcal.inputs.known_extensions.FrameImage`."""

    metadata: FrameMetadata
    possible_labels: tuple[str, ...] = ()

    def as_extension(self, label: str) -> LightImage:
        """Return the only image of a file as the image `label` of several."""
        settings = replace(self.metadata.settings, extension=label)
        return replace(self, metadata=replace(self.metadata, settings=settings), possible_labels=())


@dataclass(frozen=True, kw_only=True)
class LightHeader:
    """What the header of a file says."""

    images: tuple[LightImage, ...]
    unusable: str = ""
    """Why it cannot be calibrated."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """A light that can be calibrated, if there are masters for it."""

    path: str
    images: tuple[LightImage, ...]


@dataclass(frozen=True, kw_only=True)
class FoundLights:
    """The lights of a search, and a line for each file that cannot be used or was left out."""

    lights: tuple[Light, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


def light_index(path: str | None, overscan: OverscanRule, kinds: KindRules) -> FileIndex[LightHeader]:
    """Return the index of the headers of lights that is kept in a file."""
    stated = f"{sorted(kinds.items())} {os.getcwd()}" if kinds else ""  # patterns are relative to where we are
    return FileIndex(path, LightHeader, f"{__version__} {READING} {overscan!r} {stated}")


def find_lights(
    paths: Sequence[str | os.PathLike[str]],
    output_dir: str,
    overscan: OverscanRule,
    kinds: KindRules,
    index: FileIndex[LightHeader],
) -> FoundLights:
    """Find lights as `ostcal.inputs.science_frames.science_frames` does, their headers read once."""
    lights: list[Light] = []
    warnings: list[str] = []
    errors: list[str] = []
    skipped: list[str] = []
    for path, was_named in found_files(paths, output_dir, errors, warnings):

        def read(path: str = path) -> tuple[LightHeader, bool]:
            return _header_of(inspect_science(path, overscan, kinds))

        try:
            header = index.get(path, read)
        except FrameError as error:
            errors.append(str(error))
            continue
        if not was_named and is_no_science(header.images[0].metadata):
            skipped.append(path)
        elif header.unusable:
            errors.append(f"{path}: {header.unusable}")
        else:
            lights.append(Light(path=path, images=header.images))
    warnings += remark_lines((light.path, light.images[0].metadata) for light in lights)
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        warnings.append(f"{skipped[0]}{more}: left out: bias, dark, flat, master or calibrated frames")
    if not lights and not errors:
        places = ", ".join(os.fspath(path) for path in paths) or "nothing"
        errors.append(f"no science frames in {places}; name files or folders")
    return FoundLights(lights=tuple(lights), warnings=tuple(warnings), errors=tuple(errors))


def _header_of(images: tuple[FitsFrame, ...]) -> tuple[LightHeader, bool]:
    """Return what is remembered of a file, and whether it may be: settings in a file beside it may change alone."""
    header = LightHeader(
        images=tuple(LightImage(metadata=i.metadata, possible_labels=i.possible_labels) for i in images),
        unusable=why_unusable(images[0]),
    )
    return header, not may_have_settings_beside(header_of(images[0].cards))
